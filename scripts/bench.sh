#!/usr/bin/env bash
# Micro-benchmarks of the hot path, then the whole gate beside a plain
# reverse_proxy of the same binary. BENCH_SECONDS, BENCH_ROUNDS and BENCH_TOKENS
# make it shorter or longer; docs/performance.md says how to read it.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v wrk >/dev/null; then
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
    { echo "make bench needs wrk (Debian: apt-get install wrk)" >&2; exit 1; }
  { apt-get -qq update && apt-get -qq install -y wrk; } >/dev/null
fi
go test -run '^$' -bench . -benchmem -benchtime "${BENCH_TIME:-1s}" ./token ./tokenstore/... ./caddymodule
make -s build
go run ./test/bench -binary ./sallyport -seconds "${BENCH_SECONDS:-5}" -rounds "${BENCH_ROUNDS:-4}" \
  -tokens "${BENCH_TOKENS:-1,100000,1000000}"
