#!/usr/bin/env bash
# Runs the commands that README.md shows in its ```sh blocks, word for word and
# in order, as a newcomer would: in a fresh copy of the tree, with an empty home.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
demo=
cleanup() {
  [ -z "$demo" ] || kill -INT "$demo" 2>/dev/null || true
  [ ! -x "$work/tree/sallyport" ] || (cd "$work/tree" && ./sallyport stop >/dev/null 2>&1) || true
  rm -rf "$work"
}
trap cleanup EXIT

mkdir -p "$work/tree" "$work/home"
git ls-files -co --exclude-standard -z | xargs -0 cp --parents -t "$work/tree" 2>/dev/null ||
  git ls-files -co --exclude-standard -z | cpio -pdm0 --quiet "$work/tree"
# The module cache and the build cache are Go's own business; the rest is new.
GOMODCACHE=$(go env GOMODCACHE) GOCACHE=$(go env GOCACHE)
export GOMODCACHE GOCACHE HOME="$work/home" XDG_DATA_HOME="$work/home/data" XDG_CONFIG_HOME="$work/home/config"

blocks=$(awk '/^```sh$/{on=1; next} /^```/{on=0} on' README.md)
[ -n "$blocks" ] || { echo "README.md shows no commands: something is wrong" >&2; exit 1; }

# The demo runs until it is interrupted; make test is what runs this script.
run() { # prints the commands to run in one shell, so that variables carry over
  while IFS= read -r line; do
    case $line in
      "go run ./cmd/sallyport demo") echo "demo_until_ready" ;;
      "make test") echo "echo '(make test is what runs this)'" ;;
      *) printf '%s\n' "$line" ;;
    esac
  done <<<"$blocks"
}
demo_until_ready() {
  go run ./cmd/sallyport demo >"$work/demo.log" 2>&1 &
  demo=$!
  for _ in $(seq 600); do
    grep -q 'Ctrl-C' "$work/demo.log" && break
    kill -0 "$demo" 2>/dev/null || { cat "$work/demo.log" >&2; echo "the demo ended by itself" >&2; exit 1; }
    sleep 0.5
  done
  grep -q 'Ctrl-C' "$work/demo.log" || { cat "$work/demo.log" >&2; echo "the demo did not get ready" >&2; exit 1; }
  # go run hands an interrupt on to the program when both get it, as at a terminal.
  pkill -INT -P "$demo" || kill -INT "$demo"
  wait "$demo" || true
  demo=
}
cd "$work/tree"
script=$(run)
set -x
eval "$script"
set +x
echo "readme: all commands passed"
