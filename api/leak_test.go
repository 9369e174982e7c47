package api_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/token"
)

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func reportOf(t *testing.T, secrets ...string) string {
	t.Helper()
	var findings []map[string]any
	for _, s := range secrets {
		findings = append(findings, map[string]any{
			"token": s, "type": "example_token", "url": "https://github.com/octo/repo/blob/main/" + s, "source": "content",
		})
	}
	data, err := json.Marshal(findings)
	require.NoError(t, err)
	return string(data)
}

func TestALeakIsAnsweredInTheFormOfPartners(t *testing.T) {
	g := newGateway(t)
	issued := g.token()
	secret := issued.Secret.Reveal()
	for range 2 {
		w := g.do(post("/leaks", reportOf(t, secret, "nothing")))
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		require.JSONEq(t, fmt.Sprintf(`[{"token_hash":%q,"token_type":"example_token","label":"true_positive"},{"token_hash":%q,"token_type":"example_token","label":"false_positive"}]`,
			hashOf(secret), hashOf("nothing")), w.Body.String())
		require.NotContains(t, w.Body.String(), secret)
	}
	shown, err := g.client().Token(t.Context(), issued.Token.ID)
	require.NoError(t, err)
	require.Equal(t, token.Revoked, shown.State)

	w := g.do(get("/audit?target=" + string(issued.Token.ID)))
	require.Contains(t, w.Body.String(), `"host":"github.com"`)
	require.NotContains(t, w.Body.String(), secret)
	require.Empty(t, g.failures)
}

func TestTheClientReportsLeaksInDetail(t *testing.T) {
	g := newGateway(t)
	issued := g.token()
	got, err := g.client().ReportLeaks(t.Context(), []api.Leak{{Token: issued.Secret}, {Token: "sp_live_x"}})
	require.NoError(t, err)
	require.Equal(t, []api.LeakVerdict{
		{TokenHash: hashOf(issued.Secret.Reveal()), Label: "true_positive", Outcome: "revoked", TokenID: issued.Token.ID},
		{TokenHash: hashOf("sp_live_x"), Label: "false_positive", Outcome: "unknown"},
	}, got)
	got, err = g.client().ReportLeaks(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, got)
}

// What a reporter adds to its form in later years, or leaves out, keeps no leak from being
// dealt with.
func TestALeakWithMembersThatAreNotKnownIsTaken(t *testing.T) {
	g := newGateway(t)
	got, _ := granted[[]api.LeakVerdict](g, post("/leaks", `[{"token":"x","added":{"later":[1,null]},"url":null,"source":null,"type":null},{"token":"y"}]`), http.StatusOK)
	require.Len(t, got, 2)
	for _, kind := range []string{g.token().Secret.Reveal(), "two words", strings.Repeat("k", 51), "<b>", "ключ"} {
		got, _ := granted[[]api.LeakVerdict](g, post("/leaks", fmt.Sprintf(`[{"token":"x","type":%q}]`, kind)), http.StatusOK)
		require.Empty(t, got[0].TokenType)
	}
}

func TestAReportOfLeaksHasLimits(t *testing.T) {
	g := newGateway(t)
	secret := g.token().Secret.Reveal()
	refused := func(a asked, status int, code string) {
		t.Helper()
		w := g.do(a)
		require.Equal(t, status, w.Code, w.Body)
		require.Equal(t, code, problemOf(t, w).Code)
		require.NotContains(t, w.Body.String(), secret[8:])
	}
	most := strings.Repeat(`{"token":"x"},`, 999) + `{"token":"x"}`
	granted[[]api.LeakVerdict](g, post("/leaks", "["+most+"]"), http.StatusOK)
	refused(post("/leaks", "["+most+`,{"token":"x"}]`), http.StatusUnprocessableEntity, "invalid_field")
	long := `[{"token":"` + secret + `","url":"` + strings.Repeat("u", 900<<10) + `"}]`
	granted[[]api.LeakVerdict](g, post("/leaks", long), http.StatusOK)
	refused(post("/leaks", strings.Replace(long, "u", strings.Repeat("u", 200<<10), 1)), http.StatusRequestEntityTooLarge, "body_too_large")
	for _, body := range []string{
		"{}", "null", "", " ", `"` + secret + `"`, "[", "[]]", `[{"token":"` + secret + `"`, `[{"token":"x","token":"` + secret + `"}]`, "[\"\xff\"]",
		`[{"token":"x","a":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}]`,
	} {
		a := post("/leaks", body)
		a.header = http.Header{"Content-Type": {"application/json"}}
		refused(a, http.StatusBadRequest, "invalid_request")
	}
	for _, body := range []string{`["` + secret + `"]`, `[{"TOKEN":"` + secret + `"}]`, `[{"token":"x","Token":"` + secret + `"}]`, `[{}]`, `[{"token":null}]`, `[{"token":7}]`, `[[]]`, `[null]`, `[{"token":"` + secret + `\u0000"}]`} {
		refused(post("/leaks", body), http.StatusUnprocessableEntity, "invalid_field")
	}
	for _, media := range []string{"text/plain", "application/x-www-form-urlencoded", ""} {
		a := post("/leaks", reportOf(t, secret))
		a.header = http.Header{"Content-Type": {media}}
		refused(a, http.StatusUnsupportedMediaType, "unsupported_media_type")
	}
}

func form(values url.Values) asked { return formText(values.Encode()) }

func formText(body string) asked {
	return post("/introspect", body).with("Content-Type", "application/x-www-form-urlencoded")
}

func TestIntrospectionAnswersAsItsRFCSays(t *testing.T) {
	g := newGateway(t)
	issued := g.token()
	secret := issued.Secret.Reveal()
	w := g.do(form(url.Values{"token": {secret}, "token_type_hint": {"access_token"}, "client_secret": {"hush"}}))
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	var got map[string]any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
	require.NotEmpty(t, got["secret_id"])
	delete(got, "secret_id")
	account := string(issued.Token.AccountID)
	require.Equal(t, map[string]any{
		"active": true, "scope": "read", "client_id": account, "sub": account, "token_type": "Bearer", "iat": float64(start.Unix()),
		"token_id": string(issued.Token.ID), "account_id": account, "environment": "production",
	}, got)
	require.NotContains(t, w.Body.String(), secret)

	shown, err := g.client().Token(t.Context(), issued.Token.ID)
	require.NoError(t, err)
	require.Nil(t, shown.LastUsedAt, "being asked about is not use")

	typed, err := g.client().Introspect(t.Context(), issued.Secret, "192.0.2.7")
	require.NoError(t, err)
	require.True(t, typed.Active)
	_, err = g.client().RevokeToken(t.Context(), issued.Token.ID, true)
	require.NoError(t, err)
	for _, text := range []string{secret, "x", secret[:20], strings.Repeat("x", 10_000), "sp live"} {
		w := g.do(form(url.Values{"token": {text}}))
		require.Equal(t, http.StatusOK, w.Code)
		require.JSONEq(t, `{"active":false}`, w.Body.String())
	}
}

func TestAFormIsReadInOneWayOnly(t *testing.T) {
	g := newGateway(t)
	const secret = "sp_live_M4rk3rM4rk3rM4rk3rM4rk3rM4rk3rM4rk3rM4rk3rM4rk3rM"
	refused := func(a asked, status int, code string) {
		t.Helper()
		w := g.do(a)
		require.Equal(t, status, w.Code, "%s: %s", a.body, w.Body)
		require.Equal(t, code, problemOf(t, w).Code)
		require.NotContains(t, w.Body.String(), "M4rk")
	}
	refused(formText("token="+secret+"&token="+secret), http.StatusUnprocessableEntity, "invalid_field")
	refused(formText("token=x&"+secret+"=1&"+secret+"=2"), http.StatusUnprocessableEntity, "invalid_field")
	refused(formText("token="+secret+"&ip="+secret), http.StatusUnprocessableEntity, "invalid_field")
	refused(formText("token="), http.StatusUnprocessableEntity, "invalid_field")
	refused(formText("Token="+secret), http.StatusUnprocessableEntity, "invalid_field")
	for _, body := range []string{"token=" + secret + "%zz", "token=" + secret + ";x=1", "token=%ff" + secret} {
		refused(formText(body), http.StatusBadRequest, "invalid_request")
	}
	refused(formText("token="+strings.Repeat("x", 64<<10)), http.StatusRequestEntityTooLarge, "body_too_large")
	for _, media := range []string{"application/json", "text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded; charset=latin1", ""} {
		a := post("/introspect", "token="+secret)
		a.header = http.Header{"Content-Type": {media}}
		refused(a, http.StatusUnsupportedMediaType, "unsupported_media_type")
	}
	refused(asked{method: http.MethodPost, path: "/introspect?token=" + secret, body: "token=x"}.with("Content-Type", "application/x-www-form-urlencoded"),
		http.StatusUnprocessableEntity, "invalid_field")
}
