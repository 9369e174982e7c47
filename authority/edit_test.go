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

// S4 edit name, access level and addresses; S5 at any time, any number of times;
// M13 the list can be changed later.
func TestEditChangesTheFieldsThatItIsGiven(t *testing.T) {
	h := build(t)
	issued := h.create(func(n *authority.NewToken) { n.AllowList = []string{"192.0.2.7"} })
	id := issued.Token.Token.ID
	expires := h.clock.Now().Add(time.Hour).Truncate(time.Second).UTC()

	for i, test := range []struct {
		edit          authority.Edit
		before, after map[string]any
	}{
		{
			authority.Edit{Name: ptr("weekly export")},
			map[string]any{"name": "nightly export"},
			map[string]any{"name": "weekly export"},
		},
		{
			authority.Edit{Access: ptr(token.ReadOnly), Name: ptr("weekly export")},
			map[string]any{"access": "read_write"},
			map[string]any{"access": "read_only"},
		},
		{
			authority.Edit{AllowList: &[]string{"192.0.2.0/24", "::ffff:198.51.100.1"}},
			map[string]any{"ip_allowlist": []any{"192.0.2.7"}},
			map[string]any{"ip_allowlist": []any{"192.0.2.0/24", "198.51.100.1"}},
		},
		{
			authority.Edit{Access: ptr(token.Custom), Scopes: &[]string{"payments:write", "payments:read"}},
			map[string]any{"access": "read_only", "scopes": []any{}},
			map[string]any{"access": "custom", "scopes": []any{"payments:read", "payments:write"}},
		},
		{
			authority.Edit{Scopes: &[]string{"payments:read"}},
			map[string]any{"scopes": []any{"payments:read", "payments:write"}},
			map[string]any{"scopes": []any{"payments:read"}},
		},
		{
			authority.Edit{Access: ptr(token.ReadWrite)},
			map[string]any{"access": "custom", "scopes": []any{"payments:read"}},
			map[string]any{"access": "read_write", "scopes": []any{}},
		},
		{
			authority.Edit{ExpiresAt: &expires},
			map[string]any{"expires_at": nil},
			map[string]any{"expires_at": expires.Format(time.RFC3339Nano)},
		},
		{
			authority.Edit{ExpiresAt: &time.Time{}, AllowList: &[]string{}},
			map[string]any{"expires_at": expires.Format(time.RFC3339Nano), "ip_allowlist": []any{"192.0.2.0/24", "198.51.100.1"}},
			map[string]any{"expires_at": nil, "ip_allowlist": []any{}},
		},
		{ // which no policy names
			authority.Edit{FreshOnly: ptr(true)},
			map[string]any{"fresh_only": false},
			map[string]any{"fresh_only": true},
		},
		{
			authority.Edit{FreshOnly: ptr(false)},
			map[string]any{"fresh_only": true},
			map[string]any{"fresh_only": false},
		},
	} {
		h.clock.add(time.Minute)
		head := h.head()
		v, err := h.EditToken(ctx, kim, id, int64(i+1), test.edit)
		require.NoError(t, err)
		require.Equal(t, int64(i+2), v.Token.Version)
		require.Equal(t, h.clock.Now().Truncate(time.Microsecond), v.Token.UpdatedAt)
		require.Empty(t, cmp.Diff(v, h.show(id)))
		h.told(head, entry{Verb: "token.edit", Target: string(id), Before: test.before, After: test.after})
	}
	require.Empty(t, h.says(issued.Secret), "S6: the secret goes on working")
}

func TestAnEditThatChangesNothingLeavesNoTrace(t *testing.T) {
	h := build(t, func(p *token.Policy) { p.Editable = nil; p.Confirm = []string{"edit"} })
	v := h.create(func(n *authority.NewToken) {
		n.Access, n.Scopes = token.Custom, []string{"payments:read", "invoices:read"}
		n.AllowList = []string{"192.0.2.0/24"}
		n.ExpiresAt = h.clock.Now().Add(time.Hour)
	}).Token
	before := h.world()
	// A client that sends back what it read edits nothing, even where nothing may
	// be edited, and in whatever spelling.
	got, err := h.EditToken(ctx, kim, v.Token.ID, v.Token.Version, authority.Edit{
		Name: &v.Token.Name, Access: &v.Token.Grant.Access, Scopes: &[]string{"payments:read", "invoices:read", "payments:read"},
		AllowList: &[]string{"::ffff:192.0.2.0/120"}, ExpiresAt: &v.Token.ExpiresAt,
	})
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(v, got))
	require.Empty(t, cmp.Diff(before, h.world()))
}

func TestEditNeedsTheVersionThatWasRead(t *testing.T) {
	h := build(t)
	v := h.create().Token
	for _, version := range []int64{0, v.Token.Version - 1, v.Token.Version + 1, -1} {
		h.unchanged(authority.ErrVersionMismatch, func() error {
			_, err := h.EditToken(ctx, kim, v.Token.ID, version, authority.Edit{Name: ptr("x")})
			return err
		})
	}
	// A rotation counts too: what was read showed the other secret.
	_, err := h.RotateToken(ctx, kim, v.Token.ID, authority.Rotation{})
	require.NoError(t, err)
	h.unchanged(authority.ErrVersionMismatch, func() error {
		_, err := h.EditToken(ctx, kim, v.Token.ID, v.Token.Version, authority.Edit{Name: ptr("x")})
		return err
	})
}

// M20: what the policy does not list as editable, nobody edits, neither to widen
// nor to narrow.
func TestOnlyEditableFieldsAreEdited(t *testing.T) {
	edits := map[token.Field]authority.Edit{
		token.FieldName:      {Name: ptr("x")},
		token.FieldAccess:    {Access: ptr(token.ReadOnly)},
		token.FieldScopes:    {Scopes: &[]string{"payments:read"}},
		token.FieldAllowList: {AllowList: &[]string{"192.0.2.8"}},
		token.FieldExpiresAt: {ExpiresAt: ptr(time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC))},
	}
	for field, edit := range edits {
		t.Run(string(field), func(t *testing.T) {
			custom := func(n *authority.NewToken) {
				n.Access, n.Scopes = token.Custom, []string{"payments:read", "payments:write"}
			}
			for other := range edits {
				h := build(t, func(p *token.Policy) { p.Editable = []token.Field{other} })
				v := h.create(custom).Token
				if other == field {
					_, err := h.EditToken(ctx, kim, v.Token.ID, 1, edit)
					require.NoError(t, err)
					continue
				}
				refusal := h.unchanged(authority.ErrForbidden, func() error {
					_, err := h.EditToken(ctx, kim, v.Token.ID, 1, edit)
					return err
				})
				require.Contains(t, refusal.Detail, "editable")
				require.Equal(t, string(field), refusal.Field)
			}
		})
	}

	t.Run("access alone does not lead to new scopes", func(t *testing.T) {
		h := build(t, func(p *token.Policy) { p.Editable = []token.Field{token.FieldAccess} })
		v := h.create().Token
		h.unchanged(authority.ErrForbidden, func() error {
			_, err := h.EditToken(ctx, kim, v.Token.ID, 1, authority.Edit{Access: ptr(token.Custom), Scopes: &[]string{"payments:read"}})
			return err
		})
	})
}

func TestEditRefusesWhatIsNotWellFormed(t *testing.T) {
	h := build(t, func(p *token.Policy) { p.MaxLifetime = 24 * time.Hour })
	v := h.create().Token
	h.clock.add(time.Hour)
	for name, test := range map[string]struct {
		field string
		edit  authority.Edit
	}{
		"an empty name":                         {"name", authority.Edit{Name: ptr("")}},
		"scopes without custom":                 {"scopes", authority.Edit{Scopes: &[]string{"read"}}},
		"custom without scopes":                 {"scopes", authority.Edit{Access: ptr(token.Custom)}},
		"an unknown access level":               {"access", authority.Edit{Access: ptr(token.Access(9))}},
		"an undeclared scope":                   {"scopes[0]", authority.Edit{Access: ptr(token.Custom), Scopes: &[]string{"nope"}}},
		"a malformed address":                   {"ip_allowlist[1]", authority.Edit{AllowList: &[]string{"192.0.2.1", "x"}}},
		"an expiry in the past":                 {"expires_at", authority.Edit{ExpiresAt: ptr(h.clock.Now().Add(-time.Minute))}},
		"an expiry past the policy's life (O4)": {"expires_at", authority.Edit{ExpiresAt: ptr(h.clock.Now().Add(23*time.Hour + time.Second))}},
	} {
		t.Run(name, func(t *testing.T) {
			h.t = t
			refusal := h.unchanged(authority.ErrInvalidField, func() error {
				_, err := h.EditToken(ctx, kim, v.Token.ID, 1, test.edit)
				return err
			})
			require.Equal(t, test.field, refusal.Field)
		})
	}
	h.t = t
	_, err := h.EditToken(ctx, kim, v.Token.ID, 1, authority.Edit{ExpiresAt: ptr(h.clock.Now().Add(22 * time.Hour))})
	require.NoError(t, err)
}

// M10, M19: no edit leads around the allow-list, whichever field it comes by.
func TestEditKeepsToTheAllowListRule(t *testing.T) {
	h := build(t, func(p *token.Policy) { p.RequireAllowList = token.AllowListWrite })
	v := h.create(func(n *authority.NewToken) { n.AllowList = []string{"192.0.2.7"} }).Token
	reader := h.create(func(n *authority.NewToken) { n.Access = token.ReadOnly }).Token
	for name, f := range map[string]func() error{
		"emptying the list": func() error {
			_, err := h.EditToken(ctx, kim, v.Token.ID, 1, authority.Edit{AllowList: &[]string{}})
			return err
		},
		"making it broad": func() error {
			_, err := h.EditToken(ctx, kim, v.Token.ID, 1, authority.Edit{AllowList: &[]string{"192.0.0.0/7"}})
			return err
		},
		"widening a reader": func() error {
			_, err := h.EditToken(ctx, kim, reader.Token.ID, 1, authority.Edit{Access: ptr(token.ReadWrite)})
			return err
		},
		"giving a reader a write scope": func() error {
			_, err := h.EditToken(ctx, kim, reader.Token.ID, 1, authority.Edit{Access: ptr(token.Custom), Scopes: &[]string{"payments:write"}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			h.t = t
			h.unchanged(authority.ErrAllowListRequired, f)
		})
	}
	h.t = t
	_, err := h.EditToken(ctx, kim, reader.Token.ID, 1, authority.Edit{Access: ptr(token.ReadWrite), AllowList: &[]string{"192.0.2.8"}})
	require.NoError(t, err)

	t.Run("a rule that came later binds at the next edit or rotation", func(t *testing.T) {
		h := build(t)
		v := h.create().Token
		h.policy(func(p *token.Policy) { p.RequireAllowList = token.AllowListAlways })
		h.unchanged(authority.ErrAllowListRequired, func() error {
			_, err := h.EditToken(ctx, kim, v.Token.ID, 1, authority.Edit{Name: ptr("x")})
			return err
		})
		h.unchanged(authority.ErrAllowListRequired, func() error {
			_, err := h.RotateToken(ctx, kim, v.Token.ID, authority.Rotation{})
			return err
		})
		_, err := h.EditToken(ctx, kim, v.Token.ID, 1, authority.Edit{Name: ptr("x"), AllowList: &[]string{"192.0.2.7"}})
		require.NoError(t, err)
	})
}

func TestAnExpiredTokenIsEditedOnlyToLiveAgain(t *testing.T) {
	h := build(t)
	issued := h.create(func(n *authority.NewToken) { n.ExpiresAt = h.clock.Now().Add(time.Hour) })
	id := issued.Token.Token.ID
	h.clock.add(2 * time.Hour)
	require.Equal(t, "expired_token", h.says(issued.Secret))

	h.unchanged(authority.ErrInvalidState, func() error {
		_, err := h.EditToken(ctx, kim, id, 1, authority.Edit{Name: ptr("x")})
		return err
	})
	v, err := h.EditToken(ctx, kim, id, 1, authority.Edit{Name: ptr("x"), ExpiresAt: ptr(h.clock.Now().Add(time.Hour))})
	require.NoError(t, err)
	require.Equal(t, token.Active, v.State)
	require.Empty(t, h.says(issued.Secret))
}

// A scope can go while a token lists it; the token is not stuck because of it.
func TestAScopeThatIsGoneStandsUntilTheListIsEdited(t *testing.T) {
	h := build(t)
	v := h.create(func(n *authority.NewToken) {
		n.Access, n.Scopes = token.Custom, []string{"payments:read", "invoices:read"}
	}).Token
	require.NoError(t, h.Store.Write(ctx, func(tx *tokenstore.Tx) error {
		tx.Audit(tokenstore.AuditEntry{Verb: "test", Actor: kim.Actor})
		return tx.DeleteScope("invoices:read")
	}))

	_, err := h.EditToken(ctx, kim, v.Token.ID, 1, authority.Edit{Name: ptr("x"), Scopes: &[]string{"payments:read", "invoices:read"}})
	require.NoError(t, err)
	h.unchanged(authority.ErrInvalidField, func() error {
		_, err := h.EditToken(ctx, kim, v.Token.ID, 2, authority.Edit{Scopes: &[]string{"invoices:read"}})
		return err
	})
	_, err = h.EditToken(ctx, kim, v.Token.ID, 2, authority.Edit{Scopes: &[]string{"payments:read"}})
	require.NoError(t, err)
}
