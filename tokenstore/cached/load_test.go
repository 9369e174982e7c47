package cached_test

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/cached"
)

// F41.
func TestTenThousandCallersWithOneColdTokenAskTheStoreOnce(t *testing.T) {
	const callers = 10_000
	for name, issued := range map[string]bool{"which exists": true, "which does not": false} {
		t.Run(name, func(t *testing.T) {
			ring := testRing(t)
			inner := newFakeStore(ring)
			s := cached.New(inner, ring, cached.Options{})
			defer s.Close()
			d := digest(1)
			wantLookups := int64(3) // both keys, and the first once more
			if issued {
				d, wantLookups = inner.issue(1), 1
			}
			require.NoError(t, s.Start(t.Context()))
			release := make(chan struct{})
			inner.onLookup = func(context.Context) { <-release }

			var begun, found, missing atomic.Int64
			var wait sync.WaitGroup
			for range callers {
				wait.Go(func() {
					if begun.Add(1) == callers {
						close(release)
					}
					rec, ok := s.Peek(d)
					var err error
					if !ok {
						rec, err = s.Resolve(context.Background(), d, client)
					}
					switch {
					case err == nil && rec != nil:
						found.Add(1)
					case isAny(err, tokenstore.ErrNotFound) != nil:
						missing.Add(1)
					default:
						t.Errorf("%v", err)
					}
				})
			}
			wait.Wait()
			require.Equal(t, wantLookups, inner.lookups.Load())
			require.EqualValues(t, callers, found.Load()+missing.Load())
			require.Equal(t, issued, missing.Load() == 0)
			require.Zero(t, s.Stats().Throttled, "one reading is charged once")
		})
	}
}

// The moment between the end of a reading and the next caller's beginning one.
func TestNoCallerAsksForWhatWasJustRead(t *testing.T) {
	const rounds, callers = 2000, 4
	r := newRig(t)
	for n := range rounds {
		r.inner.issue(n)
	}
	r.sync()
	for n := range rounds {
		var wait sync.WaitGroup
		for range callers {
			wait.Go(func() {
				if got := r.state(digest(n)); got != "active" {
					t.Error(got)
				}
			})
		}
		wait.Wait()
	}
	require.EqualValues(t, rounds, r.inner.lookups.Load())
}

func TestACallerWhoLeavesDoesNotEndTheReadingForTheOthers(t *testing.T) {
	r := newRig(t)
	d := r.inner.issue(1)
	r.sync()
	read, release := make(chan struct{}), make(chan struct{})
	r.inner.onLookup = holdFirst(read, release)
	ctx, leave := context.WithCancel(t.Context())
	first := make(chan error)
	go func() {
		_, err := r.Resolve(ctx, d, client)
		first <- err
	}()
	<-read
	second := make(chan string)
	go func() { second <- r.state(d) }()
	leave()
	err := <-first
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, tokenstore.ErrUnavailable)
	close(release)
	require.Equal(t, "active", <-second)
	require.EqualValues(t, 1, r.inner.lookups.Load())
}

func TestASecretUnderAnotherKeyIsFoundAndMovedToThePrimary(t *testing.T) {
	r := newRig(t)
	row := record(r.inner.ring, "b", 1)
	r.inner.mu.Lock()
	r.inner.rows[row.Lookup] = *row
	r.inner.mu.Unlock()
	moved := 0
	r.inner.onWrite = func() error { moved++; return nil }
	rec, err := r.Resolve(t.Context(), digest(1), client)
	require.NoError(t, err)
	primary, _ := r.inner.ring.Lookup("a", digest(1))
	require.Equal(t, primary, rec.Lookup)
	require.Equal(t, "a", rec.KeyID)
	require.Equal(t, 1, moved)
	_, ok := r.Peek(digest(1))
	require.True(t, ok)

	t.Run("and is served also when it cannot be moved", func(t *testing.T) {
		r := newRig(t)
		r.inner.mu.Lock()
		r.inner.rows[row.Lookup] = *row
		r.inner.mu.Unlock()
		r.inner.onWrite = func() error { return tokenstore.ErrConflict }
		rec, err := r.Resolve(t.Context(), digest(1), client)
		require.NoError(t, err)
		require.Equal(t, primary, rec.Lookup)
		require.Equal(t, "b", rec.KeyID)
		_, ok := r.Peek(digest(1))
		require.True(t, ok)
	})
	t.Run("and is found when another node moves it between two questions", func(t *testing.T) {
		r := newRig(t)
		asked := 0
		r.inner.onLookup = func(context.Context) {
			if asked++; asked == 1 {
				r.inner.issue(1) // under the primary, just after it was not found there
			}
		}
		require.Equal(t, "active", r.state(digest(1)))
	})
}

func TestASecretThatIsCreatedWhileItIsAskedForIsFound(t *testing.T) {
	r := newRig(t)
	read, release := make(chan struct{}), make(chan struct{})
	asked := 0
	hold := holdFirst(read, release)
	r.inner.onLookup = func(ctx context.Context) {
		if asked++; asked == 3 { // the last of the three has not found it either
			hold(ctx)
		}
	}
	result := make(chan string)
	go func() { result <- r.state(digest(1)) }()
	<-read
	r.inner.issue(1)
	r.sync()
	close(release)
	require.Equal(t, "active", <-result)
}

// C7.
func TestUnknownSecretsAreRememberedUntilASecretIsAdded(t *testing.T) {
	r := newRig(t)
	other := r.warm(2)
	before := r.inner.lookups.Load()
	for range 100 {
		require.Equal(t, notFound, r.state(digest(1)))
	}
	require.Equal(t, before+3, r.inner.lookups.Load())

	r.inner.commit(other, rename)
	r.sync()
	require.Equal(t, notFound, r.state(digest(1)))
	require.Equal(t, before+3, r.inner.lookups.Load(), "nothing was added")

	r.inner.issue(1) // on another node
	r.sync()
	require.Equal(t, "active", r.state(digest(1)))

	t.Run("or for a few seconds", func(t *testing.T) {
		r := newRig(t)
		require.Equal(t, notFound, r.state(digest(1)))
		r.clock.advance(cached.UnknownFor - 1)
		r.sync()
		require.Equal(t, notFound, r.state(digest(1)))
		require.EqualValues(t, 3, r.inner.lookups.Load())
		r.clock.advance(1)
		require.Equal(t, notFound, r.state(digest(1)))
		require.EqualValues(t, 6, r.inner.lookups.Load())
	})
}

// C6.
func TestAFloodOfUnknownSecretsCostsNoLiveTokenItsPlace(t *testing.T) {
	r := newRig(t, func(o *cached.Options) {
		o.MaxBytes = 1 << 20
		o.MissesPerAddress, o.MissesPerNode = -1, -1 // the worst case
	})
	var live []token.Digest
	for n := range 100 {
		live = append(live, r.warm(n))
	}
	r.Settle()
	for n := range 20_000 {
		require.Equal(t, notFound, r.state(digest(1_000_000+n)))
	}
	r.ForgetRecent()
	for _, d := range live {
		_, ok := r.Peek(d)
		require.True(t, ok)
	}
	require.EqualValues(t, 100, r.Stats().Entries)
}

func TestUnknownSecretsAreShedByAddressAndByNode(t *testing.T) {
	address := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }
	next := 1_000_000
	ask := func(r *rig, from netip.Addr) error {
		next++
		_, err := r.Resolve(t.Context(), digest(next), from)
		return err
	}
	spend := func(t *testing.T, r *rig, from netip.Addr, n int) {
		t.Helper()
		for range n {
			require.ErrorIs(t, ask(r, from), tokenstore.ErrNotFound)
		}
		before := r.inner.lookups.Load()
		for range 10 {
			require.ErrorIs(t, ask(r, from), cached.ErrThrottled)
		}
		require.Equal(t, before, r.inner.lookups.Load())
	}
	t.Run("an address has ten a second", func(t *testing.T) {
		r := newRig(t)
		spend(t, r, address(1), 10)
		require.ErrorIs(t, ask(r, address(2)), tokenstore.ErrNotFound, "its neighbour is not affected")
		require.ErrorIs(t, ask(r, netip.MustParseAddr("::ffff:10.0.0.1")), cached.ErrThrottled, "one address in two spellings")
		r.clock.advance(time.Second)
		require.ErrorIs(t, ask(r, address(1)), cached.ErrThrottled, "the last second counts still")
		r.clock.advance(time.Second)
		spend(t, r, address(1), 10)
	})
	t.Run("an IPv6 network has ten a second", func(t *testing.T) {
		r := newRig(t)
		spend(t, r, netip.MustParseAddr("2001:db8:1:2::1"), 10)
		require.ErrorIs(t, ask(r, netip.MustParseAddr("2001:db8:1:2:ffff::2%eth0")), cached.ErrThrottled)
		require.ErrorIs(t, ask(r, netip.MustParseAddr("2001:db8:1:3::1")), tokenstore.ErrNotFound)
	})
	t.Run("unknown addresses have ten a second together", func(t *testing.T) {
		r := newRig(t)
		spend(t, r, netip.Addr{}, 10)
	})
	t.Run("the node has two hundred", func(t *testing.T) {
		r := newRig(t)
		for n := range 200 {
			require.ErrorIs(t, ask(r, address(n)), tokenstore.ErrNotFound)
		}
		for n := range 200 {
			require.ErrorIs(t, ask(r, address(1000+n)), cached.ErrThrottled)
		}
		r.clock.advance(2 * time.Second)
		require.ErrorIs(t, ask(r, address(1)), tokenstore.ErrNotFound)
	})
	t.Run("what the node sheds does not count for the address", func(t *testing.T) {
		r := newRig(t, func(o *cached.Options) { o.MissesPerAddress, o.MissesPerNode = 2, 20 })
		for n := range 20 {
			require.ErrorIs(t, ask(r, address(n)), tokenstore.ErrNotFound)
		}
		for range 10 {
			require.ErrorIs(t, ask(r, address(1000)), cached.ErrThrottled)
		}
		r.clock.advance(1200 * time.Millisecond)
		require.ErrorIs(t, ask(r, address(1000)), tokenstore.ErrNotFound)
	})
	t.Run("what is found costs nothing", func(t *testing.T) {
		r := newRig(t)
		for n := range 100 {
			r.inner.issue(n)
		}
		r.sync()
		for n := range 100 {
			_, err := r.Resolve(t.Context(), digest(n), address(1))
			require.NoError(t, err)
		}
		spend(t, r, address(1), 10)
	})
	t.Run("what is in memory, or was, costs nothing", func(t *testing.T) {
		r := newRig(t)
		d := r.warm(1)
		edited := r.warm(2)
		spend(t, r, client, 10)
		require.Equal(t, "active", r.state(d))
		r.inner.commit(edited, rename)
		r.sync()
		require.Equal(t, "active", r.state(edited))
	})
	t.Run("a flood reaches the store no more often than that", func(t *testing.T) {
		r := newRig(t)
		asked := 0
		for range 60 * 100 {
			for range 3 {
				if ask(r, address(1)) != nil {
					asked++
				}
			}
			r.clock.advance(10 * time.Millisecond)
		}
		require.Equal(t, 60*100*3, asked)
		found := int(r.inner.lookups.Load() / 3)
		require.LessOrEqual(t, found, 60*10, "P7")
		require.Greater(t, found, 60*9)
	})
}
