package caddymodule

import (
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sallyport/sallyport/token"
)

// relaxations are the kinds of ambiguity that one gate lets pass. What passes is
// judged as it stands: an encoded slash is no separator, an empty segment is a
// segment, and what follows a semicolon is part of its segment.
type relaxations struct{ encodedSlash, doubleSlash, semicolon bool }

// judgedPath is a path as scopes are decided by it, and as it is sent.
type judgedPath struct {
	scopes string // decoded; encoded slashes stay as they are written
	sent   string // what stands in the request line, without the query
	full   string // decoded whole: URL.Path
}

// judgePath reads a path as it stands on the wire. It gives the one canonical
// form of it, in which unreserved characters are not encoded and everything else
// is as it was sent, or says no to a path that servers are known to read in
// different ways.
func judgePath(raw string, allow relaxations) (p judgedPath, ok bool) {
	if raw == "" || raw[0] != '/' {
		return p, false
	}
	segment := 0 // where the present segment starts
	for i := range len(raw) {
		switch pathBytes[raw[i]] {
		case pathPlain:
		case pathSlash:
			if !isPlainSegment(raw[segment:i], i > 0 && !allow.doubleSlash) {
				return p, false
			}
			segment = i + 1
		default:
			return judgeUnusualPath(raw, allow)
		}
	}
	if !isPlainSegment(raw[segment:], false) {
		return p, false
	}
	return judgedPath{scopes: raw, sent: raw, full: raw}, true
}

// isPlainSegment refuses the segments that are not names but directions.
func isPlainSegment(s string, notEmpty bool) bool {
	return s != "." && s != ".." && (s != "" || !notEmpty)
}

// judgeUnusualPath is judgePath for paths with more in them than plain characters.
func judgeUnusualPath(raw string, allow relaxations) (p judgedPath, ok bool) {
	sent := make([]byte, 0, len(raw)+8)
	scopes := make([]byte, 0, len(raw))
	full := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c != '%' {
			switch pathBytes[c] {
			case pathNever:
				return p, false
			case pathSemicolon:
				if !allow.semicolon {
					return p, false
				}
				sent = append(sent, c)
			case pathEncode:
				sent = append(sent, '%', upperHex[c>>4], upperHex[c&15])
			default:
				sent = append(sent, c)
			}
			scopes, full = append(scopes, c), append(full, c)
			continue
		}
		if i+2 >= len(raw) || !isHex(raw[i+1]) || !isHex(raw[i+2]) {
			return p, false
		}
		escape := raw[i : i+3]
		c = unhex(raw[i+1])<<4 | unhex(raw[i+2])
		i += 2
		switch {
		case c == '/':
			if !allow.encodedSlash {
				return p, false
			}
			sent, scopes, full = append(sent, escape...), append(scopes, escape...), append(full, c)
			continue
		case c == ';' && !allow.semicolon, c < ' ', c == 0x7f, c == '\\':
			return p, false
		case isUnreserved(c):
			sent = append(sent, c)
		default:
			sent = append(sent, escape...)
		}
		scopes, full = append(scopes, c), append(full, c)
	}
	p = judgedPath{scopes: string(scopes), sent: string(sent), full: string(full)}
	return p, readsOneWay(p, allow)
}

// readsOneWay looks at a decoded path for what an upstream might make another
// path of.
func readsOneWay(p judgedPath, allow relaxations) bool {
	if !utf8.ValidString(p.full) || strings.ContainsFunc(p.full, unicode.IsControl) {
		return false // overlong forms, and controls that take two bytes
	}
	// Who decodes twice finds another path in what still looks encoded.
	for i := strings.IndexByte(p.full, '%'); i >= 0 && i+2 < len(p.full); i++ {
		if p.full[i] == '%' && isHex(p.full[i+1]) && isHex(p.full[i+2]) {
			return false
		}
	}
	if !allow.doubleSlash && strings.Contains(p.sent, "//") {
		return false
	}
	for segment := range strings.SplitSeq(p.full, "/") {
		// Servers that know path parameters drop what follows the semicolon
		// before they look at what is left.
		name, _, parameters := strings.Cut(segment, ";")
		if !isPlainSegment(name, parameters && !allow.doubleSlash) {
			return false
		}
	}
	return true
}

// pathKind sorts the bytes of a raw path.
type pathKind uint8

const (
	pathPlain     pathKind = iota // stands for itself
	pathSlash                     // separates segments
	pathPercent                   // begins an escape
	pathSemicolon                 // may begin path parameters
	pathEncode                    // stands for itself, but must be encoded to be sent
	pathNever                     // is read in different ways, or not at all
)

var pathBytes = func() (kinds [256]pathKind) {
	for c := range kinds {
		switch c := byte(c); {
		case c < ' ', c == 0x7f, c == '\\', c == '#', c == '?':
			kinds[c] = pathNever
		case c == '/':
			kinds[c] = pathSlash
		case c == '%':
			kinds[c] = pathPercent
		case c == ';':
			kinds[c] = pathSemicolon
		case isUnreserved(c), strings.IndexByte("!$&'()*+,=:@[]", c) >= 0:
			kinds[c] = pathPlain
		default:
			kinds[c] = pathEncode
		}
	}
	return kinds
}()

const upperHex = "0123456789ABCDEF"

func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// unhex gives the value of a hexadecimal digit.
func unhex(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	if c >= 'A' {
		return c - 'A' + 10
	}
	return c - '0'
}

// operation is what a request asks for, in terms that scopes are decided by.
type operation struct {
	method string
	path   string
	// upgrade is set for WebSocket handshakes and gRPC calls, which carry both
	// reads and writes.
	upgrade bool
}

// judgeTarget judges method, host, path and query, and brings the request into
// the form that was judged, so that no other one can be sent. A problem says
// that there is no such form.
func judgeTarget(r *http.Request, allow relaxations) (operation, *problem) {
	op := operation{method: r.Method}
	switch {
	case isExtendedConnect(r):
		op.upgrade = true
	case !token.RegisteredMethod(r.Method):
		return op, problemMethodNotAllowed
	}
	if !hasOneHost(r) {
		return op, problemMalformedRequest
	}
	webSocket, ok := reduceConnection(r)
	if !ok {
		return op, problemUpgradeNotAllowed
	}
	op.upgrade = op.upgrade || webSocket || grpcKind(r.Header) != ""

	u := r.URL
	// Only a path is a target for a gateway. The absolute form names a host
	// besides the Host header, which net/http drops unseen, so that nobody
	// could tell whether the two agree (P13).
	if u.Scheme != "" || u.Opaque != "" || u.Host != "" || u.User != nil {
		return op, problemMalformedRequest
	}
	if u.Path == "*" && u.RawPath == "" && r.Method == http.MethodOptions {
		op.path = "*"
		return op, nil
	}
	if u.Path == "" || u.Path[0] != '/' || !isPlainQuery(u.RawQuery) || u.Fragment != "" {
		return op, problemMalformedRequest
	}
	judged, ok := judgePath(wirePath(u), allow)
	if !ok {
		return op, problemAmbiguousPath
	}
	if !send(r, judged) {
		return op, problemAmbiguousPath
	}
	op.path = judged.scopes
	return op, nil
}

// isExtendedConnect says whether a request opens a WebSocket over HTTP/2 or
// HTTP/3 (RFC 8441, RFC 9220).
func isExtendedConnect(r *http.Request) bool {
	if r.Method != http.MethodConnect {
		return false
	}
	switch r.ProtoMajor {
	case 2:
		protocol := r.Header[":protocol"]
		return len(protocol) == 1 && protocol[0] == "websocket"
	case 3:
		return r.Proto == "websocket"
	default:
		return false
	}
}

// hasOneHost wants a host, and none besides. HTTP/1.0 may come without one, and
// HTTP/2 with a Host header that names another than :authority (P15).
func hasOneHost(r *http.Request) bool {
	for _, host := range r.Header["Host"] {
		if host != r.Host {
			return false
		}
	}
	delete(r.Header, "Host")
	return r.Host != ""
}

// isPlainQuery refuses what would end the request line early, or the query at
// another place than for us. All else in a query is the upstream's to read.
func isPlainQuery(raw string) bool {
	for i := range len(raw) {
		if c := raw[i]; c <= ' ' || c == 0x7f || c == '#' {
			return false
		}
	}
	return true
}

// wirePath is the path as it came, or as a handler before the gate left it.
func wirePath(u *url.URL) string {
	if u.RawPath != "" {
		if path, err := url.PathUnescape(u.RawPath); err == nil && path == u.Path {
			return u.RawPath
		}
	}
	return (&url.URL{Path: u.Path}).EscapedPath()
}

// send puts the judged path in place of the one that came, wherever a request
// keeps one. It says whether exactly that path will be sent.
func send(r *http.Request, p judgedPath) bool {
	u := r.URL
	if u.Path != p.full || u.EscapedPath() != p.sent {
		u.Path, u.RawPath = p.full, p.sent
	}
	if !isTarget(r.RequestURI, p.sent, u) {
		r.RequestURI = u.RequestURI()
	}
	return u.EscapedPath() == p.sent
}

// isTarget says whether a request line's target is a path with the query of a URL.
func isTarget(target, path string, u *url.URL) bool {
	query, ok := strings.CutPrefix(target, path)
	if !ok {
		return false
	}
	if query == "" {
		return u.RawQuery == "" && !u.ForceQuery
	}
	return query[0] == '?' && query[1:] == u.RawQuery
}
