package api

import (
	"context"
	"net/http"

	"github.com/sallyport/sallyport/token"
)

// Rotation shows how the rotation of a token stands.
func (c *Client) Rotation(ctx context.Context, id token.ID) (RotationState, error) {
	return ask[RotationState](ctx, c, call{method: http.MethodGet, path: under("/tokens", string(id), "rotation")})
}

// ConfirmRotation ends the previous secret of a token now.
func (c *Client) ConfirmRotation(ctx context.Context, id token.ID, r RotationChange) (Token, error) {
	return c.changeRotation(ctx, id, "confirm", r)
}

// RollBackRotation ends the new secret of a token now.
func (c *Client) RollBackRotation(ctx context.Context, id token.ID, r RotationChange) (Token, error) {
	return c.changeRotation(ctx, id, "rollback", r)
}

// ExtendRotation moves the end of the previous secret of a token.
func (c *Client) ExtendRotation(ctx context.Context, id token.ID, r RotationExtension) (Token, error) {
	return c.changeRotation(ctx, id, "extend", r)
}

func (c *Client) changeRotation(ctx context.Context, id token.ID, verb string, body any) (Token, error) {
	return ask[Token](ctx, c, call{method: http.MethodPost, path: under("/tokens", string(id), "rotation", verb), body: body})
}
