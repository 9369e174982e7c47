package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// bulkPieces is more tokens than an adapter reads at once.
const bulkPieces = 4_500

// clock is the time by which a store judges what has expired: the machine's.
func clock() time.Time { return time.Now().UTC().Truncate(time.Microsecond) } //nolint:forbidigo // expiry has to lie around it

// all reads everything in bulk, by token ID. Records of one token come in a row.
func (b *bench) all() (order []token.ID, records map[tokenstore.Lookup]*tokenstore.Record) {
	b.Helper()
	records = map[tokenstore.Lookup]*tokenstore.Record{}
	require.NoError(b, b.store.(tokenstore.Bulk).All(b.ctx, func(r *tokenstore.Record) error {
		require.NotContains(b, records, r.Lookup, "the same record twice")
		records[r.Lookup] = r
		order = append(order, r.Token.ID)
		return nil
	}))
	return order, records
}

// issueMany stores n tokens of an account in few transactions, oldest first.
func (b *bench) issueMany(account token.ID, n int) []issued {
	b.Helper()
	made := make([]issued, n)
	for i := range made {
		t := Token(account)
		made[i] = issued{token: t, secret: newSecret(b, t.Environment)}
		made[i].record = Secret(t.ID, made[i].secret)
	}
	for some := range slices.Chunk(made, 1000) {
		b.write(func(tx *tokenstore.Tx) error {
			for i := range some {
				m := &some[i]
				err := tx.InsertToken(&m.token)
				if err == nil {
					m.lookup, err = InsertSecret(tx, b.ring, &m.record, m.secret)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return made
}

// anotherSecret stores one more secret of a token.
func (b *bench) anotherSecret(t token.Token, change func(*token.SecretRecord)) tokenstore.Lookup {
	b.Helper()
	secret := newSecret(b, t.Environment)
	record := Secret(t.ID, secret)
	change(&record)
	var l tokenstore.Lookup
	b.write(func(tx *tokenstore.Tx) (err error) {
		again, err := tx.Token(t.ID)
		if err != nil {
			return err
		}
		if err := tx.UpdateToken(&again); err != nil {
			return err
		}
		l, err = InsertSecret(tx, b.ring, &record, secret)
		return err
	})
	return l
}

func bulkTests(s suite) {
	test := func(sentence string, f func(b *bench)) {
		s.test(sentence, func(b *bench) {
			if _, ok := b.store.(tokenstore.Bulk); !ok {
				b.Skip("the store gives no records in bulk")
			}
			f(b)
		})
	}

	test("gives each record as Lookup does", func(b *bench) {
		policy := strictPolicy()
		b.write(func(tx *tokenstore.Tx) error { return tx.PutPolicy(&policy) })
		account := b.account()
		other := b.account(func(a *token.Account) { a.Policy, a.Disabled = policy.Name, true })
		user := b.user(account.ID)
		var want []tokenstore.Lookup
		for range 2 {
			want = append(want,
				b.issue(account.ID, fullToken, func(t *token.Token) { t.ExpiresAt = clock().Add(time.Hour) }).lookup,
				b.issue(account.ID, func(t *token.Token) { t.UserID = user.ID }).lookup,
				b.issue(other.ID, func(t *token.Token) { t.ExpiresAt = clock().Add(time.Hour) }).lookup,
			)
		}
		edited := b.issue(account.ID)
		b.updateToken(edited.token, func(t *token.Token) { t.Name = "renamed" })
		want = append(want, edited.lookup, b.anotherSecret(edited.token, func(s *token.SecretRecord) { s.FirstUsed = Now() }))

		_, got := b.all()
		require.Len(b, got, len(want))
		for _, l := range want {
			b.same(b.lookup(l), got[l])
		}
	})

	test("leaves out what no request can come with", func(b *bench) {
		account := b.account()
		soon, past := clock().Add(time.Hour), clock().Add(-time.Hour)
		for _, state := range []token.State{token.Disabled, token.Revoked, token.Deleted} {
			i := b.issue(account.ID)
			b.updateToken(i.token, func(t *token.Token) { t.State = state })
		}
		b.issue(account.ID, func(t *token.Token) { t.ExpiresAt = past })
		i := b.issue(account.ID)
		b.anotherSecret(i.token, func(s *token.SecretRecord) { s.Status = token.Retired })
		b.anotherSecret(i.token, func(s *token.SecretRecord) { s.Status, s.ExpiresAt = token.Previous, past })
		want := []tokenstore.Lookup{
			i.lookup,
			b.anotherSecret(i.token, func(s *token.SecretRecord) { s.Status, s.ExpiresAt = token.Previous, soon }),
		}
		j := b.issue(account.ID)
		want = append(want, j.lookup, b.anotherSecret(j.token, func(s *token.SecretRecord) { s.Status = token.Previous }))

		_, got := b.all()
		require.Len(b, got, len(want))
		for _, l := range want {
			require.Contains(b, got, l)
		}
	})

	test("gives nothing when there is nothing", func(b *bench) {
		order, _ := b.all()
		require.Empty(b, order)
	})

	test("gives every token once, newest first, however many there are", func(b *bench) {
		accounts := []token.ID{b.account().ID, b.account().ID}
		var want []token.ID
		for i, made := range [][]issued{b.issueMany(accounts[0], bulkPieces), b.issueMany(accounts[1], 3)} {
			for _, m := range made {
				require.Equal(b, accounts[i], m.token.AccountID)
				want = append(want, m.token.ID)
			}
		}
		slices.Reverse(want)
		order, records := b.all()
		b.same(want, order)
		for _, r := range records {
			require.Equal(b, r.Token.AccountID, r.Account.ID)
		}
	})

	test("is one snapshot, of all that was committed before the call", func(b *bench) {
		account := b.account()
		made := b.issueMany(account.ID, bulkPieces)
		oldest := made[0]
		seen := 0
		require.NoError(b, b.store.(tokenstore.Bulk).All(b.ctx, func(r *tokenstore.Record) error {
			if seen++; seen == 1 {
				// The oldest one comes last, long after this.
				b.updateToken(oldest.token, func(t *token.Token) { t.State = token.Revoked })
				b.issue(account.ID)
				b.write(func(tx *tokenstore.Tx) error {
					a, err := tx.Account(account.ID)
					if err != nil {
						return err
					}
					a.Name = "renamed"
					return tx.UpdateAccount(&a)
				})
			}
			require.Equal(b, account.Name, r.Account.Name)
			if r.Token.ID == oldest.token.ID {
				require.Equal(b, token.Active, r.Token.State)
			}
			return nil
		}))
		require.Equal(b, bulkPieces, seen)
		order, records := b.all()
		require.Len(b, order, bulkPieces)
		require.NotContains(b, order, oldest.token.ID)
		for _, r := range records {
			require.Equal(b, "renamed", r.Account.Name)
		}
	})

	test("ends with the error of the function, and leaves the store usable", func(b *bench) {
		made := b.issueMany(b.account().ID, bulkPieces)
		enough := errors.New("enough")
		// More often than a store has connections.
		for n := range 12 {
			seen := 0
			err := b.store.(tokenstore.Bulk).All(b.ctx, func(*tokenstore.Record) error {
				if seen++; seen > n {
					return enough
				}
				return nil
			})
			require.Equal(b, enough, err)
			require.Equal(b, n+1, seen, "called again after the error")
		}
		b.lookup(made[0].lookup)
		b.issue(made[0].token.AccountID)
	})

	test("lets a panic of the function pass, and leaves the store usable", func(b *bench) {
		i := b.issue(b.account().ID)
		for range 12 {
			require.PanicsWithValue(b, "mine", func() {
				_ = b.store.(tokenstore.Bulk).All(b.ctx, func(*tokenstore.Record) error { panic("mine") })
			})
		}
		b.lookup(i.lookup)
		b.token(i.token.ID)
	})

	test("ends with the context", func(b *bench) {
		made := b.issueMany(b.account().ID, bulkPieces)
		ctx, cancel := context.WithCancel(b.ctx)
		defer cancel()
		seen := 0
		err := b.store.(tokenstore.Bulk).All(ctx, func(*tokenstore.Record) error {
			seen++
			cancel()
			return nil
		})
		require.ErrorIs(b, err, context.Canceled)
		require.Less(b, seen, bulkPieces)
		require.ErrorIs(b, b.store.(tokenstore.Bulk).All(ctx, nil), context.Canceled)
		b.lookup(made[0].lookup)
		b.token(made[0].token.ID)
	})

	test("shares owners without mixing them up", func(b *bench) {
		want := map[token.ID][2]string{}
		for n := range 3 {
			account := b.account(func(a *token.Account) { a.Name = fmt.Sprint("account ", n) })
			for m := range 3 {
				user := b.user(account.ID, func(u *token.User) { u.Name = fmt.Sprint("user ", n, m) })
				t := b.issue(account.ID, func(t *token.Token) { t.UserID = user.ID }).token
				want[t.ID] = [2]string{account.Name, user.Name}
			}
			want[b.issue(account.ID).token.ID] = [2]string{account.Name, ""}
		}
		_, records := b.all()
		got := map[token.ID][2]string{}
		for _, r := range records {
			name := ""
			if r.User != nil {
				name = r.User.Name
				require.Equal(b, r.User.Role, r.Role.Name)
			}
			got[r.Token.ID] = [2]string{r.Account.Name, name}
		}
		b.same(want, got)
	})

	test("is refused after Close", func(b *bench) {
		require.NoError(b, b.store.Close())
		require.Error(b, b.store.(tokenstore.Bulk).All(b.ctx, func(*tokenstore.Record) error { return nil }))
	})
}
