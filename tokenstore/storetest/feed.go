package storetest

import (
	"context"
	"fmt"
	"math"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// follow reads the feed to its present end.
func (b *bench) follow(after tokenstore.Position) ([]tokenstore.Change, tokenstore.Position) {
	b.Helper()
	var list []tokenstore.Change
	for {
		c, err := b.store.Changes(b.ctx, after)
		require.NoError(b, err)
		require.True(b, c.Complete, "from a position that the store gave")
		if c.At == after {
			require.Empty(b, c.List)
			return list, after
		}
		if after.Epoch != "" {
			require.Greater(b, c.At.Seq, after.Seq)
		}
		list, after = append(list, c.List...), c.At
	}
}

// position is the present end of the feed.
func (b *bench) position() tokenstore.Position {
	b.Helper()
	_, at := b.follow(tokenstore.Position{})
	return at
}

// changes is what one write puts on the feed.
func (b *bench) changes(f func(tx *tokenstore.Tx) error) []tokenstore.Change {
	b.Helper()
	from := b.position()
	b.write(f)
	list, at := b.follow(from)
	require.Equal(b, from.Seq+1, at.Seq, "one write is one step")
	for i := range list {
		require.Equal(b, at.Seq, list[i].Seq)
		list[i].Seq = 0 // what remains can be compared
	}
	return list
}

func feedTests(s suite) {
	s.test("begins at the zero position and goes to the end without gaps", func(b *bench) {
		account := b.account()
		for range 20 {
			b.issue(account.ID)
		}
		list, at := b.follow(tokenstore.Position{})
		require.NotEmpty(b, at.Epoch)
		seen := map[int64]bool{}
		last := int64(0)
		for _, c := range list {
			require.GreaterOrEqual(b, c.Seq, last, "commit order")
			last = c.Seq
			seen[c.Seq] = true
		}
		require.Len(b, seen, int(at.Seq), "every number from 1 to the end")
		require.Equal(b, at.Seq, last)
	})

	s.test("gives the same position when there is nothing new", func(b *bench) {
		b.account()
		at := b.position()
		for range 3 {
			c, err := b.store.Changes(b.ctx, at)
			require.NoError(b, err)
			b.same(tokenstore.Changes{At: at, Complete: true}, c)
		}
	})

	s.test("shows a change as soon as its write has returned", func(b *bench) {
		at := b.position()
		for range 10 {
			a := b.account()
			c, err := b.store.Changes(b.ctx, at)
			require.NoError(b, err)
			b.same([]tokenstore.Change{{Seq: at.Seq + 1, Kind: tokenstore.AccountKind, ID: string(a.ID), Version: 1}}, c.List)
			at = c.At
		}
	})

	s.test("names the record, its kind and its version, for every kind of change", func(b *bench) {
		account := b.account()
		user := b.user(account.ID)
		i := b.issue(account.ID)

		a := account
		b.same([]tokenstore.Change{{Kind: tokenstore.AccountKind, ID: string(a.ID), Version: 2}},
			b.changes(func(tx *tokenstore.Tx) error { return tx.UpdateAccount(&a) }))
		b.same([]tokenstore.Change{{Kind: tokenstore.UserKind, ID: string(user.ID), Version: 2}},
			b.changes(func(tx *tokenstore.Tx) error { u := user; return tx.UpdateUser(&u) }))
		newUser := User(account.ID)
		b.same([]tokenstore.Change{{Kind: tokenstore.UserKind, ID: string(newUser.ID), Version: 1}},
			b.changes(func(tx *tokenstore.Tx) error { u := newUser; return tx.InsertUser(&u) }))
		newToken := Token(account.ID)
		b.same([]tokenstore.Change{{Kind: tokenstore.TokenKind, ID: string(newToken.ID), Version: 1}},
			b.changes(func(tx *tokenstore.Tx) error { t := newToken; return tx.InsertToken(&t) }))
		b.same([]tokenstore.Change{{Kind: tokenstore.TokenKind, ID: string(i.token.ID), Version: 2}},
			b.changes(func(tx *tokenstore.Tx) error { t := i.token; return tx.UpdateToken(&t) }))
		b.same([]tokenstore.Change{{Kind: tokenstore.RoleKind, ID: "porter", Version: 1}},
			b.changes(func(tx *tokenstore.Tx) error {
				return tx.PutRole(&token.Role{Name: "porter", Ceiling: token.Grant{Access: token.ReadOnly}})
			}))
		b.same([]tokenstore.Change{{Kind: tokenstore.PolicyKind, ID: "strict", Version: 1}},
			b.changes(func(tx *tokenstore.Tx) error { p := strictPolicy(); return tx.PutPolicy(&p) }))

		// Scopes and master keys have no version of their own.
		for _, c := range []struct {
			kind   tokenstore.Kind
			id     string
			change func(tx *tokenstore.Tx) error
		}{
			{tokenstore.ScopeKind, "gate:open", func(tx *tokenstore.Tx) error { return tx.PutScope(declared("gate:open", token.Read)) }},
			{tokenstore.ScopeKind, "gate:open", func(tx *tokenstore.Tx) error { return tx.DeleteScope("gate:open") }},
			{tokenstore.MasterKeyKind, "k-other", func(tx *tokenstore.Tx) error { return tx.PutMasterKey(masterKey("k-other")) }},
			{tokenstore.MasterKeyKind, "k-other", func(tx *tokenstore.Tx) error { return tx.DeleteMasterKey("k-other") }},
		} {
			list := b.changes(c.change)
			require.Len(b, list, 1)
			require.Equal(b, c.kind, list[0].Kind)
			require.Equal(b, c.id, list[0].ID)
		}
	})

	s.test("names secrets with the version of their token", func(b *bench) {
		i := b.issue(b.account().ID)
		secret := newSecret(b, token.Production)
		record := Secret(i.token.ID, secret)
		list := b.changes(func(tx *tokenstore.Tx) error {
			t, old := i.token, i.record
			if err := tx.UpdateToken(&t); err != nil {
				return err
			}
			old.Status = token.Previous
			if err := tx.UpdateSecret(&old); err != nil {
				return err
			}
			_, err := InsertSecret(tx, b.ring, &record, secret)
			return err
		})
		require.ElementsMatch(b, []tokenstore.Change{
			{Kind: tokenstore.TokenKind, ID: string(i.token.ID), Version: 2},
			{Kind: tokenstore.SecretKind, ID: string(i.record.ID), Version: 2},
			{Kind: tokenstore.SecretKind, ID: string(record.ID), Version: 2},
		}, list)
	})

	s.test("marks what must not come back to life as final, and nothing else", func(b *bench) {
		final := func(list []tokenstore.Change, kind tokenstore.Kind) bool {
			for _, c := range list {
				if c.Kind == kind {
					return c.Final
				}
			}
			b.Fatalf("no change of kind %d in %v", kind, list)
			return false
		}
		account := b.account()
		for state, want := range map[token.State]bool{
			token.Active: false, token.Disabled: false, token.Revoked: true, token.Deleted: true,
		} {
			i := b.issue(account.ID)
			i.token.State = state
			list := b.changes(func(tx *tokenstore.Tx) error { t := i.token; return tx.UpdateToken(&t) })
			require.Equal(b, want, final(list, tokenstore.TokenKind), state)
		}
		for status, want := range map[token.SecretStatus]bool{
			token.Current: false, token.Previous: false, token.Retired: true,
		} {
			i := b.issue(account.ID)
			i.record.Status = status
			list := b.changes(func(tx *tokenstore.Tx) error {
				t := i.token
				if err := tx.UpdateToken(&t); err != nil {
					return err
				}
				return tx.UpdateSecret(&i.record)
			})
			require.Equal(b, want, final(list, tokenstore.SecretKind), status)
		}
	})

	s.test("tells of a record once a transaction, with its last version", func(b *bench) {
		account := b.account()
		list := b.changes(func(tx *tokenstore.Tx) error {
			t := Token(account.ID)
			if err := tx.InsertToken(&t); err != nil {
				return err
			}
			for range 3 {
				if err := tx.UpdateToken(&t); err != nil {
					return err
				}
			}
			return nil
		})
		require.Len(b, list, 1)
		require.EqualValues(b, 4, list[0].Version)
	})

	s.test("keeps final what became so earlier in the same transaction", func(b *bench) {
		i := b.issue(b.account().ID)
		list := b.changes(func(tx *tokenstore.Tx) error {
			t := i.token
			for _, state := range []token.State{token.Revoked, token.Active} {
				t.State = state
				if err := tx.UpdateToken(&t); err != nil {
					return err
				}
			}
			return nil
		})
		require.True(b, list[0].Final)
	})

	s.test("never gives half of a transaction, however much it changed", func(b *bench) {
		const many = 12_000 // more than one answer may hold
		from := b.position()
		b.write(func(tx *tokenstore.Tx) error {
			for n := range many {
				if err := tx.PutScope(declared(fmt.Sprintf("scope:%d", n), token.Read)); err != nil {
					return err
				}
			}
			return nil
		})
		b.account()
		counts := map[int64]int{}
		for at := from; ; {
			c, err := b.store.Changes(b.ctx, at)
			require.NoError(b, err)
			if c.At == at {
				break
			}
			for _, change := range c.List {
				require.Greater(b, change.Seq, at.Seq, "nothing of a step that an earlier answer ended with")
				require.LessOrEqual(b, change.Seq, c.At.Seq)
				counts[change.Seq]++
			}
			at = c.At
		}
		require.Equal(b, map[int64]int{from.Seq + 1: many, from.Seq + 2: 1}, counts)
	})

	s.test("does not move for what was not committed, nor for what is no change", func(b *bench) {
		i := b.issue(b.account().ID)
		at := b.position()
		_ = b.store.Write(b.ctx, audited(func(tx *tokenstore.Tx) error {
			t := i.token
			if err := tx.UpdateToken(&t); err != nil {
				return err
			}
			return errOfTest
		}))
		require.NoError(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error { return tx.MarkUsed(i.record.ID, Now()) }))
		require.Equal(b, at, b.position())
	})

	s.test("is not complete after a position of another epoch, or ahead of the store", func(b *bench) {
		b.account()
		now := b.position()
		for name, after := range map[string]tokenstore.Position{
			"another epoch":            {Epoch: "another", Seq: now.Seq},
			"the start of another":     {Epoch: "another"},
			"no epoch":                 {Seq: now.Seq},
			"ahead by one":             {Epoch: now.Epoch, Seq: now.Seq + 1},
			"as far ahead as can be":   {Epoch: now.Epoch, Seq: math.MaxInt64},
			"another epoch, and ahead": {Epoch: "another", Seq: now.Seq + 1},
		} {
			c, err := b.store.Changes(b.ctx, after)
			require.NoError(b, err, name)
			require.False(b, c.Complete, name)
			require.Equal(b, now, c.At, name)
		}
		// From what it said one goes on.
		a := b.account()
		list, _ := b.follow(now)
		b.same([]tokenstore.Change{{Seq: now.Seq + 1, Kind: tokenstore.AccountKind, ID: string(a.ID), Version: 1}}, list)
	})

	s.test("shows every change once, in the order of the commits, to one who follows while others write", func(b *bench) {
		const writers, each = 8, 25
		account := b.account()
		from := b.position()
		tokens := make([]issued, writers)
		for n := range tokens {
			tokens[n] = b.issue(account.ID)
		}
		start := b.position()

		var wg sync.WaitGroup
		for n := range tokens {
			wg.Go(func() {
				for range each {
					err := b.store.Write(b.ctx, audited(func(tx *tokenstore.Tx) error {
						t, err := tx.Token(tokens[n].token.ID)
						if err != nil {
							return err
						}
						return tx.UpdateToken(&t)
					}))
					if err != nil {
						b.Errorf("writer %d: %v", n, err)
						return
					}
				}
			})
		}
		// The follower polls until it has seen all; an answer without news ends soon.
		var list []tokenstore.Change
		for at := start; at.Seq < start.Seq+writers*each && !b.Failed(); {
			c, err := b.store.Changes(b.ctx, at)
			require.NoError(b, err)
			require.True(b, c.Complete)
			list, at = append(list, c.List...), c.At
		}
		wg.Wait()

		require.Len(b, list, writers*each)
		versions := map[string]int64{}
		for n, c := range list {
			require.Equal(b, start.Seq+int64(n)+1, c.Seq)
			if versions[c.ID] == 0 {
				versions[c.ID] = 1
			}
			require.Equal(b, versions[c.ID]+1, c.Version, "the versions of a record in order")
			versions[c.ID] = c.Version
		}
		again, _ := b.follow(start)
		b.same(list, again, "later answers are the same")
		all, _ := b.follow(from)
		require.Greater(b, len(all), len(list))
	})

	s.test("is never behind what a reader has seen", func(b *bench) {
		// A cache that reads a record and then the feed must not miss the change
		// that came in between.
		i := b.issue(b.account().ID)
		start := b.position()
		done := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			defer close(done)
			for range 100 {
				err := b.store.Write(b.ctx, audited(func(tx *tokenstore.Tx) error {
					t, err := tx.Token(i.token.ID)
					if err != nil {
						return err
					}
					return tx.UpdateToken(&t)
				}))
				if err != nil {
					b.Errorf("write: %v", err)
					return
				}
			}
		})
		for range 2 {
			wg.Go(func() {
				at, told := start, i.token.Version
				for {
					rec, err := b.store.Lookup(b.ctx, i.lookup)
					if err != nil {
						b.Errorf("lookup: %v", err)
						return
					}
					c, err := b.store.Changes(b.ctx, at)
					if err != nil {
						b.Errorf("changes: %v", err)
						return
					}
					for _, change := range c.List {
						told = change.Version
					}
					at = c.At
					if rec.Token.Version > told {
						b.Errorf("a lookup shows version %d and the feed, read after it, only %d", rec.Token.Version, told)
						return
					}
					select {
					case <-done:
						return
					default:
					}
				}
			})
		}
		wg.Wait()
	})

	s.test("ends with the context", func(b *bench) {
		ctx, cancel := context.WithDeadline(b.ctx, Now().AddDate(-20, 0, 0))
		defer cancel()
		_, err := b.store.Changes(ctx, tokenstore.Position{})
		require.ErrorIs(b, err, context.DeadlineExceeded)
	})
}
