package storetest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// ownerTests are about accounts and users.
func ownerTests(s suite) {
	s.test("come back with every field that they were stored with", func(b *bench) {
		policy := strictPolicy()
		b.write(func(tx *tokenstore.Tx) error { return tx.PutPolicy(&policy) })
		a := b.account(func(a *token.Account) {
			a.Name, a.Policy, a.Disabled, a.UpdatedAt = "Türme & Söhne", policy.Name, true, Now().Add(time.Microsecond)
		})
		b.same(a, get(b, func(tx *tokenstore.Tx) (token.Account, error) { return tx.Account(a.ID) }))
		for _, units := range [][]string{nil, {"one"}, {"a, b", `"c"`, "", "d\ne", " ", "[]"}} {
			u := b.user(a.ID, func(u *token.User) {
				u.Role, u.BusinessUnits, u.Disabled, u.UpdatedAt = "owner", units, true, Now().Add(time.Microsecond)
			})
			b.same(u, get(b, func(tx *tokenstore.Tx) (token.User, error) { return tx.User(u.ID) }))
		}
	})

	s.test("take a change of everything that may change", func(b *bench) {
		policy := strictPolicy()
		b.write(func(tx *tokenstore.Tx) error { return tx.PutPolicy(&policy) })
		a := b.account()
		u := b.user(a.ID)
		a.Name, a.Policy, a.Disabled, a.UpdatedAt = "renamed", policy.Name, true, Now().Add(time.Hour)
		u.Name, u.Email, u.Role, u.BusinessUnits = "renamed", "new@example.com", "auditor", []string{"east"}
		u.Disabled, u.UpdatedAt = true, Now().Add(time.Hour)
		b.write(func(tx *tokenstore.Tx) error {
			again, user := a, u
			if err := tx.UpdateAccount(&again); err != nil {
				return err
			}
			return tx.UpdateUser(&user)
		})
		a.Version, u.Version = 2, 2
		b.same(a, get(b, func(tx *tokenstore.Tx) (token.Account, error) { return tx.Account(a.ID) }))
		b.same(u, get(b, func(tx *tokenstore.Tx) (token.User, error) { return tx.User(u.ID) }))
	})

	s.test("name a policy, an account and a role that are there", func(b *bench) {
		account := b.account()
		user := b.user(account.ID)
		before := b.snapshot()
		for name, write := range map[string]func(tx *tokenstore.Tx) error{
			"a new account's policy": func(tx *tokenstore.Tx) error { a := Account(); a.Policy = "none"; return tx.InsertAccount(&a) },
			"an account's policy":    func(tx *tokenstore.Tx) error { a := account; a.Policy = "none"; return tx.UpdateAccount(&a) },
			"a new user's account":   func(tx *tokenstore.Tx) error { u := User(ID("acc")); return tx.InsertUser(&u) },
			"a new user's role":      func(tx *tokenstore.Tx) error { u := User(account.ID); u.Role = "none"; return tx.InsertUser(&u) },
			"a user's role":          func(tx *tokenstore.Tx) error { u := user; u.Role = "none"; return tx.UpdateUser(&u) },
		} {
			require.ErrorIs(b, b.attempt(write), tokenstore.ErrNotFound, name)
		}
		b.same(before, b.snapshot())
	})

	s.test("stay with their account and their creation", func(b *bench) {
		account, other := b.account(), b.account()
		user := b.user(account.ID)
		before := b.snapshot()
		for name, write := range map[string]func(tx *tokenstore.Tx) error{
			"an account's creation": func(tx *tokenstore.Tx) error {
				a := account
				a.CreatedAt = Now().Add(time.Hour)
				return tx.UpdateAccount(&a)
			},
			"a user's account":  func(tx *tokenstore.Tx) error { u := user; u.AccountID = other.ID; return tx.UpdateUser(&u) },
			"a user's creation": func(tx *tokenstore.Tx) error { u := user; u.CreatedAt = Now().Add(time.Hour); return tx.UpdateUser(&u) },
		} {
			require.Error(b, b.attempt(write), name)
		}
		b.same(before, b.snapshot())
	})

	s.test("are listed newest first, users of one account or of all", func(b *bench) {
		one, two := b.account(), b.account()
		first, second, third := b.user(one.ID), b.user(two.ID), b.user(one.ID)
		b.read(func(tx *tokenstore.Tx) error {
			accounts, next, err := tx.Accounts(tokenstore.Page{})
			require.NoError(b, err)
			b.same([]token.Account{two, one}, accounts)
			require.Empty(b, next)
			for account, want := range map[token.ID][]token.User{
				"":        {third, second, first},
				one.ID:    {third, first},
				two.ID:    {second},
				ID("acc"): nil,
			} {
				users, next, err := tx.Users(account, tokenstore.Page{})
				require.NoError(b, err)
				b.same(want, users)
				require.Empty(b, next)
			}
			return nil
		})
	})
}
