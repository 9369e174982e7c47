package token_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
)

func unitFacts() (*token.Token, *token.Facts) {
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	t := &token.Token{
		ID: "tok_1", AccountID: "acc_1", UserID: "usr_1", Grant: token.Grant{Access: token.ReadOnly},
		Environment: token.Production, State: token.Active, CreatedAt: now, LifetimeFrom: now,
	}
	f := &token.Facts{
		Secret:   &token.SecretRecord{TokenID: "tok_1", Status: token.Current},
		Account:  &token.Account{ID: "acc_1", Policy: "default"},
		Policy:   &token.Policy{Name: "default"},
		User:     &token.User{ID: "usr_1", AccountID: "acc_1", Role: "member", BusinessUnits: []string{"north", "south"}},
		Role:     &token.Role{Name: "member", Ceiling: token.Grant{Access: token.ReadWrite}},
		Required: token.ReadScope,
	}
	return t, f
}

// O10: an operation that is bound to business units is open to the tokens of the
// users who work for one of them, as they are now, and costs no memory to decide.
func TestAnOperationCanBeBoundToBusinessUnits(t *testing.T) {
	tok, f := unitFacts()
	now := time.Date(2027, 1, 2, 0, 0, 0, 0, time.UTC)
	decide := func() token.Reason {
		reason, err := token.Decide(tok, f, now)
		require.NoError(t, err)
		return reason
	}
	require.Equal(t, token.Allowed, decide())
	f.Units = []string{"east", "south"}
	require.Equal(t, token.Allowed, decide())
	f.Units = []string{"east"}
	require.Equal(t, token.OtherBusinessUnit, decide())
	require.Equal(t, "insufficient_scope", decide().Code())
	require.True(t, decide().Authenticated(), "it keeps the token alive, as a missing scope does (M7)")
	require.False(t, decide().Unauthenticated())
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = token.Decide(tok, f, now) }))
	f.Units, f.User.BusinessUnits = []string{"north"}, nil
	require.Equal(t, token.OtherBusinessUnit, decide(), "live: the user left")
	tok.UserID, f.User, f.Role = "", nil, nil
	require.Equal(t, token.OtherBusinessUnit, decide(), "a token of the account works for none")
}

// O11, O12: with the option off, tokens stop as those of a disabled account or user
// do, under reasons of their own.
func TestTheTokenOptionStopsTokens(t *testing.T) {
	now := time.Date(2027, 1, 2, 0, 0, 0, 0, time.UTC)
	for reason, change := range map[token.Reason]func(*token.Facts){
		token.AccountTokensOff: func(f *token.Facts) { f.Account.TokensOff = true },
		token.UserTokensOff:    func(f *token.Facts) { f.User.TokensOff = true },
	} {
		tok, f := unitFacts()
		change(f)
		got, err := token.Decide(tok, f, now)
		require.NoError(t, err)
		require.Equal(t, reason, got)
		require.False(t, got.Authenticated())
	}
	tok, f := unitFacts()
	f.Role.TokensOff = true
	got, err := token.Decide(tok, f, now)
	require.NoError(t, err)
	require.Equal(t, token.UserTokensOff, got)
	require.Equal(t, "user_disabled", got.Code())
	require.Equal(t, "account_disabled", token.AccountTokensOff.Code())
}

func TestUnitsOfRequireLines(t *testing.T) {
	routes, err := token.NewRoutes([]token.Requirement{
		{Scope: "read", Path: "/north/*", Units: []string{"south", "north", "north"}},
		{Scope: "read", Path: "/*"},
	}, nil)
	require.NoError(t, err)
	scope, units := routes.Needs("GET", "/north/1", false)
	require.Equal(t, token.ReadScope, scope)
	require.Equal(t, []string{"north", "south"}, units)
	_, units = routes.Needs("GET", "/else", false)
	require.Empty(t, units)
	require.Zero(t, testing.AllocsPerRun(100, func() { routes.Needs("GET", "/north/1", false) }))

	_, err = token.NewRoutes([]token.Requirement{
		{Scope: "read", Path: "/a/{x}", Units: []string{"north"}}, {Scope: "read", Path: "/a/{y}"},
	}, nil)
	require.ErrorContains(t, err, "different business units")
	for _, bad := range []string{"", "a b", "a,b", `a"b`, strings.Repeat("x", 65), "ü", "a\n"} {
		_, err := token.NewRoutes([]token.Requirement{{Scope: "read", Path: "/", Units: []string{bad}}}, nil)
		require.ErrorContains(t, err, "business_units[0]")
		if len(bad) > 3 {
			require.NotContains(t, err.Error(), bad)
		}
	}
}

// D1: management scopes are held by naming them only.
func TestManagementScopesAreHeldByName(t *testing.T) {
	for _, s := range token.ManagementScopes() {
		for _, access := range []token.Access{token.ReadOnly, token.ReadWrite} {
			g := token.Grant{Access: access}
			require.False(t, g.Manages(s))
		}
		g, err := token.NewGrant(token.Custom, []string{s.Name, "read"}, nil)
		require.NoError(t, err)
		require.True(t, g.Manages(s))
		require.Equal(t, []string{s.Name}, g.Management())
		require.False(t, g.Manages(token.ReadScope))
	}
}

func TestAGrantCoversAnother(t *testing.T) {
	known := func(name string) (token.Scope, bool) {
		s, ok := map[string]token.Scope{"a:read": {Name: "a:read", Nature: token.Read}, "a:write": {Name: "a:write", Nature: token.Write}}[name]
		return s, ok
	}
	custom := func(names ...string) token.Grant { return token.Grant{Access: token.Custom, Scopes: names} }
	all, reads, none := token.Grant{Access: token.ReadWrite}, token.Grant{Access: token.ReadOnly}, token.Grant{}
	for i, c := range []struct {
		g, other token.Grant
		want     bool
	}{
		{all, all, true},
		{all, reads, true},
		{reads, all, false},
		{reads, reads, true},
		{custom("a:read"), reads, false},
		{custom("a:read", "a:write"), all, false},
		{reads, custom("a:read"), true},
		{reads, custom("a:write"), false},
		{reads, custom("gone"), false},
		{all, custom("gone"), true},
		{custom("a:read", "a:write"), custom("a:read"), true},
		{custom("a:read"), custom("a:read", "a:write"), false},
		{reads, custom(token.ManageTokensWrite.Name), true}, // who may give those is another question
		{all, none, false},
		{none, reads, false},
	} {
		require.Equal(t, c.want, c.g.Covers(&c.other, known), "case %d", i)
	}
}
