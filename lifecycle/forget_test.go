package lifecycle_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/lifecycle"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

func (h *house) write(f func(tx *tokenstore.Tx) error) {
	h.t.Helper()
	require.NoError(h.t, h.store.Write(ctx, f))
}

func (h *house) runs() (ids []token.ID) {
	h.t.Helper()
	storetest.MustRead(h.t, h.store, func(tx *tokenstore.Tx) error {
		runs, err := tx.Runs()
		for _, r := range runs {
			ids = append(ids, r.ID)
		}
		return err
	})
	return ids
}

// O6: messages that were dealt with go after a time, and what a plan waits for stays.
func TestOldNoticesAreRemovedAndThoseOfPlansThatStandStay(t *testing.T) {
	h := build(t)
	gone := h.create(readOnly)
	h.until(46)
	require.Equal(t, token.Deleted, h.show(gone).State)
	require.Len(t, h.notices(gone), 4, "notice and deed, to two people")
	// A notice that is given and whose act never comes: the allowance, or a fault.
	old := tokenstore.Notice{
		ID: newNoticeID(t), Same: "old", Event: token.EventDeletionNotice, AccountID: h.account.ID, TokenID: gone, PlanID: "pln_stands",
		Channel: "mail", Recipient: "ada@example.com", Facts: []byte(`{}`), CreatedAt: h.clock.Now(), NextAt: h.clock.Now(),
	}
	stays := h.create(readOnly)
	h.write(func(tx *tokenstore.Tx) error {
		plan := tokenstore.Plan{TokenID: stays, Notice: token.Notice{ID: "pln_stands", Kind: token.DeleteUnused, Due: h.start.Add(400 * day), Created: h.clock.Now()}}
		if err := tx.InsertPlan(plan); err != nil {
			return err
		}
		_, err := tx.InsertNotice(old)
		return err
	})
	h.deliver()
	sent := len(h.notices(gone))
	h.clock.add(lifecycle.NoticesKept - 7*day)
	h.observe()
	h.pass()
	require.Len(t, h.notices(gone), sent-2, "the notice of day 38 is gone, and what was told on day 45 not yet")
	h.clock.add(60 * day)
	h.observe()
	h.pass()
	var left []token.ID
	for _, n := range h.notices(gone) {
		left = append(left, n.ID)
	}
	require.Equal(t, []token.ID{old.ID}, left)
}

func newNoticeID(t *testing.T) token.ID {
	t.Helper()
	id, err := newID("ntc")
	require.NoError(t, err)
	return id
}

// I1, I4: runs that no window reaches back to are dropped, and dates stay as they were.
func TestOldRunsAreForgottenAndNoDateChanges(t *testing.T) {
	h := build(t)
	exempt := h.create(readOnly)
	h.write(func(tx *tokenstore.Tx) error {
		for i, id := range []token.ID{"run_a", "run_b"} {
			at := h.start.Add(time.Duration(i) * time.Hour)
			if err := tx.BeginRun(token.Run{ID: id, Node: "node-2", StartedAt: at}); err != nil {
				return err
			}
			gap := token.Gap{From: at, To: at, Blind: true, Node: "node-2", Reason: "disk"}
			if err := tx.PutActivity(token.Activity{Run: id, Covered: at, Gaps: []token.Gap{gap}}); err != nil {
				return err
			}
			if err := tx.EndRun(id, at); err != nil {
				return err
			}
		}
		// One that was lost owes what it saw.
		return tx.BeginRun(token.Run{ID: "run_lost", Node: "node-3", StartedAt: h.start})
	})
	h.until(130)
	require.Len(t, h.runs(), 4)
	late := h.create(readOnly)
	h.until(134)
	before := h.forecast(lifecycle.Options{TokenID: late}).List[0].Actions
	for range 40 { // 45 days of a window, and 90 more
		h.tick(time.Hour)
	}
	after := h.forecast(lifecycle.Options{TokenID: late}).List[0].Actions
	require.Equal(t, before[0].Due, after[0].Due)
	require.Equal(t, before[1].Due, after[1].Due)
	runs := h.runs()
	require.Len(t, runs, 3, "the floor, the one that was lost, and the one that runs")
	require.NotContains(t, runs, token.ID("run_a"))
	require.NotContains(t, runs, token.ID("run_b"))
	require.Contains(t, runs, token.ID("run_lost"))
	require.Contains(t, runs, h.run)
	o, err := h.Keeper.Coverage(ctx)
	require.NoError(t, err)
	var floors int
	for _, g := range o.Gaps {
		if g.Reason == token.GapForgotten {
			floors++
			require.True(t, g.Blind)
			require.False(t, g.From.Before(h.start.Add(time.Hour)))
			require.False(t, g.From.After(h.clock.Now().Add(-135*day)))
		}
	}
	require.Equal(t, 1, floors)
	require.Equal(t, token.Deleted, h.show(exempt).State)
	h.until(174)
	require.Equal(t, token.Active, h.show(late).State, h.today())
	h.until(175)
	require.Equal(t, token.Deleted, h.show(late).State, h.today())
	require.Len(t, h.runs(), 3, "the floor moves only with something to drop")
}

// L4: as long as a notice stands, what it was given for is not forgotten.
func TestNothingIsForgottenThatANoticeStandsOn(t *testing.T) {
	h := build(t)
	id := h.create(readOnly)
	h.write(func(tx *tokenstore.Tx) error {
		if err := tx.BeginRun(token.Run{ID: "run_a", Node: "node-2", StartedAt: h.start}); err != nil {
			return err
		}
		return tx.EndRun("run_a", h.start)
	})
	h.mailDown = true
	h.until(300)
	require.Equal(t, token.Active, h.show(id).State)
	require.Len(t, h.runs(), 2)
	require.Equal(t, []token.Event{token.EventDeletionNotice}, h.told(id), "one notice, and never called off")
	h.mailDown = false
	h.until(310)
	require.Equal(t, token.Deleted, h.show(id).State, h.today())
}

func TestAGatewayThatDiedAndOwesNothingGoesOffTheList(t *testing.T) {
	h := build(t)
	nodes := func() (ids []string) {
		storetest.MustRead(t, h.store, func(tx *tokenstore.Tx) error {
			list, err := tx.Nodes()
			for _, n := range list {
				ids = append(ids, n.ID)
			}
			return err
		})
		return ids
	}
	h.write(func(tx *tokenstore.Tx) error {
		for _, id := range []string{"node-1", "node-2", "node-3", "node-4"} {
			if err := tx.PutNode(tokenstore.Node{ID: id, StartedAt: h.start, SeenAt: h.start}); err != nil {
				return err
			}
		}
		for node, id := range map[string]token.ID{"node-2": "run_2", "node-3": "run_3"} {
			if err := tx.BeginRun(token.Run{ID: id, Node: node, StartedAt: h.start}); err != nil {
				return err
			}
		}
		return tx.EndRun("run_2", h.start)
	})
	h.tick(time.Hour)
	require.Equal(t, []string{"node-1", "node-2", "node-3", "node-4"}, nodes(), "not yet")
	h.tick(time.Second)
	require.Equal(t, []string{"node-1", "node-3"}, nodes(), "this one, and one that owes what it saw")
	h.write(func(tx *tokenstore.Tx) error { return tx.WaiveRun("run_3") })
	h.tick(time.Second)
	require.Equal(t, []string{"node-1"}, nodes())
}
