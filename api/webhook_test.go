package api_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/notify"
)

func TestWebhooksAreCreatedEditedRotatedAndDeleted(t *testing.T) {
	g := newGateway(t)
	issued, header := granted[api.IssuedWebhook](g, post("/webhooks", `{"url":"https://example.com/hooks","events":["token_rotated"]}`), http.StatusCreated)
	want := api.Webhook{
		ID: issued.Webhook.ID, URL: "https://example.com/hooks", Events: []string{"token_rotated"}, State: "active", HasSecret: true,
		CreatedAt: start, UpdatedAt: start, Version: 1,
	}
	require.Empty(t, cmp.Diff(want, issued.Webhook))
	require.Equal(t, `"1"`, header.Get("ETag"))
	_, err := notify.ParseSigningSecret(issued.Secret.Reveal())
	require.NoError(t, err)
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", issued, issued, issued), issued.Secret.Reveal())

	path := "/webhooks/" + string(want.ID)
	for _, p := range []string{path, "/webhooks"} {
		w := g.do(get(p))
		require.Equal(t, http.StatusOK, w.Code)
		require.NotContains(t, w.Body.String(), "whsec_", "the secret is in the answer that issues it and nowhere else")
	}
	g.refused(asked{method: http.MethodPatch, path: path, body: `{"disabled":true}`}, http.StatusPreconditionRequired, "if_match_required")
	off, header := granted[api.Webhook](g, patch(path, `"1"`, `{"disabled":true,"events":[]}`), http.StatusOK)
	require.Equal(t, "disabled", off.State)
	require.Empty(t, off.Events)
	require.Equal(t, `"2"`, header.Get("ETag"))
	g.refused(patch(path, `"1"`, `{"disabled":false}`), http.StatusPreconditionFailed, "version_mismatch")

	rotated, _ := granted[api.IssuedWebhook](g, post(path+"/rotate", `{"grace_period_seconds":60}`), http.StatusOK)
	require.NotEqual(t, issued.Secret.Reveal(), rotated.Secret.Reveal())
	require.Equal(t, start.Add(time.Minute), *rotated.Webhook.PreviousSecretExpiresAt)
	g.refused(post(path+"/rotate", ""), http.StatusConflict, "rotation_in_progress")
	back, _ := granted[api.Webhook](g, post(path+"/rollback", ""), http.StatusOK)
	require.Nil(t, back.PreviousSecretExpiresAt)
	g.refused(post(path+"/rollback", ""), http.StatusConflict, "invalid_state")
	g.refused(post(path+"/confirm", ""), http.StatusConflict, "invalid_state")
	rotated, _ = granted[api.IssuedWebhook](g, post(path+"/rotate", ""), http.StatusOK)
	require.Equal(t, start.Add(24*time.Hour), *rotated.Webhook.PreviousSecretExpiresAt)
	granted[api.Webhook](g, post(path+"/confirm", "{}"), http.StatusOK)

	gone, _ := granted[api.Webhook](g, asked{method: http.MethodDelete, path: path}, http.StatusOK)
	require.Equal(t, want.ID, gone.ID)
	g.refused(get(path), http.StatusNotFound, "not_found")
	require.Empty(t, g.failures)
}

func TestAWebhookThatIsWrongIsRefusedByField(t *testing.T) {
	g := newGateway(t)
	for body, pointer := range map[string]string{
		`{"url":"http://example.com/"}`:                           "/url",
		`{"url":"https://u:hunter2@example.com/"}`:                "/url",
		`{"url":"https://example.com/","events":["hunter2"]}`:     "/events",
		`{"url":"https://example.com/","secret":"whsec_hunter2"}`: "/secret",
		`{"events":[]}`: "/url",
		`{"url":"https://example.com/","events":null}`:                  "/events",
		`{"url":"https://example.com/","disabled":"hunter2"}`:           "/disabled",
		`{"url":"https://example.com/","grace_period_seconds":7776001}`: "/grace_period_seconds",
	} {
		p := g.refused(post("/webhooks", body), http.StatusUnprocessableEntity, "invalid_field")
		require.Equal(t, pointer, p.Errors[0].Pointer, body)
		require.NotContains(t, fmt.Sprint(p, p.Errors), "hunter2")
	}
	issued, err := g.client().CreateWebhook(t.Context(), api.NewWebhook{URL: "https://example.com/"})
	require.NoError(t, err)
	g.refused(post("/webhooks", `{"url":"https://example.com/"}`), http.StatusUnprocessableEntity, "invalid_field")
	for _, seconds := range []string{"-1", "7776001", `"1"`, "1.5", "null"} {
		g.refused(post("/webhooks/"+string(issued.Webhook.ID)+"/rotate", `{"grace_period_seconds":`+seconds+`}`), http.StatusUnprocessableEntity, "invalid_field")
	}
}

func TestAConfiguredWebhookIsChangedInTheConfiguration(t *testing.T) {
	g := newGateway(t)
	require.NoError(t, g.declare(authority.Declarations{Webhooks: []authority.DeclaredWebhook{{URL: "https://example.com/"}}}))
	list, err := g.client().Webhooks(t.Context())
	require.NoError(t, err)
	require.True(t, list[0].ManagedByConfig)
	path := "/webhooks/" + string(list[0].ID)
	g.refused(patch(path, `"1"`, `{"events":["token_created"]}`), http.StatusConflict, "managed_by_config")
	g.refused(asked{method: http.MethodDelete, path: path}, http.StatusConflict, "managed_by_config")
	granted[api.IssuedWebhook](g, post(path+"/rotate", ""), http.StatusOK)
}

func TestAWebhookIsTriedOutOverTheClient(t *testing.T) {
	g := newGateway(t)
	status := http.StatusOK
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
	}))
	defer other.Close()
	g.authority.Webhooks = &notify.Webhooks{Store: g.store, Ring: g.authority.Ring, Now: g.clock, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	c := g.client()
	issued, err := c.CreateWebhook(t.Context(), api.NewWebhook{URL: other.URL})
	require.NoError(t, err)
	id := issued.Webhook.ID
	result, err := c.TestWebhook(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, api.WebhookTest{ID: result.ID, Accepted: true, Status: 200}, result)
	status = http.StatusMovedPermanently
	result, err = c.TestWebhook(t.Context(), id)
	require.NoError(t, err)
	require.Contains(t, result.Problem, "redirects are not followed")
	other.Close()
	result, err = c.TestWebhook(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, api.WebhookTest{ID: result.ID, Problem: "the webhook does not accept connections"}, result)

	shown, err := c.Webhook(t.Context(), id)
	require.NoError(t, err)
	shown, err = c.EditWebhook(t.Context(), id, shown.Version, api.WebhookEdit{Disabled: ptr(true)})
	require.NoError(t, err)
	require.Equal(t, "disabled", shown.State)
	_, err = c.RotateWebhook(t.Context(), id, api.WebhookRotation{GracePeriodSeconds: ptr(int64(3600))})
	require.NoError(t, err)
	_, err = c.RollBackWebhook(t.Context(), id)
	require.NoError(t, err)
	_, err = c.RotateWebhook(t.Context(), id, api.WebhookRotation{})
	require.NoError(t, err)
	_, err = c.ConfirmWebhook(t.Context(), id)
	require.NoError(t, err)
	_, err = c.DeleteWebhook(t.Context(), id)
	require.NoError(t, err)
	_, err = c.Webhook(t.Context(), id)
	require.ErrorIs(t, err, &api.Problem{Code: "not_found"})
}
