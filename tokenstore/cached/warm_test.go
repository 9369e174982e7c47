package cached_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/cached"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// bulkStore is a fakeStore that also gives all its rows at once.
type bulkStore struct {
	*fakeStore
	calls atomic.Int64
	// onRecord runs before the nth record of a reading, from 0, is handed out. An
	// error of it ends the reading.
	onRecord func(ctx context.Context, n int) error
}

var _ tokenstore.Bulk = (*bulkStore)(nil)

func (f *bulkStore) All(ctx context.Context, take func(*tokenstore.Record) error) error {
	f.calls.Add(1)
	if err := f.gone(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	snapshot := make([]tokenstore.Record, 0, len(f.rows))
	for _, r := range f.rows {
		if r.Token.State == token.Active && r.Secret.Status != token.Retired {
			snapshot = append(snapshot, r)
		}
	}
	f.mu.Unlock()
	slices.SortFunc(snapshot, func(a, b tokenstore.Record) int { return -cmp.Compare(a.Token.ID, b.Token.ID) })
	for i := range snapshot {
		if f.onRecord != nil {
			if err := f.onRecord(ctx, i); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := take(&snapshot[i]); err != nil {
			return err
		}
	}
	return nil
}

// warmRig is a cache over a bulkStore with n tokens that is not started yet.
func warmRig(t *testing.T, n int, set ...func(*cached.Options)) (*rig, *bulkStore) {
	t.Helper()
	ring := testRing(t)
	inner := &bulkStore{fakeStore: newFakeStore(ring)}
	for i := range n {
		inner.issue(i)
	}
	r := &rig{t: t, inner: inner.fakeStore, clock: &fakeClock{}}
	r.clock.advance(1000 * time.Hour)
	o := cached.Options{MaxBytes: 64 << 20, StaleFor: 10 * time.Minute, Poll: time.Hour, Uptime: r.clock.read}
	for _, f := range set {
		f(&o)
	}
	r.Store = cached.New(inner, ring, o)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r, inner
}

// warmed waits until nothing is being read in bulk.
func (r *rig) warmed() cached.WarmStats {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return r.Stats().Warm.State != cached.Warming }, ceiling, time.Millisecond)
	return r.Stats().Warm
}

func TestAStartedCacheServesTokensThatNobodyAskedFor(t *testing.T) {
	const n = 40_000 // more than ristretto's buffer takes
	r, _ := warmRig(t, n)
	require.Equal(t, cached.Cold, r.Stats().Warm.State)
	require.NoError(t, r.Start(t.Context()))
	warm := r.warmed()
	require.Equal(t, cached.Warm, warm.State)
	require.EqualValues(t, n, warm.Records)
	require.NoError(t, warm.Err)

	r.inner.down.Store(true)
	for i := range n {
		rec, ok := r.Peek(digest(i))
		require.True(t, ok, "token %d", i)
		require.Equal(t, token.ID(fmt.Sprintf("tok_01k%023d", i)), rec.Token.ID)
	}
	require.Zero(t, r.inner.lookups.Load())
	require.EqualValues(t, n, r.Stats().Entries)
}

func TestWarmingEndsWhenTheMemoryIsFull(t *testing.T) {
	const n, most = 20_000, 4 << 20
	r, _ := warmRig(t, n, func(o *cached.Options) { o.MaxBytes = most })
	require.NoError(t, r.Start(t.Context()))
	warm := r.warmed()
	require.Equal(t, cached.Full, warm.State)
	stats := r.Stats()
	require.LessOrEqual(t, stats.Bytes, int64(most))
	require.Greater(t, stats.Bytes, int64(most)*9/10)
	require.Zero(t, stats.Evictions, "what was warmed first was put out for what came later")
	require.Equal(t, warm.Records, stats.Entries)
	for i := range int(warm.Records) {
		_, ok := r.Peek(digest(n - 1 - i))
		require.True(t, ok, "the newest tokens stay")
	}
	_, ok := r.Peek(digest(0))
	require.False(t, ok)
	require.Equal(t, "active", r.state(digest(0)), "who is not in memory is looked up")
}

// S7, I2: a change overtakes the reading of its token.
func TestATokenThatIsRevokedWhileItIsWarmedIsNotServed(t *testing.T) {
	changes := map[string]struct {
		change func(*tokenstore.Record)
		want   string
	}{
		"revoked":                {revoke, "revoked"},
		"its secret retired":     {retire, "retired"},
		"its user disabled":      {func(r *tokenstore.Record) { u := *r.User; u.Version++; u.Disabled = true; r.User = &u }, "user"},
		"its account disabled":   {func(r *tokenstore.Record) { a := *r.Account; a.Version++; a.Disabled = true; r.Account = &a }, "account"},
		"disabled by the client": {func(r *tokenstore.Record) { r.Token.State = token.Disabled; r.Token.Version++ }, "disabled"},
	}
	for name, c := range changes {
		for _, heard := range []string{"before the record comes", "after the record came", "with a resync"} {
			t.Run(name+", heard "+heard, func(t *testing.T) {
				r, inner := warmRig(t, 3)
				d := digest(1) // the second of three
				change := func() {
					r.inner.commit(d, c.change)
					if heard == "with a resync" {
						r.inner.mu.Lock()
						r.inner.epoch = "second"
						r.inner.mu.Unlock()
					}
					r.sync()
				}
				first := true
				inner.onRecord = func(_ context.Context, n int) error {
					at := 1
					if heard == "after the record came" {
						at = 2
					}
					if first && n == at {
						first = false
						change()
						// Else nobody asks, who would bring the newer record.
						if heard == "after the record came" {
							r.refuses(d, c.want)
						}
					}
					return nil
				}
				require.NoError(t, r.Start(t.Context()))
				require.Equal(t, cached.Warm, r.warmed().State)
				r.refuses(d, c.want)
				r.ForgetRecent()
				r.refuses(d, c.want)
				require.Equal(t, "active", r.state(digest(0)))
			})
		}
	}
}

// refuses demands that a request meets the change, from memory and at all.
func (r *rig) refuses(d token.Digest, want string) {
	r.t.Helper()
	judge := func(rec *tokenstore.Record) string {
		switch {
		case rec.Secret.Status == token.Retired:
			return "retired"
		case rec.Token.State != token.Active:
			return rec.Token.State.String()
		case rec.User.Disabled:
			return "user"
		case rec.Account.Disabled:
			return "account"
		}
		return "served"
	}
	if rec, ok := r.Peek(d); ok {
		require.Equal(r.t, want, judge(rec))
	}
	rec, err := r.Resolve(r.t.Context(), d, client)
	require.NoError(r.t, err)
	require.Equal(r.t, want, judge(rec))
}

// I3: a request was faster than the feed. What it brought is newer than the
// snapshot, and stays.
func TestWarmingDoesNotPutAnOlderRecordOverANewerOne(t *testing.T) {
	r, inner := warmRig(t, 3)
	d := digest(1)
	inner.onRecord = func(_ context.Context, n int) error {
		if n == 1 {
			r.inner.commit(d, revoke) // and the feed is not read
			require.Equal(t, "revoked", r.state(d))
			r.Settle()
		}
		return nil
	}
	require.NoError(t, r.Start(t.Context()))
	require.Equal(t, cached.Warm, r.warmed().State)
	require.Equal(t, "revoked", r.state(d))
	r.ForgetRecent()
	require.Equal(t, "revoked", r.state(d))
}

// The same while the request still waits for its answer.
func TestWarmingLeavesATokenAloneThatIsBeingLookedUp(t *testing.T) {
	r, inner := warmRig(t, 3)
	d := digest(1)
	release := make(chan struct{})
	asked := make(chan struct{})
	r.inner.onLookup = func(context.Context) { close(asked); <-release }
	answer := make(chan string, 1)
	inner.onRecord = func(_ context.Context, n int) error {
		switch n {
		case 1:
			r.inner.commit(d, revoke)
			go func() {
				rec, err := r.Resolve(context.Background(), d, client)
				if err != nil {
					answer <- err.Error()
					return
				}
				answer <- rec.Token.State.String()
			}()
			<-asked
		case 2:
			if _, ok := r.Peek(d); ok {
				return errors.New("warming was faster than the request that asked later")
			}
			close(release)
			require.Equal(t, "revoked", <-answer)
		}
		return nil
	}
	require.NoError(t, r.Start(t.Context()))
	warm := r.warmed()
	require.NoError(t, warm.Err)
	require.Equal(t, "revoked", r.state(d))
	r.Settle()
	r.ForgetRecent()
	require.Equal(t, "revoked", r.state(d))
}

func TestAReadingThatFailsIsTriedAgainAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, inner := warmRig(t, 10)
		broken := errors.New("the line is cut")
		var times []time.Time
		inner.onRecord = func(_ context.Context, n int) error {
			if n == 0 {
				times = append(times, time.Now())
			}
			switch {
			case len(times) == 2 && n == 5:
				panic("the driver has a bug")
			case len(times) <= 4 && n == 5:
				return broken
			}
			return nil
		}
		require.NoError(t, r.Start(t.Context()))
		synctest.Wait()
		warm := r.Stats().Warm
		require.Equal(t, cached.Warming, warm.State)
		require.Equal(t, 1, warm.Failures)
		require.ErrorIs(t, warm.Err, broken)
		require.EqualValues(t, 5, warm.Records)
		_, ok := r.Peek(digest(9))
		require.True(t, ok, "what was taken in counts")

		time.Sleep(time.Minute)
		synctest.Wait()
		warm = r.Stats().Warm
		require.Equal(t, cached.Warm, warm.State)
		require.Zero(t, warm.Failures)
		require.NoError(t, warm.Err)
		require.EqualValues(t, 10, warm.Records)
		require.Len(t, times, 5)
		for i, atLeast := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second} {
			gap := times[i+1].Sub(times[i])
			require.GreaterOrEqual(t, gap, atLeast)
			require.LessOrEqual(t, gap, 2*atLeast)
		}
		require.EqualValues(t, 10, r.Stats().Entries)
		require.NoError(t, r.Close())
	})
}

func TestAfterAResyncAllIsReadAgain(t *testing.T) {
	for name, most := range map[string]int64{"with room": 64 << 20, "into a full memory": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			const n = 3000
			r, inner := warmRig(t, n, func(o *cached.Options) { o.MaxBytes = most })
			require.NoError(t, r.Start(t.Context()))
			before := r.warmed()
			r.inner.mu.Lock()
			r.inner.epoch = "second"
			r.inner.mu.Unlock()
			r.sync()
			require.Eventually(t, func() bool { return inner.calls.Load() == 2 }, ceiling, time.Millisecond)
			require.Equal(t, before.State, r.warmed().State)
			require.EqualValues(t, 2, inner.calls.Load())
			held := 0
			for i := range n {
				if _, ok := r.Peek(digest(i)); ok {
					held++
				}
			}
			require.Zero(t, r.inner.lookups.Load())
			// Owners that are in memory already take no more room.
			require.GreaterOrEqual(t, held, int(before.Records))
			require.LessOrEqual(t, r.Stats().Bytes, most)
		})
	}
}

// Secrets under a key that is primary no more are found under it only by whoever
// has the secret.
func TestSecretsUnderAnotherKeyAreLeftToTheRequestThatBringsThem(t *testing.T) {
	r, inner := warmRig(t, 2)
	inner.commit(digest(7), func(rec *tokenstore.Record) { *rec = *record(inner.ring, "b", 7) })
	require.NoError(t, r.Start(t.Context()))
	require.EqualValues(t, 2, r.warmed().Records)
	_, ok := r.Peek(digest(7))
	require.False(t, ok)
}

func TestCloseEndsWarming(t *testing.T) {
	for name, hang := range map[string]func(context.Context) error{
		"that waits for the store":   func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"that is to be tried again":  func(context.Context) error { return tokenstore.ErrUnavailable },
		"that does not hear of that": func(context.Context) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			r, inner := warmRig(t, 10)
			reached := make(chan struct{}, 100)
			inner.onRecord = func(ctx context.Context, n int) error {
				if n < 5 {
					return nil
				}
				reached <- struct{}{}
				return hang(ctx)
			}
			require.NoError(t, r.Start(t.Context()))
			<-reached
			require.NoError(t, r.Close())
			require.NoError(t, r.Close())
			require.EqualValues(t, 1, r.inner.closes.Load())
		})
	}
}

func TestWhatWasWarmedIsRefreshedOverTime(t *testing.T) {
	const n = 1000
	r, _ := warmRig(t, n)
	require.NoError(t, r.Start(t.Context()))
	r.warmed()
	share := func() (due int) {
		for i := range n {
			if _, ok := r.Peek(digest(i)); !ok {
				due++
			}
		}
		return due
	}
	last := 0
	for range 4 {
		r.clock.advance(cached.RefreshAfter / 4)
		r.sync()
		due := share()
		require.LessOrEqual(t, due-last, n/2)
		last = due
	}
	require.Equal(t, n, last, "all are read again within the hour")
}

// What is warmed from a real store is what is looked up there.
func TestTheCacheIsWarmedFromSQLite(t *testing.T) {
	ring := storetest.Ring(t)
	path := filepath.Join(t.TempDir(), "sallyport.db")
	inner, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring})
	require.NoError(t, err)
	account := storetest.Account()
	storetest.MustWrite(t, inner, func(tx *tokenstore.Tx) error { return tx.InsertAccount(&account) })
	tok := storetest.Token(account.ID)
	secret := storetest.Issue(t, inner, ring, &tok)

	s := cached.New(inner, ring, cached.Options{StaleFor: time.Minute})
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.Start(t.Context()))
	require.Eventually(t, func() bool { return s.Stats().Warm.State == cached.Warm }, ceiling, time.Millisecond)
	rec, ok := s.Peek(secret.Digest())
	require.True(t, ok)
	require.Equal(t, tok.ID, rec.Token.ID)
	require.Zero(t, s.Stats().Loads)
}

func TestAStateOfWarmingHasAName(t *testing.T) {
	require.Equal(t, "cold warming warm full invalid(9)",
		fmt.Sprint(cached.Cold, cached.Warming, cached.Warm, cached.Full, cached.WarmState(9)))
}
