#!/usr/bin/env bash
# every_script_helps.sh PERF: each script of that folder answers --help with some words and 0. Python's do without any package (-S).
set -uo pipefail
helps() {
  local run=() said
  [[ $1 != *.py ]] || run=(python3 -SB)
  said=$(timeout 20 "${run[@]}" "$1" --help 2>&1 </dev/null) && [[ $said && $said != *Traceback* ]] && return
  printf '%s --help:\n%s\n' "$1" "$said"
  return 1
}

checks=()
while read -r script; do
  helps "$script" &
  checks+=($!)
done < <(find "$1" -name '*.py' -o -name '*.sh')
failed=$((${#checks[@]} == 0))
for check in "${checks[@]}"; do wait "$check" || failed=1; done
exit $failed
