#!/bin/sh
# Builds a pinned, stripped, static ./sallyport.
#
# With xcaddy on the PATH it builds Caddy with this module, and with whatever
# else is asked for:   ./xcaddy.sh --with github.com/mholt/caddy-ratelimit
# Without xcaddy it builds ./cmd/sallyport, which is Caddy with its standard
# modules and this one; further modules then need xcaddy.
set -eu
cd "$(dirname "$0")"

CADDY_VERSION=v2.11.9 # the version in go.mod; a test compares them
OUTPUT=${OUTPUT:-sallyport}
export CGO_ENABLED=0

if command -v xcaddy >/dev/null 2>&1; then
	XCADDY_GO_BUILD_FLAGS="-trimpath -buildvcs=false -ldflags '-s -w'" \
		xcaddy build "$CADDY_VERSION" --output "$OUTPUT" \
		--with github.com/sallyport/sallyport="$PWD" "$@"
	echo "built $OUTPUT with xcaddy: the commands are under '$OUTPUT sallyport'" >&2
	exit
fi
if [ $# -gt 0 ]; then
	echo "xcaddy.sh: further modules need xcaddy (github.com/caddyserver/xcaddy/cmd/xcaddy) on the PATH" >&2
	exit 1
fi
go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$OUTPUT" ./cmd/sallyport
echo "built $OUTPUT with go build, for want of xcaddy" >&2
