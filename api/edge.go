package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
)

// ServeHTTP does what every request needs before it has a route, and whatever
// becomes of it: headers, the check of where a browser sent it from, and answers
// of one form for paths and methods that do not exist.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := h.o.NewRequestID(r)
	// Every answer may hold what only its asker should see.
	w.Header().Set("Cache-Control", "no-store")
	// A browser that is led here must not show it, frame it or hand it to a page.
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	w.Header().Set("Cross-Origin-Resource-Policy", "same-origin")
	w.Header().Set(RequestIDHeader, id)

	tracked := &trackedWriter{ResponseWriter: w}
	r = r.WithContext(context.WithValue(r.Context(), requestKey{}, &request{id: id}))
	defer h.recovered(tracked, r, id)

	refuse := func(p *Problem) {
		p.RequestID = id
		p.write(tracked)
	}
	if p := h.checkOrigin(r); p != nil {
		refuse(p)
		return
	}
	// The mux would redirect to a cleaner path, and some clients would then send
	// a POST as a GET, or a secret to wherever they were sent.
	if clean := path.Clean(r.URL.Path); clean != r.URL.Path {
		refuse(newProblem(codeNotFound, ""))
		return
	}
	if fallback, pattern := h.mux.Handler(r); pattern == "" {
		refuse(h.noRoute(fallback, r, w.Header()))
		return
	}
	h.mux.ServeHTTP(tracked, r)
}

// checkOrigin refuses what a browser sends for another site's page (D5, D6).
// Reading needs no check: nothing that this API answers can be read across
// sites, and GET changes nothing.
func (h *handler) checkOrigin(r *http.Request) *Problem {
	if safe(r.Method) {
		return nil
	}
	p := newProblem(codeForbidden, "A browser sent this request for a page of another site.")
	if h.browsers.Check(r) != nil {
		return p
	}
	// The standard library's check is content with Sec-Fetch-Site; an Origin that
	// contradicts it is refused all the same.
	if origin := r.Header.Values("Origin"); len(origin) > 0 {
		u, err := url.Parse(origin[0])
		if len(origin) > 1 || err != nil || !strings.EqualFold(u.Host, r.Host) {
			return p
		}
	}
	return nil
}

func safe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// noRoute puts what the mux answers to paths and methods that it does not know
// into the form of all other answers.
func (h *handler) noRoute(fallback http.Handler, r *http.Request, header http.Header) *Problem {
	said := headerOnly{header: http.Header{}}
	fallback.ServeHTTP(&said, r)
	if said.status == http.StatusMethodNotAllowed {
		allow := said.header.Get("Allow")
		header.Set("Allow", allow)
		return newProblem(codeMethodNotAllowed, "This path takes "+allow+".")
	}
	return newProblem(codeNotFound, "The API has no such path.")
}

// recovered answers 500 when a handler panics, as far as nothing was answered yet.
func (h *handler) recovered(w *trackedWriter, r *http.Request, id string) {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v)
	}
	_, route, _ := strings.Cut(r.Pattern, " ")
	h.o.OnError(r.Context(), Failure{RequestID: id, Method: r.Method, Route: strings.TrimPrefix(route, h.o.BasePath), Err: fmt.Errorf("api: panic: %v\n%s", v, debug.Stack())})
	if w.wrote {
		// What was sent so far must not look complete.
		panic(http.ErrAbortHandler)
	}
	p := newProblem(codeInternalError, "")
	p.RequestID = id
	p.write(w)
}

// trackedWriter notes whether an answer began.
type trackedWriter struct {
	http.ResponseWriter
	wrote bool
}

func (w *trackedWriter) WriteHeader(status int) {
	w.wrote = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *trackedWriter) Write(p []byte) (int, error) {
	w.wrote = true
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (w *trackedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// headerOnly is a response that nobody reads.
type headerOnly struct {
	header http.Header
	status int
}

func (w *headerOnly) Header() http.Header         { return w.header }
func (w *headerOnly) WriteHeader(status int)      { w.status = status }
func (w *headerOnly) Write(p []byte) (int, error) { return len(p), nil }

// request is what is known of a request: its ID from the start, who asks once
// it was admitted.
type request struct {
	id string
	by authority.By
}

type requestKey struct{}

func requestOf(ctx context.Context) *request {
	r, ok := ctx.Value(requestKey{}).(*request)
	if !ok {
		return &request{}
	}
	return r
}

// admit runs before huma looks at a request: it says who asks, and makes sure
// that every part can be read in one way only.
func (h *handler) admit(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	known := requestOf(r.Context())
	if p := h.admitted(ctx.Operation(), known, w, r); p != nil {
		p.RequestID = known.id
		p.write(w)
		return
	}
	next(ctx)
}

func (h *handler) admitted(op *huma.Operation, known *request, w http.ResponseWriter, r *http.Request) *Problem {
	known.by = authority.By{RequestID: known.id}
	if !anonymous(op) {
		actor, err := h.o.Identify(r)
		if err != nil {
			return h.problem(r.Context(), op, err)
		}
		known.by.Actor = actor
	}
	if p := checkHeaders(r.Header); p != nil {
		return p
	}
	known.by.RequestedBy = token.ID(r.Header.Get(RequestedByHeader))
	if code := r.Header.Get(OTPHeader); len(code) <= maxCode {
		known.by.Code = authority.OneTimeCode(code)
	} else {
		return fieldProblem(FieldProblem{Header: OTPHeader, Detail: codeRule})
	}
	query, p := parseQuery(r.URL.RawQuery)
	if p != nil {
		return p
	}
	// From here on the query is spelled in one way, whichever parser reads it.
	u := *r.URL
	u.RawQuery = query.Encode()
	r.URL = &u
	// There is one form of answers: Accept chooses nothing.
	r.Header = r.Header.Clone()
	r.Header.Set("Accept", jsonType)
	return h.admitBody(op, w, r)
}

// admitBody reads and checks the body, and puts it back for huma to decode.
func (h *handler) admitBody(op *huma.Operation, w http.ResponseWriter, r *http.Request) *Problem {
	data, p := readBody(w, r, op.MaxBodyBytes, maxBodyTime)
	switch {
	case p != nil:
		return p
	case op.RequestBody == nil && len(data) > 0:
		return newProblem(codeInvalidRequest, "This route takes no request body.")
	case op.RequestBody == nil || len(data) == 0 && !op.RequestBody.Required:
		replaceBody(r, nil)
		return nil
	}
	if op.RequestBody.Content[formType] != nil {
		return admitForm(r, data)
	}
	if p := checkMediaType(r.Header, jsonType); p != nil {
		return p
	}
	schema := op.RequestBody.Content[jsonType].Schema
	if len(data) == 0 {
		_, name := topOf(schema)
		return newProblem(codeInvalidRequest, "This route needs a JSON "+name+" as its request body.")
	}
	if p := checkJSON(data, h.api.OpenAPI().Components.Schemas, schema, isOpen(op)); p != nil {
		return p
	}
	replaceBody(r, data)
	return nil
}

const jsonType = "application/json"

// checkHeaders refuses the headers that change what a request does when they are
// repeated or empty: an empty Idempotency-Key would drop the protection that its
// sender counts on.
func checkHeaders(header http.Header) *Problem {
	for _, name := range []string{idempotencyKey, ifMatch, RequestedByHeader, OTPHeader} {
		values := header.Values(name)
		if len(values) > 1 || len(values) == 1 && strings.TrimSpace(values[0]) == "" {
			return fieldProblem(FieldProblem{Header: name, Detail: "must be given once, with a value"})
		}
	}
	return nil
}

// parseQuery refuses a query that readers disagree about, and what no filter can
// mean. An empty filter is refused because it would be taken for none.
func parseQuery(raw string) (url.Values, *Problem) {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return nil, newProblem(codeInvalidRequest, "The query string is not well formed.")
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		field := FieldProblem{Parameter: plainName(name)}
		if len(query[name]) > 1 && name != "state" {
			field.Detail = "must be given once"
			return nil, fieldProblem(field)
		}
		for _, v := range query[name] {
			if v == "" {
				field.Detail = "must have a value; leave it out instead"
				return nil, fieldProblem(field)
			}
			if !utf8.ValidString(v) || strings.ContainsFunc(v, unicode.IsControl) {
				field.Detail = "must be UTF-8 without control characters"
				return nil, fieldProblem(field)
			}
		}
	}
	return query, nil
}
