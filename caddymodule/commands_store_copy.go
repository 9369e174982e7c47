package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
	"github.com/sallyport/sallyport/tokenstore/storecopy"
)

const storeCopyHelp = `Copies everything from one store to another: from SQLite to Postgres, or back.
The configuration names one of the two, and the master keys, which both have in
common; the flag names the other one:

  --to   postgres:{env.DATABASE_URL}   from the configured store to there
  --from sqlite:/var/lib/old.db        from there to the configured store

A connection string holds a password, so only the place where it stands is named.

Stop every gateway of the source first. The target must be new and empty; it is
made if it does not exist. Afterwards both sides are compared row by row, and the
audit log is verified. Until all of that is done nothing can be started on the
target. After an interruption run the same command again: it goes on where it was.`

func storeCommands(parent *cobra.Command) {
	in := commonFlags(parent)
	var from, to string
	copying := in.leaf(parent, "copy", "Copies everything from one store to another, and compares both", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		return in.copyStore(ctx, from, to)
	})
	copying.Long = storeCopyHelp
	copying.Flags().StringVar(&from, "from", "", "copy from here to the configured store: sqlite:PATH or postgres:{env.NAME}")
	copying.Flags().StringVar(&to, "to", "", "copy from the configured store to here: sqlite:PATH or postgres:{env.NAME}")
}

// copyable is a store driver that lends its store to a copy: nothing is written
// to it that the copy does not write.
type copyable interface {
	StoreDriver
	openForCopy(ctx context.Context, ring *tokenstore.Ring) (storecopy.Store, error)
	// made says whether the place has to exist before anything is copied from it.
	made() (bool, error)
}

func (s *SQLite) openForCopy(ctx context.Context, ring *tokenstore.Ring) (storecopy.Store, error) {
	if err := makeParent(s.path); err != nil {
		return nil, fmt.Errorf("make the directory of the database: %w", err)
	}
	opened, err := sqlite.Open(ctx, s.path, sqlite.Options{Ring: ring, Copying: true})
	if err != nil { // and no nil pointer in an interface
		return nil, err
	}
	return opened, nil
}

func (s *SQLite) made() (bool, error) { return s.Exists() }

func (p *Postgres) openForCopy(ctx context.Context, ring *tokenstore.Ring) (storecopy.Store, error) {
	opened, err := postgres.Open(ctx, p.url, postgres.Options{Ring: ring, Copying: true})
	if err != nil {
		return nil, err
	}
	return opened, nil
}

// made is left to the connection: a database that is not there can not be opened.
func (*Postgres) made() (bool, error) { return true, nil }

var errPlace = errors.New("a place is sqlite:PATH or postgres:{env.NAME}")

// parsePlace reads the place that a flag names. Errors repeat nothing of it: it
// may be a connection string with a password.
func parsePlace(text string) (copyable, error) {
	kind, where, ok := strings.Cut(text, ":")
	if !ok || where == "" {
		return nil, errPlace
	}
	var driver interface {
		copyable
		caddy.Provisioner
	}
	switch kind {
	case "sqlite":
		driver = &SQLite{Path: where}
	case "postgres":
		if !aReference.MatchString(where) {
			return nil, errors.New("a connection string holds a password, and arguments show in the list of processes: write postgres:{env.DATABASE_URL} or postgres:{file./path}")
		}
		driver = &Postgres{URL: where}
	default:
		return nil, errPlace
	}
	if err := driver.Provision(caddy.Context{}); err != nil {
		return nil, err
	}
	return driver, nil
}

// copyEnds finds the two stores: the configured one and the one that a flag names.
func copyEnds(configured StoreDriver, from, to string) (source, target copyable, err error) {
	here, ok := configured.(copyable)
	switch {
	case !ok:
		return nil, nil, errors.New("the configured store is of a kind that can not be copied")
	case (from == "") == (to == ""):
		return nil, nil, errors.New("give either --to, where the configured store is copied to, or --from, which is copied into it")
	case to != "":
		source = here
		if target, err = parsePlace(to); err != nil {
			return nil, nil, fmt.Errorf("--to: %w", err)
		}
	default:
		target = here
		if source, err = parsePlace(from); err != nil {
			return nil, nil, fmt.Errorf("--from: %w", err)
		}
	}
	if source.Identity() == target.Identity() {
		return nil, nil, errors.New("both ends are the same store")
	}
	return source, target, nil
}

func (in *invocation) copyStore(ctx context.Context, from, to string) error {
	app, err := in.configuredApp()
	if err != nil {
		return err
	}
	caddyContext, cancel := caddy.NewContext(caddy.Context{Context: ctx})
	defer cancel()
	if err := app.configure(caddyContext); err != nil {
		return err
	}
	source, target, err := copyEnds(app.driver, from, to)
	if err != nil {
		return err
	}
	exists, err := source.made()
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: run this as the user that the gateway runs as", err)
	}
	if err != nil {
		return err
	}
	if !exists {
		return fmt.Errorf("there is no store at %s to copy", source.Identity())
	}
	if app.keys.seed != nil {
		// Drawn for a new store; the source's are somewhere else.
		return fmt.Errorf("the copy has the master keys of its source: put a copy of the source's key file at %s, or name it with master_key {file./path} in the configuration", app.keys.file)
	}
	if app.keys.warning != "" {
		in.say("Warning: %s", app.keys.warning)
	}
	return in.copyBetween(ctx, source, target, app.keys)
}

func (in *invocation) copyBetween(ctx context.Context, source, target copyable, keys keySource) (err error) {
	out, err := source.openForCopy(ctx, keys.ring)
	if err != nil {
		return fmt.Errorf("open the source: %w", err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	into, err := target.openForCopy(ctx, keys.ring)
	if err != nil {
		return fmt.Errorf("open the target: %w", err)
	}
	defer func() { err = errors.Join(err, into.Close()) }()
	bar := in.newCopyBar()
	report, err := storecopy.Run(ctx, out, into, storecopy.Options{
		Ring:    keys.ring,
		Actor:   tokenstore.Actor{Kind: tokenstore.OperatorActor, Name: in.operatorName()},
		LiveFor: authority.NodeLiveFor,
		Step:    bar.step,
		Note:    bar.note,
	})
	bar.close(err == nil)
	if ctx.Err() != nil && err != nil {
		return fmt.Errorf("interrupted: run the same command again to go on: %w", err)
	}
	if err != nil {
		return err
	}
	if err := in.printCopy(&report); err != nil {
		return err
	}
	if in.output == outputText && !in.quiet {
		in.say("The copy is complete and equal. Start no gateway on the source any more: what it changed would not be in the copy.")
		if keys.file != "" {
			in.say("The copy needs the same master keys: name them with master_key {file.%s}, or copy that file to where the new configuration expects it.", keys.file)
		}
	}
	return nil
}

// copiedTable is one line of the summary.
type copiedTable struct {
	Table  string `json:"table"`
	Rows   int64  `json:"rows"`
	SHA256 string `json:"sha256"`
}

// copied is the summary of a copy.
type copied struct {
	Epoch    string        `json:"epoch"`
	Verified bool          `json:"verified"`
	Tables   []copiedTable `json:"tables"`
}

func (in *invocation) printCopy(report *storecopy.Report) error {
	summary := copied{Epoch: report.Epoch, Verified: true}
	for _, t := range report.Tables {
		summary.Tables = append(summary.Tables, copiedTable(t))
	}
	switch {
	case in.output == outputJSON:
		return in.printJSON(summary)
	case in.quiet:
		return nil
	}
	rows := make([][]string, len(summary.Tables))
	for i, t := range summary.Tables {
		rows[i] = []string{t.Table, strconv.FormatInt(t.Rows, 10), showYes(true)}
	}
	in.printTable([]string{"TABLE", "ROWS", "VERIFIED"}, rows)
	return nil
}
