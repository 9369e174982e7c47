package cached_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/cached"
)

// holdFirst is a hook that tells that the first call has come, and holds it up.
func holdFirst(come chan<- struct{}, release <-chan struct{}) func(context.Context) {
	var first atomic.Bool
	return func(context.Context) {
		if first.CompareAndSwap(false, true) {
			close(come)
			<-release
		}
	}
}

// C8, S7: the race that lets revoked tokens back into caches.
func TestARecordThatWasReadBeforeARevocationIsNotServedAfterIt(t *testing.T) {
	for name, change := range map[string]func(*tokenstore.Record){"revoked": revoke, "retired": retire} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			d := r.inner.issue(1)
			r.sync()
			read, release := make(chan struct{}), make(chan struct{})
			r.inner.onLookup = holdFirst(read, release)
			result := make(chan string)
			go func() { result <- r.state(d) }()
			<-read // the row, still alive, is on its way
			r.inner.commit(d, change)
			r.sync()
			close(release)
			require.Equal(t, name, <-result)
			r.Settle()
			require.Equal(t, name, r.state(d))
			r.ForgetRecent()
			require.Equal(t, name, r.state(d))
		})
	}
}

func TestAStoreThatStaysBehindItsFeedIsNotBelieved(t *testing.T) {
	r := newRig(t)
	d := r.warm(1)
	l, _ := r.inner.ring.Lookup("a", d)
	r.inner.mu.Lock()
	old := r.inner.rows[l]
	r.inner.mu.Unlock()
	restore := func() {
		r.inner.mu.Lock()
		r.inner.rows[l] = old
		r.inner.mu.Unlock()
	}
	r.inner.commit(d, rename)
	restore() // as a replica that lags would answer
	r.sync()
	require.Equal(t, unavailable, r.state(d), "nobody knows what the token is now")
	r.inner.commit(d, func(rec *tokenstore.Record) { rec.Token.Version = 3 })
	r.sync()
	require.Equal(t, "active", r.state(d))

	r.inner.commit(d, revoke)
	restore()
	r.sync()
	lookups := r.inner.lookups.Load()
	for n := range 3 {
		require.Equal(t, "revoked", r.state(d), "but that it ended is known")
		r.inner.issue(100 + n)
		r.sync()
	}
	require.Equal(t, lookups+1, r.inner.lookups.Load(), "and remembered")
}

func TestOwnWritesHoldForTheNextRequest(t *testing.T) {
	r := newRig(t)
	d := r.warm(1)
	created := digest(2)
	require.Equal(t, notFound, r.state(created))
	r.inner.onWrite = func() error { r.inner.commit(d, revoke); return nil }
	require.NoError(t, r.Write(t.Context(), nil))
	require.Equal(t, "revoked", r.state(d))
	r.inner.onWrite = func() error { r.inner.issue(2); return nil }
	require.NoError(t, r.Write(t.Context(), nil))
	require.Equal(t, "active", r.state(created), "C7: it was asked for before it was created")
}

func TestAWriteOfUnknownOutcomeIsLookedAfter(t *testing.T) {
	r := newRig(t)
	d := r.warm(1)
	r.inner.onWrite = func() error { r.inner.commit(d, revoke); return tokenstore.ErrUnknownOutcome }
	require.ErrorIs(t, r.Write(t.Context(), nil), tokenstore.ErrUnknownOutcome)
	require.Equal(t, "revoked", r.state(d))
}

func TestAWriteWhoseChangeCannotBeTakenInIsTakenInByTheNextRequest(t *testing.T) {
	r := newRig(t)
	d := r.warm(1)
	var broken atomic.Bool
	r.inner.onChanges = func(context.Context) error {
		if broken.Load() {
			return errors.New("connection reset")
		}
		return nil
	}
	r.inner.onWrite = func() error { r.inner.commit(d, revoke); broken.Store(true); return nil }
	require.NoError(t, r.Write(t.Context(), nil), "it is committed")
	_, ok := r.Peek(d)
	require.False(t, ok)
	broken.Store(false)
	require.Equal(t, "revoked", r.state(d))
}

// A reading of the feed that began before the commit proves nothing about it.
func TestAReadingThatBeganBeforeAWriteDoesNotCountForIt(t *testing.T) {
	r := newRig(t)
	d := r.warm(1)
	read, release := make(chan struct{}), make(chan struct{})
	hold := holdFirst(read, release)
	r.inner.mu.Lock()
	r.inner.onChanges = func(ctx context.Context) error { hold(ctx); return nil }
	r.inner.mu.Unlock()
	synced := make(chan error)
	go func() { synced <- r.Sync(context.Background()) }()
	<-read // what it will answer is settled
	r.inner.onWrite = func() error { r.inner.commit(d, revoke); return nil }
	written := make(chan error)
	go func() { written <- r.Write(context.Background(), nil) }()
	require.Eventually(t, func() bool { c, _ := r.Changes(t.Context(), tokenstore.Position{}); return c.At.Seq == 2 }, ceiling, time.Millisecond)
	close(release)
	require.NoError(t, <-synced)
	require.NoError(t, <-written)
	require.Equal(t, "revoked", r.state(d))
}

// A reading that began before the commit and hangs longer than the writer waits.
func TestALateReadingDoesNotMakeTheFeedFreshForAnEarlierWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		d := r.warm(1)
		read, release := make(chan struct{}), make(chan struct{})
		hold := holdFirst(read, release)
		r.inner.mu.Lock()
		r.inner.onChanges = func(ctx context.Context) error { hold(ctx); return nil }
		r.inner.mu.Unlock()
		synced := make(chan error, 1)
		go func() { synced <- r.Sync(context.Background()) }()
		<-read
		r.inner.onWrite = func() error { r.inner.commit(d, revoke); return nil }
		require.NoError(t, r.Write(t.Context(), nil))
		_, ok := r.Peek(d)
		require.False(t, ok)
		close(release)
		require.NoError(t, <-synced)
		_, ok = r.Peek(d)
		require.False(t, ok, "it knew nothing of the write")
		require.Equal(t, "revoked", r.state(d))
	})
}

func TestAnAnswerOfTheFeedThatWasCutIsReadToItsEnd(t *testing.T) {
	r := newRig(t)
	digests := make([]token.Digest, 50)
	for n := range digests {
		digests[n] = r.warm(n)
	}
	for _, d := range digests {
		r.inner.commit(d, revoke)
	}
	r.inner.mu.Lock()
	r.inner.most = 3
	r.inner.mu.Unlock()
	r.sync()
	for _, d := range digests {
		require.Equal(t, "revoked", r.state(d))
	}
}

func TestTheFeedIsFollowedAndWakingReadsItSooner(t *testing.T) {
	t.Run("at intervals", func(t *testing.T) {
		r := newRig(t, func(o *cached.Options) { o.Poll = time.Millisecond })
		d := r.warm(1)
		r.inner.commit(d, revoke)
		require.Eventually(t, func() bool { return r.state(d) == "revoked" }, ceiling, time.Millisecond)
	})
	t.Run("when woken", func(t *testing.T) {
		r := newRig(t)
		d := r.warm(1)
		r.inner.commit(d, revoke)
		require.Equal(t, "active", r.state(d))
		r.Wake()
		require.Eventually(t, func() bool { return r.state(d) == "revoked" }, ceiling, time.Millisecond)
	})
}

// I3, F18: what the operator restores is the past.
func TestARestoredStoreBringsNothingBackThatWasSeenToEnd(t *testing.T) {
	type resync struct{ from, to tokenstore.Position }
	var resyncs []resync
	r := newRig(t, func(o *cached.Options) {
		o.OnResync = func(from, to tokenstore.Position) { resyncs = append(resyncs, resync{from, to}) }
	})
	alive, gone, rolled := r.warm(1), r.warm(2), r.warm(3)
	unseen, forked := r.inner.issue(4), r.inner.issue(5)
	r.inner.mu.Lock()
	backup := map[tokenstore.Lookup]tokenstore.Record{}
	for l, row := range r.inner.rows {
		backup[l] = row
	}
	r.inner.mu.Unlock()
	r.inner.commit(alive, rename)
	r.inner.commit(gone, revoke)
	r.inner.commit(rolled, retire)
	r.inner.commit(unseen, revoke)
	r.inner.commit(forked, revoke)
	// In the backup's own history this one was edited instead.
	l, _ := r.inner.ring.Lookup("a", forked)
	row := backup[l]
	rename(&row)
	backup[l] = row
	r.sync()
	for d, want := range map[token.Digest]string{alive: "active", gone: "revoked", rolled: "retired", unseen: "revoked"} {
		require.Equal(t, want, r.state(d))
	}

	r.inner.mu.Lock()
	r.inner.rows, r.inner.epoch, r.inner.seq, r.inner.feed = backup, "second", 4, nil
	r.inner.mu.Unlock()
	lookups := r.inner.lookups.Load()
	r.Settle()
	r.sync()
	for _, d := range []token.Digest{alive, gone, rolled, unseen} {
		_, ok := r.Peek(d)
		require.False(t, ok, "everything is forgotten")
	}
	for range 2 {
		require.Equal(t, "active", r.state(alive), "an older version is what there is now")
		require.Equal(t, "revoked", r.state(gone))
		require.Equal(t, "retired", r.state(rolled))
		require.Equal(t, "revoked", r.state(unseen))
		require.Equal(t, "revoked", r.state(forked), "the version that it ended with says nothing for it")
		r.Settle()
		r.ForgetRecent()
	}
	require.EqualValues(t, 5, r.inner.lookups.Load()-lookups)
	require.Equal(t, []resync{{
		tokenstore.Position{Epoch: "first", Seq: 10}, tokenstore.Position{Epoch: "second", Seq: 4},
	}}, resyncs)
	require.EqualValues(t, 1, r.Stats().Resyncs)
	require.Equal(t, 4, r.Stats().Tombstones)

	// Versions are counted anew in a store that was put back: edits prove nothing,
	// until what ended was written into it again.
	edit := func(rec *tokenstore.Record) { rec.Token.Version++ }
	for range 5 {
		r.inner.commit(gone, edit)
		r.sync()
		require.Equal(t, "revoked", r.state(gone))
	}
	replaced, ok := r.Replacement()
	require.True(t, ok)
	require.Equal(t, cached.Replacement{
		Number: 1, From: tokenstore.Position{Epoch: "first", Seq: 10}, To: tokenstore.Position{Epoch: "second", Seq: 4}, EndsFrom: 1,
	}, replaced)
	r.inner.commit(gone, func(rec *tokenstore.Record) { revoke(rec); rec.Token.Version = 20 })
	r.Reasserted(replaced.Number)
	_, ok = r.Replacement()
	require.False(t, ok)
	r.sync()
	// Then only a version above the one that ended it brings a token back.
	revive := func(version int64) func(rec *tokenstore.Record) {
		return func(rec *tokenstore.Record) { rec.Token.State, rec.Token.Version = token.Active, version }
	}
	r.inner.commit(gone, revive(19))
	r.sync()
	require.Equal(t, "revoked", r.state(gone), "an earlier one")
	r.inner.commit(gone, revive(21))
	r.sync()
	require.Equal(t, "active", r.state(gone), "a later one")
}

func TestARecordThatWasReadBeforeAResyncIsReadAgain(t *testing.T) {
	r := newRig(t)
	d := r.inner.issue(1)
	r.sync()
	read, release := make(chan struct{}), make(chan struct{})
	r.inner.onLookup = holdFirst(read, release)
	result := make(chan string)
	go func() { result <- r.state(d) }()
	<-read
	r.inner.commit(d, func(rec *tokenstore.Record) { rec.Token.State = token.Disabled })
	r.inner.mu.Lock()
	r.inner.epoch = "second"
	r.inner.mu.Unlock()
	r.sync()
	close(release)
	require.Equal(t, "disabled", <-result)
}

func TestAFeedThatBreaksItsPromisesIsNotFollowed(t *testing.T) {
	change := func(seq int64) tokenstore.Change {
		return tokenstore.Change{Seq: seq, Kind: tokenstore.TokenKind, ID: "tok_x", Version: seq}
	}
	for name, answer := range map[string]struct {
		at   tokenstore.Position
		list []tokenstore.Change
	}{
		"it goes back":              {tokenstore.Position{Epoch: "first", Seq: 0}, nil},
		"it leaves a number out":    {tokenstore.Position{Epoch: "first", Seq: 3}, []tokenstore.Change{change(3)}},
		"it leaves the last out":    {tokenstore.Position{Epoch: "first", Seq: 3}, []tokenstore.Change{change(2)}},
		"it is out of order":        {tokenstore.Position{Epoch: "first", Seq: 3}, []tokenstore.Change{change(3), change(2)}},
		"it repeats what was known": {tokenstore.Position{Epoch: "first", Seq: 1}, []tokenstore.Change{change(1)}},
		"it changes the epoch":      {tokenstore.Position{Epoch: "other", Seq: 1}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			ring := testRing(t)
			inner := &lyingStore{fakeStore: newFakeStore(ring)}
			s := cached.New(inner, ring, cached.Options{Poll: time.Hour})
			defer s.Close()
			inner.issue(1)
			require.NoError(t, s.Start(t.Context()))
			require.NoError(t, s.Sync(t.Context()))
			require.Zero(t, s.Stats().Resyncs)
			inner.answer.Store(&tokenstore.Changes{At: answer.at, List: answer.list, Complete: true})
			require.NoError(t, s.Sync(t.Context()))
			require.EqualValues(t, 1, s.Stats().Resyncs)
			require.Equal(t, answer.at, s.Stats().Position)
		})
	}
}

type lyingStore struct {
	*fakeStore
	answer atomic.Pointer[tokenstore.Changes]
}

func (s *lyingStore) Changes(ctx context.Context, after tokenstore.Position) (tokenstore.Changes, error) {
	if a := s.answer.Load(); a != nil {
		return *a, nil
	}
	return s.fakeStore.Changes(ctx, after)
}

// The table of threats 1.5, row by row.
func TestWhatIsAnsweredWithoutTheStore(t *testing.T) {
	const staleFor = 10 * time.Minute
	type rigged struct {
		*rig
		known, unknown, remembered, revoked, edited token.Digest
	}
	setup := func(t *testing.T, set ...func(*cached.Options)) rigged {
		r := newRig(t, append([]func(*cached.Options){func(o *cached.Options) { o.StaleFor = staleFor }}, set...)...)
		x := rigged{rig: r, known: r.warm(1), revoked: r.warm(2), edited: r.warm(3), unknown: digest(4), remembered: digest(5)}
		r.inner.issue(4) // there is such a token; it is not in memory
		r.sync()
		require.Equal(t, notFound, r.state(x.remembered))
		r.inner.commit(x.revoked, revoke)
		r.inner.commit(x.edited, rename)
		r.sync()
		return x
	}

	t.Run("the store answers", func(t *testing.T) {
		x := setup(t)
		x.clock.advance(time.Hour)
		require.Equal(t, "active", x.state(x.known))
		require.Equal(t, "active", x.state(x.unknown))
		require.Equal(t, "revoked", x.state(x.revoked))
		require.Equal(t, "active", x.state(x.edited))
		require.Equal(t, notFound, x.state(x.remembered))
		require.NoError(t, x.Write(t.Context(), nil))
	})
	t.Run("the feed is fresh still", func(t *testing.T) {
		x := setup(t)
		x.inner.down.Store(true)
		x.clock.advance(time.Second)
		_, ok := x.Peek(x.known)
		require.True(t, ok)
		require.Equal(t, unavailable, x.state(x.unknown))
		require.Equal(t, "revoked", x.state(x.revoked), "a revocation that was seen needs no store")
		require.Equal(t, unavailable, x.state(x.edited), "what it is now is not known")
		require.Equal(t, notFound, x.state(x.remembered))
		require.ErrorIs(t, x.Write(t.Context(), nil), tokenstore.ErrUnavailable)
	})
	for _, after := range []time.Duration{time.Second + 1, 5 * time.Second, staleFor} {
		t.Run(fmt.Sprintf("the feed is %v old", after), func(t *testing.T) {
			x := setup(t)
			x.inner.down.Store(true)
			x.clock.advance(after)
			_, ok := x.Peek(x.known)
			require.False(t, ok)
			require.Equal(t, "active", x.state(x.known))
			require.Equal(t, unavailable, x.state(x.unknown))
			require.Equal(t, "revoked", x.state(x.revoked))
			require.Equal(t, unavailable, x.state(x.edited))
			require.Equal(t, unavailable, x.state(x.remembered), "never 401 without asking")
			require.Equal(t, after, x.Stats().FeedAge)
			require.ErrorIs(t, x.Write(t.Context(), nil), tokenstore.ErrUnavailable)
		})
	}
	t.Run("too old", func(t *testing.T) {
		x := setup(t)
		x.inner.down.Store(true)
		x.clock.advance(staleFor + 1)
		for _, d := range []token.Digest{x.known, x.unknown, x.revoked, x.edited, x.remembered} {
			require.Equal(t, unavailable, x.state(d))
		}
		x.inner.down.Store(false)
		x.clock.advance(time.Second)
		require.Equal(t, "active", x.state(x.known), "S22: by the first request that finds the store back")
	})
	t.Run("stale tokens are not allowed at all", func(t *testing.T) {
		x := setup(t, func(o *cached.Options) { o.StaleFor = 0 })
		x.inner.down.Store(true)
		x.clock.advance(time.Second)
		require.Equal(t, "active", x.state(x.known))
		x.clock.advance(1)
		require.Equal(t, unavailable, x.state(x.known))
	})
}

// F28: the clock counts suspension, and nothing polled meanwhile.
func TestTheFirstRequestAfterASuspensionIsJudgedByWhatHappenedMeanwhile(t *testing.T) {
	r := newRig(t)
	d := r.warm(1)
	r.inner.commit(d, revoke)
	r.clock.advance(10 * time.Minute)
	require.Equal(t, "revoked", r.state(d))
}

func TestManyRequestsReadAStaleFeedOnce(t *testing.T) {
	r := newRig(t)
	d := r.warm(1)
	before := r.Readings()
	r.clock.advance(2 * time.Second)
	release := make(chan struct{})
	r.inner.mu.Lock()
	r.inner.onChanges = func(context.Context) error { <-release; return nil }
	r.inner.mu.Unlock()
	var callers sync.WaitGroup
	for range 100 {
		callers.Go(func() {
			_, err := r.Resolve(t.Context(), d, client)
			require.NoError(t, err)
		})
	}
	require.Eventually(t, func() bool { return r.Readings() > before }, ceiling, time.Millisecond)
	close(release)
	callers.Wait()
	require.Equal(t, before+1, r.Readings())
}

// F13, S8: a store that hangs must not slow down tokens that are known.
func TestDuringAnOutageRequestsDoNotWaitForTheFeed(t *testing.T) {
	t.Run("that fails", func(t *testing.T) {
		r := newRig(t)
		d := r.warm(1)
		r.inner.down.Store(true)
		r.clock.advance(2 * time.Second)
		before := r.Readings()
		for range 1000 {
			require.Equal(t, "active", r.state(d))
		}
		require.Equal(t, before+1, r.Readings())
		r.clock.advance(2 * time.Second)
		require.Equal(t, "active", r.state(d))
		require.Equal(t, before+2, r.Readings(), "it is tried again when the failure is old")
	})
	t.Run("that hangs", func(t *testing.T) {
		r := newRig(t)
		d := r.warm(1)
		r.inner.mu.Lock()
		r.inner.onChanges = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		r.inner.mu.Unlock()
		r.clock.advance(2 * time.Second)
		before := r.Readings()
		require.Equal(t, "active", r.state(d)) // this one waits
		r.clock.advance(cached.PollWait)
		for range 1000 {
			require.Equal(t, "active", r.state(d))
		}
		require.Equal(t, before+1, r.Readings())
	})
}

func TestAPanicInTheStoreIsAnErrorOfTheStore(t *testing.T) {
	r := newRig(t)
	d, fresh := r.warm(1), r.inner.issue(2)
	r.sync()
	r.inner.mu.Lock()
	r.inner.onLookup = func(context.Context) { panic("a bug") }
	r.inner.mu.Unlock()
	_, err := r.Resolve(t.Context(), fresh, client)
	require.ErrorIs(t, err, tokenstore.ErrUnavailable)
	require.ErrorContains(t, err, "a bug; ")
	require.ErrorContains(t, err, "TestAPanicInTheStoreIsAnErrorOfTheStore.func1:")
	r.inner.mu.Lock()
	r.inner.onChanges = func(context.Context) error { panic("a bug") }
	r.inner.mu.Unlock()
	require.ErrorIs(t, r.Sync(t.Context()), tokenstore.ErrUnavailable)
	require.Equal(t, "active", r.state(d))
	r.inner.mu.Lock()
	r.inner.onChanges = nil
	r.inner.mu.Unlock()
	r.sync()
	require.Zero(t, r.Stats().Resyncs, "the position was not lost")
}
