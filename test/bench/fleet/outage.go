package fleet

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/sallyport/sallyport/token"
)

// fault is a way for the store to be gone.
type fault struct {
	name       string
	down, back func(context.Context, *fleet) error
}

var faults = []fault{
	{
		"cut off", func(_ context.Context, f *fleet) error { return f.each((*node).cut) },
		func(ctx context.Context, f *fleet) error {
			return f.each(func(n *node) error { n.heal(ctx); return nil })
		},
	},
	{
		"frozen", func(_ context.Context, f *fleet) error { f.o.Server.Freeze(); return nil },
		func(_ context.Context, f *fleet) error { f.o.Server.Thaw(); return nil },
	},
	{
		"killed", func(_ context.Context, f *fleet) error { f.o.Server.Kill(); return nil },
		func(_ context.Context, f *fleet) error { f.o.Server.Run(); return nil },
	},
}

// answer is one request of a load.
type answer struct {
	sent   time.Time
	took   time.Duration
	status int
}

const (
	// Each node gets this many requests a second of a load, so that the machine is
	// not what is measured.
	loadWorkers  = 4
	loadInterval = 10 * time.Millisecond
)

// load asks all nodes for the tokens in turn until the context ends.
func (f *fleet) load(ctx context.Context, tokens []known) []answer {
	var mu sync.Mutex
	var answers []answer
	var working sync.WaitGroup
	for _, n := range f.nodes {
		for w := range loadWorkers {
			working.Go(func() {
				var mine []answer
				tick := time.NewTicker(loadInterval)
				defer tick.Stop()
				for i := w; ctx.Err() == nil; i += loadWorkers {
					sent := time.Now()
					status, err := n.ask(context.WithoutCancel(ctx), tokens[i%len(tokens)].secret)
					if err != nil {
						status = 0
					}
					mine = append(mine, answer{sent, time.Since(sent), status})
					select {
					case <-tick.C:
					case <-ctx.Done():
					}
				}
				mu.Lock()
				defer mu.Unlock()
				answers = append(answers, mine...)
			})
		}
	}
	working.Wait()
	return answers
}

// Outage is what known tokens met while the store was gone.
type Outage struct {
	Asked, Served int
	Before, While Times // latencies
}

func (f *fleet) outage(ctx context.Context, result *Outage) error {
	tokens := f.take(f.o.Known)
	if err := f.warm(ctx, tokens); err != nil {
		return err
	}
	during := func(d time.Duration) []answer {
		limited, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		return f.load(limited, tokens)
	}
	for _, a := range during(min(f.o.Outage, time.Minute)) {
		result.Before = append(result.Before, a.took)
	}
	f.o.Server.Freeze()
	defer f.o.Server.Thaw()
	for _, a := range during(f.o.Outage) {
		result.Asked++
		if a.status == http.StatusOK {
			result.Served++
		}
		result.While = append(result.While, a.took)
	}
	f.o.Server.Thaw()
	return f.each(func(n *node) error { return n.ready(ctx) })
}

// Recovery is how long after the store's return the nodes were as before.
type Recovery struct {
	Fault string
	// Fresh is when a node first said of a secret that nobody has such a one: it
	// knows all changes then, and can look secrets up.
	Fresh Times
	// Revoked is when it first refused a token that was revoked as the first thing
	// after the store's return, from the acknowledgement of that. Nodes that
	// answered 503 until then did not accept it either.
	Revoked Times
}

func (f *fleet) recoveries(ctx context.Context) ([]Recovery, error) {
	var results []Recovery
	for _, fault := range faults {
		r := Recovery{Fault: fault.name}
		for range f.o.Rounds {
			if err := f.recover(ctx, fault, &r); err != nil {
				return nil, fmt.Errorf("%s: %w", fault.name, err)
			}
		}
		results = append(results, r)
	}
	return results, nil
}

func (f *fleet) recover(ctx context.Context, fault fault, r *Recovery) error {
	doomed := f.take(1)
	if err := f.warm(ctx, doomed); err != nil {
		return err
	}
	if err := fault.down(ctx, f); err != nil {
		return err
	}
	time.Sleep(pause)
	unseen, err := token.NewSecret(rand.Reader, token.DefaultPrefix, token.Production)
	if err != nil {
		return err
	}
	fresh := make([]time.Time, nodes)
	failed := make(chan error, nodes)
	for i, n := range f.nodes {
		go func() {
			end := time.Now().Add(2 * ceiling)
			for {
				status, err := n.ask(ctx, unseen.Reveal())
				switch {
				case err != nil:
					failed <- err
				case status == http.StatusUnauthorized:
					fresh[i] = time.Now()
					failed <- nil
				case status != http.StatusServiceUnavailable:
					failed <- fmt.Errorf("gateway %s answers a secret that nobody has with %d", n.name, status)
				case time.Now().After(end):
					failed <- fmt.Errorf("gateway %s does not recover", n.name)
				default:
					time.Sleep(2 * time.Millisecond)
					continue
				}
				return
			}
		}()
	}
	err = fault.back(ctx, f)
	if err == nil {
		err = f.answers(ctx)
	}
	back := time.Now()
	for range f.nodes {
		if e := <-failed; e != nil && err == nil {
			err = e
		}
	}
	if err != nil {
		return err
	}
	for _, at := range fresh {
		r.Fresh = append(r.Fresh, max(0, at.Sub(back)))
	}
	// A node that is fresh has no lost connection left to find.
	if _, err := f.nodes[0].manage.RevokeToken(ctx, doomed[0].id, true); err != nil {
		return fmt.Errorf("revoke a token after the nodes are fresh again: %w", err)
	}
	e := event{token: doomed[0], at: time.Now()}
	for _, n := range f.nodes {
		took, err := n.refuses(ctx, e)
		if err != nil {
			return err
		}
		r.Revoked = append(r.Revoked, took)
	}
	return f.each(func(n *node) error { return n.ready(ctx) })
}

// Stale is what nodes did past the limit without the store.
type Stale struct {
	Fault           string
	Asked, Accepted int           // requests sent after the limit
	Last            time.Duration // when the last request was sent that was accepted, after the store was gone
}

func (f *fleet) stale(ctx context.Context) ([]Stale, error) {
	if err := f.restart(ctx, f.o.Stale); err != nil {
		return nil, err
	}
	tokens := f.take(f.o.Known)
	var results []Stale
	for _, fault := range faults {
		if err := f.warm(ctx, tokens); err != nil {
			return nil, err
		}
		if err := fault.down(ctx, f); err != nil {
			return nil, err
		}
		gone := time.Now()
		limited, cancel := context.WithTimeout(ctx, 2*f.o.Stale)
		answers := f.load(limited, tokens)
		cancel()
		s := Stale{Fault: fault.name}
		for _, a := range answers {
			after := a.sent.Sub(gone)
			accepted := a.status == http.StatusOK
			if accepted {
				s.Last = max(s.Last, after)
			}
			if after > f.o.Stale {
				s.Asked++
				if accepted {
					s.Accepted++
				}
			}
		}
		results = append(results, s)
		if err := fault.back(ctx, f); err != nil {
			return nil, err
		}
		if err := f.each(func(n *node) error { return n.ready(ctx) }); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// suspensions is how often a node stands still while a token is revoked.
const suspensions = 3

// Suspended is what a node accepted that had stood still meanwhile (F28).
type Suspended struct{ Asked, Accepted int }

func (f *fleet) suspend(ctx context.Context, result *Suspended) error {
	tokens := f.take(suspensions)
	if err := f.warm(ctx, tokens); err != nil {
		return err
	}
	for i, t := range tokens {
		still, other := f.nodes[i%nodes], f.nodes[(i+1)%nodes]
		if err := still.suspend(); err != nil {
			return err
		}
		_, err := other.manage.RevokeToken(ctx, t.id, true)
		time.Sleep(2 * time.Second) // longer than a position counts as fresh
		if resumed := still.resume(); resumed != nil || err != nil {
			return fmt.Errorf("revoke a token: %w %w", err, resumed)
		}
		status, err := still.ask(ctx, t.secret)
		if err != nil {
			return err
		}
		result.Asked++
		if status == http.StatusOK {
			result.Accepted++
		}
	}
	return nil
}
