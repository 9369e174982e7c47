// Package fleet measures what is promised of many gateways on one Postgres: how
// soon a revocation holds on each of them, and what they do while the database
// is gone. It runs the built program three times, a real Postgres, and between
// each gateway and the database a proxy that loses traffic.
//
// Every time is an upper bound: from the moment that the management API has
// acknowledged to the moment that the measuring program has read the first
// refusal, its own requests and waiting for a turn on the processor included.
package fleet

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/test/bulk"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
)

// ceiling is when one step is given up.
const ceiling = 30 * time.Second

// Options says what to measure.
type Options struct {
	Binary      string // the program
	Server      *pgtest.Server
	Revocations int           // with notifications, and as many without
	Streams     int           // tokens with streams on all nodes, with notifications and without
	Known       int           // tokens in memory while the store is gone
	Outage      time.Duration // how long it is gone for the shares served
	Stale       time.Duration // stale_if_unavailable where that is what is measured
	Rounds      int           // of each outage from which the nodes recover
	Progress    func(what string)
}

// nodes is how many gateways there are.
const nodes = 3

// pause is how long the store is gone before it comes back.
const pause = 3 * time.Second

// known is a token as the measuring program knows it.
type known struct {
	id     token.ID
	secret string
}

type fleet struct {
	o        Options
	database string // direct, past the proxies
	nodes    []*node
	tokens   []known // not used so far
}

// take gives tokens that nobody has used so far.
func (f *fleet) take(n int) []known {
	taken := f.tokens[:n]
	f.tokens = f.tokens[n:]
	return taken
}

// Measure runs it all. With an error it gives what was measured until then.
func Measure(ctx context.Context, o Options) (figures *Figures, err error) {
	dir, err := os.MkdirTemp("", "sallyport-fleet-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	up, err := startUpstream(ctx)
	if err != nil {
		return nil, err
	}
	defer up.stop()
	f := &fleet{o: o, database: o.Server.Database()}
	o.Progress("filling the store")
	keys, err := f.fill(ctx, dir)
	if err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(f.database)
	if err != nil {
		return nil, errors.New("the server's own connection string can not be read")
	}
	defer func() {
		for _, n := range f.nodes {
			n.stop()
			n.link.Stop()
		}
	}()
	for i := range nodes {
		n, err := newNode(fmt.Sprint(i+1), filepath.Join(dir, fmt.Sprint(i+1)), o.Binary, config.Database, o.Server, up, keys)
		if err != nil {
			return nil, err
		}
		f.nodes = append(f.nodes, n)
	}
	return f.measure(ctx)
}

func (f *fleet) measure(ctx context.Context) (*Figures, error) {
	figures := &Figures{
		Options: f.o, Notified: &Revocations{}, Deaf: &Revocations{}, StreamsNotified: &Streams{}, StreamsDeaf: &Streams{},
		Suspended: &Suspended{}, Outage: &Outage{},
	}
	if err := f.restart(ctx, 10*time.Minute); err != nil {
		return nil, err
	}
	for _, step := range []struct {
		name string
		run  func() error
	}{
		{"revocations with notifications", func() error { return f.revoke(ctx, 0, figures.Notified) }},
		{"streams with notifications", func() error { return f.cutStreams(ctx, figures.StreamsNotified) }},
		{"notifications die", func() error { return f.each(func(n *node) error { return n.deafen() }) }},
		{"revocations without notifications", func() error { return f.revoke(ctx, deafPace, figures.Deaf) }},
		{"streams without notifications", func() error { return f.cutStreams(ctx, figures.StreamsDeaf) }},
		{"notifications are back", func() error { return f.each(func(n *node) error { n.heal(ctx); return nil }) }},
		{"a node that stands still", func() error { return f.suspend(ctx, figures.Suspended) }},
		{"the store is gone", func() error { return f.outage(ctx, figures.Outage) }},
		{"the store comes back", func() (err error) { figures.Recoveries, err = f.recoveries(ctx); return err }},
		{"past the stale limit", func() (err error) { figures.Stale, err = f.stale(ctx); return err }},
	} {
		f.o.Progress(step.name)
		if err := step.run(); err != nil {
			// What was measured before took its time, and is worth having.
			return figures, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return figures, nil
}

// fill makes the tokens straight in the database, and gives the key file.
func (f *fleet) fill(ctx context.Context, dir string) (keys []byte, err error) {
	path := filepath.Join(dir, "master.key")
	ring, err := tokenstore.LoadRing(path, rand.Reader)
	if err != nil {
		return nil, err
	}
	store, err := postgres.Open(ctx, f.database, postgres.Options{Ring: ring.Ring})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	o := f.o
	n := 2*o.Revocations + 2*o.Streams + o.Known + suspensions + len(faults)*o.Rounds*(nodes+1) + o.Known
	err = bulk.Into(ctx, store, ring.Ring, n, func(id token.ID, secret token.Secret) error {
		f.tokens = append(f.tokens, known{id, secret.Reveal()})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// restart has all gateways run under a stale limit.
func (f *fleet) restart(ctx context.Context, stale time.Duration) error {
	return f.each(func(n *node) error {
		n.stop()
		return n.start(ctx, stale)
	})
}

// each does something on all nodes at once.
func (f *fleet) each(do func(*node) error) error {
	failed := make([]error, len(f.nodes))
	var all sync.WaitGroup
	for i, n := range f.nodes {
		all.Go(func() { failed[i] = do(n) })
	}
	all.Wait()
	return errors.Join(failed...)
}

// warm has every node know the tokens. Shortly after an outage a node may still not
// have read the change feed, and answer 503: it is ready for 5 s without that.
func (f *fleet) warm(ctx context.Context, tokens []known) error {
	return f.each(func(n *node) error {
		end := time.Now().Add(ceiling)
		for i := 0; i < len(tokens); {
			status, err := n.ask(ctx, tokens[i].secret)
			switch {
			case err != nil:
				return err
			case status == http.StatusOK:
				i++
			case status != http.StatusServiceUnavailable || time.Now().After(end):
				return fmt.Errorf("gateway %s answers a good token with %d", n.name, status)
			default:
				time.Sleep(10 * time.Millisecond)
			}
		}
		return nil
	})
}

// answers waits until the database itself takes a connection and answers.
func (f *fleet) answers(ctx context.Context) error {
	for end := time.Now().Add(2 * ceiling); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if f.answered(ctx) == nil {
			return nil
		}
	}
	return errors.New("the database does not come back")
}

func (f *fleet) answered(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := pgx.Connect(limited, f.database)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(limited) }()
	_, err = conn.Exec(limited, "SELECT 1")
	return err
}
