package postgres_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/cached"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// attempt is one call and how it ended.
type attempt struct {
	what  string
	begun time.Time
	err   error
}

// S22: a node that has heard the change feed again after an outage has no call fail
// any more: neither connections that did not survive nor an attempt to connect from
// before the return are left for somebody to find.
func TestANodeThatIsFreshAgainFindsNoLostConnection(t *testing.T) {
	t.Parallel()
	server, ring := pgtest.Start(t), storetest.Ring(t)
	proxy := pgtest.NewProxy(t, server.Addr())
	s := open(t, through(server.Database(), proxy.Addr()), postgres.Options{Ring: ring})
	// On a busy machine the feed may be late for once: that is not what is tested.
	cache := cached.New(s, ring, cached.Options{FreshFor: time.Minute, MissesPerAddress: -1, MissesPerNode: -1})
	require.NoError(t, cache.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, cache.Close()) })
	tok, l := issue(t, cache, ring)
	ctx := context.Background()
	var strangers atomic.Int64
	calls := map[string]func() error{
		"store, lookup": func() error { return second(s.Lookup(ctx, l)) },
		"store, write":  func() error { return touch(s, tok.ID) },
		"store, feed":   func() error { return second(s.Changes(ctx, tokenstore.Position{Epoch: "none"})) },
		"cache, write":  func() error { return touch(cache, tok.ID) },
		"cache, lookup": func() error {
			// That nobody has such a secret can only the store say.
			d := token.Digest(sha256.Sum256(fmt.Append(nil, strangers.Add(1))))
			if err := second(cache.Resolve(ctx, d, netip.Addr{})); !errors.Is(err, tokenstore.ErrNotFound) {
				return err
			}
			return nil
		},
	}
	fresh := func() bool { return cache.Age() < time.Second }
	for _, outage := range []struct {
		name       string
		gone, back func()
		// quiet: nobody calls until the node is fresh, so that lost connections are
		// still to be found then.
		quiet bool
	}{
		{"killed", server.Kill, server.Run, false},
		{"killed, with nobody calling", server.Kill, server.Run, true},
		{"frozen", server.Freeze, server.Thaw, false},
		{
			"cut off", func() { proxy.Drop("upstream"); proxy.Drop("downstream") },
			func() { proxy.Restore("upstream"); proxy.Restore("downstream") }, true,
		},
	} {
		for name, call := range calls { // every pool has connections to lose
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					if err := call(); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				})
			}
			all.Wait()
		}
		outage.gone()
		eventually(t, "the node knows", func() bool { return cache.Age() > 3*time.Second })
		stop := make(chan struct{})
		var mu sync.Mutex
		var attempts []attempt
		var calling sync.WaitGroup
		for name, call := range calls {
			for range 4 {
				calling.Go(func() {
					for {
						select {
						case <-stop:
							return
						case <-time.After(time.Millisecond):
						}
						if outage.quiet && !fresh() {
							continue
						}
						a := attempt{what: name, begun: time.Now()}
						a.err = call()
						mu.Lock()
						attempts = append(attempts, a)
						mu.Unlock()
					}
				})
			}
		}
		outage.back()
		back := time.Now()
		eventually(t, "the node is fresh", fresh)
		at := time.Now()
		eventually(t, "enough was called since", func() bool {
			mu.Lock()
			defer mu.Unlock()
			since := 0
			for _, a := range attempts {
				if a.begun.After(at) {
					since++
				}
			}
			return since > 500
		})
		close(stop)
		calling.Wait()
		for _, a := range attempts {
			if a.err != nil && a.begun.After(at) {
				t.Errorf("%s: %s, begun %v after the node was fresh: %v", outage.name, a.what, a.begun.Sub(at), a.err)
			}
		}
		t.Logf("%s: fresh %v after the return, %d calls", outage.name, at.Sub(back).Round(time.Millisecond), len(attempts))
	}
}
