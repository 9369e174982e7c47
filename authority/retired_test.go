package authority_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
)

func revoking(p *token.Policy) { p.RevokeOnRetiredUse = true }

func (h *house) retiredUse(issued authority.Issued) bool {
	h.t.Helper()
	revoked, err := h.RevokeForRetiredUse(ctx, system, authority.RetiredUse{
		TokenID: issued.Token.Token.ID, SecretID: issued.Token.Current.ID, Address: netip.MustParseAddr("192.0.2.7"),
	})
	require.NoError(h.t, err)
	return revoked
}

func TestAUseOfARetiredSecretRevokesItsTokenOnceWhereThePolicySaysSo(t *testing.T) {
	h := build(t, revoking)
	issued := h.create()
	id := issued.Token.Token.ID
	_, err := h.RotateToken(ctx, kim, id, authority.Rotation{})
	require.NoError(t, err)
	require.False(t, h.retiredUse(issued), "the grace period has not ended")

	h.clock.add(time.Hour)
	head := h.head()
	require.True(t, h.retiredUse(issued))
	require.False(t, h.retiredUse(issued), "it happens once")
	v := h.show(id)
	require.Equal(t, token.Revoked, v.State)
	require.Equal(t, authority.EndRetiredUse, v.Token.EndReason)
	h.told(head, entry{
		Actor: "system caddyfile", Verb: "token.revoke", Target: string(id),
		Before: map[string]any{"state": "active", "end_reason": nil},
		After: map[string]any{
			"state": "revoked", "end_reason": "retired_secret_used", "address": "192.0.2.7",
			"secret_id": string(issued.Token.Current.ID), "last4": issued.Secret.Last4(),
		},
	})
	h.chainHolds()
}

func TestARetiredUseIsJudgedAnewBeforeItRevokes(t *testing.T) {
	h := build(t)
	issued, other := h.create(), h.create()
	_, err := h.RotateToken(ctx, kim, issued.Token.Token.ID, authority.Rotation{Mode: token.RotateNow})
	require.NoError(t, err)

	require.False(t, h.retiredUse(issued), "the policy does not want it")
	h.policy(revoking)
	before := h.world()
	require.False(t, h.retiredUse(other), "the secret is the current one")
	mixed := issued
	mixed.Token.Token.ID = other.Token.Token.ID
	require.False(t, h.retiredUse(mixed), "the secret is another token's")
	require.Equal(t, before.Head, h.world().Head)

	_, err = h.RevokeForRetiredUse(ctx, system, authority.RetiredUse{TokenID: "tok_none", SecretID: "sec_none"})
	require.ErrorIs(t, err, authority.ErrNotFound)

	_, err = h.RevokeToken(ctx, kim, issued.Token.Token.ID, true)
	require.NoError(t, err)
	require.False(t, h.retiredUse(issued))
	require.Equal(t, authority.EndRevoked, h.show(issued.Token.Token.ID).Token.EndReason)
}

func TestADisabledTokenIsRevokedTooByAUseOfItsRetiredSecret(t *testing.T) {
	h := build(t, revoking)
	issued := h.create()
	id := issued.Token.Token.ID
	_, err := h.RotateToken(ctx, kim, id, authority.Rotation{Mode: token.RotateNow})
	require.NoError(t, err)
	_, err = h.DisableToken(ctx, kim, id, true)
	require.NoError(t, err)
	require.True(t, h.retiredUse(issued))
	require.Equal(t, token.Revoked, h.show(id).State)
}
