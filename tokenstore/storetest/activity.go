package storetest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

func activityTests(s suite) {
	day := 24 * time.Hour
	bucket := Now().Truncate(day)
	write := func(b *bench, f func(tx *tokenstore.Tx) error) {
		b.Helper()
		require.NoError(b, b.store.Write(b.ctx, f)) // without an audit entry: it is no change
	}
	begin := func(b *bench, id token.ID) token.Run {
		b.Helper()
		r := token.Run{ID: id, Node: "node_a", StartedAt: bucket, StaleFor: 10 * time.Minute}
		write(b, func(tx *tokenstore.Tx) error { return tx.BeginRun(r) })
		return r
	}
	put := func(b *bench, a token.Activity) {
		b.Helper()
		write(b, func(tx *tokenstore.Tx) error { return tx.PutActivity(a) })
	}
	fact := func(days int, scope token.Scope, first time.Duration) token.Fact {
		at := bucket.Add(time.Duration(days) * day)
		return token.Fact{TokenID: "tok_a", SecretID: "sec_a", Scope: scope, Bucket: at, Until: at.Add(day), First: at.Add(first)}
	}
	uses := func(b *bench, id token.ID) []tokenstore.SecretUse {
		b.Helper()
		return get(b, func(tx *tokenstore.Tx) ([]tokenstore.SecretUse, error) { return tx.Uses(id) })
	}

	s.test("facts merge to the latest bucket and the earliest use, in any order, any number of times", func(b *bench) {
		begin(b, "run_a")
		pay := token.Scope{Name: "pay", Nature: token.Write}
		batches := [][]token.Fact{
			{fact(3, pay, 5*time.Hour), fact(1, token.Scope{}, time.Hour)},
			{fact(1, pay, 2*time.Hour), fact(3, pay, 4*time.Hour), fact(3, pay, 6*time.Hour)},
			{fact(2, pay, 0)},
		}
		for range 2 {
			for i, facts := range batches {
				put(b, token.Activity{Run: "run_a", Seq: uint64(i) + 1, Covered: bucket, Facts: facts})
			}
		}
		b.same([]tokenstore.SecretUse{
			{SecretID: "sec_a", First: bucket.Add(day + time.Hour), Last: bucket.Add(day + time.Hour), Until: bucket.Add(2 * day)},
			{SecretID: "sec_a", Scope: pay, First: bucket.Add(day + 2*time.Hour), Last: bucket.Add(3*day + 4*time.Hour), Until: bucket.Add(4 * day)},
		}, uses(b, "tok_a"))
		require.Empty(b, uses(b, "tok_b"))
		b.same(token.Use{Last: bucket.Add(4 * day), Scopes: []token.ScopeUse{{Scope: pay, Last: bucket.Add(4 * day)}}},
			get(b, func(tx *tokenstore.Tx) (token.Use, error) { return tx.Use("tok_a") }))
	})

	s.test("use is merged over secrets, and a scope that one gate holds to be of write nature is", func(b *bench) {
		begin(b, "run_a")
		f, g := fact(1, token.Scope{Name: "x", Nature: token.Read}, 0), fact(0, token.Scope{Name: "x", Nature: token.Write}, 0)
		g.SecretID = "sec_b"
		put(b, token.Activity{Run: "run_a", Seq: 1, Covered: bucket, Facts: []token.Fact{f, g}})
		b.same(token.Use{
			Last:   bucket.Add(2 * day),
			Scopes: []token.ScopeUse{{Scope: token.Scope{Name: "x", Nature: token.Write}, Last: bucket.Add(2 * day)}},
		}, get(b, func(tx *tokenstore.Tx) (token.Use, error) { return tx.Use("tok_a") }))
	})

	s.test("the lives of a page of tokens are read at once, with the latest known use", func(b *bench) {
		begin(b, "run_a")
		pay := token.Scope{Name: "pay", Nature: token.Write}
		put(b, token.Activity{Run: "run_a", Seq: 1, Covered: bucket, Facts: []token.Fact{fact(1, pay, time.Hour), fact(1, token.Scope{}, 2*time.Hour)}})
		lives := get(b, func(tx *tokenstore.Tx) (map[token.ID]tokenstore.Life, error) {
			return tx.Lives("tok_a", "tok_b", "tok_c")
		})
		require.Empty(b, lives, "no such tokens: use alone makes none")
		require.Empty(b, get(b, func(tx *tokenstore.Tx) (map[token.ID]tokenstore.Life, error) { return tx.Lives() }))
	})

	s.test("very many facts and counts are stored at once", func(b *bench) {
		begin(b, "run_a")
		var a token.Activity
		a.Run, a.Seq, a.Covered = "run_a", 1, bucket
		for i := range 1500 {
			f := fact(0, token.ReadScope, 0)
			f.SecretID = token.ID("sec_" + time.Duration(i).String())
			a.Facts = append(a.Facts, f)
			a.Counts = append(a.Counts, token.Count{Bucket: bucket, TokenID: f.TokenID, SecretID: f.SecretID, Outcome: "allowed", N: 1})
		}
		put(b, a)
		require.Len(b, uses(b, "tok_a"), 1500)
	})

	s.test("a fact without a token, a secret or a time is refused with its whole batch", func(b *bench) {
		begin(b, "run_a")
		for _, spoil := range []func(*token.Fact){
			func(f *token.Fact) { f.TokenID = "" },
			func(f *token.Fact) { f.SecretID = "" },
			func(f *token.Fact) { f.First = time.Time{} },
			func(f *token.Fact) { f.Until = time.Time{} },
			func(f *token.Fact) { f.Scope = token.Scope{Name: "x"} },
		} {
			bad := fact(0, token.ReadScope, 0)
			spoil(&bad)
			a := token.Activity{Run: "run_a", Seq: 1, Covered: bucket.Add(day), Facts: []token.Fact{fact(0, token.ReadScope, 0), bad}}
			require.Error(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error { return tx.PutActivity(a) }))
		}
		require.Empty(b, uses(b, "tok_a"))
		require.Equal(b, bucket, get(b, (*tokenstore.Tx).Runs)[0].Covered)
	})

	s.test("counts add up, and a batch that comes again is not counted again", func(b *bench) {
		begin(b, "run_a")
		now := get(b, (*tokenstore.Tx).Time).Truncate(day)
		count := func(outcome, address string, n int64) token.Count {
			return token.Count{Bucket: now, TokenID: "tok_a", SecretID: "sec_a", Scope: "read", Outcome: outcome, Address: address, N: n}
		}
		one := token.Activity{Run: "run_a", Seq: 1, Covered: bucket, Counts: []token.Count{
			count("allowed", "192.0.2.1", 2), count("allowed", "192.0.2.1", 3), count("ip_not_allowed", "2001:db8::/64", 1), count("allowed", "other", 0),
		}}
		put(b, one)
		put(b, one)
		put(b, token.Activity{Run: "run_a", Seq: 2, Covered: bucket, Counts: []token.Count{count("allowed", "192.0.2.1", 10)}})
		put(b, one)
		b.read(func(tx *tokenstore.Tx) error {
			list, more, err := tx.Counts("tok_a", now, now.Add(day))
			require.False(b, more)
			b.same([]token.Count{count("allowed", "192.0.2.1", 15), count("ip_not_allowed", "2001:db8::/64", 1)}, list)
			list, _, err2 := tx.Counts("tok_a", now.Add(day), now.Add(2*day))
			require.Empty(b, list)
			require.NoError(b, err2)
			return err
		})
	})

	s.test("the counts of four months are kept, and a wrong clock empties nothing", func(b *bench) {
		begin(b, "run_a")
		now := get(b, (*tokenstore.Tx).Time)
		at := func(months int) time.Time {
			return time.Date(now.Year(), now.Month()+time.Month(months), 10, 0, 0, 0, 0, time.UTC)
		}
		var seq uint64
		count := func(months int) {
			seq++
			put(b, token.Activity{Run: "run_a", Seq: seq, Covered: bucket, Counts: []token.Count{
				{Bucket: at(months), TokenID: "tok_a", SecretID: "sec_a", Outcome: "allowed", N: 1},
			}})
		}
		for _, months := range []int{-3, 0, -1, -2, -4, -12, 4, 12} {
			count(months)
		}
		b.read(func(tx *tokenstore.Tx) error {
			list, _, err := tx.Counts("tok_a", at(-24), at(24))
			var got []time.Time
			for _, c := range list {
				got = append(got, c.Bucket)
			}
			b.same([]time.Time{at(-3), at(-2), at(-1), at(0)}, got)
			require.NoError(b, err)
			since, err := tx.CountsSince()
			b.same(time.Date(now.Year(), now.Month()-3, 1, 0, 0, 0, 0, time.UTC), since)
			return err
		})
	})

	s.test("a run is begun once, covers more and more, and ends", func(b *bench) {
		r := begin(b, "run_a")
		r.Covered = r.StartedAt
		runs := func() token.Run {
			b.Helper()
			list := get(b, (*tokenstore.Tx).Runs)
			require.Len(b, list, 1)
			require.False(b, list[0].Contact.IsZero())
			list[0].Contact = time.Time{}
			return list[0]
		}
		b.same(r, runs())
		put(b, token.Activity{Run: "run_a", Seq: 1, Covered: bucket.Add(time.Hour)})
		put(b, token.Activity{Run: "run_a", Covered: bucket.Add(2 * time.Hour)})
		put(b, token.Activity{Run: "run_a", Covered: bucket.Add(time.Hour)})
		put(b, token.Activity{Run: "run_a", Seq: 2})
		begin(b, "run_a")
		r.Covered = bucket.Add(time.Hour)
		b.same(r, runs())
		write(b, func(tx *tokenstore.Tx) error { return tx.EndRun("run_a", bucket.Add(2*time.Hour)) })
		r.Covered, r.StoppedAt = bucket.Add(2*time.Hour), bucket.Add(2*time.Hour)
		b.same(r, runs())
	})

	s.test("activity of a run that was not begun is not found", func(b *bench) {
		for _, f := range []func(tx *tokenstore.Tx) error{
			func(tx *tokenstore.Tx) error {
				return tx.PutActivity(token.Activity{Run: "run_x", Seq: 1, Covered: bucket})
			},
			func(tx *tokenstore.Tx) error { return tx.EndRun("run_x", bucket) },
			func(tx *tokenstore.Tx) error { return tx.WaiveRun("run_x") },
		} {
			require.ErrorIs(b, b.store.Write(b.ctx, f), tokenstore.ErrNotFound)
		}
	})

	s.test("gaps grow, and those of a run that was waived are gone", func(b *bench) {
		begin(b, "run_a")
		gap := token.Gap{From: bucket, To: bucket.Add(time.Minute), Blind: true, Node: "node_a", Reason: "disk full"}
		put(b, token.Activity{Run: "run_a", Seq: 1, Covered: bucket, Gaps: []token.Gap{gap}})
		gap.To = bucket.Add(time.Hour)
		put(b, token.Activity{Run: "run_a", Seq: 2, Covered: bucket, Gaps: []token.Gap{gap}})
		shorter := gap
		shorter.To = bucket.Add(time.Second)
		put(b, token.Activity{Run: "run_a", Seq: 3, Covered: bucket, Gaps: []token.Gap{shorter}})
		b.same([]token.Gap{gap}, get(b, (*tokenstore.Tx).Gaps))
		write(b, func(tx *tokenstore.Tx) error { return tx.WaiveRun("run_a") })
		require.Empty(b, get(b, (*tokenstore.Tx).Gaps))
		require.False(b, get(b, (*tokenstore.Tx).Runs)[0].WaivedAt.IsZero())
		require.ErrorIs(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error { return tx.WaiveRun("run_a") }), tokenstore.ErrNotFound)
		write(b, func(tx *tokenstore.Tx) error { return tx.DropRun("run_a") })
		require.Empty(b, get(b, (*tokenstore.Tx).Runs))
	})
}

func dutyTests(s suite) {
	take := func(b *bench, holder string, term time.Duration) (d tokenstore.Duty, ok bool) {
		b.Helper()
		require.NoError(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) (err error) {
			d, ok, err = tx.TakeDuty("lifecycle", holder, term)
			return err
		}))
		return d, ok
	}

	s.test("one holder at a time, and each new one is told by its fence", func(b *bench) {
		first, ok := take(b, "a", time.Hour)
		require.True(b, ok)
		_, ok = take(b, "b", time.Hour)
		require.False(b, ok)
		again, ok := take(b, "a", time.Hour)
		require.True(b, ok)
		require.Equal(b, first.Fence, again.Fence)
		// A term that has ended.
		_, ok = take(b, "a", -time.Second)
		require.True(b, ok)
		next, ok := take(b, "b", time.Hour)
		require.True(b, ok)
		require.Greater(b, next.Fence, again.Fence)
		// And one that was given up.
		require.NoError(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error { return tx.GiveUpDuty("lifecycle", "a") }))
		_, ok = take(b, "a", time.Hour)
		require.False(b, ok, "only the holder gives it up")
		require.NoError(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error { return tx.GiveUpDuty("lifecycle", "b") }))
		last, ok := take(b, "a", time.Hour)
		require.True(b, ok)
		require.Greater(b, last.Fence, next.Fence)
	})

	s.test("keeps what it is told about its runs", func(b *bench) {
		d, _ := take(b, "a", time.Hour)
		d.LastRun, d.Trusted = Now(), Now().Add(time.Hour)
		require.NoError(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error { return tx.PutDuty(d) }))
		b.same(d, get(b, func(tx *tokenstore.Tx) (tokenstore.Duty, error) { return tx.Duty("lifecycle") }))
		b.same(tokenstore.Duty{Name: "x"}, get(b, func(tx *tokenstore.Tx) (tokenstore.Duty, error) { return tx.Duty("x") }))
	})
}
