#!/bin/sh
# needs_a_device.sh PROGRAM: where there is no device it ends with 2 and one sentence; 77: there is one. For tests.
case " $* " in *" -h "* | *" --help "*) sed -n '2,/^[^#]/s/^# \?//p' "$0" && exit ;; esac
command -v -- "$*" >/dev/null || { echo "needs_a_device.sh: the argument is PROGRAM, not '$*'" >&2; exit 2; }
said=$("$1" 2>&1) && exit 77
test $? = 2 && test "$(printf '%s\n' "$said" | grep -c .)" = 1 && printf '%s\n' "$said" | grep '^kernel_lab: there is no CUDA device: '
