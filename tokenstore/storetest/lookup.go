package storetest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// lookup asks the store and demands an answer.
func (b *bench) lookup(l tokenstore.Lookup) *tokenstore.Record {
	b.Helper()
	rec, err := b.store.Lookup(b.ctx, l)
	require.NoError(b, err)
	return rec
}

func (b *bench) policy(name string) token.Policy {
	b.Helper()
	return get(b, func(tx *tokenstore.Tx) (token.Policy, error) { return tx.Policy(name) })
}

func (b *bench) role(name string) token.Role {
	b.Helper()
	return get(b, func(tx *tokenstore.Tx) (token.Role, error) { return tx.Role(name) })
}

// updateToken stores a changed copy of a token, and gives it.
func (b *bench) updateToken(t token.Token, change func(*token.Token)) token.Token {
	b.Helper()
	change(&t)
	b.write(func(tx *tokenstore.Tx) error {
		again := t // f may run more than once
		if err := tx.UpdateToken(&again); err != nil {
			return err
		}
		t = again
		return nil
	})
	return t
}

// updateSecret stores a changed copy of a secret together with its token.
func (b *bench) updateSecret(s token.SecretRecord, change func(*token.SecretRecord)) token.SecretRecord {
	b.Helper()
	change(&s)
	b.write(func(tx *tokenstore.Tx) error {
		t, err := tx.Token(s.TokenID)
		if err != nil {
			return err
		}
		if err := tx.UpdateToken(&t); err != nil {
			return err
		}
		return tx.UpdateSecret(&s)
	})
	return s
}

func lookupTests(s suite) {
	s.test("finds the record of an account's token with all that its decision depends on", func(b *bench) {
		account := b.account()
		i := b.issue(account.ID, fullToken)
		policy := b.policy(account.Policy)
		b.same(&tokenstore.Record{
			Token:   i.token,
			Secret:  i.record,
			Account: &account,
			Policy:  &policy,
			Lookup:  i.lookup,
			KeyID:   b.primary(),
		}, b.lookup(i.lookup))
	})

	s.test("finds the user and the role of a user's token", func(b *bench) {
		account := b.account()
		user := b.user(account.ID)
		i := b.issue(account.ID, func(t *token.Token) { t.UserID = user.ID })
		rec := b.lookup(i.lookup)
		role := b.role(user.Role)
		b.same(&user, rec.User)
		b.same(&role, rec.Role)
		b.same(i.token, rec.Token)
	})

	s.test("finds the policy that the account names", func(b *bench) {
		policy := strictPolicy()
		b.write(func(tx *tokenstore.Tx) error { return tx.PutPolicy(&policy) })
		account := b.account(func(a *token.Account) { a.Policy = policy.Name })
		b.same(&policy, b.lookup(b.issue(account.ID).lookup).Policy)
	})

	s.test("finds nothing under a value that no secret is stored under", func(b *bench) {
		i := b.issue(b.account().ID)
		other := i.lookup
		other[31] ^= 1
		for _, l := range []tokenstore.Lookup{{}, other} {
			rec, err := b.store.Lookup(b.ctx, l)
			require.ErrorIs(b, err, tokenstore.ErrNotFound)
			require.Nil(b, rec)
		}
	})

	for _, state := range []token.State{token.Active, token.Disabled, token.Revoked, token.Deleted} {
		s.test(fmt.Sprintf("finds the secret of a token that is %s", state), func(b *bench) {
			i := b.issue(b.account().ID)
			t := b.updateToken(i.token, func(t *token.Token) {
				t.State, t.EndedAt, t.EndReason = state, Now(), "because"
			})
			b.same(t, b.lookup(i.lookup).Token)
		})
	}

	for _, status := range []token.SecretStatus{token.Current, token.Previous, token.Retired} {
		s.test(fmt.Sprintf("finds a secret that is %s", status), func(b *bench) {
			i := b.issue(b.account().ID)
			secret := b.updateSecret(i.record, func(s *token.SecretRecord) {
				s.Status, s.ExpiresAt, s.RetryUntil = status, Now().Add(time.Hour), Now().Add(time.Minute)
			})
			b.same(secret, b.lookup(i.lookup).Secret)
		})
	}

	s.test("finds a token past its expiry, in the state that is stored", func(b *bench) {
		i := b.issue(b.account().ID, func(t *token.Token) { t.ExpiresAt = Now().Add(-time.Hour) })
		b.same(i.token, b.lookup(i.lookup).Token)
	})

	s.test("sees every change as soon as the write has returned", func(b *bench) {
		policy := strictPolicy()
		role := token.Role{Name: "porter", Ceiling: token.Grant{Access: token.ReadOnly}}
		b.write(func(tx *tokenstore.Tx) error {
			if err := tx.PutPolicy(&policy); err != nil {
				return err
			}
			return tx.PutRole(&role)
		})
		account := b.account(func(a *token.Account) { a.Policy = policy.Name })
		user := b.user(account.ID, func(u *token.User) { u.Role = role.Name })
		i := b.issue(account.ID, func(t *token.Token) { t.UserID = user.ID })
		b.lookup(i.lookup)

		t := b.updateToken(i.token, func(t *token.Token) { t.State = token.Disabled })
		b.same(t, b.lookup(i.lookup).Token, "token")
		secret := b.updateSecret(i.record, func(s *token.SecretRecord) { s.Status = token.Retired })
		b.same(secret, b.lookup(i.lookup).Secret, "secret")

		account.Disabled = true
		b.write(func(tx *tokenstore.Tx) error { a := account; return tx.UpdateAccount(&a) })
		require.True(b, b.lookup(i.lookup).Account.Disabled)
		user.Disabled = true
		b.write(func(tx *tokenstore.Tx) error { u := user; return tx.UpdateUser(&u) })
		require.True(b, b.lookup(i.lookup).User.Disabled)
		role.Ceiling.Access = token.ReadWrite
		b.write(func(tx *tokenstore.Tx) error { return tx.PutRole(&role) })
		b.same(&role, b.lookup(i.lookup).Role, "role")
		policy.MaxLifetime = time.Hour
		b.write(func(tx *tokenstore.Tx) error { return tx.PutPolicy(&policy) })
		b.same(&policy, b.lookup(i.lookup).Policy, "policy")
	})

	s.test("reads one snapshot while a writer changes token, account and secret together", func(b *bench) {
		account := b.account()
		i := b.issue(account.ID)
		name := func(n int) string { return fmt.Sprintf("state %d", n) }
		rename := func(n int) func(tx *tokenstore.Tx) error {
			return audited(func(tx *tokenstore.Tx) error {
				t, err := tx.Token(i.token.ID)
				if err != nil {
					return err
				}
				a, err := tx.Account(account.ID)
				if err != nil {
					return err
				}
				secret := i.record
				secret.RetryUntil = Now().Add(time.Duration(n) * time.Second)
				t.Name, a.Name = name(n), name(n)
				if err := tx.UpdateToken(&t); err != nil {
					return err
				}
				if err := tx.UpdateAccount(&a); err != nil {
					return err
				}
				return tx.UpdateSecret(&secret)
			})
		}
		require.NoError(b, b.store.Write(b.ctx, rename(0)))

		var wg sync.WaitGroup
		done := make(chan struct{})
		wg.Go(func() {
			defer close(done)
			for n := range 100 {
				if err := b.store.Write(b.ctx, rename(n)); err != nil {
					b.Errorf("write: %v", err)
					return
				}
			}
		})
		for range 4 {
			wg.Go(func() {
				for {
					rec, err := b.store.Lookup(b.ctx, i.lookup)
					if err != nil {
						b.Errorf("lookup: %v", err)
						return
					}
					n := int(rec.Secret.RetryUntil.Sub(Now()) / time.Second)
					if rec.Token.Name != name(n) || rec.Account.Name != name(n) {
						b.Errorf("one record shows several states: %q, %q and %q", rec.Token.Name, rec.Account.Name, name(n))
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

	s.test("gives records that a change of the caller's values does not reach", func(b *bench) {
		account := b.account()
		i := b.issue(account.ID, fullToken)
		before := b.lookup(i.lookup)
		i.token.Grant.Scopes[0] = "overwritten"
		require.NotContains(b, before.Token.Grant.Scopes, "overwritten")
		require.NotContains(b, b.lookup(i.lookup).Token.Grant.Scopes, "overwritten")
	})

	s.test("ends with the context", func(b *bench) {
		ctx, cancel := context.WithCancel(b.ctx)
		cancel()
		_, err := b.store.Lookup(ctx, tokenstore.Lookup{1})
		require.ErrorIs(b, err, context.Canceled)
	})
}

// fullToken sets every field that a new token can have.
func fullToken(t *token.Token) {
	allowed, err := token.ParseAllowList([]string{"192.0.2.0/24", "198.51.100.7", "2001:db8::/32"}, false)
	if err != nil {
		panic(err)
	}
	t.Name = "Türwächter 🏰"
	t.Grant = token.Grant{Access: token.Custom, Scopes: []string{"payments:read", "payments:write", "read"}}
	t.AllowList = allowed
	t.Environment = token.Sandbox
	t.UpdatedAt = Now().Add(1 * time.Microsecond)
	t.ExpiresAt = Now().Add(90 * 24 * time.Hour)
	t.LifetimeFrom = Now().Add(2 * time.Microsecond)
	t.FreshOnly = true
}

// strictPolicy differs from the default one in every field.
func strictPolicy() token.Policy {
	return token.Policy{
		Name:             "strict",
		MaxLifetime:      180*24*time.Hour + time.Second,
		RotationModes:    []token.RotationMode{token.RotateNow},
		GraceDefault:     time.Hour,
		GraceMin:         time.Second,
		GraceMax:         2 * time.Hour,
		Editable:         []token.Field{token.FieldAccess, token.FieldScopes, token.FieldExpiresAt},
		RequireAllowList: token.AllowListAlways,
		Confirm:          []string{"rotate"},
		ManagedBy:        "hash of a configuration",
	}
}
