package lifecycle_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/lifecycle"
	"github.com/sallyport/sallyport/token"
)

func TestAPreviewTellsWhatOtherRulesWouldChange(t *testing.T) {
	h := build(t)
	first, second := h.create(), h.create(readOnly)
	now := h.clock.Now()

	same, err := h.Preview(ctx, lifecycle.Question{Rules: rules(), Policy: "test"})
	require.NoError(t, err)
	require.Equal(t, 2, same.Tokens)
	require.Empty(t, same.Effects, "the same rules change nothing")
	require.Empty(t, same.Crowds)

	strict := rules()
	strict.Name = "strict"
	strict.MaxLifetime = 20 * day
	strict.DeleteUnused = 0
	strict.RequireAllowList = token.AllowListWrite
	strict.MaxSecretsPerAccount = 1
	seen, err := h.Preview(ctx, lifecycle.Question{Rules: strict, Policy: "test"})
	require.NoError(t, err)
	require.Len(t, seen.Effects, 2)
	byID := map[token.ID]lifecycle.Effect{}
	for _, e := range seen.Effects {
		byID[e.Token.ID] = e
	}
	require.Zero(t, byID[first].Now.Ends)
	require.Equal(t, now.Add(20*day), byID[first].Then.Ends)
	require.Equal(t, now.Add(45*day), byID[first].Now.Deleted)
	require.Equal(t, now.Add(50*day), byID[first].Then.Deleted, "30 days after it expires")
	require.True(t, byID[first].NeedsAllowList, "M10: it may write")
	require.False(t, byID[second].NeedsAllowList, "M14")
	require.Equal(t, []lifecycle.Crowd{{AccountID: h.account.ID, Most: 1}}, seen.Crowds, "T9: it has two secrets")
	require.Equal(t, token.Active, h.show(first).State, "it only looked")

	other, err := h.Preview(ctx, lifecycle.Question{Rules: strict, Policy: "another"})
	require.NoError(t, err)
	require.Zero(t, other.Tokens, "it rules nobody")
	one, err := h.Preview(ctx, lifecycle.Question{Rules: strict, AccountID: h.account.ID})
	require.NoError(t, err)
	require.Len(t, one.Effects, 2)
}

func TestAPreviewGoesOnWhereItsPageEnded(t *testing.T) {
	h := build(t)
	for range 5 {
		h.create()
	}
	strict := rules()
	strict.MaxLifetime = time.Hour
	found := map[token.ID]bool{}
	q := lifecycle.Question{Rules: strict, Policy: "test", Limit: 2}
	for pages := 0; ; pages++ {
		require.Less(t, pages, 10)
		p, err := h.Preview(ctx, q)
		require.NoError(t, err)
		for _, e := range p.Effects {
			require.False(t, found[e.Token.ID])
			found[e.Token.ID] = true
		}
		if p.Cursor == "" {
			break
		}
		q.Cursor = p.Cursor
	}
	require.Len(t, found, 5)
}

func TestAPreviewMatchesWhatThePolicyThenDoes(t *testing.T) {
	h := build(t)
	id := h.create()
	strict := rules()
	strict.DeleteUnused, strict.DowngradeUnused = 20*day, 0
	seen, err := h.Preview(ctx, lifecycle.Question{Rules: strict, Policy: "test"})
	require.NoError(t, err)
	require.Len(t, seen.Effects, 1)
	h.policy(func(p *token.Policy) { p.DeleteUnused, p.DowngradeUnused = 20*day, 0 })
	plan, err := h.Forecast(ctx, lifecycle.Options{TokenID: id})
	require.NoError(t, err)
	require.Len(t, plan.List, 1)
	var deleted time.Time
	for _, a := range plan.List[0].Actions {
		if a.Kind == token.DeleteUnused {
			deleted = a.Due
		}
	}
	require.Equal(t, deleted, seen.Effects[0].Then.Deleted)
}
