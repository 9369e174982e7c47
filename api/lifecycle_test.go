package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/lifecycle"
	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// teller notes messages as if a mail server took each at once.
type teller struct{ g *gateway }

func (t teller) Tell(tx *tokenstore.Tx, m notify.Message) error {
	id, err := t.g.newID("ntc")
	if err != nil {
		return err
	}
	_, err = tx.InsertNotice(tokenstore.Notice{
		ID: id, Same: string(id), Event: m.Event, AccountID: m.AccountID, TokenID: m.TokenID, PlanID: m.PlanID,
		Channel: "mail", Recipient: "ada@example.com", CreatedAt: t.g.clock(), NextAt: t.g.clock(), Facts: []byte("{}"),
	})
	return err
}

func (t teller) Accepted(*tokenstore.Tx, token.ID, time.Time) (notify.Verdict, error) {
	return notify.Verdict{Accepted: t.g.clock()}, nil
}

func (teller) Channel(*tokenstore.Tx) (bool, error) { return true, nil }

// attended is a gateway whose tokens are looked after, and which observes.
func attended(t *testing.T) *gateway {
	t.Helper()
	g := newGateway(t)
	g.keeper = &lifecycle.Keeper{
		Store: g.store, Authority: g.authority, Teller: teller{g}, Holder: "node_a", NewID: g.newID,
	}
	g.open()
	require.NoError(t, g.store.Write(t.Context(), func(tx *tokenstore.Tx) error {
		return tx.BeginRun(token.Run{ID: "run_a", Node: "node_a", StartedAt: start})
	}))
	return g
}

// days lets days pass, in which a gateway observes and looks after the tokens.
func (g *gateway) days(n int) {
	g.t.Helper()
	for range n {
		g.wait(24 * time.Hour)
		require.NoError(g.t, g.store.Write(g.t.Context(), func(tx *tokenstore.Tx) error {
			return tx.PutActivity(token.Activity{Run: "run_a", Covered: g.clock()})
		}))
		_, err := g.client().ApplyLifecycle(g.t.Context())
		require.NoError(g.t, err)
	}
}

func TestALifeIsSeenFromTheFirstDayToTheRestoring(t *testing.T) {
	// L1 to L7 as people see them
	g := attended(t)
	c, ctx := g.client(), t.Context()
	issued := g.token()
	id := issued.Token.ID
	require.Nil(t, issued.Token.LastUsedAt)

	plan, err := c.LifecyclePlan(ctx, api.PlanFilter{})
	require.NoError(t, err)
	require.Len(t, plan.Items, 1)
	require.Equal(t, id, plan.Items[0].TokenID)
	kinds := map[string]api.Action{}
	for _, a := range plan.Items[0].Actions {
		kinds[a.Kind] = a
	}
	require.Equal(t, start.Add(38*24*time.Hour), kinds["notice_deletion"].Due)
	require.Equal(t, start.Add(45*24*time.Hour), kinds["delete_unused"].Due)
	require.Contains(t, kinds["delete_unused"].WaitsFor, "notice")
	require.Equal(t, ptr(start), kinds["delete_unused"].Evidence.From)
	w := g.do(get("/lifecycle/plan?limit=1&at=2026-11-23T00:00:00Z&policy=default&account_id=" + string(issued.Token.AccountID)))
	require.Equal(t, http.StatusOK, w.Code)
	g.refused(get("/lifecycle/plan?policy=nothing"), 422, "invalid_field")
	g.refused(get("/lifecycle/plan?cursor=not%20an%20id"), 422, "invalid_field")
	g.refused(get("/lifecycle/plan?cursor=NotAnID"), 422, "invalid_field")

	g.days(39)
	shown, err := c.Token(ctx, id)
	require.NoError(t, err)
	require.NotNil(t, shown.Scheduled)
	require.Equal(t, "delete_unused", shown.Scheduled.Action)
	notices, err := c.NoticePage(ctx, api.NoticeFilter{TokenID: id})
	require.NoError(t, err)
	require.Len(t, notices.Items, 1)
	require.EqualValues(t, "deletion_notice", notices.Items[0].Event)
	require.Equal(t, "waiting", notices.Items[0].State)
	g.do(get("/notices?state=waiting"))
	g.refused(get("/notices?state=read"), 422, "invalid_field")

	until := g.clock().Add(90 * 24 * time.Hour)
	exempt, err := c.ExemptToken(ctx, id, api.Exemption{Reason: "yearly closing", Until: until})
	require.NoError(t, err)
	require.Equal(t, ptr(until), exempt.ExemptUntil)
	g.refused(asked{method: http.MethodPut, path: "/tokens/" + string(id) + "/exemption", body: `{"reason":"x","until":"2020-01-01T00:00:00Z"}`}, 422, "invalid_field")
	ended, _ := granted[api.Token](g, asked{method: http.MethodDelete, path: "/tokens/" + string(id) + "/exemption"}, 200)
	require.Nil(t, ended.ExemptUntil)

	g.days(20)
	_, err = c.Token(ctx, id)
	require.NoError(t, err)
	deleted, _ := granted[api.Token](g, get("/tokens/"+string(id)), 200)
	require.Equal(t, token.Deleted, deleted.State)
	require.Nil(t, deleted.Scheduled)
	restored, _ := granted[api.Token](g, post("/tokens/"+string(id)+"/restore", `{}`), 200)
	require.Equal(t, token.Active, restored.State)
	g.refused(post("/tokens/"+string(id)+"/restore", `{}`), 409, "invalid_state")
	g.refused(post("/tokens/"+string(id)+"/undo-downgrade", ``), 409, "invalid_state")
}

func TestADowngradeIsShownAndUndone(t *testing.T) {
	g := attended(t)
	c, ctx := g.client(), t.Context()
	require.NoError(t, g.declarePolicy(func(p *token.Policy) { p.RequireAllowList, p.DeleteUnused = token.AllowListNever, 0 }))
	issued, err := c.CreateToken(ctx, "", api.NewToken{Name: "pays", AccountID: g.account().ID, Access: token.ReadWrite})
	require.NoError(t, err)
	id := issued.Token.ID
	g.days(47)
	narrowed, err := c.Token(ctx, id)
	require.NoError(t, err)
	require.Equal(t, token.ReadOnly, narrowed.Access)
	require.NotNil(t, narrowed.DowngradedAt)
	require.Equal(t, ptr(narrowed.DowngradedAt.Add(30*24*time.Hour)), narrowed.UndoUntil)
	undone, err := c.UndoDowngrade(ctx, id, true)
	require.NoError(t, err)
	require.Equal(t, token.ReadWrite, undone.Access)
	require.Nil(t, undone.DowngradedAt)
	require.Nil(t, undone.UndoUntil)
}

func TestUsageAndRecommendationsAreShown(t *testing.T) {
	g := attended(t)
	c, ctx := g.client(), t.Context()
	issued := g.token()
	id := issued.Token.ID
	day := start.Truncate(24 * time.Hour)
	require.NoError(t, g.store.Write(ctx, func(tx *tokenstore.Tx) error {
		return tx.PutActivity(token.Activity{
			Run: "run_a", Seq: 1, Covered: start,
			Facts:  []token.Fact{{TokenID: id, SecretID: "sec_a", Scope: token.ReadScope, Bucket: day, First: start, Until: day.Add(24 * time.Hour)}},
			Counts: []token.Count{{TokenID: id, SecretID: "sec_a", Scope: "read", Bucket: day, Outcome: "allowed", Address: "192.0.2.7", N: 3}},
		})
	}))
	g.wait(time.Minute)
	u, err := c.TokenUsage(ctx, id, time.Time{}, time.Time{})
	require.NoError(t, err)
	require.Equal(t, ptr(start), u.LastUsedAt)
	require.Equal(t, []api.DayUse{{Day: "2026-11-22", Scope: "read", Outcome: "allowed", Address: "192.0.2.7", SecretID: "sec_a", Requests: 3}}, u.Days)
	require.Len(t, u.Scopes, 1)
	g.do(get("/tokens/" + string(id) + "/usage?from=2026-11-01T00:00:00Z&to=2026-12-01T00:00:00Z"))
	g.refused(get("/tokens/"+string(id)+"/usage?from=2026-12-01T00:00:00Z&to=2026-11-01T00:00:00Z"), 422, "invalid_field")
	shown, err := c.Token(ctx, id)
	require.NoError(t, err)
	require.Equal(t, ptr(start), shown.LastUsedAt)

	r, err := c.Recommendation(ctx, id)
	require.NoError(t, err)
	require.Equal(t, []string{"read"}, r.UsedScopes)
	require.True(t, r.ReadOnly)
	require.Equal(t, []string{"192.0.2.7"}, r.Addresses)
	g.refused(get("/tokens/tok_none/recommendation"), 404, "not_found")
}

func TestCoverageNodesAndRetirementAreAskedFor(t *testing.T) {
	g := attended(t)
	c, ctx := g.client(), t.Context()
	known, err := c.Coverage(ctx)
	require.NoError(t, err)
	require.Equal(t, ptr(start), known.Since)
	require.Len(t, known.Runs, 1)
	require.Equal(t, "serving", known.Runs[0].State)
	g.do(get("/lifecycle/coverage"))

	const retire = "/nodes/node_a/retire"
	g.refused(post(retire, `{"accept_gap":true,"confirm":true}`), 409, "invalid_state")
	g.wait(time.Hour)
	nodes, err := c.Nodes(ctx)
	require.NoError(t, err)
	require.Equal(t, "lost", nodes[0].State)
	g.refused(post(retire, `{"confirm":true}`), 422, "invalid_field")
	g.refused(post(retire, `{"accept_gap":true}`), 412, "confirmation_required")
	n, _ := granted[api.Node](g, post(retire, `{"accept_gap":true,"confirm":true}`), 200)
	require.Equal(t, "retired", n.State)
	g.refused(post("/nodes/node_b/retire", `{"confirm":true}`), 404, "not_found")
}

func TestAPassOfAnotherGatewayIsNamed(t *testing.T) {
	// L8
	g := attended(t)
	require.NoError(t, g.store.Write(t.Context(), func(tx *tokenstore.Tx) error {
		_, _, err := tx.TakeDuty("lifecycle", "node_b", time.Hour)
		return err
	}))
	done, _ := granted[api.PassReport](g, post("/lifecycle/apply", ``), 200)
	require.False(t, done.Ran)
	require.Equal(t, "node_b", done.Holder)
}

func TestWithoutAKeeperTheLifecycleSaysSo(t *testing.T) {
	g := newGateway(t)
	id := g.token().Token.ID
	for _, a := range []asked{
		get("/lifecycle/plan"), get("/lifecycle/coverage"), post("/lifecycle/apply", ``), get("/tokens/" + string(id) + "/recommendation"),
	} {
		p := g.refused(a, 503, "lifecycle_unavailable")
		require.Contains(t, p.Detail, "gateway that runs")
	}
}
