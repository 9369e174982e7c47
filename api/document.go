package api

import (
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

const introduction = `Manages the API tokens that a Sallyport gateway enforces.

Requests and responses are JSON in UTF-8. Times are RFC 3339 in UTC, durations are whole seconds, and the names of
fields that hold one end in _seconds. A request body has at most 64 KiB, no unknown field and no field twice.

Errors are application/problem+json (RFC 9457) with a stable code, and never repeat a value that was sent.
Every response has X-Request-Id, which the audit log and the gateway's log have too, and Cache-Control: no-store.

Lists come newest first, in pages: ask again with next_cursor as cursor until a page has none.`

// config is huma's, without what it does on its own: no documentation pages, no
// links to schemas (they repeat the Host that a request claims), no second
// format, and errors of our own form.
func (h *handler) config() huma.Config {
	c := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:       "Sallyport management API",
				Version:     version(h.o.Version),
				Description: introduction,
			},
			Servers: []*huma.Server{{URL: server(h.o.BasePath)}},
			Tags: []*huma.Tag{
				{Name: "tokens", Description: "Tokens and their secrets."},
				{Name: "accounts", Description: "Customers of the API behind the gate."},
				{Name: "users", Description: "The people of accounts."},
				{Name: "rules", Description: "What is declared: roles, policies and scopes."},
				{Name: "lifecycle", Description: "What is known of use, what follows from it, and who is told."},
				{Name: "webhooks", Description: "Where events are sent to."},
				{Name: "audit", Description: "Who changed what."},
				{Name: "gateway", Description: "The gateways themselves."},
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
			},
		},
		Formats:                      map[string]huma.Format{jsonType: huma.DefaultJSONFormat, problemType: huma.DefaultJSONFormat},
		DefaultFormat:                jsonType,
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{scrubber},
	}
	// Answers gain fields in later versions, which a client must not refuse.
	// Requests say otherwise, each for itself.
	c.AllowAdditionalPropertiesByDefault = true
	return c
}

func version(v string) string {
	if v == "" {
		return "dev"
	}
	return v
}

func server(base string) string {
	if base == "" {
		return "/"
	}
	return base
}

// scrubber keeps huma's own errors from being sent as they are.
func scrubber(ctx huma.Context, _ string, v any) (any, error) {
	if _, ours := v.(*Problem); ours {
		return v, nil
	}
	e, ok := v.(huma.StatusError)
	if !ok {
		return v, nil
	}
	p := scrub(e)
	// The status line was chosen by huma and goes with it.
	p.Status = e.GetStatus()
	p.RequestID = requestOf(ctx.Context()).id
	ctx.SetHeader("Content-Type", problemType)
	return p, nil
}

// Codes that routes of a kind share.
var (
	everywhere = []string{codeInvalidRequest, codeForbidden, codeInvalidField, codeInternalError, codeStoreUnavailable}
	// What a change in a user's name can be refused with.
	inAName   = []string{codeExceedsGrantor, codeStepUpRequired, codeInvalidOTP, codeCodeUsed}
	withBody  = []string{codeBodyTooLarge, codeUnsupportedMediaType}
	onARecord = []string{codeNotFound}
)

// documentProblems describes the refusals of an operation, by status.
func documentProblems(op *huma.Operation, codes []string) {
	all := slices.Concat(everywhere, codes)
	if op.Method != http.MethodGet && op.Method != http.MethodDelete {
		all = append(all, withBody...)
	}
	if op.Method != http.MethodGet {
		all = append(all, inAName...)
	}
	if strings.Contains(op.Path, "{") {
		all = append(all, onARecord...)
	}
	if anonymous(op) {
		all = []string{codeInvalidRequest, codeInvalidField, codeInternalError}
	}
	slices.Sort(all)
	byStatus := map[int][]string{}
	for _, code := range slices.Compact(all) {
		byStatus[problems[code].status] = append(byStatus[problems[code].status], code)
	}
	for status, codes := range byStatus {
		r := problemResponse(codes...)
		if len(codes) == 1 {
			r = &huma.Response{Ref: "#/components/responses/" + codes[0]}
		}
		op.Responses[strconv.Itoa(status)] = r
	}
}

// problemResponse describes the refusals with one status.
func problemResponse(codes ...string) *huma.Response {
	var lines []string
	r := &huma.Response{
		Content: map[string]*huma.MediaType{problemType: {
			Schema: &huma.Schema{Ref: "#/components/schemas/Problem"},
		}},
		Headers: commonHeaders(),
	}
	for _, code := range codes {
		m := problems[code]
		lines = append(lines, "`"+code+"`: "+m.title+".")
		if m.status == http.StatusServiceUnavailable {
			r.Headers["Retry-After"] = &huma.Header{
				Description: "When to ask again, in seconds.",
				Schema:      &huma.Schema{Type: huma.TypeInteger},
			}
		}
	}
	r.Description = strings.Join(lines, " ")
	return r
}

// commonHeaders are those of every response.
func commonHeaders() map[string]*huma.Header {
	return map[string]*huma.Header{
		RequestIDHeader: {Ref: "#/components/headers/" + RequestIDHeader},
		"Cache-Control": {Ref: "#/components/headers/Cache-Control"},
	}
}

// finishDocument adds what all operations share, and takes out huma's own form
// of errors, which is never sent.
func finishDocument(doc *huma.OpenAPI) {
	schemas := doc.Components.Schemas
	schemas.Schema(reflect.TypeFor[Problem](), true, "")
	delete(schemas.Map(), "ErrorModel")
	delete(schemas.Map(), "ErrorDetail")
	doc.Components.Headers = map[string]*huma.Header{
		RequestIDHeader: {
			Description: "Names this response; the audit log and the gateway's log have it too.",
			Schema:      &huma.Schema{Type: huma.TypeString},
		},
		"Cache-Control": {
			Description: "Always no-store.",
			Schema:      &huma.Schema{Type: huma.TypeString, Enum: []any{"no-store"}},
		},
	}
	doc.Components.Responses = map[string]*huma.Response{}
	for code := range problems {
		doc.Components.Responses[code] = problemResponse(code)
	}
	doc.Components.Parameters = map[string]*huma.Param{
		OperatorHeader: {
			Name: OperatorHeader, In: "header",
			Description: "What the operator goes by, for the audit log. A claim, and marked as one.",
			Schema:      &huma.Schema{Type: huma.TypeString},
			Example:     "ada",
		},
		RequestedByHeader: {
			Name: RequestedByHeader, In: "header",
			Description: "The ID of an owner or admin of the account in whose name an operator acts. The request is judged as if that user had sent it; absent: the operator acts in the operator's own name.",
			Schema:      &huma.Schema{Type: huma.TypeString},
			Example:     "usr_example",
		},
		OTPHeader: {
			Name: OTPHeader, In: "header",
			Description: "The one-time code or a recovery code of the user who asks, where the policy wants one.",
			Schema:      &huma.Schema{Type: huma.TypeString},
			Example:     "123456",
		},
	}
	for _, item := range doc.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if op == nil {
				continue
			}
			if !anonymous(op) {
				for _, name := range []string{OperatorHeader, RequestedByHeader, OTPHeader} {
					op.Parameters = append(op.Parameters, &huma.Param{Ref: "#/components/parameters/" + name})
				}
			}
			for _, p := range op.Parameters {
				// The document says so; huma itself would answer 422 and not 428.
				p.Required = p.Required || p.Name == ifMatch
			}
			for _, response := range op.Responses {
				if response.Ref != "" {
					continue
				}
				if response.Headers == nil {
					response.Headers = map[string]*huma.Header{}
				}
				maps.Copy(response.Headers, commonHeaders())
			}
		}
	}
}
