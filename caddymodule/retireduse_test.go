package caddymodule

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
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

func TestAUseOfARetiredSecretRevokesNothingUnlessThePolicySaysSo(t *testing.T) {
	h := newGatehouse(t)
	issued := h.issue()
	now, err := h.RotateToken(t.Context(), keeper, issued.Token.Token.ID, authority.Rotation{Mode: token.RotateNow})
	require.NoError(t, err)
	open := h.app.runtime.open.Load()
	g := h.gate()
	until(t, "the rotation to be known", func() bool {
		return serve(newCall(http.MethodGet, "/", "Authorization", bearer(issued.Secret)), g).code(t) == "retired_secret"
	})
	open.retired.mu.Lock()
	require.Empty(t, open.retired.pending)
	open.retired.mu.Unlock()
	require.Empty(t, serve(newCall(http.MethodGet, "/", "Authorization", bearer(now.Secret)), g).code(t))
}

func retiredRecord(id token.ID) *tokenstore.Record {
	return &tokenstore.Record{Token: token.Token{ID: id}, Secret: token.SecretRecord{ID: "sec_1", TokenID: id}}
}

func TestRetiredUsesAreReportedWithoutWaitingAndWithinBounds(t *testing.T) {
	var calls atomic.Int32
	release := make(chan struct{})
	u := startRetiredUses(func(ctx context.Context, _ authority.RetiredUse) error {
		calls.Add(1)
		select {
		case <-release:
		case <-ctx.Done():
		}
		return nil
	}, time.Millisecond)
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
	require.LessOrEqual(t, len(u.pending), maxRetiredUses)
	u.mu.Unlock()
	close(release)
	until(t, "the queue to be worked off", func() bool {
		u.mu.Lock()
		defer u.mu.Unlock()
		return len(u.pending) == 0
	})
	require.LessOrEqual(t, int(calls.Load()), maxRetiredUses)
	u.report(retiredRecord("tok_one"), netip.Addr{})
	until(t, "a later use to be taken up", func() bool { return int(calls.Load()) > 0 })
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
			u := startRetiredUses(func(context.Context, authority.RetiredUse) error {
				calls.Add(1)
				return tt.err
			}, time.Millisecond)
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
	u := startRetiredUses(func(ctx context.Context, _ authority.RetiredUse) error {
		once.Do(func() { close(begun) })
		<-ctx.Done()
		return errors.Join(tokenstore.ErrUnavailable, ctx.Err())
	}, time.Hour)
	u.report(retiredRecord("tok_1"), netip.Addr{})
	<-begun
	u.close()
	u.close()
	u.report(retiredRecord("tok_2"), netip.Addr{}) // a request that was still on its way
	var none *retiredUses
	none.report(retiredRecord("tok_1"), netip.Addr{})
	none.close()
}
