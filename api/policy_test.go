package api_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/token"
)

func seconds(d time.Duration) *int64 { return ptr(int64(d / time.Second)) }

func TestAPolicyIsManagedOverTheAPI(t *testing.T) {
	g := attended(t)
	c, ctx := g.client(), t.Context()
	issued := g.token()
	account, err := c.Account(ctx, issued.Token.AccountID)
	require.NoError(t, err)

	p, err := c.CreatePolicy(ctx, api.NewPolicy{Name: "strict", PolicyRules: api.PolicyRules{
		Preset: "mercury", DeleteUnusedSeconds: seconds(60 * 24 * time.Hour),
		Notify: map[token.Event][]token.Class{token.EventEdited: {token.ClassOwner}}, Allow: map[string][]string{"rotate": {"owner"}},
		ExpiryWarningsSeconds: &[]int64{}, StepUp: &[]string{"rotate"},
	}})
	require.NoError(t, err)
	require.Equal(t, seconds(60*24*time.Hour), p.DeleteUnusedSeconds)
	require.Equal(t, []string{"owner"}, p.Allow["rotate"])
	require.Equal(t, []token.Class{token.ClassOwner}, p.Notify[token.EventEdited])
	require.Equal(t, []token.Class{token.ClassAdmins}, p.Notify[token.EventDeletionNotice])
	require.Empty(t, p.ExpiryWarningsSeconds)

	account, err = c.EditAccount(ctx, account.ID, account.Version, api.AccountEdit{Policy: ptr("strict")})
	require.NoError(t, err)
	shorter := api.PolicyRules{MaxLifetimeSeconds: seconds(24 * time.Hour)}
	seen, err := c.PreviewPolicy(ctx, "strict", api.PolicyQuestion{PolicyRules: shorter})
	require.NoError(t, err)
	require.Len(t, seen.Items, 1)
	require.Equal(t, issued.Token.ID, seen.Items[0].TokenID)
	require.Nil(t, seen.Items[0].Now.EndsAt)
	require.Equal(t, ptr(start.Add(24*time.Hour)), seen.Items[0].Then.EndsAt)
	seen, err = c.PreviewPolicy(ctx, "default", api.PolicyQuestion{AccountID: account.ID, PolicyRules: shorter})
	require.NoError(t, err)
	require.Len(t, seen.Items, 1, "what assigning another policy would do")

	_, err = c.EditPolicy(ctx, "strict", p.Version, api.PolicyEdit{PolicyRules: shorter})
	var problem *api.Problem
	require.ErrorAs(t, err, &problem)
	require.Equal(t, "confirmation_required", problem.Code)
	p, err = c.EditPolicy(ctx, "strict", p.Version, api.PolicyEdit{PolicyRules: shorter, ConfirmChange: true})
	require.NoError(t, err)
	require.Equal(t, seconds(24*time.Hour), p.MaxLifetimeSeconds)
	none := int64(0)
	p, err = c.EditPolicy(ctx, "strict", p.Version, api.PolicyEdit{PolicyRules: api.PolicyRules{MaxLifetimeSeconds: &none}, ConfirmChange: true})
	require.NoError(t, err)
	require.Nil(t, p.MaxLifetimeSeconds, "0 switches it off")

	_, err = c.DeletePolicy(ctx, "strict")
	require.ErrorAs(t, err, &problem)
	require.Equal(t, "invalid_state", problem.Code)
	_, err = c.EditAccount(ctx, account.ID, account.Version, api.AccountEdit{Policy: ptr("default")})
	require.NoError(t, err)
	_, err = c.DeletePolicy(ctx, "strict")
	require.NoError(t, err)
	_, err = c.Policy(ctx, "strict")
	require.ErrorAs(t, err, &problem)
	require.Equal(t, "not_found", problem.Code)
}

func TestRulesThatCanNotBeAreRefusedOverTheAPI(t *testing.T) {
	g := attended(t)
	g.refused(post("/policies", `{"name":"strict","preset":"nothing"}`), 422, "invalid_field")
	g.refused(post("/policies", `{"name":"strict","max_lifetime_seconds":-5}`), 422, "invalid_field")
	g.refused(post("/policies", `{"name":"strict","max_lifetime_seconds":9223372036854775807}`), 422, "invalid_field")
	g.refused(post("/policies", `{"name":"strict","rotation_modes":["later"]}`), 422, "invalid_field")
	g.refused(post("/policies", `{"name":"strict","allow":{"dance":["owner"]}}`), 422, "invalid_field")
	g.refused(post("/policies", `{"name":"strict","grace":1}`), 422, "invalid_field")
	g.refused(post("/policies", `{"name":"default"}`), 422, "invalid_field")
	g.refused(post("/policies/none/preview", `{}`), 404, "not_found")
	g.refused(post("/policies/default/preview", `{"account_id":"acc_none"}`), 404, "not_found")
	g.refused(post("/policies/default/preview", `{"cursor":"NotAnID"}`), 422, "invalid_field")
	g.refused(asked{method: http.MethodPatch, path: "/policies/default", body: `{"notice_seconds":1}`}, 428, "if_match_required")
	shown, _ := granted[api.Policy](g, get("/policies/default"), 200)
	g.refused(asked{
		method: http.MethodPatch, path: "/policies/default", body: `{"notice_seconds":1}`,
		header: http.Header{"If-Match": {strconv.Quote(strconv.FormatInt(shown.Version+5, 10))}},
	}, 412, "version_mismatch")
}
