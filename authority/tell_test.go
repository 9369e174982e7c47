package authority_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// telling is a house whose people are told by mail.
func telling(t testing.TB, change ...func(*token.Policy)) *house {
	t.Helper()
	h := build(t, change...)
	h.Teller = &notify.Notifier{NewID: h.NewID, Mail: true}
	return h
}

func (h *house) person(name, role string) token.User {
	h.t.Helper()
	u, err := h.CreateUser(ctx, kim, authority.NewUser{AccountID: h.account.ID, Name: name, Email: name + "@example.com", Role: role})
	require.NoError(h.t, err)
	return u
}

// notices lists what was told, oldest first.
func (h *house) notices() (list []tokenstore.Notice) {
	h.t.Helper()
	storetest.MustRead(h.t, h.Store, func(tx *tokenstore.Tx) (err error) {
		list, _, err = tx.Notices(tokenstore.NoticeQuery{}, tokenstore.Page{Limit: tokenstore.MaxLimit})
		return err
	})
	slices.Reverse(list)
	return list
}

// tells gives what f has people told: of each event the recipients, and what the
// last message says.
func (h *house) tells(f func()) (told map[token.Event][]string, said notify.Facts) {
	h.t.Helper()
	before := len(h.notices())
	f()
	told = map[token.Event][]string{}
	for _, n := range h.notices()[before:] {
		told[n.Event] = append(told[n.Event], n.Recipient)
		said = notify.Facts{}
		require.NoError(h.t, json.Unmarshal(n.Facts, &said))
	}
	for event := range told {
		slices.Sort(told[event])
	}
	return told, said
}

// What each verb of people has told, by whom and of what; and that one which changes
// nothing tells nothing.
func TestEachVerbIsToldInItsTransactionAndOnce(t *testing.T) {
	var (
		issued authority.Issued
		id     token.ID
	)
	h := telling(t)
	h.person("owner", "owner")
	h.person("admin", "admin")
	create := func() {
		issued = h.create(func(n *authority.NewToken) {
			n.Access, n.Scopes, n.AllowList = token.Custom, []string{"payments:read"}, []string{"192.0.2.0/24"}
			n.ExpiresAt = h.clock.Now().Add(90 * 24 * time.Hour)
		})
		id = issued.Token.Token.ID
	}
	view := func(v authority.View, err error) { h.t.Helper(); require.NoError(t, err) }
	edit := func(e authority.Edit) func() {
		return func() { view(h.EditToken(ctx, kim, id, h.show(id).Token.Version, e)) }
	}
	create()
	for _, c := range []struct {
		name  string
		do    func()
		event token.Event // empty: nothing is told
		want  notify.Facts
	}{
		{"create", create, token.EventCreated, notify.Facts{}},
		{"edit a name", edit(authority.Edit{Name: ptr("yearly export")}), token.EventEdited, notify.Facts{Changed: []string{"name"}, WasNamed: "nightly export"}},
		{"the same again", edit(authority.Edit{Name: ptr("yearly export")}), "", notify.Facts{}},
		{
			"edit what it may do", edit(authority.Edit{Scopes: &[]string{"payments:read", "invoices:read"}, AllowList: &[]string{"198.51.100.7"}}),
			token.EventEdited,
			notify.Facts{Changed: []string{"ip_allowlist", "scopes"}, Access: "custom", Scopes: []string{"invoices:read", "payments:read"}},
		},
		{"disable", func() { view(h.DisableToken(ctx, kim, id, true)) }, token.EventDisabled, notify.Facts{}},
		{"disable again", func() { view(h.DisableToken(ctx, kim, id, true)) }, "", notify.Facts{}},
		{"enable", func() { view(h.EnableToken(ctx, kim, id, true)) }, token.EventEnabled, notify.Facts{}},
		{
			"exempt", func() { view(h.ExemptToken(ctx, kim, id, "the yearly report", h.clock.Now().Add(time.Hour), true)) },
			token.EventExempted,
			notify.Facts{Due: h.clock.Now().Add(time.Hour).Truncate(time.Microsecond), Note: "the yearly report"},
		},
		{"exempt again", func() { view(h.ExemptToken(ctx, kim, id, "the yearly report", h.clock.Now().Add(time.Hour), true)) }, "", notify.Facts{}},
		{"end the exemption", func() { view(h.ExemptToken(ctx, kim, id, "", time.Time{}, true)) }, token.EventExempted, notify.Facts{}},
		{"revoke", func() { view(h.RevokeToken(ctx, kim, id, true)) }, token.EventRevoked, notify.Facts{}},
		{"revoke again", func() { view(h.RevokeToken(ctx, kim, id, true)) }, "", notify.Facts{}},
		{"delete", func() { view(h.DeleteToken(ctx, kim, id, true)) }, token.EventDeleted, notify.Facts{}},
		{"delete again", func() { view(h.DeleteToken(ctx, kim, id, true)) }, "", notify.Facts{}},
	} {
		told, said := h.tells(c.do)
		if c.event == "" {
			require.Empty(t, told, c.name)
			continue
		}
		require.Equal(t, map[token.Event][]string{c.event: {"owner@example.com"}}, told, c.name)
		now := h.show(id)
		want := c.want
		want.TokenName, want.Last4 = now.Token.Name, issued.Secret.Last4()
		want.At, want.Actor, want.Address = h.clock.Now().UTC().Truncate(time.Microsecond), "operator kim (unverified)", "127.0.0.1"
		if now.State != token.Revoked && now.State != token.Deleted {
			want.ExpiresAt = now.Expires
		}
		if !want.Due.IsZero() {
			want.Due = want.Due.UTC()
		}
		require.Empty(t, cmp.Diff(want, said), c.name)
	}
	for _, n := range h.notices() {
		require.NotContains(t, string(n.Facts), issued.Secret.Reveal())
		require.NotContains(t, string(n.Facts), "198.51.100", "an allow-list is nothing for a mail")
	}
}

// L5, L6: what people take back of the lifecycle's acts.
func TestWhatIsTakenBackIsTold(t *testing.T) {
	h := telling(t, func(p *token.Policy) { p.RestoreWindow, p.DowngradeUndo = 24*time.Hour, true })
	h.person("owner", "owner")
	id := h.create().Token.Token.ID
	keep := func(list ...authority.Keeping) {
		require.NoError(t, h.Keep(ctx, lifecycleActor, id, func(*tokenstore.Tx, *tokenstore.Subject) ([]authority.Keeping, error) { return list, nil }))
	}
	narrow := token.Grant{Access: token.ReadOnly}
	keep(authority.Keeping{Verb: authority.VerbDowngradeToken, Grant: &narrow, History: func(history *tokenstore.History) {
		history.DowngradedAt, history.UndoUntil, history.Before = h.clock.Now(), h.clock.Now().Add(time.Hour), token.Grant{Access: token.ReadWrite}
	}})
	told, said := h.tells(func() {
		_, err := h.UndoDowngrade(ctx, kim, id, true)
		require.NoError(t, err)
	})
	require.Equal(t, map[token.Event][]string{token.EventDowngradeUndone: {"owner@example.com"}}, told)
	require.Equal(t, "read_write", said.Access)

	keep(authority.Keeping{Verb: authority.VerbDeleteUnused, End: token.EndUnused})
	told, said = h.tells(func() {
		_, err := h.RestoreToken(ctx, kim, id, time.Time{}, true)
		require.NoError(t, err)
	})
	require.Equal(t, map[token.Event][]string{token.EventRestored: {"owner@example.com"}}, told)
	require.Equal(t, "operator kim (unverified)", said.Actor)
}

// T13: the requester and the account owner are told, and who acted stands in it.
func TestWhoAskedIsToldWithTheOwner(t *testing.T) {
	h := telling(t)
	owner, admin := h.person("owner", "owner"), h.person("admin", "admin")
	for name, c := range map[string]struct {
		by    authority.By
		actor string
		want  []string
	}{
		"an operator in their own name": {kim, "operator kim (unverified)", []string{"owner@example.com"}},
		"an operator who is known": {
			authority.By{Actor: tokenstore.Actor{Kind: tokenstore.OperatorActor, Name: "CN=kim", Verified: true}}, "operator CN=kim", []string{"owner@example.com"},
		},
		"an operator without a name": {
			authority.By{Actor: tokenstore.Actor{Kind: tokenstore.OperatorActor}}, "an operator without a name (unverified)", []string{"owner@example.com"},
		},
		"an operator for an admin": {
			authority.By{Actor: kim.Actor, RequestedBy: admin.ID},
			"operator kim (unverified) on behalf of admin (" + string(admin.ID) + ")",
			[]string{"admin@example.com", "owner@example.com"},
		},
		"an operator for the owner": {
			authority.By{Actor: kim.Actor, RequestedBy: owner.ID},
			"operator kim (unverified) on behalf of owner (" + string(owner.ID) + ")",
			[]string{"owner@example.com"},
		},
		"Sallyport itself": {system, "Sallyport itself", []string{"owner@example.com"}},
	} {
		t.Run(name, func(t *testing.T) {
			told, said := h.tells(func() {
				_, err := h.CreateToken(ctx, c.by, h.newToken())
				require.NoError(t, err)
			})
			require.Equal(t, map[token.Event][]string{token.EventCreated: c.want}, told)
			require.Equal(t, c.actor, said.Actor)
		})
	}
}

// O17, O23: under the preset own the user of a token is told when it is created and
// when it is revoked, and nobody else is.
func TestUnderThePresetOwnTheUserIsTold(t *testing.T) {
	h := telling(t, func(p *token.Policy) {
		own, ok := token.Preset("own")
		require.True(t, ok)
		p.Notify = own.Notify
	})
	h.person("owner", "owner")
	max := h.person("max", "member")
	var id token.ID
	told, _ := h.tells(func() { id = h.create(func(n *authority.NewToken) { n.UserID = max.ID }).Token.Token.ID })
	require.Equal(t, map[token.Event][]string{token.EventCreated: {"max@example.com"}}, told)
	told, _ = h.tells(func() {
		_, err := h.RevokeToken(ctx, kim, id, true)
		require.NoError(t, err)
	})
	require.Equal(t, map[token.Event][]string{token.EventRevoked: {"max@example.com"}}, told)
}

// R13: whoever may view the keys is told, where the policy names them.
func TestThoseWhoMayViewATokenAreTold(t *testing.T) {
	h := telling(t, func(p *token.Policy) {
		p.View = []string{"owner", "auditor"}
		p.Notify = map[token.Event][]token.Class{token.EventDisabled: {token.ClassViewers}}
	})
	h.person("owner", "owner")
	h.person("admin", "admin")
	h.person("auditor", "auditor")
	id := h.create().Token.Token.ID
	told, _ := h.tells(func() {
		_, err := h.DisableToken(ctx, kim, id, true)
		require.NoError(t, err)
	})
	require.Equal(t, map[token.Event][]string{token.EventDisabled: {"auditor@example.com", "owner@example.com"}}, told)
}

// F38: a request that is repeated because its answer was lost is one creation.
func TestARetryTellsNothingAnew(t *testing.T) {
	h := telling(t)
	h.person("owner", "owner")
	told, _ := h.tells(func() {
		for range 3 {
			_, err := h.CreateToken(ctx, retrying("key", 1), h.newToken())
			require.NoError(t, err)
		}
	})
	require.Equal(t, map[token.Event][]string{token.EventCreated: {"owner@example.com"}}, told)
}

func TestAVerbThatIsRefusedTellsNothing(t *testing.T) {
	h := telling(t, func(p *token.Policy) { p.Confirm = []string{"revoke", "create"} })
	h.person("owner", "owner")
	issued, err := h.CreateToken(ctx, kim, h.newToken(func(n *authority.NewToken) { n.Confirm = true }))
	require.NoError(t, err)
	told, _ := h.tells(func() {
		_, err := h.CreateToken(ctx, kim, h.newToken())
		require.ErrorIs(t, err, authority.ErrConfirmationRequired)
		_, err = h.RevokeToken(ctx, kim, issued.Token.Token.ID, false)
		require.ErrorIs(t, err, authority.ErrConfirmationRequired)
		_, err = h.EditToken(ctx, kim, issued.Token.Token.ID, 99, authority.Edit{Name: ptr("x")})
		require.ErrorIs(t, err, authority.ErrVersionMismatch)
	})
	require.Empty(t, told)
}

// Nobody waits for an address when a token has to end at once.
func TestNobodyToTellStandsInNoVerbsWay(t *testing.T) {
	for name, teller := range map[string]func(h *house) *notify.Notifier{
		"nobody tells":     func(*house) *notify.Notifier { return nil },
		"no channel":       func(h *house) *notify.Notifier { return &notify.Notifier{NewID: h.NewID} },
		"nobody to listen": func(h *house) *notify.Notifier { return &notify.Notifier{NewID: h.NewID, Mail: true} },
	} {
		t.Run(name, func(t *testing.T) {
			h := build(t)
			h.Teller = teller(h)
			id := h.create().Token.Token.ID
			_, err := h.RevokeToken(ctx, kim, id, true)
			require.NoError(t, err)
			require.Empty(t, h.notices())
		})
	}
}

// A use of a retired secret is told once for each secret and day, and as what came
// of it.
func TestAUseOfARetiredSecretIsToldOnceADay(t *testing.T) {
	h := telling(t)
	h.person("owner", "owner")
	issued := h.create()
	_, err := h.RotateToken(ctx, kim, issued.Token.Token.ID, authority.Rotation{Mode: token.RotateNow})
	require.NoError(t, err)
	alert := map[token.Event][]string{token.EventRetiredSecretUsed: {"owner@example.com"}}
	told, said := h.tells(func() {
		for range 20 {
			h.retiredUse(issued)
		}
	})
	require.Equal(t, alert, told)
	require.Equal(t, issued.Secret.Last4(), said.Last4, "the secret that was used, and not the one that works")
	require.Equal(t, "192.0.2.7", said.Address)
	require.Empty(t, said.Actor, "nobody knows who it was")

	h.clock.add(24 * time.Hour)
	told, _ = h.tells(func() { h.retiredUse(issued); h.retiredUse(issued) })
	require.Equal(t, alert, told)

	h.policy(revoking)
	told, said = h.tells(func() { h.retiredUse(issued); h.retiredUse(issued) })
	alert[token.EventRevoked] = []string{"owner@example.com"}
	require.Equal(t, alert, told)
	require.NotEmpty(t, said.Reason)
}

// A token that ends because nothing can find its secret any more, and a secret that
// does, are told of as what they are.
func TestWhatEndsWithAMasterKeyIsTold(t *testing.T) {
	h, first, second := twoKeys(t)
	h.Teller = &notify.Notifier{NewID: h.NewID, Mail: true}
	h.person("owner", "owner")
	h.create()
	rotated := h.create()
	require.NoError(t, h.RotateMasterKey(ctx, kim, second))
	must(h.RotateToken(ctx, kim, rotated.Token.Token.ID, authority.Rotation{}))
	told, said := h.tells(func() { must(h.RemoveMasterKey(ctx, kim, first, true)) })
	require.Equal(t, map[token.Event][]string{
		token.EventRevoked: {"owner@example.com"}, token.EventSecretRevoked: {"owner@example.com"},
	}, told)
	require.Equal(t, notify.ReasonMasterKeyRemoved, said.Reason)
}
