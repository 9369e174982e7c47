package api

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/token"
)

// CreateToken issues a token. key, an Idempotency-Key, makes it safe to repeat;
// empty: it is not.
func (c *Client) CreateToken(ctx context.Context, key string, n NewToken) (Issued, error) {
	return ask[Issued](ctx, c, call{method: http.MethodPost, path: "/tokens", header: with(idempotencyKey, key), body: n})
}

// TokenFilter selects tokens. Zero fields select everything but deleted tokens.
type TokenFilter struct {
	AccountID, UserID token.ID
	States            []token.State
	Scope, Search     string
	ExpiresBefore     time.Time
	LastUsedBefore    time.Time
	Cursor            string // where to begin
	Limit             int    // of a page; 0: the default
}

func (f TokenFilter) query() url.Values {
	q := paged(f.Cursor, f.Limit)
	set(q, "account_id", string(f.AccountID))
	set(q, "user_id", string(f.UserID))
	set(q, "scope", f.Scope)
	set(q, "search", f.Search)
	setTime(q, "expires_before", f.ExpiresBefore)
	setTime(q, "last_used_before", f.LastUsedBefore)
	var states []string
	for _, s := range f.States {
		states = append(states, s.String())
	}
	set(q, "state", strings.Join(states, ","))
	return q
}

// TokenPage gives one page of tokens.
func (c *Client) TokenPage(ctx context.Context, f TokenFilter) (Page[Token], error) {
	return ask[Page[Token]](ctx, c, call{method: http.MethodGet, path: "/tokens", query: f.query()})
}

// Tokens gives all tokens, page by page.
func (c *Client) Tokens(ctx context.Context, f TokenFilter) iter.Seq2[Token, error] {
	return pages(f.Cursor, func(cursor string) (Page[Token], error) {
		f.Cursor = cursor
		return c.TokenPage(ctx, f)
	})
}

// Token shows a token.
func (c *Client) Token(ctx context.Context, id token.ID) (Token, error) {
	return ask[Token](ctx, c, call{method: http.MethodGet, path: under("/tokens", string(id))})
}

// EditToken changes a token that is still at the version that was read.
func (c *Client) EditToken(ctx context.Context, id token.ID, version int64, e TokenEdit) (Token, error) {
	return ask[Token](ctx, c, call{method: http.MethodPatch, path: under("/tokens", string(id)), header: with(ifMatch, etag(version)), body: e})
}

// RotateToken issues a new secret. key is as in CreateToken.
func (c *Client) RotateToken(ctx context.Context, id token.ID, key string, r Rotation) (Issued, error) {
	return ask[Issued](ctx, c, call{method: http.MethodPost, path: under("/tokens", string(id), "rotate"), header: with(idempotencyKey, key), body: r})
}

// EnableToken lets a disabled token work again.
func (c *Client) EnableToken(ctx context.Context, id token.ID, confirm bool) (Token, error) {
	return c.changeToken(ctx, id, "enable", confirm)
}

// DisableToken stops a token until it is enabled again.
func (c *Client) DisableToken(ctx context.Context, id token.ID, confirm bool) (Token, error) {
	return c.changeToken(ctx, id, "disable", confirm)
}

// RevokeToken ends a token for good; it stays listed.
func (c *Client) RevokeToken(ctx context.Context, id token.ID, confirm bool) (Token, error) {
	return c.changeToken(ctx, id, "revoke", confirm)
}

func (c *Client) changeToken(ctx context.Context, id token.ID, verb string, confirm bool) (Token, error) {
	return ask[Token](ctx, c, call{method: http.MethodPost, path: under("/tokens", string(id), verb), body: Confirmation{Confirm: confirm}})
}

// DeleteToken ends a token for good and takes it out of lists.
func (c *Client) DeleteToken(ctx context.Context, id token.ID, confirm bool) (Token, error) {
	q := url.Values{}
	if confirm {
		q.Set("confirm", "true")
	}
	return ask[Token](ctx, c, call{method: http.MethodDelete, path: under("/tokens", string(id)), query: q})
}

// VerifyToken asks what the gate would say.
func (c *Client) VerifyToken(ctx context.Context, q Question) (Verification, error) {
	return ask[Verification](ctx, c, call{method: http.MethodPost, path: "/tokens/verify", body: q})
}

func paged(cursor string, limit int) url.Values {
	q := url.Values{}
	set(q, "cursor", cursor)
	if limit != 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return q
}

func set(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

func setTime(q url.Values, name string, t time.Time) {
	if !t.IsZero() {
		q.Set(name, t.UTC().Format(time.RFC3339Nano))
	}
}
