package api

import (
	"context"
	"iter"
	"net/http"

	"github.com/sallyport/sallyport/token"
)

// CreateAccount creates an account.
func (c *Client) CreateAccount(ctx context.Context, n NewAccount) (Account, error) {
	return ask[Account](ctx, c, call{method: http.MethodPost, path: "/accounts", body: n})
}

// AccountPage gives one page of accounts.
func (c *Client) AccountPage(ctx context.Context, cursor string, limit int) (Page[Account], error) {
	return ask[Page[Account]](ctx, c, call{method: http.MethodGet, path: "/accounts", query: paged(cursor, limit)})
}

// Accounts gives all accounts, page by page.
func (c *Client) Accounts(ctx context.Context) iter.Seq2[Account, error] {
	return pages("", func(cursor string) (Page[Account], error) { return c.AccountPage(ctx, cursor, MaxLimit) })
}

// Account shows an account.
func (c *Client) Account(ctx context.Context, id token.ID) (Account, error) {
	return ask[Account](ctx, c, call{method: http.MethodGet, path: under("/accounts", string(id))})
}

// EditAccount changes an account that is still at the version that was read.
func (c *Client) EditAccount(ctx context.Context, id token.ID, version int64, e AccountEdit) (Account, error) {
	return ask[Account](ctx, c, call{method: http.MethodPatch, path: under("/accounts", string(id)), header: with(ifMatch, etag(version)), body: e})
}

// EnableAccount lets the account's tokens work again.
func (c *Client) EnableAccount(ctx context.Context, id token.ID) (Account, error) {
	return ask[Account](ctx, c, call{method: http.MethodPost, path: under("/accounts", string(id), "enable"), body: Nothing{}})
}

// DisableAccount stops all tokens of the account.
func (c *Client) DisableAccount(ctx context.Context, id token.ID) (Account, error) {
	return ask[Account](ctx, c, call{method: http.MethodPost, path: under("/accounts", string(id), "disable"), body: Nothing{}})
}
