package api

import (
	"slices"
	"time"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
)

// Webhook is where events are sent to, of all accounts.
type Webhook struct {
	ID                      token.ID   `json:"id" doc:"Names the webhook for ever." example:"whk_example"`
	URL                     string     `json:"url" doc:"Where requests go." example:"https://example.com/hooks"`
	Events                  []string   `json:"events" nullable:"false" doc:"The events that it is told of; empty: all." example:"[\"token_rotated\"]"`
	State                   string     `json:"state" enum:"active,disabled" doc:"While it is disabled it is told of nothing, and what waits for it waits on."`
	HasSecret               bool       `json:"has_secret" doc:"Whether it has a signing secret. One can only be lost by force, with a master key; rotating makes another."`
	PreviousSecretExpiresAt *time.Time `json:"previous_secret_expires_at" doc:"When the signing secret before a rotation stops signing (RFC 3339, UTC); null: no rotation is under way."`
	ManagedByConfig         bool       `json:"managed_by_config" doc:"Whether the gateway's configuration owns its address and its events."`
	SecretManagedByConfig   bool       `json:"secret_managed_by_config" doc:"Whether the configuration owns its signing secret too."`
	CreatedAt               time.Time  `json:"created_at" doc:"When it was created (RFC 3339, UTC)."`
	UpdatedAt               time.Time  `json:"updated_at" doc:"When it was last changed (RFC 3339, UTC)."`
	Version                 int64      `json:"version" doc:"Grows with every change; If-Match takes it in quotes." example:"1"`
}

// NewWebhook is what creating a webhook asks for.
type NewWebhook struct {
	_ struct{} `additionalProperties:"false"`

	URL      string   `json:"url" maxLength:"2048" doc:"Where requests go: https, without a user, a password or a fragment, at a public address or one that webhook_allow in the configuration allows." example:"https://example.com/hooks"`
	Events   []string `json:"events,omitempty" nullable:"false" maxItems:"64" doc:"The events that it is told of; absent or empty: all."`
	Disabled bool     `json:"disabled,omitempty" doc:"Creates it disabled: nothing is sent until it is enabled."`
}

// WebhookEdit is a change of a webhook. What is absent stays as it is.
type WebhookEdit struct {
	_ struct{} `additionalProperties:"false"`

	URL      *string   `json:"url,omitempty" nullable:"false" maxLength:"2048" doc:"Where requests go."`
	Events   *[]string `json:"events,omitempty" nullable:"false" maxItems:"64" doc:"All events that it is told of from now on; empty: all that there are."`
	Disabled *bool     `json:"disabled,omitempty" nullable:"false" doc:"Whether it is disabled."`
}

// WebhookRotation is what rotating a signing secret asks for.
type WebhookRotation struct {
	_ struct{} `additionalProperties:"false"`

	GracePeriodSeconds *int64 `json:"grace_period_seconds,omitempty" nullable:"false" minimum:"0" maximum:"7776000" doc:"How long requests are signed with the previous secret as well, in seconds; 0: it ends at once. Absent: 86400, a day."`
}

// IssuedWebhook is a webhook with the signing secret that it just got.
type IssuedWebhook struct {
	Webhook Webhook `json:"webhook" doc:"The webhook."`
	Secret  Secret  `json:"secret" doc:"What its receiver verifies signatures with. It is in this answer and nowhere else."`
}

// WebhookTest is what came back when a webhook was tried out.
type WebhookTest struct {
	ID       token.ID `json:"id" doc:"The webhook-id of the request."`
	Accepted bool     `json:"accepted" doc:"Whether it answered 2xx."`
	Status   int      `json:"status" doc:"The status that it answered; 0: nothing was answered." example:"200"`
	Problem  string   `json:"problem" doc:"What went wrong, in words; empty when it was accepted."`
}

func webhookOf(w *authority.Webhook) Webhook {
	return Webhook{
		ID: w.ID, URL: w.URL, Events: listOf(slices.Clone(w.Events)), State: stateOf(w.Disabled), HasSecret: w.HasSecret,
		PreviousSecretExpiresAt: timeOrNull(w.PreviousUntil), ManagedByConfig: w.Managed, SecretManagedByConfig: w.SecretManaged,
		CreatedAt: w.CreatedAt.UTC(), UpdatedAt: w.UpdatedAt.UTC(), Version: w.Version,
	}
}
