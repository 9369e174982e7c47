package caddymodule

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"

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

	// Where the connection string of a read replica is, in the same form: a
	// streaming standby of the database that is nearer to this gateway. Tokens that
	// are not in memory are looked up there, unless it is behind what the gateway
	// knows, or fails; everything else is asked of the database itself. A literal
	// string is refused. Default: none.
	Replica string `json:"replica,omitempty"`

	url, replica string // as resolved
}

// CaddyModule returns the Caddy module information.
func (*Postgres) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "sallyport.stores.postgres",
		New: func() caddy.Module { return new(Postgres) },
	}
}

var (
	errLiteralURL = errors.New("store postgres: the connection string holds a password and must not stand in the configuration itself: " +
		"write store postgres {env.DATABASE_URL} or {file./path} ({$NAME} would be replaced by the value before Caddy stores the configuration)")
	errLiteralReplica = errors.New("store postgres: replica: the connection string holds a password and must not stand in the configuration itself: " +
		"write replica {env.REPLICA_URL} or {file./path} ({$NAME} would be replaced by the value before Caddy stores the configuration)")
)

// UnmarshalCaddyfile reads
//
//	postgres {env.NAME}|{file./path} {
//		replica {env.NAME}|{file./path}
//	}
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
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if d.Val() != "replica" {
			return d.Errf("unrecognized subdirective of store postgres: it knows replica")
		}
		if p.Replica != "" {
			return d.Err("store postgres: replica stands twice: name several servers in one connection string")
		}
		if !d.NextArg() {
			return d.Err("store postgres: replica needs a connection string: write replica {env.REPLICA_URL}")
		}
		p.Replica = d.Val()
		if !aReference.MatchString(p.Replica) {
			return d.WrapErr(errLiteralReplica)
		}
		if d.NextArg() {
			return d.ArgErr()
		}
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
	if p.Replica == "" {
		return nil
	}
	if !aReference.MatchString(p.Replica) {
		return errLiteralReplica
	}
	if p.replica, err = caddy.NewReplacer().ReplaceOrErr(p.Replica, true, true); err != nil {
		return fmt.Errorf("store postgres: replica: %w", err)
	}
	return nil
}

// Identity names the connection strings without showing them.
func (p *Postgres) Identity() string {
	sum := sha256.Sum256([]byte(p.url + "\x00" + p.replica))
	return "postgres:" + hex.EncodeToString(sum[:])
}

// Exists is asked only of stores that can have a key made for them.
func (p *Postgres) Exists() (bool, error) { return true, nil }

// KeyFile is empty: gateways that share a database share its master keys, so the
// configuration names where they are.
func (p *Postgres) KeyFile() string { return "" }

// JournalDir is below Caddy's data directory, one for each database.
func (p *Postgres) JournalDir() (dir string, several bool) {
	sum := sha256.Sum256([]byte(p.url))
	return filepath.Join(caddy.AppDataDir(), "sallyport-journal-"+hex.EncodeToString(sum[:8])), true
}

// Open connects, and brings the schema up to date.
func (p *Postgres) Open(ctx context.Context, ring *tokenstore.Ring) (tokenstore.Store, error) {
	return postgres.Open(ctx, p.url, postgres.Options{Ring: ring, Replica: p.replica})
}

var (
	_ caddy.Provisioner     = (*Postgres)(nil)
	_ caddyfile.Unmarshaler = (*Postgres)(nil)
	_ StoreDriver           = (*Postgres)(nil)
)
