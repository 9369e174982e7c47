package caddymodule

import (
	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// programTitle is what our own program is called.
const programTitle = "sallyport"

// Main is the program sallyport: all of Caddy, with our commands at the top.
func Main() {
	caddy.CustomBinaryName = programTitle
	caddy.CustomLongDescription = `Sallyport is Caddy with a gate for HTTP APIs: every request that is proxied must
carry an API token, whose addresses, scopes and access level are checked.

To see it at work, with a sample API and a database of its own:

	$ sallyport demo

To run it, write a Caddyfile and

	$ sallyport run

The commands for tokens, accounts and users speak to the running gateway through
its admin endpoint or, with --offline, to its store. Everything that Caddy does
is here too: https://caddyserver.com/docs/command-line`
	for _, c := range commands {
		caddycmd.RegisterCommand(caddycmd.Command{Name: c.name, Short: c.short, Long: c.long, CobraFunc: c.build})
	}
	caddycmd.Main()
}
