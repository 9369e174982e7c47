package api

import (
	"context"
	"iter"
	"net/http"

	"github.com/sallyport/sallyport/token"
)

// CreateUser creates a user.
func (c *Client) CreateUser(ctx context.Context, n NewUser) (User, error) {
	return ask[User](ctx, c, call{method: http.MethodPost, path: "/users", body: n})
}

// UserPage gives one page of the users of an account; an empty account, of all.
func (c *Client) UserPage(ctx context.Context, account token.ID, cursor string, limit int) (Page[User], error) {
	q := paged(cursor, limit)
	set(q, "account_id", string(account))
	return ask[Page[User]](ctx, c, call{method: http.MethodGet, path: "/users", query: q})
}

// Users gives all users of an account, page by page; an empty account, of all.
func (c *Client) Users(ctx context.Context, account token.ID) iter.Seq2[User, error] {
	return pages("", func(cursor string) (Page[User], error) { return c.UserPage(ctx, account, cursor, MaxLimit) })
}

// User shows a user.
func (c *Client) User(ctx context.Context, id token.ID) (User, error) {
	return ask[User](ctx, c, call{method: http.MethodGet, path: under("/users", string(id))})
}

// EditUser changes a user who is still at the version that was read.
func (c *Client) EditUser(ctx context.Context, id token.ID, version int64, e UserEdit) (User, error) {
	return ask[User](ctx, c, call{method: http.MethodPatch, path: under("/users", string(id)), header: with(ifMatch, etag(version)), body: e})
}

// EnableUser lets the user's tokens work again.
func (c *Client) EnableUser(ctx context.Context, id token.ID) (User, error) {
	return ask[User](ctx, c, call{method: http.MethodPost, path: under("/users", string(id), "enable"), body: Nothing{}})
}

// DisableUser stops all tokens of the user.
func (c *Client) DisableUser(ctx context.Context, id token.ID) (User, error) {
	return ask[User](ctx, c, call{method: http.MethodPost, path: under("/users", string(id), "disable"), body: Nothing{}})
}
