package caddymodule_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/token"
)

// wire is a gate on a real listener in front of a real upstream.
type wire struct {
	*inProcess
	to  string // the upstream
	log string // the lines of the site's `log`
}

// newWire runs a gate whose block and whose server options are given, and the
// lines of the site's log, in which $DIR is the test's folder.
func newWire(t *testing.T, upstream, gate, servers string, log ...string) *wire {
	t.Helper()
	w := &wire{inProcess: newInProcess(t), to: upstream}
	w.log = strings.ReplaceAll(strings.Join(log, "\n"), "$DIR", w.dir)
	require.NoError(t, w.loadGate(gate, servers))
	return w
}

func (w *wire) loadGate(gate, servers string) error {
	return caddy.Load(w.adapt(fmt.Sprintf(`{
	admin %s
	persist_config off
	auto_https off
	grace_period 1s
	storage file_system %s
	log {
		output file %s
	}
	servers {
		%s
	}
	sallyport {
		store sqlite %s
		scopes {
			payments:read read
			payments:write
		}
		policy default {
			require_ip_allowlist never
		}
	}
}
http://:%s {
	bind 127.0.0.1
	log {
		%s
	}
	sallyport {
		%s
	}
	reverse_proxy {
		to %s
	}
	handle_errors {
		respond "error route saw [{http.request.header.Authorization}] [{http.request.header.X-Api-Key}] [{http.request.orig_uri}] [{http.request.uri}]"
	}
}
`, w.admin, filepath.Join(w.dir, "caddy"), filepath.Join(w.dir, "log"), servers, filepath.Join(w.dir, "sallyport.db"), port(w.gate), w.log, gate, w.to)), true)
}

func (w *wire) token(access token.Access) api.Issued {
	w.t.Helper()
	account, err := w.client.CreateAccount(w.t.Context(), api.NewAccount{Name: "Example Ltd"})
	require.NoError(w.t, err)
	issued, err := w.client.CreateToken(w.t.Context(), "", api.NewToken{Name: "reports", AccountID: account.ID, Access: access})
	require.NoError(w.t, err)
	return issued
}

// send writes a request byte for byte and reads what comes back.
func (w *wire) send(raw string) (status int, body string) {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.gate)
	require.NoError(w.t, err)
	defer conn.Close()
	require.NoError(w.t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(conn, raw)
	require.NoError(w.t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(w.t, err)
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

// recorder is an upstream that keeps the bytes of every request.
type recorder struct {
	net.Listener
	mu    sync.Mutex
	got   []recorded
	conns []net.Conn
}

type recorded struct {
	raw  string
	r    *http.Request
	body string
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	u := &recorder{Listener: listener}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { u.serve(conn) })
		}
	})
	t.Cleanup(func() {
		u.Close()
		serving.Wait()
	})
	return u
}

// Close also closes the connections that wait for more.
func (u *recorder) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, conn := range u.conns {
		conn.Close()
	}
	return u.Listener.Close()
}

func (u *recorder) serve(conn net.Conn) {
	defer conn.Close()
	u.mu.Lock()
	u.conns = append(u.conns, conn)
	u.mu.Unlock()
	var raw bytes.Buffer
	in := bufio.NewReader(io.TeeReader(conn, &raw))
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		u.mu.Lock()
		u.got = append(u.got, recorded{raw.String(), r, string(body)})
		u.mu.Unlock()
		raw.Reset()
		if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSallyport-Token-Id: echoed\r\n\r\nok"); err != nil {
			return
		}
	}
}

// take gives the requests since the last time.
func (u *recorder) take() []recorded {
	u.mu.Lock()
	defer u.mu.Unlock()
	got := u.got
	u.got = nil
	return got
}

func TestWhatArrivesUpstreamIsWhatWasJudged(t *testing.T) {
	upstream := newRecorder(t)
	w := newWire(t, upstream.Addr().String(), "credential_header X-Api-Key", "")
	issued := w.token(token.ReadWrite)
	secret := issued.Secret.Reveal()
	auth := "Authorization: Bearer " + secret + "\r\n"

	const host = "Host: api.example.com\r\n"
	for name, c := range map[string]struct {
		raw    string
		status int
		target string // as it must arrive; empty: like the one that was sent
		header http.Header
	}{
		"a plain request":           {raw: "GET /v1/payments?x=%61 HTTP/1.1\r\n" + host + auth + "\r\n", status: 200},
		"a key in its own header":   {raw: "GET /v1 HTTP/1.1\r\n" + host + "X-Api-Key: " + secret + "\r\n\r\n", status: 200},
		"P1 dot segments":           {raw: "GET /a/../b HTTP/1.1\r\n" + host + auth + "\r\n", status: 400},
		"P2 encoded dot segments":   {raw: "GET /a/%2e%2e/b HTTP/1.1\r\n" + host + auth + "\r\n", status: 400},
		"P3 an encoded slash":       {raw: "GET /a%2fb HTTP/1.1\r\n" + host + auth + "\r\n", status: 400},
		"P4 empty segments":         {raw: "GET //a//b HTTP/1.1\r\n" + host + auth + "\r\n", status: 400},
		"P5 a semicolon":            {raw: "GET /a;x=1/b HTTP/1.1\r\n" + host + auth + "\r\n", status: 400},
		"P6 a backslash":            {raw: "GET /a\\b HTTP/1.1\r\n" + host + auth + "\r\n", status: 400},
		"P6 an encoded one":         {raw: "GET /a%5cb HTTP/1.1\r\n" + host + auth + "\r\n", status: 400},
		"P7 NUL":                    {raw: "GET /a%00 HTTP/1.1\r\n" + host + auth + "\r\n", status: 400},
		"P8 case stays":             {raw: "GET /ADMIN HTTP/1.1\r\n" + host + auth + "\r\n", status: 200},
		"P9 an encoded dot":         {raw: "GET /api%2e/ HTTP/1.1\r\n" + host + auth + "\r\n", status: 200, target: "/api./"},
		"P9 unreserved characters":  {raw: "GET /%61pi?%61 HTTP/1.1\r\n" + host + auth + "\r\n", status: 200, target: "/api?%61"},
		"P10 a fragment":            {raw: "GET /admin#x HTTP/1.1\r\n" + host + auth + "\r\n", status: 400},
		"P10 an encoded one":        {raw: "GET /admin%23x HTTP/1.1\r\n" + host + auth + "\r\n", status: 200},
		"P12 other targets":         {raw: "GET /a HTTP/1.1\r\n" + host + auth + "X-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\nX-Forwarded-Uri: /admin\r\n\r\n", status: 200},
		"P13 the absolute form":     {raw: "GET http://other.test/a HTTP/1.1\r\n" + host + auth + "\r\n", status: 400},
		"P15 no host":               {raw: "GET /a HTTP/1.1\r\n" + auth + "\r\n", status: 400},
		"P15 no host in HTTP/1.0":   {raw: "GET /a HTTP/1.0\r\n" + auth + "\r\n", status: 400},
		"P15 two hosts":             {raw: "GET /a HTTP/1.1\r\n" + host + "Host: other.test\r\n" + auth + "\r\n", status: 400},
		"M1 other methods":          {raw: "POST /a HTTP/1.1\r\n" + host + auth + "X-HTTP-Method-Override: DELETE\r\nX-Method-Override: DELETE\r\nX-HTTP-Method: DELETE\r\nContent-Length: 0\r\n\r\n", status: 200},
		"M4 TRACE":                  {raw: "TRACE /a HTTP/1.1\r\n" + host + auth + "\r\n", status: 405},
		"M4 CONNECT":                {raw: "CONNECT api.example.com:443 HTTP/1.1\r\n" + host + auth + "\r\n", status: 405},
		"M4 a method in lower case": {raw: "get /a HTTP/1.1\r\n" + host + auth + "\r\n", status: 405},
		"M4 nobody's method":        {raw: "FOO /a HTTP/1.1\r\n" + host + auth + "\r\n", status: 405},
		"M5 GET with a body":        {raw: "GET /a HTTP/1.1\r\n" + host + auth + "Content-Length: 2\r\n\r\nab", status: 200},
		"A5 other addresses":        {raw: "GET /a HTTP/1.1\r\n" + host + auth + "X-Real-IP: 10.0.0.1\r\nTrue-Client-IP: 10.0.0.1\r\nCF-Connecting-IP: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n", status: 200},
		"B1 identity":               {raw: "GET /a HTTP/1.1\r\n" + host + auth + "Sallyport-Token-Id: forged\r\nSallyport-Role: forged\r\nSallyport-Whatever: forged\r\n\r\n", status: 200},
		"B2 Connection":             {raw: "GET /a HTTP/1.1\r\n" + host + auth + "Connection: Sallyport-Token-Id, Sallyport-Scopes, keep-alive, X-Forwarded-For\r\n\r\n", status: 200},
		"B4 case and repetition":    {raw: "GET /a HTTP/1.1\r\n" + host + auth + "sallyport-token-id: forged\r\nSALLYPORT-TOKEN-ID: forged\r\nSallyport-token-Id: forged\r\n\r\n", status: 200},
		"B5 trailers, announced": {raw: "POST /a HTTP/1.1\r\n" + host + auth + "Transfer-Encoding: chunked\r\nTrailer: Sallyport-Token-Id, X-Sum, Authorization\r\n\r\n2\r\nab\r\n0\r\n" +
			"Sallyport-Token-Id: forged\r\nAuthorization: Bearer " + secret + "\r\nX-Sum: 1\r\n\r\n", status: 200},
		"B5 trailers, unannounced": {raw: "POST /a HTTP/1.1\r\n" + host + auth + "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nab\r\n0\r\n" +
			"sallyport_token_id: forged\r\nSallyport-Role: forged\r\nHost: forged\r\nX-Sum: 1\r\nX-Original-Url: forged\r\n\r\n", status: 200},
		"B6 two credentials":     {raw: "GET /a HTTP/1.1\r\n" + host + auth + "X-Api-Key: " + secret + "\r\n\r\n", status: 400},
		"B6 for another proxy":   {raw: "GET /a HTTP/1.1\r\n" + host + auth + "Proxy-Authorization: Bearer " + secret + "\r\n\r\n", status: 200},
		"C1 two Authorization":   {raw: "GET /a HTTP/1.1\r\n" + host + auth + auth + "\r\n", status: 400},
		"S1 two framings":        {raw: "POST /a HTTP/1.1\r\n" + host + auth + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", status: 200},
		"S2 two lengths":         {raw: "POST /a HTTP/1.1\r\n" + host + auth + "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", status: 400},
		"S2 another coding":      {raw: "POST /a HTTP/1.1\r\n" + host + auth + "Transfer-Encoding: xchunked\r\n\r\n", status: 501},
		"S2 space before colon":  {raw: "GET /a HTTP/1.1\r\n" + host + auth + "Sallyport-Token-Id : forged\r\n\r\n", status: 400},
		"S2 NUL in a value":      {raw: "GET /a HTTP/1.1\r\n" + host + auth + "X-A: a\x00b\r\n\r\n", status: 400},
		"S3 a folded line":       {raw: "GET /a HTTP/1.1\r\n" + host + auth + "X-A: a\r\n Sallyport-Token-Id: forged\r\n\r\n", status: 200},
		"S3 bare line feeds":     {raw: "GET /a HTTP/1.1\n" + "Host: h\n" + strings.TrimSuffix(auth, "\r\n") + "\nSallyport-Token-Id: forged\n\n", status: 200},
		"S4 an upgrade to h2c":   {raw: "GET /a HTTP/1.1\r\n" + host + auth + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n", status: 400},
		"S4 one not asked for":   {raw: "GET /a HTTP/1.1\r\n" + host + auth + "Upgrade: h2c\r\n\r\n", status: 200},
		"no credential":          {raw: "GET /a HTTP/1.1\r\n" + host + "\r\n", status: 401},
		"C4 one in the query":    {raw: "GET /a?access_token=" + secret + " HTTP/1.1\r\n" + host + "\r\n", status: 401},
		"M3 a preflight":         {raw: "OPTIONS /a HTTP/1.1\r\n" + host + "Origin: https://app.test\r\nAccess-Control-Request-Method: GET\r\n\r\n", status: 401},
		"a broken escape":        {raw: "GET /a%zz HTTP/1.1\r\n" + host + auth + "\r\n", status: 400},
		"a pipelined one behind": {raw: "GET /a HTTP/1.1\r\n" + host + auth + "\r\nGET /b HTTP/1.1\r\n" + host + "Sallyport-Token-Id: forged\r\n\r\n", status: 200},
	} {
		t.Run(name, func(t *testing.T) {
			upstream.take()
			status, body := w.send(c.raw)
			require.Equal(t, c.status, status, body)
			require.NotContains(t, body, secret)
			got := upstream.take()
			if c.status != 200 {
				require.Empty(t, got)
				return
			}
			require.Len(t, got, 1)
			line, _, _ := strings.Cut(c.raw, "\n")
			target := c.target
			if target == "" {
				target = strings.Fields(line)[1]
			}
			require.Equal(t, strings.Fields(line)[0]+" "+target+" HTTP/1.1\r\n", got[0].raw[:strings.Index(got[0].raw, "\n")+1], "byte for byte")
			requireNothingForged(t, got[0], issued)
		})
	}
}

func TestSpellingsThatCaddyIsToldToExpectBringNothing(t *testing.T) {
	upstream := newRecorder(t)
	w := newWire(t, upstream.Addr().String(), "credential_header X-Api-Key",
		"expected_underscore_headers sallyport_* x_api_key x_real_ip x_original_url\nexpected_dot_headers sallyport.token.id authorization.")
	issued := w.token(token.ReadWrite)
	status, body := w.send("GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + issued.Secret.Reveal() + "\r\nsallyport_token_id: forged\r\n" +
		"SALLYPORT_ROLE: forged\r\nsallyport.token.id: forged\r\nx_api_key: forged\r\nx_real_ip: 10.0.0.1\r\nX_Original_URL: /forged\r\nConnection: sallyport_access\r\n\r\n")
	require.Equal(t, 200, status, body)
	got := upstream.take()
	require.Len(t, got, 1)
	requireNothingForged(t, got[0], issued) // B3
}

// requireNothingForged looks at all that arrived, down to the bytes.
func requireNothingForged(t *testing.T, got recorded, issued api.Issued) {
	t.Helper()
	require.NotContains(t, got.raw, issued.Secret.Reveal())
	// A folded value may name anything; it stays a value.
	require.NotContains(t, strings.ReplaceAll(got.raw, "X-A: a Sallyport-Token-Id: forged", ""), "forged")
	require.NotContains(t, got.raw, "10.0.0.1")
	for key, values := range got.r.Header {
		lower := strings.ToLower(key)
		if strings.HasPrefix(lower, "sallyport") {
			require.Contains(t, []string{"Sallyport-Token-Id", "Sallyport-Account-Id", "Sallyport-Access", "Sallyport-Scopes", "Sallyport-Environment"}, key)
			require.Len(t, values, 1)
		}
		require.NotContains(t, []string{
			"authorization", "x-api-key", "proxy-authorization", "x-http-method-override", "x-method-override", "x-http-method",
			"x-original-url", "x-rewrite-url", "x-forwarded-uri", "x-real-ip", "forwarded", "true-client-ip", "cf-connecting-ip", "upgrade",
		}, lower)
	}
	require.Equal(t, string(issued.Token.ID), got.r.Header.Get("Sallyport-Token-Id"))
	require.LessOrEqual(t, len(got.r.TransferEncoding)+len(got.r.Header["Content-Length"]), 1, "S1: one framing")
	for key := range got.r.Trailer {
		require.Equal(t, "X-Sum", key)
	}
}

func TestARelaxedPathArrivesAsItStands(t *testing.T) {
	upstream := newRecorder(t)
	w := newWire(t, upstream.Addr().String(), "allow encoded_slash double_slash\nallow semicolon\nrequire payments:write /files/{name}", "")
	secret := w.token(token.ReadOnly).Secret.Reveal()
	for target, want := range map[string]int{
		"/a%2fb": 200, "/a%2Fb": 200, "//a//b": 200, "/a;x=1/b": 200, "/a%3bx": 200, "/a%2f%61": 200,
		"/files/a%2Fb": 403, "/files/a": 403, "/files/a/b": 200, // an encoded slash does not make two segments
		"/a/..%2fb": 400, "/..;/b": 400, "/a%252fb": 400,
	} {
		status, body := w.send("GET " + target + " HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + secret + "\r\n\r\n")
		require.Equal(t, want, status, "%s: %s", target, body)
		got := upstream.take()
		if want != 200 {
			require.Empty(t, got)
			continue
		}
		require.Len(t, got, 1)
		require.Equal(t, strings.Replace(target, "%61", "a", 1), got[0].r.RequestURI)
	}
}

func TestErrorRoutesSeeNoCredential(t *testing.T) {
	upstream := newRecorder(t)
	w := newWire(t, upstream.Addr().String(), "credential_header X-Api-Key\ncredential_query key\nforward_credential", "")
	secret := w.token(token.ReadOnly).Secret.Reveal()
	status, _ := w.send("GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + secret + "\r\n\r\n")
	require.Equal(t, 200, status)
	require.Contains(t, upstream.take()[0].raw, secret, "the upstream does, when told so")

	upstream.Close()
	for _, raw := range []string{
		"GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + secret + "\r\nConnection: close\r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + secret + "\r\nConnection: close\r\n\r\n",
		"GET /a?b=c&key=" + secret + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
	} {
		var body string
		eventually(t, "the upstream is gone", func() bool {
			status, body = w.send(raw)
			return status == 502
		})
		require.Contains(t, body, "error route saw [] []")
		require.NotContains(t, body, secret)
	}
	// A refusal is the gate's own answer, and no error route's.
	_, body := w.send("GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer x\r\n\r\n")
	require.Contains(t, body, "malformed_token")
	require.NotContains(t, body, "error route")
}

// The filter is the one in docs/caddyfile.md.
func TestAccessLogsHideCredentialsInOtherPlacesWithTheFilter(t *testing.T) {
	text, err := os.ReadFile("../docs/caddyfile.md")
	require.NoError(t, err)
	_, filter, found := strings.Cut(string(text), "```caddyfile\nlog {\n")
	require.True(t, found)
	filter, _, _ = strings.Cut(filter, "\n}\n```")

	upstream := newRecorder(t)
	w := newWire(t, upstream.Addr().String(), "credential_header X-Api-Key\ncredential_query key", "", "output file $DIR/access.log", filter)
	secret := w.token(token.ReadOnly).Secret.Reveal()
	for _, raw := range []string{
		"GET /a?b=c&key=" + secret + " HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + secret + "\r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + secret + "\r\n\r\n",
	} {
		status, body := w.send(raw)
		require.Equal(t, 200, status, body)
	}
	status, _ := w.send("GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer x\r\n\r\n")
	require.Equal(t, 401, status)
	var lines string
	eventually(t, "the log is written", func() bool {
		content, err := os.ReadFile(filepath.Join(w.dir, "access.log"))
		lines = string(content)
		return err == nil && strings.Count(lines, "handled request") == 4
	})
	require.NotContains(t, lines, secret, "C4, C19")
	require.Contains(t, lines, `"user_id":"tok_`)
	require.Contains(t, lines, `"sallyport_refused":"malformed_token"`)
	require.Contains(t, lines, `"status":401`)
}

func TestTrustedProxiesSayWhereARequestCameFrom(t *testing.T) {
	upstream := newRecorder(t)
	w := newWire(t, upstream.Addr().String(), "", "trusted_proxies static 127.0.0.0/8\ntrusted_proxies_strict")
	account, err := w.client.CreateAccount(t.Context(), api.NewAccount{Name: "Example Ltd"})
	require.NoError(t, err)
	issued, err := w.client.CreateToken(t.Context(), "", api.NewToken{
		Name: "reports", AccountID: account.ID, Access: token.ReadOnly, IPAllowlist: []string{"192.0.2.0/24"},
	})
	require.NoError(t, err)
	for header, want := range map[string]int{
		"":                               403,
		"X-Forwarded-For: 192.0.2.1\r\n": 200,
		"X-Forwarded-For: 192.0.2.1, 198.51.100.1\r\n":                    403, // A3: the left-most one is the client's own word
		"X-Forwarded-For: 198.51.100.1, 192.0.2.1\r\n":                    200,
		"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 198.51.100.1\r\n": 403, // A4
		"X-Forwarded-For: unknown\r\n":                                    403, // A4
		"X-Forwarded-For: ::ffff:192.0.2.1\r\n":                           200, // A7
		"X-Forwarded-For: [2001:db8::1]:443\r\n":                          403,
		"X-Real-IP: 192.0.2.1\r\n":                                        403,
	} {
		status, body := w.send("GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + issued.Secret.Reveal() + "\r\n" + header + "\r\n")
		require.Equal(t, want, status, "%q: %s", header, body)
	}
	upstream.take()
	status, _ := w.send("GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + issued.Secret.Reveal() + "\r\nX-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\n\r\n")
	require.Equal(t, 200, status)
	require.Equal(t, "192.0.2.1", upstream.take()[0].r.Header.Get("X-Real-Ip"), "A5: the operator's own proxy may say so")
}

// flooding counts the answers under way that nobody can read to the end.
var flooding atomic.Int32

func ignoreReset(err error) error {
	if errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

// streaming is an upstream whose answers last.
func streaming(t *testing.T) string {
	t.Helper()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		switch r.URL.Path {
		case "/ws":
			conn, err := websocket.Accept(w, r, nil)
			if err != nil {
				return
			}
			defer conn.CloseNow()
			for {
				kind, message, err := conn.Read(r.Context())
				if err != nil {
					return
				}
				if conn.Write(r.Context(), kind, message) != nil {
					return
				}
			}
		case "/slow": // no answer at all, until the request ends
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		case "/flood":
			flooding.Add(1)
			defer flooding.Add(-1)
			for page := make([]byte, 1<<16); ; {
				if _, err := w.Write(page); err != nil {
					return
				}
			}
		case "/pkg.Service/Echo":
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Trailer", "Grpc-Status")
			_ = rc.Flush()
			buf := make([]byte, 64)
			for {
				n, err := r.Body.Read(buf)
				if _, failed := w.Write(buf[:n]); failed != nil || err != nil {
					break
				}
				_ = rc.Flush()
			}
			w.Header().Set("Grpc-Status", "0")
		default:
			w.Header().Set("Content-Type", "text/event-stream")
			for {
				if _, err := io.WriteString(w, "data: tick\n\n"); err != nil {
					return
				}
				_ = rc.Flush()
				select {
				case <-r.Context().Done():
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
		}
	})
	server := httptest.NewUnstartedServer(handler)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.CloseClientConnections)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func (w *wire) revoke(issued api.Issued) {
	w.t.Helper()
	eventually(w.t, "the admin endpoint answers, which a reload may have kept from it", func() bool {
		_, err := w.client.RevokeToken(w.t.Context(), issued.Token.ID, true)
		return err == nil
	})
}

func TestRevocationCutsStreams(t *testing.T) {
	w := newWire(t, streaming(t), "", "protocols h1 h2c")
	get := func(t *testing.T, path, secret string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+w.gate+path, nil)
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+secret)
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	open := func(t *testing.T, secret string) (*websocket.Conn, *http.Response, error) {
		t.Helper()
		return websocket.Dial(t.Context(), "ws://"+w.gate+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + secret}}})
	}

	t.Run("SSE", func(t *testing.T) {
		issued := w.token(token.ReadOnly)
		resp := get(t, "/events", issued.Secret.Reveal())
		require.Equal(t, 200, resp.StatusCode)
		line := make([]byte, 12)
		_, err := io.ReadFull(resp.Body, line)
		require.NoError(t, err)
		w.revoke(issued)
		_, err = io.Copy(io.Discard, resp.Body)
		require.Error(t, err, "I11, C12: cut, and not ended as if it were whole")
	})

	t.Run("WebSocket", func(t *testing.T) {
		_, resp, err := open(t, w.token(token.ReadOnly).Secret.Reveal())
		require.Error(t, err)
		require.Equal(t, 403, resp.StatusCode, "S5: it needs write")

		issued := w.token(token.ReadWrite)
		conn, _, err := open(t, issued.Secret.Reveal())
		require.NoError(t, err)
		defer conn.CloseNow()
		require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte("hello")))
		_, message, err := conn.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, "hello", string(message))
		w.revoke(issued)
		_, _, err = conn.Read(t.Context())
		require.Error(t, err, "I11, C12")
	})

	t.Run("a request without an answer yet", func(t *testing.T) {
		issued := w.token(token.ReadOnly)
		answer := make(chan *http.Response, 1)
		go func() {
			r, _ := http.NewRequest("GET", "http://"+w.gate+"/slow", nil)
			r.Header.Set("Authorization", "Bearer "+issued.Secret.Reveal())
			resp, _ := http.DefaultClient.Do(r)
			answer <- resp
		}()
		time.Sleep(50 * time.Millisecond) // before or after it is forwarded: it must end either way
		w.revoke(issued)
		select {
		case resp := <-answer:
			require.NotNil(t, resp)
			defer resp.Body.Close()
			require.Equal(t, 401, resp.StatusCode)
			body, _ := io.ReadAll(resp.Body)
			require.Contains(t, string(body), "revoked_token")
		case <-time.After(patience):
			t.Fatal("the request goes on")
		}
	})

	t.Run("an upload that has stopped", func(t *testing.T) {
		issued := w.token(token.ReadWrite)
		conn, err := net.Dial("tcp", w.gate)
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		_, err = io.WriteString(conn, "POST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\nAuthorization: Bearer "+issued.Secret.Reveal()+"\r\n\r\nhalf")
		require.NoError(t, err)
		time.Sleep(50 * time.Millisecond)
		w.revoke(issued)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, 401, resp.StatusCode)
	})

	t.Run("a client that does not read", func(t *testing.T) {
		issued := w.token(token.ReadOnly)
		conn, err := net.Dial("tcp", w.gate)
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		_, err = io.WriteString(conn, "GET /flood HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer "+issued.Secret.Reveal()+"\r\n\r\n")
		require.NoError(t, err)
		time.Sleep(200 * time.Millisecond) // until the buffers between us are full
		w.revoke(issued)
		eventually(t, "the upstream is left alone", func() bool { return flooding.Load() == 0 })
		_, err = io.Copy(io.Discard, conn)
		require.NoError(t, ignoreReset(err), "what was in the buffers, and then the end")
	})

	t.Run("a stream that was opened before a reload", func(t *testing.T) {
		issued := w.token(token.ReadWrite)
		conn, _, err := open(t, issued.Secret.Reveal())
		require.NoError(t, err)
		defer conn.CloseNow()
		resp := get(t, "/events", issued.Secret.Reveal())
		require.Equal(t, 200, resp.StatusCode)
		require.NoError(t, w.loadGate("realm other", "protocols h1 h2c"))
		w.revoke(issued)
		_, err = io.Copy(io.Discard, resp.Body)
		require.Error(t, err)
		_, _, err = conn.Read(t.Context())
		require.Error(t, err)
	})
}

// h2cClient speaks HTTP/2 without TLS, as gRPC clients can.
func h2cClient(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestGRPCStreamsAreGuarded(t *testing.T) {
	w := newWire(t, "h2c://"+streaming(t), "", "protocols h1 h2c")
	client := h2cClient(t)
	call := func(secret string, body io.Reader) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+w.gate+"/pkg.Service/Echo", body)
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/grpc+proto")
		r.Header.Set("Te", "trailers")
		if secret != "" {
			r.Header.Set("Authorization", "Bearer "+secret)
		}
		resp, err := client.Do(r)
		require.NoError(t, err)
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	refused := call("", nil)
	require.Equal(t, 200, refused.StatusCode, "C18")
	require.Equal(t, "16", refused.Header.Get("Grpc-Status"))
	require.Equal(t, "application/grpc", refused.Header.Get("Content-Type"))
	require.NotEmpty(t, refused.Header.Get("WWW-Authenticate"))
	require.Equal(t, "7", call(w.token(token.ReadOnly).Secret.Reveal(), nil).Header.Get("Grpc-Status"), "a call needs write")

	issued := w.token(token.ReadWrite)
	done := call(issued.Secret.Reveal(), strings.NewReader("hello"))
	body, err := io.ReadAll(done.Body)
	require.NoError(t, err)
	require.Equal(t, "hello", string(body))
	require.Equal(t, "0", done.Trailer.Get("Grpc-Status"))

	out, in := io.Pipe()
	defer in.Close()
	stream := call(issued.Secret.Reveal(), out)
	_, err = io.WriteString(in, "hello")
	require.NoError(t, err)
	_, err = io.ReadFull(stream.Body, make([]byte, 5))
	require.NoError(t, err)
	w.revoke(issued)
	cut := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(stream.Body)
		cut <- err
	}()
	select {
	case err := <-cut:
		require.Error(t, err, "I11, C12")
	case <-time.After(patience):
		t.Fatal("the stream goes on")
	}
}

// frames speaks HTTP/2 by hand, so that it can say what no client would.
func (w *wire) frames(fields ...hpack.HeaderField) (status string) {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.gate)
	require.NoError(w.t, err)
	defer conn.Close()
	require.NoError(w.t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(conn, http2.ClientPreface)
	require.NoError(w.t, err)
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	require.NoError(w.t, framer.WriteSettings())
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range fields {
		require.NoError(w.t, encoder.WriteField(field))
	}
	require.NoError(w.t, framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}))
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return "closed"
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			return frame.PseudoValue("status")
		case *http2.RSTStreamFrame:
			return "reset"
		case *http2.GoAwayFrame:
			return "closed"
		}
	}
}

func TestHTTP2SaysNothingThatHTTP1MayNot(t *testing.T) {
	upstream := newRecorder(t)
	w := newWire(t, upstream.Addr().String(), "", "protocols h1 h2c")
	issued := w.token(token.ReadWrite)
	auth := hpack.HeaderField{Name: "authorization", Value: "Bearer " + issued.Secret.Reveal()}
	pseudo := func(method, authority, path string, more ...hpack.HeaderField) []hpack.HeaderField {
		return append([]hpack.HeaderField{
			{Name: ":method", Value: method}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: authority}, {Name: ":path", Value: path}, auth,
		}, more...)
	}
	for name, c := range map[string]struct {
		fields []hpack.HeaderField
		want   []string
	}{
		"a plain request":                       {pseudo("GET", "h", "/a?b"), []string{"200"}},
		"P14 a path without a slash":            {pseudo("GET", "h", "a"), []string{"400", "reset"}},
		"P14 an asterisk":                       {pseudo("GET", "h", "*"), []string{"400", "reset"}},
		"P13 an absolute path":                  {pseudo("GET", "h", "http://other.test/a"), []string{"400", "reset"}},
		"P15 another Host":                      {pseudo("GET", "h", "/a", hpack.HeaderField{Name: "host", Value: "other.test"}), []string{"400", "reset"}},
		"P15 no authority":                      {append([]hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/a"}}, auth), []string{"400", "reset"}},
		"a space that would end the line":       {pseudo("GET", "h", "/a?b HTTP/1.1"), []string{"400", "reset"}},
		"a space in the path is encoded":        {pseudo("GET", "h", "/a b"), []string{"200"}},
		"P2 dot segments":                       {pseudo("GET", "h", "/a/%2e%2e/b"), []string{"400"}},
		"M4 CONNECT":                            {[]hpack.HeaderField{{Name: ":method", Value: "CONNECT"}, {Name: ":authority", Value: "h:1"}, auth}, []string{"405"}},
		"B1, B3 identity":                       {pseudo("GET", "h", "/a", hpack.HeaderField{Name: "sallyport-token-id", Value: "forged"}, hpack.HeaderField{Name: "sallyport_role", Value: "forged"}), []string{"200"}},
		"C1 two credentials":                    {pseudo("GET", "h", "/a", auth), []string{"400"}},
		"S4 Connection, which HTTP/2 knows not": {pseudo("GET", "h", "/a", hpack.HeaderField{Name: "connection", Value: "sallyport-token-id"}), []string{"400", "reset", "200"}},
	} {
		t.Run(name, func(t *testing.T) {
			upstream.take()
			got := w.frames(c.fields...)
			require.True(t, slices.Contains(c.want, got), "%s", got)
			arrived := upstream.take()
			if got != "200" {
				require.Empty(t, arrived)
				return
			}
			require.Len(t, arrived, 1)
			requireNothingForged(t, arrived[0], issued)
			require.NotContains(t, arrived[0].r.RequestURI, " ")
		})
	}
}
