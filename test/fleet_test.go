package test

import (
	"crypto/rand"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
)

const fleetCaddyfile = `{
	admin {ADMIN}
	persist_config off
	default_bind 127.0.0.1
	sallyport {
		store postgres {env.DATABASE_URL}
		master_key {file.{DIR}/master.key}
		stale_if_unavailable 5s
	}
}
http://{ADDR} {
	sallyport {
		failure_limit 0
	}
	reverse_proxy {UPSTREAM}
}
`

// fleet is some gateways on one Postgres, each behind a proxy of its own that can
// lose its traffic.
type fleet struct {
	t        *testing.T
	server   *pgtest.Server
	gateways []*gateway
	links    []*toxiproxy.Proxy
	account  string
}

func newFleet(t *testing.T, n int) *fleet {
	t.Helper()
	return newFleetWith(t, n, fleetCaddyfile)
}

func newFleetWith(t *testing.T, n int, caddyfile string) *fleet {
	t.Helper()
	f := &fleet{t: t, server: pgtest.Start(t)}
	f.server.Database() // test1
	key := filepath.Join(t.TempDir(), "master.key")
	_, err := tokenstore.LoadRing(key, rand.Reader)
	require.NoError(t, err)
	keys, err := os.ReadFile(key)
	require.NoError(t, err)
	upstream := httpbinUpstream(t)
	for range n {
		link := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop()), "postgres", "127.0.0.1:0", f.server.Addr())
		require.NoError(t, link.Start())
		t.Cleanup(link.Stop)
		g := prepareGateway(t, caddyfile, upstream)
		g.extraEnv = []string{"DATABASE_URL=" + pgtest.URL(link.Listen, "test1")}
		require.NoError(t, os.WriteFile(g.path("master.key"), keys, 0o600))
		f.gateways, f.links = append(f.gateways, g), append(f.links, link)
		g.start()
	}
	f.account = f.gateways[0].account()
	return f
}

// cut loses everything between a gateway and the database from now on, without
// closing a connection: what a dead cable or a forgetful firewall does.
func (f *fleet) cut(i int) {
	f.t.Helper()
	for _, stream := range []string{"upstream", "downstream"} {
		body := `{"name":"cut-` + stream + `","type":"timeout","stream":"` + stream + `","attributes":{"timeout":0}}`
		_, err := f.links[i].Toxics.AddToxicJson(strings.NewReader(body))
		require.NoError(f.t, err)
	}
}

func (f *fleet) heal(i int) {
	f.t.Helper()
	f.links[i].Toxics.ResetToxics(f.t.Context())
}

const path = "/get"

// O9, O22: a token works at every gateway, wherever they stand, and what ends it ends
// it at all of them.
func TestAFleetOnPostgresBehavesAsOne(t *testing.T) {
	f := newFleet(t, 3)
	a := f.gateways[0]

	t.Run("a new token works on every node at once", func(t *testing.T) {
		token := a.create("--account", f.account, "--access", "read_only")
		for _, g := range f.gateways {
			g.want(200, "", "GET", path, token.Secret)
		}
	})
	t.Run("a revocation reaches every node, and stays", func(t *testing.T) {
		token := a.create("--account", f.account, "--access", "read_only")
		for _, g := range f.gateways {
			g.want(200, "", "GET", path, token.Secret)
		}
		a.command("token", "revoke", token.id(), "--confirm")
		a.want(401, "revoked_token", "GET", path, token.Secret)
		for _, g := range f.gateways[1:] {
			eventually(t, "the other nodes refuse it", func() bool {
				status, _ := g.do("GET", path, token.Secret)
				return status == 401
			})
			for range 50 {
				g.want(401, "revoked_token", "GET", path, token.Secret)
			}
		}
	})
	t.Run("a secret that was tried too early works once it is issued (C7)", func(t *testing.T) {
		token := a.create("--account", f.account, "--access", "read_only")
		next := a.issue("token", "rotate", token.id(), "--mode", "now", "--confirm")
		for _, g := range f.gateways {
			eventually(t, "the new secret works everywhere", func() bool {
				status, _ := g.do("GET", path, next.Secret)
				return status == 200
			})
			eventually(t, "the old one nowhere", func() bool {
				status, code := g.do("GET", path, token.Secret)
				return status == 401 && code == "retired_secret"
			})
		}
	})
	t.Run("an account that is disabled is disabled everywhere", func(t *testing.T) {
		other := a.account()
		token := a.create("--account", other, "--access", "read_only")
		for _, g := range f.gateways {
			g.want(200, "", "GET", path, token.Secret)
		}
		f.gateways[2].command("account", "disable", other)
		for _, g := range f.gateways {
			eventually(t, "it is refused", func() bool {
				status, code := g.do("GET", path, token.Secret)
				return status == 403 && code == "account_disabled"
			})
		}
	})
	t.Run("a node that is killed comes back knowing everything", func(t *testing.T) {
		token := a.create("--account", f.account, "--access", "read_only")
		b := f.gateways[1]
		b.want(200, "", "GET", path, token.Secret)
		b.kill()
		a.command("token", "revoke", token.id(), "--confirm")
		b.start()
		b.want(401, "revoked_token", "GET", path, token.Secret)
	})
	t.Run("the chain holds with three writers", func(t *testing.T) {
		for _, g := range f.gateways {
			g.create("--account", f.account, "--access", "read_only")
		}
		a.command("audit", "verify")
	})
}

// The matrix of threats 1.5, with one node cut off from the store.
func TestANodeThatIsCutOffFailsClosedInTime(t *testing.T) {
	f := newFleet(t, 2)
	a, b := f.gateways[0], f.gateways[1]
	known := a.create("--account", f.account, "--access", "read_only")
	elsewhere := a.create("--account", f.account, "--access", "read_only", "--ip", "192.0.2.1")
	doomed := a.create("--account", f.account, "--access", "read_only")
	unknown := a.create("--account", f.account, "--access", "read_only")
	for _, token := range []issued{known, doomed} {
		b.want(200, "", "GET", path, token.Secret)
	}
	b.want(403, "ip_not_allowed", "GET", path, elsewhere.Secret)

	f.cut(1)
	cutAt := time.Now()
	a.command("token", "revoke", doomed.id(), "--confirm")

	status, code := b.do("GET", path, unknown.Secret)
	require.Equal(t, 503, status, "unknown while nobody can be asked is 503 and never 401: %s", code)
	seen := map[int]bool{}
	eventually(t, "known tokens work for a while and then get 503", func() bool {
		status, _ := b.do("GET", path, known.Secret)
		seen[status] = true
		require.Contains(t, []int{200, 503}, status)
		return status == 503
	})
	require.True(t, seen[200], "known tokens went on working first")
	require.Greater(t, time.Since(cutAt), time.Second, "and not just until the next poll")
	for range 20 {
		for _, token := range []issued{known, elsewhere, doomed, unknown} {
			b.want(503, "store_unavailable", "GET", path, token.Secret)
		}
	}
	resp, err := http.Get(b.adminURL("/health"))
	require.NoError(t, err)
	_ = resp.Body.Close()
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode, "readiness says so")

	f.heal(1)
	eventually(t, "the node is back", func() bool {
		status, _ := b.do("GET", path, known.Secret)
		return status == 200
	})
	b.want(401, "revoked_token", "GET", path, doomed.Secret)
	b.want(200, "", "GET", path, unknown.Secret)
}

// F11, F13: the database itself stops, freezes and dies.
func TestAFleetOutlivesItsDatabase(t *testing.T) {
	f := newFleet(t, 2)
	a, b := f.gateways[0], f.gateways[1]
	known := a.create("--account", f.account, "--access", "read_only")
	for _, g := range f.gateways {
		g.want(200, "", "GET", path, known.Secret)
	}
	for _, fault := range []struct {
		name       string
		down, back func()
	}{
		{"frozen", f.server.Freeze, f.server.Thaw},
		{"killed", f.server.Kill, f.server.Run},
		{"stopped at once", func() { f.server.Stop("immediate") }, f.server.Run},
		{"stopped", func() { f.server.Stop("fast") }, f.server.Run},
	} {
		t.Run(fault.name, func(t *testing.T) {
			fault.down()
			for _, g := range f.gateways {
				g.want(200, "", "GET", path, known.Secret)
			}
			_, err := a.try("token", "list")
			require.Error(t, err, "managing tokens needs the store, and says so within the ceiling")
			fault.back()
			eventually(t, "tokens can be managed again", func() bool {
				_, err := b.try("token", "list")
				return err == nil
			})
			token := a.create("--account", f.account, "--access", "read_only")
			for _, g := range f.gateways {
				eventually(t, "new tokens work everywhere", func() bool {
					status, code := g.do("GET", path, token.Secret)
					require.NotEqual(t, 401, status, code)
					return status == 200
				})
			}
		})
	}
	a.command("audit", "verify")
}
