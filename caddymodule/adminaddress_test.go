package caddymodule

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
)

func tcp(t *testing.T, address string) net.Addr {
	t.Helper()
	addr, err := net.ResolveTCPAddr("tcp", address)
	require.NoError(t, err)
	return addr
}

func overListener(configured string, local net.Addr) *http.Request {
	ctx := context.WithValue(context.Background(), http.ServerContextKey, &http.Server{Addr: configured})
	if local != nil {
		ctx = context.WithValue(ctx, http.LocalAddrContextKey, local)
	}
	return httptest.NewRequestWithContext(ctx, "GET", "/sallyport/v1/tokens", nil)
}

// D7: the management API is for this machine, whatever the configuration says.
func TestTheManagementAPIAnswersOnlyOverListenersOfThisMachine(t *testing.T) {
	loopback, lan := tcp(t, "127.0.0.1:2019"), tcp(t, "192.0.2.1:2019")
	for name, c := range map[string]struct {
		r       *http.Request
		private bool
	}{
		"localhost":          {overListener("localhost:2019", loopback), true},
		"loopback":           {overListener("127.0.0.1:2019", loopback), true},
		"loopback over IPv6": {overListener("[::1]:2019", tcp(t, "[::1]:2019")), true},
		"a mapped address":   {overListener("127.0.0.1:2019", tcp(t, "[::ffff:127.0.0.1]:2019")), true},
		"a Unix socket":      {overListener("unix//run/admin.sock", &net.UnixAddr{Net: "unix", Name: "/run/admin.sock"}), true},
		"a socket that was handed over, loopback": {overListener("fd/3", loopback), true},
		"a socket that was handed over, open":     {overListener("fd/3", lan), false},
		"every address, asked from here":          {overListener(":2019", loopback), false},
		"every IPv4 address, asked from here":     {overListener("0.0.0.0:2019", loopback), false},
		"every address, asked from elsewhere":     {overListener(":2019", lan), false},
		"an address of a network":                 {overListener("192.0.2.1:2019", lan), false},
		"a name that stands for another address":  {overListener("localhost:2019", lan), false},
		"no listener that is known":               {overListener("localhost:2019", nil), false},
		"an address that is none":                 {overListener("a:b:c:d", loopback), false},
		"no server":                               {httptest.NewRequest("GET", "/", nil), false},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.private, cameOverPrivateEndpoint(c.r))
			w := httptest.NewRecorder()
			require.NoError(t, new(AdminAPI).serve(w, c.r))
			if c.private {
				require.Equal(t, 503, w.Code, "it passes, and finds no configuration")
			} else {
				require.Equal(t, 403, w.Code)
				require.Contains(t, w.Body.String(), `"code":"forbidden"`)
			}
			require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
		})
	}
}

// The address is found by looking into Caddy's context; this fails when a later
// Caddy has another one, and then only requests are judged.
func TestTheAdminAddressOfAConfigurationIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		admin   *caddy.AdminConfig
		listen  string
		enabled bool
	}{
		"none":     {nil, caddy.DefaultAdminListen, true},
		"default":  {&caddy.AdminConfig{}, caddy.DefaultAdminListen, true},
		"address":  {&caddy.AdminConfig{Listen: ":1234"}, ":1234", true},
		"disabled": {&caddy.AdminConfig{Disabled: true, Listen: ":1234"}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: c.admin})
			require.NoError(t, err)
			listen, enabled, known := adminListen(ctx)
			require.True(t, known)
			require.Equal(t, c.enabled, enabled)
			require.Equal(t, c.listen, listen)
		})
	}
	_, _, known := adminListen(caddy.Context{Context: t.Context()})
	require.False(t, known)
}

func TestOperatorsAreWhoTheirCertificateSaysOrElseWhoTheyClaimToBe(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "[::ffff:127.0.0.1]:1234"
	r.Header.Set(api.OperatorHeader, "ada")
	actor, err := identifyOperator(r)
	require.NoError(t, err)
	require.Equal(t, "ada", actor.Name)
	require.Equal(t, "127.0.0.1", actor.Address)
	require.False(t, actor.Verified)

	certificate := &x509.Certificate{Subject: pkix.Name{CommonName: "grace", Organization: []string{"Example"}}}
	r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{certificate}}}
	actor, err = identifyOperator(r)
	require.NoError(t, err)
	require.Equal(t, "CN=grace,O=Example", actor.Name, "a claim does not hide who it is")
	require.True(t, actor.Verified)

	// Names that the audit log would not take do not lock their owner out.
	for _, subject := range []pkix.Name{{}, {CommonName: string(make([]rune, 200))}, {CommonName: "\u202egrace"}} {
		certificate.Subject, certificate.Raw = subject, []byte("certificate")
		actor, err = identifyOperator(r)
		require.NoError(t, err)
		require.Regexp(t, `^certificate [0-9a-f]{64}$`, actor.Name)
		require.True(t, actor.Verified)
	}

	r = httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "@"
	actor, err = identifyOperator(r)
	require.NoError(t, err)
	require.Empty(t, actor.Address)
}
