package caddymodule

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
)

func TestTheGateTellsTheUpstreamWhoCalls(t *testing.T) {
	h := newGatehouse(t)
	user, err := h.CreateUser(t.Context(), keeper, authority.NewUser{
		AccountID: h.account.ID, Name: "Ada", Email: "ada@example.com", Role: "member", BusinessUnits: []string{"sales", "r&d"},
	})
	require.NoError(t, err)
	ofAccount := h.issue(readWrite)
	ofUser := h.issue(custom("payments:read", "read", "write"), func(n *authority.NewToken) { n.UserID = user.ID })
	g := h.gate()

	c := serve(newCall("GET", "/a", "Authorization", bearer(ofAccount.Secret),
		"Sallyport-Role", "owner", "Sallyport_Token_Id", "tok_forged", "Connection", "Sallyport-Token-Id"), g)
	require.Equal(t, 200, c.Code)
	require.Empty(t, cmp.Diff(http.Header{
		"Sallyport-Token-Id":    {string(ofAccount.Token.Token.ID)},
		"Sallyport-Account-Id":  {string(h.account.ID)},
		"Sallyport-Access":      {"read_write"},
		"Sallyport-Scopes":      {"read write chat payments:read payments:write"},
		"Sallyport-Environment": {"production"},
	}, c.upstream.Header), "B1 to B6: and nothing else that the client sent")

	c = serve(newCall("GET", "/a", "Authorization", bearer(ofUser.Secret)), g)
	require.Equal(t, 200, c.Code, c.Body)
	identity := identityOf(c.upstream.Header)
	require.Equal(t, []string{string(user.ID)}, identity["Sallyport-User-Id"])
	require.Equal(t, []string{"member"}, identity["Sallyport-Role"])
	require.Equal(t, []string{"r&d,sales"}, identity["Sallyport-Business-Units"])

	// The same as placeholders, for the log and for limits by user.
	for name, want := range map[string]string{
		"id": string(ofUser.Token.Token.ID), "token_id": string(ofUser.Token.Token.ID), "account_id": string(h.account.ID),
		"user_id": string(user.ID), "role": "member", "environment": "production",
		"business_units": "r&d,sales", "access": identity.Get("Sallyport-Access"), "scopes": identity.Get("Sallyport-Scopes"),
	} {
		value, ok := c.repl.GetString("http.auth.user." + name)
		require.True(t, ok, name)
		require.Equal(t, want, value, name)
	}
	_, ok := c.repl.Get("http.auth.user.other")
	require.False(t, ok)

	p, ok := caddyhttp.GetVar(c.upstream.Context(), PrincipalVar).(*Principal)
	require.True(t, ok)
	require.Equal(t, ofUser.Token.Token.ID, p.TokenID())
	require.Equal(t, user.ID, p.UserID())
	require.Equal(t, h.account.ID, p.AccountID())
	require.Equal(t, strings.Fields(identity.Get("Sallyport-Scopes")), p.Scopes())
	require.Equal(t, fmt.Sprint(p), string(p.TokenID()))
}

func TestCodesTellWhatIsWrongWithACredential(t *testing.T) {
	h := newGatehouse(t)
	good, revoked, disabled := h.issue(), h.issue(), h.issue()
	rotated, expiring := h.issue(), h.issue(func(n *authority.NewToken) { n.ExpiresAt = h.clock.Now().Add(time.Hour) })
	sandbox := h.issue(func(n *authority.NewToken) { n.Environment = token.Sandbox })
	elsewhere := h.issue(func(n *authority.NewToken) { n.AllowList = []string{"198.51.100.0/24"} })
	payer := h.issue(custom("payments:read"))
	_, err := h.RevokeToken(t.Context(), keeper, revoked.Token.Token.ID, true)
	require.NoError(t, err)
	_, err = h.DisableToken(t.Context(), keeper, disabled.Token.Token.ID, true)
	require.NoError(t, err)
	_, err = h.RotateToken(t.Context(), keeper, rotated.Token.Token.ID, authority.Rotation{Mode: token.RotateNow, Confirm: true})
	require.NoError(t, err)
	unknown, err := token.NewSecret(randomBits(t), "sp", token.Production)
	require.NoError(t, err)
	off := 0
	gate := func(change ...func(*Gate)) *Gate {
		return h.gate(append(change, func(g *Gate) { g.FailureLimit = &off })...)
	}
	g := gate(func(g *Gate) {
		g.CredentialHeaders = []string{"x-api-key"}
		g.Require = []Requirement{{Scope: "payments:write", Methods: []string{"GET"}, Path: "/pay"}}
	})
	h.clock.add(time.Hour)

	const invalid = `Bearer realm="api", error="invalid_token"`
	for name, c := range map[string]struct {
		r         *http.Request
		status    int
		code      string
		challenge string // its beginning
	}{
		"none":                        {newCall("GET", "/"), 401, "missing_token", `Bearer realm="api"`},
		"C4 in the query":             {newCall("GET", "/?access_token="+good.Secret.Reveal()), 401, "missing_token", `Bearer realm="api"`},
		"C4 in a cookie":              {newCall("GET", "/", "Cookie", "token="+good.Secret.Reveal()), 401, "missing_token", `Bearer realm="api"`},
		"an empty one":                {newCall("GET", "/", "Authorization", ""), 401, "missing_token", `Bearer realm="api"`},
		"C1 two headers":              {newCall("GET", "/", "Authorization", bearer(good.Secret), "X-Api-Key", good.Secret.Reveal()), 400, "ambiguous_credentials", `Bearer realm="api", error="invalid_request"`},
		"C1 two Authorization":        {newCall("GET", "/", "Authorization", bearer(good.Secret), "Authorization", bearer(good.Secret)), 400, "ambiguous_credentials", `Bearer realm="api", error="invalid_request"`},
		"C2 as a password":            {newCall("GET", "/", "Authorization", "Basic c3BfbGl2ZV94Og=="), 401, "malformed_token", invalid},
		"C2 as another scheme":        {newCall("GET", "/", "Authorization", "Token "+good.Secret.Reveal()), 401, "malformed_token", invalid},
		"C3 two spaces":               {newCall("GET", "/", "Authorization", "Bearer  "+good.Secret.Reveal()), 401, "malformed_token", invalid},
		"C3 a tab":                    {newCall("GET", "/", "Authorization", "Bearer\t"+good.Secret.Reveal()), 401, "malformed_token", invalid},
		"C3 in quotes":                {newCall("GET", "/", "Authorization", `Bearer "`+good.Secret.Reveal()+`"`), 401, "malformed_token", invalid},
		"C3 other characters":         {newCall("GET", "/", "Authorization", "Bearer "+good.Secret.Reveal()+"\xff"), 401, "malformed_token", invalid},
		"C3 two in one":               {newCall("GET", "/", "Authorization", bearer(good.Secret)+", "+bearer(good.Secret)), 401, "malformed_token", invalid},
		"C3 the scheme alone":         {newCall("GET", "/", "Authorization", "Bearer"), 401, "malformed_token", invalid},
		"S7 too long":                 {newCall("GET", "/", "Authorization", "Bearer "+strings.Repeat("a", 257)), 401, "malformed_token", invalid},
		"a scheme in a named header":  {newCall("GET", "/", "X-Api-Key", bearer(good.Secret)), 401, "malformed_token", invalid},
		"a wrong checksum":            {newCall("GET", "/", "Authorization", "Bearer "+swapLast(good.Secret.Reveal())), 401, "malformed_token", invalid},
		"an unknown one":              {newCall("GET", "/", "Authorization", bearer(unknown)), 401, "unknown_token", invalid},
		"a revoked one":               {newCall("GET", "/", "Authorization", bearer(revoked.Secret)), 401, "revoked_token", invalid},
		"a disabled one":              {newCall("GET", "/", "Authorization", bearer(disabled.Secret)), 401, "disabled_token", invalid},
		"an expired one":              {newCall("GET", "/", "Authorization", bearer(expiring.Secret)), 401, "expired_token", invalid},
		"a rotated one":               {newCall("GET", "/", "Authorization", bearer(rotated.Secret)), 401, "retired_secret", invalid},
		"one of the sandbox":          {newCall("GET", "/", "Authorization", bearer(sandbox.Secret)), 403, "wrong_environment", ""},
		"one from elsewhere":          {newCall("GET", "/", "Authorization", bearer(elsewhere.Secret)), 403, "ip_not_allowed", ""},
		"one that may only read":      {newCall("POST", "/", "Authorization", bearer(good.Secret)), 403, "read_only_token", `Bearer realm="api", error="insufficient_scope"`},
		"one without the scope":       {newCall("GET", "/pay", "Authorization", bearer(payer.Secret)), 403, "insufficient_scope", `Bearer realm="api", error="insufficient_scope"`},
		"M2 HEAD is what GET is":      {newCall("HEAD", "/pay", "Authorization", bearer(payer.Secret)), 403, "insufficient_scope", `Bearer realm="api", error="insufficient_scope"`},
		"M3 OPTIONS without a token":  {newCall("OPTIONS", "/"), 401, "missing_token", `Bearer realm="api"`},
		"M3 a preflight without CORS": {newCall("OPTIONS", "/", "Origin", "https://app.test", "Access-Control-Request-Method", "GET"), 401, "missing_token", `Bearer realm="api"`},
		"M4 TRACE":                    {newCall("TRACE", "/", "Authorization", bearer(good.Secret)), 405, "method_not_allowed", ""},
		"P3 an ambiguous path":        {newCall("GET", "/a%2Fb", "Authorization", bearer(good.Secret)), 400, "ambiguous_path", ""},
		"S7 large headers":            {newCall("GET", "/", "Authorization", bearer(good.Secret), "X-A", strings.Repeat("a", 32<<10)), 431, "headers_too_large", ""},
		"S7 many headers":             {manyHeaders(newCall("GET", "/", "Authorization", bearer(good.Secret))), 431, "headers_too_large", ""},
		"S7 a long target":            {newCall("GET", "/?"+strings.Repeat("a", 32<<10), "Authorization", bearer(good.Secret)), 431, "headers_too_large", ""},
		"S4 an upgrade to h2c":        {newCall("GET", "/", "Authorization", bearer(good.Secret), "Connection", "upgrade", "Upgrade", "h2c"), 400, "upgrade_not_allowed", ""},
		"S5 a WebSocket needs write":  {newCall("GET", "/", "Authorization", bearer(good.Secret), "Connection", "upgrade", "Upgrade", "websocket"), 403, "read_only_token", `Bearer realm="api", error="insufficient_scope"`},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.r
			got := serve(r, g)
			require.NoError(t, got.err)
			require.Nil(t, got.upstream)
			require.Equal(t, c.status, got.Code, got.Body)
			if r.Method != "HEAD" {
				require.Equal(t, c.code, got.code(t))
			}
			challenge := got.Header().Get("WWW-Authenticate")
			if c.challenge == "" || c.code == "missing_token" {
				require.Equal(t, c.challenge, challenge)
			} else {
				require.True(t, strings.HasPrefix(challenge, c.challenge), challenge)
			}
			require.Equal(t, "no-store", got.Header().Get("Cache-Control"))
			require.Less(t, got.Body.Len(), 1024)
			require.NotContains(t, fmt.Sprint(got.Header(), got.Body), good.Secret.Reveal())

			// What is left for whoever comes after a refusal: nothing of the credential.
			require.NotContains(t, got.errors.Header, "Authorization", "B6")
			require.NotContains(t, got.errors.Header, "X-Api-Key", "B6")
		})
	}

	require.Equal(t, 200, serve(newCall("GET", "/", "Authorization", bearer(good.Secret)), g).Code)
	require.Equal(t, 200, serve(newCall("GET", "/", "Authorization", "bEARER "+good.Secret.Reveal()), g).Code, "C3")
	require.Equal(t, 200, serve(newCall("GET", "/", "X-Api-Key", good.Secret.Reveal()), g).Code)
	require.Equal(t, 200, serve(newCall("HEAD", "/", "Authorization", bearer(good.Secret)), g).Code, "M2")
	require.Equal(t, 200, serve(newCall("OPTIONS", "/", "Authorization", bearer(good.Secret)), g).Code, "M3")
	body := newCall("GET", "/", "Authorization", bearer(good.Secret))
	body.Body, body.ContentLength = http.NoBody, 3
	require.Equal(t, 200, serve(body, g).Code, "M5")
	require.Equal(t, 200, serve(newCall("GET", "/", "Authorization", bearer(sandbox.Secret)), gate(func(g *Gate) { g.Environment = "sandbox" })).Code)
	require.Equal(t, 200, serve(newCall("GET", "/", "Authorization", bearer(sandbox.Secret)), gate(func(g *Gate) { g.Environment = "any" })).Code)
	require.Equal(t, 403, serve(newCall("GET", "/", "Authorization", bearer(good.Secret)), gate(func(g *Gate) { g.Environment = "sandbox" })).Code)
	require.Equal(t, 405, serve(newCall("FOO", "/"), g).Code)
	require.NotEmpty(t, serve(newCall("FOO", "/"), g).Header().Get("Allow"))
}

func swapLast(s string) string {
	last := byte('0')
	if s[len(s)-1] == last {
		last = '1'
	}
	return s[:len(s)-1] + string(last)
}

func manyHeaders(r *http.Request) *http.Request {
	for i := range 10_000 {
		r.Header.Set(fmt.Sprintf("X-%d", i), "")
	}
	return r
}

func TestARefusalIsAProblemDocument(t *testing.T) {
	h := newGatehouse(t)
	payer := h.issue(custom("payments:read"))
	g := h.gate(func(g *Gate) {
		g.Realm = "payments"
		g.Require = []Requirement{{Scope: "payments:write", Path: "/pay"}}
	})
	c := serve(newCall("GET", "/pay", "Authorization", bearer(payer.Secret)), g)
	var got map[string]any
	require.NoError(t, json.Unmarshal(c.Body.Bytes(), &got))
	require.Equal(t, map[string]any{
		"type": "urn:sallyport:problem:insufficient_scope", "title": "Forbidden", "status": 403.0, "code": "insufficient_scope",
		"detail": "The token lacks the scope that this operation needs.", "scope": "payments:write",
	}, got)
	require.Equal(t, "application/problem+json", c.Header().Get("Content-Type"))
	require.Equal(t, `Bearer realm="payments", error="insufficient_scope", error_description="The token lacks the scope that this operation needs.", scope="payments:write"`,
		c.Header().Get("WWW-Authenticate"))
}

func TestOpaqueErrorsMakeAllRefusedTokensAlike(t *testing.T) {
	h := newGatehouse(t)
	revoked, rotated := h.issue(), h.issue()
	expiring := h.issue(func(n *authority.NewToken) { n.ExpiresAt = h.clock.Now().Add(time.Hour) })
	disabled := h.issue()
	_, err := h.RevokeToken(t.Context(), keeper, revoked.Token.Token.ID, true)
	require.NoError(t, err)
	_, err = h.DisableToken(t.Context(), keeper, disabled.Token.Token.ID, true)
	require.NoError(t, err)
	_, err = h.RotateToken(t.Context(), keeper, rotated.Token.Token.ID, authority.Rotation{Mode: token.RotateNow, Confirm: true})
	require.NoError(t, err)
	unknown, err := token.NewSecret(randomBits(t), "sp", token.Production)
	require.NoError(t, err)
	h.clock.add(time.Hour)
	g := h.gate(func(g *Gate) { g.OpaqueErrors = true })
	var first *call
	for _, value := range []string{
		bearer(unknown), bearer(revoked.Secret), bearer(rotated.Secret), bearer(expiring.Secret), bearer(disabled.Secret),
		"Bearer x", "Basic eA==", "Bearer " + strings.Repeat("a", 1000), "Bearer " + swapLast(unknown.Reveal()),
	} {
		c := serve(newCall("GET", "/", "Authorization", value), g)
		if first == nil {
			first = c
		}
		require.Equal(t, 401, c.Code)
		require.Equal(t, first.Body.String(), c.Body.String())
		require.Equal(t, first.Header(), c.Header())
	}
	require.Equal(t, "missing_token", serve(newCall("GET", "/"), g).code(t), "whoever sent none knows that already")
}

func TestAGRPCCallerGetsAGRPCStatus(t *testing.T) {
	h := newGatehouse(t)
	reader, writer := h.issue(), h.issue(readWrite)
	g := h.gate()
	for name, c := range map[string]struct {
		header []string
		kind   string
		status string
	}{
		"C18 unauthenticated":     {[]string{"Content-Type", "application/grpc"}, "application/grpc", "16"},
		"C18 permission denied":   {[]string{"Content-Type", "application/grpc+proto", "Authorization", bearer(reader.Secret)}, "application/grpc", "7"},
		"C18 invalid argument":    {[]string{"Content-Type", "application/grpc", "Authorization", "Bearer a", "Authorization", "Bearer b"}, "application/grpc", "3"},
		"C18 from a browser":      {[]string{"Content-Type", "application/grpc-web+proto"}, "application/grpc-web", "16"},
		"C18 from an old browser": {[]string{"Content-Type", "Application/gRPC-Web-Text"}, "application/grpc-web-text", "16"},
	} {
		t.Run(name, func(t *testing.T) {
			got := serve(newCall("POST", "/pkg.Service/Do", c.header...), g)
			require.Nil(t, got.upstream)
			require.Equal(t, 200, got.Code)
			require.Equal(t, c.kind, got.Header().Get("Content-Type"))
			require.Equal(t, c.status, got.Header().Get("Grpc-Status"))
			require.NotEmpty(t, got.Header().Get("Grpc-Message"))
			require.Zero(t, got.Body.Len())
			if c.status == "16" {
				require.NotEmpty(t, got.Header().Get("WWW-Authenticate"))
			}
		})
	}
	got := serve(newCall("POST", "/pkg.Service/Do", "Content-Type", "application/grpc", "Authorization", bearer(writer.Secret)), g)
	require.NotNil(t, got.upstream)

	h.inner.down.Store(true)
	got = serve(newCall("POST", "/pkg.Service/Do", "Content-Type", "application/grpc", "Authorization", bearer(h.secret())), g)
	require.Equal(t, "14", got.Header().Get("Grpc-Status"))
}

// secret is one that nobody was given.
func (h *gatehouse) secret() token.Secret {
	s, err := token.NewSecret(randomBits(h.t), "sp", token.Production)
	require.NoError(h.t, err)
	return s
}

func TestFailuresAreCountedByAddress(t *testing.T) {
	h := newGatehouse(t)
	good, cold := h.issue(), h.issue()
	three := 3
	g := h.gate(func(g *Gate) { g.FailureLimit = &three })
	from := func(addr, value string) *call {
		r := newCall("GET", "/", "Authorization", value)
		r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(addr), 1).String()
		return serve(r, g)
	}
	require.Equal(t, 200, from("192.0.2.7", bearer(good.Secret)).Code)

	// What is no failure: no credential, a refused scope, an ambiguous request.
	for range 5 {
		require.Equal(t, 401, serve(newCall("GET", "/"), g).Code)
		require.Equal(t, 403, serve(newCall("POST", "/", "Authorization", bearer(good.Secret)), g).Code)
		require.Equal(t, 400, serve(newCall("GET", "//", "Authorization", "Bearer x"), g).Code)
	}
	require.Equal(t, 401, from("192.0.2.7", "Bearer x").Code)
	require.Equal(t, 401, from("192.0.2.7", bearer(h.secret())).Code)
	require.Equal(t, 401, from("192.0.2.7", "Basic x").Code)

	lookups := h.inner.lookups.Load()
	spent := from("192.0.2.7", "Bearer x")
	require.Equal(t, 429, spent.Code, "C14")
	require.Equal(t, "too_many_failures", spent.code(t))
	require.Equal(t, "60", spent.Header().Get("Retry-After"))
	require.Equal(t, 429, from("192.0.2.7", bearer(h.secret())).Code)
	require.Equal(t, 429, from("192.0.2.7", bearer(cold.Secret)).Code, "a token that must be looked up first")
	require.Equal(t, lookups, h.inner.lookups.Load(), "and the store was not asked")

	require.Equal(t, 200, from("192.0.2.7", bearer(good.Secret)).Code, "nobody locks out a neighbour")
	require.Equal(t, 401, serve(newCall("GET", "/"), g).Code, "without a credential nothing is guessed")
	require.Equal(t, 200, from("192.0.2.8", bearer(cold.Secret)).Code, "another address has a budget of its own")
	require.Equal(t, 200, from("192.0.2.7", bearer(cold.Secret)).Code, "and now the token is known")

	for range 3 {
		require.Equal(t, 401, from("2001:db8::1", "Bearer x").Code)
	}
	require.Equal(t, 429, from("2001:db8::ffff:2", "Bearer x").Code, "IPv6 counts by /64")
	require.Equal(t, 401, from("2001:db8:0:1::1", "Bearer x").Code)

	h.clock.add(3 * time.Minute)
	require.Equal(t, 401, from("192.0.2.7", "Bearer x").Code, "the budget comes back")
}

func TestMalformedSecretsReachNeitherCacheNorStore(t *testing.T) {
	h := newGatehouse(t)
	off := 0
	g := h.gate(func(g *Gate) { g.FailureLimit = &off })
	before := h.inner.lookups.Load()
	for _, value := range []string{"Bearer x", "Bearer " + swapLast(h.secret().Reveal()), "Bearer " + strings.Repeat("a", 300)} {
		require.Equal(t, "malformed_token", serve(newCall("GET", "/", "Authorization", value), g).code(t))
	}
	require.Equal(t, before, h.inner.lookups.Load())
}

func TestAnUnknownAnswerOfTheStoreIsNoAnswer(t *testing.T) {
	h := newGatehouse(t)
	known, cold := h.issue(), h.issue()
	g := h.gate()
	require.Equal(t, 200, serve(newCall("GET", "/", "Authorization", bearer(known.Secret)), g).Code)

	h.inner.down.Store(true)
	require.Equal(t, 200, serve(newCall("GET", "/", "Authorization", bearer(known.Secret)), g).Code, "known tokens go on working")
	for range 30 { // more than the budget of failures
		c := serve(newCall("GET", "/", "Authorization", bearer(cold.Secret)), g)
		require.Equal(t, 503, c.Code)
		require.Equal(t, "store_unavailable", c.code(t))
		require.Equal(t, "1", c.Header().Get("Retry-After"))
		require.Empty(t, c.Header().Get("WWW-Authenticate"), "the caller must not throw the token away")
	}
	h.inner.down.Store(false)
	until(t, "the store is back", func() bool {
		return serve(newCall("GET", "/", "Authorization", bearer(cold.Secret)), g).Code == 200
	})

	h.app.runtime.publish(nil)
	require.Equal(t, 503, serve(newCall("GET", "/", "Authorization", bearer(known.Secret)), g).Code, "and before the store is open")
}

func TestTheAddressIsCaddys(t *testing.T) {
	h := newGatehouse(t)
	local := h.issue(func(n *authority.NewToken) { n.AllowList = []string{"192.0.2.0/24", "fe80::/64"} })
	anywhere := h.issue()
	g := h.gate()
	for name, c := range map[string]struct {
		remote string
		header []string
		want   int
	}{
		"listed":                           {remote: "192.0.2.9:1", want: 200},
		"not listed":                       {remote: "198.51.100.1:1", want: 403},
		"A1 a header of an untrusted peer": {remote: "198.51.100.1:1", header: []string{"X-Forwarded-For", "192.0.2.9"}, want: 403},
		"A1 other headers":                 {remote: "198.51.100.1:1", header: []string{"X-Real-Ip", "192.0.2.9", "Forwarded", "for=192.0.2.9", "True-Client-Ip", "192.0.2.9"}, want: 403},
		"A4 nonsense in the header":        {remote: "192.0.2.9:1", header: []string{"X-Forwarded-For", "unknown, [::1]:99999,,"}, want: 200},
		"A6 a Unix socket":                 {remote: "@", want: 403},
		"A6 nothing":                       {remote: "", want: 403},
		"A7 a mapped address":              {remote: "[::ffff:192.0.2.9]:1", want: 200},
		"A7 a mapped one, not listed":      {remote: "[::ffff:198.51.100.1]:1", want: 403},
		"A9 a zone":                        {remote: "[fe80::1%eth0]:1", want: 200},
	} {
		t.Run(name, func(t *testing.T) {
			r := newCall("GET", "/", append(c.header, "Authorization", bearer(local.Secret))...)
			r.RemoteAddr = c.remote
			got := serve(r, g)
			require.Equal(t, c.want, got.Code, got.Body)
			r = newCall("GET", "/", "Authorization", bearer(anywhere.Secret))
			r.RemoteAddr = c.remote
			require.Equal(t, 200, serve(r, g).Code, "without an allow-list any address will do")
		})
	}
}

func TestAnAddressHasOneForm(t *testing.T) {
	for text, want := range map[string]netip.Addr{
		"192.0.2.1":        netip.MustParseAddr("192.0.2.1"),
		"::ffff:192.0.2.1": netip.MustParseAddr("192.0.2.1"), // A7
		"fe80::1%eth0":     netip.MustParseAddr("fe80::1"),   // A9
		"":                 {},                               // A6
		"@":                {},
		"010.0.0.1":        {}, // A10
		"unknown":          {}, // A4
	} {
		require.Equal(t, want, parseAddress(text), text)
	}
}

func TestEarlyDataIsNotTrusted(t *testing.T) {
	h := newGatehouse(t)
	anywhere := h.issue()
	listed := h.issue(readWrite)
	g := h.gate()
	early := func(method string, s token.Secret) *call {
		r := newCall(method, "/", "Authorization", bearer(s))
		r.TLS = &tls.ConnectionState{}
		return serve(r, g)
	}
	require.Equal(t, 200, early("GET", anywhere.Secret).Code)
	require.Equal(t, "early_data", early("POST", anywhere.Secret).code(t), "S6: it could be a replay")
	require.Equal(t, 425, early("POST", anywhere.Secret).Code)
	require.Equal(t, 425, early("GET", listed.Secret).Code, "the address is not proven yet")
	require.Equal(t, 425, serve(newCall("POST", "/", "Early-Data", "1", "Authorization", bearer(listed.Secret)), g).Code, "a proxy in front says so")
	done := newCall("POST", "/", "Authorization", bearer(listed.Secret))
	done.TLS = &tls.ConnectionState{HandshakeComplete: true}
	require.Equal(t, 200, serve(done, g).Code)
}

func TestPreflightsAreAnsweredByTheGate(t *testing.T) {
	h := newGatehouse(t)
	good := h.issue()
	g := h.gate(func(g *Gate) { g.CORS = []string{"https://app.example.com", "http://localhost:3000"} })
	preflight := func(origin string) *http.Request {
		return newCall("OPTIONS", "/v1/x", "Origin", origin, "Access-Control-Request-Method", "PUT", "Access-Control-Request-Headers", "authorization, x-custom, <b>")
	}
	c := serve(preflight("https://app.example.com"), g)
	require.Equal(t, 204, c.Code, "M3")
	require.Nil(t, c.upstream)
	require.Equal(t, "https://app.example.com", c.Header().Get("Access-Control-Allow-Origin"))
	require.Equal(t, "authorization, x-custom", c.Header().Get("Access-Control-Allow-Headers"))
	require.Contains(t, c.Header().Get("Access-Control-Allow-Methods"), "PUT")
	require.Contains(t, c.Header().Get("Vary"), "Origin")
	require.Empty(t, c.Header().Get("Access-Control-Allow-Credentials"))

	c = serve(preflight("https://evil.example.com"), g)
	require.Equal(t, 401, c.Code)
	require.Empty(t, c.Header().Get("Access-Control-Allow-Origin"))

	c = serve(newCall("OPTIONS", "/v1/x", "Origin", "https://app.example.com"), g)
	require.Equal(t, 401, c.Code, "no preflight")
	require.Equal(t, "https://app.example.com", c.Header().Get("Access-Control-Allow-Origin"), "the page may read why")

	require.Equal(t, 400, serve(newCall("OPTIONS", "/a//b", "Origin", "https://app.example.com", "Access-Control-Request-Method", "GET"), g).Code)

	// The upstream's own opinion is replaced, since two answers are none.
	upstream := func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		w.WriteHeader(200)
		return nil
	}
	c = serveTo(newCall("GET", "/", "Origin", "http://localhost:3000", "Authorization", bearer(good.Secret)), upstream, g)
	require.Equal(t, []string{"http://localhost:3000"}, c.Header()["Access-Control-Allow-Origin"])
	require.Empty(t, c.Header()["Access-Control-Allow-Credentials"])
	c = serveTo(newCall("GET", "/", "Origin", "https://evil.example.com", "Authorization", bearer(good.Secret)), upstream, g)
	require.Empty(t, c.Header()["Access-Control-Allow-Origin"])
	require.Equal(t, []string{"Origin"}, c.Header()["Vary"])
	c = serveTo(newCall("GET", "/", "Origin", "https://evil.example.com", "Authorization", bearer(good.Secret)), upstream, h.gate())
	require.Equal(t, []string{"*"}, c.Header()["Access-Control-Allow-Origin"], "without `cors` it is the upstream's business")

	c = serve(preflight("https://any.example.com"), h.gate(func(g *Gate) { g.CORS = []string{"*"} }))
	require.Equal(t, "*", c.Header().Get("Access-Control-Allow-Origin"))
}

func TestOptionsAboutTheServerIsAnsweredByTheGate(t *testing.T) {
	h := newGatehouse(t)
	r := newCall("OPTIONS", "/")
	r.URL.Path, r.RequestURI = "*", "*"
	c := serve(r, h.gate())
	require.Equal(t, 204, c.Code)
	require.Nil(t, c.upstream)
}

func TestACredentialInTheQueryIsTakenOut(t *testing.T) {
	h := newGatehouse(t)
	good := h.issue()
	g := h.gate(func(g *Gate) { g.CredentialQuery = "key" })
	upstream := func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "public, max-age=60")
		_, err := w.Write([]byte("x"))
		return errors.Join(err, errUpstream)
	}
	c := serveTo(newCall("GET", "/a?x=%61&key="+good.Secret.Reveal()+"&y"), upstream, g)
	require.Equal(t, 200, c.Code)
	require.Equal(t, "x=%61&y", c.upstream.URL.RawQuery)
	require.Equal(t, "/a?x=%61&y", c.upstream.RequestURI)
	require.Equal(t, "no-referrer", c.Header().Get("Referrer-Policy"), "C4")
	require.Equal(t, []string{"private"}, c.Header()["Cache-Control"], "C4")

	// Caddy gives error routes the URL as it came, from here.
	original := c.errors.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	require.NotContains(t, original.URL.String(), good.Secret.Reveal())
	require.NotContains(t, original.RequestURI, good.Secret.Reveal())

	c = serve(newCall("GET", "/a?key="+good.Secret.Reveal(), "Authorization", bearer(good.Secret)), g)
	require.Equal(t, "ambiguous_credentials", c.code(t), "C1")
	require.Equal(t, "no-referrer", c.Header().Get("Referrer-Policy"))
	require.Equal(t, "ambiguous_credentials", serve(newCall("GET", "/a?key=a&key=b"), g).code(t), "C1")
	require.Equal(t, "malformed_token", serve(newCall("GET", "/a?key=a"), g).code(t))
	require.Equal(t, 200, serve(newCall("GET", "/a?k%65y="+good.Secret.Reveal()), g).Code)
}

func TestTheCredentialGoesOnOnlyWhenToldSo(t *testing.T) {
	h := newGatehouse(t)
	good := h.issue()
	fails := func(http.ResponseWriter, *http.Request) error { return errUpstream }
	c := serveTo(newCall("GET", "/", "Authorization", bearer(good.Secret)), fails, h.gate())
	require.ErrorIs(t, c.err, errUpstream)
	require.NotContains(t, c.upstream.Header, "Authorization", "B6")

	c = serveTo(newCall("GET", "/", "Authorization", bearer(good.Secret)), fails, h.gate(func(g *Gate) { g.ForwardCredential = true }))
	require.Equal(t, []string{bearer(good.Secret)}, c.upstream.Header["Authorization"])
	require.NotContains(t, c.errors.Header, "Authorization", "error routes are somebody else")
	require.NoError(t, c.errors.Context().Err(), "and their requests have not ended")

	g := h.gate(func(g *Gate) { g.ForwardCredential, g.CredentialHeaders = true, []string{"X-Api-Key"} })
	c = serve(newCall("GET", "/", "X-Api-Key", good.Secret.Reveal()), g)
	require.Equal(t, []string{good.Secret.Reveal()}, c.upstream.Header["X-Api-Key"])
}

func TestASecondGateAddsItsRequirements(t *testing.T) {
	h := newGatehouse(t)
	reader, writer := h.issue(), h.issue(readWrite)
	first := h.gate(func(g *Gate) { g.ForwardCredential = true })
	second := h.gate(func(g *Gate) {
		g.Require = []Requirement{{Scope: "payments:write", Path: "/*"}}
		g.CredentialHeaders = []string{"X-Api-Key"}
	})
	c := serve(newCall("GET", "/", "Authorization", bearer(reader.Secret)), first, second)
	require.Equal(t, 403, c.Code)
	require.Equal(t, "read_only_token", c.code(t))

	c = serve(newCall("GET", "/", "Authorization", bearer(writer.Secret), "X-Api-Key", reader.Secret.Reveal()), first, second)
	require.Equal(t, 200, c.Code, c.Body)
	require.Equal(t, string(writer.Token.Token.ID), c.upstream.Header.Get("Sallyport-Token-Id"), "the first's principal")
	require.Len(t, c.upstream.Header["Sallyport-Token-Id"], 1, "B4")
	require.NotContains(t, c.upstream.Header, "X-Api-Key")
	require.NotContains(t, c.upstream.Header, "Authorization")
}

func TestAVariableMakesNobodyAPrincipal(t *testing.T) {
	h := newGatehouse(t)
	g := h.gate()
	c := serveAfter(newCall("GET", "/"), func(r *http.Request) {
		caddyhttp.SetVar(r.Context(), PrincipalVar, "tok_operator")
	}, nil, g)
	require.Equal(t, 401, c.Code)
}

func TestTheUpstreamDoesNotSpeakForTheGate(t *testing.T) {
	h := newGatehouse(t)
	good := h.issue()
	echo := func(w http.ResponseWriter, r *http.Request) error {
		for key, values := range identityOf(r.Header) {
			w.Header()[key] = values
		}
		w.Header()["sallyport_scheduled"] = []string{"delete"}
		w.Header().Set("Trailer", "X-Sum, Sallyport-Role")
		w.Header().Set("X-Other", "1")
		if f, ok := w.(http.Flusher); ok {
			f.Flush() // before any WriteHeader
		}
		_, err := w.Write([]byte("body"))
		w.Header().Set("X-Sum", "2")
		w.Header().Set(http.TrailerPrefix+"Sallyport-Token-Id", "tok_1")
		return err
	}
	c := serveTo(newCall("GET", "/", "Authorization", bearer(good.Secret)), echo, h.gate())
	require.Empty(t, identityOf(c.Result().Header), "B8")
	require.NotContains(t, c.Result().Header, "sallyport_scheduled")
	require.Equal(t, "1", c.Result().Header.Get("X-Other"))
	require.Empty(t, identityOf(c.Result().Trailer))
	require.NotContains(t, c.Header(), http.TrailerPrefix+"Sallyport-Token-Id")
	require.Equal(t, "body", c.Body.String())
}

func TestAPanicLetsNothingPass(t *testing.T) {
	h := newGatehouse(t)
	good := h.issue()
	g := h.gate()
	g.routes, g.scopes = nil, nil // prepare will trip over this
	c := serve(newCall("GET", "/", "Authorization", bearer(good.Secret)), g)
	var failed caddyhttp.HandlerError
	require.ErrorAs(t, c.err, &failed, "F46")
	require.Equal(t, 500, failed.StatusCode)
	require.Nil(t, c.upstream)
	require.NotContains(t, c.err.Error(), good.Secret.Reveal())

	require.NotContains(t, panicError("sp_live_secret").Error(), "sp_live_secret")

	// One of the handlers behind is not ours to catch.
	require.PanicsWithValue(t, http.ErrAbortHandler, func() {
		serveTo(newCall("GET", "/", "Authorization", bearer(good.Secret)), func(http.ResponseWriter, *http.Request) error {
			panic(http.ErrAbortHandler)
		}, h.gate())
	})
	require.Empty(t, h.app.runtime.streams.snapshot(nil), "and leaves nothing registered")
}

func TestTheFirstUseOfARetriableSecretIsWrittenDown(t *testing.T) {
	h := newGatehouse(t)
	by := keeper
	by.Retry = authority.Retry{Key: "k", Route: "create", BodyHash: [32]byte{1}}
	create := func() (authority.Issued, error) {
		return h.CreateToken(t.Context(), by, authority.NewToken{Name: "n", AccountID: h.account.ID, Access: token.ReadOnly})
	}
	issued, err := create()
	require.NoError(t, err)
	g := h.gate()

	// The store cannot take it down: then the secret is not used.
	record, err := h.app.runtime.open.Load().store.Resolve(t.Context(), issued.Secret.Digest(), netip.Addr{})
	require.NoError(t, err)
	require.True(t, record.Secret.FirstUsed.IsZero())
	h.inner.down.Store(true)
	c := serve(newCall("GET", "/", "Authorization", bearer(issued.Secret)), g)
	require.Equal(t, 503, c.Code)
	require.Nil(t, c.upstream)
	h.inner.down.Store(false)

	writes := h.inner.writes.Load()
	require.Equal(t, 200, serve(newCall("GET", "/", "Authorization", bearer(issued.Secret)), g).Code)
	require.Equal(t, writes+1, h.inner.writes.Load())
	require.Equal(t, 200, serve(newCall("GET", "/", "Authorization", bearer(issued.Secret)), g).Code)
	require.Equal(t, writes+1, h.inner.writes.Load(), "once is enough")

	_, err = create()
	require.Error(t, err, "a retry can replace it no more")
}

func TestFirstUsesAreBounded(t *testing.T) {
	var f firstUses
	now := time.Now()
	for i := range 3 * maxFirstUses {
		s := token.SecretRecord{ID: token.ID(fmt.Sprint(i)), RetryUntil: now.Add(time.Hour)}
		require.True(t, f.pending(&s, now))
		f.done(&s)
		require.False(t, f.pending(&s, now))
		require.LessOrEqual(t, len(f.seen), maxFirstUses)
	}
	require.False(t, f.pending(&token.SecretRecord{ID: "x", RetryUntil: now}, now), "its time is over")
	require.False(t, f.pending(&token.SecretRecord{ID: "x", RetryUntil: now.Add(1), FirstUsed: now}, now), "the store knows")
}

func TestAPrivatePeerIsToldAboutOnce(t *testing.T) {
	h := newGatehouse(t)
	good := h.issue()
	g := h.gate()
	logs := logged(g)
	g.watchPeer.Store(true)
	for _, remote := range []string{"192.0.2.1:1", "127.0.0.1:1", "10.0.0.1:1", "10.0.0.2:1", "[fd00::1]:1"} {
		r := newCall("GET", "/", "Authorization", bearer(good.Secret))
		r.RemoteAddr = remote
		require.Equal(t, 200, serve(r, g).Code)
	}
	require.Equal(t, 1, logs.Len(), "A2")
	require.Contains(t, logs.All()[0].Message, "trusted_proxies")
}

func TestScopesAreThoseThatTokenAndRoleShare(t *testing.T) {
	known := map[string]token.Scope{
		"read": token.ReadScope, "write": token.WriteScope,
		"a:read": {Name: "a:read", Nature: token.Read}, "a:write": {Name: "a:write", Nature: token.Write},
	}
	l := newScopeLists([]token.Scope{known["a:read"], known["a:write"]}, func(name string) (token.Scope, bool) {
		s, ok := known[name]
		return s, ok
	})
	grant := func(a token.Access, scopes ...string) *token.Grant { return &token.Grant{Access: a, Scopes: scopes} }
	for name, c := range map[string]struct {
		token, role *token.Grant
		access      token.Access
		scopes      string
	}{
		"reading":                   {grant(token.ReadOnly), nil, token.ReadOnly, "read a:read"},
		"everything":                {grant(token.ReadWrite), nil, token.ReadWrite, "read write a:read a:write"},
		"what is listed":            {grant(token.Custom, "a:read", "write"), nil, token.Custom, "a:read write"},
		"everything under a reader": {grant(token.ReadWrite), grant(token.ReadOnly), token.ReadOnly, "read a:read"},
		"reading under a writer":    {grant(token.ReadOnly), grant(token.ReadWrite), token.ReadOnly, "read a:read"},
		"listed under a reader":     {grant(token.Custom, "a:read", "a:write"), grant(token.ReadOnly), token.Custom, "a:read"},
		"listed under a list":       {grant(token.Custom, "a:read", "a:write"), grant(token.Custom, "a:write", "write"), token.Custom, "a:write"},
		"everything under a list":   {grant(token.ReadWrite), grant(token.Custom, "a:write"), token.Custom, "a:write"},
		"reading under a list":      {grant(token.ReadOnly), grant(token.Custom, "a:read", "a:write"), token.Custom, "a:read"},
		"nothing in common":         {grant(token.Custom, "a:read"), grant(token.Custom, "a:write"), token.Custom, ""},
		"no longer declared":        {grant(token.Custom, "gone"), grant(token.ReadOnly), token.Custom, ""},
	} {
		t.Run(name, func(t *testing.T) {
			access, scopes, count := l.effective(c.token, c.role)
			require.Equal(t, c.access, access)
			require.Equal(t, c.scopes, scopes)
			require.Len(t, strings.Fields(scopes), count)
		})
	}
}

func TestANameCannotBreakAHeader(t *testing.T) {
	for name, want := range map[string]string{
		"": "", "sales": "sales", "50%": "50%", "a,b": "a%2Cb", "R&D north": "R&D%20north", "Köln": "K%C3%B6ln", "a\r\nB: c": "a%0D%0AB:%20c", "\x7f": "%7F",
	} {
		require.Equal(t, want, headerText(name))
	}
}

func TestLongScopeListsAreCounted(t *testing.T) {
	h := newGatehouse(t)
	good := h.issue(readWrite)
	g := h.gate()
	g.scopes.all = strings.Repeat("x", maxIdentityBytes+1)
	g.scopes.count = 42
	c := serve(newCall("GET", "/", "Authorization", bearer(good.Secret)), g)
	require.NotContains(t, c.upstream.Header, "Sallyport-Scopes")
	require.Equal(t, "42", c.upstream.Header.Get("Sallyport-Scopes-Count"))
}

// plainWriter is a response without net/http's manners: it keeps what headers
// each status was written with.
type plainWriter struct {
	h       http.Header
	written map[int]http.Header
	body    strings.Builder
	readers int
}

func (w *plainWriter) Header() http.Header         { return w.h }
func (w *plainWriter) Write(p []byte) (int, error) { return w.body.Write(p) }
func (w *plainWriter) WriteHeader(status int)      { w.written[status] = w.h.Clone() }

func (w *plainWriter) ReadFrom(r io.Reader) (int64, error) {
	w.readers++
	return io.Copy(&w.body, r)
}

func TestTheWriterKeepsItsGuardInEveryWayOfWriting(t *testing.T) {
	h := newGatehouse(t)
	g := h.gate()
	begin := func() (*plainWriter, *responseWriter) {
		inner := &plainWriter{h: http.Header{}, written: map[int]http.Header{}}
		w := &responseWriter{gate: g, request: newCall("GET", "/"), stream: new(stream)}
		w.ResponseWriter = inner
		return inner, w
	}

	inner, w := begin()
	w.Header().Set("Sallyport-Role", "owner")
	w.Header().Set("Link", "</style.css>")
	w.WriteHeader(http.StatusEarlyHints)
	w.Header().Set("Sallyport-Access", "read_write")
	n, err := w.ReadFrom(strings.NewReader("body"))
	require.NoError(t, err)
	require.EqualValues(t, 4, n)
	require.Equal(t, http.Header{"Link": {"</style.css>"}}, inner.written[http.StatusEarlyHints], "B8: informational responses too")
	require.Equal(t, http.Header{"Link": {"</style.css>"}}, inner.written[http.StatusOK])
	require.Equal(t, 1, inner.readers, "the kernel may copy")
	require.Equal(t, "body", inner.body.String())

	inner, w = begin()
	w.stream.ended.Store(refuse(problemRevokedToken))
	n, err = w.ReadFrom(strings.NewReader("private"))
	require.NoError(t, err)
	require.EqualValues(t, 7, n)
	w.WriteHeader(http.StatusTeapot)
	require.Contains(t, inner.written, http.StatusUnauthorized)
	require.NotContains(t, inner.written, http.StatusTeapot)
	require.NotContains(t, inner.body.String(), "private")
}

func TestDisabledOwnersStopTheirTokens(t *testing.T) {
	h := newGatehouse(t)
	user, err := h.CreateUser(t.Context(), keeper, authority.NewUser{AccountID: h.account.ID, Name: "Ada", Email: "ada@example.com", Role: "member"})
	require.NoError(t, err)
	issued := h.issue(func(n *authority.NewToken) { n.UserID = user.ID })
	g := h.gate()
	code := func() string { return serve(newCall("GET", "/", "Authorization", bearer(issued.Secret)), g).code(t) }
	require.Empty(t, code())
	yes := true
	_, err = h.EditUser(t.Context(), keeper, user.ID, user.Version, authority.EditUser{Disabled: &yes})
	require.NoError(t, err)
	until(t, "the user is disabled", func() bool { return code() == "user_disabled" })
	_, err = h.EditAccount(t.Context(), keeper, h.account.ID, h.account.Version, authority.EditAccount{Disabled: &yes})
	require.NoError(t, err)
	until(t, "the account is disabled", func() bool { return code() == "account_disabled" })
}
