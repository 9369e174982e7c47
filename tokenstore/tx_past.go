package tokenstore

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// What a node needs that compares what it knows of the past with what the store
// shows.

// OldestStep is the number of the oldest step of the feed that the store still
// keeps; 0 when it keeps none.
func (tx *Tx) OldestStep() (int64, error) {
	seq, err := tx.q.OldestChange(tx.ctx)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return seq, tx.explain("read the change feed", err)
}

// Secret returns a secret, whatever its status; ErrNotFound.
func (tx *Tx) Secret(id token.ID) (token.SecretRecord, error) {
	row, err := tx.q.GetSecret(tx.ctx, db.GetSecretParams{ID: string(id)})
	if err != nil {
		return token.SecretRecord{}, tx.explain("read a secret", err)
	}
	s, err := loadSecret(db.ListSecretsRow(row))
	if err != nil {
		return token.SecretRecord{}, tx.damaged("read secret "+row.ID, err)
	}
	return s, nil
}

// RaiseVersion brings a token's version to at least one that it is known to have
// had, and sets it in the value: in a store that was put back to an earlier state
// versions are counted anew, and must not be given to two different states. It is
// followed by UpdateToken in the same transaction, which goes on from there and
// tells the feed. ErrConflict when the value's version is not the stored one.
func (tx *Tx) RaiseVersion(t *token.Token, version int64) error {
	if err := tx.ready(); err != nil {
		return err
	}
	stored, err := tx.q.GetToken(tx.ctx, db.GetTokenParams{ID: string(t.ID)})
	if err != nil {
		return tx.explain("raise a token's version", err)
	}
	if stored.Version != t.Version {
		return fmt.Errorf("raise a token's version: it has another version: %w", ErrConflict)
	}
	if t.Version >= version {
		return nil
	}
	if _, err := tx.q.RaiseTokenVersion(tx.ctx, db.RaiseTokenVersionParams{ID: string(t.ID), Version: version}); err != nil {
		return tx.explain("raise a token's version", err)
	}
	t.Version = version
	// Should no update follow, the feed tells of this one.
	tx.note(TokenKind, string(t.ID), t.Version, t.State == token.Revoked || t.State == token.Deleted)
	return nil
}
