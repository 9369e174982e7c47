package authority_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// undeclare declares all that the house declares but one scope.
func undeclare(t testing.TB, h *house, name string) {
	t.Helper()
	d := authority.Declarations{Policies: []token.Policy{liberal()}}
	for _, scope := range testScopes {
		if scope.Name != name {
			d.Scopes = append(d.Scopes, scope)
		}
	}
	require.NoError(t, h.Declare(ctx, system, d))
}

func (h *house) scopes() map[string]bool {
	h.t.Helper()
	scopes, err := h.Scopes(ctx, kim)
	require.NoError(h.t, err)
	managed := map[string]bool{}
	for _, s := range scopes {
		managed[s.Name] = s.ManagedBy != ""
	}
	return managed
}

func (h *house) role(name string) token.Role {
	h.t.Helper()
	roles, err := h.Roles(ctx, kim)
	require.NoError(h.t, err)
	for _, r := range roles {
		if r.Name == name {
			return r
		}
	}
	h.t.Fatalf("no role %s", name)
	return token.Role{}
}

func TestDeclareWritesOnlyDifferences(t *testing.T) {
	h := bare(t)
	policy := liberal()
	d := authority.Declarations{
		Roles:    []token.Role{{Name: "member", Ceiling: token.Grant{Access: token.Custom, Scopes: []string{"payments:write", "payments:read"}}}},
		Policies: []token.Policy{policy},
		Scopes:   testScopes[1:],
	}
	head := h.head()
	require.NoError(t, h.Declare(ctx, system, d))
	entries := h.entries(head)
	var made []string
	for _, e := range entries {
		require.Equal(t, "system caddyfile", e.Actor)
		require.Contains(t, e.After["managed_by"], "sha256:")
		made = append(made, e.Verb+" "+e.Target)
	}
	require.Equal(t, []string{
		"scope.declare payments:read", "scope.declare payments:write", "role.declare member", "policy.declare test",
	}, made)
	require.Equal(t, "read_write", entries[2].Before["access"], "a role that was there is taken over, and the log says what it was")
	require.Equal(t, []string{"payments:read", "payments:write"}, h.role("member").Ceiling.Scopes)

	before := h.world()
	require.NoError(t, h.Declare(ctx, system, d))
	d.Roles[0].Ceiling.Scopes = []string{"payments:read", "payments:write", "payments:read"}
	require.NoError(t, h.Declare(ctx, system, d), "the same in another order")
	require.Empty(t, cmp.Diff(before, h.world()))

	inner := h.Store
	h.Store = &racedStore{Store: inner, races: 1 << 30}
	require.NoError(t, h.Declare(ctx, system, d), "a start that has nothing to write stands in nobody's way")
	h.Store = inner

	head = h.head()
	d.Policies[0].GraceDefault = time.Minute
	require.NoError(t, h.Declare(ctx, system, d))
	entries = h.entries(head)
	require.Len(t, entries, 1)
	require.Equal(t, "policy.declare test", entries[0].Verb+" "+entries[0].Target)
	require.Equal(t, 3600., entries[0].Before["grace_default_seconds"])
	require.Equal(t, 60., entries[0].After["grace_default_seconds"])
	require.Len(t, entries[0].After, 2, "the knob and the hash")
	h.chainHolds()
}

// A role that is declared narrower narrows the tokens of its users at once (O10).
func TestARoleNarrowsTheTokensOfItsUsers(t *testing.T) {
	h := build(t)
	user := h.user("member")
	issued := h.create(func(n *authority.NewToken) { n.UserID = user.ID })
	write := func() string {
		v, err := h.Verify(ctx, kim, authority.Question{Secret: issued.Secret.Reveal(), Method: "POST"})
		require.NoError(t, err)
		return v.Code
	}
	require.Empty(t, write())
	d := authority.Declarations{
		Roles:    []token.Role{{Name: "member", Ceiling: token.Grant{Access: token.ReadOnly}}},
		Policies: []token.Policy{liberal()}, Scopes: testScopes,
	}
	require.NoError(t, h.Declare(ctx, system, d))
	require.Equal(t, "insufficient_scope", write())
}

func TestWhatIsNoLongerDeclaredIsReleased(t *testing.T) {
	h := build(t)
	strict := token.DefaultPolicy()
	strict.RequireAllowList = token.AllowListAlways
	d := authority.Declarations{
		Roles: []token.Role{
			{Name: "auditor", Ceiling: token.Grant{Access: token.Custom, Scopes: []string{"payments:read"}}},
			{Name: "clerk", Ceiling: token.Grant{Access: token.Custom, Scopes: []string{"invoices:read"}}},
		},
		Policies: []token.Policy{liberal(), strict},
		Scopes:   testScopes,
	}
	require.NoError(t, h.Declare(ctx, system, d))
	clerk := h.user("clerk")
	h.create(func(n *authority.NewToken) { n.Access, n.Scopes = token.Custom, []string{"payments:write"} })

	head := h.head()
	require.NoError(t, h.Declare(ctx, system, authority.Declarations{}))

	require.Equal(t, map[string]bool{
		"payments:write": false, // a token lists it
		"invoices:read":  false, // a role that stays lists it
		"payments:read":  false, // the role auditor listed it until now
	}, h.scopes(), "a scope that is still listed stays, and belongs to the store")
	require.Equal(t, token.ReadOnly, h.role("auditor").Ceiling.Access, "a built-in role is what it was")
	require.Empty(t, h.role("auditor").ManagedBy)
	require.Equal(t, []string{"invoices:read"}, h.role("clerk").Ceiling.Scopes, "another stays as it is")
	require.Empty(t, h.role("clerk").ManagedBy)
	policies, err := h.Policies(ctx, kim)
	require.NoError(t, err)
	require.Len(t, policies, 2)
	for _, p := range policies {
		require.Empty(t, p.ManagedBy)
		if p.Name == token.DefaultPolicyName {
			require.Equal(t, token.AllowListWrite, p.RequireAllowList)
		}
	}
	var verbs []string
	for _, e := range h.entries(head) {
		verbs = append(verbs, e.Verb+" "+e.Target)
	}
	require.Equal(t, []string{
		"scope.release invoices:read", "scope.release payments:read", "scope.release payments:write",
		"role.release auditor", "role.release clerk", "policy.release default", "policy.release test",
	}, verbs)
	_, err = h.User(ctx, kim, clerk.ID)
	require.NoError(t, err)

	before := h.world()
	require.NoError(t, h.Declare(ctx, system, authority.Declarations{}))
	require.Empty(t, cmp.Diff(before, h.world()))
}

func TestAScopeNobodyListsGoes(t *testing.T) {
	h := build(t)
	ended := h.create(func(n *authority.NewToken) { n.Access, n.Scopes = token.Custom, []string{"invoices:read"} })
	must(h.RevokeToken(ctx, kim, ended.Token.Token.ID, true))
	head := h.head()
	undeclare(t, h, "invoices:read")
	require.NotContains(t, h.scopes(), "invoices:read")
	entries := h.entries(head)
	require.Len(t, entries, 1)
	require.Equal(t, "scope.remove invoices:read", entries[0].Verb+" "+entries[0].Target)
	require.Equal(t, "read", entries[0].Before["nature"])
	require.Nil(t, entries[0].After)
}

func TestARoleThatIsDeclaredAnewLetsGoOfItsScopes(t *testing.T) {
	h := bare(t)
	clerk := func(scope string) authority.Declarations {
		return authority.Declarations{
			Roles:  []token.Role{{Name: "clerk", Ceiling: token.Grant{Access: token.Custom, Scopes: []string{scope}}}},
			Scopes: []token.Scope{{Name: scope, Nature: token.Read}},
		}
	}
	require.NoError(t, h.Declare(ctx, system, clerk("old")))
	require.NoError(t, h.Declare(ctx, system, clerk("new")))
	require.Equal(t, map[string]bool{"new": true}, h.scopes())
}

// What people made in the store stays theirs.
func TestDeclareLeavesTheStoresOwnRecordsAlone(t *testing.T) {
	h := bare(t)
	own := token.Role{Name: "guest", Ceiling: token.Grant{Access: token.ReadOnly}}
	require.NoError(t, h.Store.Write(ctx, func(tx *tokenstore.Tx) error {
		tx.Audit(tokenstore.AuditEntry{Verb: "test", Actor: kim.Actor})
		member := token.Role{Name: "member", Ceiling: token.Grant{Access: token.ReadOnly}}
		if err := tx.PutRole(&member); err != nil {
			return err
		}
		return tx.PutRole(&own)
	}))
	before := h.world()
	require.NoError(t, h.Declare(ctx, system, authority.Declarations{}))
	require.Empty(t, cmp.Diff(before, h.world()))
}

// A role can not list a scope that only an earlier configuration declared.
func TestARolesScopesAreDeclaredBesideIt(t *testing.T) {
	h := build(t)
	refusal := h.unchanged(authority.ErrInvalidField, func() error {
		return h.Declare(ctx, system, authority.Declarations{
			Roles:    []token.Role{{Name: "clerk", Ceiling: token.Grant{Access: token.Custom, Scopes: []string{"payments:read"}}}},
			Policies: []token.Policy{liberal()},
		})
	})
	require.Equal(t, "role clerk: scopes[0]", refusal.Field)
}

func TestDeclareRefusesWhatCannotHold(t *testing.T) {
	h := bare(t)
	broken := liberal()
	broken.GraceDefault = 8 * 24 * time.Hour
	for name, test := range map[string]struct {
		field string
		d     authority.Declarations
	}{
		"a built-in scope":        {"scope read", authority.Declarations{Scopes: []token.Scope{token.ReadScope}}},
		"a malformed scope":       {"scopes[0]", authority.Declarations{Scopes: []token.Scope{{Name: "a b", Nature: token.Read}}}},
		"a scope without nature":  {"scope a", authority.Declarations{Scopes: []token.Scope{{Name: "a"}}}},
		"a scope twice":           {"scope a", authority.Declarations{Scopes: []token.Scope{{Name: "a", Nature: token.Read}, {Name: "a", Nature: token.Write}}}},
		"a malformed role":        {"roles[0]", authority.Declarations{Roles: []token.Role{{Name: "The Boss"}}}},
		"a role twice":            {"role a", authority.Declarations{Roles: []token.Role{{Name: "a"}, {Name: "a"}}}},
		"a role without access":   {"role a: access", authority.Declarations{Roles: []token.Role{{Name: "a"}}}},
		"a role of unknown scope": {"role a: scopes[0]", authority.Declarations{Roles: []token.Role{{Name: "a", Ceiling: token.Grant{Access: token.Custom, Scopes: []string{"nope"}}}}}},
		"a malformed policy":      {"policies[0]", authority.Declarations{Policies: []token.Policy{{Name: "No"}}}},
		"a policy twice":          {"policy test", authority.Declarations{Policies: []token.Policy{liberal(), liberal()}}},
		"a policy out of bounds":  {"policy test: grace_default", authority.Declarations{Policies: []token.Policy{broken}}},
	} {
		t.Run(name, func(t *testing.T) {
			h.t = t
			refusal := h.unchanged(authority.ErrInvalidField, func() error { return h.Declare(ctx, system, test.d) })
			require.Equal(t, test.field, refusal.Field)
		})
	}
}

// Design 7: of gateways that declare different things, the one that was started last
// wins, and each can tell that there is another.
func TestGatewaysThatDeclareDifferentThingsAreNoticed(t *testing.T) {
	h := bare(t)
	mine := authority.Declarations{Policies: []token.Policy{liberal()}, Scopes: testScopes}
	require.NoError(t, h.Declare(ctx, system, mine))
	others, err := h.DeclaredOtherwise(ctx, system, mine)
	require.NoError(t, err)
	require.Empty(t, others)

	theirs := authority.Declarations{Policies: []token.Policy{liberal()}, Scopes: testScopes[1:]}
	theirs.Policies[0].GraceMax = 48 * time.Hour
	require.NoError(t, h.Declare(ctx, system, theirs))
	others, err = h.DeclaredOtherwise(ctx, system, mine)
	require.NoError(t, err)
	require.Equal(t, []string{"scope " + testScopes[0].Name, "policy test"}, others)
	others, err = h.DeclaredOtherwise(ctx, system, theirs)
	require.NoError(t, err)
	require.Empty(t, others, "what was declared last holds")
}
