package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
)

func init() {
	caddy.RegisterModule(new(SQLite))
}

// StoreDriver is a module of the namespace sallyport.stores: it knows where
// tokens live and how to open that place. Provisioning one does no more than
// read its configuration, since a configuration that is only validated must not
// touch the store.
type StoreDriver interface {
	// Identity names the place, the same for every spelling of it: drivers with
	// equal identities share one open store while configurations change.
	Identity() string

	// Exists says whether somebody has used the place before. Its master key is
	// then never made anew.
	Exists() (bool, error)

	// KeyFile is where the master key is kept when the configuration names no
	// other place; empty when the configuration has to name one.
	KeyFile() string

	// JournalDir is where activity is kept until it is in the store, when the
	// configuration names no other place, and whether several gateways on this
	// machine may work on the store, each with a directory of its own below it.
	JournalDir() (dir string, several bool)

	// Open opens the store and brings its schema up to date.
	Open(ctx context.Context, ring *tokenstore.Ring) (tokenstore.Store, error)
}

// SQLite keeps tokens in an SQLite database file on this machine, for one
// gateway with nothing else to install.
type SQLite struct {
	// The path of the database file. It accepts placeholders; a relative path
	// starts at the working directory. Default: `sallyport.db` in Caddy's data
	// directory.
	Path string `json:"path,omitempty"`

	path string // absolute, without symbolic links as far as it exists
}

// CaddyModule returns the Caddy module information.
func (*SQLite) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "sallyport.stores.sqlite",
		New: func() caddy.Module { return new(SQLite) },
	}
}

// UnmarshalCaddyfile reads `sqlite [PATH]`.
func (s *SQLite) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the driver's name
	if d.NextArg() {
		s.Path = d.Val()
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("unrecognized subdirective %q: store sqlite takes a path and no block", d.Val())
	}
	return nil
}

// Provision settles the path.
func (s *SQLite) Provision(caddy.Context) error {
	path := s.Path
	if path == "" {
		path = filepath.Join(caddy.AppDataDir(), "sallyport.db")
	}
	path, err := caddy.NewReplacer().ReplaceOrErr(path, true, true)
	if err != nil {
		return fmt.Errorf("path of the database: %w", err)
	}
	if s.path, err = canonicalPath(path); err != nil {
		return fmt.Errorf("path of the database: %w", err)
	}
	return nil
}

// Identity names the database file.
func (s *SQLite) Identity() string { return "sqlite:" + s.path }

// Exists says whether the database file is there.
func (s *SQLite) Exists() (bool, error) {
	_, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// KeyFile stands beside the database.
func (s *SQLite) KeyFile() string { return s.path + ".key" }

// JournalDir stands beside the database, which one gateway has to itself.
func (s *SQLite) JournalDir() (dir string, several bool) { return s.path + ".journal", false }

// Open opens the database file, and makes it and its directory when they are missing.
func (s *SQLite) Open(ctx context.Context, ring *tokenstore.Ring) (tokenstore.Store, error) {
	if err := makeParent(s.path); err != nil {
		return nil, fmt.Errorf("make the directory of the database: %w", err)
	}
	return sqlite.Open(ctx, s.path, sqlite.Options{Ring: ring})
}

// makeParent makes the directory of a file that holds or unlocks tokens.
func makeParent(file string) error { return os.MkdirAll(filepath.Dir(file), 0o700) }

// canonicalPath follows symbolic links in the part of the path that exists, so
// that the answer is the same before and after the file is made.
func canonicalPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	rest := ""
	for existing := path; ; {
		real, err := filepath.EvalSymlinks(existing)
		if err == nil {
			return filepath.Join(real, rest), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		parent := filepath.Dir(existing)
		if parent == existing {
			return path, nil
		}
		rest = filepath.Join(filepath.Base(existing), rest)
		existing = parent
	}
}

var (
	_ caddy.Provisioner     = (*SQLite)(nil)
	_ caddyfile.Unmarshaler = (*SQLite)(nil)
	_ StoreDriver           = (*SQLite)(nil)
)
