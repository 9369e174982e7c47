package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/tokenstore"
)

// The headers of this API that are not of HTTP.
const (
	// OperatorHeader carries the name that an operator goes by. It is a claim
	// and proves nothing; the audit log marks it so.
	OperatorHeader = "Sallyport-Operator"
	// RequestedByHeader names the user in whose name an operator acts. The request
	// is then judged as if that user had sent it.
	RequestedByHeader = "Sallyport-Requested-By"
	// OTPHeader carries a one-time code, for the verbs that take one. A body that
	// has a field otp takes it there too.
	OTPHeader = "Sallyport-OTP"
	// RequestIDHeader names every response, and the audit entries and log lines
	// that belong to it. One that a caller sends is not taken over: a caller
	// could otherwise make its changes look like another's in the audit log.
	RequestIDHeader = "X-Request-Id"

	idempotencyKey = "Idempotency-Key"
	ifMatch        = "If-Match"
)

// Options says what the API stands on.
type Options struct {
	Authority *authority.Authority
	// Identify says who asks. An *authority.Error is answered as any refusal of
	// the authority is (Code "forbidden", say); any other error is a 500.
	Identify func(*http.Request) (tokenstore.Actor, error)
	// BasePath is where the API is mounted, such as "/sallyport/v1". Requests
	// come with their full path.
	BasePath string
	// Version is Sallyport's, for the OpenAPI document.
	Version string
	// Lifecycle looks after the tokens. Nil: nothing does, and its routes answer so.
	Lifecycle Lifecycle
	// Health answers GET /health. Nil: always ready.
	Health func(context.Context) Health
	// OnError is told of every error that a caller sees only as internal_error
	// or store_unavailable. It may be nil.
	OnError func(context.Context, Failure)
	// NewRequestID makes the ID of a request. Nil: 128 random bits.
	NewRequestID func(*http.Request) string
}

// Failure is an error that the caller is not told the whole of.
type Failure struct {
	RequestID string
	Method    string
	Route     string // the pattern, never the path with what a caller put there
	Err       error
}

// handler serves the API.
type handler struct {
	o        Options
	mux      *http.ServeMux
	api      huma.API
	document []byte
	browsers *http.CrossOriginProtection
}

// New makes the handler of the API. It holds nothing that needs closing.
func New(o Options) (http.Handler, error) {
	switch {
	case o.Authority == nil:
		return nil, errors.New("api: Options.Authority is missing")
	case o.Identify == nil:
		return nil, errors.New("api: Options.Identify is missing")
	case o.BasePath != "" && (!strings.HasPrefix(o.BasePath, "/") || strings.HasSuffix(o.BasePath, "/") || strings.ContainsAny(o.BasePath, "{}")):
		return nil, errors.New(`api: Options.BasePath must begin with a slash and not end with one, such as "/sallyport/v1"`)
	}
	if o.Health == nil {
		o.Health = func(context.Context) Health { return HealthOf() }
	}
	if o.OnError == nil {
		o.OnError = func(context.Context, Failure) {}
	}
	if o.NewRequestID == nil {
		o.NewRequestID = randomRequestID
	}
	h := &handler{o: o, mux: http.NewServeMux(), browsers: http.NewCrossOriginProtection()}
	h.api = humago.NewWithPrefix(h.mux, o.BasePath, h.config())
	h.api.UseMiddleware(h.admit)
	h.tokenRoutes()
	h.tokenLifeRoutes()
	h.introspectionRoutes()
	h.leakRoutes()
	h.rotationRoutes()
	h.accountRoutes()
	h.userRoutes()
	h.otpRoutes()
	h.declaredRoutes()
	h.roleRoutes()
	h.policyRoutes()
	h.lifecycleRoutes()
	h.noticeRoutes()
	h.webhookRoutes()
	h.auditRoutes()
	h.nodeRoutes()
	h.gatewayRoutes()
	finishDocument(h.api.OpenAPI())
	document, err := json.Marshal(h.api.OpenAPI())
	if err != nil {
		return nil, err
	}
	h.document = document
	return h, nil
}

func randomRequestID(*http.Request) string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return "req_" + hex.EncodeToString(b[:])
}
