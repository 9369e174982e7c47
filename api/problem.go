package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Problem is a refusal, as RFC 9457 writes them. The server makes them, and the
// client returns them as errors. No field of it repeats what a caller sent.
type Problem struct {
	Type      string         `json:"type" doc:"A URI for the code." example:"urn:sallyport:problem:invalid_field"`
	Title     string         `json:"title" doc:"What the code means; the same for every occurrence."`
	Status    int            `json:"status" doc:"The HTTP status." example:"422"`
	Detail    string         `json:"detail,omitempty" doc:"What is wrong this time and how to mend it."`
	Code      string         `json:"code" doc:"A stable name for programs to act on." example:"invalid_field"`
	RequestID string         `json:"request_id" doc:"The X-Request-Id of this response; the gateway's log has it too."`
	Errors    []FieldProblem `json:"errors,omitempty" doc:"The fields that are wrong, if the problem is about fields."`

	Candidates []Candidate `json:"candidates,omitempty" doc:"With token_limit_reached: valid secrets that count, of which revoke_last4 can give one up to make room. With ambiguous_last4: those that end so. At most 100, those of the newest tokens first."`

	retryAfter string
}

// FieldProblem says where one mistake is and what it is. One of Pointer,
// Parameter and Header is set.
type FieldProblem struct {
	Pointer   string `json:"pointer,omitempty" doc:"A JSON pointer into the request body." example:"/name"`
	Parameter string `json:"parameter,omitempty" doc:"The name of a query parameter." example:"limit"`
	Header    string `json:"header,omitempty" doc:"The name of a request header." example:"If-Match"`
	Detail    string `json:"detail" doc:"What is wrong with it." example:"must be at most 200"`
}

// Candidate is a valid secret that can be given up for another one.
type Candidate struct {
	TokenID  token.ID `json:"token_id" doc:"The token that it belongs to."`
	SecretID token.ID `json:"secret_id" doc:"Names the secret."`
	Last4    string   `json:"last4" doc:"The last four characters of the secret." example:"k3Wz"`
	Name     string   `json:"name" doc:"The token's name."`
}

// name is the field as people call it.
func (f *FieldProblem) name() string {
	switch {
	case f.Parameter != "":
		return f.Parameter
	case f.Header != "":
		return f.Header
	default:
		return strings.TrimPrefix(f.Pointer, "/")
	}
}

// The codes of problems: the contract of this API, together with their statuses.
const (
	codeInvalidRequest       = "invalid_request"
	codeForbidden            = "forbidden"
	codeExceedsGrantor       = "exceeds_grantor"
	codeStepUpRequired       = "step_up_required"
	codeInvalidOTP           = "invalid_otp"
	codeCodeUsed             = "code_used"
	codeNotFound             = "not_found"
	codeMethodNotAllowed     = "method_not_allowed"
	codeTokenLimitReached    = "token_limit_reached"
	codeAmbiguousLast4       = "ambiguous_last4"
	codeRotationInProgress   = "rotation_in_progress"
	codeNoRotation           = "no_rotation"
	codeRetryInProgress      = "retry_in_progress"
	codeAlreadyConfirmed     = "already_confirmed"
	codeManagedByConfig      = "managed_by_config"
	codeInvalidState         = "invalid_state"
	codeVersionMismatch      = "version_mismatch"
	codeConfirmationRequired = "confirmation_required"
	codeBodyTooLarge         = "body_too_large"
	codeUnsupportedMediaType = "unsupported_media_type"
	codeInvalidField         = "invalid_field"
	codeIPAllowlistRequired  = "ip_allowlist_required"
	codeIfMatchRequired      = "if_match_required"
	codeInternalError        = "internal_error"
	codeStoreUnavailable     = "store_unavailable"

	codeLifecycleUnavailable = "lifecycle_unavailable"
)

type meaning struct {
	status int
	title  string
}

// problems is the one table from codes to statuses.
var problems = map[string]meaning{
	codeInvalidRequest:       {http.StatusBadRequest, "The request is not well formed"},
	codeInvalidOTP:           {http.StatusUnauthorized, "The one-time code is not accepted"},
	codeCodeUsed:             {http.StatusUnauthorized, "The one-time code was used before"},
	codeExceedsGrantor:       {http.StatusForbidden, "Nobody can give more than they hold"},
	codeStepUpRequired:       {http.StatusForbidden, "This needs a one-time code"},
	codeForbidden:            {http.StatusForbidden, "This is not allowed"},
	codeNotFound:             {http.StatusNotFound, "There is nothing here"},
	codeMethodNotAllowed:     {http.StatusMethodNotAllowed, "The method does not fit this path"},
	codeTokenLimitReached:    {http.StatusConflict, "The policy lets no more secrets be valid"},
	codeAmbiguousLast4:       {http.StatusConflict, "Several secrets end so"},
	codeRotationInProgress:   {http.StatusConflict, "A rotation is already under way"},
	codeNoRotation:           {http.StatusConflict, "No rotation is under way"},
	codeRetryInProgress:      {http.StatusConflict, "A request with the same Idempotency-Key is still being answered"},
	codeAlreadyConfirmed:     {http.StatusConflict, "The secret issued under this Idempotency-Key is already in use"},
	codeManagedByConfig:      {http.StatusConflict, "The gateway's configuration owns this record"},
	codeInvalidState:         {http.StatusConflict, "The state of the record does not allow this"},
	codeVersionMismatch:      {http.StatusPreconditionFailed, "The record was changed since it was read"},
	codeConfirmationRequired: {http.StatusPreconditionFailed, "This needs an explicit confirmation"},
	codeBodyTooLarge:         {http.StatusRequestEntityTooLarge, "The request body is too large"},
	codeUnsupportedMediaType: {http.StatusUnsupportedMediaType, "The request body is of another media type than the route takes"},
	codeInvalidField:         {http.StatusUnprocessableEntity, "A field is not valid"},
	codeIPAllowlistRequired:  {http.StatusUnprocessableEntity, "The policy requires an IP allow-list"},
	codeIfMatchRequired:      {http.StatusPreconditionRequired, "An edit needs the version that it is based on"},
	codeInternalError:        {http.StatusInternalServerError, "Something went wrong in the gateway"},
	codeStoreUnavailable:     {http.StatusServiceUnavailable, "The store can not be reached"},
	codeLifecycleUnavailable: {http.StatusServiceUnavailable, "Nothing looks after tokens here"},
}

func newProblem(code, detail string) *Problem {
	m, ok := problems[code]
	if !ok {
		code = codeInternalError
		m, detail = problems[code], ""
	}
	p := &Problem{Type: "urn:sallyport:problem:" + code, Title: m.title, Status: m.status, Detail: detail, Code: code}
	if m.status == http.StatusServiceUnavailable {
		p.retryAfter = "1"
	}
	return p
}

// fieldProblem is an invalid_field about one or more fields. The detail names
// the first, for those who print nothing else.
func fieldProblem(fields ...FieldProblem) *Problem {
	detail := ""
	if len(fields) > 0 {
		detail = fields[0].Detail
		if name := fields[0].name(); name != "" {
			detail = name + ": " + detail
		}
	}
	p := newProblem(codeInvalidField, detail)
	p.Errors = fields[:min(len(fields), maxFieldProblems)]
	return p
}

// maxFieldProblems keeps an answer short, whatever was sent.
const maxFieldProblems = 10

// Error gives the code and the detail.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return p.Code
	}
	return p.Code + ": " + p.Detail
}

// Is makes errors.Is compare codes.
func (p *Problem) Is(target error) bool {
	t, ok := target.(*Problem)
	return ok && t.Code == p.Code && t.Detail == "" && t.Errors == nil
}

// GetStatus gives huma the status.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders gives huma the headers that the problem adds.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.retryAfter != "" {
		h.Set("Retry-After", p.retryAfter)
	}
	return h
}

// ContentType is that of RFC 9457.
func (p *Problem) ContentType(string) string { return problemType }

const problemType = "application/problem+json"

// write sends the problem past huma, for requests that never come so far.
func (p *Problem) write(w http.ResponseWriter) {
	for name, values := range p.GetHeaders() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	// The caller may be gone; there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(p)
}

// place says where a verb's fields come from.
type place int

const (
	inBody place = iota
	inQuery
)

func (pl place) field(name, detail string) FieldProblem {
	if pl == inQuery {
		return FieldProblem{Parameter: name, Detail: detail}
	}
	return fieldAt("body." + name).because(detail)
}

func (f FieldProblem) because(detail string) FieldProblem {
	f.Detail = detail
	return f
}

// problemFrom turns an error into what the caller may know of it. hidden is the
// error again when the caller is not told the whole of it.
func problemFrom(err error, pl place) (p *Problem, hidden error) {
	var own *Problem
	if errors.As(err, &own) {
		return own, nil
	}
	var refusal *authority.Error
	if errors.As(err, &refusal) {
		return problemOfRefusal(refusal, pl)
	}
	switch {
	case errors.Is(err, tokenstore.ErrUnknownOutcome):
		return newProblem(codeStoreUnavailable, "The connection broke while the change was being stored: it may have happened or not. Read the record before asking again, or ask again with the same Idempotency-Key."), err
	case errors.Is(err, tokenstore.ErrUnavailable):
		return newProblem(codeStoreUnavailable, "Nothing was changed. Try again."), err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return newProblem(codeStoreUnavailable, "The request ended before the store answered. A change may have happened or not."), err
	default:
		return newProblem(codeInternalError, ""), err
	}
}

func problemOfRefusal(e *authority.Error, pl place) (*Problem, error) {
	p := newProblem(e.Code, e.Detail)
	if p.Code == codeInternalError {
		return p, e
	}
	for _, c := range e.Candidates {
		p.Candidates = append(p.Candidates, Candidate(c))
	}
	var field FieldProblem
	switch e.Field {
	case "":
		return p, nil
	case idempotencyKey:
		field = FieldProblem{Header: idempotencyKey, Detail: e.Detail}
	case "requested_by":
		field = FieldProblem{Header: RequestedByHeader, Detail: e.Detail}
	case "operator": // what the actor goes by came in a header
		field = FieldProblem{Header: OperatorHeader, Detail: e.Detail}
	default:
		field = pl.field(e.Field, e.Detail)
	}
	p.Detail = field.name() + ": " + e.Detail
	p.Errors = []FieldProblem{field}
	return p, nil
}

// pointer appends a member to a JSON pointer (RFC 6901).
func pointer(to, member string) string {
	return to + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(member)
}
