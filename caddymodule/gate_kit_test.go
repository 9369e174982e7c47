package caddymodule

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/cached"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
)

// gateLimit is how long these tests wait for what must happen.
const gateLimit = 30 * time.Second

var keeper = authority.By{Actor: tokenstore.Actor{Kind: tokenstore.OperatorActor, Name: "keeper"}, RequestID: "req-1"}

// gatehouse is everything behind a gate: an embedded store, its cache, and who
// changes tokens. Its clock stands until it is moved.
type gatehouse struct {
	*authority.Authority
	t       testing.TB
	app     *App
	inner   *breakable
	account token.Account
	clock   *standingClock
}

type standingClock struct {
	mu sync.Mutex
	at time.Time
}

func (c *standingClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *standingClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// breakable is a store that can be out of reach, and that counts who asks it.
type breakable struct {
	tokenstore.Store
	down            atomic.Bool
	lookups, writes atomic.Int64
}

func (b *breakable) Lookup(ctx context.Context, l tokenstore.Lookup) (*tokenstore.Record, error) {
	b.lookups.Add(1)
	if b.down.Load() {
		return nil, tokenstore.ErrUnavailable
	}
	return b.Store.Lookup(ctx, l)
}

func (b *breakable) Write(ctx context.Context, f func(*tokenstore.Tx) error) error {
	b.writes.Add(1)
	if b.down.Load() {
		return tokenstore.ErrUnavailable
	}
	return b.Store.Write(ctx, f)
}

func (b *breakable) Changes(ctx context.Context, after tokenstore.Position) (tokenstore.Changes, error) {
	if b.down.Load() {
		return tokenstore.Changes{}, tokenstore.ErrUnavailable
	}
	return b.Store.Changes(ctx, after)
}

func newGatehouse(t testing.TB, change ...func(*cached.Options)) *gatehouse {
	t.Helper()
	options := cached.Options{
		MaxBytes: 32 << 20, StaleFor: time.Minute, Poll: 10 * time.Millisecond,
		MissesPerAddress: 1000, MissesPerNode: 1000,
	}
	for _, f := range change {
		f(&options)
	}
	ring, err := tokenstore.NewRing(rand.Reader)
	require.NoError(t, err)
	inner, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "sallyport.db"), sqlite.Options{Ring: ring})
	require.NoError(t, err)
	h := &gatehouse{t: t, inner: &breakable{Store: inner}, clock: &standingClock{at: time.Now()}}
	h.app = &App{SecretPrefixes: []string{"sp"}, Scopes: map[string]token.Nature{
		"payments:write": token.Write, "payments:read": token.Read, "chat": token.Write,
	}, runtime: newRuntime()}
	h.app.declarations, err = h.app.declare()
	require.NoError(t, err)
	h.app.runtime.streams.now = h.clock.Now
	h.app.runtime.streams.interval = 20 * time.Millisecond
	open, err := openOver(t.Context(), h.inner, ring, journalOptions{dir: filepath.Join(t.TempDir(), "journal")}, options)
	require.NoError(t, err)
	h.app.runtime.started = open
	h.app.runtime.publish(open)
	t.Cleanup(func() {
		h.inner.down.Store(false)
		require.NoError(t, h.app.runtime.close())
	})
	h.Authority = newAuthority(inner, ring, h.app.SecretPrefixes, nil)
	h.Now = h.clock.Now
	require.NoError(t, h.Declare(t.Context(), bySystem, h.app.declarations))
	h.account, err = h.CreateAccount(t.Context(), keeper, authority.NewAccount{Name: "Castle Supplies"})
	require.NoError(t, err)
	return h
}

// issue makes a token, read only unless changed.
func (h *gatehouse) issue(change ...func(*authority.NewToken)) authority.Issued {
	h.t.Helper()
	n := authority.NewToken{Name: "reports", AccountID: h.account.ID, Access: token.ReadOnly}
	for _, f := range change {
		f(&n)
	}
	issued, err := h.CreateToken(h.t.Context(), keeper, n)
	require.NoError(h.t, err)
	return issued
}

func readWrite(n *authority.NewToken) {
	n.Access, n.AllowList = token.ReadWrite, []string{"192.0.2.0/24"}
}

func custom(scopes ...string) func(*authority.NewToken) {
	return func(n *authority.NewToken) {
		n.Access, n.Scopes, n.AllowList = token.Custom, scopes, []string{"192.0.2.0/24"}
	}
}

// gate makes a gate in the house.
func (h *gatehouse) gate(change ...func(*Gate)) *Gate {
	h.t.Helper()
	g := &Gate{now: h.clock.Now, logger: zap.NewNop()}
	for _, f := range change {
		f(g)
	}
	require.NoError(h.t, g.settle(h.app))
	return g
}

// call is one request to a gate, and what came of it.
type call struct {
	*httptest.ResponseRecorder
	err error
	// upstream is the request as the handler behind the gate got it; nil when it
	// got none.
	upstream *http.Request
	// errors is the request as an error route would get it.
	errors *http.Request
	repl   *caddy.Replacer
}

func (c *call) code(t testing.TB) string {
	t.Helper()
	var p struct{ Code string }
	if c.Header().Get("Content-Type") == "application/problem+json" {
		require.NoError(t, json.Unmarshal(c.Body.Bytes(), &p))
	}
	return p.Code
}

// peer is where requests come from unless they say otherwise.
const peer = "192.0.2.7:4000"

func newCall(method, target string, header ...string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	r.Host, r.RemoteAddr = "api.example.com", peer
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

func bearer(s token.Secret) string { return "Bearer " + s.Reveal() }

// serve sends a request through gates, one behind the other.
func serve(r *http.Request, gates ...*Gate) *call {
	return serveTo(r, func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusOK)
		return nil
	}, gates...)
}

func serveTo(r *http.Request, upstream func(http.ResponseWriter, *http.Request) error, gates ...*Gate) *call {
	return serveAfter(r, nil, upstream, gates...)
}

// serveAfter has something else look at the request before the gates do.
func serveAfter(r *http.Request, before func(*http.Request), upstream func(http.ResponseWriter, *http.Request) error, gates ...*Gate) *call {
	c := &call{ResponseRecorder: httptest.NewRecorder(), repl: caddy.NewReplacer()}
	r = caddyhttp.PrepareRequest(r, c.repl, c.ResponseRecorder, &caddyhttp.Server{})
	if before != nil {
		before(r)
	}
	var handler caddyhttp.Handler = caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		c.upstream = r.Clone(r.Context())
		return upstream(w, r)
	})
	for i := len(gates) - 1; i >= 0; i-- {
		gate, next := gates[i], handler
		handler = caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			return gate.ServeHTTP(w, r, next)
		})
	}
	c.err = handler.ServeHTTP(c.ResponseRecorder, r)
	c.errors = r
	return c
}

var errUpstream = errors.New("upstream is down")

func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(gateLimit); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// logged gives a gate a log that can be read.
func logged(g *Gate) *observer.ObservedLogs {
	core, logs := observer.New(zap.DebugLevel)
	g.logger = zap.New(core)
	return logs
}

func identityOf(h http.Header) http.Header {
	identity := http.Header{}
	for key, values := range h {
		if strings.HasPrefix(key, identityPrefix) {
			identity[key] = values
		}
	}
	return identity
}

// randomBits is a source of random bits for secrets.
func randomBits(testing.TB) io.Reader { return rand.Reader }
