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

func (h *house) retiredUse(issued authority.Issued) authority.RetiredUseResult {
	h.t.Helper()
	result, err := h.NoteRetiredUse(ctx, system, authority.RetiredUse{
		TokenID: issued.Token.Token.ID, SecretID: issued.Token.Current.ID, Address: netip.MustParseAddr("192.0.2.7"),
	})
	require.NoError(h.t, err)
	return result
}

func TestAUseOfARetiredSecretRevokesItsTokenOnceWhereThePolicySaysSo(t *testing.T) {
	h := build(t, revoking)
	issued := h.create()
	id := issued.Token.Token.ID
	_, err := h.RotateToken(ctx, kim, id, authority.Rotation{})
	require.NoError(t, err)
	require.Equal(t, authority.RetiredUseDismissed, h.retiredUse(issued), "the grace period has not ended")

	h.clock.add(time.Hour)
	head := h.head()
	require.Equal(t, authority.RetiredUseRevoked, h.retiredUse(issued))
	require.Equal(t, authority.RetiredUseDismissed, h.retiredUse(issued), "it happens once")
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

// One entry for each secret and day, however often it is used, and whether or not
// there is anybody to tell.
func TestAUseOfARetiredSecretIsNotedOnceADay(t *testing.T) {
	h := build(t)
	issued, other := h.create(), h.create()
	for _, i := range []authority.Issued{issued, other} {
		_, err := h.RotateToken(ctx, kim, i.Token.Token.ID, authority.Rotation{Mode: token.RotateNow})
		require.NoError(t, err)
	}
	version := h.show(issued.Token.Token.ID).Token.Version
	noted := func(i authority.Issued) entry {
		return entry{
			Actor: "system caddyfile", Verb: "token.retired_use", Target: string(i.Token.Token.ID),
			After: map[string]any{"address": "192.0.2.7", "secret_id": string(i.Token.Current.ID), "last4": i.Secret.Last4()},
		}
	}
	h.clock.add(h.clock.Now().Truncate(24 * time.Hour).Add(24 * time.Hour).Sub(h.clock.Now())) // midnight itself
	head := h.head()
	for range 5 {
		require.Equal(t, authority.RetiredUseNoted, h.retiredUse(issued))
	}
	require.Equal(t, authority.RetiredUseNoted, h.retiredUse(other))
	h.clock.add(24*time.Hour - time.Microsecond)
	require.Equal(t, authority.RetiredUseNoted, h.retiredUse(issued))
	h.told(head, noted(issued), noted(other))

	h.clock.add(time.Microsecond)
	require.Equal(t, authority.RetiredUseNoted, h.retiredUse(issued))
	h.told(head, noted(issued), noted(other), noted(issued))
	v := h.show(issued.Token.Token.ID)
	require.Equal(t, token.Active, v.State)
	require.Equal(t, version, v.Token.Version, "nothing about the token changed")

	h.policy(revoking)
	require.Equal(t, authority.RetiredUseRevoked, h.retiredUse(issued), "what was noted before is no pardon")
	h.chainHolds()
}

func TestARetiredUseIsJudgedAnewBeforeAnythingFollows(t *testing.T) {
	h := build(t, revoking)
	issued, other := h.create(), h.create()
	_, err := h.RotateToken(ctx, kim, issued.Token.Token.ID, authority.Rotation{Mode: token.RotateNow})
	require.NoError(t, err)

	before := h.world()
	require.Equal(t, authority.RetiredUseDismissed, h.retiredUse(other), "the secret is the current one")
	mixed := issued
	mixed.Token.Token.ID = other.Token.Token.ID
	require.Equal(t, authority.RetiredUseDismissed, h.retiredUse(mixed), "the secret is another token's")
	require.Equal(t, before.Head, h.world().Head)

	_, err = h.NoteRetiredUse(ctx, system, authority.RetiredUse{TokenID: "tok_none", SecretID: "sec_none"})
	require.ErrorIs(t, err, authority.ErrNotFound)

	_, err = h.RevokeToken(ctx, kim, issued.Token.Token.ID, true)
	require.NoError(t, err)
	require.Equal(t, authority.RetiredUseDismissed, h.retiredUse(issued))
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
	require.Equal(t, authority.RetiredUseRevoked, h.retiredUse(issued))
	require.Equal(t, token.Revoked, h.show(id).State)
}
