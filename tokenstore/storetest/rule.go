package storetest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// ruleTests are about roles, policies and scopes.
func ruleTests(s suite) {
	s.test("that a new store has are the default policy and four roles", func(b *bench) {
		want := token.DefaultPolicy()
		want.Version = 1
		b.same([]token.Policy{want}, get(b, (*tokenstore.Tx).Policies))
		b.same([]token.Role{
			{Name: "admin", Ceiling: token.Grant{Access: token.ReadWrite}, Version: 1},
			{Name: "auditor", Ceiling: token.Grant{Access: token.ReadOnly}, Version: 1},
			{Name: "member", Ceiling: token.Grant{Access: token.ReadWrite}, Version: 1},
			{Name: "owner", Ceiling: token.Grant{Access: token.ReadWrite}, Version: 1},
		}, get(b, (*tokenstore.Tx).Roles))
		require.Empty(b, get(b, (*tokenstore.Tx).Scopes))
	})

	s.test("come back with every field that they were put with, and are replaced as a whole", func(b *bench) {
		policy := strictPolicy()
		role := token.Role{Name: "porter", Ceiling: token.Grant{Access: token.Custom, Scopes: []string{"a", "b:c"}}, ManagedBy: "hash"}
		b.write(func(tx *tokenstore.Tx) error {
			if err := tx.PutPolicy(&policy); err != nil {
				return err
			}
			return tx.PutRole(&role)
		})
		b.same(policy, b.policy(policy.Name))
		b.same(role, b.role(role.Name))

		policy = token.DefaultPolicy()
		policy.Name = "strict"
		role = token.Role{Name: role.Name, Ceiling: token.Grant{Access: token.ReadOnly}}
		b.write(func(tx *tokenstore.Tx) error {
			if err := tx.PutPolicy(&policy); err != nil {
				return err
			}
			return tx.PutRole(&role)
		})
		policy.Version, role.Version = 2, 2
		b.same(policy, b.policy(policy.Name))
		b.same(role, b.role(role.Name))
	})

	s.test("of users go, and come back with a higher version", func(b *bench) {
		role := token.Role{Name: "porter", Ceiling: token.Grant{Access: token.ReadOnly}}
		b.write(func(tx *tokenstore.Tx) error { return tx.PutRole(&role) })
		account := b.account()
		user := User(account.ID)
		user.Role = "porter"
		b.write(func(tx *tokenstore.Tx) error { return tx.InsertUser(&user) })
		require.ErrorIs(b, b.attempt(func(tx *tokenstore.Tx) error { return tx.DeleteRole("porter") }), tokenstore.ErrConflict)
		require.ErrorIs(b, b.attempt(func(tx *tokenstore.Tx) error { return tx.DeleteRole("nobody") }), tokenstore.ErrNotFound)
		user.Role = "member"
		b.write(func(tx *tokenstore.Tx) error { return tx.UpdateUser(&user) })
		off := role
		off.TokensOff = true
		b.write(func(tx *tokenstore.Tx) error { return tx.SwitchRole(&off) })
		b.write(func(tx *tokenstore.Tx) error { return tx.DeleteRole("porter") })
		require.ErrorIs(b, b.store.Read(b.ctx, func(tx *tokenstore.Tx) error { _, err := tx.Role("porter"); return err }), tokenstore.ErrNotFound)
		require.Len(b, get(b, (*tokenstore.Tx).Roles), 4)
		b.write(func(tx *tokenstore.Tx) error { return tx.PutRole(&role) })
		require.Equal(b, int64(4), role.Version)
		b.same(role, b.role("porter")) // switched on, as every new one
	})

	s.test("switch tokens off and on apart from what they allow", func(b *bench) {
		role := b.role("member")
		role.TokensOff = true
		b.write(func(tx *tokenstore.Tx) error { return tx.SwitchRole(&role) })
		b.same(role, b.role("member"))
		stale := role
		stale.Version--
		require.ErrorIs(b, b.attempt(func(tx *tokenstore.Tx) error { return tx.SwitchRole(&stale) }), tokenstore.ErrConflict)
		put := token.Role{Name: "member", Ceiling: token.Grant{Access: token.ReadOnly}}
		b.write(func(tx *tokenstore.Tx) error { return tx.PutRole(&put) })
		require.True(b, b.role("member").TokensOff, "to allow something else switches nothing on")
		role = b.role("member")
		role.TokensOff, role.EnabledAt = false, Now()
		b.write(func(tx *tokenstore.Tx) error { return tx.SwitchRole(&role) })
		b.same(role, b.role("member"))
	})

	s.test("of one-time codes come back with every field, and change under their version only", func(b *bench) {
		account := b.account()
		user := b.user(account.ID)
		codes := tokenstore.OneTimeCodes{
			UserID: user.ID, KeyID: b.ring.IDs()[0], Secret: []byte("s"), EnrolledAt: Now(), Pending: []byte("p"), PendingAt: Now(),
			LastStep: 7, Recovery: []string{"aa", "bb"}, Failures: 3, Recent: 2, RecentFrom: Now(), Locks: 1, LockedUntil: Now(),
		}
		read := func() (c tokenstore.OneTimeCodes, err error) {
			err = b.store.Read(b.ctx, func(tx *tokenstore.Tx) (err error) { c, err = tx.OneTimeCodes(user.ID); return err })
			return c, err
		}
		_, err := read()
		require.ErrorIs(b, err, tokenstore.ErrNotFound)
		put := func(c *tokenstore.OneTimeCodes) error {
			return b.attempt(func(tx *tokenstore.Tx) error { tx.Audit(Entry()); return tx.PutOneTimeCodes(c) })
		}
		again, unknown := codes, codes
		unknown.KeyID = "k-unknown"
		require.Error(b, put(&unknown))
		require.NoError(b, put(&codes))
		got, err := read()
		require.NoError(b, err)
		b.same(codes, got)
		require.ErrorIs(b, put(&again), tokenstore.ErrConflict)
		stale := codes
		codes.Secret, codes.Recovery, codes.LockedUntil = nil, nil, time.Time{}
		require.NoError(b, put(&codes))
		require.ErrorIs(b, put(&stale), tokenstore.ErrConflict)
		got, err = read()
		require.NoError(b, err)
		require.Empty(b, got.Secret)
		require.Empty(b, got.Recovery)
		require.Equal(b, int64(2), got.Version)
		b.read(func(tx *tokenstore.Tx) error {
			n, err := tx.OneTimeCodesUnderKey(codes.KeyID)
			require.Equal(b, 1, n)
			require.NoError(b, err)
			list, err := tx.ListOneTimeCodesUnderKey(codes.KeyID, "", 10)
			require.Len(b, list, 1)
			return err
		})
		b.write(func(tx *tokenstore.Tx) error { tx.Audit(Entry()); return tx.DeleteOneTimeCodes(user.ID) })
		_, err = read()
		require.ErrorIs(b, err, tokenstore.ErrNotFound)
	})

	s.test("are listed by name", func(b *bench) {
		b.write(func(tx *tokenstore.Tx) error {
			for _, name := range []string{"zeta", "beta_b", "beta-a", "alpha"} {
				p := strictPolicy()
				p.Name = name
				if err := tx.PutPolicy(&p); err != nil {
					return err
				}
				if err := tx.PutScope(declared(name, token.Read)); err != nil {
					return err
				}
			}
			return nil
		})
		var names []string
		for _, p := range get(b, (*tokenstore.Tx).Policies) {
			names = append(names, p.Name)
		}
		require.Equal(b, []string{"alpha", "beta-a", "beta_b", "default", "zeta"}, names)
		names = nil
		for _, s := range get(b, (*tokenstore.Tx).Scopes) {
			names = append(names, s.Name)
		}
		require.Equal(b, []string{"alpha", "beta-a", "beta_b", "zeta"}, names)
	})

	s.test("about scopes are put, replaced and deleted", func(b *bench) {
		b.write(func(tx *tokenstore.Tx) error { return tx.PutScope(declared("gate:open", token.Read)) })
		b.write(func(tx *tokenstore.Tx) error { return tx.PutScope(declared("gate:open", token.Write)) })
		b.same([]tokenstore.DeclaredScope{declared("gate:open", token.Write)}, get(b, (*tokenstore.Tx).Scopes))
		b.write(func(tx *tokenstore.Tx) error { return tx.DeleteScope("gate:open") })
		require.Empty(b, get(b, (*tokenstore.Tx).Scopes))
		require.ErrorIs(b, b.attempt(func(tx *tokenstore.Tx) error { return tx.DeleteScope("gate:open") }), tokenstore.ErrNotFound)
	})

	s.test("about scopes may go while tokens list them, which keep them", func(b *bench) {
		b.write(func(tx *tokenstore.Tx) error { return tx.PutScope(declared("gate:open", token.Write)) })
		i := b.issue(b.account().ID, func(t *token.Token) {
			t.Grant = token.Grant{Access: token.Custom, Scopes: []string{"gate:open"}}
		})
		b.write(func(tx *tokenstore.Tx) error { return tx.DeleteScope("gate:open") })
		b.same(i.token, b.lookup(i.lookup).Token)
		require.Len(b, b.list(tokenstore.TokenQuery{Scope: "gate:open", Now: Now()}), 1)
	})

	s.test("are refused with a value that has no name", func(b *bench) {
		require.Error(b, b.attempt(func(tx *tokenstore.Tx) error { return tx.PutRole(&token.Role{Name: "porter"}) }))
		require.Error(b, b.attempt(func(tx *tokenstore.Tx) error { return tx.PutScope(declared("gate:open", 0)) }))
	})
}
