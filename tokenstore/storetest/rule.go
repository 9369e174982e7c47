package storetest

import (
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
