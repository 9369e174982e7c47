package tokenstore

import (
	"fmt"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// Webhook is where events are sent to. Its signing secrets are encrypted under a
// master key: they have to be had again, other than a token's.
type Webhook struct {
	ID       token.ID
	URL      string
	Events   []string // empty: all
	Disabled bool
	KeyID    string // the master key that the secrets are encrypted under
	Secret   []byte
	// Previous is the secret before a rotation, which signs too until
	// PreviousUntil; zero: until somebody ends it. Empty: there is none.
	Previous             []byte
	PreviousUntil        time.Time
	ManagedBy            string // hash of the configuration that owns it; empty: the store
	CreatedAt, UpdatedAt time.Time
	Version              int64
}

func loadWebhook(row *db.Webhook) Webhook {
	return Webhook{
		ID: token.ID(row.ID), URL: row.Url, Events: loadWords(row.Events), Disabled: row.Disabled != 0, KeyID: row.KeyID,
		Secret: row.Secret, Previous: row.Previous, PreviousUntil: loadTime(row.PreviousUntil), ManagedBy: row.ManagedBy,
		CreatedAt: loadTime(row.CreatedAt), UpdatedAt: loadTime(row.UpdatedAt), Version: row.Version,
	}
}

// Webhooks lists all webhooks by ID.
func (tx *Tx) Webhooks() ([]Webhook, error) {
	rows, err := tx.q.ListWebhooks(tx.ctx)
	if err != nil {
		return nil, tx.explain("list webhooks", err)
	}
	hooks := make([]Webhook, len(rows))
	for i := range rows {
		hooks[i] = loadWebhook(&rows[i])
	}
	return hooks, nil
}

// Webhook returns a webhook; ErrNotFound.
func (tx *Tx) Webhook(id token.ID) (Webhook, error) {
	row, err := tx.q.GetWebhook(tx.ctx, db.GetWebhookParams{ID: string(id)})
	if err != nil {
		return Webhook{}, tx.explain("read a webhook", err)
	}
	return loadWebhook(&row), nil
}

// InsertWebhook stores a webhook; ErrConflict when its ID or its URL is taken.
// Webhooks decide about no request, so that they are not on the feed; the caller
// audits what it does.
func (tx *Tx) InsertWebhook(w *Webhook) error {
	if err := tx.ready(); err != nil {
		return err
	}
	if err := tx.knowsKey("store a webhook", w.KeyID); err != nil {
		return err
	}
	n, err := tx.q.InsertWebhook(tx.ctx, db.InsertWebhookParams{
		ID: string(w.ID), Url: w.URL, Events: storedWords(w.Events), Disabled: storedFlag(w.Disabled), KeyID: w.KeyID,
		Secret: w.Secret, Previous: orNoBytes(w.Previous), PreviousUntil: storedTime(w.PreviousUntil), ManagedBy: w.ManagedBy,
		CreatedAt: storedTime(w.CreatedAt), UpdatedAt: storedTime(w.UpdatedAt),
	})
	if err != nil {
		return tx.explain("store a webhook", err)
	}
	if n == 0 {
		return fmt.Errorf("store a webhook: its ID or its URL is taken: %w", ErrConflict)
	}
	w.Version = 1
	return nil
}

// UpdateWebhook stores all but the creation of a webhook; ErrConflict when it has
// another version, or is gone.
func (tx *Tx) UpdateWebhook(w *Webhook) error {
	if err := tx.ready(); err != nil {
		return err
	}
	if err := tx.knowsKey("update a webhook", w.KeyID); err != nil {
		return err
	}
	n, err := tx.q.UpdateWebhook(tx.ctx, db.UpdateWebhookParams{
		ID: string(w.ID), Version: w.Version, Url: w.URL, Events: storedWords(w.Events), Disabled: storedFlag(w.Disabled),
		KeyID: w.KeyID, Secret: w.Secret, Previous: orNoBytes(w.Previous), PreviousUntil: storedTime(w.PreviousUntil),
		ManagedBy: w.ManagedBy, UpdatedAt: storedTime(w.UpdatedAt),
	})
	if err != nil {
		return tx.explain("update a webhook", err)
	}
	if n == 0 {
		return fmt.Errorf("update a webhook: it has another version: %w", ErrConflict)
	}
	w.Version++
	return nil
}

// orNoBytes keeps an absent secret from being stored as NULL.
func orNoBytes(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// DeleteWebhook removes a webhook; ErrNotFound.
func (tx *Tx) DeleteWebhook(id token.ID) error {
	if err := tx.ready(); err != nil {
		return err
	}
	n, err := tx.q.DeleteWebhook(tx.ctx, db.DeleteWebhookParams{ID: string(id)})
	return tx.one("delete a webhook", n, err)
}

// WebhooksUnderKey counts the webhooks whose secrets are encrypted under a master key.
func (tx *Tx) WebhooksUnderKey(keyID string) (int, error) {
	n, err := tx.q.WebhooksUnderKey(tx.ctx, db.WebhooksUnderKeyParams{KeyID: keyID})
	return int(n), tx.explain("count webhooks", err)
}
