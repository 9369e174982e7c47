package authority_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// runs begins a run of a node, and covers it up to now.
func (h *house) runs(node string, id token.ID, staleFor time.Duration) {
	h.t.Helper()
	now := h.clock.Now()
	h.write(func(tx *tokenstore.Tx) error {
		if err := tx.BeginRun(token.Run{ID: id, Node: node, StartedAt: now, StaleFor: staleFor}); err != nil {
			return err
		}
		return tx.PutActivity(token.Activity{Run: id, Covered: now})
	})
}

func (h *house) write(f func(tx *tokenstore.Tx) error) {
	h.t.Helper()
	require.NoError(h.t, h.Store.Write(ctx, f))
}

func (h *house) node(id string) authority.NodeView {
	h.t.Helper()
	nodes, err := h.Nodes(ctx, kim)
	require.NoError(h.t, err)
	for _, n := range nodes {
		if n.ID == id {
			return n
		}
	}
	require.Fail(h.t, "no such node", id)
	return authority.NodeView{}
}

// L8: who may still be letting requests pass is waited for, and not given up.
func TestANodeIsGivenUpOnlyOnceItLetsNothingPass(t *testing.T) {
	h := build(t)
	covered := h.clock.Now().UTC().Truncate(time.Microsecond)
	h.write(func(tx *tokenstore.Tx) error {
		return tx.PutNode(tokenstore.Node{ID: "node_a", StartedAt: covered, SeenAt: covered, Keys: map[string]string{"k": "c"}})
	})
	h.runs("node_a", "run_a", 10*time.Minute)
	retire := func(acceptGap, confirm bool) error {
		_, err := h.RetireNode(ctx, kim, "node_a", acceptGap, confirm)
		return err
	}
	require.Equal(t, authority.NodeRunning, h.node("node_a").State)
	require.ErrorIs(t, retire(true, true), authority.ErrInvalidState)
	require.ErrorContains(t, retire(true, true), "is running")

	h.clock.add(2 * time.Minute)
	silent := h.node("node_a")
	require.Equal(t, authority.NodeSilent, silent.State)
	require.Equal(t, covered.Add(11*time.Minute), silent.ServesUntil)
	require.ErrorContains(t, retire(true, true), "without the store until "+silent.ServesUntil.Format(time.RFC3339))

	h.clock.add(10 * time.Minute)
	lost := h.node("node_a")
	require.Equal(t, authority.NodeLost, lost.State)
	require.Equal(t, 1, lost.Lost)
	require.Equal(t, covered, lost.Covered)
	seq := h.head()
	require.ErrorContains(t, retire(false, true), "accept_gap")
	require.ErrorIs(t, retire(true, false), authority.ErrConfirmationRequired)
	require.Empty(t, h.entries(seq), "a refusal changes nothing")
	require.Equal(t, authority.NodeLost, h.node("node_a").State)

	require.NoError(t, retire(true, true))
	retired := h.node("node_a")
	require.Equal(t, authority.NodeRetired, retired.State)
	require.Zero(t, retired.Lost)
	require.Zero(t, retired.SeenAt)
	entries := h.entries(seq)
	require.Len(t, entries, 1)
	require.Equal(t, "node.retire", entries[0].Verb)
	require.Equal(t, "node_a", entries[0].Target)
	require.Equal(t, map[string]any{"state": "lost", "lost_runs": 1.0, "covered_through": covered.Format(time.RFC3339Nano)}, entries[0].Before)

	require.NoError(t, retire(true, true), "again")
	require.Len(t, h.entries(seq), 1)
}

// A node that was started anew is running: what an earlier run of it lost is not
// given up behind its back.
func TestANodeWithAnEarlierRunThatWasLostIsRefusedWhileItRuns(t *testing.T) {
	h := build(t)
	h.runs("node_a", "run_a", 0)
	h.clock.add(time.Hour)
	h.runs("node_a", "run_b", 0)
	n := h.node("node_a")
	require.Equal(t, authority.NodeRunning, n.State)
	require.Equal(t, 1, n.Lost)
	_, err := h.RetireNode(ctx, kim, "node_a", true, true)
	require.ErrorIs(t, err, authority.ErrInvalidState)

	h.write(func(tx *tokenstore.Tx) error { return tx.EndRun("run_b", h.clock.Now()) })
	require.Equal(t, authority.NodeLost, h.node("node_a").State)
	_, err = h.RetireNode(ctx, kim, "node_a", true, true)
	require.NoError(t, err)
	require.Zero(t, h.node("node_a").Lost)
}

func TestANodeThatStoppedCleanlyHasNothingToGiveUp(t *testing.T) {
	h := build(t)
	h.runs("node_a", "run_a", time.Hour)
	h.write(func(tx *tokenstore.Tx) error { return tx.EndRun("run_a", h.clock.Now()) })
	require.Equal(t, authority.NodeStopped, h.node("node_a").State)
	seq := h.head()
	_, err := h.RetireNode(ctx, kim, "node_a", false, false)
	require.NoError(t, err)
	require.Empty(t, h.entries(seq))
	for _, id := range []string{"node_b", "", "not an id"} {
		_, err := h.RetireNode(ctx, kim, id, true, true)
		require.ErrorIs(t, err, authority.ErrNotFound)
	}
}

func TestUsageTellsWhatIsCertainAndAddsUpDays(t *testing.T) {
	h := build(t)
	id := h.create().Token.Token.ID
	require.Zero(t, h.show(id).Life)
	now := h.clock.Now().UTC().Truncate(time.Microsecond)
	day := now.Truncate(24 * time.Hour)
	h.runs("node_a", "run_a", 0)
	pay := token.Scope{Name: "payments:write", Nature: token.Write}
	h.write(func(tx *tokenstore.Tx) error {
		count := token.Count{TokenID: id, SecretID: "sec_a", Scope: pay.Name, Outcome: "allowed", Address: "192.0.2.7", N: 2}
		var counts []token.Count
		for _, at := range []time.Time{day.Add(-40 * 24 * time.Hour), day.Add(-24 * time.Hour), day, day.Add(time.Hour)} {
			count.Bucket = at
			counts = append(counts, count)
		}
		return tx.PutActivity(token.Activity{
			Run: "run_a", Seq: 1, Covered: now, Counts: counts,
			Facts: []token.Fact{
				{TokenID: id, SecretID: "sec_a", Scope: pay, Bucket: day, First: day.Add(time.Hour), Until: day.Add(24 * time.Hour)},
				{TokenID: id, SecretID: "sec_a", Bucket: day, First: day.Add(2 * time.Hour), Until: day.Add(24 * time.Hour)},
			},
		})
	})
	u, err := h.TokenUsage(ctx, kim, id, time.Time{}, time.Time{})
	require.NoError(t, err)
	require.Equal(t, day.Add(2*time.Hour), u.View.Life.LastUsed)
	require.Equal(t, day.Add(2*time.Hour), h.show(id).Life.LastUsed)
	list, _, err := h.Tokens(ctx, kim, tokenstore.TokenQuery{})
	require.NoError(t, err)
	require.Equal(t, day.Add(2*time.Hour), list[0].Life.LastUsed)
	require.Len(t, u.Uses, 2)
	require.Equal(t, day.Add(-30*24*time.Hour), u.From)
	require.False(t, u.More)
	want := token.Count{TokenID: id, SecretID: "sec_a", Scope: pay.Name, Outcome: "allowed", Address: "192.0.2.7", N: 2}
	first, second := want, want
	first.Bucket, second.Bucket, second.N = day.Add(-24*time.Hour), day, 4
	require.Equal(t, []token.Count{first, second}, u.Days)

	u, err = h.TokenUsage(ctx, kim, id, day.Add(-41*24*time.Hour), time.Time{})
	require.NoError(t, err)
	require.Len(t, u.Days, 3)
	_, err = h.TokenUsage(ctx, kim, id, now, day)
	require.ErrorIs(t, err, authority.ErrInvalidField)
	_, err = h.TokenUsage(ctx, kim, "tok_none", time.Time{}, time.Time{})
	require.ErrorIs(t, err, authority.ErrNotFound)
}

// An answer ends with a whole day, and says how far it reaches.
func TestUsageThatIsTooMuchForOneAnswerIsCutBetweenDays(t *testing.T) {
	h := build(t)
	id := h.create().Token.Token.ID
	day := h.clock.Now().UTC().Truncate(24 * time.Hour)
	h.runs("node_a", "run_a", 0)
	h.write(func(tx *tokenstore.Tx) error {
		var counts []token.Count
		for _, at := range []time.Time{day.Add(-24 * time.Hour), day} {
			for i := range 6000 {
				counts = append(counts, token.Count{
					Bucket: at, TokenID: id, SecretID: token.ID("sec_" + time.Duration(i).String()), Outcome: "allowed", N: 1,
				})
			}
		}
		return tx.PutActivity(token.Activity{Run: "run_a", Seq: 1, Covered: day, Counts: counts})
	})
	u, err := h.TokenUsage(ctx, kim, id, time.Time{}, time.Time{})
	require.NoError(t, err)
	require.True(t, u.More)
	require.Len(t, u.Days, 6000)
	require.Equal(t, day, u.To)
	u, err = h.TokenUsage(ctx, kim, id, u.To, time.Time{})
	require.NoError(t, err)
	require.False(t, u.More)
	require.Len(t, u.Days, 6000)
}

func TestAPassThatSomebodyAsksForIsNoted(t *testing.T) {
	h := build(t)
	seq := h.head()
	require.NoError(t, h.AskForPass(ctx, kim))
	entries := h.entries(seq)
	require.Len(t, entries, 1)
	require.Equal(t, "lifecycle.apply", entries[0].Verb)

	holder, err := h.LifecycleHolder(ctx, kim)
	require.NoError(t, err)
	require.Empty(t, holder)
	h.write(func(tx *tokenstore.Tx) error {
		_, _, err := tx.TakeDuty("lifecycle", "node_a", time.Minute)
		return err
	})
	holder, err = h.LifecycleHolder(ctx, kim)
	require.NoError(t, err)
	require.Equal(t, "node_a", holder)
	h.clock.add(2 * time.Minute)
	holder, err = h.LifecycleHolder(ctx, kim)
	require.NoError(t, err)
	require.Empty(t, holder, "its term is over")
}
