package api

import (
	"context"
	"net/http"

	"github.com/sallyport/sallyport/token"
)

// CreateWebhook creates a webhook and issues its signing secret.
func (c *Client) CreateWebhook(ctx context.Context, n NewWebhook) (IssuedWebhook, error) {
	return ask[IssuedWebhook](ctx, c, call{method: http.MethodPost, path: "/webhooks", body: n})
}

// Webhooks lists the webhooks.
func (c *Client) Webhooks(ctx context.Context) ([]Webhook, error) {
	return whole[Webhook](ctx, c, "/webhooks")
}

// Webhook shows a webhook.
func (c *Client) Webhook(ctx context.Context, id token.ID) (Webhook, error) {
	return ask[Webhook](ctx, c, call{method: http.MethodGet, path: under("/webhooks", string(id))})
}

// EditWebhook changes a webhook that is still at the version that was read.
func (c *Client) EditWebhook(ctx context.Context, id token.ID, version int64, e WebhookEdit) (Webhook, error) {
	return ask[Webhook](ctx, c, call{method: http.MethodPatch, path: under("/webhooks", string(id)), header: with(ifMatch, etag(version)), body: e})
}

// DeleteWebhook removes a webhook.
func (c *Client) DeleteWebhook(ctx context.Context, id token.ID) (Webhook, error) {
	return ask[Webhook](ctx, c, call{method: http.MethodDelete, path: under("/webhooks", string(id))})
}

// RotateWebhook gives a webhook a new signing secret.
func (c *Client) RotateWebhook(ctx context.Context, id token.ID, r WebhookRotation) (IssuedWebhook, error) {
	return ask[IssuedWebhook](ctx, c, call{method: http.MethodPost, path: under("/webhooks", string(id), "rotate"), body: r})
}

// RollBackWebhook ends the rotation of a signing secret in favour of the previous one.
func (c *Client) RollBackWebhook(ctx context.Context, id token.ID) (Webhook, error) {
	return ask[Webhook](ctx, c, call{method: http.MethodPost, path: under("/webhooks", string(id), "rollback"), body: Nothing{}})
}

// ConfirmWebhook ends the rotation of a signing secret in favour of the new one.
func (c *Client) ConfirmWebhook(ctx context.Context, id token.ID) (Webhook, error) {
	return ask[Webhook](ctx, c, call{method: http.MethodPost, path: under("/webhooks", string(id), "confirm"), body: Nothing{}})
}

// TestWebhook sends an event that means nothing, and says what came back.
func (c *Client) TestWebhook(ctx context.Context, id token.ID) (WebhookTest, error) {
	return ask[WebhookTest](ctx, c, call{method: http.MethodPost, path: under("/webhooks", string(id), "test"), body: Nothing{}})
}
