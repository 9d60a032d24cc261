#!/usr/bin/env bash
# perf/gpu/pack.sh FOLDER PROGRAM...: the programs without symbols, and the libraries that a bare Linux lacks; cuBLASLt,
# which is too large to carry, is to be found there.
set -euo pipefail
folder=$1
shift
rm -rf "$folder"
mkdir -p "$folder/lib"
for program in "$@"; do
  strip -o "$folder/$(basename "$program")" "$program"
  ldd "$program" | awk '$3 ~ /^\// { print $3 }' |
    { grep -vE '/(libc|libm|libdl|librt|libpthread|libresolv|libcublas.*)\.so' || true; } |
    xargs -r -I{} cp -Lu {} "$folder/lib/"
done
du -sh "$folder"
