package caddymodule

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/postgres"
)

func init() {
	caddy.RegisterModule(new(Postgres))
}

// Postgres keeps tokens in a Postgres database that any number of gateways share.
// It is all that they share: point each gateway at the same database, with the
// same master keys.
type Postgres struct {
	// Where the connection string is: `{env.NAME}` or `{file./path}`. The string
	// has the form `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full`;
	// behind a pooler that hands out connections for each transaction add
	// `default_query_exec_mode=simple_protocol`. A literal string is refused,
	// since Caddy shows and saves configurations. Required; no default.
	URL string `json:"url,omitempty"`

	url string // as resolved
}

// CaddyModule returns the Caddy module information.
func (*Postgres) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "sallyport.stores.postgres",
		New: func() caddy.Module { return new(Postgres) },
	}
}

var errLiteralURL = errors.New("store postgres: the connection string holds a password and must not stand in the configuration itself: " +
	"write store postgres {env.DATABASE_URL} or {file./path} ({$NAME} would be replaced by the value before Caddy stores the configuration)")

// UnmarshalCaddyfile reads `postgres {env.NAME}|{file./path}`.
func (p *Postgres) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the driver's name
	if !d.NextArg() {
		return d.Err("store postgres needs a connection string: write store postgres {env.DATABASE_URL}")
	}
	p.URL = d.Val()
	if !aReference.MatchString(p.URL) {
		return d.WrapErr(errLiteralURL)
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("unrecognized subdirective %q: store postgres takes a connection string and no block", d.Val())
	}
	return nil
}

// Provision reads the connection string from where it is kept.
func (p *Postgres) Provision(caddy.Context) error {
	if !aReference.MatchString(p.URL) {
		return errLiteralURL
	}
	url, err := caddy.NewReplacer().ReplaceOrErr(p.URL, true, true)
	if err != nil {
		// The error names the placeholder, never what stands behind it.
		return fmt.Errorf("store postgres: %w", err)
	}
	p.url = url
	return nil
}

// Identity names the connection string without showing it.
func (p *Postgres) Identity() string {
	sum := sha256.Sum256([]byte(p.url))
	return "postgres:" + hex.EncodeToString(sum[:])
}

// Exists is asked only of stores that can have a key made for them.
func (p *Postgres) Exists() (bool, error) { return true, nil }

// KeyFile is empty: gateways that share a database share its master keys, so the
// configuration names where they are.
func (p *Postgres) KeyFile() string { return "" }

// Open connects, and brings the schema up to date.
func (p *Postgres) Open(ctx context.Context, ring *tokenstore.Ring) (tokenstore.Store, error) {
	return postgres.Open(ctx, p.url, postgres.Options{Ring: ring})
}

var (
	_ caddy.Provisioner     = (*Postgres)(nil)
	_ caddyfile.Unmarshaler = (*Postgres)(nil)
	_ StoreDriver           = (*Postgres)(nil)
)
