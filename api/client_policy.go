package api

import (
	"context"
	"net/http"
)

// Policies lists the policies.
func (c *Client) Policies(ctx context.Context) ([]Policy, error) {
	return whole[Policy](ctx, c, "/policies")
}

// CreatePolicy creates a policy.
func (c *Client) CreatePolicy(ctx context.Context, n NewPolicy) (Policy, error) {
	return ask[Policy](ctx, c, call{method: http.MethodPost, path: "/policies", body: n})
}

// Policy shows a policy.
func (c *Client) Policy(ctx context.Context, name string) (Policy, error) {
	return ask[Policy](ctx, c, call{method: http.MethodGet, path: under("/policies", name)})
}

// EditPolicy changes a policy that is still at the version that was read.
func (c *Client) EditPolicy(ctx context.Context, name string, version int64, e PolicyEdit) (Policy, error) {
	return ask[Policy](ctx, c, call{method: http.MethodPatch, path: under("/policies", name), header: with(ifMatch, etag(version)), body: e})
}

// DeletePolicy removes a policy that rules no account, and gives it as it was.
func (c *Client) DeletePolicy(ctx context.Context, name string) (Policy, error) {
	return ask[Policy](ctx, c, call{method: http.MethodDelete, path: under("/policies", name)})
}

// PreviewPolicy gives one page of what rules would change for the tokens that
// there are.
func (c *Client) PreviewPolicy(ctx context.Context, name string, q PolicyQuestion) (PolicyPreview, error) {
	return ask[PolicyPreview](ctx, c, call{method: http.MethodPost, path: under("/policies", name, "preview"), body: q})
}
