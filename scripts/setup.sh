#!/usr/bin/env bash
# Installs what the tests need beyond Go, where it can, and says what to install
# where it cannot.
set -euo pipefail
missing=()
need() { # PACKAGE PATTERN...: a program under one of the patterns, or on the PATH
  local package=$1 pattern
  shift
  for pattern in "$@"; do
    if compgen -G "$pattern" >/dev/null || command -v "$pattern" >/dev/null; then return; fi
  done
  missing+=("$package")
}
need git git
need gcc gcc
need curl curl
need procps pgrep
need postgresql '/usr/lib/postgresql/*/bin/initdb' initdb
need pgbouncer /usr/sbin/pgbouncer pgbouncer
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing ${missing[*]}"
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
  exit 0
fi
echo "the tests need ${missing[*]}: install them (Debian: apt-get install ${missing[*]})" >&2
exit 1
