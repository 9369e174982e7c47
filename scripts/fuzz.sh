#!/usr/bin/env bash
# Runs every fuzz target of the module for a stated time each.
set -euo pipefail
time=${1:-5s}
found=0
while IFS=: read -r file target; do
  found=$((found + 1))
  echo "fuzz ${target} in $(dirname "$file") for ${time}"
  go test "./$(dirname "$file")" -run '^$' -fuzz "^${target}\$" -fuzztime "$time"
done < <(git ls-files -co --exclude-standard '*_test.go' | xargs grep -Ho '^func Fuzz[A-Za-z0-9_]*' | sed 's/func //')
[ "$found" -gt 0 ] || { echo "no fuzz targets found: something is wrong" >&2; exit 1; }
echo "fuzz: ${found} targets passed"
