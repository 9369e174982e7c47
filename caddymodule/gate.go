package caddymodule

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/sallyport/sallyport/token"
)

func init() {
	caddy.RegisterModule(new(Gate))
}

const (
	defaultFailureLimit = 20
	defaultRealm        = "api"
	// failureWait is told to those whose budget of failures is spent: after it
	// the whole budget is there again.
	failureWait = time.Minute
)

// Gate lets a request through only with a valid token, and tells the handlers
// behind it who is calling. It takes the credential, and every header that could
// pass for its own word, out of the request before it decides.
//
// Upstreams get these request headers, and no others that begin with `Sallyport-`:
//
// Header | Value
// -------|------
// `Sallyport-Token-Id` | ID of the token
// `Sallyport-Account-Id` | ID of the account that it belongs to
// `Sallyport-User-Id` | ID of its user, if it has one
// `Sallyport-Role` | role of the user, if there is one
// `Sallyport-Business-Units` | those of the user, separated by commas
// `Sallyport-Access` | `read_only`, `read_write` or `custom`, as far as the role allows
// `Sallyport-Scopes` | what token and role allow, separated by spaces; over 4 KiB, `Sallyport-Scopes-Count` stands in its place
// `Sallyport-Environment` | `production` or `sandbox`
//
// Later handlers and the access log can use these placeholders:
//
// Placeholder | Value
// ------------|------
// `{http.auth.user.id}` | ID of the token, so that limits and logs by user tell tokens apart
// `{http.auth.user.token_id}` | the same
// `{http.auth.user.account_id}` | ID of the account
// `{http.auth.user.user_id}` | ID of the user; empty without one
// `{http.auth.user.role}` | role of the user; empty without one
// `{http.auth.user.business_units}` | as in the header
// `{http.auth.user.access}` | as in the header
// `{http.auth.user.scopes}` | as in the header
// `{http.auth.user.environment}` | as in the header
//
// Other modules find a *Principal in the variable `sallyport.principal`.
type Gate struct {
	// Require says which scope an operation needs. Of the lines that match a
	// request the most specific one holds. Default: none; then reading methods
	// need the scope `read`, and all others `write`.
	Require []Requirement `json:"require,omitempty"`

	// Environment is the one that the gate serves: `production`, `sandbox` or
	// `any`. Default: `production`.
	Environment string `json:"environment,omitempty"`

	// FailureLimit is how many refused credentials a minute an address may
	// present before it gets 429; 0 means any number. IPv6 addresses count by
	// /64, and valid tokens that are known to the gate always pass. Default: 20.
	FailureLimit *int `json:"failure_limit,omitempty"`

	// OpaqueErrors makes the answers to all refused tokens alike, so that they
	// do not tell an expired or revoked token from one that never was.
	// Default: false.
	OpaqueErrors bool `json:"opaque_errors,omitempty"`

	// FreshOnly has the gate answer 503 while it may have missed a change for
	// more than 5 seconds because the store is out of reach, also for tokens
	// that would go on working for `stale_if_unavailable`. Tokens can be marked
	// like that one by one, too. Default: false.
	FreshOnly bool `json:"fresh_only,omitempty"`

	// CredentialHeaders are headers that may hold the token in place of
	// `Authorization: Bearer`. Caddy's access log does not hide them: add a
	// filter for each. Default: none.
	CredentialHeaders []string `json:"credential_headers,omitempty"`

	// CredentialQuery is the query parameter that may hold the token. URLs are
	// written into logs and histories: use it only for callers that cannot send
	// a header, and filter it from the access log. Default: none.
	CredentialQuery string `json:"credential_query,omitempty"`

	// ForwardCredential leaves the header with the credential in the request
	// that goes upstream. Default: false.
	ForwardCredential bool `json:"forward_credential,omitempty"`

	// Allow lists the kinds of ambiguous paths that pass: `encoded_slash`,
	// `double_slash`, `semicolon`. They are judged as they stand. Default: none.
	Allow []string `json:"allow,omitempty"`

	// CORS lists the origins of web pages that may call the API from a browser,
	// or `*`. Their preflight requests are answered by the gate. Default: none.
	CORS []string `json:"cors,omitempty"`

	// Realm is named in the WWW-Authenticate header. Default: `api`.
	Realm string `json:"realm,omitempty"`

	logger  *zap.Logger
	now     func() time.Time
	runtime *runtime

	prefixes    []string
	headers     headerRules
	relaxations relaxations
	routes      *token.Routes
	scopes      *scopeLists
	environment token.Environment
	cors        *corsRules
	limit       int
	used        firstUses

	// watchPeer is set while nobody was told that the peer looks like a proxy
	// that is not trusted.
	watchPeer atomic.Bool
}

// Requirement is a scope that operations need.
type Requirement struct {
	// Scope is the name of a declared scope, or `read` or `write`.
	Scope string `json:"scope"`
	// Methods are the methods that the line is about. Default: all.
	Methods []string `json:"methods,omitempty"`
	// Path is the path that the line is about: exact, with `{x}` for one
	// segment, `*` within a segment, or `*` at the end for any rest.
	Path string `json:"path"`
	// Units are business units: the token must belong to a user who works for one
	// of them. Default: none; then it may belong to anybody.
	Units []string `json:"business_units,omitempty"`
	// Source says where the line stands, for error messages. Default: its
	// position in the list.
	Source string `json:"source,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Gate) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.sallyport",
		New: func() caddy.Module { return new(Gate) },
	}
}

// Provision checks the configuration and finds the app that all gates share.
func (g *Gate) Provision(ctx caddy.Context) error {
	g.logger = ctx.Logger()
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		if err := checkServerProxies(server); err != nil {
			return err
		}
		trusts, known := trustsProxies(server)
		g.watchPeer.Store(known && !trusts)
	}
	module, err := ctx.App("sallyport")
	if err != nil {
		return err
	}
	app, ok := module.(*App)
	if !ok {
		return fmt.Errorf("the app named sallyport is a %T", module)
	}
	return g.settle(app)
}

// settle makes the configuration ready for use under an app.
func (g *Gate) settle(app *App) error {
	if g.now == nil {
		g.now = time.Now
	}
	app.gates.Add(1)
	g.runtime = app.runtime
	g.prefixes = app.SecretPrefixes
	g.scopes = newScopeLists(app.declarations.Scopes, app.knownScope)
	g.limit = defaultFailureLimit
	if g.FailureLimit != nil {
		g.limit = *g.FailureLimit
	}
	if g.limit < 0 {
		return errors.New("failure_limit is negative: write a number of refused credentials a minute, or `off`")
	}
	if g.Realm == "" {
		g.Realm = defaultRealm
	}
	if strings.ContainsFunc(g.Realm, func(c rune) bool { return c < ' ' || c > '~' || c == '"' || c == '\\' }) {
		return errors.New("realm: use visible ASCII characters other than quotes and backslashes")
	}
	var err error
	if g.environment, err = gateEnvironment(g.Environment); err != nil {
		return err
	}
	if g.relaxations, err = newRelaxations(g.Allow); err != nil {
		return err
	}
	if g.cors, err = newCORS(g.CORS); err != nil {
		return err
	}
	if g.headers.credentials, err = credentialNames(g.CredentialHeaders); err != nil {
		return err
	}
	lines := make([]token.Requirement, len(g.Require))
	for i, line := range g.Require {
		lines[i] = token.Requirement(line)
	}
	if g.routes, err = token.NewRoutes(lines, app.knownScope); err != nil {
		return fmt.Errorf("require: %w", err)
	}
	return nil
}

// gateEnvironment reads the environment of a gate. Zero stands for every one.
func gateEnvironment(name string) (token.Environment, error) {
	switch name {
	case "", "production":
		return token.Production, nil
	case "sandbox":
		return token.Sandbox, nil
	case "any":
		return 0, nil
	default:
		return 0, errors.New("environment: must be production, sandbox or any")
	}
}

func newRelaxations(allow []string) (r relaxations, err error) {
	for _, kind := range allow {
		switch kind {
		case "encoded_slash":
			r.encodedSlash = true
		case "double_slash":
			r.doubleSlash = true
		case "semicolon":
			r.semicolon = true
		default:
			return r, errors.New("allow: must be of encoded_slash, double_slash and semicolon")
		}
	}
	return r, nil
}

// credentialNames brings the names of headers into the form that net/http uses.
func credentialNames(names []string) ([]string, error) {
	var canonical []string
	for _, name := range names {
		key := foldKey(name)
		if name == "" || !strings.EqualFold(key, name) {
			return nil, errors.New("credential_header: use letters, digits and hyphens: Caddy drops headers with other characters in their name")
		}
		if kind, _ := new(headerRules).kindOf(key); kind != plainHeader || reservedCredentialHeader(key) {
			return nil, fmt.Errorf("credential_header: %s has a meaning of its own: name another header, such as X-Api-Key", key)
		}
		canonical = append(canonical, key)
	}
	return canonical, nil
}

func reservedCredentialHeader(key string) bool {
	return !new(headerRules).mayTrail(key) || key == "User-Agent" || key == "Referer"
}

// ServeHTTP judges a request, and hands it on if it may pass.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	p, v, err := g.admit(w, r)
	if err != nil {
		return err
	}
	if p == nil {
		g.conclude(w, r, v)
		return nil
	}
	return p.forward(r, next)
}

// verdict is what becomes of a request that is not handed on.
type verdict struct {
	refusal   *refusal
	preflight string // the origin of a preflight that is answered
}

// admit judges a request and makes it ready to be handed on. Nothing that goes
// wrong in it lets a request pass.
func (g *Gate) admit(w http.ResponseWriter, r *http.Request) (p *passage, v verdict, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = caddyhttp.Error(http.StatusInternalServerError, panicError(cause))
		}
	}()
	p = &passage{gate: g}
	if v.refusal, v.preflight = p.judge(r); v.refusal != nil || v.preflight != "" || p.principal.record == nil {
		return nil, v, nil
	}
	if !p.prepare(w, r) {
		v.refusal = refuse(problemStoreUnavailable)
		return nil, v, nil
	}
	return p, v, nil
}

// panicError describes a panic without its value, which may hold a secret.
// Errors of the Go runtime itself hold none.
func panicError(cause any) error {
	var text string
	if err, ok := cause.(interface {
		error
		RuntimeError()
	}); ok {
		text = err.Error()
	} else {
		text = fmt.Sprintf("%T", cause)
	}
	return fmt.Errorf("sallyport: panic while judging a request, which was refused: %s\n%s", text, debug.Stack())
}

// conclude answers a request that is not handed on.
func (g *Gate) conclude(w http.ResponseWriter, r *http.Request, v verdict) {
	switch {
	case v.refusal != nil:
		g.answer(w, r, v.refusal)
	case v.preflight != "":
		g.cors.answerPreflight(w, r, v.preflight)
	default: // OPTIONS *, which asks about the server and not about the API
		w.Header()["Allow"] = []string{allowedMethods}
		w.WriteHeader(http.StatusNoContent)
	}
}

// answer writes a refusal.
func (g *Gate) answer(w http.ResponseWriter, r *http.Request, f *refusal) {
	if extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(zap.String("sallyport_refused", f.problem.code)) // the operator may know why
	}
	if g.OpaqueErrors && f.failed() {
		f = refuse(problemRefusedToken)
	}
	if g.cors != nil {
		g.cors.allowOrigin(w.Header(), g.cors.allows(r))
	}
	if g.CredentialQuery != "" {
		w.Header()["Referrer-Policy"] = []string{"no-referrer"}
	}
	f.write(w, r, g.Realm)
}

// passage is one request on its way through a gate: everything that lasts as
// long as the request, in one piece of memory.
type passage struct {
	gate      *Gate
	principal Principal
	stream    stream
	writer    responseWriter
	identity  identityHeaders

	taken     credentials
	fromQuery bool
	// outer is the context of the request as the gate got it.
	outer context.Context
}

// judge decides about a request. It returns a refusal, or the origin of a
// preflight to be answered, or neither: then the request may pass if it left a
// record in the principal, and is an OPTIONS * otherwise.
func (p *passage) judge(r *http.Request) (*refusal, string) {
	g := p.gate
	first, nested := caddyhttp.GetVar(r.Context(), PrincipalVar).(*Principal)
	size := p.strip(r, nested)
	if size > maxHeaderBytes {
		return refuse(problemHeadersTooLarge), ""
	}
	op, wrong := judgeTarget(r, g.relaxations)
	if wrong != nil {
		return refuse(wrong), ""
	}
	if op.path == "*" {
		return nil, ""
	}
	if g.cors != nil && isPreflight(r) {
		if origin := g.cors.allows(r); origin != "" {
			return nil, origin
		}
	}
	if !nested {
		switch p.taken.count {
		case 0:
			return refuse(problemMissingToken), ""
		case 1:
		default:
			return refuse(problemAmbiguousCredentials), ""
		}
	}
	early := isEarlyData(r)
	if early && (op.upgrade || token.MethodScope(op.method).Nature != token.Read) {
		return refuse(problemEarlyData), ""
	}

	clientIP, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	required, units := g.routes.Needs(op.method, op.path, op.upgrade)
	p.stream.facts = requestFacts{
		address:     parseAddress(clientIP),
		required:    required,
		units:       units,
		environment: g.environment,
		freshOnly:   g.FreshOnly,
	}
	if g.watchPeer.Load() {
		g.warnOfProxy(p.stream.facts.address)
	}
	if nested {
		return p.decide(r, first.digest, early), ""
	}
	digest, ok := p.digest()
	if !ok {
		return g.fail(refuse(problemMalformedToken), p.stream.facts.address), ""
	}
	return p.decide(r, digest, early), ""
}

// strip takes out of the request what must not reach anybody behind the gate,
// and gives the size of what came.
func (p *passage) strip(r *http.Request, nested bool) (size int) {
	g := p.gate
	size = len(r.RequestURI)
	if nested {
		// The gate before has done it, and the identity is its own. What is left
		// is a credential that it put back, or one that only this gate knows of.
		if !g.ForwardCredential {
			delete(r.Header, "Authorization")
			for _, key := range g.headers.credentials {
				delete(r.Header, key)
			}
		}
	} else {
		trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
		var headers int
		p.taken, headers = g.headers.strip(r.Header, trusted)
		size += headers
		g.headers.guardTrailers(r)
	}
	if g.CredentialQuery != "" {
		if values := takeCredentialQuery(r, g.CredentialQuery); len(values) > 0 {
			p.fromQuery = true
			p.taken.add("", values, false)
		}
	}
	return size
}

// takeCredentialQuery takes a parameter out of the URL, and out of the memory
// that Caddy has of it: error routes get the URL as it came.
func takeCredentialQuery(r *http.Request, name string) []string {
	rest, values := takeQuery(r.URL.RawQuery, name)
	if len(values) == 0 {
		return nil
	}
	r.URL.RawQuery = rest
	r.RequestURI = withoutParameter(r.RequestURI, name)
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		if original.URL != nil {
			original.URL.RawQuery, _ = takeQuery(original.URL.RawQuery, name)
		}
		original.RequestURI = withoutParameter(original.RequestURI, name)
		*r = *r.WithContext(context.WithValue(r.Context(), caddyhttp.OriginalRequestCtxKey, original))
	}
	return values
}

func withoutParameter(uri, name string) string {
	path, query, ok := strings.Cut(uri, "?")
	if !ok {
		return uri
	}
	if rest, _ := takeQuery(query, name); rest != "" {
		return path + "?" + rest
	}
	return path
}

// isEarlyData says whether a request may be a replay of an earlier one: it came
// before the handshake ended, here or at a proxy in front (RFC 8470).
func isEarlyData(r *http.Request) bool {
	return r.TLS != nil && !r.TLS.HandshakeComplete || len(r.Header["Early-Data"]) > 0
}

// digest reads the one credential that was presented.
func (p *passage) digest() (d token.Digest, ok bool) {
	text, ok := p.taken.secret()
	if !ok || len(text) > token.MaxSecretLength {
		return d, false
	}
	secret, err := token.ParseSecret(text, p.gate.prefixes)
	if err != nil {
		if p.gate.OpaqueErrors {
			p.gate.pretend(text)
		}
		return d, false
	}
	return secret.Digest(), true
}

// pretend does for a malformed credential what is done for a well-formed one, so
// that the time of an opaque answer does not tell them apart.
func (g *Gate) pretend(text string) {
	if open := g.runtime.open.Load(); open != nil {
		open.store.Peek(sha256.Sum256([]byte(text)))
	}
}

// decide looks the secret up and judges its token.
func (p *passage) decide(r *http.Request, digest token.Digest, early bool) *refusal {
	g := p.gate
	facts := &p.stream.facts
	open := g.runtime.await(r.Context())
	if open == nil {
		return refuse(problemStoreUnavailable)
	}
	now := g.now()
	record, ok := open.store.Peek(digest)
	if !ok {
		// Tokens in the cache pass all the same, so that nobody can lock out
		// whoever shares an address with them. Without the store none can be peeked at.
		if g.runtime.failures.Spent(facts.address, g.limit, now) && !open.store.Known(digest) {
			return &refusal{problem: problemTooManyFailures, retryAfter: failureWait}
		}
		var err error
		if record, err = open.store.Resolve(r.Context(), digest, facts.address); err != nil {
			refused := refuseLookup(err)
			if refused.failed() {
				open.activity.count(refused, facts.address, now)
			}
			return g.fail(refused, facts.address)
		}
		if facts.outdated(record, open.store) {
			return refuse(problemStoreUnavailable)
		}
	}
	if early && !record.Token.AllowList.Empty() {
		return refuse(problemEarlyData) // the address is not proven before the handshake ends
	}
	refused, reason := decide(record, facts, now)
	if refused != nil && refused.problem == problemRetiredSecret {
		open.retired.report(record, facts.address)
	}
	if reason.Authenticated() && g.used.pending(&record.Secret, now) {
		retired, err := writeFirstUse(r.Context(), open.store, &record.Secret, now)
		switch {
		case err == nil:
			g.used.done(&record.Secret)
			if retired && refused == nil {
				refused, reason = refuseReason(token.RetiredSecret, facts.required), token.RetiredSecret
			}
		case refused == nil:
			return refuseLookup(err)
		}
	}
	if unrecorded := p.stream.recording.note(open.activity, record, facts, reason, now); unrecorded != nil && refused == nil {
		refused = unrecorded
	}
	if refused != nil {
		return g.fail(refused, facts.address)
	}
	p.stream.source, p.stream.digest, p.stream.record = open.store, digest, record
	p.principal.record, p.principal.digest = record, digest
	return nil
}

// fail counts a refused credential, and answers for it, or for there having been
// too many.
func (g *Gate) fail(f *refusal, address netip.Addr) *refusal {
	if !f.failed() {
		return f
	}
	now := g.now()
	if g.runtime.failures.Spent(address, g.limit, now) {
		return &refusal{problem: problemTooManyFailures, retryAfter: failureWait}
	}
	g.runtime.failures.Add(address, now)
	return f
}

// warnOfProxy tells the operator, once, that what looks like a proxy is taken
// for the client: allow-lists would then hold the proxy's address (A2).
func (g *Gate) warnOfProxy(address netip.Addr) {
	if !address.IsPrivate() || !g.watchPeer.CompareAndSwap(true, false) {
		return
	}
	g.logger.Warn("a request came from a private address and the server trusts no proxies; " +
		"if a proxy or load balancer stands in front, name it with trusted_proxies and trusted_proxies_strict in the servers options, " +
		"or IP allow-lists and failure limits see its address in place of the client's")
}

// prepare makes an allowed request ready to be handed on. It says false when
// nobody would be there to end it.
func (p *passage) prepare(w http.ResponseWriter, r *http.Request) bool {
	g := p.gate
	record := p.principal.record
	var ceiling *token.Grant
	if record.Role != nil {
		ceiling = &record.Role.Ceiling
	}
	p.principal.access, p.principal.scopes, p.principal.count = g.scopes.effective(&record.Token.Grant, ceiling)
	p.principal.identify(r.Header, &p.identity)
	if g.ForwardCredential && p.taken.key != "" {
		r.Header[p.taken.key] = p.taken.values
	}
	caddyhttp.SetVar(r.Context(), PrincipalVar, &p.principal)
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map(p.principal.placeholder)
	}
	p.writer = responseWriter{
		ResponseWriterWrapper: caddyhttp.ResponseWriterWrapper{ResponseWriter: w},
		gate:                  g,
		request:               r,
		stream:                &p.stream,
		record:                record,
		origin:                g.cors.allows(r),
		fromQuery:             p.fromQuery,
	}
	p.stream.client, p.stream.hasBody = w, r.ContentLength != 0
	p.outer = r.Context()
	ctx, cancel := context.WithCancel(p.outer)
	p.stream.cancel = cancel
	if !g.runtime.streams.enter(&p.stream) {
		cancel()
		return false
	}
	// In place, because Caddy's placeholders look at this very request.
	*r = *r.WithContext(ctx)
	return true
}

// forward hands the request on.
func (p *passage) forward(r *http.Request, next caddyhttp.Handler) error {
	defer func() {
		p.gate.runtime.streams.leave(&p.stream)
		p.stream.cancel()
		p.stream.recording.renew(p.gate.now())
	}()
	err := next.ServeHTTP(&p.writer, r)
	if why := p.stream.ended.Load(); why != nil && !p.writer.wrote {
		p.writer.begin()
		err = nil
	}
	p.writer.finish()
	if err != nil {
		// Error routes go on with this request: under a context that has not
		// ended, and without the credential.
		*r = *r.WithContext(p.outer)
		if p.gate.ForwardCredential && p.taken.key != "" {
			delete(r.Header, p.taken.key)
		}
	}
	return err
}

var (
	_ caddy.Provisioner           = (*Gate)(nil)
	_ caddyhttp.MiddlewareHandler = (*Gate)(nil)
)
