package api

import (
	"context"
	"net/http"
	"time"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
)

type (
	webhookAnswer struct {
		ETag string `header:"ETag" doc:"The version, for If-Match."`
		Body Webhook
	}
	issuedWebhookAnswer struct {
		ETag string `header:"ETag" doc:"The version, for If-Match."`
		Body IssuedWebhook
	}
	createWebhook struct{ Body NewWebhook }
	editWebhook   struct {
		ID      string `path:"id" doc:"The ID of the record."`
		IfMatch string `header:"If-Match" doc:"The ETag of the record as it was read. Required."`
		Body    WebhookEdit
	}
	rotateWebhook struct {
		ID   string `path:"id" doc:"The ID of the record."`
		Body *WebhookRotation
	}
)

func (h *handler) webhookRoutes() {
	a := h.o.Authority
	register(h, route{
		method: http.MethodPost, path: "/webhooks", id: "createWebhook", tag: "webhooks", status: http.StatusCreated,
		summary: "Create a webhook",
		about:   "Issues its signing secret. There is one webhook for each address, so that asking again after a lost answer makes no second: rotate that one then.",
		codes:   []string{codeInvalidState},
	}, func(ctx context.Context, by authority.By, in *createWebhook) (*issuedWebhookAnswer, error) {
		return issuedWebhookOrError(a.CreateWebhook(ctx, by, authority.NewWebhook{URL: in.Body.URL, Events: in.Body.Events, Disabled: in.Body.Disabled}))
	})
	register(h, route{
		method: http.MethodGet, path: "/webhooks", id: "listWebhooks", tag: "webhooks",
		summary: "List webhooks",
		about:   "They come whole, in one page.",
	}, func(ctx context.Context, by authority.By, _ *nothingAsked) (*pageAnswer[Webhook], error) {
		list, err := a.AllWebhooks(ctx, by)
		return pageOrError(list, webhookOf, "", err)
	})
	register(h, route{
		method: http.MethodGet, path: "/webhooks/{id}", id: "showWebhook", tag: "webhooks",
		summary: "Show a webhook",
	}, func(ctx context.Context, by authority.By, in *byID) (*webhookAnswer, error) {
		id, p := recordID(in.ID)
		if p != nil {
			return nil, p
		}
		return webhookOrError(a.Webhook(ctx, by, id))
	})
	register(h, route{
		method: http.MethodPatch, path: "/webhooks/{id}", id: "editWebhook", tag: "webhooks",
		summary: "Edit a webhook",
		about:   "Changes the fields that are there. One that the configuration owns can be disabled and enabled, and no more.",
		codes:   []string{codeIfMatchRequired, codeVersionMismatch, codeManagedByConfig, codeInvalidState},
	}, func(ctx context.Context, by authority.By, in *editWebhook) (*webhookAnswer, error) {
		id, version, p := recordVersion(in.ID, in.IfMatch)
		if p != nil {
			return nil, p
		}
		return webhookOrError(a.EditWebhook(ctx, by, id, version, authority.EditWebhook{URL: in.Body.URL, Events: in.Body.Events, Disabled: in.Body.Disabled}))
	})
	register(h, route{
		method: http.MethodDelete, path: "/webhooks/{id}", id: "deleteWebhook", tag: "webhooks",
		summary: "Delete a webhook",
		about:   "What waits to be sent to it is cancelled, and its signing secret is gone for good.",
		codes:   []string{codeManagedByConfig},
	}, func(ctx context.Context, by authority.By, in *byID) (*webhookAnswer, error) {
		return onWebhook(ctx, by, in.ID, a.DeleteWebhook)
	})
	register(h, route{
		method: http.MethodPost, path: "/webhooks/{id}/rotate", id: "rotateWebhook", tag: "webhooks",
		summary: "Rotate a webhook's signing secret",
		about:   "Issues a new signing secret. For the grace period every request carries a signature with either, so that the receiver can switch whenever it likes.",
		codes:   []string{codeManagedByConfig, codeRotationInProgress, codeInvalidState},
	}, func(ctx context.Context, by authority.By, in *rotateWebhook) (*issuedWebhookAnswer, error) {
		id, p := recordID(in.ID)
		if p != nil {
			return nil, p
		}
		var grace *time.Duration
		if s := valueOf(in.Body).GracePeriodSeconds; s != nil {
			d := time.Duration(*s) * time.Second
			grace = &d
		}
		return issuedWebhookOrError(a.RotateWebhook(ctx, by, id, grace))
	})
	register(h, route{
		method: http.MethodPost, path: "/webhooks/{id}/rollback", id: "rollBackWebhook", tag: "webhooks",
		summary: "Roll back the rotation of a signing secret",
		about:   "Ends the rotation under way in favour of the previous signing secret; the new one is gone.",
		codes:   []string{codeManagedByConfig, codeInvalidState},
	}, func(ctx context.Context, by authority.By, in *switchRecord) (*webhookAnswer, error) {
		return onWebhook(ctx, by, in.ID, a.RollBackWebhook)
	})
	register(h, route{
		method: http.MethodPost, path: "/webhooks/{id}/confirm", id: "confirmWebhook", tag: "webhooks",
		summary: "End the previous signing secret",
		about:   "Ends the rotation under way in favour of the new signing secret, before its grace period does.",
		codes:   []string{codeInvalidState},
	}, func(ctx context.Context, by authority.By, in *switchRecord) (*webhookAnswer, error) {
		return onWebhook(ctx, by, in.ID, a.ConfirmWebhook)
	})
	register(h, route{
		method: http.MethodPost, path: "/webhooks/{id}/test", id: "testWebhook", tag: "webhooks",
		summary: "Try a webhook out",
		about:   "Sends an event of type webhook_test at once, also to one that is disabled, and says what came back. It is not tried again.",
		codes:   []string{codeInvalidState},
	}, func(ctx context.Context, by authority.By, in *switchRecord) (*struct{ Body WebhookTest }, error) {
		id, p := recordID(in.ID)
		if p != nil {
			return nil, p
		}
		found, err := a.TestWebhook(ctx, by, id)
		if err != nil {
			return nil, err
		}
		return &struct{ Body WebhookTest }{WebhookTest(found)}, nil
	})
}

func onWebhook(ctx context.Context, by authority.By, text string, f func(context.Context, authority.By, token.ID) (authority.Webhook, error)) (*webhookAnswer, error) {
	id, p := recordID(text)
	if p != nil {
		return nil, p
	}
	return webhookOrError(f(ctx, by, id))
}

func webhookOrError(w authority.Webhook, err error) (*webhookAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &webhookAnswer{ETag: etag(w.Version), Body: webhookOf(&w)}, nil
}

func issuedWebhookOrError(i authority.IssuedWebhook, err error) (*issuedWebhookAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &issuedWebhookAnswer{ETag: etag(i.Webhook.Version), Body: IssuedWebhook{Webhook: webhookOf(&i.Webhook), Secret: Secret(i.Secret.Reveal())}}, nil
}
