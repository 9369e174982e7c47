package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/tokenstore"
)

// operation is a route as the document describes it, so that a route that is
// added is tested without anybody thinking of it.
type operation struct {
	id, method, path string
	*openapi3.Operation
}

func (g *gateway) operations() []operation {
	g.t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(g.document)
	require.NoError(g.t, err)
	var all []operation
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			all = append(all, operation{op.OperationID, method, path, op})
		}
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.id, b.id) })
	require.NotEmpty(g.t, all)
	return all
}

// ask fills in what the route needs to get as far as the authority.
func (o *operation) ask(id string) asked {
	a := asked{method: o.method, path: strings.Replace(o.path, "{id}", id, 1)}
	switch {
	case o.takesBody():
		a.body = o.body()
	case o.takesForm():
		a.body = "token=x"
		a = a.with("Content-Type", "application/x-www-form-urlencoded")
	case o.RequestBody != nil:
		a.body = "[]"
	}
	if o.method == http.MethodPatch {
		a = a.with("If-Match", `"1"`)
	}
	return a
}

// takesBody says whether the route takes a JSON object, as all do that take a body but
// the two whose form others set.
func (o *operation) takesBody() bool {
	if o.RequestBody == nil || o.RequestBody.Value.Content["application/json"] == nil {
		return false
	}
	return !o.schema().Type.Is("array")
}

func (o *operation) takesForm() bool {
	return o.RequestBody != nil && o.RequestBody.Value.Content["application/x-www-form-urlencoded"] != nil
}

// body gives the smallest body that is valid.
func (o *operation) body() string {
	body := map[string]any{}
	schema := o.schema()
	for _, name := range schema.Required {
		body[name] = sample(schema.Properties[name].Value)
	}
	data, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return string(data)
}

func (o *operation) schema() *openapi3.Schema {
	return o.RequestBody.Value.Content["application/json"].Schema.Value
}

func sample(s *openapi3.Schema) any {
	switch {
	case len(s.Enum) > 0:
		return s.Enum[0]
	case s.Format == "date-time":
		return "2030-01-31T00:00:00Z"
	case s.Pattern == "^[0-9a-f]{64}$":
		return strings.Repeat("0", 64)
	case s.Type.Is("integer"):
		return 1
	case s.Type.Is("boolean"):
		return true
	case s.Type.Is("array"):
		return []any{}
	case s.Type.Is("object"):
		return map[string]any{}
	default:
		return "x"
	}
}

func TestNoRouteActsOnABodyThatIsNotStrictJSON(t *testing.T) {
	g := newGateway(t)
	for _, o := range g.operations() {
		t.Run(o.id, func(t *testing.T) {
			ask := o.ask("tok_none")
			if o.RequestBody != nil && !o.takesBody() {
				t.Skip("tested with its route")
			}
			if !o.takesBody() {
				ask.body = `{}`
				g.refused(ask, http.StatusBadRequest, "invalid_request")
				return
			}
			send := func(body string) asked { a := ask; a.body = body; return a }
			for _, media := range []string{"text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", "application/json; q=1", "application/merge-patch+json", "application/problem+json", "json", "a/b/c", ""} {
				a := send("{}")
				a.header = http.Header{"Content-Type": {media}, "If-Match": {`"1"`}}
				g.refused(a, http.StatusUnsupportedMediaType, "unsupported_media_type")
			}
			g.refused(send("{}").with("Content-Encoding", "gzip"), http.StatusUnsupportedMediaType, "unsupported_media_type")
			g.refused(send("{}").with("Content-Type", "text/plain").with("Content-Type", "application/json"), http.StatusUnsupportedMediaType, "unsupported_media_type")
			g.refused(send(`{"a":"`+strings.Repeat("x", 64<<10)+`"}`), http.StatusRequestEntityTooLarge, "body_too_large")
			for _, body := range []string{
				"[]", "null", `"x"`, "1", "{", "}", "{}{}", "{} x", `{"a":}`, `{"a":1,}`, `{a:1}`, `{'a':1}`, "{\"a\":\"\xff\"}", "\xef\xbb\xbf{}", " ",
				`{"a":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`,
				`{"x1":1,"x1":1}`, `{"x1":{"y":1,"y":2}}`, `{"x1":1,"\u0078\u0031":1}`,
			} {
				g.refused(send(body), http.StatusBadRequest, "invalid_request")
			}
			if o.RequestBody.Value.Required {
				a := send("")
				a.header = http.Header{"Content-Type": {"application/json"}}
				g.refused(a, http.StatusBadRequest, "invalid_request")
			}
			for name := range o.schema().Properties {
				p := g.refused(send(fmt.Sprintf(`{%q:"x"}`, strings.ToUpper(name))), http.StatusUnprocessableEntity, "invalid_field")
				require.Equal(t, "/"+strings.ToUpper(name), p.Errors[0].Pointer)
			}
			// D4: what the gateway itself sets is nobody else's to set.
			for _, name := range []string{"id", "version", "state", "created_at", "last_used_at", "created_by", "permissions", "__proto__", "$schema"} {
				if o.schema().Properties[name] == nil {
					p := g.refused(send(fmt.Sprintf(`{%q:1}`, name)), http.StatusUnprocessableEntity, "invalid_field")
					require.Len(t, p.Errors, 1)
				}
			}
		})
	}
}

func TestUnknownAndMalformedIDsAreNotFound(t *testing.T) {
	g := newGateway(t)
	for _, o := range g.operations() {
		if !strings.Contains(o.path, "{id}") {
			continue
		}
		t.Run(o.id, func(t *testing.T) {
			for _, id := range []string{
				"tok_00000000000000000000000099", "acc_x", "verify", "..", "x..", "%2e%2e", "%00", "a%2fb", "%ff", "TOK_1", "a%20b", "'%20or%201=1--", strings.Repeat("a", 65), "%E2%80%AE",
			} {
				if o.method == http.MethodGet && id == "verify" {
					continue
				}
				a := o.ask(id)
				w := g.do(a)
				require.Equal(t, http.StatusNotFound, w.Code, "%s %s", a.path, w.Body)
				require.Equal(t, "not_found", problemOf(t, w).Code)
			}
		})
	}
}

func TestAnIDThatCanBeNoneIsNotAskedAbout(t *testing.T) {
	g := newGateway(t)
	g.storeFails(tokenstore.ErrUnavailable)
	for _, id := range []string{"TOK_1", "tok-1", "tok.1", "%2A", strings.Repeat("a", 65)} {
		g.refused(get("/tokens/"+id), http.StatusNotFound, "not_found")
	}
	g.refused(get("/tokens/tok_1"), http.StatusServiceUnavailable, "store_unavailable")
}

func TestPathsThatDoNotExistAreProblemsToo(t *testing.T) {
	g := newGateway(t)
	for _, path := range []string{"", "/", "/nope", "/tokens/", "/tokens//x", "/tokens/tok_1/", "/tokens/./x", "/tokens/../tokens", "/tokens/tok_1/rotate/", "/openapi.yaml", "/openapi-3.0.json", "/docs", "/schemas/Token.json", "//tokens"} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete, http.MethodOptions, http.MethodConnect} {
			w := g.do(asked{method: method, path: path})
			require.Equal(t, http.StatusNotFound, w.Code, "%s %s: %s", method, path, w.Body)
			require.Empty(t, w.Header().Get("Location"))
		}
	}
}

func TestMethodsThatDoNotFitNameThoseThatDo(t *testing.T) {
	g := newGateway(t)
	for path, allow := range map[string]string{
		"/tokens": "GET, HEAD, POST", "/tokens/tok_1": "DELETE, GET, HEAD, PATCH", "/tokens/tok_1/rotate": "POST",
		"/audit/verify": "POST", "/health": "GET, HEAD", "/openapi.json": "GET, HEAD", "/accounts/acc_1/enable": "POST",
	} {
		for _, method := range []string{http.MethodPut, http.MethodOptions, http.MethodTrace, "PURGE"} {
			w := g.do(asked{method: method, path: path})
			require.Equal(t, http.StatusMethodNotAllowed, w.Code)
			require.Equal(t, allow, w.Header().Get("Allow"), path)
			require.Equal(t, "method_not_allowed", problemOf(t, w).Code)
		}
	}
}

// D5, D6.
func TestABrowserCanNotActForAnotherSite(t *testing.T) {
	g := newGateway(t)
	for _, o := range g.operations() {
		t.Run(o.id, func(t *testing.T) {
			for name, header := range map[string]http.Header{
				"another site":           {"Sec-Fetch-Site": {"cross-site"}},
				"a sibling":              {"Sec-Fetch-Site": {"same-site"}},
				"another origin":         {"Origin": {"https://evil.example"}},
				"no origin to speak of":  {"Origin": {"null"}},
				"another port":           {"Origin": {"http://gateway.test:81"}},
				"an origin that is told": {"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"same-origin"}},
				"two origins":            {"Origin": {"http://gateway.test", "https://evil.example"}, "Sec-Fetch-Site": {"same-origin"}},
			} {
				a := o.ask("tok_none")
				a.host = "gateway.test"
				for k, v := range header {
					for _, line := range v {
						a = a.with(k, line)
					}
				}
				w := g.do(a)
				if o.method == http.MethodGet {
					require.NotEqual(t, http.StatusForbidden, w.Code)
					continue
				}
				require.Equal(t, http.StatusForbidden, w.Code, "%s: %s", name, w.Body)
				require.Equal(t, "forbidden", problemOf(t, w).Code)
			}
		})
	}
	a := post("/accounts", `{"name":"n"}`)
	a.host = "gateway.test"
	granted[api.Account](g, a.with("Origin", "http://gateway.test"), http.StatusCreated)
	granted[api.Account](g, a.with("Sec-Fetch-Site", "same-origin"), http.StatusCreated)
}

func TestReadingChangesNothing(t *testing.T) {
	g := newGateway(t)
	id := string(g.token().Token.ID)
	before, err := g.store.Changes(t.Context(), tokenstore.Position{})
	require.NoError(t, err)
	for _, o := range g.operations() {
		if o.method == http.MethodGet {
			g.do(o.ask(id))
			head := o.ask(id)
			head.method = http.MethodHead
			g.do(head)
		}
	}
	g.do(post("/tokens/verify", `{"secret":"x"}`))
	g.do(post("/audit/verify", ""))
	after, err := g.store.Changes(t.Context(), tokenstore.Position{})
	require.NoError(t, err)
	require.Equal(t, before.At, after.At)
}

func TestEveryRouteAsksWhoIsThere(t *testing.T) {
	g := newGateway(t)
	g.identify = func(*http.Request) (tokenstore.Actor, error) {
		return tokenstore.Actor{}, &authority.Error{Code: "forbidden", Detail: "not you"}
	}
	for _, o := range g.operations() {
		w := g.do(o.ask("tok_none"))
		if o.id == "health" {
			require.Equal(t, http.StatusOK, w.Code)
			continue
		}
		require.Equal(t, http.StatusForbidden, w.Code, "%s: %s", o.id, w.Body)
		require.Equal(t, "not you", problemOf(t, w).Detail)
	}
	require.Empty(t, g.failures)

	g.identify = func(*http.Request) (tokenstore.Actor, error) {
		return tokenstore.Actor{}, errors.New("directory is down")
	}
	p := g.refused(get("/tokens"), http.StatusInternalServerError, "internal_error")
	require.Empty(t, p.Detail)
	require.Len(t, g.failures, 1)
}

func TestAFailureIsToldToTheLogAndNotToTheCaller(t *testing.T) {
	g := newGateway(t)
	id := string(g.token().Token.ID)
	for _, row := range []struct {
		err    error
		status int
		code   string
	}{
		{fmt.Errorf("disk on fire at /var/lib"), http.StatusInternalServerError, "internal_error"},
		{&authority.Error{Code: "no_such_code", Detail: "disk"}, http.StatusInternalServerError, "internal_error"},
		{fmt.Errorf("disk: %w", tokenstore.ErrUnavailable), http.StatusServiceUnavailable, "store_unavailable"},
		{fmt.Errorf("disk: %w", tokenstore.ErrUnknownOutcome), http.StatusServiceUnavailable, "store_unavailable"},
	} {
		g.storeFails(row.err)
		for _, o := range g.operations() {
			g.failures = nil
			if o.id == "health" {
				continue
			}
			w := g.do(o.ask(id))
			if w.Code < 500 {
				// Refused for what it is, without asking the store.
				require.Contains(t, []string{"createToken", "createUser", "verifyToken"}, o.id, "%s", w.Body)
				continue
			}
			require.Equal(t, row.status, w.Code, "%s: %s", o.id, w.Body)
			require.Equal(t, row.code, problemOf(t, w).Code)
			require.NotContains(t, w.Body.String(), "disk")
			require.Len(t, g.failures, 1, o.id)
			require.ErrorIs(t, g.failures[0].Err, row.err)
			require.Equal(t, w.Header().Get("X-Request-Id"), g.failures[0].RequestID)
			require.Equal(t, o.path, g.failures[0].Route)
			require.Equal(t, o.method, g.failures[0].Method)
		}
	}
}

func TestAPanicIsA500AndTheServerGoesOn(t *testing.T) {
	g := newGateway(t)
	g.identify = func(*http.Request) (tokenstore.Actor, error) { panic("broken") }
	g.refused(get("/tokens"), http.StatusInternalServerError, "internal_error")
	require.Len(t, g.failures, 1)
	require.ErrorContains(t, g.failures[0].Err, "broken")
	require.Equal(t, "/tokens", g.failures[0].Route)

	g.identify = func(*http.Request) (tokenstore.Actor, error) { panic(http.ErrAbortHandler) }
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { g.do(get("/tokens")) })
}

func TestABodyThatBreaksOffDoesNothing(t *testing.T) {
	g := newGateway(t)
	r := httptest.NewRequest(http.MethodPost, base+"/accounts", io.MultiReader(strings.NewReader(`{"name":`), brokenReader{}))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	g.handler.ServeHTTP(w, r)
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Equal(t, "invalid_request", problemOf(t, w).Code)
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestACallerCanNotChooseItsRequestID(t *testing.T) {
	g := newGateway(t)
	w := g.do(get("/tokens").with("X-Request-Id", "req_00000000000000000000000000000000"))
	require.NotEqual(t, "req_00000000000000000000000000000000", w.Header().Get("X-Request-Id"))
}

func TestAcceptChoosesNothing(t *testing.T) {
	g := newGateway(t)
	for _, accept := range []string{"application/problem+json", "text/html", "application/cbor;q=1", "*/*", ";;;", "json"} {
		w := g.do(get("/tokens").with("Accept", accept))
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, "application/json", w.Header().Get("Content-Type"))
		w = g.do(get("/tokens?limit=0").with("Accept", accept))
		require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	}
}

func TestOptionsThatCanNotWorkAreRefused(t *testing.T) {
	whole := api.Options{
		Authority: &authority.Authority{},
		Identify:  func(*http.Request) (tokenstore.Actor, error) { return tokenstore.Actor{}, nil },
		BasePath:  "/api/v1",
	}
	for _, spoil := range []func(*api.Options){
		func(o *api.Options) { o.Authority = nil },
		func(o *api.Options) { o.Identify = nil },
		func(o *api.Options) { o.BasePath = "api" },
		func(o *api.Options) { o.BasePath = "/api/" },
		func(o *api.Options) { o.BasePath = "/{id}" },
	} {
		o := whole
		spoil(&o)
		_, err := api.New(o)
		require.Error(t, err)
	}
	_, err := api.New(whole)
	require.NoError(t, err)
}
