package tokenstore

import (
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/token"
)

// FirstUsed is the first token, by ID, of which any use is known; empty when none
// is. It is found at once, however much is known.
func (tx *Tx) FirstUsed() (token.ID, error) {
	var id string
	err := tx.db.QueryRow(tx.ctx, "SELECT token_id FROM uses ORDER BY token_id LIMIT 1").Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return token.ID(id), tx.explain("find known use", err)
}
