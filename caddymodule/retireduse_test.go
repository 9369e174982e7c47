package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

func (h *gatehouse) declare(change func(*token.Policy)) {
	h.t.Helper()
	p := token.DefaultPolicy()
	change(&p)
	d := h.app.declarations
	d.Policies = []token.Policy{p}
	require.NoError(h.t, h.Declare(h.t.Context(), bySystem, d))
}

func TestAUseOfARetiredSecretRevokesTheTokenWhereThePolicySaysSo(t *testing.T) {
	h := newGatehouse(t)
	h.declare(func(p *token.Policy) { p.RevokeOnRetiredUse = true })
	issued, other := h.issue(), h.issue()
	g := h.gate()
	ask := func(secret token.Secret) string {
		return serve(newCall(http.MethodGet, "/", "Authorization", bearer(secret)), g).code(t)
	}
	now, err := h.RotateToken(t.Context(), keeper, issued.Token.Token.ID, authority.Rotation{Mode: token.RotateNow})
	require.NoError(t, err)

	// A guess is no retired secret, whatever it looks like.
	guess, err := token.NewSecret(randomBits(t), "sp", token.Production)
	require.NoError(t, err)
	require.Equal(t, "unknown_token", ask(guess))

	until(t, "the rotation to be known", func() bool { return ask(issued.Secret) != "" })
	until(t, "the token to be revoked", func() bool {
		v, err := h.Token(t.Context(), keeper, issued.Token.Token.ID)
		require.NoError(t, err)
		return v.State == token.Revoked
	})
	until(t, "the gate to know", func() bool { return ask(now.Secret) == "revoked_token" })
	for range 5 {
		require.Equal(t, "revoked_token", ask(issued.Secret))
	}
	require.Empty(t, ask(other.Secret))

	entries, _, err := h.AuditEntries(t.Context(), keeper, tokenstore.AuditQuery{Target: string(issued.Token.Token.ID), Verb: "token.revoke"})
	require.NoError(t, err)
	require.Len(t, entries, 1, "it is revoked once")
	require.Equal(t, tokenstore.Actor{Kind: tokenstore.SystemActor, Name: "retired_secret_used", Verified: true}, entries[0].Actor)
	require.Contains(t, string(entries[0].After), authority.EndRetiredUse)
	require.NotContains(t, string(entries[0].After), issued.Secret.Reveal())
}

// Without revoke_on_retired_use people are told, once a day, and the token stays.
func TestAUseOfARetiredSecretIsToldOfAndRevokesNothingUnlessThePolicySaysSo(t *testing.T) {
	h := newGatehouse(t)
	h.Teller = &notify.Notifier{NewID: newID, Mail: true}
	_, err := h.CreateUser(t.Context(), keeper, authority.NewUser{AccountID: h.account.ID, Name: "Ada", Email: "ada@example.com", Role: "owner"})
	require.NoError(t, err)
	issued := h.issue()
	now, err := h.RotateToken(t.Context(), keeper, issued.Token.Token.ID, authority.Rotation{Mode: token.RotateNow})
	require.NoError(t, err)
	open := h.app.runtime.open.Load()
	open.retired.serve(h.Authority)
	g := h.gate()
	old := func() string {
		return serve(newCall(http.MethodGet, "/", "Authorization", bearer(issued.Secret)), g).code(t)
	}
	until(t, "the rotation to be known", func() bool { return old() == "retired_secret" })
	alerts := func() (list []tokenstore.Notice) {
		all, _, err := h.Notices(t.Context(), keeper, tokenstore.NoticeQuery{TokenID: issued.Token.Token.ID}, tokenstore.Page{Limit: tokenstore.MaxLimit})
		require.NoError(t, err)
		for _, n := range all {
			if n.Event == token.EventRetiredSecretUsed {
				list = append(list, n)
			}
		}
		return list
	}
	until(t, "the use to be told of", func() bool { return len(alerts()) == 1 })
	until(t, "the gateway to remember that", func() bool {
		open.retired.mu.Lock()
		defer open.retired.mu.Unlock()
		return len(open.retired.noted) == 1 && len(open.retired.pending) == 0
	})
	for range 5 {
		require.Equal(t, "retired_secret", old())
		open.retired.mu.Lock()
		require.Empty(t, open.retired.pending, "a repetition costs the store nothing")
		open.retired.mu.Unlock()
	}
	require.Len(t, alerts(), 1)
	facts := string(alerts()[0].Facts)
	require.Contains(t, facts, `"address":"192.0.2.7"`)
	require.Contains(t, facts, issued.Secret.Last4())
	require.NotContains(t, facts, issued.Secret.Reveal())
	entries, _, err := h.AuditEntries(t.Context(), keeper, tokenstore.AuditQuery{Target: string(issued.Token.Token.ID), Verb: string(authority.VerbNoteRetiredUse)})
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Empty(t, serve(newCall(http.MethodGet, "/", "Authorization", bearer(now.Secret)), g).code(t))
}

func retiredRecord(id token.ID) *tokenstore.Record {
	return &tokenstore.Record{
		Token: token.Token{ID: id}, Secret: token.SecretRecord{ID: "sec_1", TokenID: id}, Policy: new(token.Policy),
	}
}

func TestRetiredUsesAreReportedWithoutWaitingAndWithinBounds(t *testing.T) {
	var calls atomic.Int32
	release := make(chan struct{})
	u := startRetiredUses(time.Millisecond, time.Now)
	u.noteBy(func(ctx context.Context, _ authority.RetiredUse) (authority.RetiredUseResult, error) {
		calls.Add(1)
		select {
		case <-release:
		case <-ctx.Done():
		}
		return authority.RetiredUseDismissed, nil
	})
	t.Cleanup(u.close)
	var wg sync.WaitGroup
	for i := range 4 * maxRetiredUses {
		wg.Go(func() {
			u.report(retiredRecord(token.ID("tok_"+string(rune('a'+i)))), netip.Addr{})
			u.report(retiredRecord("tok_one"), netip.Addr{})
		})
	}
	wg.Wait() // no report waited, though no revocation has ended
	u.mu.Lock()
	require.Len(t, u.pending, maxRetiredUses/2)
	u.mu.Unlock()
	for i := range maxRetiredUses { // what revokes a token has room left
		revoking := retiredRecord(token.ID(fmt.Sprint("tok_revoked_", i)))
		revoking.Policy.RevokeOnRetiredUse = true
		u.report(revoking, netip.Addr{})
	}
	u.mu.Lock()
	require.Len(t, u.pending, maxRetiredUses)
	u.mu.Unlock()
	close(release)
	until(t, "the queue to be worked off", func() bool {
		u.mu.Lock()
		defer u.mu.Unlock()
		return len(u.pending) == 0
	})
	worked := calls.Load()
	require.LessOrEqual(t, int(worked), maxRetiredUses)
	u.report(retiredRecord("tok_one"), netip.Addr{})
	until(t, "a later use to be taken up", func() bool { return calls.Load() > worked })
}

// A gateway asks the store about each secret once a day, and about no more secrets
// than it can remember.
func TestAUseThatIsNotedIsNotReportedAgainThatDay(t *testing.T) {
	clock := &standingClock{at: time.Date(2030, 1, 2, 23, 59, 0, 0, time.UTC)}
	var calls atomic.Int32
	u := startRetiredUses(time.Millisecond, clock.Now)
	t.Cleanup(u.close)
	u.noteBy(func(context.Context, authority.RetiredUse) (authority.RetiredUseResult, error) {
		calls.Add(1)
		return authority.RetiredUseNoted, nil
	})
	idle := func() {
		until(t, "it to be decided", func() bool {
			u.mu.Lock()
			defer u.mu.Unlock()
			return len(u.pending) == 0
		})
	}
	for range 100 {
		u.report(retiredRecord("tok_1"), netip.Addr{})
		idle()
	}
	require.Equal(t, int32(1), calls.Load())
	clock.add(time.Minute)
	u.report(retiredRecord("tok_1"), netip.Addr{})
	idle()
	require.Equal(t, int32(2), calls.Load(), "the next day it is told again")

	u.mu.Lock()
	for i := range maxNotedUses {
		u.noted[token.ID(fmt.Sprint("sec_other_", i))] = struct{}{}
	}
	u.mu.Unlock()
	another := retiredRecord("tok_2")
	another.Secret.ID = "sec_2"
	u.report(another, netip.Addr{})
	idle()
	require.Equal(t, int32(2), calls.Load(), "there is an end to what one gateway tells in a day")
	another.Policy.RevokeOnRetiredUse = true
	u.report(another, netip.Addr{})
	until(t, "and none to what it has revoked", func() bool { return calls.Load() == 3 })
}

func TestARevocationThatFailsIsTriedAgainAndOneThatIsRefusedIsNot(t *testing.T) {
	for name, tt := range map[string]struct {
		err   error
		tries int32
	}{
		"the store is away": {tokenstore.ErrUnavailable, retiredUseTries},
		"no such token":     {authority.ErrNotFound, 1},
		"done":              {nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			u := startRetiredUses(time.Millisecond, time.Now)
			u.noteBy(func(context.Context, authority.RetiredUse) (authority.RetiredUseResult, error) {
				calls.Add(1)
				return authority.RetiredUseDismissed, tt.err
			})
			u.report(retiredRecord("tok_1"), netip.Addr{})
			until(t, "it to be decided", func() bool {
				u.mu.Lock()
				defer u.mu.Unlock()
				return len(u.pending) == 0
			})
			require.Equal(t, tt.tries, calls.Load())
			u.close()
		})
	}
}

func TestTheWorkerEndsInTheMiddleOfItsWork(t *testing.T) {
	begun := make(chan struct{})
	var once sync.Once
	u := startRetiredUses(time.Hour, time.Now)
	u.noteBy(func(ctx context.Context, _ authority.RetiredUse) (authority.RetiredUseResult, error) {
		once.Do(func() { close(begun) })
		<-ctx.Done()
		return authority.RetiredUseDismissed, errors.Join(tokenstore.ErrUnavailable, ctx.Err())
	})
	u.report(retiredRecord("tok_1"), netip.Addr{})
	<-begun
	u.close()
	u.close()
	u.report(retiredRecord("tok_2"), netip.Addr{}) // a request that was still on its way
	var none *retiredUses
	none.report(retiredRecord("tok_1"), netip.Addr{})
	none.close()
}
