package caddymodule

import (
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

var someRules = headerRules{credentials: []string{"X-Api-Key"}}

func TestWhatAClientMayNotSayIsRemoved(t *testing.T) {
	for name, keys := range map[string][]string{
		"B1 identity headers":                {"Sallyport-Token-Id", "Sallyport-Anything", "Sallyport-"},
		"B3 in other spellings":              {"sallyport-token-id", "SALLYPORT-TOKEN-ID", "Sallyport_Token_Id", "Sallyport.Token.Id", "sallyport_token-id", "SALLYPORT_SCOPES", "Sallyport~Role"},
		"B6 credentials":                     {"Authorization", "authorization", "AUTHORIZATION", "X-Api-Key", "x-api-key", "X_Api_Key", "x.api.key", "Proxy-Authorization", "Proxy_Authorization"},
		"M1 other methods":                   {"X-Http-Method-Override", "X-HTTP-Method-Override", "X-Method-Override", "X-Http-Method", "X_HTTP_METHOD_OVERRIDE", "x-method-override"},
		"P12 other targets":                  {"X-Original-Url", "X-Original-URL", "X-Rewrite-Url", "X-Forwarded-Uri", "X_Original_Url", "X-Original-Uri"},
		"A5 other addresses":                 {"X-Real-Ip", "X-Real-IP", "True-Client-Ip", "Cf-Connecting-Ip", "CF-Connecting-IP", "Forwarded", "X_Real_Ip", "Client-Ip"},
		"what is between us and the client":  {"Trailer", "Proxy-Connection"},
		"B2 another spelling of Connection":  {"connection", "CONNECTION"},
		"A5 the certificate of another peer": {"X-Forwarded-Client-Cert"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, key := range keys {
				h := http.Header{key: {"forged", "twice"}, "Accept": {"*/*"}}
				someRules.strip(h, false)
				require.Equal(t, http.Header{"Accept": {"*/*"}}, h, key)
			}
		})
	}
}

func TestWhatIsNobodysBusinessStays(t *testing.T) {
	h := http.Header{
		"Accept": {"a", "b"}, "Content-Type": {"text/plain"}, "Cookie": {"a=b"}, "X-Custom": {"1"}, "x_custom": {"2"},
		"X-Forwarded-For": {"192.0.2.1"}, "Sallyportal": {"1"}, "X-Sallyport-Token-Id": {"1"}, "Connection": {"close"},
	}
	before := h.Clone()
	someRules.strip(h, false)
	require.Empty(t, cmp.Diff(before, h))
}

func TestATrustedProxyMaySayWhereARequestCameFrom(t *testing.T) {
	h := http.Header{
		"X-Real-Ip": {"192.0.2.1"}, "Forwarded": {"for=192.0.2.1"}, // A5
		"X_real_ip":          {"192.0.2.1"}, // B3: another spelling is nobody's to use
		"Sallyport-Token-Id": {"tok_1"},     // B1: and this is ours alone
		"X-Original-Url":     {"/admin"},    // P12
	}
	someRules.strip(h, true)
	require.Equal(t, http.Header{"X-Real-Ip": {"192.0.2.1"}, "Forwarded": {"for=192.0.2.1"}}, h)
}

func TestEveryHeaderCountsTowardsTheSize(t *testing.T) {
	_, size := someRules.strip(http.Header{"Authorization": {"Bearer x"}, "A": {"1", "22"}}, false)
	require.Equal(t, len("Authorization: Bearer x\r\n")+len("A: 1\r\n")+len("A: 22\r\n"), size)
}

func TestConnectionIsReduced(t *testing.T) {
	for name, c := range map[string]struct {
		connection, upgrade []string
		wantConnection      []string
		wantUpgrade         []string
	}{
		"nothing":                           {},
		"B2 our own headers":                {connection: []string{"Sallyport-Token-Id", "Authorization, X-Forwarded-For"}},
		"B2 beside what is allowed":         {connection: []string{"close, Sallyport-Token-Id"}, wantConnection: []string{"close"}},
		"in any case and spacing":           {connection: []string{" Keep-Alive ,\tTE,,CLOSE"}, wantConnection: []string{"keep-alive, close"}},
		"S5 a WebSocket":                    {connection: []string{"Upgrade, X-Custom"}, upgrade: []string{"WebSocket"}, wantConnection: []string{"Upgrade"}, wantUpgrade: []string{"websocket"}},
		"an upgrade to nothing":             {connection: []string{"upgrade"}},
		"S4 a protocol without the upgrade": {connection: []string{"keep-alive"}, upgrade: []string{"h2c"}, wantConnection: []string{"keep-alive"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t, "GET / HTTP/1.1\nHost: h")
			if c.connection != nil {
				r.Header["Connection"] = c.connection
			}
			if c.upgrade != nil {
				r.Header["Upgrade"] = c.upgrade
			}
			r.Header["Http2-Settings"] = []string{"AAM"}
			webSocket, ok := reduceConnection(r)
			require.True(t, ok)
			require.Equal(t, c.wantUpgrade != nil, webSocket)
			require.Equal(t, c.wantConnection, r.Header["Connection"])
			require.Equal(t, c.wantUpgrade, r.Header["Upgrade"])
			require.NotContains(t, r.Header, "Http2-Settings")
		})
	}
}

func TestTrailersBringNothingBack(t *testing.T) {
	text := "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\nTrailer: X-Checksum, Sallyport-Token-Id, Authorization\n\n" +
		"1\na\n0\nX-Checksum: 1\nSallyport-Token-Id: tok_forged\nsallyport_role: owner\nAuthorization: Bearer x\nX-Api-Key: y\n" +
		"Host: other\nX-Original-Url: /admin\nX-Undeclared: 2\nX-Real-Ip: 10.0.0.1\nCookie: a=b"
	r := request(t, text)
	r = r.WithContext(t.Context()) // as Caddy does; announced trailers share one map
	someRules.strip(r.Header, false)
	someRules.guardTrailers(r)
	require.Equal(t, []string{"X-Checksum"}, slices.Collect(maps.Keys(r.Trailer)), "B5: the announcement")
	_, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	require.Equal(t, http.Header{"X-Checksum": {"1"}, "X-Undeclared": {"2"}}, r.Trailer, "B5: what came")
}

func TestABodyWithoutTrailersIsLeftAlone(t *testing.T) {
	r := request(t, "POST / HTTP/1.1\nHost: h\nContent-Length: 1\n\na")
	body := r.Body
	someRules.guardTrailers(r)
	require.Equal(t, body, r.Body)
}

func TestIdentityIsDroppedFromResponses(t *testing.T) {
	h := http.Header{
		"Content-Type": {"text/plain"}, "Sallyport-Token-Id": {"tok_1"}, "sallyport_role": {"owner"},
		"Trailer":       {"X-Checksum, Sallyport-Role", "sallyport-access"},
		"X-Checksum":    {"1"},
		"Sallyportable": {"1"},
		http.TrailerPrefix + "Sallyport-Token-Id": {"tok_1"}, http.TrailerPrefix + "X-Other": {"2"},
	}
	dropIdentity(h)
	require.Equal(t, http.Header{
		"Content-Type": {"text/plain"}, "Trailer": {"X-Checksum", ""}, "X-Checksum": {"1"}, "Sallyportable": {"1"},
		http.TrailerPrefix + "X-Other": {"2"},
	}, h)
}

// FuzzStrip checks that no spelling of a name that is ours, or of a credential's,
// gets through, be it as a header or as a trailer.
func FuzzStrip(f *testing.F) {
	for _, key := range []string{
		"Sallyport-Token-Id", "sallyport_token_id", "SALLYPORT.TOKEN.ID", "Authorization", "x-api_key", "X.Api.Key",
		"X-HTTP-Method-Override", "x_original_url", "Forwarded", "Accept", "Connection", "Trailer", "", "-", "Sallyport",
	} {
		f.Add(key, true)
		f.Add(key, false)
	}
	// What servers that make variables of headers might fold a name to.
	variable := func(key string) string {
		return strings.Map(func(c rune) rune {
			if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' {
				return c
			}
			return '_'
		}, strings.ToLower(key))
	}
	f.Fuzz(func(t *testing.T, key string, trusted bool) {
		h := http.Header{key: {"value"}, textproto.CanonicalMIMEHeaderKey(key): {"value"}}
		someRules.strip(h, trusted)
		for left := range h {
			v := variable(left)
			require.False(t, strings.HasPrefix(v, "sallyport_"), left)
			require.NotContains(t, []string{
				"authorization", "x_api_key", "x_http_method_override", "x_original_url", "x_rewrite_url", "x_forwarded_uri",
			}, v, left)
			if !trusted {
				require.NotContains(t, []string{"x_real_ip", "forwarded", "true_client_ip", "cf_connecting_ip"}, v, left)
			}
			if left != "Connection" {
				require.NotEqual(t, "connection", v, left)
			}
		}
		trailer := http.Header{key: {"value"}}
		someRules.dropTrailers(trailer)
		for left := range trailer {
			v := variable(left)
			require.False(t, strings.HasPrefix(v, "sallyport_"), left)
			require.NotContains(t, []string{
				"authorization", "x_api_key", "host", "content_length", "transfer_encoding", "trailer", "connection",
				"x_real_ip", "x_forwarded_for", "cookie", "te", "upgrade",
			}, v, left)
		}
	})
}
