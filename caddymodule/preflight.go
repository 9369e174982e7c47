package caddymodule

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// corsRules says which web pages may call the API from a browser. Tokens are
// not sent by browsers of their own accord, so that no answer allows cookies.
type corsRules struct {
	any     bool
	origins []string
}

const (
	corsMaxAge = "600"
	// maxRequestedHeaders bounds what of a preflight is repeated in its answer.
	maxRequestedHeaders = 1024
)

// newCORS reads origins, as browsers write them, or `*`.
func newCORS(origins []string) (*corsRules, error) {
	if len(origins) == 0 {
		return nil, nil
	}
	c := new(corsRules)
	for _, origin := range origins {
		if origin == "*" {
			c.any = true
			continue
		}
		u, err := url.Parse(origin)
		if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || u.String() != u.Scheme+"://"+u.Host ||
			strings.ToLower(origin) != origin {
			return nil, errors.New("cors: an origin is a scheme, a host and a port if it is not the scheme's own, in lower case: https://app.example.com")
		}
		c.origins = append(c.origins, origin)
	}
	if c.any && len(c.origins) > 0 {
		return nil, errors.New("cors: * allows every origin: name it alone, or leave it out")
	}
	return c, nil
}

// allows gives the value of Access-Control-Allow-Origin for a request; empty
// when its origin may not see the answer.
func (c *corsRules) allows(r *http.Request) string {
	if c == nil {
		return ""
	}
	if c.any {
		return "*"
	}
	if origin := r.Header["Origin"]; len(origin) == 1 && slices.Contains(c.origins, origin[0]) {
		return origin[0]
	}
	return ""
}

// isPreflight says whether a browser asks whether a page may send a request.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions &&
		len(r.Header["Origin"]) == 1 && r.Header["Origin"][0] != "" &&
		len(r.Header["Access-Control-Request-Method"]) == 1 && r.Header["Access-Control-Request-Method"][0] != ""
}

// answerPreflight answers in place of the upstream, which never sees a preflight:
// it comes without a credential and must not be a way around one (M3).
func (c *corsRules) answerPreflight(w http.ResponseWriter, r *http.Request, origin string) {
	h := w.Header()
	h["Access-Control-Allow-Origin"] = []string{origin}
	h["Access-Control-Allow-Methods"] = []string{"GET, HEAD, POST, PUT, PATCH, DELETE, QUERY"}
	h["Access-Control-Allow-Headers"] = []string{requestedHeaders(r.Header["Access-Control-Request-Headers"])}
	h["Access-Control-Max-Age"] = []string{corsMaxAge}
	h["Cache-Control"] = []string{"no-store"}
	h["Vary"] = append(h["Vary"], "Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
	w.WriteHeader(http.StatusNoContent)
}

// requestedHeaders allows the headers that a page wants to send. Which ones an
// API needs only the API knows; a name that is no name is not repeated.
func requestedHeaders(values []string) string {
	list := strings.Join(values, ",")
	if len(list) > maxRequestedHeaders {
		return "Authorization"
	}
	var names []string
	for name := range strings.SplitSeq(list, ",") {
		name = strings.Trim(name, " \t")
		if name == "" || strings.ContainsFunc(name, func(c rune) bool {
			return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_'
		}) {
			continue
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return "Authorization"
	}
	return strings.Join(names, ", ")
}

// exposedHeaders are what a page may read of an answer besides the few headers
// that every page may.
const exposedHeaders = "WWW-Authenticate, Retry-After, Content-Length, ETag, Link, Location"

// allowOrigin lets the page of an allowed origin read an answer, and no other.
// It replaces what the upstream says about that: browsers accept one value only.
func (c *corsRules) allowOrigin(h http.Header, origin string) {
	if !c.any {
		h["Vary"] = append(h["Vary"], "Origin")
	}
	delete(h, "Access-Control-Allow-Credentials")
	if origin == "" {
		delete(h, "Access-Control-Allow-Origin")
		return
	}
	h["Access-Control-Allow-Origin"] = []string{origin}
	if _, ok := h["Access-Control-Expose-Headers"]; !ok {
		h["Access-Control-Expose-Headers"] = []string{exposedHeaders}
	}
}
