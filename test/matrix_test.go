package test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// carefulPath is behind a gate that is marked fresh_only.
const carefulPath = "/headers"

var matrixCaddyfile = strings.NewReplacer(
	"stale_if_unavailable 5s", "stale_if_unavailable 12s",
	"	sallyport {\n		failure_limit 0\n	}\n	reverse_proxy", "	sallyport "+path+" {\n		failure_limit 0\n	}\n	sallyport "+carefulPath+" {\n		failure_limit 0\n		fresh_only\n	}\n	reverse_proxy",
).Replace(fleetCaddyfile)

// The rows of matrix 1.5 that bind fresh_only, with real gateways and a cable that
// is cut; and how the gateway says where it stands.
func TestFreshOnlyEndsBeforeTheStaleTimeDoes(t *testing.T) {
	require.Contains(t, matrixCaddyfile, "fresh_only", "the configuration is another one than expected")
	f := newFleetWith(t, 2, matrixCaddyfile)
	a, b := f.gateways[0], f.gateways[1]
	known := a.create("--account", f.account, "--access", "read_only")
	marked := a.create("--account", f.account, "--access", "read_only", "--fresh-only")
	b.want(200, "", "GET", path, known.Secret)
	b.want(200, "", "GET", carefulPath, known.Secret)
	b.want(200, "", "GET", path, marked.Secret)
	eventually(t, "the node is ready", func() bool { return b.metric("sallyport_readiness") == "0" })
	require.Equal(t, "0", b.metric(`sallyport_check{check="notifications"}`))

	f.cut(1)
	cutAt := time.Now()
	eventually(t, "the marked token gets 503", func() bool {
		status, code := b.do("GET", path, marked.Secret)
		require.Contains(t, []int{200, 503}, status, code)
		return status == 503
	})
	require.Greater(t, time.Since(cutAt), 3*time.Second, "and not just at the next poll")
	b.want(503, "store_unavailable", "GET", path, marked.Secret)
	b.want(503, "store_unavailable", "GET", carefulPath, known.Secret)
	b.want(200, "", "GET", path, known.Secret)
	require.Equal(t, "1", b.metric(`sallyport_check{check="store"}`), "degraded")

	eventually(t, "at last all get 503", func() bool {
		status, _ := b.do("GET", path, known.Secret)
		return status == 503
	})
	require.Equal(t, "2", b.metric("sallyport_readiness"), "not ready")

	f.heal(1)
	eventually(t, "the node is back", func() bool {
		status, _ := b.do("GET", path, marked.Secret)
		return status == 200
	})
	b.want(200, "", "GET", carefulPath, known.Secret)
	eventually(t, "the node is ready", func() bool { return b.metric("sallyport_readiness") == "0" })
}

// metric is a value from Caddy's own metrics, as it stands there.
func (g *gateway) metric(name string) string {
	g.t.Helper()
	resp, err := http.Get(strings.TrimSuffix(g.adminURL(""), "/sallyport/v1") + "/metrics")
	require.NoError(g.t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(g.t, err)
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
