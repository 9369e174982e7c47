package authority_test

import (
	"crypto/rand"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

func found(s token.Secret) authority.Leak {
	return authority.Leak{Secret: s.Reveal(), Source: "content", URL: "https://user:pass@GitHub.com:443/octo/repo/blob/main/.env?x=" + s.Reveal()}
}

func (h *house) leak(leaks ...authority.Leak) []authority.LeakResult {
	h.t.Helper()
	results, err := h.ReportLeaks(ctx, kim, leaks)
	require.NoError(h.t, err)
	require.Len(h.t, results, len(leaks))
	return results
}

func TestASecretThatWasFoundEndsItsTokenOnce(t *testing.T) {
	h := telling(t)
	h.person("owner", "owner")
	issued := h.create()
	id := issued.Token.Token.ID
	head := h.head()
	told, said := h.tells(func() {
		results := h.leak(found(issued.Secret), found(issued.Secret))
		require.Equal(t, []authority.LeakResult{{Outcome: authority.LeakRevoked, TokenID: id}, {Outcome: authority.LeakEnded, TokenID: id}}, results)
	})
	require.Contains(t, told, token.EventRevoked)
	require.Len(t, told, 1)
	require.Equal(t, notify.ReasonLeaked, said.Reason)
	require.Equal(t, "it was found at github.com", said.Note)
	require.Equal(t, "revoked_token", h.says(issued.Secret))

	v := h.show(id)
	require.Equal(t, token.Revoked, v.State)
	require.Equal(t, authority.EndLeaked, v.Token.EndReason)
	h.told(head, entry{
		Verb: "token.revoke", Target: string(id),
		Before: map[string]any{"state": "active", "end_reason": nil},
		After: map[string]any{
			"state": "revoked", "end_reason": "leaked", "reason": "leaked", "source": "content", "host": "github.com",
			"secret_id": string(issued.Token.Current.ID), "last4": issued.Secret.Last4(),
		},
	})
	before := h.world()
	told, _ = h.tells(func() {
		require.Equal(t, authority.LeakEnded, h.leak(found(issued.Secret))[0].Outcome)
	})
	require.Empty(t, told)
	require.Equal(t, before.Head, h.world().Head, "a repetition writes nothing")
	h.chainHolds()
}

// Whoever found a secret that worked could have rotated the token with it: then they
// hold the newest secret, and only the end of the token stops them.
func TestAPreviousSecretThatStillWorksEndsTheWholeToken(t *testing.T) {
	h := build(t)
	issued := h.create()
	next, err := h.RotateToken(ctx, kim, issued.Token.Token.ID, authority.Rotation{})
	require.NoError(t, err)
	require.Equal(t, authority.LeakRevoked, h.leak(found(issued.Secret))[0].Outcome)
	require.Equal(t, "revoked_token", h.says(next.Secret))
}

func TestWhatCouldBeBroughtBackIsRevokedToo(t *testing.T) {
	h := build(t)
	disabled := h.create()
	_, err := h.DisableToken(ctx, kim, disabled.Token.Token.ID, true)
	require.NoError(t, err)
	expired := h.create(func(n *authority.NewToken) { n.ExpiresAt = h.clock.Now().Add(time.Hour) })
	h.clock.add(2 * time.Hour)
	require.Equal(t, "expired_token", h.says(expired.Secret))
	for _, r := range h.leak(found(disabled.Secret), found(expired.Secret)) {
		require.Equal(t, authority.LeakRevoked, r.Outcome)
		require.Equal(t, token.Revoked, h.show(r.TokenID).State)
	}
}

func TestARetiredSecretThatWasFoundIsToldOfOnceAndItsTokenLivesOn(t *testing.T) {
	h := telling(t, revoking)
	h.person("owner", "owner")
	issued := h.create()
	id := issued.Token.Token.ID
	next, err := h.RotateToken(ctx, kim, id, authority.Rotation{Mode: token.RotateNow})
	require.NoError(t, err)
	head := h.head()
	told, said := h.tells(func() {
		require.Equal(t, []authority.LeakResult{{Outcome: authority.LeakNoted, TokenID: id}}, h.leak(found(issued.Secret)))
	})
	require.Contains(t, told, token.EventRetiredSecretUsed)
	require.Len(t, told, 1)
	require.Equal(t, notify.ReasonLeaked, said.Reason)
	require.Equal(t, issued.Secret.Last4(), said.Last4)
	require.Empty(t, said.Actor, "who reports is not who leaked")
	require.Empty(t, h.says(next.Secret))
	h.told(head, entry{
		Verb: "token.leak", Target: string(id),
		After: map[string]any{
			"reason": "leaked", "source": "content", "host": "github.com",
			"secret_id": string(issued.Token.Current.ID), "last4": issued.Secret.Last4(),
		},
	})
	h.clock.add(100 * 24 * time.Hour)
	head = h.head()
	told, _ = h.tells(func() {
		require.Equal(t, authority.LeakNoted, h.leak(found(issued.Secret))[0].Outcome)
	})
	require.Empty(t, told)
	require.Equal(t, head, h.head())
}

func TestWhatIsNoSecretOfOursChangesNothing(t *testing.T) {
	h := build(t)
	issued := h.create()
	stranger, err := token.NewSecret(rand.Reader, "sp", token.Production)
	require.NoError(t, err)
	before := h.world()
	text := issued.Secret.Reveal()
	for _, r := range h.leak(
		found(stranger), authority.Leak{}, authority.Leak{Secret: text[:len(text)-1] + "x"}, authority.Leak{Secret: text + " "},
		authority.Leak{Secret: strings.Repeat("x", 1<<20)}, authority.Leak{Secret: "\xff\x00"},
	) {
		require.Equal(t, authority.LeakResult{}, r)
	}
	require.Equal(t, before, h.world())
}

// Neither the place nor its kind can carry a secret, or fake lines, into the audit log.
func TestOfWhereASecretWasFoundOnlyTheHostIsKept(t *testing.T) {
	for text, host := range map[string]string{
		"": "", "https://github.com/a/b?token=x#y": "github.com", "http://GIST.github.com.:8080/": "gist.github.com",
		"https://[2001:db8::1]/x": "2001:db8::1", "https://192.0.2.1/x": "192.0.2.1", "ftp://example.com/": "", "github.com/x": "", "https://": "",
		"https://sp_live_xyz.example.com/": "", "https://ex%0aample.com/": "", "https://exämple.com/": "", "https://a b/": "",
		"https://" + strings.Repeat("a", 300) + "/": "", "https://github.com/" + strings.Repeat("a", 9000): "", "javascript:alert(1)": "", "://": "",
	} {
		require.Equal(t, host, authority.LeakHost(text), text)
	}
	for text, source := range map[string]string{
		"content": "content", "wiki_commit": "wiki_commit", "": "", "Content": "", "a\nb": "", strings.Repeat("a", 33): "", "<b>": "",
	} {
		require.Equal(t, source, authority.LeakSource(text), text)
	}
}

func FuzzLeakHost(f *testing.F) {
	for _, seed := range []string{"https://github.com/a", "http://[::1%25eth0]/", "https://x_y/", "https://a@b@c/", "https://%41/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		host := authority.LeakHost(text)
		if strings.ContainsAny(host, "_/@?#% \n\x00") || len(host) > 253 {
			t.Fatalf("host %q", host)
		}
	})
}

// D1, D2: operators report, and nobody else; and who may not is told nothing of what
// was found.
func TestOnlyOperatorsReportLeaks(t *testing.T) {
	h := build(t)
	issued := h.create()
	owner := h.user("owner")
	asOwner := authority.By{Actor: tokenstore.Actor{Kind: tokenstore.UserActor, Name: string(owner.ID)}}
	onBehalf := kim
	onBehalf.RequestedBy = owner.ID
	for _, by := range []authority.By{asOwner, onBehalf} {
		for _, leaks := range [][]authority.Leak{{found(issued.Secret)}, {{Secret: "x"}}, nil, make([]authority.Leak, authority.MaxLeaks+1)} {
			h.unchanged(authority.ErrForbidden, func() error {
				_, err := h.ReportLeaks(ctx, by, leaks)
				return err
			})
		}
	}
	h.unchanged(authority.ErrInvalidField, func() error {
		_, err := h.ReportLeaks(ctx, kim, make([]authority.Leak, authority.MaxLeaks+1))
		return err
	})
}

func TestALeakIsFoundUnderAnOlderKey(t *testing.T) {
	h, _, second := twoKeys(t)
	old := h.create()
	require.NoError(t, h.RotateMasterKey(ctx, kim, second))
	require.Equal(t, authority.LeakRevoked, h.leak(found(old.Secret))[0].Outcome)
}

func TestIntrospectionTellsWhatAnActiveSecretIsGoodFor(t *testing.T) {
	h := build(t)
	inside := netip.MustParseAddr("192.0.2.9")
	ask := func(s token.Secret, from netip.Addr) authority.Introspection {
		before := h.world()
		got, err := h.Introspect(ctx, kim, s.Reveal(), from)
		require.NoError(t, err)
		require.Equal(t, before, h.world(), "being asked about is not use")
		return got
	}
	reader := h.create(func(n *authority.NewToken) { n.Access = token.ReadOnly })
	require.Equal(t, []string{"invoices:read", "payments:read", "read"}, ask(reader.Secret, netip.Addr{}).Scopes)
	writer := h.create()
	require.Equal(t, []string{"invoices:read", "payments:read", "payments:write", "read", "write"}, ask(writer.Secret, netip.Addr{}).Scopes)

	narrow := h.create(func(n *authority.NewToken) {
		n.Access, n.Scopes, n.AllowList = token.Custom, []string{"payments:write", "payments:read"}, []string{"192.0.2.0/24"}
		n.ExpiresAt = h.clock.Now().Add(10 * time.Hour)
	})
	require.Equal(t, authority.Introspection{}, ask(narrow.Secret, netip.Addr{}), "it may not come from everywhere")
	require.Equal(t, authority.Introspection{}, ask(narrow.Secret, netip.MustParseAddr("198.51.100.9")))
	got := ask(narrow.Secret, inside)
	require.True(t, got.Active)
	require.Equal(t, []string{"payments:read", "payments:write"}, got.Scopes)
	require.Equal(t, narrow.Token.Expires, got.Expires)

	// A role that lets less happen than the token lists.
	require.NoError(t, h.Declare(ctx, system, authority.Declarations{
		Policies: []token.Policy{liberal()}, Scopes: testScopes,
		Roles: []token.Role{{Name: "clerk", Ceiling: token.Grant{Access: token.ReadOnly}}},
	}))
	clerk := h.user("clerk")
	bound := h.create(func(n *authority.NewToken) { n.UserID = clerk.ID })
	got = ask(bound.Secret, inside)
	require.Equal(t, []string{"invoices:read", "payments:read", "read"}, got.Scopes)
	require.Equal(t, "Ada", got.Username)

	// A previous secret ends before its token.
	_, err := h.RotateToken(ctx, kim, writer.Token.Token.ID, authority.Rotation{})
	require.NoError(t, err)
	require.Equal(t, h.show(writer.Token.Token.ID).Previous.ExpiresAt, ask(writer.Secret, inside).Expires)
	h.clock.add(time.Hour)
	require.Equal(t, authority.Introspection{}, ask(writer.Secret, inside))
	_, err = h.RevokeToken(ctx, kim, reader.Token.Token.ID, true)
	require.NoError(t, err)
	require.Equal(t, authority.Introspection{}, ask(reader.Secret, inside))

	asUser := authority.By{Actor: tokenstore.Actor{Kind: tokenstore.UserActor, Name: string(clerk.ID)}}
	_, err = h.Introspect(ctx, asUser, bound.Secret.Reveal(), inside)
	require.True(t, errors.Is(err, authority.ErrForbidden))
}
