// Package loss measures what is lost when gateways are killed: it runs the built
// program in front of a real upstream, has many tokens used at once, ends the
// processes with SIGKILL at random moments, also while they start, and then holds
// every request that was answered, and every request that the upstream got,
// against what the store knows.
//
// A fact is a token, a secret, a scope and a bucket of time. Buckets are a second
// long, and the load goes from one group of tokens to the next every half second
// and at every kill, so that nearly every fact stands alone: no later use covers
// for one that was lost.
package loss

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
)

// ceiling is when one step is given up.
const ceiling = 60 * time.Second

// Options says what to measure.
type Options struct {
	Binary   string         // the program
	Server   *pgtest.Server // nil: SQLite
	Gateways int            // on Postgres; on SQLite there is one
	Journal  string         // fast or sync
	Kills    int            // at least so many; a round ends with all gateways running
	Workers  int            // connections that ask each gateway without pause
	Tokens   int
	Seed     uint64 // of the moments and of what is asked
	// Life is how long a gateway lives at most before it is killed.
	Life     time.Duration
	Progress func(what string)
}

// bucket is what the policy of the gateways' Caddyfile makes of a window of 45 s.
const bucket = time.Second

type bench struct {
	o        Options
	dir      string
	store    tokenstore.Store
	ring     *tokenstore.Ring
	keyID    string
	account  token.ID
	url      string // of the database
	gateways []*gateway
	load     *load
	figures  *Figures
	gaps     map[string]bool // that were counted
}

// Measure runs it. With an error it gives what was measured until then.
func Measure(ctx context.Context, o Options) (figures *Figures, err error) {
	if o.Server == nil {
		o.Gateways = 1
	}
	dir, err := os.MkdirTemp("", "sallyport-loss-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{o: o, dir: dir, figures: &Figures{Options: o, Blind: map[string]int{}}, gaps: map[string]bool{}}
	if err := b.open(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.store.Close()) }()
	keys, err := b.fill(ctx)
	if err != nil {
		return nil, err
	}
	up, err := startUpstream(ctx, len(keys))
	if err != nil {
		return nil, err
	}
	defer up.stop()
	b.load = newLoad(o, keys, up)
	defer func() {
		for _, g := range b.gateways {
			err = errors.Join(err, g.stop())
		}
	}()
	for i := range o.Gateways {
		g, err := newGateway(b, fmt.Sprint(i+1), up.addr)
		if err != nil {
			return nil, err
		}
		b.gateways = append(b.gateways, g)
		if err := g.start(ctx); err != nil {
			return nil, err
		}
		b.figures.Starts++
	}
	random := rand.New(rand.NewPCG(o.Seed, 0))
	for b.figures.Kills < o.Kills {
		if err := b.round(ctx, random); err != nil {
			return b.figures, err
		}
		o.Progress(b.figures.String())
	}
	// What was there stays there.
	return b.figures, b.compare(ctx, true)
}

// moments are when a gateway is killed in one round.
type moments struct {
	life   time.Duration   // from the round's begin
	starts []time.Duration // and again so long after it was started
	after  time.Duration   // how long the load goes on when it runs again
}

func (b *bench) moments(random *rand.Rand) moments {
	m := moments{
		life:  time.Duration(random.Int64N(int64(b.o.Life))),
		after: time.Duration(random.Int64N(int64(b.o.Life / 4))),
	}
	for random.IntN(3) == 0 {
		m.starts = append(m.starts, time.Duration(random.Int64N(int64(600*time.Millisecond))))
	}
	return m
}

// round has every gateway killed once, or more often, under load, and started
// again; then it compares.
func (b *bench) round(ctx context.Context, random *rand.Rand) error {
	stop := b.load.begin(ctx, b.gateways)
	failed := make([]error, len(b.gateways))
	var all sync.WaitGroup
	for i, g := range b.gateways {
		m := b.moments(random)
		b.figures.Kills += 1 + len(m.starts)
		b.figures.Starts += 1 + len(m.starts)
		b.figures.Starting += len(m.starts)
		all.Go(func() { failed[i] = b.live(ctx, g, m) })
	}
	all.Wait()
	if err := errors.Join(append(failed, stop())...); err != nil {
		return err
	}
	return b.compare(ctx, false)
}

func (b *bench) live(ctx context.Context, g *gateway, m moments) error {
	time.Sleep(m.life) // the random moment
	g.kill()
	b.load.turn(g)
	for _, soon := range m.starts {
		if err := g.launch(ctx); err != nil {
			return err
		}
		time.Sleep(soon)
		g.kill()
	}
	if err := g.start(ctx); err != nil {
		return err
	}
	time.Sleep(m.after)
	return nil
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }
