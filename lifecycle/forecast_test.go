package lifecycle_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/lifecycle"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

func (h *house) forecast(o lifecycle.Options) lifecycle.Forecast {
	h.t.Helper()
	f, err := h.Forecast(ctx, o)
	require.NoError(h.t, err)
	return f
}

// L4: what a forecast says is what happens, and when; and asking changes nothing.
func TestAForecastIsWhatHappens(t *testing.T) {
	h := build(t)
	id := h.create(readOnly)
	h.until(10)
	before := h.show(id)
	f := h.forecast(lifecycle.Options{})
	require.Len(t, f.List, 1)
	var kinds []token.ActionKind
	for _, a := range f.List[0].Actions {
		kinds = append(kinds, a.Kind)
	}
	require.Equal(t, []token.ActionKind{token.NoticeDeletion, token.DeleteUnused}, kinds)
	require.Equal(t, h.start.Add(38*day), f.List[0].Actions[0].Due)
	require.Equal(t, h.start.Add(45*day), f.List[0].Actions[1].Due)
	require.True(t, f.List[0].Actions[1].Waits.Has(token.WaitDate|token.WaitNotice))
	require.Equal(t, before, h.show(id))
	require.Empty(t, h.verbs(id))

	require.Empty(t, h.forecast(lifecycle.Options{At: h.start.Add(37 * day)}).List)
	require.Len(t, h.forecast(lifecycle.Options{At: h.start.Add(38 * day)}).List[0].Actions, 1)

	strict := rules()
	strict.Name, strict.DeleteUnused = "strict", 20*day
	f = h.forecast(lifecycle.Options{Policy: &strict})
	require.Equal(t, "strict", f.List[0].Policy)
	require.Equal(t, h.start.Add(13*day), f.List[0].Actions[0].Due)

	h.until(45)
	require.Equal(t, token.Deleted, h.show(id).State)
	f = h.forecast(lifecycle.Options{TokenID: id})
	require.Equal(t, token.Purge, f.List[0].Actions[0].Kind)
}

func TestAForecastComesInPages(t *testing.T) {
	h := build(t)
	var want, got []token.ID
	for range 7 {
		want = append(want, h.create(readOnly))
	}
	for cursor := ""; ; {
		f := h.forecast(lifecycle.Options{Limit: 3, Cursor: cursor})
		for _, c := range f.List {
			got = append(got, c.Token.ID)
		}
		if cursor = f.Cursor; cursor == "" {
			break
		}
	}
	require.Equal(t, want, got)
	require.Empty(t, h.forecast(lifecycle.Options{AccountID: "acc_other"}).List)
	_, err := h.Forecast(ctx, lifecycle.Options{TokenID: "tok_missing"})
	require.ErrorIs(t, err, tokenstore.ErrNotFound)
}

// L8: coverage names the run that everything waits for, and what is not known.
func TestCoverageNamesWhoHoldsItBack(t *testing.T) {
	h := build(t)
	second := token.Run{ID: "run_behind", Node: "node-2", StartedAt: h.start, StaleFor: time.Hour}
	require.NoError(t, h.store.Write(ctx, func(tx *tokenstore.Tx) error { return tx.BeginRun(second) }))
	h.clock.add(30 * time.Second)
	h.observe()
	o, err := h.Keeper.Coverage(ctx)
	require.NoError(t, err)
	require.Equal(t, h.start, o.Through)
	holds := map[string]bool{}
	for _, r := range o.Runs {
		holds[r.Node] = r.HoldsBack
		require.Equal(t, token.RunServing, r.State)
	}
	require.Equal(t, map[string]bool{"node-1": false, "node-2": true}, holds)

	h.clock.add(2 * time.Hour)
	h.observe()
	o, err = h.Keeper.Coverage(ctx)
	require.NoError(t, err)
	require.Equal(t, h.clock.Now(), o.Through)
	require.Len(t, o.Gaps, 1)
	require.True(t, o.Gaps[0].Blind)
	require.Equal(t, "node-2", o.Gaps[0].Node)
	for _, r := range o.Runs {
		if r.Node == "node-2" {
			require.Equal(t, token.RunLost, r.State)
		}
	}
}

func TestARecommendationIsWhatTheRecordSupports(t *testing.T) {
	h := build(t)
	id := h.create()
	r, err := h.Recommend(ctx, id)
	require.NoError(t, err)
	require.Zero(t, r.Narrowest, "it used nothing")
	h.use(id, "payments:read")
	h.use(id, "invoices:read")
	bucket := h.clock.Now().Truncate(day)
	count := func(outcome, address string) token.Count {
		return token.Count{Bucket: bucket, TokenID: id, SecretID: h.show(id).Current.ID, Scope: "payments:read", Outcome: outcome, Address: address, N: 3}
	}
	require.NoError(t, h.store.Write(ctx, func(tx *tokenstore.Tx) error {
		return tx.PutActivity(token.Activity{Run: h.run, Seq: 1, Covered: h.clock.Now(), Counts: []token.Count{
			count("allowed", "192.0.2.7"), count("allowed", "2001:db8::/64"), count("ip_not_allowed", "198.51.100.1"),
		}})
	}))
	r, err = h.Recommend(ctx, id)
	require.NoError(t, err)
	require.True(t, r.ReadOnly)
	require.Equal(t, token.Grant{Access: token.Custom, Scopes: []string{"invoices:read", "payments:read"}}, r.Narrowest)
	require.Equal(t, []string{"192.0.2.7", "2001:db8::/64"}, r.Addresses)
	require.False(t, r.Partial)
	h.use(id, "payments:write")
	r, err = h.Recommend(ctx, id)
	require.NoError(t, err)
	require.False(t, r.ReadOnly)
	_, err = h.Recommend(ctx, "tok_missing")
	require.ErrorIs(t, err, tokenstore.ErrNotFound)
}
