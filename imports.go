// Package sallyport guards HTTP APIs with API tokens that maintain themselves.
// It is a Caddy module; importing this package adds it to a Caddy build:
//
//	xcaddy build --with github.com/sallyport/sallyport
package sallyport

import (
	// Registers the Caddy modules, and satisfies Caddy's documentation and download pages.
	_ "github.com/sallyport/sallyport/caddymodule"
)
