package tokenstore

import (
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

var errSecretAlone = errors.New("tokenstore: a secret changes only together with its token: insert or update the token first, in the same transaction")

func loadSecret(row db.ListSecretsRow) (token.SecretRecord, error) {
	s := token.SecretRecord{
		ID:         token.ID(row.ID),
		TokenID:    token.ID(row.TokenID),
		Last4:      row.Last4,
		CreatedAt:  loadTime(row.CreatedAt),
		ExpiresAt:  loadTime(row.ExpiresAt),
		RetryUntil: loadTime(row.RetryUntil),
		FirstUsed:  loadTime(row.FirstUsed),
	}
	err := s.Status.UnmarshalText([]byte(row.Status))
	return s, err
}

// Secrets lists the current, the previous and the retired secrets of a token, newest first.
func (tx *Tx) Secrets(tokenID token.ID) ([]token.SecretRecord, error) {
	rows, err := tx.q.ListSecrets(tx.ctx, db.ListSecretsParams{TokenID: string(tokenID)})
	if err != nil {
		return nil, tx.explain("list a token's secrets", err)
	}
	secrets := make([]token.SecretRecord, len(rows))
	for i, row := range rows {
		if secrets[i], err = loadSecret(row); err != nil {
			return nil, tx.damaged("read secret "+row.ID, err)
		}
	}
	return secrets, nil
}

// SecretKeys tells under which master key each secret of a token is stored.
func (tx *Tx) SecretKeys(tokenID token.ID) (map[token.ID]string, error) {
	rows, err := tx.q.ListSecretKeys(tx.ctx, db.ListSecretKeysParams{TokenID: string(tokenID)})
	if err != nil {
		return nil, tx.explain("list the master keys of a token's secrets", err)
	}
	keys := make(map[token.ID]string, len(rows))
	for _, row := range rows {
		keys[token.ID(row.ID)] = row.KeyID
	}
	return keys, nil
}

// InsertSecret stores a secret of a token that was inserted or updated in the
// same transaction, since a token's version covers its secrets. ErrConflict when
// the ID or the lookup value is taken; ErrNotFound when the store does not know
// the master key.
func (tx *Tx) InsertSecret(s *token.SecretRecord, l Lookup, keyID string) error {
	if err := tx.ready(); err != nil {
		return err
	}
	owner, ok := tx.written[s.TokenID]
	if !ok {
		return errSecretAlone
	}
	status, err := storedEnum(s.Status)
	if err != nil {
		return fmt.Errorf("store a secret: %w", err)
	}
	if err := tx.knowsKey("store a secret", keyID); err != nil {
		return err
	}
	n, err := tx.q.InsertSecret(tx.ctx, db.InsertSecretParams{
		ID:         string(s.ID),
		TokenID:    string(s.TokenID),
		Lookup:     l[:],
		KeyID:      keyID,
		Last4:      s.Last4,
		Status:     status,
		Live:       storedFlag(inUse(owner.state) && s.Status != token.Retired),
		CreatedAt:  storedTime(s.CreatedAt),
		ExpiresAt:  storedTime(s.ExpiresAt),
		RetryUntil: storedTime(s.RetryUntil),
		FirstUsed:  storedTime(s.FirstUsed),
	})
	if err != nil {
		return tx.explain("store a secret", err)
	}
	if n == 0 {
		return fmt.Errorf("store a secret: its ID or lookup value is taken: %w", ErrConflict)
	}
	tx.note(SecretKind, string(s.ID), owner.version, s.Status == token.Retired)
	return nil
}

// UpdateSecret stores status, expiry, retry window and first use; same rule. ErrNotFound.
func (tx *Tx) UpdateSecret(s *token.SecretRecord) error {
	if err := tx.ready(); err != nil {
		return err
	}
	owner, ok := tx.written[s.TokenID]
	if !ok {
		return errSecretAlone
	}
	status, err := storedEnum(s.Status)
	if err != nil {
		return fmt.Errorf("update a secret: %w", err)
	}
	n, err := tx.q.UpdateSecret(tx.ctx, db.UpdateSecretParams{
		ID:         string(s.ID),
		TokenID:    string(s.TokenID),
		Status:     status,
		Live:       storedFlag(inUse(owner.state) && s.Status != token.Retired),
		ExpiresAt:  storedTime(s.ExpiresAt),
		RetryUntil: storedTime(s.RetryUntil),
		FirstUsed:  storedTime(s.FirstUsed),
	})
	if err != nil {
		return tx.explain("update a secret", err)
	}
	if n == 0 {
		return fmt.Errorf("update a secret: %w", ErrNotFound)
	}
	tx.note(SecretKind, string(s.ID), owner.version, s.Status == token.Retired)
	return nil
}

// MarkUsed sets the first use of a secret if none is set; ErrNotFound. It is a
// fact and no change: no version, no feed, no audit entry.
func (tx *Tx) MarkUsed(secretID token.ID, at time.Time) error {
	if err := tx.ready(); err != nil {
		return err
	}
	n, err := tx.q.MarkUsed(tx.ctx, db.MarkUsedParams{ID: string(secretID), FirstUsed: storedTime(at)})
	if err != nil {
		return tx.explain("mark a secret as used", err)
	}
	if n == 0 {
		_, err := tx.q.GetSecret(tx.ctx, db.GetSecretParams{ID: string(secretID)})
		return tx.explain("mark a secret as used", err)
	}
	return nil
}

// Rekey moves a secret to another master key, the primary one. It is no change:
// no version, no audit entry. ErrNotFound when the secret is not stored under
// from, as when another node was first, or the store does not know the master
// key; ErrConflict when to is taken.
func (tx *Tx) Rekey(secretID token.ID, from, to Lookup, keyID string) error {
	if err := tx.ready(); err != nil {
		return err
	}
	if err := tx.knowsKey("move a secret to another master key", keyID); err != nil {
		return err
	}
	// Asked beforehand, because a refused statement would end the transaction.
	holder, err := tx.q.LookupTaken(tx.ctx, db.LookupTakenParams{Lookup: to[:]})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
	case err != nil:
		return tx.explain("move a secret to another master key", err)
	case holder != string(secretID) || from != to:
		return fmt.Errorf("move a secret to another master key: its lookup value is taken: %w", ErrConflict)
	}
	n, err := tx.q.Rekey(tx.ctx, db.RekeyParams{
		ID:        string(secretID),
		OldLookup: from[:],
		NewLookup: to[:],
		KeyID:     keyID,
	})
	if err != nil {
		return tx.explain("move a secret to another master key", err)
	}
	if n == 0 {
		return fmt.Errorf("move a secret to another master key: %w", ErrNotFound)
	}
	return nil
}
