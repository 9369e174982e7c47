package lifecycle_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
)

func (h *house) rotate(id token.ID, r authority.Rotation) authority.Issued {
	h.t.Helper()
	r.Confirm = true
	issued, err := h.RotateToken(ctx, kim, id, r)
	require.NoError(h.t, err)
	return issued
}

func reminders(events []token.Event) (n int) {
	for _, e := range events {
		if e == token.EventRotationReminder {
			n++
		}
	}
	return n
}

// usedWith is a use of one secret of a token just now.
func (h *house) usedWith(id, secret token.ID) {
	h.t.Helper()
	f := h.used(id, h.clock.Now(), "")
	f.SecretID = secret
	h.observe(f)
}

// T12: people are reminded every week of a switch that nobody has confirmed, and no
// longer once somebody has.
func TestARotationWithoutAnEndIsRemindedOfEveryWeek(t *testing.T) {
	for _, mode := range []token.RotationMode{token.RotateUntilConfirmed, token.RotateOnFirstUse} {
		t.Run(string(mode), func(t *testing.T) {
			h := build(t, func(p *token.Policy) { p.DeleteUnused, p.DowngradeUnused = 0, 0 })
			id := h.create()
			h.rotate(id, authority.Rotation{Mode: mode})
			h.until(6)
			require.Zero(t, reminders(h.told(id)))
			h.until(8)
			require.Equal(t, 1, reminders(h.told(id)))
			h.until(27)
			require.Equal(t, 3, reminders(h.told(id)), "on the days 7, 14 and 21")
			require.NotNil(t, h.show(id).Previous)
			_, err := h.ConfirmRotation(ctx, kim, id, authority.RotationChange{Confirm: true})
			require.NoError(t, err)
			h.until(50)
			require.Equal(t, 3, reminders(h.told(id)))
			h.chainHolds()
		})
	}
}

// Before a grace period ends people are told once, if the previous secret is in use;
// that it was used before the rotation, on an earlier day, is no such reason.
func TestTheEndOfAGracePeriodIsRemindedOfOnceWhileTheSecretIsUsed(t *testing.T) {
	h := build(t, func(p *token.Policy) { p.DeleteUnused, p.DowngradeUnused = 0, 0 })
	used, idle := h.create(), h.create()
	h.use(used, "")
	h.use(idle, "")
	h.until(3)
	old := h.show(used).Current.ID
	for _, id := range []token.ID{used, idle} {
		h.rotate(id, authority.Rotation{Mode: token.RotateTimed, Grace: ptr(4 * day)})
	}
	h.until(5)
	h.usedWith(used, old)
	h.tick(time.Hour)
	require.Zero(t, reminders(h.told(used)), "a day ahead, and not two")
	h.until(9)
	require.Equal(t, 1, reminders(h.told(used)))
	require.Zero(t, reminders(h.told(idle)))
	require.Nil(t, h.show(used).Previous)
	require.Nil(t, h.show(idle).Previous)
}

// A pass finds the first uses that no gateway has acted on, such as those of one that
// has died since.
func TestAPassStartsTheGracePeriodsThatAFirstUseStarts(t *testing.T) {
	h := build(t, func(p *token.Policy) { p.DeleteUnused, p.DowngradeUnused = 0, 0 })
	id := h.create()
	h.rotate(id, authority.Rotation{Mode: token.RotateOnFirstUse, Grace: ptr(2 * day)})
	h.until(20)
	require.True(t, h.show(id).Previous.ExpiresAt.IsZero())
	h.usedWith(id, h.show(id).Current.ID)
	at := h.clock.Now().Truncate(time.Microsecond)
	h.tick(time.Hour)
	require.Equal(t, at.Add(2*day), h.show(id).Previous.ExpiresAt)
	h.until(23)
	require.Nil(t, h.show(id).Previous)
	verbs := h.verbs(id)
	started, retired := slices.Index(verbs, "token.start_grace"), slices.Index(verbs, "token.retire_secret")
	require.NotEqual(t, -1, started)
	require.NotEqual(t, -1, retired)
	h.chainHolds()
}
