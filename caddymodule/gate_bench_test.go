package caddymodule

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/cached"
)

// discard is a response that costs nothing.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

// many puts tokens into the store behind everybody's back, in a few transactions.
func (h *gatehouse) many(b *testing.B, n int) []string {
	b.Helper()
	ring, primary := h.Ring, h.Ring.IDs()[0]
	secrets := make([]string, n)
	for done := 0; done < n; {
		batch := min(10_000, n-done)
		err := h.inner.Store.Write(b.Context(), func(tx *tokenstore.Tx) error {
			for i := range batch {
				secret, err := token.NewSecret(randomBits(b), "sp", token.Production)
				if err != nil {
					return err
				}
				secrets[done+i] = "Bearer " + secret.Reveal()
				now := h.clock.Now()
				id := token.ID(fmt.Sprintf("tok_%08d", done+i))
				t := token.Token{
					ID: id, Name: "bench", AccountID: h.account.ID, Grant: token.Grant{Access: token.ReadOnly},
					Environment: token.Production, State: token.Active, CreatedAt: now, UpdatedAt: now, LifetimeFrom: now,
				}
				if err := tx.InsertToken(&t); err != nil {
					return err
				}
				record := token.SecretRecord{ID: "sec_" + id[4:], TokenID: id, Last4: secret.Last4(), Status: token.Current, CreatedAt: now}
				lookup, _ := ring.Lookup(primary, secret.Digest())
				if err := tx.InsertSecret(&record, lookup, primary); err != nil {
					return err
				}
			}
			tx.Audit(tokenstore.AuditEntry{At: h.clock.Now(), Actor: keeper.Actor, Verb: "bench", Target: "tokens"})
			return nil
		})
		require.NoError(b, err)
		done += batch
	}
	return secrets
}

// BenchmarkGate measures a request through the handler in process: everything
// that a gate does to it, and nothing behind it. Compare with BenchmarkNoGate.
func BenchmarkGate(b *testing.B) {
	for _, tokens := range []int{1, 100_000} {
		b.Run(fmt.Sprintf("tokens=%d", tokens), func(b *testing.B) {
			h := newGatehouse(b, func(o *cached.Options) { o.MaxBytes, o.Poll = 0, 0 })
			gate := h.gate()
			gate.runtime.streams.interval = sweepInterval
			secrets := h.many(b, tokens)
			for _, value := range secrets {
				r := newCall("GET", "/v1/payments/7", "Authorization", value)
				require.Equal(b, 200, serve(r, gate).Code)
			}
			benchmarkHandler(b, gate, secrets)
		})
	}
}

// BenchmarkNoGate is the same without the gate: what the measuring itself costs.
func BenchmarkNoGate(b *testing.B) { benchmarkHandler(b, passing{}, []string{"Bearer x"}) }

// BenchmarkGateRefuses is a well-formed secret that nobody was given (P7).
func BenchmarkGateRefuses(b *testing.B) {
	h := newGatehouse(b)
	off := 0
	gate := h.gate(func(g *Gate) { g.FailureLimit = &off })
	benchmarkHandler(b, gate, []string{"Bearer " + h.secret().Reveal()})
}

type passing struct{}

func (passing) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return next.ServeHTTP(w, r)
}

func benchmarkHandler(b *testing.B, handler caddyhttp.MiddlewareHandler, secrets []string) {
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusOK)
		return nil
	})
	template := httptest.NewRequest("GET", "/v1/payments/7", nil)
	template.RemoteAddr, template.Host = peer, "api.example.com"
	template.Header.Set("Accept", "*/*")
	template.Header.Set("User-Agent", "bench")
	template.Header.Set("Accept-Encoding", "gzip")
	template.Header.Set("X-Request-Id", "1")
	server := new(caddyhttp.Server)
	parent, cancel := context.WithCancel(b.Context()) // as net/http's server has
	defer cancel()
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		w := &discard{h: make(http.Header, 4)}
		r := template.Clone(parent)
		r.Header["Authorization"] = []string{secrets[i%len(secrets)]}
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, server)
		if err := handler.ServeHTTP(w, r, next); err != nil {
			b.Fatal(err)
		}
	}
}
