package cached_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/cached"
)

func TestATokenIsPeekedOnceItWasResolved(t *testing.T) {
	r := newRig(t)
	d := r.inner.issue(1)

	_, ok := r.Peek(d)
	require.False(t, ok)
	rec, err := r.Resolve(t.Context(), d, client)
	require.NoError(t, err)
	if diff := cmp.Diff(record(testRing(t), "a", 1), rec, cmpopts.IgnoreUnexported(token.AllowList{})); diff != "" {
		t.Errorf("record (-stored +resolved):\n%s", diff)
	}

	peeked, ok := r.Peek(d)
	require.True(t, ok, "at once, though ristretto takes entries in later")
	require.Same(t, rec, peeked)
	r.Settle()
	r.ForgetRecent()
	peeked, ok = r.Peek(d)
	require.True(t, ok, "from ristretto")
	require.Same(t, rec, peeked)
	require.EqualValues(t, 1, r.inner.lookups.Load())
}

func TestARecordIsServedNoMoreOnceAnythingItDependsOnHasChanged(t *testing.T) {
	changes := map[string]func(*tokenstore.Record){
		"token":   rename,
		"secret":  retire,
		"account": func(r *tokenstore.Record) { a := *r.Account; a.Disabled, a.Version = true, 2; r.Account = &a },
		"user":    func(r *tokenstore.Record) { u := *r.User; u.Disabled, u.Version = true, 2; r.User = &u },
		"role": func(r *tokenstore.Record) {
			role := *r.Role
			role.Ceiling.Access, role.Version = token.ReadOnly, 2
			r.Role = &role
		},
		"policy": func(r *tokenstore.Record) {
			p := *r.Policy
			p.MaxLifetime, p.Version = time.Hour, 2
			r.Policy = &p
		},
	}
	for what, change := range changes {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			d := r.warm(1)
			other := r.warm(1001) // the same owners
			r.inner.commit(d, change)
			_, ok := r.Peek(d)
			require.True(t, ok, "nothing was heard of the change yet")

			r.sync()
			_, ok = r.Peek(d)
			require.False(t, ok)
			_, ok = r.Peek(other)
			require.Equal(t, what == "token" || what == "secret", ok, "the other token depends on owners only")
			got, err := r.Resolve(t.Context(), d, client)
			require.NoError(t, err)
			want := *record(testRing(t), "a", 1)
			change(&want)
			if diff := cmp.Diff(&want, got, cmpopts.IgnoreUnexported(token.AllowList{})); diff != "" {
				t.Errorf("record (-stored +resolved):\n%s", diff)
			}
			_, ok = r.Peek(d)
			require.True(t, ok)
		})
	}
}

func TestManyChangesBringAllEntriesToBeComparedAnewAndNoneToBeServedWrongly(t *testing.T) {
	r := newRig(t)
	r.LimitFloors(4)
	quiet, changed := r.warm(1), r.warm(2)
	r.inner.commit(changed, rename)
	for n := 100; n < 120; n++ {
		r.inner.issue(n)
		r.sync()
	}
	// The mark of the change is gone by now.
	for _, d := range []token.Digest{quiet, changed} {
		_, ok := r.Peek(d)
		require.False(t, ok)
	}
	rec, err := r.Resolve(t.Context(), changed, client)
	require.NoError(t, err)
	require.Equal(t, "token 2'", rec.Token.Name)
	// An entry that was compared all along is still there.
	for n := 200; n < 220; n++ {
		r.inner.issue(n)
		r.sync()
		_, ok := r.Peek(changed)
		require.True(t, ok)
	}
}

func TestPeekTakesNoMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	r := newRig(t)
	hit, miss := r.warm(1), digest(2)
	r.Settle()
	require.Zero(t, testing.AllocsPerRun(10_000, func() {
		if _, ok := r.Peek(hit); !ok {
			t.Fatal("no hit")
		}
	}))
	require.Zero(t, testing.AllocsPerRun(10_000, func() { r.Peek(miss) }))
	// Also when the entry has to be compared with the marks.
	require.Zero(t, testing.AllocsPerRun(1, func() { r.Peek(hit) }))
}

func TestTokensOfOneAccountShareTheirOwners(t *testing.T) {
	r := newRig(t)
	var first *tokenstore.Record
	for n := range 10 {
		d := r.inner.issue(n * 1000)
		rec, err := r.Resolve(t.Context(), d, client)
		require.NoError(t, err)
		if first == nil {
			first = rec
		}
		require.Same(t, first.Account, rec.Account)
		require.Same(t, first.User, rec.User)
		require.Same(t, first.Role, rec.Role)
		require.Same(t, first.Policy, rec.Policy)
	}
	require.Equal(t, 4, r.SharedOwners())
}

func TestEqualVersionsOfARestoredStoreAreNotTakenForEqualOwners(t *testing.T) {
	r := newRig(t)
	r.warm(1)
	d := digest(1001)
	r.inner.commit(d, func(rec *tokenstore.Record) {
		*rec = *record(r.inner.ring, "a", 1001)
		account := *rec.Account
		account.Disabled = true // under the version that the other one has
		rec.Account = &account
	})
	rec, err := r.Resolve(t.Context(), d, client)
	require.NoError(t, err)
	require.True(t, rec.Account.Disabled)
}

func TestIncompleteRecordsAreNoAnswer(t *testing.T) {
	r := newRig(t)
	d := digest(1)
	r.inner.commit(d, func(rec *tokenstore.Record) { *rec = *record(r.inner.ring, "a", 1); rec.Policy = nil })
	require.Equal(t, unavailable, r.state(d))
}

func TestARecordIsReadAnewAfterAnHour(t *testing.T) {
	setup := func(t *testing.T) (*rig, token.Digest) {
		r := newRig(t)
		d := r.warm(1)
		// A change that the feed never tells of.
		l, _ := r.inner.ring.Lookup("a", d)
		r.inner.mu.Lock()
		row := r.inner.rows[l]
		row.Token.State = token.Disabled
		r.inner.rows[l] = row
		r.inner.mu.Unlock()
		r.clock.advance(cached.RefreshAfter * 8 / 10)
		r.sync()
		require.Equal(t, "active", r.state(d))
		require.EqualValues(t, 1, r.inner.lookups.Load())
		r.clock.advance(cached.RefreshAfter * 2 / 10)
		r.sync()
		return r, d
	}
	lookedUp := func(r *rig, n int64) func() bool {
		return func() bool { return r.inner.lookups.Load() >= n }
	}
	t.Run("and the request that notices does not wait for it", func(t *testing.T) {
		r, d := setup(t)
		release := make(chan struct{})
		r.inner.mu.Lock()
		r.inner.onLookup = func(context.Context) { <-release }
		r.inner.mu.Unlock()
		require.Equal(t, "active", r.state(d))
		_, ok := r.Peek(d)
		require.True(t, ok, "the others do not wait either")
		close(release)
		require.Eventually(t, func() bool { return r.state(d) == "disabled" }, ceiling, time.Millisecond)
		require.EqualValues(t, 2, r.inner.lookups.Load())
	})
	t.Run("and serves on when that fails", func(t *testing.T) {
		r, d := setup(t)
		r.inner.down.Store(true)
		require.Equal(t, "active", r.state(d))
		require.Eventually(t, lookedUp(r, 2), ceiling, time.Millisecond)
		require.Equal(t, "active", r.state(d))
		r.inner.down.Store(false)
		r.clock.advance(time.Minute)
		r.sync()
		require.Equal(t, "active", r.state(d))
		require.Eventually(t, func() bool { return r.state(d) == "disabled" }, ceiling, time.Millisecond)
	})
	t.Run("and goes when the store knows it no more", func(t *testing.T) {
		r, d := setup(t)
		r.inner.mu.Lock()
		clear(r.inner.rows)
		r.inner.mu.Unlock()
		require.Equal(t, "active", r.state(d))
		require.Eventually(t, func() bool { return r.state(d) == notFound }, ceiling, time.Millisecond)
	})
}

func TestCurrentGivesTheSameRecordWhileNothingChanged(t *testing.T) {
	r := newRig(t)
	d := r.warm(1)
	rec, err := r.Resolve(t.Context(), d, client)
	require.NoError(t, err)

	now, err := r.Current(t.Context(), d, rec)
	require.NoError(t, err)
	require.Same(t, rec, now)

	t.Run("also when it was put out of memory and the store is away", func(t *testing.T) {
		other := cached.New(r.inner, r.inner.ring, cached.Options{StaleFor: time.Minute, Poll: time.Hour, Uptime: r.clock.read})
		require.NoError(t, other.Start(t.Context()))
		defer other.Close()
		lookups := r.inner.lookups.Load()
		now, err := other.Current(t.Context(), d, rec)
		require.NoError(t, err)
		require.Same(t, rec, now)
		r.inner.down.Store(true)
		defer r.inner.down.Store(false)
		r.clock.advance(30 * time.Second)
		now, err = other.Current(t.Context(), d, rec)
		require.NoError(t, err)
		require.Same(t, rec, now)
		require.Equal(t, lookups, r.inner.lookups.Load())
		r.clock.advance(31 * time.Second)
		_, err = other.Current(t.Context(), d, rec)
		require.ErrorIs(t, err, tokenstore.ErrUnavailable)
	})

	r.inner.commit(d, revoke)
	r.clock.advance(2 * time.Second)
	now, err = r.Current(t.Context(), d, rec)
	require.NoError(t, err)
	require.Equal(t, token.Revoked, now.Token.State)
}

func TestLookupAnswersFromMemoryWhatIsSureToBeCurrent(t *testing.T) {
	r := newRig(t)
	d := r.inner.issue(1)
	r.sync()
	l, _ := r.inner.ring.Lookup("a", d)
	for range 3 {
		_, err := r.Lookup(t.Context(), l)
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, r.inner.lookups.Load())
	r.inner.commit(d, rename)
	r.clock.advance(2 * time.Second)
	rec, err := r.Lookup(t.Context(), l)
	require.NoError(t, err)
	require.Equal(t, "token 1'", rec.Token.Name)
	_, err = r.Lookup(t.Context(), tokenstore.Lookup{1})
	require.ErrorIs(t, err, tokenstore.ErrNotFound)
}

func TestCloseWaitsForCallsAndEndsEverything(t *testing.T) {
	r := newRig(t, func(o *cached.Options) { o.Poll = time.Millisecond })
	var digests []token.Digest
	for n := range 64 {
		digests = append(digests, r.warm(n))
	}
	var callers sync.WaitGroup
	begun := make(chan struct{}, 8)
	for i := range 8 {
		callers.Go(func() {
			for n := 0; ; n++ {
				d := digests[(n+i)%len(digests)]
				r.Peek(d)
				_, err := r.Resolve(context.Background(), digest(1000+n*8+i), client)
				_ = r.Write(context.Background(), nil)
				_ = r.Stats()
				r.Wake()
				if n == 100 {
					begun <- struct{}{}
				}
				if n > 100 && isAny(err, tokenstore.ErrUnavailable) != nil {
					_, ok := r.Peek(d)
					if !ok {
						return
					}
				}
			}
		})
	}
	for range 8 {
		<-begun
	}
	require.NoError(t, r.Close())
	callers.Wait()
	require.NoError(t, r.Close())
	require.EqualValues(t, 1, r.inner.closes.Load(), "it owns the store that it wraps")

	_, ok := r.Peek(digests[0])
	require.False(t, ok)
	for name, call := range map[string]func() error{
		"Resolve": func() error { _, err := r.Resolve(t.Context(), digests[0], client); return err },
		"Current": func() error { _, err := r.Current(t.Context(), digests[0], nil); return err },
		"Lookup":  func() error { _, err := r.Lookup(t.Context(), tokenstore.Lookup{}); return err },
		"Read":    func() error { return r.Read(t.Context(), nil) },
		"Write":   func() error { return r.Write(t.Context(), nil) },
		"Changes": func() error { _, err := r.Changes(t.Context(), tokenstore.Position{}); return err },
		"Sync":    func() error { return r.Sync(t.Context()) },
		"Start":   func() error { return r.Start(t.Context()) },
	} {
		require.ErrorIs(t, call(), tokenstore.ErrUnavailable, name)
	}
}

func TestBeforeStartNothingIsAnswered(t *testing.T) {
	inner := newFakeStore(testRing(t))
	s := cached.New(inner, inner.ring, cached.Options{})
	d := inner.issue(1)
	_, ok := s.Peek(d)
	require.False(t, ok)
	_, err := s.Resolve(t.Context(), d, client)
	require.ErrorIs(t, err, tokenstore.ErrUnavailable)
	require.NoError(t, s.Write(t.Context(), nil), "a store is prepared before it is served from")
	inner.down.Store(true)
	require.ErrorIs(t, s.Start(t.Context()), tokenstore.ErrUnavailable)
	inner.down.Store(false)
	require.NoError(t, s.Start(t.Context()))
	require.Error(t, s.Start(t.Context()), "twice")
	require.NoError(t, s.Close())
}

func TestStatsCount(t *testing.T) {
	r := newRig(t)
	d := r.warm(1)
	for range 3 {
		r.state(d)
	}
	r.state(digest(2))
	r.state(digest(2))
	r.Settle()
	got := r.Stats()
	got.SyncedAt = time.Time{}
	want := cached.Stats{
		Hits: 3, Misses: 2, NegativeHits: 1, Loads: 4, // an unknown secret is asked for under both keys, and once more
		Entries: 1, Bytes: got.Bytes,
		Position: tokenstore.Position{Epoch: "first", Seq: 1},
	}
	require.Equal(t, want, got)
	require.Greater(t, got.Bytes, int64(500))
	r.clock.advance(3 * time.Second)
	require.Equal(t, 3*time.Second, r.Stats().FeedAge)
}

func TestMarksKeepTheHighestVersionOfEachRecord(t *testing.T) {
	m := cached.NewMarks()
	kinds := []tokenstore.Kind{tokenstore.TokenKind, tokenstore.SecretKind, tokenstore.AccountKind}
	id := func(n int) token.ID { return token.ID(fmt.Sprint(n)) }
	for n := range 5000 {
		for i, k := range kinds {
			m.Raise(k, id(n), int64(n+i))
			m.Raise(k, id(n), int64(n+i-1)) // never lowered
		}
	}
	for n := range 5000 {
		for i, k := range kinds {
			require.EqualValues(t, n+i, m.At(k, id(n)))
		}
	}
	require.Zero(t, m.At(tokenstore.TokenKind, "5000"))
	require.Zero(t, m.At(tokenstore.PolicyKind, "1"))
}
