#!/usr/bin/env bash
# perf/gpu/pack.sh FOLDER PROGRAM...: the programs without symbols, and the libraries that a bare Linux lacks, in FOLDER
# and in FOLDER.tar.gz, of 60 MB at most; not NCCL and cuBLASLt, which are too large. Packed on Debian 12 they need glibc
# 2.34 (`readelf -V`), and lib/gcc, for where the machine's own libstdc++ is older than GCC 11's or missing, glibc 2.36.
# Where an argument is wrong its exit code is 2 and FOLDER, which is made anew, stays as it was.
set -euo pipefail
case " $* " in *" -h "* | *" --help "*) sed -n '2,/^[^#]/s/^# \?//p' "$0" && exit ;; esac
(($# > 1)) && [[ $1 != -* ]] || { echo "pack.sh: the arguments are FOLDER PROGRAM..., not '$*'" >&2; exit 2; }
folder=$1
shift
for program in "$@"; do
  [[ -x $program ]] || { echo "pack.sh: there is no program $program" >&2; exit 2; }
done
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
