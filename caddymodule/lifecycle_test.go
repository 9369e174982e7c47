package caddymodule_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/token"
)

// Caddy runs one configuration at a time in a process, so that these tests do not
// run in parallel.

// inProcess is a gateway in this process, with what its configurations share.
type inProcess struct {
	t                testing.TB
	dir, gate, admin string
	gateLines        string // in the gate's block
	behind           string // the directive behind the gate
	client           *api.Client
}

func newInProcess(t *testing.T) *inProcess {
	t.Helper()
	dir := t.TempDir()
	for _, assignment := range homeless(dir) {
		name, value, _ := strings.Cut(assignment, "=")
		t.Setenv(name, value)
	}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "from upstream")
	}))
	t.Cleanup(upstream.Close)
	g := &inProcess{t: t, dir: dir, gate: freeAddress(t), admin: freeAddress(t), behind: "reverse_proxy " + strings.TrimPrefix(upstream.URL, "http://")}
	var err error
	g.client, err = api.NewClient("http://"+g.admin+"/sallyport/v1", nil)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, caddy.Stop())
		http.DefaultClient.CloseIdleConnections()
		eventually(t, "no goroutine of ours is left", func() bool { return ours() == "" })
	})
	return g
}

// ours is the goroutines of the packages under test that outlive their configuration.
func ours() string {
	var all strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&all, 2)
	var left []string
	for _, one := range strings.Split(all.String(), "\n\n") {
		if strings.Contains(one, "github.com/sallyport/sallyport/") && !strings.Contains(one, "_test.") {
			left = append(left, one)
		}
	}
	return strings.Join(left, "\n\n")
}

// caddyfile is a configuration with lines added to the global option, and more sites.
func (g *inProcess) caddyfile(lines string, sites ...string) string {
	return fmt.Sprintf(`{
	admin %s
	persist_config off
	auto_https off
	storage file_system %s
	log {
		output file %s
	}
	sallyport {
		store sqlite %s
		%s
	}
}
http://%s {
	sallyport {
		%s
	}
	%s
}
%s
`, g.admin, filepath.Join(g.dir, "caddy"), filepath.Join(g.dir, "log"), filepath.Join(g.dir, "sallyport.db"), lines, g.gate, g.gateLines, g.behind, strings.Join(sites, "\n"))
}

func (g *inProcess) adapt(caddyfile string) []byte {
	g.t.Helper()
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	require.NoError(g.t, err)
	return config
}

func (g *inProcess) load(lines string, sites ...string) error {
	g.t.Helper()
	return caddy.Load(g.adapt(g.caddyfile(lines, sites...)), true)
}

// issue makes an account with a token.
func (g *inProcess) issue() api.Issued {
	g.t.Helper()
	account, err := g.client.CreateAccount(g.t.Context(), api.NewAccount{Name: "Example Ltd"})
	require.NoError(g.t, err)
	issued, err := g.client.CreateToken(g.t.Context(), "", api.NewToken{Name: "reports", AccountID: account.ID, Access: token.ReadOnly})
	require.NoError(g.t, err)
	return issued
}

func (g *inProcess) status(secret string) int {
	g.t.Helper()
	status, body := fetch(g.t, "GET", "http://"+g.gate+"/", secret, "")
	require.NotZero(g.t, status, body)
	return status
}

func (g *inProcess) node() string {
	g.t.Helper()
	nodes, err := g.client.Nodes(g.t.Context())
	require.NoError(g.t, err)
	require.Len(g.t, nodes, 1)
	return nodes[0].ID
}

func (g *inProcess) policy(name string) api.Policy {
	g.t.Helper()
	policies, err := g.client.Policies(g.t.Context())
	require.NoError(g.t, err)
	for _, p := range policies {
		if p.Name == name {
			return p
		}
	}
	g.t.Fatalf("no policy %s", name)
	return api.Policy{}
}

func TestAConfigurationThatFailsLeavesTheOneBeforeItWorking(t *testing.T) {
	g := newInProcess(t)
	require.NoError(t, g.load("policy default {\n max_lifetime 30d\n}"))
	first, second := g.issue(), g.issue()
	require.Equal(t, 200, g.status(first.Secret.Reveal()))
	node, lifetime := g.node(), *g.policy("default").MaxLifetimeSeconds

	// A mistake that provisioning finds: nothing was started.
	config := strings.Replace(string(g.adapt(g.caddyfile("role clerk {\n access custom\n scopes read\n}"))), `"scopes":["read"]`, `"scopes":["raed"]`, 1)
	err := caddy.Load([]byte(config), true)
	require.ErrorContains(t, err, "role clerk: scopes")
	require.Equal(t, 200, g.status(first.Secret.Reveal()))
	require.Equal(t, node, g.node(), "the admin endpoint speaks to the configuration that runs")

	// A mistake that shows only when another app starts. Caddy starts apps in
	// random order, so that ours has or has not started by then.
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	for range 12 {
		err = g.load("policy default {\n max_lifetime 1s\n}", "http://"+taken.Addr().String()+" {\n bind 127.0.0.1\n respond nothing\n}")
		require.ErrorContains(t, err, "address already in use")
		require.Equal(t, lifetime, *g.policy("default").MaxLifetimeSeconds, "the rules are those of the configuration that runs")
		require.Equal(t, 200, g.status(first.Secret.Reveal()))
		require.Equal(t, node, g.node())
	}

	// The endpoint that remains is whole: what it changes, the gate obeys.
	_, err = g.client.RevokeToken(t.Context(), first.Token.ID, true)
	require.NoError(t, err)
	require.Equal(t, 401, g.status(first.Secret.Reveal()))
	require.Equal(t, 200, g.status(second.Secret.Reveal()))

	require.NoError(t, g.load("scopes {\n payments:read read\n}"))
	require.Equal(t, 401, g.status(first.Secret.Reveal()), "a reload forgets no revocation (I3)")
	require.Equal(t, 200, g.status(second.Secret.Reveal()))
	require.Equal(t, node, g.node(), "the store stayed open")
	require.Nil(t, g.policy("default").MaxLifetimeSeconds, "what is no longer declared is as it was built in")
}

func TestAConfigurationWithoutSallyportAnswersOnTheAdminEndpointHowToAddIt(t *testing.T) {
	g := newInProcess(t)
	require.NoError(t, g.load(""))
	g.issue()
	require.NoError(t, caddy.Load([]byte(fmt.Sprintf(`{"admin":{"listen":%q,"config":{"persist":false}}}`, g.admin)), true))
	_, err := g.client.AccountPage(t.Context(), "", 0)
	var problem *api.Problem
	require.ErrorAs(t, err, &problem)
	require.Equal(t, 503, problem.Status)
	require.Contains(t, problem.Detail, "add the `sallyport` directive")

	require.NoError(t, g.load(""))
	page, err := g.client.AccountPage(t.Context(), "", 0)
	require.NoError(t, err)
	require.Len(t, page.Items, 1)
}

func TestReloadsLeakNothing(t *testing.T) {
	g := newInProcess(t)
	g.behind = "respond ok" // a proxy of Caddy's keeps connections for minutes
	require.NoError(t, g.load(""))
	secret := g.issue().Secret.Reveal()
	reload := func(i int) {
		lines := fmt.Sprintf("scopes {\n s%d\n}", i)
		if i%10 == 0 {
			lines += fmt.Sprintf("\ncache_size %dMiB", 16+i) // another runtime
		}
		require.NoError(t, g.load(lines))
		require.Equal(t, 200, g.status(secret))
	}
	settled := func() (files, routines int) {
		eventually(t, "what the last reload left is closed", func() bool {
			nodes, err := g.client.Nodes(t.Context())
			require.NoError(t, err)
			return len(nodes) == 1
		})
		http.DefaultClient.CloseIdleConnections()
		return openFiles(t), runtime.NumGoroutine()
	}
	for i := range 5 {
		reload(i)
	}
	files, routines := settled()
	for i := range 50 {
		reload(5 + i)
	}
	eventually(t, "as many open files and goroutines as before 50 reloads", func() bool {
		f, r := settled()
		return f <= files+3 && r <= routines+10
	})
}

func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc here")
	}
	return len(entries)
}

func TestValidatingAConfigurationTouchesNothing(t *testing.T) {
	g := newInProcess(t)
	var config *caddy.Config
	require.NoError(t, json.Unmarshal(g.adapt(g.caddyfile("")), &config))
	require.NoError(t, caddy.Validate(config))
	require.NoFileExists(t, filepath.Join(g.dir, "sallyport.db"))
	require.NoFileExists(t, filepath.Join(g.dir, "sallyport.db.key"))
}

func TestAStoreWithoutItsMasterKeyStopsTheStart(t *testing.T) {
	g := newInProcess(t)
	key := filepath.Join(g.dir, "sallyport.db.key")
	require.NoError(t, g.load(""))
	secret := g.issue().Secret.Reveal()
	require.NoError(t, caddy.Stop())
	info, err := os.Stat(key)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	good, err := os.ReadFile(key)
	require.NoError(t, err)

	require.NoError(t, os.Rename(key, key+".away"))
	require.ErrorContains(t, g.load(""), "put the key file back")
	require.NoFileExists(t, key, "no new key is made for an old store")

	other := "k-other:" + "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=" + "\n"
	require.NoError(t, os.WriteFile(key, []byte(other), 0o600))
	err = g.load("")
	require.ErrorContains(t, err, "master key")
	require.NotContains(t, err.Error(), "AAECAwQF")

	// The same keys from elsewhere serve as well.
	require.NoError(t, os.Remove(key))
	t.Setenv("SALLYPORT_TEST_KEYS", string(good))
	require.NoError(t, g.load("master_key {env.SALLYPORT_TEST_KEYS}"))
	require.Equal(t, 200, g.status(secret))
	require.NoError(t, g.load("master_key {file."+key+".away}"))
	require.Equal(t, 200, g.status(secret))

	err = g.load("master_key {env.SALLYPORT_TEST_NO_KEYS}")
	require.ErrorContains(t, err, "SALLYPORT_TEST_NO_KEYS is not set")
	literal := strings.Replace(string(g.adapt(g.caddyfile("master_key {env.X}"))), "{env.X}", "id:c2VjcmV0", 1)
	err = caddy.Load([]byte(literal), true)
	require.ErrorContains(t, err, "must not stand in the configuration itself")
	require.NotContains(t, err.Error(), "c2VjcmV0")
	require.Equal(t, 200, g.status(secret))
}

func TestAKeyAddedToTheKeyFileIsHeldAfterAReload(t *testing.T) {
	g := newInProcess(t)
	require.NoError(t, g.load(""))
	secret := g.issue().Secret.Reveal()
	file, err := os.OpenFile(filepath.Join(g.dir, "sallyport.db.key"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = io.WriteString(file, "k-new:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")
	require.NoError(t, err)
	require.NoError(t, file.Close())
	require.NoError(t, g.load(""))
	eventually(t, "the gateway reports the new key", func() bool {
		nodes, err := g.client.Nodes(t.Context())
		require.NoError(t, err)
		return len(nodes) == 1 && len(nodes[0].MasterKeyIDs) == 2
	})
	require.Equal(t, 200, g.status(secret))
}

func TestAnAdminEndpointThatOthersReachStopsTheStart(t *testing.T) {
	g := newInProcess(t)
	for _, listen := range []string{"0.0.0.0:2019", ":2019", "[::]:2019", "192.0.2.1:2019", "example.com:2019"} {
		config := strings.Replace(string(g.adapt(g.caddyfile(""))), `"listen":"`+g.admin+`"`, `"listen":"`+listen+`"`, 1)
		require.Contains(t, config, listen)
		var parsed *caddy.Config
		require.NoError(t, json.Unmarshal([]byte(config), &parsed))
		require.ErrorContains(t, caddy.Validate(parsed), "admin unix//", listen)
	}
	for _, listen := range []string{"localhost:2019", "127.0.0.1:2019", "[::1]:2019", "unix//run/x.sock|0600"} {
		var parsed *caddy.Config
		config := strings.Replace(string(g.adapt(g.caddyfile(""))), `"listen":"`+g.admin+`"`, `"listen":"`+listen+`"`, 1)
		require.NoError(t, json.Unmarshal([]byte(config), &parsed))
		require.NoError(t, caddy.Validate(parsed), listen)
	}
}
