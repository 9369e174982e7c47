package caddymodule

import (
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// maxHeaderBytes is the most that a request's target and headers may have. More
// is refused before anything in them is looked at.
const maxHeaderBytes = 32 << 10

// identityPrefix begins every header that tells an upstream who a request was
// let through for. What has it comes from a gate or not at all.
const identityPrefix = "Sallyport-"

// headerKind says what becomes of a request header.
type headerKind uint8

const (
	plainHeader      headerKind = iota // goes on as it is
	forbiddenHeader                    // is removed whoever sent it
	proxyHeader                        // is removed unless a trusted proxy sent it
	credentialHeader                   // is removed, and may hold the credential
	connectionHeader                   // is reduced to what is allowed
)

// headerRules says which headers one gate takes the credential from.
type headerRules struct {
	// credentials are names in canonical form, besides Authorization.
	credentials []string
}

// kindOf sorts a header by its name. alias is set when the name is another
// spelling of one that is meant: servers that turn headers into variables fold
// "-", "_" and "." into one character, so that an upstream would take
// sallyport_token_id for our own header (B3).
func (c *headerRules) kindOf(key string) (kind headerKind, alias bool) {
	if !isCanonicalKey(key) {
		alias = true
		key = foldKey(key)
	}
	if strings.HasPrefix(key, identityPrefix) {
		return forbiddenHeader, alias
	}
	switch key {
	case "Authorization":
		return credentialHeader, alias
	case "Connection":
		return connectionHeader, alias
	case
		// For the next hop alone, which is us.
		"Proxy-Authorization", "Proxy-Connection", "Trailer",
		// Frameworks take these for the method or the target in place of the
		// ones that were judged (M1, P12).
		"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Method",
		"X-Original-Method", "X-Forwarded-Method",
		"X-Original-Url", "X-Original-Uri", "X-Original-Path",
		"X-Rewrite-Url", "X-Rewrite-Uri", "X-Override-Url", "X-Url-Override",
		"X-Forwarded-Uri", "X-Forwarded-Url", "X-Forwarded-Path", "X-Envoy-Original-Path":
		return forbiddenHeader, alias
	case
		// Where the request came from, as told by whoever sent it (A5). Caddy's
		// reverse_proxy takes the same care of X-Forwarded-For, -Host and -Proto.
		"Forwarded", "Forwarded-For", "X-Forwarded", "X-Original-Forwarded-For",
		"X-Real-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "X-Remote-Ip", "X-Remote-Addr",
		"X-Originating-Ip", "X-Proxyuser-Ip", "X-Azure-Clientip", "X-Appengine-User-Ip",
		"X-Envoy-External-Address", "X-Forwarded-Client-Cert",
		"X-Forwarded-Prefix", "X-Forwarded-Port", "X-Forwarded-Server",
		"X-Forwarded-Ssl", "X-Forwarded-Scheme",
		"Client-Ip", "True-Client-Ip", "Fastly-Client-Ip", "Cf-Connecting-Ip",
		"Cf-Connecting-Ipv6", "Cf-Pseudo-Ipv4", "Proxy-Client-Ip", "Wl-Proxy-Client-Ip":
		return proxyHeader, alias
	}
	if slices.Contains(c.credentials, key) {
		return credentialHeader, alias
	}
	return plainHeader, alias
}

// isCanonicalKey says whether a name is of letters, digits and hyphens alone,
// and in the letter case that net/http gives to names.
func isCanonicalKey(key string) bool {
	upper := true
	for i := range len(key) {
		switch c := key[i]; {
		case 'a' <= c && c <= 'z':
			if upper {
				return false
			}
		case 'A' <= c && c <= 'Z':
			if !upper {
				return false
			}
		case c != '-' && (c < '0' || c > '9'):
			return false
		}
		upper = key[i] == '-'
	}
	return true
}

// foldKey gives the name that an upstream might read a spelling as.
func foldKey(key string) string {
	folded := []byte(key)
	for i, c := range folded {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (c < '0' || c > '9') {
			folded[i] = '-'
		}
	}
	return textproto.CanonicalMIMEHeaderKey(string(folded))
}

// strip takes out of a request's headers whatever must not reach the upstream
// or an error route, and gives what of it may be the credential. trusted says
// whether the peer is one of the operator's own proxies. size is that of all
// headers as they came.
func (c *headerRules) strip(h http.Header, trusted bool) (taken credentials, size int) {
	for key, values := range h {
		for _, value := range values {
			size += len(key) + len(value) + 4 // as HTTP/1.1 writes it
		}
		kind, alias := c.kindOf(key)
		switch {
		case kind == plainHeader, kind == proxyHeader && trusted && !alias:
			continue
		case kind == credentialHeader && !alias:
			taken.add(key, values, key == "Authorization")
		case kind == connectionHeader && !alias:
			continue // reduceConnection, which needs the rest of the request
		}
		delete(h, key)
	}
	return taken, size
}

// reduceConnection leaves of the Connection header what an upstream may be told.
// Every other name in it would have the proxy remove that header, an identity
// header of ours as well (B2). It returns whether the request is a WebSocket
// handshake, and whether that, or what it asks for instead, is allowed (S4).
func reduceConnection(r *http.Request) (webSocket, ok bool) {
	h := r.Header
	var options []string
	upgrade := false
	for _, value := range h["Connection"] {
		for option := range strings.SplitSeq(value, ",") {
			switch option = textproto.TrimString(option); {
			case strings.EqualFold(option, "close"):
				options = append(options, "close")
			case strings.EqualFold(option, "keep-alive"):
				options = append(options, "keep-alive")
			case strings.EqualFold(option, "upgrade"):
				upgrade = true
			}
		}
	}
	protocols := h["Upgrade"]
	switch {
	case upgrade && len(protocols) > 0:
		// A body before the switch of protocols would be read by one side as
		// content and by the other as the new protocol.
		if len(protocols) != 1 || !strings.EqualFold(protocols[0], "websocket") ||
			r.Method != http.MethodGet || !r.ProtoAtLeast(1, 1) || r.ProtoMajor > 1 || r.ContentLength != 0 {
			return false, false
		}
		webSocket = true
		options = append(options, "Upgrade")
		h["Upgrade"] = []string{"websocket"}
	default:
		// One without the other asks for nothing.
		delete(h, "Upgrade")
	}
	delete(h, "Http2-Settings")
	if len(options) == 0 {
		delete(h, "Connection")
	} else {
		h["Connection"] = []string{strings.Join(options, ", ")}
	}
	return webSocket, true
}

// mayTrail says whether a field may stand in the trailers of a request. An
// upstream may merge trailers into the headers, and would then take from them
// what was removed there, or another framing (B5).
func (c *headerRules) mayTrail(key string) bool {
	kind, alias := c.kindOf(key)
	if alias {
		key = foldKey(key)
	}
	if kind != plainHeader {
		return false
	}
	if strings.HasPrefix(key, "Content-") || strings.HasPrefix(key, "X-Forwarded-") ||
		strings.HasPrefix(key, "Proxy-") || strings.HasPrefix(key, "If-") || strings.HasPrefix(key, "Access-Control-") {
		return false
	}
	switch key {
	case "Host", "Te", "Transfer-Encoding", "Upgrade", "Keep-Alive", "Expect", "Max-Forwards",
		"Cookie", "Set-Cookie", "Cache-Control", "Pragma", "Range", "Via", "Origin", "Early-Data":
		return false
	}
	return true
}

// guardTrailers keeps forbidden trailers from whoever reads the body. Announced
// ones are forgotten at once. The server adds what really came to the same map
// when the body ends, in the Read that says so, before the proxy looks at it.
func (c *headerRules) guardTrailers(r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody || r.Trailer == nil && r.ContentLength >= 0 {
		return
	}
	c.dropTrailers(r.Trailer)
	r.Body = &trailerGuard{ReadCloser: r.Body, rules: c, request: r}
}

func (c *headerRules) dropTrailers(trailer http.Header) {
	for key := range trailer {
		if !c.mayTrail(key) {
			delete(trailer, key)
		}
	}
}

type trailerGuard struct {
	io.ReadCloser
	rules   *headerRules
	request *http.Request
}

func (g *trailerGuard) Read(p []byte) (int, error) {
	n, err := g.ReadCloser.Read(p)
	if err != nil {
		g.rules.dropTrailers(g.request.Trailer)
	}
	return n, err
}
