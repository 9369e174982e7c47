package api_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

const base = "/sallyport/v1"

// gateway is the API over a real authority and a real store. Every response that
// a test gets from it is checked against the OpenAPI document that it serves.
type gateway struct {
	t         *testing.T
	handler   http.Handler
	authority *authority.Authority
	store     tokenstore.Store
	identify  func(*http.Request) (tokenstore.Actor, error)
	health    api.Health
	keeper    api.Lifecycle
	document  []byte
	routes    routers.Router

	mu       sync.Mutex
	now      time.Time
	ids      int
	failures []api.Failure
}

var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func newGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{t: t, now: start, health: api.HealthOf()}
	ring, err := tokenstore.NewRing(rand.Reader)
	require.NoError(t, err)
	store, err := sqlite.Open(t.Context(), filepath.Join(storetest.Memory(t), "sallyport.db"), sqlite.Options{Ring: ring, Now: g.clock})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	g.store = store
	g.authority = &authority.Authority{
		Store:    &switchableStore{Store: store},
		Ring:     ring,
		Prefixes: []string{token.DefaultPrefix},
		Now:      g.clock,
		Random:   rand.Reader,
		NewID:    g.newID,
	}
	g.identify = func(r *http.Request) (tokenstore.Actor, error) {
		return tokenstore.Actor{Kind: tokenstore.OperatorActor, Name: r.Header.Get(api.OperatorHeader), Address: "127.0.0.1"}, nil
	}
	g.open()
	return g
}

// open makes the API of what the gateway has.
func (g *gateway) open() {
	g.t.Helper()
	var err error
	g.handler, err = api.New(api.Options{
		Authority: g.authority,
		Identify:  func(r *http.Request) (tokenstore.Actor, error) { return g.identify(r) },
		Lifecycle: g.keeper,
		BasePath:  base,
		Version:   "test",
		Health:    func(context.Context) api.Health { return g.health },
		OnError:   g.failed,
	})
	require.NoError(g.t, err)
	g.readDocument()
}

func (g *gateway) clock() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.now
}

// wait lets time pass.
func (g *gateway) wait(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now = g.now.Add(d)
}

func (g *gateway) newID(prefix string) (token.ID, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ids++
	return token.ID(fmt.Sprintf("%s_%026d", prefix, g.ids)), nil
}

func (g *gateway) failed(_ context.Context, f api.Failure) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failures = append(g.failures, f)
}

// readDocument gets the document without checking that answer against itself.
func (g *gateway) readDocument() {
	w := httptest.NewRecorder()
	g.handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, base+"/openapi.json", nil))
	require.Equal(g.t, http.StatusOK, w.Code, w.Body)
	g.document = w.Body.Bytes()
	doc, err := openapi3.NewLoader().LoadFromData(g.document)
	require.NoError(g.t, err)
	g.routes, err = legacy.NewRouter(doc)
	require.NoError(g.t, err)
}

// asked is one request of a test.
type asked struct {
	method, path string
	header       http.Header
	body         string
	host         string
}

func get(path string) asked { return asked{method: http.MethodGet, path: path} }

func post(path, body string) asked { return asked{method: http.MethodPost, path: path, body: body} }

func patch(path, version, body string) asked {
	return asked{method: http.MethodPatch, path: path, body: body}.with("If-Match", version)
}

func (a asked) with(name, value string) asked {
	h := a.header.Clone()
	if h == nil {
		h = http.Header{}
	}
	h.Add(name, value)
	a.header = h
	return a
}

// do sends a request as a client would, and checks what is true of every answer.
func (g *gateway) do(a asked) *httptest.ResponseRecorder {
	g.t.Helper()
	r := httptest.NewRequest(a.method, base+a.path, strings.NewReader(a.body))
	if a.host != "" {
		r.Host = a.host
	}
	if a.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for name, values := range a.header {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	g.handler.ServeHTTP(w, r)
	g.checkAnswer(r, w)
	return w
}

func (g *gateway) checkAnswer(r *http.Request, w *httptest.ResponseRecorder) {
	g.t.Helper()
	require.Equal(g.t, "no-store", w.Header().Get("Cache-Control"))
	require.Equal(g.t, "nosniff", w.Header().Get("X-Content-Type-Options"))
	require.Equal(g.t, "same-origin", w.Header().Get("Cross-Origin-Resource-Policy"))
	require.Contains(g.t, w.Header().Get("Content-Security-Policy"), "default-src 'none'")
	require.Regexp(g.t, `^req_[0-9a-f]{32}$`, w.Header().Get("X-Request-Id"))
	if w.Code >= 400 && w.Header().Get("Content-Type") != "application/json" {
		p := problemOf(g.t, w)
		require.Equal(g.t, "application/problem+json", w.Header().Get("Content-Type"))
		require.Equal(g.t, w.Code, p.Status)
		require.Equal(g.t, w.Header().Get("X-Request-Id"), p.RequestID)
		require.Equal(g.t, "urn:sallyport:problem:"+p.Code, p.Type)
		require.NotEmpty(g.t, p.Title)
		require.Equal(g.t, w.Code == http.StatusServiceUnavailable, w.Header().Get("Retry-After") != "")
	}
	g.checkDocumented(r, w)
}

// checkDocumented compares an answer with what the document promises. Paths and
// methods that do not exist are in no document.
func (g *gateway) checkDocumented(r *http.Request, w *httptest.ResponseRecorder) {
	g.t.Helper()
	method := r.Method
	if method == http.MethodHead {
		return
	}
	route, params, err := g.routes.FindRoute(&http.Request{Method: method, URL: r.URL, Host: r.Host})
	if err != nil || path.Clean(r.URL.Path) != r.URL.Path || strings.HasSuffix(r.URL.Path, "/openapi.json") {
		return
	}
	err = openapi3filter.ValidateResponse(g.t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route},
		Status:                 w.Code,
		Header:                 w.Header(),
		Body:                   nopCloser{bytes.NewReader(w.Body.Bytes())},
		Options:                &openapi3filter.Options{IncludeResponseStatus: true},
	})
	require.NoError(g.t, err, "%s %s answered what the document does not say", method, r.URL.Path)
	if w.Code >= 400 && w.Header().Get("Content-Type") == "application/problem+json" {
		described := route.Operation.Responses.Status(w.Code)
		require.Contains(g.t, *described.Value.Description, "`"+problemOf(g.t, w).Code+"`")
	}
}

type nopCloser struct{ *bytes.Reader }

func (nopCloser) Close() error { return nil }

func problemOf(t *testing.T, w *httptest.ResponseRecorder) *api.Problem {
	t.Helper()
	p := &api.Problem{}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), p), "%d %s", w.Code, w.Body)
	return p
}

// refused sends a request that must be refused with a code.
func (g *gateway) refused(a asked, status int, code string) *api.Problem {
	g.t.Helper()
	w := g.do(a)
	require.Equal(g.t, status, w.Code, "%s %s: %s", a.method, a.path, w.Body)
	p := problemOf(g.t, w)
	require.Equal(g.t, code, p.Code, "%s %s: %s", a.method, a.path, w.Body)
	return p
}

// granted sends a request that must succeed, and decodes the answer.
func granted[T any](g *gateway, a asked, status int) (T, http.Header) {
	g.t.Helper()
	w := g.do(a)
	require.Equal(g.t, status, w.Code, "%s %s: %s", a.method, a.path, w.Body)
	var out T
	require.NoError(g.t, json.Unmarshal(w.Body.Bytes(), &out))
	return out, w.Header()
}

// client speaks to the gateway in this process.
func (g *gateway) client() *api.Client { return api.NewHandlerClient(g.handler, base) }

func (g *gateway) account() api.Account {
	g.t.Helper()
	a, err := g.client().CreateAccount(g.t.Context(), api.NewAccount{Name: "Example Ltd"})
	require.NoError(g.t, err)
	return a
}

// token creates a read-only token.
func (g *gateway) token() api.Issued {
	g.t.Helper()
	i, err := g.client().CreateToken(g.t.Context(), "", api.NewToken{Name: "export", AccountID: g.account().ID, Access: token.ReadOnly})
	require.NoError(g.t, err)
	return i
}

// switchableStore fails when a test says so.
type switchableStore struct {
	tokenstore.Store
	mu  sync.Mutex
	err error
}

func (g *gateway) storeFails(err error) {
	s := g.authority.Store.(*switchableStore)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *switchableStore) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *switchableStore) Read(ctx context.Context, f func(*tokenstore.Tx) error) error {
	if err := s.failure(); err != nil {
		return err
	}
	return s.Store.Read(ctx, f)
}

func (s *switchableStore) Write(ctx context.Context, f func(*tokenstore.Tx) error) error {
	if err := s.failure(); err != nil {
		return err
	}
	return s.Store.Write(ctx, f)
}
