package tokenstore

import (
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// MasterKey is what the store knows of a master key: never the key.
type MasterKey struct {
	ID         string
	CheckValue string
	Primary    bool
	AddedAt    time.Time
	// Live counts the secrets under the key that are in use: current or
	// previous ones of active or disabled tokens. Retired counts all others.
	Live, Retired int64
	// Webhooks counts those whose signing secrets are encrypted under the key.
	Webhooks int64
	// Codes counts the users whose one-time codes are encrypted under the key.
	Codes int64
}

// PrimaryKey names the master key that new secrets go under; empty while the
// store has none. Unlike MasterKeys it counts nothing, and costs one row.
func (tx *Tx) PrimaryKey() (string, error) {
	head, err := tx.q.GetHead(tx.ctx)
	if err != nil {
		return "", tx.explain("read the primary master key", err)
	}
	if head.PrimaryKey == nil {
		return "", nil
	}
	return *head.PrimaryKey, nil
}

// MasterKeys lists all master keys by ID. Counting walks over all secrets.
func (tx *Tx) MasterKeys() ([]MasterKey, error) {
	head, err := tx.q.GetHead(tx.ctx)
	if err != nil {
		return nil, tx.explain("read the primary master key", err)
	}
	rows, err := tx.q.ListMasterKeys(tx.ctx)
	if err != nil {
		return nil, tx.explain("list master keys", err)
	}
	counts, err := tx.q.CountSecretsUnderKeys(tx.ctx)
	if err != nil {
		return nil, tx.explain("count secrets under master keys", err)
	}
	keys := make([]MasterKey, len(rows))
	for i, row := range rows {
		keys[i] = MasterKey{
			ID:         row.ID,
			CheckValue: row.CheckValue,
			Primary:    head.PrimaryKey != nil && *head.PrimaryKey == row.ID,
			AddedAt:    loadTime(row.AddedAt),
		}
		if keys[i].Webhooks, err = tx.q.WebhooksUnderKey(tx.ctx, db.WebhooksUnderKeyParams{KeyID: row.ID}); err != nil {
			return nil, tx.explain("count webhooks", err)
		}
		if keys[i].Codes, err = tx.q.CountOneTimeCodesUnderKey(tx.ctx, db.CountOneTimeCodesUnderKeyParams{KeyID: row.ID}); err != nil {
			return nil, tx.explain("count one-time codes", err)
		}
		for _, c := range counts {
			switch {
			case c.KeyID != row.ID:
			case c.Live != 0:
				keys[i].Live = c.Secrets
			default:
				keys[i].Retired = c.Secrets
			}
		}
	}
	return keys, nil
}

// PutMasterKey inserts or replaces what is known of a key, and makes it the only
// primary when Primary is set. It does not look at the counts.
func (tx *Tx) PutMasterKey(k MasterKey) error {
	if err := tx.ready(); err != nil {
		return err
	}
	err := tx.q.PutMasterKey(tx.ctx, db.PutMasterKeyParams{
		ID: k.ID, CheckValue: k.CheckValue, AddedAt: storedTime(k.AddedAt),
	})
	if err != nil {
		return tx.explain("store a master key", err)
	}
	if k.Primary {
		if err := tx.q.SetPrimaryKey(tx.ctx, db.SetPrimaryKeyParams{PrimaryKey: &k.ID}); err != nil {
			return tx.explain("name the primary master key", err)
		}
	}
	tx.note(MasterKeyKind, k.ID, 0, false)
	return nil
}

// DeleteMasterKey removes a key: ErrNotFound; ErrConflict while it is the
// primary or secrets in use, webhooks or one-time codes are under it. Secrets that are not in use
// stay as they are: nobody can look them up any more.
func (tx *Tx) DeleteMasterKey(id string) error {
	if err := tx.ready(); err != nil {
		return err
	}
	switch primary, err := tx.PrimaryKey(); {
	case err != nil:
		return err
	case primary == id:
		return fmt.Errorf("delete a master key: it is the primary: %w", ErrConflict)
	}
	switch _, err := tx.q.AnyLiveSecretUnderKey(tx.ctx, db.AnyLiveSecretUnderKeyParams{KeyID: id}); {
	case err == nil:
		return fmt.Errorf("delete a master key: secrets in use are under it: %w", ErrConflict)
	case !errors.Is(err, pgx.ErrNoRows):
		return tx.explain("look for secrets under a master key", err)
	}
	switch hooks, err := tx.WebhooksUnderKey(id); {
	case err != nil:
		return err
	case hooks > 0:
		return fmt.Errorf("delete a master key: signing secrets of webhooks are under it: %w", ErrConflict)
	}
	switch codes, err := tx.OneTimeCodesUnderKey(id); {
	case err != nil:
		return err
	case codes > 0:
		return fmt.Errorf("delete a master key: one-time codes of users are under it: %w", ErrConflict)
	}
	n, err := tx.q.DeleteMasterKey(tx.ctx, db.DeleteMasterKeyParams{ID: id})
	if err != nil {
		return tx.explain("delete a master key", err)
	}
	if n == 0 {
		return fmt.Errorf("delete a master key: %w", ErrNotFound)
	}
	tx.note(MasterKeyKind, id, 0, false)
	return nil
}

// knowsKey says why a secret can not be stored under a key that the store does
// not know: its ring could never be checked for it.
func (tx *Tx) knowsKey(doing, id string) error {
	_, err := tx.q.GetMasterKey(tx.ctx, db.GetMasterKeyParams{ID: id})
	return tx.explain(doing+": look up the master key", err)
}

// TokensUnderKey lists the tokens that would end with the key, those that Live
// counts secrets of, newest first, and gives the cursor of the next page.
func (tx *Tx) TokensUnderKey(id string, p Page) ([]token.Token, string, error) {
	list, err := openList("tokens under key", id, p)
	if err != nil {
		return nil, "", err
	}
	ids, err := tx.q.TokenIDsUnderKey(tx.ctx, db.TokenIDsUnderKeyParams{KeyID: id, Before: list.before(), Lim: list.fetch()})
	if err != nil {
		return nil, "", tx.explain("list the tokens under a master key", err)
	}
	ids, next := cutPage(list, ids, func(id *string) token.ID { return token.ID(*id) })
	tokens := make([]token.Token, len(ids))
	for i, id := range ids {
		if tokens[i], err = tx.Token(token.ID(id)); err != nil {
			return nil, "", err
		}
	}
	return tokens, next, nil
}
