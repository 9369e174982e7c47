package authority_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

var gateway = authority.By{Actor: tokenstore.Actor{Kind: tokenstore.SystemActor, Name: "node_1", Verified: true}}

func ended(kind tokenstore.Kind, id token.ID, version int64) tokenstore.Change {
	return tokenstore.Change{Kind: kind, ID: string(id), Version: version, Final: true}
}

// I3, F49, D21: a store that was put back shows alive what had ended in its future.
func TestWhatIsKnownToHaveEndedEndsAgain(t *testing.T) {
	h := build(t)
	alive, back, disabled, rotated, over := h.create(), h.create(), h.create(), h.create(), h.create()
	_, err := h.DisableToken(ctx, kim, disabled.Token.Token.ID, true)
	require.NoError(t, err)
	_, err = h.DeleteToken(ctx, kim, over.Token.Token.ID, true)
	require.NoError(t, err)
	lost := rotated.Token.Current.ID
	known := []tokenstore.Change{
		ended(tokenstore.TokenKind, back.Token.Token.ID, 7),
		ended(tokenstore.TokenKind, disabled.Token.Token.ID, 1), // which the store has gone past in its own history
		ended(tokenstore.TokenKind, over.Token.Token.ID, h.show(over.Token.Token.ID).Token.Version),
		ended(tokenstore.TokenKind, storetest.ID("tok"), 3), // made and ended after the backup
		ended(tokenstore.SecretKind, lost, 4),
		ended(tokenstore.SecretKind, storetest.ID("sec"), 3),
	}
	before := h.head()
	done, err := h.Reassert(ctx, gateway, known)
	require.NoError(t, err)
	require.Equal(t, authority.Reasserted{Tokens: 2, Secrets: 1}, done)

	require.Empty(t, h.says(alive.Secret))
	for _, issued := range []authority.Issued{back, disabled} {
		require.Equal(t, "revoked_token", h.says(issued.Secret))
		v := h.show(issued.Token.Token.ID)
		require.Equal(t, token.Revoked, v.State)
		require.Equal(t, authority.EndReasserted, v.Token.EndReason)
		require.False(t, v.Token.EndedAt.IsZero())
	}
	require.Equal(t, "retired_secret", h.says(rotated.Secret))
	require.Equal(t, token.Active, h.show(rotated.Token.Token.ID).State, "it can be rotated and used again")
	require.EqualValues(t, 8, h.show(back.Token.Token.ID).Token.Version, "above the highest that is known")
	require.EqualValues(t, 3, h.show(disabled.Token.Token.ID).Token.Version)
	require.EqualValues(t, 5, h.show(rotated.Token.Token.ID).Token.Version)
	require.Equal(t, token.Deleted, h.show(over.Token.Token.ID).State)
	list := h.entries(before)
	require.Len(t, list, 3, "each is in the audit log")
	for _, e := range list {
		require.Equal(t, "system node_1", e.Actor)
		require.Equal(t, "token.reassert", e.Verb)
		require.Equal(t, h.account.ID, e.Account)
	}
	require.Equal(t, map[string]any{"state": "revoked", "end_reason": "ended_before_restore", "version": 8.0}, list[0].After)
	require.Equal(t, map[string]any{"secrets": map[string]any{string(lost): "retired"}, "version": 5.0}, list[2].After)

	t.Run("and not once more, whoever else knows it too", func(t *testing.T) {
		world := h.world()
		done, err := h.Reassert(ctx, gateway, known)
		require.NoError(t, err)
		require.Zero(t, done)
		require.Equal(t, world, h.world())
	})
	t.Run("and a new secret works", func(t *testing.T) {
		fresh, err := h.RotateToken(ctx, kim, rotated.Token.Token.ID, authority.Rotation{Mode: token.RotateNow, Confirm: true})
		require.NoError(t, err)
		require.Empty(t, h.says(fresh.Secret))
	})
	t.Run("one that was ended on both sides gets above the version known", func(t *testing.T) {
		_, err := h.Reassert(ctx, gateway, []tokenstore.Change{ended(tokenstore.TokenKind, over.Token.Token.ID, 40)})
		require.NoError(t, err)
		v := h.show(over.Token.Token.ID)
		require.Equal(t, token.Deleted, v.State)
		require.EqualValues(t, 41, v.Token.Version)
		require.Equal(t, authority.EndDeleted, v.Token.EndReason)
	})
	t.Run("the feed tells the others", func(t *testing.T) {
		c, err := h.Store.Changes(ctx, tokenstore.Position{})
		require.NoError(t, err)
		final := map[string]int64{}
		for _, change := range c.List {
			if change.Final {
				final[change.ID] = change.Version
			}
		}
		require.EqualValues(t, 8, final[string(back.Token.Token.ID)])
		require.EqualValues(t, 5, final[string(lost)])
	})
}

// A token and its secrets come in any order, and end in one step.
func TestATokenAndItsSecretsEndAgainTogether(t *testing.T) {
	h := build(t)
	issued := h.create()
	h.clock.add(time.Second)
	second, err := h.RotateToken(ctx, kim, issued.Token.Token.ID, authority.Rotation{Mode: token.RotateTimed, Grace: new(time.Minute)})
	require.NoError(t, err)
	before := h.head()
	done, err := h.Reassert(ctx, gateway, []tokenstore.Change{
		ended(tokenstore.SecretKind, second.Token.Current.ID, 9),
		ended(tokenstore.TokenKind, issued.Token.Token.ID, 12),
		ended(tokenstore.SecretKind, issued.Token.Current.ID, 10),
	})
	require.NoError(t, err)
	require.Equal(t, authority.Reasserted{Tokens: 1, Secrets: 2}, done)
	require.Len(t, h.entries(before), 1)
	require.EqualValues(t, 13, h.show(issued.Token.Token.ID).Token.Version)
	for _, secret := range h.secrets(issued.Token.Token.ID) {
		require.Equal(t, token.Retired, secret.Status)
	}
}

func TestAReassertionIsBounded(t *testing.T) {
	h := build(t)
	_, err := h.Reassert(ctx, gateway, make([]tokenstore.Change, authority.ReassertBatch+1))
	require.Error(t, err)
	// Nobody but the system may.
	issued := h.create()
	by := gateway
	by.Actor.Kind = "user"
	_, err = h.Reassert(ctx, by, []tokenstore.Change{ended(tokenstore.TokenKind, issued.Token.Token.ID, 7)})
	require.True(t, errors.Is(err, authority.ErrForbidden), "%v", err)
	require.Empty(t, h.says(issued.Secret))
}

func TestTheAuditLogTellsHowFarANodeKnewOfEnds(t *testing.T) {
	h := build(t)
	before := h.head()
	require.NoError(t, h.NoteRestore(ctx, gateway, authority.Restore{
		From: tokenstore.Position{Epoch: "a", Seq: 90}, To: tokenstore.Position{Epoch: "b", Seq: 60}, EndsFrom: 20,
		Done: authority.Reasserted{Tokens: 3, Secrets: 1},
	}))
	list := h.entries(before)
	require.Len(t, list, 1)
	require.Equal(t, "store.reassert", list[0].Verb)
	require.Equal(t, "b", list[0].Target)
	require.Equal(t, map[string]any{"epoch": "a", "change": 90.0}, list[0].Before)
	require.Equal(t, map[string]any{
		"epoch": "b", "change": 60.0, "ends_known_from": 20.0, "ends_known_to": 90.0, "tokens_revoked": 3.0, "secrets_retired": 1.0,
	}, list[0].After)
}
