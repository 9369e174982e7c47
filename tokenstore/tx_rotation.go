package tokenstore

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

var errRotationAlone = errors.New("tokenstore: a rotation changes only together with its token: update the token first, in the same transaction")

func loadRotation(row *db.Rotation) (token.Rotation, error) {
	r := token.Rotation{
		PreviousID: token.ID(row.PreviousID), Mode: token.RotationMode(row.Mode),
		StartedAt: loadTime(row.StartedAt), Grace: time.Duration(row.Grace) * time.Microsecond,
	}
	if !slices.Contains(token.RotationModes(), r.Mode) || r.Grace < 0 || r.Grace > token.MaxPolicyDuration {
		return r, errors.New("its mode or its grace period is none")
	}
	return r, nil
}

// Rotation is what is stored of a token's last rotation; the zero value when that is
// nothing. It is over unless its PreviousID is the token's previous secret.
func (tx *Tx) Rotation(id token.ID) (token.Rotation, error) {
	row, err := tx.q.GetRotation(tx.ctx, db.GetRotationParams{TokenID: string(id)})
	if errors.Is(err, pgx.ErrNoRows) {
		return token.Rotation{}, nil
	}
	if err != nil {
		return token.Rotation{}, tx.explain("read a token's rotation", err)
	}
	r, err := loadRotation(&row)
	if err != nil {
		return r, tx.damaged("read the rotation of token "+row.TokenID, err)
	}
	return r, nil
}

// PutRotation stores the rotation of a token that was updated in the same transaction.
func (tx *Tx) PutRotation(id token.ID, r token.Rotation) error {
	if err := tx.ready(); err != nil {
		return err
	}
	if _, ok := tx.written[id]; !ok {
		return errRotationAlone
	}
	row := db.Rotation{
		TokenID: string(id), PreviousID: string(r.PreviousID), Mode: string(r.Mode),
		StartedAt: storedTime(r.StartedAt), Grace: r.Grace.Microseconds(),
	}
	if _, err := loadRotation(&row); err != nil || r.PreviousID == "" || r.StartedAt.IsZero() {
		return fmt.Errorf("store a rotation: its previous secret, start, mode or grace period is none")
	}
	return tx.explain("store a rotation", tx.q.PutRotation(tx.ctx, db.PutRotationParams(row)))
}

// EndRotation forgets the rotation of a token that was updated in the same
// transaction. One that there is not is no error.
func (tx *Tx) EndRotation(id token.ID) error {
	if err := tx.ready(); err != nil {
		return err
	}
	if _, ok := tx.written[id]; !ok {
		return errRotationAlone
	}
	return tx.explain("end a rotation", tx.q.DeleteRotation(tx.ctx, db.DeleteRotationParams{TokenID: string(id)}))
}

// FirstUse is when a secret was first used, by all that gateways have told so far;
// zero: not that it is known.
func (tx *Tx) FirstUse(s *token.SecretRecord) (time.Time, error) {
	at, err := tx.q.FirstUse(tx.ctx, db.FirstUseParams{TokenID: string(s.TokenID), SecretID: string(s.ID)})
	if err != nil {
		return time.Time{}, tx.explain("read the first use of a secret", err)
	}
	return earliest(loadTime(at), s.FirstUsed), nil
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// GracesToStart lists tokens, after one, whose new secret was used so that the end of
// the previous one is to be set or brought forward, and where the list goes on; empty:
// it does not. It reads only the rotations that wait for a first use or had one.
func (tx *Tx) GracesToStart(after token.ID, limit int) (ids []token.ID, next token.ID, err error) {
	now, err := tx.Time()
	if err != nil {
		return nil, "", err
	}
	rows, err := tx.q.RotationsWaiting(tx.ctx, db.RotationsWaitingParams{After: string(after), Lim: int64(limit)})
	if err != nil {
		return nil, "", tx.explain("read the rotations that wait for a first use", err)
	}
	for _, row := range rows {
		first := earliest(loadTime(row.FirstAt), loadTime(row.FirstUsed))
		if first.IsZero() {
			continue
		}
		r := token.Rotation{
			PreviousID: token.ID(row.PreviousID), Mode: token.RotateOnFirstUse,
			StartedAt: loadTime(row.StartedAt), Grace: time.Duration(row.Grace) * time.Microsecond,
		}
		previous := token.SecretRecord{ID: r.PreviousID, Status: token.Previous, ExpiresAt: loadTime(row.ExpiresAt)}
		if r.StartsGrace(&previous, r.EndAfter(first, now)) {
			ids = append(ids, token.ID(row.TokenID))
		}
	}
	if len(rows) == limit && limit > 0 {
		next = token.ID(rows[limit-1].TokenID)
	}
	return ids, next, nil
}
