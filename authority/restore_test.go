package authority_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
)

// restoring lets people have back what the lifecycle took.
func restoring(p *token.Policy) {
	p.RestoreWindow, p.DowngradeUndo = 30*24*time.Hour, true
}

// L5: a token that the lifecycle deleted comes back with all that it had, within
// its window, and one that a person ended does not.
func TestOnlyWhatTheLifecycleDeletedIsRestored(t *testing.T) {
	h := build(t, restoring)
	issued := h.create()
	id := issued.Token.Token.ID
	h.deleteUnused(id)
	require.NotEmpty(t, h.says(issued.Secret))
	h.clock.add(29 * 24 * time.Hour)
	v, err := h.RestoreToken(ctx, kim, id, time.Time{}, true)
	require.NoError(t, err)
	require.Equal(t, token.Active, v.State)
	require.Empty(t, h.says(issued.Secret))
	require.Equal(t, v.Token.LifetimeFrom, h.history(id).Observed)

	h.deleteUnused(id)
	h.clock.add(30 * 24 * time.Hour)
	h.unchanged(authority.ErrInvalidState, func() error {
		_, err := h.RestoreToken(ctx, kim, id, time.Time{}, true)
		return err
	})
	gone := h.create().Token.Token.ID
	_, err = h.DeleteToken(ctx, kim, gone, true)
	require.NoError(t, err)
	h.unchanged(authority.ErrInvalidState, func() error {
		_, err := h.RestoreToken(ctx, kim, gone, time.Time{}, true)
		return err
	})
}

// A restored token counts against the caps again.
func TestARestoredTokenNeedsRoomUnderTheCap(t *testing.T) {
	h := build(t, restoring, func(p *token.Policy) { p.MaxSecretsPerAccount = 1 })
	id := h.create().Token.Token.ID
	h.deleteUnused(id)
	h.create()
	_, err := h.RestoreToken(ctx, kim, id, time.Time{}, true)
	require.Error(t, err)
	require.Equal(t, token.Deleted, h.show(id).State)
}

// L6: a downgrade is undone once, within its window, where the policy allows it,
// also after the token was deleted and restored meanwhile.
func TestADowngradeIsUndone(t *testing.T) {
	h := build(t, restoring)
	id := h.create().Token.Token.ID
	h.unchanged(authority.ErrInvalidState, func() error {
		_, err := h.UndoDowngrade(ctx, kim, id, true)
		return err
	})
	h.downgrade(id)
	h.clock.add(time.Hour)
	h.deleteUnused(id)
	h.clock.add(time.Hour)
	_, err := h.RestoreToken(ctx, kim, id, time.Time{}, true)
	require.NoError(t, err)
	v, err := h.UndoDowngrade(ctx, kim, id, true)
	require.NoError(t, err)
	require.Equal(t, token.ReadWrite, v.Token.Grant.Access)
	require.Zero(t, h.history(id).DowngradedAt)

	h.downgrade(id)
	h.policy(restoring, func(p *token.Policy) { p.DowngradeUndo = false })
	h.unchanged(authority.ErrInvalidState, func() error {
		_, err := h.UndoDowngrade(ctx, kim, id, true)
		return err
	})
	h.chainHolds()
}

// L7: an exemption has a reason and an end, and both are in the audit log.
func TestAnExemptionHasAReasonAndAnEnd(t *testing.T) {
	h := build(t)
	id := h.create().Token.Token.ID
	exempt := func(reason string, until time.Time) error {
		_, err := h.ExemptToken(ctx, kim, id, reason, until, true)
		return err
	}
	for _, refused := range []struct {
		reason string
		until  time.Time
	}{
		{"", h.clock.Now().Add(time.Hour)},
		{"a\nline", h.clock.Now().Add(time.Hour)},
		{"used once a year", h.clock.Now()},
		{"used once a year", h.clock.Now().AddDate(3, 0, 0)},
	} {
		h.unchanged(authority.ErrInvalidField, func() error { return exempt(refused.reason, refused.until) })
	}
	before := h.head()
	until := h.clock.Now().Add(100 * 24 * time.Hour)
	require.NoError(t, exempt("used once a year", until))
	require.NoError(t, exempt("used once a year", until), "again")
	entries := h.entries(before)
	require.Len(t, entries, 1)
	require.Equal(t, "used once a year", entries[0].After["exempt_reason"])
	require.NoError(t, exempt("", time.Time{}))
	require.Zero(t, h.history(id).ExemptUntil)
	require.Empty(t, h.history(id).ExemptReason)
}
