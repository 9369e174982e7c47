package lifecycle_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/lifecycle"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// L2, L4: with 45 and 7 days notice goes at day 38 and the act follows at day 45.
func TestAnUnusedTokenIsDeletedAfterItsNotice(t *testing.T) {
	h := build(t)
	id := h.create(readOnly)
	h.until(37)
	require.Empty(t, h.told(id), h.today())
	h.until(38)
	require.Equal(t, []token.Event{token.EventDeletionNotice}, h.told(id), h.today())
	require.Equal(t, token.DeleteUnused, h.history(id).Scheduled)
	require.Equal(t, h.start.Add(45*day), h.history(id).ScheduledAt)
	h.until(44)
	require.Equal(t, token.Active, h.show(id).State, h.today())
	h.tick(day - time.Second)
	require.Equal(t, token.Active, h.show(id).State, "a second before")
	h.tick(time.Second)
	require.Equal(t, token.Deleted, h.show(id).State, h.today())
	require.Equal(t, token.EndUnused, h.show(id).Token.EndReason)
	require.Equal(t, []token.Event{token.EventDeletionNotice, token.EventUnusedDeleted}, h.told(id))

	// I7: with the evidence, notice included.
	acts := h.audited(id)
	require.Equal(t, []string{"token.schedule", "token.delete_unused"}, h.verbs(id))
	e := acts[1].After.Evidence
	require.NotNil(t, e)
	require.Equal(t, h.start, e.From)
	require.Equal(t, h.start.Add(45*day), e.To)
	require.False(t, e.Notice.Accepted.After(h.start.Add(38*day)))
	h.chainHolds()

	// L5: after the restore window only digests stay.
	h.until(74)
	require.True(t, h.history(id).PurgedAt.IsZero())
	h.until(75)
	require.False(t, h.history(id).PurgedAt.IsZero())
	require.Empty(t, h.show(id).Token.Name)
	before := len(h.audited(id))
	h.until(80)
	require.Len(t, h.audited(id), before, "nothing more is to be done")
	h.chainHolds()
}

// L4: use calls a deletion off, and whoever was warned is told; the next window
// starts from the use.
func TestUseCallsADeletionOff(t *testing.T) {
	h := build(t)
	id := h.create(readOnly)
	h.until(40)
	h.use(id, "")
	h.until(41)
	require.Equal(t, []token.Event{token.EventDeletionNotice, token.EventDeletionCancelled}, h.told(id))
	require.Zero(t, h.history(id).Scheduled)
	h.until(78)
	require.Len(t, h.told(id), 2)
	h.until(79) // the bucket of the use ended at day 41
	require.Len(t, h.told(id), 3)
	h.until(85)
	require.Equal(t, token.Active, h.show(id).State)
	h.until(86)
	require.Equal(t, token.Deleted, h.show(id).State)
	h.chainHolds()
}

// L1: who only reads may only read from day 45 on, though it is used every day.
func TestATokenThatOnlyReadsComesDownToReading(t *testing.T) {
	h := build(t)
	id := h.create()
	for d := 1; d <= 45; d++ {
		require.Equal(t, token.ReadWrite, h.show(id).Token.Grant.Access, h.today())
		h.use(id, "payments:read")
		h.until(d)
	}
	require.Equal(t, token.Grant{Access: token.ReadOnly}, h.show(id).Token.Grant)
	require.Equal(t, []token.Event{token.EventDowngradeNotice, token.EventDowngraded}, h.told(id))
	require.Equal(t, []string{"payments:read"}, h.audited(id)[1].After.Evidence.Used)
	history := h.history(id)
	require.Equal(t, token.Grant{Access: token.ReadWrite}, history.Before)
	require.Equal(t, h.start.Add(75*day), history.UndoUntil)

	// L6: an operator has it back.
	v, err := h.UndoDowngrade(ctx, kim, id, true)
	require.NoError(t, err)
	require.Equal(t, token.ReadWrite, v.Token.Grant.Access)
	for d := 46; d <= 89; d++ {
		h.use(id, "payments:read")
		h.until(d)
		require.Equal(t, token.ReadWrite, h.show(id).Token.Grant.Access, h.today())
	}
	h.chainHolds()
}

// L4: a downgrade takes what its notice named, and not what was used since.
func TestADowngradeTakesOnlyWhatItsNoticeNamedAndNobodyUsedSince(t *testing.T) {
	h := build(t)
	id := h.create(custom("invoices:read", "payments:read", "payments:write"))
	for d := 1; d <= 45; d++ {
		h.use(id, "invoices:read")
		if d == 42 {
			h.use(id, "payments:read")
		}
		h.until(d)
	}
	require.Equal(t, token.Grant{Access: token.Custom, Scopes: []string{"invoices:read", "payments:read"}}, h.show(id).Token.Grant)
	acts := h.audited(id)
	last := acts[len(acts)-1].After.Evidence
	require.Equal(t, []string{"payments:write"}, last.Unused)
	require.Equal(t, []string{"payments:read", "payments:write"}, last.Notice.Scopes)
	h.chainHolds()
}

// L10: a fact that comes late puts back exactly what the token had.
func TestALateFactPutsBackWhatItProvesWrong(t *testing.T) {
	for name, tt := range map[string]struct {
		create func(*authority.NewToken)
		scope  string
		daily  string
	}{
		"a deletion":              {readOnly, "", ""},
		"the permission to write": {func(*authority.NewToken) {}, "payments:write", "payments:read"},
		"a scope":                 {custom("invoices:read", "payments:write"), "payments:write", "invoices:read"},
	} {
		t.Run(name, func(t *testing.T) {
			h := build(t)
			id := h.create(tt.create)
			had := h.show(id)
			at := h.start.Add(20 * day)
			late := h.used(id, at, tt.scope)
			for d := 1; d <= 45; d++ {
				if tt.daily != "" {
					h.use(id, tt.daily)
				}
				h.until(d)
			}
			lost := h.show(id)
			require.NotEqual(t, []any{had.State, had.Token.Grant}, []any{lost.State, lost.Token.Grant})
			h.tick(time.Hour)
			h.observe(late)
			require.Equal(t, 1, h.pass().PutBack)
			back := h.show(id)
			require.Equal(t, token.Active, back.State)
			require.Equal(t, had.Token.Grant, back.Token.Grant)
			require.Zero(t, h.pass().PutBack, "once")
			verbs := h.verbs(id)
			require.Equal(t, "token.put_back", verbs[len(verbs)-1])
			h.chainHolds()
		})
	}
}

// L10: a deletion on top of a downgrade comes off with it.
func TestALateFactPutsBackEverythingThatItProvesWrong(t *testing.T) {
	h := build(t, func(p *token.Policy) { p.DowngradeUnused, p.DeleteUnused = 30*day, 40*day })
	id := h.create()
	late := h.used(id, h.start.Add(25*day), "payments:write")
	h.until(30)
	require.Equal(t, token.ReadOnly, h.show(id).Token.Grant.Access)
	h.until(40)
	require.Equal(t, token.Deleted, h.show(id).State)
	h.observe(late)
	require.Equal(t, 2, h.pass().PutBack)
	require.Equal(t, token.Active, h.show(id).State)
	require.Equal(t, token.ReadWrite, h.show(id).Token.Grant.Access)
	h.chainHolds()
}

// L10: what a person changed since is theirs; people are told only.
func TestALateFactDoesNotUndoWhatAPersonDid(t *testing.T) {
	h := build(t)
	id := h.create(custom("invoices:read", "payments:write"))
	late := h.used(id, h.start.Add(20*day), "payments:write")
	for d := 1; d <= 45; d++ {
		h.use(id, "invoices:read")
		h.until(d)
	}
	v := h.show(id)
	require.Equal(t, []string{"invoices:read"}, v.Token.Grant.Scopes)
	name := "weekly export"
	_, err := h.EditToken(ctx, kim, id, v.Token.Version, authority.Edit{Name: &name, Confirm: true})
	require.NoError(t, err)
	h.observe(late)
	require.Zero(t, h.pass().PutBack)
	require.Equal(t, []string{"invoices:read"}, h.show(id).Token.Grant.Scopes)
	require.True(t, h.alarmed("wrong"))
	told := len(h.told(id))
	h.tick(time.Hour)
	require.Len(t, h.told(id), told, "once")
}

// I10, L9: at most five, or two in a hundred, in any 24 hours; what waits is an alarm.
func TestNoMoreThanTheAllowanceIsTakenInADay(t *testing.T) {
	h := build(t)
	for range 12 {
		h.create(readOnly)
	}
	h.until(44)
	require.Equal(t, []int{5, 7}, deletions(h.tick(day)))
	require.True(t, h.alarmed("held"))
	require.Equal(t, []int{0, 7}, deletions(h.tick(time.Hour)))
	require.Equal(t, []int{5, 2}, deletions(h.tick(day)))
	h.Raised = 100
	require.Equal(t, []int{2, 0}, deletions(h.tick(time.Hour)))
	h.chainHolds()
}

// deletions counts what was deleted in the day before, and what waits: both passes
// of a tick count.
func deletions(r lifecycle.Report) []int { return []int{r.Done[token.DeleteUnused], r.Held} }

// F24: a clock that leaps 46 days takes nothing away, and a day of regular passes
// later notice has to be given first.
func TestALeapOfTheClockTakesNothingAway(t *testing.T) {
	h := build(t)
	id := h.create(readOnly)
	h.until(3)
	h.use(id, "")
	h.clock.add(46 * day)
	h.observe()
	r := h.pass()
	require.True(t, r.Resting)
	require.Zero(t, r.Done[token.DeleteUnused])
	h.deliver()
	h.until(49 + 6)
	require.Equal(t, token.Active, h.show(id).State, h.today())
}

// F25: three days back and forth again change nothing and tell nobody anything twice.
func TestAClockThatIsSetBackAndForthChangesNothing(t *testing.T) {
	h := build(t)
	id := h.create(readOnly)
	h.until(40)
	told, done := h.told(id), len(h.audited(id))
	require.Len(t, told, 1)
	h.clock.add(-3 * day)
	require.True(t, h.pass().Resting)
	h.clock.add(3 * day)
	require.True(t, h.pass().Resting)
	h.until(44)
	require.Equal(t, told, h.told(id))
	require.Len(t, h.audited(id), done)
	h.until(45)
	require.Equal(t, token.Deleted, h.show(id).State)
}

// F30: a table of use that was emptied makes nobody idle.
func TestAnEmptiedTableOfUseTakesNothingAway(t *testing.T) {
	h := build(t)
	id := h.create(readOnly)
	for d := 1; d <= 40; d++ {
		h.use(id, "")
		h.until(d)
	}
	h.exec("DELETE FROM uses")
	h.until(50)
	require.True(t, h.alarmed("lost_use"))
	require.Equal(t, token.Active, h.show(id).State)
	require.Empty(t, h.told(id))
	h.until(78)
	require.Empty(t, h.told(id))
	h.until(79)
	require.Equal(t, []token.Event{token.EventDeletionNotice}, h.told(id), "the window started anew")
}

// L4: without a channel, and while mail fails, nothing is taken; when it works
// again notice is given first.
func TestNothingIsTakenWithoutNotice(t *testing.T) {
	t.Run("no channel", func(t *testing.T) {
		h := build(t)
		id := h.create(readOnly)
		h.outbox.Recipients = nil
		h.until(90)
		require.Equal(t, token.Active, h.show(id).State)
		h.outbox.Recipients = []string{"ada@example.com"}
		h.until(96)
		require.Equal(t, token.Active, h.show(id).State)
		h.until(98)
		require.Equal(t, token.Deleted, h.show(id).State)
	})
	t.Run("mail fails", func(t *testing.T) {
		h := build(t)
		id := h.create(readOnly)
		h.mailDown = true
		h.until(60)
		require.Equal(t, token.Active, h.show(id).State)
		h.mailDown = false
		h.until(67)
		require.Equal(t, token.Active, h.show(id).State, h.today())
		h.until(68)
		require.Equal(t, token.Deleted, h.show(id).State, h.today())
		e := h.audited(id)[1].After.Evidence
		require.Equal(t, h.start.Add(61*day), e.Notice.Accepted)
		require.Equal(t, []token.Event{token.EventDeletionNotice, token.EventUnusedDeleted}, h.told(id), "S15: told once")
	})
}

// L8: nothing is taken before every node has told what it saw.
func TestNothingIsTakenBeforeEveryNodeHasTold(t *testing.T) {
	h := build(t)
	id := h.create(readOnly)
	h.until(44)
	h.nodeAway = true
	late := h.used(id, h.clock.Now().Add(time.Hour), "")
	h.clock.add(day)
	require.NoError(t, h.store.Write(ctx, func(tx *tokenstore.Tx) error {
		return tx.BeginRun(token.Run{ID: h.run, Node: "node-1", StartedAt: h.start, StaleFor: time.Hour})
	}))
	h.pass()
	require.Equal(t, token.Active, h.show(id).State)
	h.observe(late)
	h.pass()
	require.Equal(t, token.Active, h.show(id).State)
	require.Contains(t, h.verbs(id), "token.unschedule")
}

// I1: what a lost node saw is not known, so that every window starts anew.
func TestALostNodeMakesEveryWindowStartAnew(t *testing.T) {
	h := build(t)
	id := h.create(readOnly)
	h.until(44)
	h.nodeAway = true
	h.tick(2 * day) // it is long over by then
	require.Equal(t, token.Active, h.show(id).State)
	h.nodeAway = false
	h.run = "run_second"
	h.start = h.clock.Now()
	h.until(30)
	require.Equal(t, token.Active, h.show(id).State)
	h.until(46)
	require.Equal(t, token.Deleted, h.show(id).State)
}

// L7: an exempt token is left alone until its exemption ends.
func TestAnExemptTokenIsLeftAlone(t *testing.T) {
	h := build(t)
	id := h.create(readOnly)
	h.until(40)
	_, err := h.ExemptToken(ctx, kim, id, "used once a year", h.start.Add(100*day), true)
	require.NoError(t, err)
	h.until(99)
	require.Equal(t, []token.Event{token.EventDeletionNotice, token.EventDeletionCancelled}, h.told(id))
	h.until(106)
	require.Equal(t, token.Active, h.show(id).State)
	h.until(107)
	require.Equal(t, token.Deleted, h.show(id).State)
	h.chainHolds()
}

// L5: what was deleted can be had back with all that it had, and its window
// starts anew.
func TestADeletedTokenIsRestored(t *testing.T) {
	h := build(t)
	id := h.create(custom("invoices:read", "payments:write"))
	had := h.show(id)
	h.until(50)
	require.Equal(t, token.Deleted, h.show(id).State)
	v, err := h.RestoreToken(ctx, kim, id, time.Time{}, true)
	require.NoError(t, err)
	require.Equal(t, had.Token.Grant, v.Token.Grant)
	h.until(94)
	require.Equal(t, token.Active, h.show(id).State)
	h.until(95)
	require.Equal(t, token.Deleted, h.show(id).State)
	h.until(125)
	_, err = h.RestoreToken(ctx, kim, id, time.Time{}, true)
	require.ErrorIs(t, err, authority.ErrInvalidState)
	h.chainHolds()
}

// L3: expiry waits for no notice and no allowance, used or not, with a warning
// each time the policy says.
func TestAnExpiredTokenIsDeletedAfterItsWarnings(t *testing.T) {
	h := build(t)
	id := h.create(func(n *authority.NewToken) { n.ExpiresAt = h.start.Add(40 * day) })
	for d := 1; d <= 71; d++ {
		if d <= 40 {
			h.use(id, "payments:write")
		}
		h.until(d)
	}
	require.Equal(t, token.Deleted, h.show(id).State)
	require.Equal(t, token.EndExpired, h.show(id).Token.EndReason)
	require.Equal(t, []token.Event{
		token.EventExpiryWarning, token.EventExpiryWarning, token.EventExpiryWarning, token.EventExpired, token.EventExpiredDeleted,
	}, h.told(id))
	h.chainHolds()
}

// The previous secret ends with its token, also one whose grace period has no end
// of its own.
func TestAPreviousSecretIsRetiredOnce(t *testing.T) {
	h := build(t)
	id := h.create(func(n *authority.NewToken) { n.ExpiresAt = h.start.Add(10 * day) })
	_, err := h.RotateToken(ctx, kim, id, authority.Rotation{Mode: token.RotateTimed, Grace: ptr(7 * day), Confirm: true})
	require.NoError(t, err)
	h.until(6)
	require.NotNil(t, h.show(id).Previous)
	h.until(12)
	require.Nil(t, h.show(id).Previous)
	n := 0
	for _, v := range h.verbs(id) {
		if v == "token.retire_secret" {
			n++
		}
	}
	require.Equal(t, 1, n)
	version := h.show(id).Token.Version
	h.until(20)
	require.Equal(t, version, h.show(id).Token.Version, "nothing is written that changes nothing")
}

func ptr[T any](v T) *T { return &v }
