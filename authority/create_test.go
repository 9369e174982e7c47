package authority_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
)

func TestCreateIssuesATokenThatWorks(t *testing.T) {
	h := build(t)
	head := h.head()
	expires := h.clock.Now().Add(90*24*time.Hour + 7*time.Nanosecond)
	issued := h.create(func(n *authority.NewToken) {
		n.Name = "cafe\u0301" // decomposed: stored in normal form C (D15)
		n.Access, n.Scopes = token.Custom, []string{"payments:write", "invoices:read", "payments:write"}
		n.AllowList = []string{"192.0.2.7", "2001:db8::/32"}
		n.ExpiresAt = expires
		n.FreshOnly = true
	})

	now := h.clock.Now().Truncate(time.Microsecond)
	want := token.Token{
		ID: issued.Token.Token.ID, Name: "caf\u00e9", AccountID: h.account.ID,
		Grant:       token.Grant{Access: token.Custom, Scopes: []string{"invoices:read", "payments:write"}},
		Environment: token.Production, State: token.Active, FreshOnly: true,
		CreatedAt: now, UpdatedAt: now, LifetimeFrom: now,
		ExpiresAt: expires.Truncate(time.Microsecond), Version: 1,
	}
	list, err := token.ParseAllowList([]string{"192.0.2.7", "2001:db8::/32"}, false)
	require.NoError(t, err)
	want.AllowList = list
	require.Empty(t, cmp.Diff(want, issued.Token.Token))
	require.Empty(t, cmp.Diff(issued.Token, h.show(want.ID)), "what is answered is what is stored")
	require.Equal(t, token.Active, issued.Token.State)
	require.Nil(t, issued.Token.Previous)
	require.False(t, issued.Replayed)
	require.Equal(t, issued.Secret.Last4(), issued.Token.Current.Last4)
	require.True(t, strings.HasPrefix(issued.Secret.Reveal(), "sp_live_"))

	v, err := h.Verify(ctx, kim, authority.Question{Secret: issued.Secret.Reveal(), Address: netip.MustParseAddr("192.0.2.7")})
	require.NoError(t, err)
	require.True(t, v.Valid)

	h.told(head, entry{
		Verb: "token.create", Target: string(want.ID),
		After: map[string]any{
			"name": "caf\u00e9", "account_id": string(h.account.ID), "user_id": "",
			"access": "custom", "scopes": []any{"invoices:read", "payments:write"},
			"ip_allowlist": []any{"192.0.2.7", "2001:db8::/32"},
			"environment":  "production", "state": "active",
			"expires_at": want.ExpiresAt.Format(time.RFC3339Nano), "fresh_only": true,
			"secret_id": string(issued.Token.Current.ID), "last4": issued.Secret.Last4(),
		},
	})
}

// R1: production and sandbox are apart from the first character on.
func TestASandboxTokenSaysSo(t *testing.T) {
	h := build(t)
	issued := h.create(func(n *authority.NewToken) { n.Environment = token.Sandbox })
	require.Equal(t, token.Sandbox, issued.Token.Token.Environment)
	require.True(t, strings.HasPrefix(issued.Secret.Reveal(), "sp_test_"))
}

// M16: three kinds, and scopes belong to custom ones alone. The rest are the
// limits of every field.
func TestCreateRefusesWhatIsNotWellFormed(t *testing.T) {
	h := build(t)
	other, err := h.CreateAccount(ctx, kim, authority.NewAccount{Name: "Other"})
	require.NoError(t, err)
	stranger, err := h.CreateUser(ctx, kim, authority.NewUser{AccountID: other.ID, Name: "Eve", Role: "owner"})
	require.NoError(t, err)
	now := h.clock.Now()

	for name, test := range map[string]struct {
		field string
		with  func(*authority.NewToken)
	}{
		"no name":                   {"name", func(n *authority.NewToken) { n.Name = "" }},
		"a name that hides (D15)":   {"name", func(n *authority.NewToken) { n.Name = "pay\u202eroll" }},
		"a name too long (D15)":     {"name", func(n *authority.NewToken) { n.Name = strings.Repeat("x", 101) }},
		"a name of a megabyte":      {"name", func(n *authority.NewToken) { n.Name = strings.Repeat("e\u0301", 1<<19) }},
		"a NUL in the name (D15)":   {"name", func(n *authority.NewToken) { n.Name = "a\x00b" }},
		"invalid UTF-8 (D15)":       {"name", func(n *authority.NewToken) { n.Name = "a\xffb" }},
		"no account":                {"account_id", func(n *authority.NewToken) { n.AccountID = "" }},
		"an unknown account":        {"account_id", func(n *authority.NewToken) { n.AccountID = "acc_00000000000000000000000000" }},
		"an account of bytes":       {"account_id", func(n *authority.NewToken) { n.AccountID = "acc_\x00" }},
		"an unknown user":           {"user_id", func(n *authority.NewToken) { n.UserID = "usr_00000000000000000000000000" }},
		"another account's user":    {"user_id", func(n *authority.NewToken) { n.UserID = stranger.ID }},
		"no access level":           {"access", func(n *authority.NewToken) { n.Access = 0 }},
		"scopes without custom":     {"scopes", func(n *authority.NewToken) { n.Scopes = []string{"payments:read"} }},
		"custom without scopes":     {"scopes", func(n *authority.NewToken) { n.Access = token.Custom }},
		"a scope nobody declared":   {"scopes[1]", func(n *authority.NewToken) { n.Access, n.Scopes = token.Custom, []string{"read", "nope"} }},
		"a malformed range":         {"ip_allowlist[0]", func(n *authority.NewToken) { n.AllowList = []string{"10.0.0.1/8"} }},
		"/0 without saying so":      {"ip_allowlist[0]", func(n *authority.NewToken) { n.AllowList = []string{"0.0.0.0/0"} }},
		"an unknown environment":    {"environment", func(n *authority.NewToken) { n.Environment = 7 }},
		"an expiry in the past":     {"expires_at", func(n *authority.NewToken) { n.ExpiresAt = now.Add(-time.Second) }},
		"an expiry right now":       {"expires_at", func(n *authority.NewToken) { n.ExpiresAt = now }},
		"an expiry within the tick": {"expires_at", func(n *authority.NewToken) { n.ExpiresAt = now.Truncate(time.Microsecond).Add(999) }},
		"an expiry in year 10000":   {"expires_at", func(n *authority.NewToken) { n.ExpiresAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }},
	} {
		t.Run(name, func(t *testing.T) {
			h.t = t
			refusal := h.unchanged(authority.ErrInvalidField, func() error {
				_, err := h.CreateToken(ctx, kim, h.newToken(test.with))
				return err
			})
			require.Equal(t, test.field, refusal.Field)
		})
	}
}

// A refusal never repeats what was sent: any field may hold a secret put there by
// mistake.
func TestRefusalsRepeatNothing(t *testing.T) {
	h := build(t)
	const marker = "hunter2-hunter2"
	bad := marker + "\x00"
	for name, f := range map[string]func() error{
		"name": func() error {
			_, err := h.CreateToken(ctx, kim, h.newToken(func(n *authority.NewToken) { n.Name = bad }))
			return err
		},
		"account": func() error {
			_, err := h.CreateToken(ctx, kim, h.newToken(func(n *authority.NewToken) { n.AccountID = marker }))
			return err
		},
		"user": func() error {
			_, err := h.CreateToken(ctx, kim, h.newToken(func(n *authority.NewToken) { n.UserID = marker }))
			return err
		},
		"scope": func() error {
			_, err := h.CreateToken(ctx, kim, h.newToken(func(n *authority.NewToken) { n.Access, n.Scopes = token.Custom, []string{marker} }))
			return err
		},
		"range": func() error {
			_, err := h.CreateToken(ctx, kim, h.newToken(func(n *authority.NewToken) { n.AllowList = []string{marker} }))
			return err
		},
		"retry key": func() error { _, err := h.CreateToken(ctx, retrying(marker+" ", 1), h.newToken()); return err },
		"operator": func() error {
			by := kim
			by.Actor.Name = bad
			_, err := h.CreateToken(ctx, by, h.newToken())
			return err
		},
		"token ID": func() error { _, err := h.Token(ctx, kim, marker); return err },
		"mode": func() error {
			_, err := h.RotateToken(ctx, kim, h.create().Token.Token.ID, authority.Rotation{Mode: marker})
			return err
		},
		"policy": func() error {
			_, err := h.CreateAccount(ctx, kim, authority.NewAccount{Name: "x", Policy: marker})
			return err
		},
		"role": func() error {
			_, err := h.CreateUser(ctx, kim, authority.NewUser{AccountID: h.account.ID, Name: "x", Role: marker})
			return err
		},
		"email": func() error {
			_, err := h.CreateUser(ctx, kim, authority.NewUser{AccountID: h.account.ID, Name: "x", Role: "owner", Email: marker})
			return err
		},
		"unit": func() error {
			_, err := h.CreateUser(ctx, kim, authority.NewUser{AccountID: h.account.ID, Name: "x", Role: "owner", BusinessUnits: []string{marker + " "}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := f()
			require.Error(t, err)
			require.NotContains(t, err.Error(), marker)
		})
	}
}

// M10 a token that reads and writes, and M19 a custom one with any write scope,
// must have an IP allow-list where the policy says so; M14 a read-only one need
// not. M12: addresses and ranges of either family do. Ranges that let nearly
// everybody in do not.
func TestThePolicySaysWhichTokensNeedAnAllowList(t *testing.T) {
	for name, test := range map[string]struct {
		rule    token.AllowListRule
		with    func(*authority.NewToken)
		refused bool
	}{
		"write: a reading one needs none (M14)":      {token.AllowListWrite, func(n *authority.NewToken) { n.Access = token.ReadOnly }, false},
		"write: read-write without (M10)":            {token.AllowListWrite, func(*authority.NewToken) {}, true},
		"write: read-write with an address (M12)":    {token.AllowListWrite, func(n *authority.NewToken) { n.AllowList = []string{"192.0.2.7"} }, false},
		"write: read-write with an IPv6 range (M12)": {token.AllowListWrite, func(n *authority.NewToken) { n.AllowList = []string{"2001:db8::/32"} }, false},
		"write: custom, read scopes only": {token.AllowListWrite, func(n *authority.NewToken) {
			n.Access, n.Scopes = token.Custom, []string{"payments:read", "read"}
		}, false},
		"write: custom with one write scope (M19)": {token.AllowListWrite, func(n *authority.NewToken) {
			n.Access, n.Scopes = token.Custom, []string{"payments:read", "payments:write"}
		}, true},
		"write: custom with the built-in write":  {token.AllowListWrite, func(n *authority.NewToken) { n.Access, n.Scopes = token.Custom, []string{"write"} }, true},
		"write: /8 is narrow enough":             {token.AllowListWrite, func(n *authority.NewToken) { n.AllowList = []string{"10.0.0.0/8"} }, false},
		"write: /7 is not":                       {token.AllowListWrite, func(n *authority.NewToken) { n.AllowList = []string{"10.0.0.0/7"} }, true},
		"write: one broad range spoils the list": {token.AllowListWrite, func(n *authority.NewToken) { n.AllowList = []string{"192.0.2.7", "2000::/15"} }, true},
		"write: /0 said aloud is still no list": {token.AllowListWrite, func(n *authority.NewToken) {
			n.AllowList, n.AllowAny = []string{"0.0.0.0/0"}, true
		}, true},
		"always: a reading one without": {token.AllowListAlways, func(n *authority.NewToken) { n.Access = token.ReadOnly }, true},
		"always: a reading one with": {token.AllowListAlways, func(n *authority.NewToken) {
			n.Access, n.AllowList = token.ReadOnly, []string{"192.0.2.0/24"}
		}, false},
		"never: read-write without": {token.AllowListNever, func(*authority.NewToken) {}, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := build(t, func(p *token.Policy) { p.RequireAllowList = test.rule })
			if !test.refused {
				h.create(test.with)
				return
			}
			refusal := h.unchanged(authority.ErrAllowListRequired, func() error {
				_, err := h.CreateToken(ctx, kim, h.newToken(test.with))
				return err
			})
			require.Contains(t, refusal.Detail, "policy")
		})
	}
}

// O4: nothing outlives the policy's lifetime, whatever was asked for.
func TestNoTokenIsMadeToOutliveThePolicy(t *testing.T) {
	const lifetime = 180 * 24 * time.Hour
	h := build(t, func(p *token.Policy) { p.MaxLifetime = lifetime })
	limit := h.clock.Now().Truncate(time.Microsecond).Add(lifetime)

	refusal := h.unchanged(authority.ErrInvalidField, func() error {
		_, err := h.CreateToken(ctx, kim, h.newToken(func(n *authority.NewToken) { n.ExpiresAt = limit.Add(time.Microsecond) }))
		return err
	})
	require.Equal(t, "expires_at", refusal.Field)
	require.Contains(t, refusal.Detail, limit.Format(time.RFC3339))

	at := h.create(func(n *authority.NewToken) { n.ExpiresAt = limit })
	require.Equal(t, limit, at.Token.Expires)
	open := h.create()
	require.True(t, open.Token.Token.ExpiresAt.IsZero())
	require.Equal(t, limit, open.Token.Expires, "without an expiry of its own the policy's holds")

	h.clock.add(lifetime)
	require.Equal(t, "expired_token", h.says(open.Secret))
	require.Equal(t, token.Expired, h.show(open.Token.Token.ID).State)
}

func TestCreateIsRefusedWhereTheTokenWouldNotWork(t *testing.T) {
	h := build(t)
	user := h.user("member")
	_, err := h.EditUser(ctx, kim, user.ID, user.Version, authority.EditUser{Disabled: ptr(true)})
	require.NoError(t, err)
	h.unchanged(authority.ErrInvalidState, func() error {
		_, err := h.CreateToken(ctx, kim, h.newToken(func(n *authority.NewToken) { n.UserID = user.ID }))
		return err
	})

	// O11: the operator switches tokens off for an account.
	h.account, err = h.EditAccount(ctx, kim, h.account.ID, h.account.Version, authority.EditAccount{Disabled: ptr(true)})
	require.NoError(t, err)
	h.unchanged(authority.ErrInvalidState, func() error {
		_, err := h.CreateToken(ctx, kim, h.newToken())
		return err
	})
}

func TestAPolicyCanWantEveryVerbConfirmed(t *testing.T) {
	h := build(t, func(p *token.Policy) {
		p.Confirm = []string{"create", "edit", "rotate", "enable", "disable", "revoke", "delete"}
	})
	h.unchanged(authority.ErrConfirmationRequired, func() error {
		_, err := h.CreateToken(ctx, kim, h.newToken())
		return err
	})
	issued := h.create(func(n *authority.NewToken) { n.Confirm = true })
	id := issued.Token.Token.ID

	rename := authority.Edit{Name: ptr("weekly export")}
	h.unchanged(authority.ErrConfirmationRequired, func() error { _, err := h.EditToken(ctx, kim, id, 1, rename); return err })
	rename.Confirm = true
	_, err := h.EditToken(ctx, kim, id, 1, rename)
	require.NoError(t, err)

	// R9, and R6 and R8: the warning says what is about to happen.
	refusal := h.unchanged(authority.ErrConfirmationRequired, func() error {
		_, err := h.RotateToken(ctx, kim, id, authority.Rotation{})
		return err
	})
	require.Contains(t, refusal.Detail, h.clock.Now().Truncate(time.Microsecond).Add(time.Hour).Format(time.RFC3339))
	refusal = h.unchanged(authority.ErrConfirmationRequired, func() error {
		_, err := h.RotateToken(ctx, kim, id, authority.Rotation{Mode: token.RotateNow})
		return err
	})
	require.Contains(t, refusal.Detail, "at once")
	_, err = h.RotateToken(ctx, kim, id, authority.Rotation{Confirm: true})
	require.NoError(t, err)

	h.unchanged(authority.ErrConfirmationRequired, func() error { _, err := h.DisableToken(ctx, kim, id, false); return err })
	_, err = h.DisableToken(ctx, kim, id, true)
	require.NoError(t, err)
	h.unchanged(authority.ErrConfirmationRequired, func() error { _, err := h.EnableToken(ctx, kim, id, false); return err })
	_, err = h.EnableToken(ctx, kim, id, true)
	require.NoError(t, err)
	h.unchanged(authority.ErrConfirmationRequired, func() error { _, err := h.RevokeToken(ctx, kim, id, false); return err })
	_, err = h.RevokeToken(ctx, kim, id, true)
	require.NoError(t, err)
	h.unchanged(authority.ErrConfirmationRequired, func() error { _, err := h.DeleteToken(ctx, kim, id, false); return err })
	_, err = h.DeleteToken(ctx, kim, id, true)
	require.NoError(t, err)
}

// O18: a token can belong to a user. A user's role bounds it at the gate, so that
// one that asks for more can be made, and does no more.
func TestATokenOfAUserDoesNoMoreThanTheRole(t *testing.T) {
	h := build(t)
	user := h.user("auditor")
	issued := h.create(func(n *authority.NewToken) { n.UserID = user.ID })
	require.Equal(t, user.ID, issued.Token.Token.UserID)
	ask := func(method string) authority.Verification {
		v, err := h.Verify(ctx, kim, authority.Question{Secret: issued.Secret.Reveal(), Method: method})
		require.NoError(t, err)
		return v
	}
	require.True(t, ask("GET").Valid)
	require.Equal(t, "insufficient_scope", ask("POST").Code)

	// O10: the role as it is now, and no copy made at creation.
	_, err := h.EditUser(ctx, kim, user.ID, user.Version, authority.EditUser{Role: ptr("owner")})
	require.NoError(t, err)
	require.True(t, ask("POST").Valid)
}

func TestListsFindWhatWasMade(t *testing.T) {
	h := build(t)
	first, second := h.create(), h.create(func(n *authority.NewToken) { n.Name = "Caf\u00e9" })
	views, next, err := h.Tokens(ctx, kim, tokenQuery(func(q *query) { q.AccountID = h.account.ID }))
	require.NoError(t, err)
	require.Empty(t, next)
	require.Empty(t, cmp.Diff([]authority.View{second.Token, first.Token}, views, cmpopts.EquateEmpty()))

	views, _, err = h.Tokens(ctx, kim, tokenQuery(func(q *query) { q.Search = "cafe\u0301" }))
	require.NoError(t, err)
	require.Len(t, views, 1, "a search finds a name in whatever form it is typed")

	for field, q := range map[string]query{
		"cursor":     {Cursor: "nonsense"},
		"search":     {Search: "a\x00"},
		"scope":      {Scope: strings.Repeat("x", 129)},
		"account_id": {AccountID: "\xff"},
		"user_id":    {UserID: "\u202e"},
	} {
		_, _, err := h.Tokens(ctx, kim, q)
		var refusal *authority.Error
		require.ErrorAs(t, err, &refusal, field)
		require.Equal(t, field, refusal.Field)
	}
}
