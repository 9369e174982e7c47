#!/usr/bin/env bash
# Micro-benchmarks of the hot path, then the whole gate beside a plain
# reverse_proxy of the same binary, then three gateways on one Postgres.
# BENCH_SECONDS, BENCH_ROUNDS, BENCH_TOKENS, BENCH_REVOCATIONS (0: no fleet) and
# BENCH_OUTAGE make it shorter or longer; docs/performance.md says how to read it.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v wrk >/dev/null; then
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
    { echo "make bench needs wrk (Debian: apt-get install wrk)" >&2; exit 1; }
  { apt-get -qq update && apt-get -qq install -y wrk; } >/dev/null
fi
go test -run '^$' -bench . -benchmem -benchtime "${BENCH_TIME:-1s}" ./token ./usage ./tokenstore/... ./caddymodule
make -s build
go run ./test/bench -binary ./sallyport -seconds "${BENCH_SECONDS:-5}" -rounds "${BENCH_ROUNDS:-4}" \
  -tokens "${BENCH_TOKENS:-1,100000,1000000}"
if [ "${BENCH_REVOCATIONS:-10000}" != 0 ]; then
  go run ./test/bench -binary ./sallyport -revocations "${BENCH_REVOCATIONS:-10000}" -outage "${BENCH_OUTAGE:-1m}"
fi
