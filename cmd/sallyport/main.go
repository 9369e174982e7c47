// Command sallyport is Caddy with Sallyport built in. It does everything that
// Caddy does, and offers the commands for tokens at the top.
package main

import (
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/sallyport/sallyport/caddymodule"
)

func main() { caddymodule.Main() }
