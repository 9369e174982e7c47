package api

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// RestoreToken brings back a token that was deleted for being unused or expired.
func (c *Client) RestoreToken(ctx context.Context, id token.ID, r Restoring) (Token, error) {
	return ask[Token](ctx, c, call{method: http.MethodPost, path: under("/tokens", string(id), "restore"), body: r})
}

// UndoDowngrade gives a token back the permissions that were taken from it.
func (c *Client) UndoDowngrade(ctx context.Context, id token.ID, confirm bool) (Token, error) {
	return c.changeToken(ctx, id, "undo-downgrade", confirm)
}

// ExemptToken keeps a token from being narrowed or deleted for being unused.
func (c *Client) ExemptToken(ctx context.Context, id token.ID, e Exemption) (Token, error) {
	return ask[Token](ctx, c, call{method: http.MethodPut, path: under("/tokens", string(id), "exemption"), body: e})
}

// EndExemption has a token looked after again.
func (c *Client) EndExemption(ctx context.Context, id token.ID, confirm bool) (Token, error) {
	q := url.Values{}
	if confirm {
		q.Set("confirm", "true")
	}
	return ask[Token](ctx, c, call{method: http.MethodDelete, path: under("/tokens", string(id), "exemption"), query: q})
}

// TokenUsage shows what a token was used for; zero times: in the last 30 days.
func (c *Client) TokenUsage(ctx context.Context, id token.ID, from, to time.Time) (Usage, error) {
	q := url.Values{}
	setTime(q, "from", from)
	setTime(q, "to", to)
	return ask[Usage](ctx, c, call{method: http.MethodGet, path: under("/tokens", string(id), "usage"), query: q})
}

// Recommendation shows how narrow a token could be.
func (c *Client) Recommendation(ctx context.Context, id token.ID) (Recommendation, error) {
	return ask[Recommendation](ctx, c, call{method: http.MethodGet, path: under("/tokens", string(id), "recommendation")})
}

// PlanFilter selects what is to come. Zero fields select everything.
type PlanFilter struct {
	At        time.Time // leaves out what is due later
	Policy    string    // stands in for that of every account
	AccountID token.ID
	Cursor    string // where to begin
	Limit     int    // of a page; 0: the default
}

// LifecyclePlan gives one page of what is to come.
func (c *Client) LifecyclePlan(ctx context.Context, f PlanFilter) (Forecast, error) {
	q := paged(f.Cursor, f.Limit)
	setTime(q, "at", f.At)
	set(q, "policy", f.Policy)
	set(q, "account_id", string(f.AccountID))
	return ask[Forecast](ctx, c, call{method: http.MethodGet, path: "/lifecycle/plan", query: q})
}

// ApplyLifecycle does now what is due.
func (c *Client) ApplyLifecycle(ctx context.Context) (PassReport, error) {
	return ask[PassReport](ctx, c, call{method: http.MethodPost, path: "/lifecycle/apply", body: Nothing{}})
}

// Coverage shows what is known of use.
func (c *Client) Coverage(ctx context.Context) (Coverage, error) {
	return ask[Coverage](ctx, c, call{method: http.MethodGet, path: "/lifecycle/coverage"})
}

// NoticeFilter selects messages. Zero fields select everything.
type NoticeFilter struct {
	AccountID, TokenID token.ID
	State              tokenstore.NoticeState
	Cursor             string // where to begin
	Limit              int    // of a page; 0: the default
}

// NoticePage gives one page of the messages to people.
func (c *Client) NoticePage(ctx context.Context, f NoticeFilter) (Page[Notice], error) {
	q := paged(f.Cursor, f.Limit)
	set(q, "account_id", string(f.AccountID))
	set(q, "token_id", string(f.TokenID))
	set(q, "state", string(f.State))
	return ask[Page[Notice]](ctx, c, call{method: http.MethodGet, path: "/notices", query: q})
}

// Notices gives the messages to people, newest first, page by page.
func (c *Client) Notices(ctx context.Context, f NoticeFilter) iter.Seq2[Notice, error] {
	return pages(f.Cursor, func(cursor string) (Page[Notice], error) {
		f.Cursor = cursor
		return c.NoticePage(ctx, f)
	})
}

// RetireNode gives up a gateway that will not come back.
func (c *Client) RetireNode(ctx context.Context, id string, r Retirement) (Node, error) {
	return ask[Node](ctx, c, call{method: http.MethodPost, path: under("/nodes", id, "retire"), body: r})
}
