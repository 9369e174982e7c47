package caddymodule

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/cached"
)

// cutOff is a house whose store can go away, with an uptime that stands until it
// is moved. Known tokens go on for a minute there.
func cutOff(t *testing.T, staleFor time.Duration) (*gatehouse, *standingClock) {
	t.Helper()
	uptime := &standingClock{at: time.Unix(0, 0)}
	h := newGatehouse(t, func(o *cached.Options) {
		o.StaleFor = staleFor
		o.Uptime = func() time.Duration { return uptime.Now().Sub(time.Unix(0, 0)) }
	})
	uptime.add(time.Hour)
	open := h.app.runtime.open.Load()
	require.NoError(t, open.store.Sync(t.Context()))
	return h, uptime
}

// leave takes the store away, so that what is known is as of now.
func (h *gatehouse) leave() {
	h.t.Helper()
	require.NoError(h.t, h.app.runtime.open.Load().store.Sync(h.t.Context()))
	h.inner.down.Store(true)
	// A reading that was under way may still succeed.
	until(h.t, "the feed stops", func() bool {
		store := h.app.runtime.open.Load().store
		failed := store.Stats().PollErrors
		_ = store.Sync(h.t.Context())
		return store.Stats().PollErrors > failed
	})
}

func freshOnly(n *authority.NewToken) { n.FreshOnly = true }

// Matrix 1.5: what is decided while the store is out of reach, by how long ago
// the node knew all changes.
func TestWhatIsDecidedWhileTheStoreIsOutOfReach(t *testing.T) {
	const staleFor = time.Minute
	h, uptime := cutOff(t, staleFor)
	unlimited := 0
	plain := h.gate(func(g *Gate) { g.FailureLimit = &unlimited })
	careful := h.gate(func(g *Gate) { g.FailureLimit, g.FreshOnly = &unlimited, true })
	behind := h.gate(func(g *Gate) { g.FailureLimit = &unlimited })

	soon := func(n *authority.NewToken) { n.ExpiresAt = h.clock.Now().Add(time.Minute) }
	elsewhere := func(n *authority.NewToken) { n.AllowList = []string{"198.51.100.0/24"} }
	revoked := h.issue()
	_, err := h.RevokeToken(t.Context(), keeper, revoked.Token.Token.ID, true)
	require.NoError(t, err)
	unknown := h.issue() // which this node never saw

	rows := []struct {
		name   string
		issued authority.Issued
		gates  []*Gate
		method string
		warm   string // the answer while the store is there
		// The answers by the feed's age: fresh, up to 5 s, up to the stale limit, older.
		want [4]string
	}{
		{"known", h.issue(), []*Gate{plain}, "GET", "", [4]string{"", "", "", "503"}},
		{"unknown to this node", unknown, []*Gate{plain}, "GET", "-", [4]string{"503", "503", "503", "503"}},
		{"expired meanwhile", h.issue(soon), []*Gate{plain}, "GET", "", [4]string{"expired_token", "expired_token", "expired_token", "503"}},
		{"address not listed", h.issue(elsewhere), []*Gate{plain}, "GET", "ip_not_allowed", [4]string{"ip_not_allowed", "ip_not_allowed", "ip_not_allowed", "503"}},
		{"scope lacking", h.issue(custom("payments:read")), []*Gate{plain}, "GET", "insufficient_scope", [4]string{"insufficient_scope", "insufficient_scope", "insufficient_scope", "503"}},
		{"writing with a reader", h.issue(), []*Gate{plain}, "POST", "read_only_token", [4]string{"read_only_token", "read_only_token", "read_only_token", "503"}},
		{"revoked before", revoked, []*Gate{plain}, "GET", "revoked_token", [4]string{"revoked_token", "revoked_token", "revoked_token", "503"}},

		{"fresh_only token", h.issue(freshOnly), []*Gate{plain}, "GET", "", [4]string{"", "", "503", "503"}},
		{"fresh_only token, unknown to this node", h.issue(freshOnly), []*Gate{plain}, "GET", "-", [4]string{"503", "503", "503", "503"}},
		{"fresh_only token, expired meanwhile", h.issue(freshOnly, soon), []*Gate{plain}, "GET", "", [4]string{"expired_token", "expired_token", "503", "503"}},
		{"fresh_only token, address not listed", h.issue(freshOnly, elsewhere), []*Gate{plain}, "GET", "ip_not_allowed", [4]string{"ip_not_allowed", "ip_not_allowed", "503", "503"}},
		{"fresh_only token, scope lacking", h.issue(freshOnly), []*Gate{plain}, "POST", "read_only_token", [4]string{"read_only_token", "read_only_token", "503", "503"}},

		{"fresh_only gate", h.issue(), []*Gate{careful}, "GET", "", [4]string{"", "", "503", "503"}},
		{"fresh_only gate, unknown to this node", unknown, []*Gate{careful}, "GET", "-", [4]string{"503", "503", "503", "503"}},
		{"fresh_only gate, expired meanwhile", h.issue(soon), []*Gate{careful}, "GET", "", [4]string{"expired_token", "expired_token", "503", "503"}},
		{"fresh_only gate, scope lacking", h.issue(custom("payments:read")), []*Gate{careful}, "GET", "insufficient_scope", [4]string{"insufficient_scope", "insufficient_scope", "503", "503"}},
		{"fresh_only gate behind another", h.issue(), []*Gate{behind, careful}, "GET", "", [4]string{"", "", "503", "503"}},
		{"fresh_only gate before another", h.issue(), []*Gate{careful, behind}, "GET", "", [4]string{"", "", "503", "503"}},
	}
	ask := func(row int, warm bool) string {
		r := rows[row]
		c := serve(newCall(r.method, "/", "Authorization", bearer(r.issued.Secret)), r.gates...)
		require.NoError(t, c.err, r.name)
		if c.Code != http.StatusServiceUnavailable {
			require.Equal(t, c.Code == http.StatusOK, c.upstream != nil, r.name)
			return c.code(t)
		}
		require.False(t, warm, r.name)
		require.Equal(t, "store_unavailable", c.code(t), r.name)
		require.Equal(t, "1", c.Header().Get("Retry-After"), r.name)
		require.Empty(t, c.Header().Get("WWW-Authenticate"), "%s: the token is not blamed", r.name)
		require.Nil(t, c.upstream, r.name)
		return "503"
	}
	for i, r := range rows {
		if r.warm != "-" {
			require.Equal(t, r.warm, ask(i, true), "%s, while the store is there", r.name)
		}
	}
	h.leave()
	h.clock.add(2 * time.Minute) // what expires soon has done so

	for column, step := range []struct {
		name string
		by   time.Duration
	}{
		{"fresh", 0},
		{"up to 5 s old", 5 * time.Second},
		{"older than 5 s", time.Microsecond},
		{"as old as it may be", staleFor - 5*time.Second - time.Microsecond},
		{"older than the limit", time.Microsecond},
		{"much older", time.Hour},
	} {
		uptime.add(step.by)
		for i, r := range rows {
			want := r.want[[]int{0, 1, 2, 2, 3, 3}[column]]
			require.Equal(t, want, ask(i, false), "%s, feed %s", r.name, step.name)
		}
	}
	err = h.app.runtime.open.Load().management().Write(t.Context(), func(tx *tokenstore.Tx) error { return nil })
	require.ErrorIs(t, err, tokenstore.ErrUnavailable, "nothing can be changed")

	h.inner.down.Store(false)
	for i, r := range rows {
		want := r.want[0]
		if want == "503" {
			want = ""
		}
		until(t, r.name+" is decided again", func() bool { return ask(i, false) == want })
	}
}

// Not being able to decide is no failure of the caller: the budget stays whole.
func TestWhatIsNotDecidedDoesNotCountAsAFailure(t *testing.T) {
	h, uptime := cutOff(t, time.Minute)
	one := 1
	g := h.gate(func(g *Gate) { g.FailureLimit = &one })
	issued := h.issue(freshOnly)
	call := func() *call { return serve(newCall("GET", "/", "Authorization", bearer(issued.Secret)), g) }
	require.Equal(t, 200, call().Code)
	h.leave()
	uptime.add(6 * time.Second)
	for range 5 {
		require.Equal(t, "store_unavailable", call().code(t))
	}
	require.False(t, h.app.runtime.failures.Spent(parseAddress("192.0.2.7"), one, h.clock.Now()))
}

// With stale_if_unavailable 0 nothing outlives the bound of a cached answer,
// marked or not.
func TestWithNoStaleTimeAMarkChangesNothing(t *testing.T) {
	h, uptime := cutOff(t, 0)
	g := h.gate()
	marked, not := h.issue(freshOnly), h.issue()
	code := func(i authority.Issued) string {
		return serve(newCall("GET", "/", "Authorization", bearer(i.Secret)), g).code(t)
	}
	require.Empty(t, code(marked))
	require.Empty(t, code(not))
	h.leave()
	require.Empty(t, code(marked), "the feed is fresh")
	require.Empty(t, code(not), "the feed is fresh")
	uptime.add(2 * time.Second)
	require.Equal(t, "store_unavailable", code(marked))
	require.Equal(t, "store_unavailable", code(not))
}

// Requests that last are bound by it like those that begin.
func TestAStreamOfAFreshOnlyTokenOrGateEndsWithTheFeed(t *testing.T) {
	h, uptime := cutOff(t, time.Minute)
	plain, careful := h.gate(), h.gate(func(g *Gate) { g.FreshOnly = true })
	open := func(i authority.Issued, g *Gate) *lasting {
		return last(t, newCall("GET", "/", "Authorization", bearer(i.Secret)), func(http.ResponseWriter) {}, g)
	}
	// swept waits until all streams were judged once more, from beginning to end.
	swept := func(streams uint64) {
		stats := h.app.runtime.open.Load().store.Stats
		before := stats().Misses
		until(t, "the streams are judged", func() bool { return stats().Misses >= before+3*streams })
	}
	marked := open(h.issue(freshOnly), plain)
	guarded := open(h.issue(), careful)
	other := open(h.issue(), plain)
	h.leave()
	uptime.add(4 * time.Second)
	swept(3)
	marked.goesOn(t)
	guarded.goesOn(t)
	uptime.add(2 * time.Second)
	require.Equal(t, "store_unavailable", marked.wait(t).code(t))
	require.Equal(t, "store_unavailable", guarded.wait(t).code(t))
	swept(1)
	other.goesOn(t)
	uptime.add(time.Hour)
	require.Equal(t, "store_unavailable", other.wait(t).code(t))
}

// What cannot be decided is said before anything is judged, so that an outdated
// record blames nobody.
func TestAnOutdatedRecordIsNotJudged(t *testing.T) {
	old, young := agedSource(freshLimit+1), agedSource(freshLimit)
	marked := &tokenstore.Record{Token: token.Token{FreshOnly: true}}
	plain := new(tokenstore.Record)
	guarded, open := &requestFacts{freshOnly: true}, new(requestFacts)
	require.True(t, open.outdated(marked, old))
	require.True(t, guarded.outdated(plain, old))
	require.False(t, open.outdated(plain, old))
	require.False(t, open.outdated(marked, young))
	require.False(t, guarded.outdated(marked, young))
}

type agedSource time.Duration

func (a agedSource) Age() time.Duration { return time.Duration(a) }

func (agedSource) Peek(token.Digest) (*tokenstore.Record, bool) { return nil, false }

func (agedSource) Current(context.Context, token.Digest, *tokenstore.Record) (*tokenstore.Record, error) {
	return nil, tokenstore.ErrUnavailable
}

// Whoever spends the failures of an address, with the store there or not, locks
// nobody out whose token the node knows.
func TestASpentBudgetStopsStrangersOnly(t *testing.T) {
	h, uptime := cutOff(t, time.Minute)
	one := 1
	g := h.gate(func(g *Gate) { g.FailureLimit = &one })
	known, edited, revoked := h.issue(), h.issue(), h.issue()
	code := func(s token.Secret) string {
		return serve(newCall("GET", "/", "Authorization", bearer(s)), g).code(t)
	}
	for _, i := range []authority.Issued{known, edited, revoked} {
		require.Empty(t, code(i.Secret))
	}
	name := "renamed"
	_, err := h.EditToken(t.Context(), keeper, edited.Token.Token.ID, edited.Token.Token.Version, authority.Edit{Name: &name})
	require.NoError(t, err)
	_, err = h.RevokeToken(t.Context(), keeper, revoked.Token.Token.ID, true)
	require.NoError(t, err)
	require.NoError(t, h.app.runtime.open.Load().store.Sync(t.Context()))
	later := h.issue() // which this node never saw
	stranger, err := token.NewSecret(randomBits(t), "sp", token.Production)
	require.NoError(t, err)
	require.Equal(t, "unknown_token", code(stranger))
	require.Equal(t, "too_many_failures", code(stranger))
	require.Equal(t, "too_many_failures", code(later.Secret))
	require.Equal(t, "too_many_failures", code(revoked.Secret))
	require.Empty(t, code(known.Secret))
	require.Empty(t, code(edited.Secret), "it is read anew")

	h.leave()
	for _, since := range []time.Duration{0, 10 * time.Second} {
		uptime.add(since)
		require.Empty(t, code(known.Secret), "%v after the store was gone", since)
		require.Equal(t, "too_many_failures", code(stranger))
		require.Equal(t, "too_many_failures", code(later.Secret))
	}
	uptime.add(time.Hour)
	require.Equal(t, "store_unavailable", code(known.Secret))
}
