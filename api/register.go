package api

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sallyport/sallyport/authority"
)

// route is one operation as its registration names it.
type route struct {
	method, path string
	id           string // operationId
	tag          string
	summary      string
	about        string // more, in Markdown
	status       int    // of success; 200 when zero
	codes        []string
	also         map[int]string // further statuses that are no problem, with their schema
	hidden       bool
	maxBody      int64 // in bytes; 64 KiB when zero
	// open accepts members that are not known, in objects of a form that others set.
	open bool
}

// verb is a handler: everything about HTTP is done before it and after it.
type verb[I, O any] func(ctx context.Context, by authority.By, in *I) (*O, error)

// register adds an operation.
func register[I, O any](h *handler, r route, f verb[I, O]) {
	op := r.operation()
	huma.Register(h.api, op, func(ctx context.Context, in *I) (*O, error) {
		known := requestOf(ctx)
		by := known.by
		if code := takeCode(in); code != "" {
			by.Code = code
		}
		out, err := f(ctx, by, in)
		if err != nil {
			p := h.problem(ctx, &op, err)
			p.RequestID = known.id
			return nil, p
		}
		return out, nil
	})
}

// problem makes the answer to an error and tells whoever logs what the caller
// is not told.
func (h *handler) problem(ctx context.Context, op *huma.Operation, err error) *Problem {
	pl := inBody
	if op.Method == http.MethodGet {
		pl = inQuery
	}
	p, hidden := problemFrom(err, pl)
	if hidden != nil && ctx.Err() == nil {
		h.o.OnError(ctx, Failure{RequestID: requestOf(ctx).id, Method: op.Method, Route: op.Path, Err: hidden})
	}
	return p
}

func (r *route) operation() huma.Operation {
	op := huma.Operation{
		Method:                       r.method,
		Path:                         r.path,
		OperationID:                  r.id,
		Tags:                         []string{r.tag},
		Summary:                      r.summary,
		Description:                  r.about,
		DefaultStatus:                r.status,
		MaxBodyBytes:                 cmp.Or(r.maxBody, maxBody),
		Metadata:                     map[string]any{openMember: r.open},
		BodyReadTimeout:              -1, // the body was read before huma sees it
		RejectUnknownQueryParameters: true,
		Responses:                    map[string]*huma.Response{},
		Hidden:                       r.hidden,
	}
	for status, schema := range r.also {
		op.Responses[strconv.Itoa(status)] = &huma.Response{
			Description: http.StatusText(status),
			Content: map[string]*huma.MediaType{jsonType: {
				Schema: &huma.Schema{Ref: "#/components/schemas/" + schema},
			}},
		}
	}
	documentProblems(&op, r.codes)
	return op
}

const openMember = "open"

// isOpen says whether a route accepts members that are not known.
func isOpen(op *huma.Operation) bool { return op.Metadata[openMember] == true }

// anonymous says whether an operation is answered without knowing who asks.
func anonymous(op *huma.Operation) bool {
	return op.Path == healthPath || op.Path == documentPath
}

const (
	healthPath   = "/health"
	documentPath = "/openapi.json"
)

// replaceBody puts a body back that was read, in the one media type that huma
// is then asked to decode.
func replaceBody(r *http.Request, data []byte) {
	r.Body = io.NopCloser(bytes.NewReader(data))
	r.ContentLength = int64(len(data))
	r.Header.Set("Content-Type", jsonType)
	r.Header.Set("Content-Length", strconv.Itoa(len(data)))
}
