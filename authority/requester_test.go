package authority_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// as is a user who asks.
func as(u token.User) authority.By {
	return authority.By{Actor: tokenstore.Actor{Kind: tokenstore.UserActor, Name: string(u.ID), Verified: true}, RequestID: "req-u"}
}

// with is a token that asks.
func with(id token.ID) authority.By {
	return authority.By{Actor: tokenstore.Actor{Kind: tokenstore.TokenActor, Name: string(id), Verified: true}, RequestID: "req-t"}
}

// forUser is the operator in a user's name.
func forUser(u token.User) authority.By {
	by := kim
	by.RequestedBy = u.ID
	return by
}

func (h *house) setUser(u token.User, e authority.EditUser) token.User {
	h.t.Helper()
	now, err := h.User(ctx, kim, u.ID)
	require.NoError(h.t, err)
	now, err = h.EditUser(ctx, kim, u.ID, now.Version, e)
	require.NoError(h.t, err)
	return now
}

func (h *house) setAccount(e authority.EditAccount) {
	h.t.Helper()
	now, err := h.Account(ctx, kim, h.account.ID)
	require.NoError(h.t, err)
	h.account, err = h.EditAccount(ctx, kim, h.account.ID, now.Version, e)
	require.NoError(h.t, err)
}

// T2, T3, T5: an operator acts for an owner or an admin, by the rules that bind
// those, and the audit log has both.
func TestAnOperatorActsForAnOwnerOrAdmin(t *testing.T) {
	h := build(t)
	issued := h.create()
	for _, role := range []string{"owner", "admin"} {
		user := h.user(role)
		head := h.head()
		_, err := h.RotateToken(ctx, forUser(user), issued.Token.Token.ID, authority.Rotation{Mode: token.RotateNow})
		require.NoError(t, err)
		entries := h.entries(head)
		require.Len(t, entries, 1)
		require.Equal(t, "operator kim", entries[0].Actor)
		require.Equal(t, string(user.ID), entries[0].After["requested_by"])

		listed, _, err := h.AuditEntries(ctx, forUser(user), tokenstore.AuditQuery{AccountID: h.account.ID, Verb: "token.rotate"})
		require.NoError(t, err, "lists take a requester too")
		require.Equal(t, user.ID, authority.RequesterOf(&listed[0]))
	}
	listed, _, err := h.AuditEntries(ctx, kim, tokenstore.AuditQuery{Verb: "token.create"})
	require.NoError(t, err)
	require.Empty(t, authority.RequesterOf(&listed[0]), "an operator in their own name acts for nobody")
	h.chainHolds()
}

// T4, T8: a request from anyone else is refused, before anything else is told.
func TestNobodyElseMayRequest(t *testing.T) {
	h := build(t)
	issued := h.create()
	other, err := h.CreateAccount(ctx, kim, authority.NewAccount{Name: "Other", Policy: "test"})
	require.NoError(t, err)
	theirs, err := h.CreateUser(ctx, kim, authority.NewUser{AccountID: other.ID, Name: "Theirs", Role: "owner"})
	require.NoError(t, err)
	disabled := h.user("owner")
	disabled = h.setUser(disabled, authority.EditUser{Disabled: ptr(true)})
	nobody := token.User{ID: "usr_nobody"}
	for name, c := range map[string]struct {
		user token.User
		want *authority.Error
	}{
		"a member":              {h.user("member"), authority.ErrForbidden},
		"an auditor":            {h.user("auditor"), authority.ErrForbidden},
		"a disabled owner":      {disabled, authority.ErrForbidden},
		"nobody":                {nobody, authority.ErrForbidden},
		"another account's one": {theirs, authority.ErrNotFound}, // as if the token were not there
	} {
		h.unchanged(c.want, func() error {
			_, err := h.RotateToken(ctx, forUser(c.user), issued.Token.Token.ID, authority.Rotation{Mode: token.RotateNow})
			return err
		})
		// T8: nor is such a requester told what there is.
		_, err := h.Token(ctx, forUser(c.user), "tok_nothing")
		require.ErrorIs(t, err, c.want, name)
		_, _, err = h.Tokens(ctx, forUser(c.user), query{AccountID: h.account.ID})
		require.ErrorIs(t, err, authority.ErrForbidden, name)
	}
	// Without a requester the operator may.
	_, err = h.RotateToken(ctx, kim, issued.Token.Token.ID, authority.Rotation{Mode: token.RotateNow})
	require.NoError(t, err)

	owner := h.user("owner")
	h.setAccount(authority.EditAccount{Disabled: ptr(true)})
	h.unchanged(authority.ErrForbidden, func() error {
		_, err := h.RotateToken(ctx, forUser(owner), issued.Token.Token.ID, authority.Rotation{Mode: token.RotateNow})
		return err
	})
	by := forUser(owner)
	by.Actor = as(owner).Actor
	_, err = h.Token(ctx, by, issued.Token.Token.ID)
	require.ErrorIs(t, err, authority.ErrForbidden, "only an operator acts in somebody else's name")
	by = kim
	by.RequestedBy = "usr\n1"
	_, err = h.Token(ctx, by, issued.Token.Token.ID)
	require.ErrorIs(t, err, authority.ErrInvalidField)
}

// R3, R15: allow binds a requester and a user alike, and the operator's own name not.
func TestAllowBindsUsersAndRequesters(t *testing.T) {
	h := build(t, func(p *token.Policy) { p.Allow = map[string][]string{"rotate": {"owner"}} })
	owner, admin := h.user("owner"), h.user("admin")
	issued := h.create()
	rotate := func(by authority.By) error {
		_, err := h.RotateToken(ctx, by, issued.Token.Token.ID, authority.Rotation{Mode: token.RotateNow})
		return err
	}
	for _, by := range []authority.By{as(admin), forUser(admin)} {
		refusal := h.unchanged(authority.ErrForbidden, func() error { return rotate(by) })
		require.Contains(t, refusal.Detail, "owner", "it says who may")
	}
	for _, by := range []authority.By{as(owner), forUser(owner), kim} {
		require.NoError(t, rotate(by))
	}
}

// T8 and design 8: the assignment of a policy stays the operator's own.
func TestOnlyAnOperatorAssignsAPolicyAndSwitchesAnAccount(t *testing.T) {
	h := build(t)
	owner := h.user("owner")
	account := func() token.Account { a, err := h.Account(ctx, kim, h.account.ID); require.NoError(t, err); return a }
	for _, e := range []authority.EditAccount{{Policy: ptr("default")}, {Disabled: ptr(true)}, {TokensOff: ptr(true)}} {
		h.unchanged(authority.ErrForbidden, func() error {
			_, err := h.EditAccount(ctx, as(owner), h.account.ID, account().Version, e)
			return err
		})
	}
	_, err := h.EditAccount(ctx, as(owner), h.account.ID, account().Version, authority.EditAccount{Name: ptr("New name")})
	require.NoError(t, err, "an owner names the account")
	_, err = h.EditAccount(ctx, forUser(owner), h.account.ID, account().Version, authority.EditAccount{Policy: ptr("default")})
	require.NoError(t, err, "an operator assigns it, also while acting for somebody")
}

// D2: who asks is judged as the store has them in that very transaction.
func TestADemotedOrDisabledUserCanDoNoMore(t *testing.T) {
	h := build(t)
	admin := h.user("admin")
	issued := h.create()
	disable := func() error { _, err := h.DisableToken(ctx, as(admin), issued.Token.Token.ID, true); return err }
	h.setUser(admin, authority.EditUser{Role: ptr("auditor")})
	h.unchanged(authority.ErrForbidden, disable)
	h.setUser(admin, authority.EditUser{Role: ptr("admin"), Disabled: ptr(true)})
	h.unchanged(authority.ErrForbidden, disable)
	h.setUser(admin, authority.EditUser{Disabled: ptr(false)})
	require.NoError(t, disable())
}

// D3: a user finds nothing of other accounts, and cannot tell it from nothing.
func TestOtherAccountsAreNotThere(t *testing.T) {
	h := build(t)
	owner := h.user("owner")
	other, err := h.CreateAccount(ctx, kim, authority.NewAccount{Name: "Other", Policy: "test"})
	require.NoError(t, err)
	theirs, err := h.CreateToken(ctx, kim, h.newToken(func(n *authority.NewToken) { n.AccountID = other.ID }))
	require.NoError(t, err)
	user, err := h.CreateUser(ctx, kim, authority.NewUser{AccountID: other.ID, Name: "x", Role: "member"})
	require.NoError(t, err)
	for _, id := range []token.ID{theirs.Token.Token.ID, "tok_nothing"} {
		_, err := h.Token(ctx, as(owner), id)
		require.EqualError(t, err, "not_found: there is no such token")
		_, err = h.RevokeToken(ctx, as(owner), id, true)
		require.EqualError(t, err, "not_found: there is no such token")
	}
	for _, id := range []token.ID{user.ID, "usr_nothing"} {
		_, err := h.User(ctx, as(owner), id)
		require.EqualError(t, err, "not_found: there is no such user")
	}
	_, err = h.CreateToken(ctx, as(owner), h.newToken(func(n *authority.NewToken) { n.AccountID = other.ID }))
	require.ErrorIs(t, err, authority.ErrForbidden)
	_, _, err = h.Users(ctx, as(owner), "", tokenstore.Page{})
	require.ErrorIs(t, err, authority.ErrForbidden, "a list of all accounts is no user's")
}

// A member has their own, and sees no others.
func TestAMemberHasTheirOwnTokens(t *testing.T) {
	h := build(t, func(p *token.Policy) { p.View = []string{"owner", "admin"} })
	member := h.user("member")
	mine, err := h.CreateToken(ctx, as(member), h.newToken(func(n *authority.NewToken) { n.UserID = member.ID }))
	require.NoError(t, err)
	others := h.create()
	_, err = h.CreateToken(ctx, as(member), h.newToken())
	require.ErrorIs(t, err, authority.ErrForbidden, "a token of the account is not theirs")
	must(h.Token(ctx, as(member), mine.Token.Token.ID))
	_, err = h.Token(ctx, as(member), others.Token.Token.ID)
	require.ErrorIs(t, err, authority.ErrForbidden)
	views, _, err := h.Tokens(ctx, as(member), query{AccountID: h.account.ID, UserID: member.ID})
	require.NoError(t, err)
	require.Len(t, views, 1)
	_, _, err = h.Tokens(ctx, as(member), query{AccountID: h.account.ID})
	require.ErrorIs(t, err, authority.ErrForbidden)
}

// D1: an admin makes no owner, nobody raises themselves, and nobody gives a role
// that allows more than their own.
func TestRolesAreGivenWithinLimits(t *testing.T) {
	h := build(t, func(p *token.Policy) { p.Allow = map[string][]string{"exempt": {"owner", "auditor"}} })
	owner, admin, member := h.user("owner"), h.user("admin"), h.user("member")
	must(h.CreateRole(ctx, kim, authority.NewRole{Name: "narrow", Access: token.ReadOnly}))
	edit := func(by authority.By, u token.User, e authority.EditUser) error {
		now, err := h.User(ctx, kim, u.ID)
		require.NoError(t, err)
		_, err = h.EditUser(ctx, by, u.ID, now.Version, e)
		return err
	}
	for name, c := range map[string]struct {
		by   authority.By
		who  token.User
		e    authority.EditUser
		want *authority.Error
	}{
		"an admin makes an owner":         {as(admin), member, authority.EditUser{Role: ptr("owner")}, authority.ErrExceedsGrantor},
		"an admin demotes an owner":       {as(admin), owner, authority.EditUser{Role: ptr("member")}, authority.ErrExceedsGrantor},
		"an admin takes an owner's mail":  {as(admin), owner, authority.EditUser{Email: ptr("admin@example.com")}, authority.ErrExceedsGrantor},
		"an admin disables an owner":      {as(admin), owner, authority.EditUser{Disabled: ptr(true)}, authority.ErrExceedsGrantor},
		"for an admin, an owner":          {forUser(admin), member, authority.EditUser{Role: ptr("owner")}, authority.ErrExceedsGrantor},
		"an admin raises themselves":      {as(admin), admin, authority.EditUser{Role: ptr("owner")}, authority.ErrForbidden},
		"an owner changes their own role": {as(owner), owner, authority.EditUser{Role: ptr("member")}, authority.ErrForbidden},
		"an admin takes a unit":           {as(admin), admin, authority.EditUser{BusinessUnits: ptr([]string{"all"})}, authority.ErrForbidden},
		"a member raises themselves":      {as(member), member, authority.EditUser{Role: ptr("admin")}, authority.ErrForbidden},
		"a member renames another":        {as(member), admin, authority.EditUser{Name: ptr("x")}, authority.ErrForbidden},
		"a role that is not there":        {as(owner), member, authority.EditUser{Role: ptr("nothing")}, authority.ErrInvalidField},
	} {
		t.Run(name, func(t *testing.T) {
			h.unchanged(c.want, func() error { return edit(c.by, c.who, c.e) })
		})
	}
	require.NoError(t, edit(as(owner), member, authority.EditUser{Role: ptr("owner")}))
	require.NoError(t, edit(as(owner), member, authority.EditUser{Role: ptr("member"), BusinessUnits: ptr([]string{"north"})}))
	require.NoError(t, edit(as(admin), member, authority.EditUser{Role: ptr("admin"), TokensOff: ptr(true)}))
	require.NoError(t, edit(kim, admin, authority.EditUser{Role: ptr("owner")}), "an operator may")

	// A role with a narrow ceiling gives only narrower ones, and one that the policy
	// lets less gives none that it lets more.
	low := h.user("admin")
	r, err := h.Role(ctx, kim, "admin")
	require.NoError(t, err)
	must(h.EditRole(ctx, kim, "admin", r.Version, authority.EditRole{Access: ptr(token.ReadOnly)}))
	h.unchanged(authority.ErrExceedsGrantor, func() error {
		_, err := h.CreateUser(ctx, as(low), authority.NewUser{AccountID: h.account.ID, Name: "x", Role: "member"})
		return err
	})
	must(h.CreateUser(ctx, as(low), authority.NewUser{AccountID: h.account.ID, Name: "x", Role: "narrow"}))
	h.unchanged(authority.ErrExceedsGrantor, func() error {
		_, err := h.CreateUser(ctx, as(low), authority.NewUser{AccountID: h.account.ID, Name: "x", Role: "auditor"})
		return err
	})
}

// O11: the operator switches the option off for an account, and O12 for a user or
// a role; the tokens stop, come back, and nothing is issued meanwhile.
func TestTheTokenOptionIsSwitchedOffAndOn(t *testing.T) {
	off, on := true, false
	for name, c := range map[string]struct {
		set    func(*house, token.User, *bool)
		code   string
		ask    string
		others bool // whether the account's own tokens stop too
	}{
		"for an account": {func(h *house, _ token.User, to *bool) { h.setAccount(authority.EditAccount{TokensOff: to}) }, "account_disabled", "operator", true},
		"for a user":     {func(h *house, u token.User, to *bool) { h.setUser(u, authority.EditUser{TokensOff: to}) }, "user_disabled", "admin", false},
		"for a role": {func(h *house, _ token.User, to *bool) {
			r, err := h.Role(ctx, kim, "member")
			require.NoError(h.t, err)
			must(h.EditRole(ctx, kim, "member", r.Version, authority.EditRole{TokensOff: to}))
		}, "user_disabled", "admin", false},
	} {
		t.Run(name, func(t *testing.T) {
			h := build(t)
			user := h.user("member")
			of := func(n *authority.NewToken) { n.UserID = user.ID }
			mine, accounts := h.create(of), h.create()
			disabled := h.create(of)
			must(h.DisableToken(ctx, kim, disabled.Token.Token.ID, true))
			c.set(h, user, &off)

			require.Equal(t, c.code, h.says(mine.Secret))
			if c.others {
				require.Equal(t, c.code, h.says(accounts.Secret))
			} else {
				require.Empty(t, h.says(accounts.Secret))
			}
			for verb, f := range map[string]func() error{
				"create": func() error { _, err := h.CreateToken(ctx, kim, h.newToken(of)); return err },
				"rotate": func() error { _, err := h.RotateToken(ctx, kim, mine.Token.Token.ID, authority.Rotation{}); return err },
				"enable": func() error { _, err := h.EnableToken(ctx, kim, disabled.Token.Token.ID, true); return err },
			} {
				require.Contains(t, h.unchanged(authority.ErrForbidden, f).Detail, c.ask, verb)
			}
			must(h.RevokeToken(ctx, kim, disabled.Token.Token.ID, true)) // ending is always possible

			h.clock.add(100 * 24 * time.Hour)
			c.set(h, user, &on)
			require.Empty(t, h.says(mine.Secret), "what was there works again")
			must(h.CreateToken(ctx, kim, h.newToken(of)))

			// Windows begin anew: what could not be used was not unused (L2).
			var observed time.Time
			h.read(func(tx *tokenstore.Tx) error {
				s, err := tx.Subject(mine.Token.Token.ID)
				observed = s.Subject.History.Observed
				return err
			})
			require.WithinDuration(t, h.clock.Now(), observed, time.Second)
		})
	}
}

// While the option is off, nothing is counted as unused.
func TestATokenThatIsSwitchedOffIsNotPlannedFor(t *testing.T) {
	h := build(t)
	user := h.user("member")
	mine := h.create(func(n *authority.NewToken) { n.UserID = user.ID })
	r, err := h.Role(ctx, kim, "member")
	require.NoError(t, err)
	must(h.EditRole(ctx, kim, "member", r.Version, authority.EditRole{TokensOff: ptr(true)}))
	h.read(func(tx *tokenstore.Tx) error {
		s, err := tx.Subject(mine.Token.Token.ID)
		require.True(t, s.User.TokensOff)
		return err
	})
}

func (h *house) read(f func(*tokenstore.Tx) error) {
	h.t.Helper()
	require.NoError(h.t, h.Store.Read(ctx, f))
}

// T7, and the ownership rule of design 7.
func TestRolesAreMadeEditedAndDeleted(t *testing.T) {
	h := build(t)
	head := h.head()
	role, err := h.CreateRole(ctx, kim, authority.NewRole{Name: "billing", Access: token.Custom, Scopes: []string{"payments:write", "payments:read"}})
	require.NoError(t, err)
	require.Equal(t, []string{"payments:read", "payments:write"}, role.Ceiling.Scopes)
	role, err = h.EditRole(ctx, kim, "billing", role.Version, authority.EditRole{Scopes: ptr([]string{"payments:read"})})
	require.NoError(t, err)
	_, err = h.EditRole(ctx, kim, "billing", role.Version-1, authority.EditRole{Access: ptr(token.ReadOnly)})
	require.ErrorIs(t, err, authority.ErrVersionMismatch)
	user := h.user("billing")
	h.unchanged(authority.ErrInvalidState, func() error { return h.DeleteRole(ctx, kim, "billing") })
	h.setUser(user, authority.EditUser{Role: ptr("member")})
	require.NoError(t, h.DeleteRole(ctx, kim, "billing"))
	_, err = h.Role(ctx, kim, "billing")
	require.ErrorIs(t, err, authority.ErrNotFound)
	again, err := h.CreateRole(ctx, kim, authority.NewRole{Name: "billing", Access: token.ReadOnly})
	require.NoError(t, err)
	require.Greater(t, again.Version, role.Version, "no cache may take the old one for the new")
	var verbs []string
	for _, e := range h.entries(head) {
		verbs = append(verbs, e.Verb)
	}
	want := []string{"role.create", "role.edit", "user.create", "user.edit", "role.delete", "role.create"}
	if diff := cmp.Diff(want, verbs); diff != "" {
		t.Fatal(diff)
	}

	for name, f := range map[string]func() error{
		"a name twice": func() error {
			_, err := h.CreateRole(ctx, kim, authority.NewRole{Name: "billing", Access: token.ReadOnly})
			return err
		},
		"no name":  func() error { _, err := h.CreateRole(ctx, kim, authority.NewRole{Access: token.ReadOnly}); return err },
		"no level": func() error { _, err := h.CreateRole(ctx, kim, authority.NewRole{Name: "x"}); return err },
		"an unknown scope": func() error {
			_, err := h.CreateRole(ctx, kim, authority.NewRole{Name: "x", Access: token.Custom, Scopes: []string{"y"}})
			return err
		},
		"a management scope": func() error {
			_, err := h.CreateRole(ctx, kim, authority.NewRole{Name: "x", Access: token.Custom, Scopes: []string{token.ManageTokensRead.Name}})
			return err
		},
	} {
		require.Equal(t, "invalid_field", h.unchanged(authority.ErrInvalidField, f).Code, name)
	}
	h.unchanged(authority.ErrInvalidState, func() error { return h.DeleteRole(ctx, kim, "member") })
	h.unchanged(authority.ErrForbidden, func() error { return h.DeleteRole(ctx, as(h.userOnce("owner")), "billing") })

	// What a configuration declares is changed there, but for the switch.
	require.NoError(t, h.Declare(ctx, system, authority.Declarations{
		Policies: []token.Policy{liberal()}, Scopes: testScopes,
		Roles: []token.Role{{Name: "declared", Ceiling: token.Grant{Access: token.ReadOnly}}},
	}))
	declared, err := h.Role(ctx, kim, "declared")
	require.NoError(t, err)
	h.unchanged(authority.ErrManagedByConfig, func() error {
		_, err := h.EditRole(ctx, kim, "declared", declared.Version, authority.EditRole{Access: ptr(token.ReadWrite)})
		return err
	})
	h.unchanged(authority.ErrManagedByConfig, func() error { return h.DeleteRole(ctx, kim, "declared") })
	declared, err = h.EditRole(ctx, kim, "declared", declared.Version, authority.EditRole{TokensOff: ptr(true)})
	require.NoError(t, err)
	require.True(t, declared.TokensOff)
	require.NoError(t, h.Declare(ctx, system, authority.Declarations{
		Policies: []token.Policy{liberal()}, Scopes: testScopes,
		Roles: []token.Role{{Name: "declared", Ceiling: token.Grant{Access: token.ReadWrite}}},
	}))
	declared, err = h.Role(ctx, kim, "declared")
	require.NoError(t, err)
	require.True(t, declared.TokensOff, "a new configuration does not switch anything on")
}

// userOnce is a user who is made before what is compared is.
func (h *house) userOnce(role string) token.User {
	h.t.Helper()
	users, _, err := h.Users(ctx, kim, h.account.ID, tokenstore.Page{})
	require.NoError(h.t, err)
	for _, u := range users {
		if u.Role == role {
			return u
		}
	}
	return token.User{ID: token.ID(fmt.Sprintf("usr_no_%s", role))}
}
