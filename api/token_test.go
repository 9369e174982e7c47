package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/token"
)

func ptr[T any](v T) *T { return &v }

func TestANewTokenIsAnsweredWithItsSecretOnce(t *testing.T) {
	g := newGateway(t)
	account := g.account()
	body := fmt.Sprintf(`{"name":"export","account_id":%q,"access":"read_only","ip_allowlist":["192.0.2.7"],"expires_at":"2027-01-01T01:00:00+01:00"}`, account.ID)
	issued, header := granted[api.Issued](g, post("/tokens", body), http.StatusCreated)
	require.Equal(t, `"1"`, header.Get("ETag"))

	secret := issued.Secret.Reveal()
	_, err := token.ParseSecret(secret, []string{token.DefaultPrefix})
	require.NoError(t, err)
	want := api.Token{
		ID: issued.Token.ID, Name: "export", AccountID: account.ID, Access: token.ReadOnly,
		Scopes: []string{}, IPAllowlist: []string{"192.0.2.7"}, Environment: token.Production, State: token.Active,
		Last4: ptr(secret[len(secret)-4:]), CreatedAt: start, UpdatedAt: start,
		ExpiresAt: ptr(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)), Version: 1,
	}
	if diff := cmp.Diff(want, issued.Token); diff != "" {
		t.Errorf("created token (-want +got):\n%s", diff)
	}

	w := g.do(get("/tokens/" + string(issued.Token.ID)))
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, `"1"`, w.Header().Get("ETag"))
	require.NotContains(t, w.Body.String(), secret)
	for _, field := range []string{`"user_id":null`, `"scopes":[]`, `"created_at":"2026-11-22T12:00:00Z"`, `"previous_secret_expires_at":null`} {
		require.Contains(t, w.Body.String(), field)
	}
}

func TestARotationKeepsTheTokenAndNamesTheEndOfThePreviousSecret(t *testing.T) {
	g := newGateway(t)
	before := g.token()
	after, header := granted[api.Issued](g, post("/tokens/"+string(before.Token.ID)+"/rotate", `{"mode":"timed","grace_period_seconds":3600}`), http.StatusOK)
	require.Equal(t, before.Token.ID, after.Token.ID)
	require.NotEqual(t, before.Secret, after.Secret)
	require.Equal(t, ptr(start.Add(time.Hour)), after.Token.PreviousSecretExpiresAt)
	require.Equal(t, `"2"`, header.Get("ETag"))

	p := g.refused(post("/tokens/"+string(before.Token.ID)+"/rotate", `{}`), http.StatusConflict, "rotation_in_progress")
	require.NotEmpty(t, p.Detail)
	g.refused(post("/tokens/"+string(before.Token.ID)+"/rotate", `{"mode":"now","grace_period_seconds":1}`), http.StatusUnprocessableEntity, "invalid_field")
}

func TestAnEditNeedsTheVersionThatWasRead(t *testing.T) {
	g := newGateway(t)
	path := "/tokens/" + string(g.token().Token.ID)
	rename := `{"name":"renamed"}`

	g.refused(asked{method: http.MethodPatch, path: path, body: rename}, http.StatusPreconditionRequired, "if_match_required")
	g.refused(patch(path, "*", rename), http.StatusPreconditionRequired, "if_match_required")
	for _, wrong := range []string{`"2"`, `"01"`, `"+1"`, `W/"1"`, `1`, `"1`, `"1", "2"`, `"x"`, `"99999999999999999999"`} {
		g.refused(patch(path, wrong, rename), http.StatusPreconditionFailed, "version_mismatch")
	}
	// Twice or empty is a mistake of the sender's, and not one of the version.
	for _, a := range []asked{patch(path, `"1"`, rename).with("If-Match", `"1"`), patch(path, " ", rename)} {
		p := g.refused(a, http.StatusUnprocessableEntity, "invalid_field")
		require.Equal(t, "If-Match", p.Errors[0].Header)
	}

	edited, header := granted[api.Token](g, patch(path, `"1"`, rename), http.StatusOK)
	require.Equal(t, "renamed", edited.Name)
	require.Equal(t, `"2"`, header.Get("ETag"))
	g.refused(patch(path, `"1"`, `{"name":"late"}`), http.StatusPreconditionFailed, "version_mismatch")
}

func TestAnExpiryCanBeSetAndTakenAwayAndNullIsNoTime(t *testing.T) {
	g := newGateway(t)
	require.NoError(t, g.declarePolicy(func(p *token.Policy) {
		p.Editable = []token.Field{token.FieldName, token.FieldExpiresAt}
	}))
	path := "/tokens/" + string(g.token().Token.ID)

	edited, _ := granted[api.Token](g, patch(path, `"1"`, `{"expires_at":"2027-01-01T00:00:00Z"}`), http.StatusOK)
	require.Equal(t, ptr(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)), edited.ExpiresAt)
	edited, _ = granted[api.Token](g, patch(path, `"2"`, `{"name":"same expiry"}`), http.StatusOK)
	require.NotNil(t, edited.ExpiresAt)
	// The zero time of Go means "never" further in, and what can not be written
	// as JSON would be stored and then fail to be shown.
	for _, wrong := range []string{`"0001-01-01T00:00:00Z"`, `"9999-12-31T23:59:59-01:00"`, `"2027-01-01"`, `"2027-01-01T00:00:00"`, `"2027-01-01T1:00:00Z"`, `"2027-01-01T00:00:00,5Z"`, `"2027-01-01T00:00:00+24:00"`, `"2027-02-29T00:00:00Z"`, `1`, `"never"`} {
		p := g.refused(patch(path, `"3"`, `{"expires_at":`+wrong+`}`), http.StatusUnprocessableEntity, "invalid_field")
		require.Equal(t, "/expires_at", p.Errors[0].Pointer)
	}
	edited, _ = granted[api.Token](g, patch(path, `"3"`, `{"expires_at":null}`), http.StatusOK)
	require.Nil(t, edited.ExpiresAt)
}

func TestVerbsThatEndATokenNeedConfirmAndCanBeRepeated(t *testing.T) {
	g := newGateway(t)
	path := "/tokens/" + string(g.token().Token.ID)
	for _, body := range []string{"", "{}", `{"confirm":false}`} {
		g.refused(post(path+"/revoke", body), http.StatusPreconditionFailed, "confirmation_required")
	}
	for _, query := range []string{"", "?confirm=false"} {
		g.refused(asked{method: http.MethodDelete, path: path + query}, http.StatusPreconditionFailed, "confirmation_required")
	}
	disabled, _ := granted[api.Token](g, post(path+"/disable", ""), http.StatusOK)
	require.Equal(t, token.Disabled, disabled.State)
	enabled, _ := granted[api.Token](g, post(path+"/enable", "{}"), http.StatusOK)
	require.Equal(t, token.Active, enabled.State)
	for range 2 {
		revoked, _ := granted[api.Token](g, post(path+"/revoke", `{"confirm":true}`), http.StatusOK)
		require.Equal(t, token.Revoked, revoked.State)
		require.NotNil(t, revoked.Last4) // people still know it by them
	}
	g.refused(post(path+"/enable", ""), http.StatusConflict, "invalid_state")
	for range 2 {
		deleted, _ := granted[api.Token](g, asked{method: http.MethodDelete, path: path + "?confirm=true"}, http.StatusOK)
		require.Equal(t, token.Deleted, deleted.State)
	}
	list, _ := granted[api.Page[api.Token]](g, get("/tokens"), http.StatusOK)
	require.Empty(t, list.Items)
	list, _ = granted[api.Page[api.Token]](g, get("/tokens?state=deleted"), http.StatusOK)
	require.Len(t, list.Items, 1)
}

func TestACreationRepeatedUnderItsKeyReplacesTheSecretThatNobodyUsed(t *testing.T) {
	g := newGateway(t)
	account := g.account()
	body := fmt.Sprintf(`{"name":"export","account_id":%q,"access":"read_only"}`, account.ID)
	first, _ := granted[api.Issued](g, post("/tokens", body).with("Idempotency-Key", "k-1"), http.StatusCreated)
	require.False(t, first.Replayed)

	// The same request in another spelling is the same request.
	respelled := fmt.Sprintf(`{ "access":"read_only", "account_id":%q, "name":"\u0065xport" }`, account.ID)
	again, _ := granted[api.Issued](g, post("/tokens", respelled).with("Idempotency-Key", "k-1"), http.StatusOK)
	require.True(t, again.Replayed)
	require.Equal(t, first.Token.ID, again.Token.ID)
	require.NotEqual(t, first.Secret, again.Secret)
	require.False(t, g.verify(first.Secret).Valid)
	require.True(t, g.verify(again.Secret).Valid)

	p := g.refused(post("/tokens", strings.Replace(body, "export", "other", 1)).with("Idempotency-Key", "k-1"), http.StatusUnprocessableEntity, "invalid_field")
	require.Equal(t, "Idempotency-Key", p.Errors[0].Header)
	for _, key := range []string{"", "two words", "ключ", strings.Repeat("k", 256)} {
		p := g.refused(post("/tokens", body).with("Idempotency-Key", key), http.StatusUnprocessableEntity, "invalid_field")
		require.Equal(t, "Idempotency-Key", p.Errors[0].Header)
	}
	g.refused(post("/tokens", body).with("Idempotency-Key", "a").with("Idempotency-Key", "b"), http.StatusUnprocessableEntity, "invalid_field")
}

func TestARotationRepeatedUnderItsKeyLeavesThePreviousSecretAlone(t *testing.T) {
	g := newGateway(t)
	first := g.token()
	other := g.token()
	rotate := func(id token.ID) asked {
		return post("/tokens/"+string(id)+"/rotate", `{"mode":"timed"}`).with("Idempotency-Key", "k-1")
	}
	second, _ := granted[api.Issued](g, rotate(first.Token.ID), http.StatusOK)
	third, _ := granted[api.Issued](g, rotate(first.Token.ID), http.StatusOK)
	require.True(t, third.Replayed)
	require.True(t, g.verify(first.Secret).Valid)
	require.False(t, g.verify(second.Secret).Valid)
	require.True(t, g.verify(third.Secret).Valid)
	// The key is about one token; under another it is new.
	fourth, _ := granted[api.Issued](g, rotate(other.Token.ID), http.StatusOK)
	require.False(t, fourth.Replayed)
}

func (g *gateway) verify(s api.Secret) api.Verification {
	g.t.Helper()
	v, err := g.client().VerifyToken(g.t.Context(), api.Question{Secret: s})
	require.NoError(g.t, err)
	return v
}

func TestVerifySaysWhatTheGateWouldSay(t *testing.T) {
	g := newGateway(t)
	require.NoError(t, g.declareScopes(token.Scope{Name: "payments:read", Nature: token.Read}, token.Scope{Name: "payments:write", Nature: token.Write}))
	secret := g.token().Secret.Reveal()
	for _, row := range []struct{ ask, code, scope string }{
		{`{"secret":%q}`, "", "read"},
		{`{"secret":%q,"method":"GET","path":"/v1/payments"}`, "", "read"},
		{`{"secret":%q,"method":"POST"}`, "read_only_token", "write"},
		{`{"secret":%q,"method":"POST","scope":"payments:read"}`, "", "payments:read"},
		{`{"secret":%q,"scope":"payments:write"}`, "read_only_token", "payments:write"},
		{`{"secret":%q,"ip":"2001:db8::1"}`, "", "read"},
		{`{"secret":%.10q}`, "malformed_token", "read"},
	} {
		v, _ := granted[api.Verification](g, post("/tokens/verify", fmt.Sprintf(row.ask, secret)), http.StatusOK)
		require.Equal(t, row.code == "", v.Valid, row.ask)
		require.Equal(t, row.code, v.Code, row.ask)
		require.Equal(t, row.scope, v.RequiredScope, row.ask)
		require.Equal(t, row.code != "malformed_token", v.Token != nil, row.ask)
	}
	for field, value := range map[string]string{"ip": "010.0.0.1", "method": "get", "scope": "payments:refund"} {
		p := g.refused(post("/tokens/verify", fmt.Sprintf(`{"secret":%q,%q:%q}`, secret, field, value)), http.StatusUnprocessableEntity, "invalid_field")
		require.Equal(t, "/"+field, p.Errors[0].Pointer)
		require.NotContains(t, p.Error(), value)
	}
}

func TestListsAreFilteredAndPaged(t *testing.T) {
	g := newGateway(t)
	c := g.client()
	account := g.account()
	other := g.token() // of another account
	var ids []token.ID
	for i := range 7 {
		issued, err := c.CreateToken(t.Context(), "", api.NewToken{
			Name: fmt.Sprintf("job %d", i), AccountID: account.ID, Access: token.ReadOnly,
			ExpiresAt: ptr(start.Add(time.Duration(i+1) * time.Hour)),
		})
		require.NoError(t, err)
		ids = append([]token.ID{issued.Token.ID}, ids...)
	}
	_, err := c.DisableToken(t.Context(), ids[0], false)
	require.NoError(t, err)
	_, err = c.RevokeToken(t.Context(), ids[1], true)
	require.NoError(t, err)

	for _, row := range []struct {
		name string
		f    api.TokenFilter
		want []token.ID
	}{
		{"of an account, in pages", api.TokenFilter{AccountID: account.ID, Limit: 2}, ids},
		{"by one state", api.TokenFilter{States: []token.State{token.Revoked}}, ids[1:2]},
		{"by two states", api.TokenFilter{States: []token.State{token.Revoked, token.Disabled}}, ids[0:2]},
		{"by name", api.TokenFilter{Search: "job 3"}, ids[3:4]},
		{"by the last 4 characters", api.TokenFilter{Search: *other.Token.Last4}, []token.ID{other.Token.ID}},
		{"by expiry", api.TokenFilter{ExpiresBefore: start.Add(2*time.Hour + time.Second)}, ids[5:7]},
		{"of nobody", api.TokenFilter{UserID: "usr_none"}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			var got []token.ID
			for item, err := range c.Tokens(t.Context(), row.f) {
				require.NoError(t, err)
				got = append(got, item.ID)
			}
			require.Equal(t, row.want, got)
		})
	}

	repeated, _ := granted[api.Page[api.Token]](g, get("/tokens?state=revoked&state=disabled"), http.StatusOK)
	require.Len(t, repeated.Items, 2)
	g.wait(90 * time.Minute)
	expired, _ := granted[api.Page[api.Token]](g, get("/tokens?state=expired"), http.StatusOK)
	require.Len(t, expired.Items, 1)
	require.Equal(t, token.Expired, expired.Items[0].State)
	// A loop that stops early asks for no further page.
	for range c.Tokens(t.Context(), api.TokenFilter{Limit: 1}) {
		break
	}
}

func TestFiltersThatMeanNothingAreRefused(t *testing.T) {
	g := newGateway(t)
	g.token()
	for query, parameter := range map[string]string{
		"limit=0":                            "limit",
		"limit=201":                          "limit",
		"limit=1e2":                          "limit",
		"limit=99999999999999999999":         "limit",
		"cursor=nonsense":                    "cursor",
		"cursor=" + strings.Repeat("x", 513): "cursor",
		"cursor=" + strings.Repeat("%C3%A9", 257): "cursor",
		"search=" + strings.Repeat("x", 201):      "search",
		"search=" + strings.Repeat("%C3%A9", 101): "search",
		"search=a%00b":              "search",
		"search=%FF":                "search",
		"search=":                   "search",
		"account_id=":               "account_id",
		"account_id=ACC":            "account_id",
		"account_id=a&account_id=b": "account_id",
		"state=sleeping":            "state",
		"state=active,":             "state",
		"state=active,active,active,active,active,active": "state",
		"expires_before=tomorrow":                         "expires_before",
		"expires_before=0001-01-01T00:00:00Z":             "expires_before",
		"last_used_before=45d":                            "last_used_before",
		"last_used_before=":                               "last_used_before",
		"colour=red":                                      "colour",
		"sort=name":                                       "sort",
	} {
		p := g.refused(get("/tokens?"+query), http.StatusUnprocessableEntity, "invalid_field")
		require.Equal(t, parameter, p.Errors[0].Parameter, query)
		require.Contains(t, p.Detail, parameter)
	}
	for _, query := range []string{"search=%zz", "a;b", "limit=1;limit=2"} {
		g.refused(get("/tokens?"+query), http.StatusBadRequest, "invalid_request")
	}
	g.refused(asked{method: http.MethodDelete, path: "/tokens/tok_1?confirm=yes"}, http.StatusUnprocessableEntity, "invalid_field")
	g.refused(get("/audit?before=0000-00-00T00:00:00Z"), http.StatusUnprocessableEntity, "invalid_field")
}
