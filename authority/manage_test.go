package authority_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

func scopesOf(names ...string) func(*authority.NewToken) {
	return func(n *authority.NewToken) { n.Access, n.Scopes = token.Custom, names }
}

func of(u token.User) func(*authority.NewToken) {
	return func(n *authority.NewToken) { n.UserID = u.ID }
}

// D1: a token manages others only with the scopes for it, which no access level
// holds, and no more than its user may.
func TestATokenManagesWithTheScopesForIt(t *testing.T) {
	h := build(t, func(p *token.Policy) { p.View = []string{"owner", "admin"} })
	owner, member := h.user("owner"), h.user("member")
	all := h.create(func(n *authority.NewToken) { n.Access = token.ReadWrite })
	reader := h.create(scopesOf(token.ManageTokensRead.Name))
	writer := h.create(scopesOf(token.ManageTokensWrite.Name, "payments:read"))
	owners := h.create(of(owner), scopesOf(token.ManageTokensRead.Name, token.ManageTokensWrite.Name))
	members := h.create(of(member), scopesOf(token.ManageTokensRead.Name, token.ManageTokensWrite.Name, "payments:read"))
	victim := h.create(scopesOf("payments:read")).Token.Token.ID
	show := func(by authority.Issued) error { _, err := h.Token(ctx, with(by.Token.Token.ID), victim); return err }
	disable := func(by authority.Issued) error {
		_, err := h.DisableToken(ctx, with(by.Token.Token.ID), victim, true)
		return err
	}
	require.ErrorIs(t, show(all), authority.ErrForbidden, "read_write is no key to the gate itself")
	require.ErrorIs(t, disable(all), authority.ErrForbidden)
	require.NoError(t, show(reader))
	require.ErrorIs(t, disable(reader), authority.ErrForbidden)
	require.ErrorIs(t, show(writer), authority.ErrForbidden)
	require.NoError(t, disable(writer))
	require.NoError(t, show(owners))
	require.NoError(t, disable(owners))
	require.ErrorIs(t, show(members), authority.ErrForbidden, "its user sees only their own")
	require.ErrorIs(t, disable(members), authority.ErrForbidden)

	// It makes others within what it holds itself, in its own environment, for its
	// user where the user may make no others.
	_, err := h.CreateToken(ctx, with(writer.Token.Token.ID), h.newToken(scopesOf("payments:read")))
	require.NoError(t, err)
	must(h.CreateToken(ctx, with(members.Token.Token.ID), h.newToken(of(member), scopesOf("payments:read"))))
	for name, c := range map[string]struct {
		n    authority.NewToken
		want *authority.Error
	}{
		"more scopes":        {h.newToken(scopesOf("payments:read", "payments:write")), authority.ErrExceedsGrantor},
		"an access level":    {h.newToken(func(n *authority.NewToken) { n.Access = token.ReadOnly }), authority.ErrExceedsGrantor},
		"management":         {h.newToken(scopesOf(token.ManageTokensRead.Name)), authority.ErrExceedsGrantor},
		"its own management": {h.newToken(scopesOf(token.ManageTokensWrite.Name)), authority.ErrExceedsGrantor},
		"the sandbox":        {h.newToken(scopesOf("payments:read"), func(n *authority.NewToken) { n.Environment = token.Sandbox }), authority.ErrForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			h.unchanged(c.want, func() error { _, err := h.CreateToken(ctx, with(writer.Token.Token.ID), c.n); return err })
		})
	}
	// A secret of a token that may more is more than it holds.
	strong := h.create(scopesOf("payments:write"))
	h.unchanged(authority.ErrExceedsGrantor, func() error {
		_, err := h.RotateToken(ctx, with(writer.Token.Token.ID), strong.Token.Token.ID, authority.Rotation{Mode: token.RotateNow})
		return err
	})
	h.unchanged(authority.ErrExceedsGrantor, func() error {
		_, err := h.RotateToken(ctx, with(writer.Token.Token.ID), reader.Token.Token.ID, authority.Rotation{Mode: token.RotateNow})
		return err
	})
	// People, roles and one-time codes are no token's.
	for _, f := range []func() error{
		func() error {
			_, err := h.CreateUser(ctx, with(owners.Token.Token.ID), authority.NewUser{AccountID: h.account.ID, Name: "x", Role: "member"})
			return err
		},
		func() error { _, err := h.StartEnrolment(ctx, with(owners.Token.Token.ID), owner.ID); return err },
		func() error { return h.ResetOTP(ctx, with(owners.Token.Token.ID), owner.ID) },
		func() error { return h.DeleteRole(ctx, with(owners.Token.Token.ID), "member") },
	} {
		h.unchanged(authority.ErrForbidden, f)
	}
	// D2: and one that ended does nothing more.
	must(h.RevokeToken(ctx, kim, owners.Token.Token.ID, true))
	require.ErrorIs(t, show(owners), authority.ErrForbidden)
	h.setUser(member, authority.EditUser{TokensOff: ptr(true)})
	_, err = h.Token(ctx, with(members.Token.Token.ID), members.Token.Token.ID)
	require.ErrorIs(t, err, authority.ErrForbidden)
	_, err = h.Token(ctx, with("tok_nothing"), victim)
	require.ErrorIs(t, err, authority.ErrForbidden)
}

// Design 8, self: every token sees, rotates and revokes itself, and no other.
func TestATokenForItself(t *testing.T) {
	h := build(t)
	mine, other := h.create(func(n *authority.NewToken) { n.Access = token.ReadOnly }), h.create()
	by := with(mine.Token.Token.ID)
	must(h.Token(ctx, by, mine.Token.Token.ID))
	_, err := h.Token(ctx, by, other.Token.Token.ID)
	require.ErrorIs(t, err, authority.ErrForbidden)
	head := h.head()
	rotated, err := h.RotateToken(ctx, by, mine.Token.Token.ID, authority.Rotation{Mode: token.RotateNow})
	require.NoError(t, err)
	require.Equal(t, "token "+string(mine.Token.Token.ID), h.entries(head)[0].Actor)
	require.Empty(t, h.says(rotated.Secret))
	_, err = h.RotateToken(ctx, by, other.Token.Token.ID, authority.Rotation{Mode: token.RotateNow})
	require.ErrorIs(t, err, authority.ErrForbidden)
	_, err = h.EditToken(ctx, by, mine.Token.Token.ID, 2, authority.Edit{Access: ptr(token.ReadWrite)})
	require.ErrorIs(t, err, authority.ErrForbidden)
	must(h.RevokeToken(ctx, by, mine.Token.Token.ID, true))
	_, err = h.Token(ctx, by, mine.Token.Token.ID)
	require.ErrorIs(t, err, authority.ErrForbidden)
}

// A token with management scopes that a person makes is that person's own, and so
// never does more than they may.
func TestPeopleGiveManagementScopesToThemselvesOnly(t *testing.T) {
	h := build(t)
	owner, admin := h.user("owner"), h.user("admin")
	give := func(by authority.By, change ...func(*authority.NewToken)) error {
		_, err := h.CreateToken(ctx, by, h.newToken(append(change, scopesOf(token.ManageTokensWrite.Name))...))
		return err
	}
	require.NoError(t, give(as(owner), of(owner)))
	require.NoError(t, give(forUser(admin), of(admin)))
	for _, by := range []authority.By{as(owner), as(admin), forUser(owner)} {
		h.unchanged(authority.ErrExceedsGrantor, func() error { return give(by) })
	}
	h.unchanged(authority.ErrExceedsGrantor, func() error { return give(as(admin), of(owner)) })
	require.NoError(t, give(kim))
	// Nor does an admin get hold of an owner's by its secret.
	owners := h.create(of(owner), scopesOf(token.ManageTokensWrite.Name))
	h.unchanged(authority.ErrExceedsGrantor, func() error {
		_, err := h.RotateToken(ctx, as(admin), owners.Token.Token.ID, authority.Rotation{Mode: token.RotateNow})
		return err
	})
	must(h.DisableToken(ctx, as(admin), owners.Token.Token.ID, true))
}

// D1: whatever people and tokens ask for, in whatever order, nobody gets hold of a
// secret with which the gate lets them do what their role or token does not.
func TestNobodyEverEndsWithMoreThanTheyHold(t *testing.T) {
	rounds := 400
	if testing.Short() {
		rounds = 80
	}
	h := build(t)
	r := rand.New(rand.NewPCG(8, 19))
	var grants []token.Grant
	for _, names := range [][]string{{"payments:read"}, {"payments:read", "payments:write"}, {"invoices:read", "read"}, {token.ManageTokensWrite.Name, "payments:read"}} {
		g, err := token.NewGrant(token.Custom, names, known)
		require.NoError(t, err)
		grants = append(grants, g)
	}
	grants = append(grants, token.Grant{Access: token.ReadOnly}, token.Grant{Access: token.ReadWrite})
	set := func(name string, g token.Grant) {
		role, err := h.Role(ctx, kim, name)
		require.NoError(t, err)
		must(h.EditRole(ctx, kim, name, role.Version, authority.EditRole{Access: &g.Access, Scopes: &g.Scopes}))
	}
	set("admin", grants[1])
	set("member", grants[0])
	users := []token.User{h.user("owner"), h.user("admin"), h.user("member"), h.user("auditor")}
	tokens := []token.ID{}
	for range 6 {
		g := grants[r.IntN(len(grants))]
		tokens = append(tokens, h.create(func(n *authority.NewToken) {
			n.Access, n.Scopes = g.Access, g.Scopes
			if i := r.IntN(6); i < len(users) {
				n.UserID = users[i].ID
			}
		}).Token.Token.ID)
	}
	required := []token.Scope{token.ReadScope, token.WriteScope}
	required = append(required, testScopes...)
	given := 0
	for range rounds {
		var by authority.By
		var holds func(token.Scope) bool // what whoever asks may do
		roleOf := func(u token.User) token.Grant {
			role, err := h.Role(ctx, kim, u.Role)
			require.NoError(t, err)
			return role.Ceiling
		}
		if r.IntN(3) > 0 {
			u := users[r.IntN(len(users))]
			ceiling := roleOf(u)
			by, holds = as(u), ceiling.Holds
			if r.IntN(4) == 0 && (u.Role == "owner" || u.Role == "admin") {
				by = forUser(u)
			}
		} else {
			id := tokens[r.IntN(len(tokens))]
			asking := h.show(id).Token
			by = with(id)
			holds = func(s token.Scope) bool {
				if asking.UserID == "" {
					return asking.Grant.Holds(s)
				}
				u, err := h.User(ctx, kim, asking.UserID)
				require.NoError(t, err)
				ceiling := roleOf(u)
				return asking.Grant.Holds(s) && ceiling.Holds(s)
			}
		}
		target := tokens[r.IntN(len(tokens))]
		g := grants[r.IntN(len(grants))]
		var got authority.Issued
		var err error
		switch r.IntN(3) {
		case 0:
			n := h.newToken(func(n *authority.NewToken) { n.Access, n.Scopes = g.Access, g.Scopes })
			if i := r.IntN(6); i < len(users) {
				n.UserID = users[i].ID
			}
			got, err = h.CreateToken(ctx, by, n)
		case 1:
			got, err = h.RotateToken(ctx, by, target, authority.Rotation{Mode: token.RotateNow})
		default:
			before := h.show(target).Token
			var v authority.View
			v, err = h.EditToken(ctx, by, target, before.Version, authority.Edit{Access: &g.Access, Scopes: &g.Scopes})
			if err == nil && !before.Grant.Equal(&v.Token.Grant) {
				got.Token = v
			}
		}
		if err != nil {
			var refusal *authority.Error
			require.ErrorAs(t, err, &refusal)
			continue
		}
		if got.Token.Token.ID == "" {
			continue
		}
		given++
		after := got.Token.Token
		for _, s := range required {
			through := after.Grant.Holds(s)
			if after.UserID != "" {
				u, err := h.User(ctx, kim, after.UserID)
				require.NoError(t, err)
				ceiling := roleOf(u)
				through = through && ceiling.Holds(s)
			}
			require.False(t, through && !holds(s), "%v got a token that does %s, by %+v", by.Actor, s.Name, after)
		}
		if by.Actor.Kind == tokenstore.TokenActor && by.Actor.Name != string(after.ID) {
			require.Empty(t, after.Grant.Management(), "a token gave management away")
		}
		if len(tokens) < 40 && !got.Secret.IsZero() {
			tokens = append(tokens, after.ID)
		}
	}
	require.Greater(t, given, rounds/10, "the rounds must try what goes through as well")
	h.chainHolds()
}

func known(name string) (token.Scope, bool) {
	for _, s := range testScopes {
		if s.Name == name {
			return s, true
		}
	}
	return token.Scope{}, false
}
