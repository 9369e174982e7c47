package api

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"time"

	"github.com/sallyport/sallyport/token"
)

// Roles lists the roles.
func (c *Client) Roles(ctx context.Context) ([]Role, error) { return whole[Role](ctx, c, "/roles") }

// Scopes lists the scopes, the built-in ones included.
func (c *Client) Scopes(ctx context.Context) ([]Scope, error) { return whole[Scope](ctx, c, "/scopes") }

// Nodes lists the gateways that share the store.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) { return whole[Node](ctx, c, "/nodes") }

// whole gets a list that has no pages.
func whole[T any](ctx context.Context, c *Client, path string) ([]T, error) {
	p, err := ask[Page[T]](ctx, c, call{method: http.MethodGet, path: path})
	return p.Items, err
}

// AuditFilter selects audit entries. Zero fields select everything.
type AuditFilter struct {
	AccountID     token.ID
	Target, Verb  string
	After, Before time.Time
	Cursor        string // where to begin
	Limit         int    // of a page; 0: the default
}

func (f AuditFilter) query() url.Values {
	q := paged(f.Cursor, f.Limit)
	set(q, "account_id", string(f.AccountID))
	set(q, "target", f.Target)
	set(q, "verb", f.Verb)
	setTime(q, "after", f.After)
	setTime(q, "before", f.Before)
	return q
}

// AuditPage gives one page of the audit log.
func (c *Client) AuditPage(ctx context.Context, f AuditFilter) (Page[AuditEntry], error) {
	return ask[Page[AuditEntry]](ctx, c, call{method: http.MethodGet, path: "/audit", query: f.query()})
}

// Audit gives the audit log, newest first, page by page.
func (c *Client) Audit(ctx context.Context, f AuditFilter) iter.Seq2[AuditEntry, error] {
	return pages(f.Cursor, func(cursor string) (Page[AuditEntry], error) {
		f.Cursor = cursor
		return c.AuditPage(ctx, f)
	})
}

// VerifyAudit checks the audit log's chain, and that it still contains an
// earlier head if one is given.
func (c *Client) VerifyAudit(ctx context.Context, earlier *AuditHead) (AuditReport, error) {
	return ask[AuditReport](ctx, c, call{method: http.MethodPost, path: "/audit/verify", body: AuditCheck{EarlierHead: earlier}})
}

// Health asks whether the gateway can do its work. A gateway that can not has
// answered all the same: that is no error.
func (c *Client) Health(ctx context.Context) (Health, error) {
	return ask[Health](ctx, c, call{method: http.MethodGet, path: healthPath, accept: http.StatusServiceUnavailable})
}

// OpenAPI gives the document that describes the API.
func (c *Client) OpenAPI(ctx context.Context) (json.RawMessage, error) {
	return ask[json.RawMessage](ctx, c, call{method: http.MethodGet, path: documentPath})
}
