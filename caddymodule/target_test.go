package caddymodule

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAPathIsSentAsItWasJudged(t *testing.T) {
	for name, c := range map[string]struct{ raw, scopes, sent, full string }{
		"a plain one stays":                    {"/v1/payments", "/v1/payments", "/v1/payments", "/v1/payments"},
		"the root":                             {"/", "/", "/", "/"},
		"P9 a slash at the end counts":         {"/v1/", "/v1/", "/v1/", "/v1/"},
		"P9 an encoded dot is a dot":           {"/api%2e/", "/api./", "/api./", "/api./"},
		"unreserved characters are decoded":    {"/v1/%70ayments%7E", "/v1/payments~", "/v1/payments~", "/v1/payments~"},
		"P8 case stays":                        {"/ADMIN", "/ADMIN", "/ADMIN", "/ADMIN"},
		"reserved characters stay encoded":     {"/a%3Ab%2Cc", "/a:b,c", "/a%3Ab%2Cc", "/a:b,c"},
		"and in the case they came in":         {"/a%3ab", "/a:b", "/a%3ab", "/a:b"},
		"sub-delimiters stay as they are":      {"/a!$&'()*+,=:@b", "/a!$&'()*+,=:@b", "/a!$&'()*+,=:@b", "/a!$&'()*+,=:@b"},
		"P10 an encoded # is a character":      {"/c%23", "/c#", "/c%23", "/c#"},
		"an encoded ? is a character":          {"/why%3F", "/why?", "/why%3F", "/why?"},
		"a lone percent sign":                  {"/100%25", "/100%", "/100%25", "/100%"},
		"a percent sign before other text":     {"/100%25x", "/100%x", "/100%25x", "/100%x"},
		"an encoded space":                     {"/a%20b", "/a b", "/a%20b", "/a b"},
		"UTF-8, encoded":                       {"/caf%C3%A9", "/café", "/caf%C3%A9", "/café"},
		"UTF-8, as it is":                      {"/café", "/café", "/caf%C3%A9", "/café"},
		"what cannot stand in a target":        {`/a"<>^{|}`, `/a"<>^{|}`, "/a%22%3C%3E%5E%7B%7C%7D", `/a"<>^{|}`},
		"dots that are names":                  {"/.well-known/...", "/.well-known/...", "/.well-known/...", "/.well-known/..."},
		"brackets stay, as browsers send them": {"/a[0]", "/a[0]", "/a[0]", "/a[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := judgePath(c.raw, relaxations{})
			require.True(t, ok)
			require.Equal(t, judgedPath{scopes: c.scopes, sent: c.sent, full: c.full}, got)

			again, ok := judgePath(got.sent, relaxations{})
			require.True(t, ok)
			require.Equal(t, got, again, "the canonical form is its own canonical form")
		})
	}
}

func TestAnAmbiguousPathIsRefused(t *testing.T) {
	for name, paths := range map[string][]string{
		"P1 dot segments":                {"/a/../b", "/../a", "/..", "/a/..", "/a/./b", "/.", "/a/."},
		"P2 encoded dot segments":        {"/a/%2e%2e/b", "/a/%2E./b", "/a/.%2e", "/%2e/a"},
		"P3 encoded slashes":             {"/a%2fb", "/a%2Fb", "/..%2fa", "/%2f"},
		"P4 empty segments":              {"//a/b", "/a//b", "/a//", "//", "//%61"},
		"P5 semicolons":                  {"/a;x=1/b", "/..;/", "/a%3bx", "/;"},
		"P6 backslashes":                 {`/a\b`, "/a%5cb", "/a%5Cb"},
		"P7 controls":                    {"/a%00", "/a%0ab", "/a%0D", "/a%1f", "/a%7f", "/a\x01", "/a\x7f", "/a%C2%85", "/a\u0085"},
		"P10 a raw #":                    {"/admin#x", "/#"},
		"double encoding":                {"/a/%252e%252e/b", "/a%252fb", "/a%255c", "/a%2500", "/a%253b", "/%2561dmin", "/%25%36%31dmin", "/%25252e"},
		"invalid UTF-8":                  {"/a%ff", "/a\xff", "/a%C3"},
		"overlong forms":                 {"/%c0%ae%c0%ae/a", "/%c0%af", "/%e0%80%ae"},
		"broken escapes":                 {"/a%", "/a%4", "/a%zz", "/a%2"},
		"P14 what does not begin with /": {"", "a", "*", "%2fa", ".", "?"},
		"a raw question mark":            {"/a?b"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, raw := range paths {
				_, ok := judgePath(raw, relaxations{})
				require.False(t, ok, "%q", raw)
			}
		})
	}
}

func TestARelaxedKindIsJudgedAsItStands(t *testing.T) {
	slash, double, semicolon := relaxations{encodedSlash: true}, relaxations{doubleSlash: true}, relaxations{semicolon: true}
	for name, c := range map[string]struct {
		raw               string
		allow             relaxations
		scopes, full, why string
	}{
		"P3 an encoded slash is no separator":  {raw: "/files/a%2Fb", allow: slash, scopes: "/files/a%2Fb", full: "/files/a/b"},
		"P3 in the case it came in":            {raw: "/files/a%2fb", allow: slash, scopes: "/files/a%2fb", full: "/files/a/b"},
		"P3 beside other escapes":              {raw: "/files/%2Fa%20b", allow: slash, scopes: "/files/%2Fa b", full: "/files//a b"},
		"P4 an empty segment is a segment":     {raw: "//a//b", allow: double, scopes: "//a//b", full: "//a//b"},
		"P5 parameters are part of a segment":  {raw: "/a;x=1/b", allow: semicolon, scopes: "/a;x=1/b", full: "/a;x=1/b"},
		"P5 an encoded semicolon stays so":     {raw: "/a%3Bx", allow: semicolon, scopes: "/a;x", full: "/a;x"},
		"P3 but dots around it are directions": {raw: "/a/..%2fb", allow: slash, why: "dot segment"},
		"P3 whichever side":                    {raw: "/a%2f../b", allow: slash, why: "dot segment"},
		"P3 and decoded once only":             {raw: "/a%252fb", allow: slash, why: "double encoding"},
		"P4 but dots are directions":           {raw: "//..//a", allow: double, why: "dot segment"},
		"P5 but dots are directions":           {raw: "/..;/a", allow: semicolon, why: "dot segment"},
		"P5 with parameters too":               {raw: "/a/.;x=1/b", allow: semicolon, why: "dot segment"},
		"P5 encoded too":                       {raw: "/a/%2e%2e%3bx/b", allow: semicolon, why: "dot segment"},
		"P5 parameters do not fill a segment":  {raw: "/;x/a", allow: semicolon, why: "empty segment"},
		"each relaxes its own kind alone":      {raw: "/a%2fb;c", allow: slash, why: "semicolon"},
		"and not the next one":                 {raw: "/a//b%2fc", allow: slash, why: "empty segment"},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := judgePath(c.raw, c.allow)
			require.Equal(t, c.why == "", ok, c.why)
			if ok {
				require.Equal(t, judgedPath{scopes: c.scopes, sent: c.raw, full: c.full}, got)
			}
		})
	}
}

// request reads a request as net/http's server does.
func request(t testing.TB, text string) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.ReplaceAll(text, "\n", "\r\n") + "\r\n\r\n")))
	require.NoError(t, err)
	return r
}

func TestATargetThatIsNoPathIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		r    *http.Request
		want *problem
	}{
		"P13 the absolute form of another host":      {request(t, "GET http://other.test/a HTTP/1.1\nHost: api.test"), problemMalformedRequest},
		"P13 the absolute form of the same host":     {request(t, "GET http://api.test/a HTTP/1.1\nHost: api.test"), problemMalformedRequest},
		"P13 the absolute form of no host":           {request(t, "GET http:///a HTTP/1.1\nHost: api.test"), problemMalformedRequest},
		"P13 a scheme without a host":                {request(t, "GET mailto:a HTTP/1.1\nHost: api.test"), problemMalformedRequest},
		"P15 HTTP/1.0 without a host":                {request(t, "GET /a HTTP/1.0"), problemMalformedRequest},
		"P14 a path without a slash":                 {&http.Request{Method: "GET", Host: "api.test", URL: &url.URL{Path: "a"}}, problemMalformedRequest},
		"P14 no path":                                {&http.Request{Method: "GET", Host: "api.test", URL: &url.URL{}}, problemMalformedRequest},
		"P15 an authority and another Host":          {&http.Request{Method: "GET", Host: "api.test", URL: &url.URL{Path: "/"}, Header: http.Header{"Host": {"other.test"}}}, problemMalformedRequest},
		"an asterisk with another method":            {&http.Request{Method: "GET", Host: "api.test", URL: &url.URL{Path: "*"}}, problemMalformedRequest},
		"a space in the query, possible over HTTP/2": {&http.Request{Method: "GET", Host: "api.test", URL: &url.URL{Path: "/", RawQuery: "a HTTP/1.1"}}, problemMalformedRequest},
		"P10 a fragment in the query":                {request(t, "GET /a?b#c HTTP/1.1\nHost: api.test"), problemMalformedRequest},
		"P10 a fragment in the path":                 {request(t, "GET /a#b HTTP/1.1\nHost: api.test"), problemAmbiguousPath},
		"M4 TRACE":                                   {request(t, "TRACE / HTTP/1.1\nHost: api.test"), problemMethodNotAllowed},
		"M4 CONNECT":                                 {request(t, "CONNECT api.test:443 HTTP/1.1\nHost: api.test:443"), problemMethodNotAllowed},
		"M4 a method in lower case":                  {request(t, "get / HTTP/1.1\nHost: api.test"), problemMethodNotAllowed},
		"M4 a method that nobody registered":         {request(t, "FOO / HTTP/1.1\nHost: api.test"), problemMethodNotAllowed},
		"M4 CONNECT over HTTP/2":                     {&http.Request{Method: "CONNECT", ProtoMajor: 2, Host: "api.test", URL: &url.URL{Host: "api.test"}}, problemMethodNotAllowed},
		"extended CONNECT to something else": {&http.Request{
			Method: "CONNECT", ProtoMajor: 2, Host: "api.test", URL: &url.URL{Path: "/"},
			Header: http.Header{":protocol": {"connect-udp"}},
		}, problemMethodNotAllowed},
		"extended CONNECT over HTTP/1.1": {&http.Request{
			Method: "CONNECT", ProtoMajor: 1, ProtoMinor: 1, Host: "api.test", URL: &url.URL{Path: "/"},
			Header: http.Header{":protocol": {"websocket"}},
		}, problemMethodNotAllowed},
		"S4 an upgrade to h2c":            {request(t, "GET / HTTP/1.1\nHost: api.test\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAM"), problemUpgradeNotAllowed},
		"S4 a choice of upgrades":         {request(t, "GET / HTTP/1.1\nHost: api.test\nConnection: upgrade\nUpgrade: websocket, h2c"), problemUpgradeNotAllowed},
		"S4 two upgrades":                 {request(t, "GET / HTTP/1.1\nHost: api.test\nConnection: upgrade\nUpgrade: websocket\nUpgrade: h2c"), problemUpgradeNotAllowed},
		"S5 a WebSocket by POST":          {request(t, "POST / HTTP/1.1\nHost: api.test\nConnection: upgrade\nUpgrade: websocket"), problemUpgradeNotAllowed},
		"S5 a WebSocket by HTTP/1.0":      {request(t, "GET / HTTP/1.0\nHost: api.test\nConnection: upgrade\nUpgrade: websocket"), problemUpgradeNotAllowed},
		"S5 a WebSocket with a body":      {request(t, "GET / HTTP/1.1\nHost: api.test\nConnection: upgrade\nUpgrade: websocket\nContent-Length: 3"), problemUpgradeNotAllowed},
		"S5 a WebSocket with chunks":      {request(t, "GET / HTTP/1.1\nHost: api.test\nConnection: upgrade\nUpgrade: websocket\nTransfer-Encoding: chunked"), problemUpgradeNotAllowed},
		"P2 and the path all the same":    {request(t, "GET /a/%2e%2e/b HTTP/1.1\nHost: api.test"), problemAmbiguousPath},
		"a second Host that is the first": {&http.Request{Method: "GET", Host: "api.test", URL: &url.URL{Path: "/"}, Header: http.Header{"Host": {"api.test"}}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, got := judgeTarget(c.r, relaxations{})
			require.Equal(t, c.want, got)
		})
	}
}

func TestTheOperationIsWhatScopesAreDecidedBy(t *testing.T) {
	for name, c := range map[string]struct {
		r    *http.Request
		want operation
	}{
		"P11 never the query":        {request(t, "GET /a?path=/b&_method=DELETE HTTP/1.1\nHost: h"), operation{method: "GET", path: "/a"}},
		"OPTIONS about the server":   {&http.Request{Method: "OPTIONS", Host: "h", URL: &url.URL{Path: "*"}}, operation{method: "OPTIONS", path: "*"}},
		"S5 a WebSocket handshake":   {request(t, "GET /a HTTP/1.1\nHost: h\nConnection: keep-alive, UPGRADE\nUpgrade: WebSocket"), operation{method: "GET", path: "/a", upgrade: true}},
		"S4 an upgrade not asked of": {request(t, "GET /a HTTP/1.1\nHost: h\nUpgrade: h2c"), operation{method: "GET", path: "/a"}},
		"C18 a gRPC call":            {request(t, "POST /pkg.Service/Do HTTP/1.1\nHost: h\nContent-Type: application/grpc+proto"), operation{method: "POST", path: "/pkg.Service/Do", upgrade: true}},
		"a WebSocket over HTTP/2": {&http.Request{
			Method: "CONNECT", ProtoMajor: 2, Host: "h", URL: &url.URL{Path: "/ws"}, Header: http.Header{":protocol": {"websocket"}},
		}, operation{method: "CONNECT", path: "/ws", upgrade: true}},
		"a WebSocket over HTTP/3": {&http.Request{
			Method: "CONNECT", ProtoMajor: 3, Proto: "websocket", Host: "h", URL: &url.URL{Path: "/ws"}, Header: http.Header{},
		}, operation{method: "CONNECT", path: "/ws", upgrade: true}},
	} {
		t.Run(name, func(t *testing.T) {
			got, wrong := judgeTarget(c.r, relaxations{})
			require.Nil(t, wrong)
			require.Equal(t, c.want, got)
		})
	}
}

func TestTheURLIsBroughtIntoTheFormThatWasJudged(t *testing.T) {
	r := request(t, "GET /%61/caf%C3%A9?q=%61&x HTTP/1.1\nHost: h")
	_, wrong := judgeTarget(r, relaxations{})
	require.Nil(t, wrong)
	require.Equal(t, "/a/café", r.URL.Path)
	require.Equal(t, "/a/caf%C3%A9", r.URL.EscapedPath())
	require.Equal(t, "/a/caf%C3%A9?q=%61&x", r.RequestURI, "the query stays byte for byte")
	require.Equal(t, r.RequestURI, r.URL.RequestURI())
}

func TestAStaleRawPathIsNotJudged(t *testing.T) {
	r := request(t, "GET /a HTTP/1.1\nHost: h")
	r.URL.Path, r.URL.RawPath = "/b", "/a" // as a careless rewrite leaves it
	op, wrong := judgeTarget(r, relaxations{})
	require.Nil(t, wrong)
	require.Equal(t, "/b", op.path)
	require.Equal(t, "/b", r.URL.RequestURI())
}

// FuzzJudgePath checks the judgement of paths against other readers: whatever
// passes must mean the same to those who decode once, twice, or not at all.
func FuzzJudgePath(f *testing.F) {
	for _, raw := range []string{
		"/", "/a/b", "/a/../b", "/%2e%2e/", "/a%2fb", "//a", "/a;b/c", "/..;/", "/%5c", "/%00", "/a#b", "/%23",
		"/%25", "/%252e", "/%c0%ae", "/caf%C3%A9", "/é", "/a b", "/[a]", "/{x}", "/a%", "/%zz", "/%2525", "/%3f",
	} {
		for bits := range byte(8) {
			f.Add(raw, bits)
		}
	}
	f.Fuzz(func(t *testing.T, raw string, bits byte) {
		allow := relaxations{encodedSlash: bits&1 != 0, doubleSlash: bits&2 != 0, semicolon: bits&4 != 0}
		p, ok := judgePath(raw, allow)
		if !ok {
			return
		}
		full, err := url.PathUnescape(p.sent)
		require.NoError(t, err)
		require.Equal(t, p.full, full, "what is sent decodes to what was judged")
		original, err := url.PathUnescape(raw)
		require.NoError(t, err)
		require.Equal(t, full, original, "and means what the client sent")

		// What net/http's server, and with it every Go upstream, makes of it.
		u, err := url.ParseRequestURI(p.sent)
		require.NoError(t, err)
		require.Equal(t, p.full, u.Path)
		require.Equal(t, p.sent, u.EscapedPath())
		if allow == (relaxations{}) {
			require.Equal(t, p.full, p.scopes)
			require.Equal(t, p.full, cleaned(p.full), "who cleans paths finds nothing to clean")
			if twice, err := url.PathUnescape(p.full); err == nil {
				require.Equal(t, p.full, twice, "who decodes twice finds the same")
			}
		}
		for segment := range strings.SplitSeq(p.full, "/") {
			name, _, _ := strings.Cut(segment, ";")
			require.NotContains(t, []string{".", ".."}, name)
		}
		require.NotContains(t, p.full, `\`)
		require.NotContains(t, p.full, "\x00")

		again, ok := judgePath(p.sent, allow)
		require.True(t, ok)
		require.Equal(t, p, again)
	})
}

// cleaned is how net/http's mux cleans a path.
func cleaned(p string) string {
	c := path.Clean(p)
	if strings.HasSuffix(p, "/") && c != "/" {
		c += "/"
	}
	return c
}

// FuzzJudgeTarget checks that whatever passes leaves a request that says the
// same in each place where a target stands.
func FuzzJudgeTarget(f *testing.F) {
	for _, target := range []string{"/", "/a?b", "*", "http://h/a", "/a%2e?c#d", "/%61?%61", "//a", "a:b"} {
		f.Add("GET", target)
		f.Add("OPTIONS", target)
	}
	f.Fuzz(func(t *testing.T, method, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Method, r.URL, r.RequestURI = method, u, target
		query := u.RawQuery
		op, wrong := judgeTarget(r, relaxations{})
		if wrong != nil {
			return
		}
		require.Equal(t, method, op.method)
		require.Equal(t, query, r.URL.RawQuery)
		require.Equal(t, r.RequestURI, r.URL.RequestURI())
		require.Equal(t, r.URL.Path, op.path)
	})
}
