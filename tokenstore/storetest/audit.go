package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

func (b *bench) auditHead() tokenstore.AuditHead {
	b.Helper()
	return get(b, (*tokenstore.Tx).AuditHead)
}

func (b *bench) auditEntries(q tokenstore.AuditQuery) []tokenstore.AuditEntry {
	b.Helper()
	return get(b, func(tx *tokenstore.Tx) ([]tokenstore.AuditEntry, error) {
		entries, _, err := tx.AuditEntries(q)
		return entries, err
	})
}

// verified demands that the log holds, and gives the report.
func (b *bench) verified(earlier *tokenstore.AuditHead) tokenstore.AuditReport {
	b.Helper()
	report, err := tokenstore.VerifyAudit(b.ctx, b.store, b.ring, earlier)
	require.NoError(b, err)
	require.Empty(b, report.Problems)
	return report
}

// unsealed is an entry as it was handed in.
func unsealed(e tokenstore.AuditEntry) tokenstore.AuditEntry {
	e.Seq, e.KeyID, e.Hash, e.MAC = 0, "", [32]byte{}, [32]byte{}
	return e
}

func fullEntry() tokenstore.AuditEntry {
	return tokenstore.AuditEntry{
		At:        Now().Add(time.Microsecond),
		Actor:     tokenstore.Actor{Kind: tokenstore.SystemActor, Name: "cfg", Verified: true, Address: "2001:db8::1"},
		Verb:      "token.rotate",
		Target:    "tok_1",
		AccountID: "acc_1",
		Before:    []byte(`{ "b" : 1.0, "a":"\u00e9", "b":2 }`), // as it is written, not as it is understood
		After:     []byte(`{}`),
		RequestID: "req-1",
	}
}

func auditTests(s suite) {
	s.test("entries come back with every field that they were made with, sealed under the primary key", func(b *bench) {
		before := b.auditHead()
		require.NoError(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error {
			tx.Audit(fullEntry())
			tx.Audit(Entry())
			return nil
		}))
		entries := b.auditEntries(tokenstore.AuditQuery{Page: tokenstore.Page{Limit: 2}})
		require.Len(b, entries, 2)
		b.same(Entry(), unsealed(entries[0]))
		b.same(fullEntry(), unsealed(entries[1]))
		require.Equal(b, before.Seq+1, entries[1].Seq, "in the order in which they were made")
		require.Equal(b, before.Seq+2, entries[0].Seq)
		for _, e := range entries {
			require.Equal(b, b.primary(), e.KeyID)
			again := e
			last := before
			if e.Seq == entries[0].Seq {
				last = tokenstore.Head(&entries[1])
			}
			require.NoError(b, b.ring.Seal(e.KeyID, last, &again))
			b.same(e, again)
		}
		b.same(tokenstore.Head(&entries[0]), b.auditHead())
		b.verified(&before)
	})

	s.test("entries without a time get one", func(b *bench) {
		e := Entry()
		e.At = time.Time{}
		require.NoError(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error { tx.Audit(e); return nil }))
		require.False(b, b.auditEntries(tokenstore.AuditQuery{Page: tokenstore.Page{Limit: 1}})[0].At.IsZero())
		b.verified(nil)
	})

	s.test("entries are numbered from 1 without gaps, those of aborted transactions left out", func(b *bench) {
		for n := range 10 {
			err := b.attempt(func(tx *tokenstore.Tx) error {
				a := Account()
				if err := tx.InsertAccount(&a); err != nil {
					return err
				}
				if n%2 == 1 {
					tx.Audit(Entry())
					return errOfTest
				}
				return nil
			})
			require.Equal(b, n%2 == 1, err != nil)
		}
		all := get(b, func(tx *tokenstore.Tx) ([]tokenstore.AuditEntry, error) { return tx.AuditRange(0, 1000) })
		for n, e := range all {
			require.EqualValues(b, n+1, e.Seq)
		}
		require.EqualValues(b, len(all), b.auditHead().Seq)
		b.verified(nil)
	})

	s.test("ranges go upwards from after a number, up to a limit", func(b *bench) {
		for range 5 {
			b.write(func(*tokenstore.Tx) error { return nil })
		}
		head := b.auditHead()
		for _, c := range []struct {
			after int64
			limit int
			first int64
			count int
		}{
			{-1 << 62, 3, 1, 3}, {0, 3, 1, 3}, {1, 3, 2, 3}, {head.Seq - 2, 3, head.Seq - 1, 2}, {head.Seq, 3, 0, 0}, {1 << 62, 3, 0, 0},
		} {
			entries := get(b, func(tx *tokenstore.Tx) ([]tokenstore.AuditEntry, error) { return tx.AuditRange(c.after, c.limit) })
			require.Len(b, entries, c.count)
			for n, e := range entries {
				require.Equal(b, c.first+int64(n), e.Seq)
			}
		}
	})

	s.test("entries are found by account, target, verb and time, alone and together", func(b *bench) {
		var all []tokenstore.AuditEntry
		for n := range 24 {
			e := fullEntry()
			e.AccountID = token.ID(fmt.Sprintf("acc_%d", n%2))
			e.Target = fmt.Sprintf("tok_%d", n%3)
			e.Verb = fmt.Sprintf("token.verb%d", n%4)
			e.At = Now().Add(time.Duration((n*7)%24) * time.Hour) // not in the order of their numbers
			require.NoError(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error { tx.Audit(e); return nil }))
			all = slices.Insert(all, 0, e)
		}
		for name, q := range map[string]tokenstore.AuditQuery{
			"account":         {AccountID: "acc_1"},
			"target":          {Target: "tok_2"},
			"verb":            {Verb: "token.verb3"},
			"nobody":          {Target: "tok_9"},
			"part of a name":  {Target: "tok_"},
			"after":           {After: Now().Add(12*time.Hour + time.Minute), Target: "tok_1"},
			"before":          {Before: Now().Add(12*time.Hour + time.Minute), Target: "tok_1"},
			"to the moment":   {After: Now().Add(5 * time.Hour), Before: Now().Add(8 * time.Hour)},
			"to the next":     {After: Now().Add(5*time.Hour - time.Microsecond), Before: Now().Add(8*time.Hour + time.Microsecond)},
			"a day's middle":  {After: Now().Add(5*time.Hour + time.Minute), Before: Now().Add(18*time.Hour + time.Minute), Verb: "token.verb1"},
			"everything else": {AccountID: "acc_0", Target: "tok_0", Verb: "token.verb0", After: Now().Add(-time.Hour), Before: Now().Add(48 * time.Hour)},
		} {
			var want []tokenstore.AuditEntry
			for _, e := range all {
				if (q.AccountID == "" || e.AccountID == q.AccountID) && (q.Target == "" || e.Target == q.Target) &&
					(q.Verb == "" || e.Verb == q.Verb) && (q.After.IsZero() || e.At.After(q.After)) && (q.Before.IsZero() || e.At.Before(q.Before)) {
					want = append(want, e)
				}
			}
			for _, limit := range []int{1, 5, 200} {
				var got []tokenstore.AuditEntry
				q := q
				for q.Limit = limit; ; {
					var next string
					b.read(func(tx *tokenstore.Tx) error {
						page, n, err := tx.AuditEntries(q)
						require.LessOrEqual(b, len(page), limit)
						for _, e := range page {
							got = append(got, unsealed(e))
						}
						next = n
						return err
					})
					if next == "" {
						break
					}
					q.Cursor = next
				}
				if !q.After.IsZero() || !q.Before.IsZero() {
					// A span of time is listed by time.
					slices.SortStableFunc(want, func(a, b tokenstore.AuditEntry) int { return b.At.Compare(a.At) })
				}
				b.same(want, got, name, " by ", limit)
			}
		}
	})

	s.test("chain holds after many writers at once, and is verified while they write", func(b *bench) {
		var left atomic.Int32
		var wg sync.WaitGroup
		earlier := b.auditHead()
		const writers, each = 8, 20
		left.Store(writers)
		for range writers {
			wg.Go(func() {
				defer left.Add(-1)
				for range each {
					if err := b.store.Write(b.ctx, func(tx *tokenstore.Tx) error {
						tx.Audit(fullEntry())
						tx.Audit(Entry())
						return nil
					}); err != nil {
						b.Errorf("write: %v", err)
						return
					}
				}
			})
		}
		for left.Load() > 0 && !b.Failed() {
			head := b.verified(&earlier).Head
			b.verified(&head)
		}
		wg.Wait()
		report := b.verified(&earlier)
		require.Equal(b, earlier.Seq+writers*each*2, report.Entries)
		require.Equal(b, b.auditHead(), report.Head)
	})

	s.test("chain is walked in pages, and a head that it does not contain is noticed (D20)", func(b *bench) {
		require.NoError(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error {
			for range 1000 {
				tx.Audit(fullEntry())
			}
			return nil
		}))
		report := b.verified(nil)
		require.Greater(b, report.Entries, int64(1000))
		require.Equal(b, report.Head.Seq, report.Entries)

		future := fullEntry()
		require.NoError(b, b.ring.Seal(report.Head.KeyID, report.Head, &future))
		later := tokenstore.Head(&future)
		report, err := tokenstore.VerifyAudit(b.ctx, b.store, b.ring, &later)
		require.NoError(b, err)
		require.Len(b, report.Problems, 1)
		require.Contains(b, report.Problems[0], "cut off")
	})

	s.test("chain is judged by the ring that is held", func(b *bench) {
		b.write(func(*tokenstore.Tx) error { return nil })
		report, err := tokenstore.VerifyAudit(b.ctx, b.store, Ring(b), nil)
		require.NoError(b, err)
		require.Len(b, report.Problems, 1)
		require.Contains(b, report.Problems[0], "nothing vouches")
	})

	s.test("verification ends with the context", func(b *bench) {
		ctx, cancel := context.WithCancel(b.ctx)
		cancel()
		_, err := tokenstore.VerifyAudit(ctx, b.store, b.ring, nil)
		require.ErrorIs(b, err, context.Canceled)
	})
}
