package authority_test

import (
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

func TestAccountsAreMadeEditedAndListed(t *testing.T) {
	h := build(t)
	head := h.head()
	a, err := h.CreateAccount(ctx, kim, authority.NewAccount{Name: "Cafe\u0301"})
	require.NoError(t, err)
	now := h.clock.Now().Truncate(time.Microsecond)
	require.Empty(t, cmp.Diff(token.Account{
		ID: a.ID, Name: "Caf\u00e9", Policy: "default", CreatedAt: now, UpdatedAt: now, Version: 1,
	}, a))
	h.told(head, entry{
		Verb: "account.create", Target: string(a.ID), Account: a.ID,
		After: map[string]any{"name": "Caf\u00e9", "policy": "default", "disabled": false, "tokens_off": false},
	})

	h.clock.add(time.Minute)
	head = h.head()
	edited, err := h.EditAccount(ctx, kim, a.ID, 1, authority.EditAccount{Name: ptr("Keep"), Policy: ptr("test"), Disabled: ptr(true)})
	require.NoError(t, err)
	require.Equal(t, int64(2), edited.Version)
	h.told(head, entry{
		Verb: "account.edit", Target: string(a.ID), Account: a.ID,
		Before: map[string]any{"name": "Caf\u00e9", "policy": "default", "disabled": false},
		After:  map[string]any{"name": "Keep", "policy": "test", "disabled": true},
	})
	shown, err := h.Account(ctx, kim, a.ID)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(edited, shown))

	before := h.world()
	same, err := h.EditAccount(ctx, kim, a.ID, 2, authority.EditAccount{Name: ptr("Keep"), Policy: ptr("test")})
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(edited, same))
	require.Empty(t, cmp.Diff(before, h.world()), "an edit that changes nothing leaves no trace")

	accounts, next, err := h.Accounts(ctx, kim, tokenstore.Page{})
	require.NoError(t, err)
	require.Empty(t, next)
	require.Empty(t, cmp.Diff([]token.Account{edited, h.account}, accounts))
}

func TestAccountsRefuseWhatIsNotWellFormed(t *testing.T) {
	h := build(t)
	for field, n := range map[string]authority.NewAccount{
		"name":   {Name: "a\u200bb"},
		"policy": {Name: "x", Policy: "nope"},
	} {
		refusal := h.unchanged(authority.ErrInvalidField, func() error { _, err := h.CreateAccount(ctx, kim, n); return err })
		require.Equal(t, field, refusal.Field)
	}
	for field, e := range map[string]authority.EditAccount{
		"name":   {Name: ptr("")},
		"policy": {Policy: ptr("No such\x00")},
	} {
		refusal := h.unchanged(authority.ErrInvalidField, func() error {
			_, err := h.EditAccount(ctx, kim, h.account.ID, h.account.Version, e)
			return err
		})
		require.Equal(t, field, refusal.Field)
	}
	h.unchanged(authority.ErrVersionMismatch, func() error {
		_, err := h.EditAccount(ctx, kim, h.account.ID, h.account.Version+1, authority.EditAccount{Name: ptr("x")})
		return err
	})
	for _, id := range []token.ID{"", "acc_00000000000000000000000000", "\xff"} {
		h.unchanged(authority.ErrNotFound, func() error {
			_, err := h.EditAccount(ctx, kim, id, 1, authority.EditAccount{Name: ptr("x")})
			return err
		})
		_, err := h.Account(ctx, kim, id)
		require.ErrorIs(t, err, authority.ErrNotFound)
	}
	_, _, err := h.Accounts(ctx, kim, tokenstore.Page{Cursor: "x"})
	require.ErrorIs(t, err, authority.ErrInvalidField)
}

// O11: an operator switches tokens off for an account, and O12 for a user; both
// hold at once and can be taken back.
func TestDisablingAnOwnerStopsTheTokens(t *testing.T) {
	h := build(t)
	u := h.user("member")
	issued := h.create(func(n *authority.NewToken) { n.UserID = u.ID })
	u, err := h.EditUser(ctx, kim, u.ID, u.Version, authority.EditUser{Disabled: ptr(true)})
	require.NoError(t, err)
	require.Equal(t, "user_disabled", h.says(issued.Secret))
	h.account, err = h.EditAccount(ctx, kim, h.account.ID, h.account.Version, authority.EditAccount{Disabled: ptr(true)})
	require.NoError(t, err)
	require.Equal(t, "account_disabled", h.says(issued.Secret))

	// A leak is dealt with while everything is switched off.
	rotated, err := h.RotateToken(ctx, kim, issued.Token.Token.ID, authority.Rotation{Mode: token.RotateNow})
	require.NoError(t, err)

	h.account, err = h.EditAccount(ctx, kim, h.account.ID, h.account.Version, authority.EditAccount{Disabled: ptr(false)})
	require.NoError(t, err)
	_, err = h.EditUser(ctx, kim, u.ID, u.Version, authority.EditUser{Disabled: ptr(false)})
	require.NoError(t, err)
	require.Empty(t, h.says(rotated.Secret))
}

func TestUsersAreMadeEditedAndListed(t *testing.T) {
	h := build(t)
	head := h.head()
	u, err := h.CreateUser(ctx, kim, authority.NewUser{
		AccountID: h.account.ID, Name: "Ada Porter", Email: "ada@example.com", Role: "member", BusinessUnits: []string{"south", "north", "south"},
	})
	require.NoError(t, err)
	now := h.clock.Now().Truncate(time.Microsecond)
	require.Empty(t, cmp.Diff(token.User{
		ID: u.ID, AccountID: h.account.ID, Name: "Ada Porter", Email: "ada@example.com", Role: "member",
		BusinessUnits: []string{"north", "south"}, CreatedAt: now, UpdatedAt: now, Version: 1,
	}, u))
	h.told(head, entry{
		Verb: "user.create", Target: string(u.ID),
		After: map[string]any{
			"account_id": string(h.account.ID), "name": "Ada Porter", "email": "ada@example.com", "role": "member",
			"business_units": []any{"north", "south"}, "disabled": false, "tokens_off": false,
		},
	})

	head = h.head()
	edited, err := h.EditUser(ctx, kim, u.ID, 1, authority.EditUser{
		Name: ptr("Ada P"), Email: ptr(""), Role: ptr("auditor"), BusinessUnits: &[]string{}, Disabled: ptr(true),
	})
	require.NoError(t, err)
	require.Equal(t, int64(2), edited.Version)
	h.told(head, entry{
		Verb: "user.edit", Target: string(u.ID),
		Before: map[string]any{
			"name": "Ada Porter", "email": "ada@example.com", "role": "member", "business_units": []any{"north", "south"}, "disabled": false,
		},
		After: map[string]any{"name": "Ada P", "email": "", "role": "auditor", "business_units": []any{}, "disabled": true},
	})
	shown, err := h.User(ctx, kim, u.ID)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(edited, shown))
	before := h.world()
	_, err = h.EditUser(ctx, kim, u.ID, 2, authority.EditUser{Name: ptr("Ada P"), BusinessUnits: &[]string{}})
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(before, h.world()))

	other, err := h.CreateAccount(ctx, kim, authority.NewAccount{Name: "Other"})
	require.NoError(t, err)
	_, err = h.CreateUser(ctx, kim, authority.NewUser{AccountID: other.ID, Name: "Eve", Role: "owner"})
	require.NoError(t, err)
	users, _, err := h.Users(ctx, kim, h.account.ID, tokenstore.Page{})
	require.NoError(t, err)
	require.Empty(t, cmp.Diff([]token.User{edited}, users))
	users, _, err = h.Users(ctx, kim, "", tokenstore.Page{})
	require.NoError(t, err)
	require.Len(t, users, 2)
}

func TestUsersRefuseWhatIsNotWellFormed(t *testing.T) {
	h := build(t)
	for name, test := range map[string]struct {
		field string
		with  func(*authority.NewUser)
	}{
		"no name":            {"name", func(n *authority.NewUser) { n.Name = "" }},
		"no account":         {"account_id", func(n *authority.NewUser) { n.AccountID = "acc_x" }},
		"no role":            {"role", func(n *authority.NewUser) { n.Role = "" }},
		"an unknown role":    {"role", func(n *authority.NewUser) { n.Role = "king" }},
		"a role of bytes":    {"role", func(n *authority.NewUser) { n.Role = "\xff\x00" }},
		"an address of two":  {"email", func(n *authority.NewUser) { n.Email = "a@example.com, b@example.com" }},
		"a unit with spaces": {"business_units[1]", func(n *authority.NewUser) { n.BusinessUnits = []string{"a", "b c"} }},
		"a unit of commas":   {"business_units[0]", func(n *authority.NewUser) { n.BusinessUnits = []string{"a,b"} }},
		"an empty unit":      {"business_units[0]", func(n *authority.NewUser) { n.BusinessUnits = []string{""} }},
		"a unit too long":    {"business_units[0]", func(n *authority.NewUser) { n.BusinessUnits = []string{strings.Repeat("x", 65)} }},
		"too many units":     {"business_units", func(n *authority.NewUser) { n.BusinessUnits = make([]string, 101) }},
	} {
		t.Run(name, func(t *testing.T) {
			h.t = t
			n := authority.NewUser{AccountID: h.account.ID, Name: "Ada", Role: "owner"}
			test.with(&n)
			refusal := h.unchanged(authority.ErrInvalidField, func() error { _, err := h.CreateUser(ctx, kim, n); return err })
			require.Equal(t, test.field, refusal.Field)
		})
	}
	h.t = t
	u := h.user("owner")
	for field, e := range map[string]authority.EditUser{
		"name":              {Name: ptr("")},
		"email":             {Email: ptr("x")},
		"role":              {Role: ptr("king")},
		"business_units[0]": {BusinessUnits: &[]string{"\u202e"}},
	} {
		refusal := h.unchanged(authority.ErrInvalidField, func() error { _, err := h.EditUser(ctx, kim, u.ID, 1, e); return err })
		require.Equal(t, field, refusal.Field)
	}
	h.unchanged(authority.ErrVersionMismatch, func() error { _, err := h.EditUser(ctx, kim, u.ID, 9, authority.EditUser{}); return err })
	h.unchanged(authority.ErrNotFound, func() error { _, err := h.EditUser(ctx, kim, "usr_x", 1, authority.EditUser{}); return err })
	_, err := h.User(ctx, kim, "usr_x")
	require.ErrorIs(t, err, authority.ErrNotFound)
	_, _, err = h.Users(ctx, kim, "\x00", tokenstore.Page{})
	require.ErrorIs(t, err, authority.ErrInvalidField)
}

// D16: an address goes into SMTP commands and mail headers.
func TestAddressesArePlain(t *testing.T) {
	for _, good := range []string{"", "a@b", "kim@example.com", "kim+tokens@mail.example.co.uk", "o'brien@example.com", "kim@xn--bcher-kva.example"} {
		require.NoError(t, authority.CheckEmail(good), good)
	}
	for _, bad := range []string{
		"kim", "@example.com", "kim@", "Kim <kim@example.com>", "<kim@example.com>", `"kim"@example.com`, `"a b"@example.com`,
		"kim@example.com\r\nBcc: eve@example.com", "kim@example.com\n", " kim@example.com", "kim@example.com ", "kim@[192.0.2.1]",
		"kim(comment)@example.com", "kim@example.com,eve@example.com", "kim@@example.com", "a@b@c", "k\u00edm@example.com",
		"kim@b\u00fccher.example", ".kim@example.com", "ki..m@example.com", "kim@-example.com", "kim@example..com",
		strings.Repeat("k", 65) + "@example.com", "kim@" + strings.Repeat("x.", 130) + "com", "group:kim@example.com;", "kim\x00@example.com",
	} {
		require.ErrorIs(t, authority.CheckEmail(bad), authority.ErrInvalidField, bad)
	}
}

func FuzzCheckEmail(f *testing.F) {
	for _, seed := range []string{"kim@example.com", `"kim"@example.com`, "kim@example.com\r\nRCPT TO:<eve@example.com>", "a@[::1]", "=?utf-8?q?x?=@example.com", "a@b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, address string) {
		if authority.CheckEmail(address) != nil || address == "" {
			return
		}
		require.LessOrEqual(t, len(address), 254)
		require.Empty(t, strings.Trim(address, visible), "visible ASCII only")
		require.NotContains(t, address, `"`)
		require.Equal(t, 1, strings.Count(address, "@"))
		parsed, err := mail.ParseAddress(address)
		require.NoError(t, err)
		require.Equal(t, address, parsed.Address)
		require.Equal(t, "<"+address+">", parsed.String(), "it needs no quoting anywhere")
	})
}

// FuzzNames drives names through a whole verb: what is accepted is stored, and is
// the same when it is read.
func FuzzNames(f *testing.F) {
	for _, seed := range []string{"nightly export", "cafe\u0301", "\u202e", "a\x00", "\xff", strings.Repeat("e\u0301", 101), " a", "\u1100\u1161"} {
		f.Add(seed)
	}
	h := build(f)
	f.Fuzz(func(t *testing.T, name string) {
		a, err := h.CreateAccount(ctx, kim, authority.NewAccount{Name: name})
		if err != nil {
			require.ErrorIs(t, err, authority.ErrInvalidField)
			return
		}
		require.NoError(t, token.CheckName(a.Name))
		shown, err := h.Account(ctx, kim, a.ID)
		require.NoError(t, err)
		require.Equal(t, a.Name, shown.Name)
		again, err := h.EditAccount(ctx, kim, a.ID, 1, authority.EditAccount{Name: &a.Name})
		require.NoError(t, err)
		require.Equal(t, int64(1), again.Version, "a name that was accepted is in its one form")
	})
}
