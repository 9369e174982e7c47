package tokenstore

import (
	"fmt"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// attemptLife is how long an Idempotency-Key is remembered.
const attemptLife = 24 * time.Hour

// Attempt is one use of an Idempotency-Key by an actor on a route.
type Attempt struct {
	Actor, Route, Key string
	BodyHash          [32]byte
	TokenID, SecretID token.ID
	CreatedAt         time.Time
}

// Attempt returns the attempt under the same actor, route and key; ErrNotFound.
func (tx *Tx) Attempt(actor, route, key string) (Attempt, error) {
	row, err := tx.q.GetAttempt(tx.ctx, db.GetAttemptParams{Actor: actor, Route: route, Key: key})
	if err != nil {
		return Attempt{}, tx.explain("read an attempt", err)
	}
	if len(row.BodyHash) != len(Attempt{}.BodyHash) {
		return Attempt{}, tx.damaged("read an attempt", fmt.Errorf("its hash has %d bytes", len(row.BodyHash)))
	}
	return Attempt{
		Actor:     row.Actor,
		Route:     row.Route,
		Key:       row.Key,
		BodyHash:  [32]byte(row.BodyHash),
		TokenID:   token.ID(row.TokenID),
		SecretID:  token.ID(row.SecretID),
		CreatedAt: loadTime(row.CreatedAt),
	}, nil
}

// PutAttempt inserts or replaces; attempts older than a day are removed in
// passing. It is no change: no feed, no audit entry.
func (tx *Tx) PutAttempt(a Attempt) error {
	if err := tx.ready(); err != nil {
		return err
	}
	err := tx.q.DeleteAttemptsBefore(tx.ctx, db.DeleteAttemptsBeforeParams{
		Before: storedTime(a.CreatedAt.Add(-attemptLife)),
	})
	if err != nil {
		return tx.explain("remove old attempts", err)
	}
	err = tx.q.PutAttempt(tx.ctx, db.PutAttemptParams{
		Actor:     a.Actor,
		Route:     a.Route,
		Key:       a.Key,
		BodyHash:  a.BodyHash[:],
		TokenID:   string(a.TokenID),
		SecretID:  string(a.SecretID),
		CreatedAt: storedTime(a.CreatedAt),
	})
	return tx.explain("store an attempt", err)
}
