package test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
	"github.com/sallyport/sallyport/usage"
)

// countingSink hands over to a store and counts the rows that it writes.
type countingSink struct {
	store                 tokenstore.Store
	commits, facts, count int
}

func (s *countingSink) Begin(ctx context.Context, run token.Run) error {
	return s.store.Write(ctx, func(tx *tokenstore.Tx) error { return tx.BeginRun(run) })
}

func (s *countingSink) Commit(ctx context.Context, b token.Activity) error {
	s.commits, s.facts, s.count = s.commits+1, s.facts+len(b.Facts), s.count+len(b.Counts)
	return s.store.Write(ctx, func(tx *tokenstore.Tx) error { return tx.PutActivity(b) })
}

func (s *countingSink) End(ctx context.Context, run token.ID, stopped time.Time) error {
	return s.store.Write(ctx, func(tx *tokenstore.Tx) error { return tx.EndRun(run, stopped) })
}

// bothStores runs f with an empty store of each kind.
func bothStores[T testing.TB](t T, run func(string, func(T)) bool, f func(t T, open func(T) tokenstore.Store)) {
	run("SQLite", func(t T) {
		f(t, func(t T) tokenstore.Store {
			dir := t.TempDir()
			ring, err := tokenstore.LoadRing(filepath.Join(dir, "key"), rand.Reader)
			require.NoError(t, err)
			s, err := sqlite.Open(context.Background(), filepath.Join(dir, "s.db"), sqlite.Options{Ring: ring.Ring})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Close()) })
			return s
		})
	})
	run("Postgres", func(t T) {
		server := pgtest.Start(t)
		f(t, func(t T) tokenstore.Store {
			ring, err := tokenstore.LoadRing(filepath.Join(t.TempDir(), "key"), rand.Reader)
			require.NoError(t, err)
			s, err := postgres.Open(context.Background(), server.Database(), postgres.Options{Ring: ring.Ring})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Close()) })
			return s
		})
	})
}

// recordInto opens a recorder that hands over when it is flushed, and not before.
func recordInto(t testing.TB, sink usage.Sink, now time.Time) *usage.Recorder {
	r, err := usage.Open(usage.Options{
		Dir: t.TempDir(), Node: "node_1", Run: "run_1", Sink: sink, WitnessDir: "-",
		Now: func() time.Time { return now }, Uptime: func() time.Duration { return 0 },
		Interval: time.Hour, CountInterval: time.Hour,
	})
	require.NoError(t, err)
	return r
}

func useOf(i int, now time.Time) usage.Request {
	return usage.Request{
		TokenID: token.ID(fmt.Sprintf("tok_%026d", i)), SecretID: token.ID(fmt.Sprintf("sec_%026d", i)),
		Scope: token.ReadScope, Address: netip.MustParseAddr("192.0.2.1"), At: now,
	}
}

// P9: what the store is told grows with the tokens that are active, and not with
// their requests.
func TestWritesGrowWithTokensAndNotWithRequests(t *testing.T) {
	const tokens = 1000
	now := time.Now().UTC()
	bothStores(t, t.Run, func(t *testing.T, open func(*testing.T) tokenstore.Store) {
		for _, each := range []int{1, 100} {
			store := open(t)
			sink := &countingSink{store: store}
			r := recordInto(t, sink, now)
			for range each {
				for i := range tokens {
					q := useOf(i, now)
					require.NoError(t, r.Use(&q, true))
				}
			}
			// A disk that was late has them in memory still, and they would be told twice.
			eventually(t, "the journal has all of it", func() bool { return r.Stats().Unwritten == 0 })
			require.NoError(t, r.Start(t.Context()))
			require.NoError(t, r.Flush(t.Context()))
			require.Equal(t, [2]int{tokens, tokens}, [2]int{sink.facts, sink.count}, "facts and counts after %d requests each", each)
			require.LessOrEqual(t, sink.commits, 4, "transactions after %d requests each", each)
			// In the same bucket there is nothing more to tell but how many there were.
			for i := range tokens {
				q := useOf(i, now)
				require.NoError(t, r.Use(&q, true))
			}
			require.NoError(t, r.Close(t.Context()))
			require.Equal(t, [2]int{tokens, 2 * tokens}, [2]int{sink.facts, sink.count})

			err := store.Read(t.Context(), func(tx *tokenstore.Tx) error {
				for i := range tokens {
					id := useOf(i, now).TokenID
					uses, err := tx.Uses(id)
					require.NoError(t, err)
					require.Len(t, uses, 1)
					day := now.Truncate(24 * time.Hour)
					counts, _, err := tx.Counts(id, day, day.Add(24*time.Hour))
					require.NoError(t, err)
					require.Len(t, counts, 1)
					require.EqualValues(t, each+1, counts[0].N)
				}
				return nil
			})
			require.NoError(t, err)
		}
	})
}

// BenchmarkDrain is the way of 100,000 facts, and as many counters, from the journal
// into a store.
func BenchmarkDrain(b *testing.B) {
	const tokens = 100_000
	now := time.Now().UTC()
	bothStores(b, b.Run, func(b *testing.B, open func(*testing.B) tokenstore.Store) {
		for b.Loop() {
			b.StopTimer()
			sink := &countingSink{store: open(b)}
			r := recordInto(b, sink, now)
			for i := range tokens {
				q := useOf(i, now)
				require.NoError(b, r.Use(&q, true))
			}
			require.NoError(b, r.Start(context.Background()))
			b.StartTimer()
			require.NoError(b, r.Flush(context.Background()))
			b.StopTimer()
			require.Equal(b, tokens, sink.facts)
			require.NoError(b, r.Close(context.Background()))
			b.StartTimer()
		}
		b.ReportMetric(float64(2*tokens*b.N)/b.Elapsed().Seconds(), "rows/s")
	})
}
