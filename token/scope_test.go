package token_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
)

func TestAScopesNameIsATokenOfVisibleASCII(t *testing.T) {
	for _, name := range []string{"a", "payments:write", "urn:x:y/z?a=b#c", "!#$%&'()*+,-./:;<=>?@[]^_`{|}~", strings.Repeat("a", token.MaxScopeLength)} {
		require.NoError(t, token.CheckScopeName(name), name)
	}
	for _, name := range []string{"", " ", "a b", `a"b`, `a\b`, "a\tb", "a\x00", "a\x7f", "é", strings.Repeat("a", token.MaxScopeLength+1)} {
		err := token.CheckScopeName(name)
		require.Error(t, err, name)
		if len(name) > 2 {
			require.NotContains(t, err.Error(), name)
		}
	}
}

func TestBuiltInScopesAreReadAndWrite(t *testing.T) {
	for name, want := range map[string]token.Scope{"read": token.ReadScope, "write": token.WriteScope} {
		got, ok := token.BuiltInScope(name)
		require.True(t, ok)
		require.Equal(t, want, got)
		require.NoError(t, token.CheckScopeName(name))
	}
	for _, name := range []string{"", "Read", "reads", "payments:read"} {
		_, ok := token.BuiltInScope(name)
		require.False(t, ok)
	}
}

func TestAGrantHoldsWhatItsLevelSays(t *testing.T) {
	scopes := []token.Scope{token.ReadScope, token.WriteScope, {Name: "a", Nature: token.Read}, {Name: "B", Nature: token.Write}}
	for name, tt := range map[string]struct {
		grant token.Grant
		holds []string
	}{
		"nothing":       {token.Grant{}, nil},
		"unknown level": {token.Grant{Access: 9, Scopes: []string{"a"}}, nil},
		"read only":     {token.Grant{Access: token.ReadOnly}, []string{"read", "a"}},
		"read write":    {token.Grant{Access: token.ReadWrite}, []string{"read", "write", "a", "B"}},
		"custom":        {token.Grant{Access: token.Custom, Scopes: []string{"B", "read"}}, []string{"read", "B"}},
		"empty custom":  {token.Grant{Access: token.Custom}, nil},
		"read only with scopes that mean nothing": {token.Grant{Access: token.ReadOnly, Scopes: []string{"B"}}, []string{"read", "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, s := range scopes {
				require.Equal(t, slices.Contains(tt.holds, s.Name), tt.grant.Holds(s), s.Name)
			}
			require.Equal(t, slices.Contains(tt.holds, token.WriteScope.Name), tt.grant.Holds(token.Scope{Name: "write", Nature: token.Write}))
		})
	}
}

func TestANewGrantIsOrderedAndNamesOnlyDeclaredScopes(t *testing.T) {
	grant, err := token.NewGrant(token.Custom, []string{"write", "B", "a", "B"}, known)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(token.Grant{Access: token.Custom, Scopes: []string{"B", "a", "write"}}, grant))
	for _, access := range []token.Access{token.ReadOnly, token.ReadWrite} {
		grant, err = token.NewGrant(access, nil, known)
		require.NoError(t, err)
		require.Equal(t, token.Grant{Access: access}, grant)
	}
	many := func(n int) []string {
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprint("s", i)
		}
		return names
	}
	every := func(name string) (token.Scope, bool) { return token.Scope{Name: name, Nature: token.Read}, true }
	grant, err = token.NewGrant(token.Custom, append(many(token.MaxScopes), many(token.MaxScopes)...), every)
	require.NoError(t, err)
	require.Len(t, grant.Scopes, token.MaxScopes)

	for name, tt := range map[string]struct {
		access token.Access
		scopes []string
		known  func(string) (token.Scope, bool)
		field  string
		say    string
	}{
		"no level":                   {0, nil, known, "access", "must be read_only"},
		"no such level":              {4, nil, known, "access", "must be read_only"},
		"scopes on read only":        {token.ReadOnly, []string{"a"}, known, "scopes", "set access to custom"},
		"scopes on read and write":   {token.ReadWrite, []string{"a"}, known, "scopes", "leave scopes out"},
		"custom without scopes":      {token.Custom, nil, known, "scopes", "at least one"},
		"a scope that nobody knows":  {token.Custom, []string{"a", "s3cr3t"}, known, "scopes[1]", "not declared"},
		"a scope where none is":      {token.Custom, []string{"a"}, nil, "scopes[0]", "not declared"},
		"more scopes than a limit":   {token.Custom, many(token.MaxScopes + 1), every, "scopes", "200"},
		"a built-in one, misspelled": {token.Custom, []string{"Read"}, known, "scopes[0]", "not declared"},
	} {
		t.Run(name, func(t *testing.T) {
			grant, err := token.NewGrant(tt.access, tt.scopes, tt.known)
			var field *token.FieldError
			require.True(t, errors.As(err, &field))
			require.Equal(t, tt.field, field.Field)
			require.Contains(t, field.Problem, tt.say)
			require.NotContains(t, err.Error(), "s3cr3t")
			require.Equal(t, token.Grant{}, grant)
		})
	}
}

func TestAGrantWritesUnlessEverythingInItReads(t *testing.T) {
	custom := func(scopes ...string) token.Grant { return token.Grant{Access: token.Custom, Scopes: scopes} }
	for name, tt := range map[string]struct {
		grant token.Grant
		want  bool
	}{
		"read only":                    {token.Grant{Access: token.ReadOnly}, false},
		"read and write":               {token.Grant{Access: token.ReadWrite}, true},
		"no level":                     {token.Grant{}, true},
		"custom that reads":            {custom("a", "read"), false},
		"custom with one that writes":  {custom("B", "a"), true},
		"custom with write":            {custom("a", "write"), true},
		"custom with one undeclared":   {custom("a", "gone"), true},
		"custom that lists no scope":   {custom(), false},
		"a declaration cannot redo it": {custom("write"), true},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, tt.want, tt.grant.Writes(known)) })
	}
	grant := custom("a")
	require.True(t, grant.Writes(func(name string) (token.Scope, bool) { return token.Scope{Name: name}, true }), "no nature is not the nature read")
	relabelled := func(name string) (token.Scope, bool) { return token.Scope{Name: name, Nature: token.Read}, true }
	grant = custom("write")
	require.True(t, grant.Writes(relabelled))
}
