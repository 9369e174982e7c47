package api

import (
	"context"
	"net/http"

	"github.com/sallyport/sallyport/token"
)

// CreateRole creates a role.
func (c *Client) CreateRole(ctx context.Context, n NewRole) (Role, error) {
	return ask[Role](ctx, c, call{method: http.MethodPost, path: "/roles", body: n})
}

// Role shows a role.
func (c *Client) Role(ctx context.Context, name string) (Role, error) {
	return ask[Role](ctx, c, call{method: http.MethodGet, path: under("/roles", name)})
}

// EditRole changes a role that is still at the version that was read.
func (c *Client) EditRole(ctx context.Context, name string, version int64, e RoleEdit) (Role, error) {
	return ask[Role](ctx, c, call{method: http.MethodPatch, path: under("/roles", name), header: with(ifMatch, etag(version)), body: e})
}

// DeleteRole deletes a role that nobody has.
func (c *Client) DeleteRole(ctx context.Context, name string) error {
	_, err := ask[Gone](ctx, c, call{method: http.MethodDelete, path: under("/roles", name)})
	return err
}

// UserOTP shows how it stands with a user's one-time codes.
func (c *Client) UserOTP(ctx context.Context, user token.ID) (OTP, error) {
	return ask[OTP](ctx, c, call{method: http.MethodGet, path: under("/users", string(user), "otp")})
}

// EnrolOTP begins to enrol an authenticator app.
func (c *Client) EnrolOTP(ctx context.Context, user token.ID) (Enrolment, error) {
	return ask[Enrolment](ctx, c, call{method: http.MethodPost, path: under("/users", string(user), "otp"), body: Nothing{}})
}

// ConfirmOTP confirms the enrolment with its first code, and gives the recovery codes.
func (c *Client) ConfirmOTP(ctx context.Context, user token.ID, code string) (RecoveryCodes, error) {
	return ask[RecoveryCodes](ctx, c, call{method: http.MethodPost, path: under("/users", string(user), "otp", "confirm"), body: FirstCode{OTP: code}})
}

// ResetOTP forgets a user's one-time codes.
func (c *Client) ResetOTP(ctx context.Context, user token.ID) error {
	_, err := ask[Gone](ctx, c, call{method: http.MethodDelete, path: under("/users", string(user), "otp")})
	return err
}
