package caddymodule

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// problem is one kind of refusal, with all that every answer about it has in
// common. Nothing in an answer comes from the request.
type problem struct {
	code   string // stable; see docs/caddyfile.md
	status int
	detail string // what to do about it
	bearer string // the RFC 6750 error; empty: none is named
	grpc   int    // the gRPC status

	head  string  // the JSON body up to its last brace
	plain refusal // the refusal that says nothing more than its problem
}

// refusal is one answer: a problem, and what this request adds to it.
type refusal struct {
	problem    *problem
	scope      string        // the scope that the request needed
	retryAfter time.Duration // 0: nothing is said about it
	// downgradedAt is when the scope was taken from the token for not having been
	// used, and undoUntil up to when it can be had back; zero: it was not.
	downgradedAt, undoUntil time.Time
}

// The RFC 6750 errors.
const (
	bearerInvalidRequest    = "invalid_request"
	bearerInvalidToken      = "invalid_token"
	bearerInsufficientScope = "insufficient_scope"
)

// The gRPC statuses that a gate answers with.
const (
	grpcInvalidArgument   = 3
	grpcPermissionDenied  = 7
	grpcResourceExhausted = 8
	grpcUnimplemented     = 12
	grpcUnavailable       = 14
	grpcUnauthenticated   = 16
)

var (
	problemAmbiguousCredentials = newProblem("ambiguous_credentials", 400, bearerInvalidRequest, grpcInvalidArgument,
		"The request has more than one credential. Send exactly one, in one place.")
	problemAmbiguousPath = newProblem("ambiguous_path", 400, "", grpcInvalidArgument,
		"The path can be read in more than one way. Send it without dot segments, empty segments, encoded slashes, backslashes, semicolons, control characters, fragments and double encoding.")
	problemMalformedRequest = newProblem("malformed_request", 400, "", grpcInvalidArgument,
		"The request is not well formed. Send a path as its target, with one host.")
	problemUpgradeNotAllowed = newProblem("upgrade_not_allowed", 400, "", grpcInvalidArgument,
		"Only an upgrade to websocket is possible, with GET over HTTP/1.1 and without a body.")
	problemMissingToken = newProblem("missing_token", 401, "", grpcUnauthenticated,
		"The request has no token. Send one as `Authorization: Bearer TOKEN`.")
	problemMalformedToken = newProblem("malformed_token", 401, bearerInvalidToken, grpcUnauthenticated,
		"The credential is not a token of this gateway. Send the whole token as `Authorization: Bearer TOKEN`.")
	problemUnknownToken = newProblem("unknown_token", 401, bearerInvalidToken, grpcUnauthenticated,
		"The token is not known. Check that it is whole and that it belongs to this gateway.")
	problemExpiredToken = newProblem("expired_token", 401, bearerInvalidToken, grpcUnauthenticated,
		"The token has expired. Create a new one.")
	problemRevokedToken = newProblem("revoked_token", 401, bearerInvalidToken, grpcUnauthenticated,
		"The token was revoked. Create a new one.")
	problemDisabledToken = newProblem("disabled_token", 401, bearerInvalidToken, grpcUnauthenticated,
		"The token is disabled. Ask its owner or an administrator to enable it.")
	problemRetiredSecret = newProblem("retired_secret", 401, bearerInvalidToken, grpcUnauthenticated,
		"The token was rotated and this secret works no more. Use the new one.")
	problemRefusedToken = newProblem("unknown_token", 401, bearerInvalidToken, grpcUnauthenticated,
		"The token was not accepted.")
	problemAddress = newProblem("ip_not_allowed", 403, "", grpcPermissionDenied,
		"The token may not be used from this address.")
	problemInsufficientScope = newProblem("insufficient_scope", 403, bearerInsufficientScope, grpcPermissionDenied,
		"The token lacks the scope that this operation needs.")
	problemOtherBusinessUnit = newProblem("insufficient_scope", 403, bearerInsufficientScope, grpcPermissionDenied,
		"The operation is open to other business units than those that the token's user works for. Ask an administrator of the account.")
	problemReadOnlyToken = newProblem("read_only_token", 403, bearerInsufficientScope, grpcPermissionDenied,
		"The token may only read.")
	problemWrongEnvironment = newProblem("wrong_environment", 403, "", grpcPermissionDenied,
		"The token belongs to the other environment: live tokens are for production, test tokens for the sandbox.")
	problemAccountDisabled = newProblem("account_disabled", 403, "", grpcPermissionDenied,
		"The account that the token belongs to is disabled.")
	problemAccountTokensOff = newProblem("account_disabled", 403, "", grpcPermissionDenied,
		"API tokens are switched off for the account that the token belongs to. Ask whoever runs this API to switch them on.")
	problemUserTokensOff = newProblem("user_disabled", 403, "", grpcPermissionDenied,
		"API tokens are switched off for the user whom the token belongs to. Ask an administrator of the account to switch them on.")
	problemUserDisabled = newProblem("user_disabled", 403, "", grpcPermissionDenied,
		"The user whom the token belongs to is disabled.")
	problemMethodNotAllowed = newProblem("method_not_allowed", 405, "", grpcUnimplemented,
		"The method is not possible here.")
	problemEarlyData = newProblem("early_data", 425, "", grpcUnavailable,
		"The request came before the TLS handshake had ended and could be a replay. Send it again.")
	problemTooManyFailures = newProblem("too_many_failures", 429, "", grpcResourceExhausted,
		"Too many credentials from this address were refused. Wait, then send a valid one.")
	problemHeadersTooLarge = newProblem("headers_too_large", 431, "", grpcResourceExhausted,
		"The target and the headers are larger than 32 KiB together.")
	problemStoreUnavailable = newProblem("store_unavailable", 503, "", grpcUnavailable,
		"The gateway can not check tokens at the moment. Send the request again later.")
)

func newProblem(code string, status int, bearer string, grpc int, detail string) *problem {
	p := &problem{code: code, status: status, detail: detail, bearer: bearer, grpc: grpc}
	p.plain.problem = p
	if status == http.StatusServiceUnavailable {
		p.plain.retryAfter = time.Second
	}
	p.head = `{"type":` + jsonText("urn:sallyport:problem:"+code) +
		`,"title":` + jsonText(http.StatusText(status)) +
		`,"status":` + strconv.Itoa(status) +
		`,"code":` + jsonText(code) +
		`,"detail":` + jsonText(detail)
	return p
}

// jsonText writes a text that this package or the operator wrote.
func jsonText(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(b)
}

// refuse gives the refusal that adds nothing to a problem.
func refuse(p *problem) *refusal { return &p.plain }

// refuseReason answers for a decision of token.Decide.
func refuseReason(reason token.Reason, required token.Scope) *refusal {
	switch reason {
	case token.RevokedToken:
		return refuse(problemRevokedToken)
	case token.RetiredSecret:
		return refuse(problemRetiredSecret)
	case token.ExpiredToken:
		return refuse(problemExpiredToken)
	case token.DisabledToken:
		return refuse(problemDisabledToken)
	case token.AccountDisabled:
		return refuse(problemAccountDisabled)
	case token.AccountTokensOff:
		return refuse(problemAccountTokensOff)
	case token.UserDisabled:
		return refuse(problemUserDisabled)
	case token.UserTokensOff:
		return refuse(problemUserTokensOff)
	case token.OtherBusinessUnit:
		return refuse(problemOtherBusinessUnit)
	case token.WrongEnvironment:
		return refuse(problemWrongEnvironment)
	case token.AddressNotAllowed:
		return refuse(problemAddress)
	case token.ReadOnlyToken:
		return &refusal{problem: problemReadOnlyToken, scope: required.Name}
	case token.InsufficientScope:
		return &refusal{problem: problemInsufficientScope, scope: required.Name}
	default:
		// A reason that this build does not know is not one to let pass.
		return refuse(problemStoreUnavailable)
	}
}

// refuseLookup answers for a lookup that gave no record. Only a certain "no such
// secret" blames the caller, who would throw a good token away otherwise.
func refuseLookup(err error) *refusal {
	if errors.Is(err, tokenstore.ErrNotFound) {
		return refuse(problemUnknownToken)
	}
	return refuse(problemStoreUnavailable)
}

// failed says whether the refusal counts against the caller's address: a
// credential was presented and is no good.
func (f *refusal) failed() bool {
	return f.problem.status == http.StatusUnauthorized && f.problem != problemMissingToken
}

// allowedMethods is what a 405 names: the methods that APIs use, not every
// registered one that would pass.
const allowedMethods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, QUERY"

// write answers a request with a refusal.
func (f *refusal) write(w http.ResponseWriter, r *http.Request, realm string) {
	p := f.problem
	h := w.Header()
	h["Cache-Control"] = []string{"no-store"}
	if challenge := f.challenge(realm); challenge != "" {
		h["Www-Authenticate"] = []string{challenge}
	}
	if f.retryAfter > 0 {
		seconds := int64((f.retryAfter + time.Second - 1) / time.Second)
		h["Retry-After"] = []string{strconv.FormatInt(seconds, 10)}
	}
	if p == problemMethodNotAllowed {
		h["Allow"] = []string{allowedMethods}
	}
	if kind := grpcKind(r.Header); kind != "" {
		// A gRPC client takes its status from these headers when the response
		// has no body; the HTTP status must then be 200.
		h["Content-Type"] = []string{kind}
		h["Grpc-Status"] = []string{strconv.Itoa(p.grpc)}
		h["Grpc-Message"] = []string{p.code + ": " + p.detail}
		w.WriteHeader(http.StatusOK)
		return
	}
	body := p.head
	if f.scope != "" {
		body += `,"scope":` + jsonText(f.scope)
	}
	if !f.downgradedAt.IsZero() {
		body += `,"downgraded_at":` + jsonText(instant(f.downgradedAt)) + `,"undo_until":` + jsonText(instant(f.undoUntil)) +
			`,"hint":` + jsonText("The token held the scope and did not use it for as long as its policy allows. An administrator of the account can undo that until undo_until.")
	}
	body += "}"
	h["Content-Type"] = []string{"application/problem+json"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(p.status)
	_, _ = w.Write([]byte(body)) // the client left
}

// challenge is the WWW-Authenticate header of RFC 6750. Every 401 has one; one
// about a missing credential names no error.
func (f *refusal) challenge(realm string) string {
	p := f.problem
	if p.status != http.StatusUnauthorized && p.bearer == "" {
		return ""
	}
	text := `Bearer realm="` + realm + `"`
	if p.bearer != "" {
		// Details have no quotes but backticks, which stand in a quoted string as they are.
		text += `, error="` + p.bearer + `", error_description="` + p.detail + `"`
	}
	if f.scope != "" {
		text += `, scope="` + f.scope + `"` // scope names have neither quotes nor backslashes
	}
	return text
}

// grpcKind is the content type to answer a gRPC call with; empty for all other
// requests. It never repeats the caller's own text.
func grpcKind(h http.Header) string {
	values := h["Content-Type"]
	if len(values) == 0 || !hasPrefixFold(values[0], "application/grpc") {
		return ""
	}
	switch {
	case hasPrefixFold(values[0], "application/grpc-web-text"):
		return "application/grpc-web-text"
	case hasPrefixFold(values[0], "application/grpc-web"):
		return "application/grpc-web"
	default:
		return "application/grpc"
	}
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
