package authority_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

var lifecycleActor = authority.By{Actor: tokenstore.Actor{Kind: tokenstore.SystemActor, Name: "lifecycle", Verified: true}}

func (h *house) keep(by authority.By, id token.ID, list ...authority.Keeping) error {
	return h.Keep(ctx, by, id, func(*tokenstore.Tx, *tokenstore.Subject) ([]authority.Keeping, error) { return list, nil })
}

func (h *house) history(id token.ID) (history tokenstore.History) {
	h.t.Helper()
	require.NoError(h.t, h.Store.Read(ctx, func(tx *tokenstore.Tx) (err error) {
		history, err = tx.History(id)
		return err
	}))
	return history
}

// deleteUnused does what the lifecycle does to a token that nobody uses.
func (h *house) deleteUnused(id token.ID) {
	h.t.Helper()
	require.NoError(h.t, h.keep(lifecycleActor, id, authority.Keeping{Verb: authority.VerbDeleteUnused, End: token.EndUnused}))
}

func (h *house) downgrade(id token.ID) {
	h.t.Helper()
	require.NoError(h.t, h.keep(lifecycleActor, id, authority.Keeping{
		Verb: authority.VerbDowngradeToken, Grant: &token.Grant{Access: token.ReadOnly},
		History: func(history *tokenstore.History) {
			now := h.clock.Now()
			history.DowngradedAt, history.LevelSince, history.UndoUntil = now, now, now.Add(30*24*time.Hour)
			history.Before = token.Grant{Access: token.ReadWrite}
		},
	}))
}

// I7: each change of the lifecycle has its entry with the evidence.
func TestTheLifecycleLeavesItsEvidence(t *testing.T) {
	h := build(t)
	id := h.create().Token.Token.ID
	before := h.head()
	require.NoError(t, h.keep(lifecycleActor, id, authority.Keeping{
		Verb: authority.VerbDowngradeToken, Grant: &token.Grant{Access: token.ReadOnly},
		Evidence: &token.Evidence{Used: []string{"payments:read"}},
	}))
	entries := h.entries(before)
	require.Len(t, entries, 1)
	require.Equal(t, "token.downgrade", entries[0].Verb)
	require.Equal(t, "system lifecycle", entries[0].Actor)
	require.Equal(t, map[string]any{"access": "read_write"}, entries[0].Before)
	require.Equal(t, "read_only", entries[0].After["access"])
	require.Equal(t, []any{"payments:read"}, entries[0].After["evidence"].(map[string]any)["used"])
	h.chainHolds()
}

func TestTheLifecycleKeepsToWhatIsItsOwn(t *testing.T) {
	h := build(t)
	id := h.create().Token.Token.ID
	was := h.world()
	for name, k := range map[string]authority.Keeping{
		"another verb":                  {Verb: authority.VerbRevokeToken},
		"a downgrade to nothing":        {Verb: authority.VerbDowngradeToken},
		"a deletion in a person's name": {Verb: authority.VerbDeleteUnused, End: authority.EndDeleted},
		"a purge of what lives":         {Verb: authority.VerbPurgeToken},
		"a put back without a grant":    {Verb: authority.VerbPutBackToken},
	} {
		require.Error(t, h.keep(lifecycleActor, id, k), name)
		require.Equal(t, was, h.world(), name)
	}
	require.Error(t, h.keep(kim, id, authority.Keeping{Verb: authority.VerbScheduleToken}), "a person")
	require.Equal(t, was, h.world())
	require.NoError(t, h.keep(lifecycleActor, id), "nothing to do")
	require.Equal(t, was, h.world())
}

// The end of a grace period is written once, and also for a secret that ends only
// with its token.
func TestARetiredSecretHasItsEntry(t *testing.T) {
	h := build(t)
	id := h.create().Token.Token.ID
	_, err := h.RotateToken(ctx, kim, id, authority.Rotation{Mode: token.RotateTimed})
	require.NoError(t, err)
	previous := h.show(id).Previous.ID
	before := h.head()
	require.NoError(t, h.keep(lifecycleActor, id, authority.Keeping{Verb: authority.VerbRetireSecret, Retire: previous}))
	require.Nil(t, h.show(id).Previous)
	require.Len(t, h.entries(before), 1)
	require.Equal(t, "token.retire_secret", h.entries(before)[0].Verb)
}
