#!/usr/bin/env bash
# perf/gpu/pack.sh FOLDER PROGRAM...: the programs without symbols, and the libraries that a bare Linux lacks, in FOLDER
# and in FOLDER.tar.gz, of 60 MB at most; not NCCL and cuBLASLt, which are too large. Packed on Debian 12 they need glibc
# 2.34 (`readelf -V`), and lib/gcc, for where the machine's own libstdc++ is older than GCC 11's or missing, glibc 2.36.
set -euo pipefail
folder=$1
shift
rm -rf "$folder"
mkdir -p "$folder/lib/gcc"
for program in "$@"; do
  strip -o "$folder/$(basename "$program")" "$program"
  ldd "$program" | awk '$3 ~ /^\// { print $3 }' |
    { grep -vE '/(libc|libm|libdl|librt|libpthread|libresolv|libnccl|libcublasLt)\.so' || true; } |
    xargs -r -I{} cp -Lu {} "$folder/lib/"
done
mv "$folder"/lib/lib{stdc++,gcc_s}.so* "$folder/lib/gcc/"
tar -C "$(dirname "$folder")" -czf "$folder.tar.gz" "$(basename "$folder")"
du -h "$folder.tar.gz"
if (($(stat -c %s "$folder.tar.gz") > 60 << 20)); then
  echo "pack.sh: $folder.tar.gz has more than 60 MB" >&2
  exit 1
fi
