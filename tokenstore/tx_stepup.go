package tokenstore

import (
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// OneTimeCodes is what a user's one-time codes are made of, and what keeps others
// from guessing them. The secrets are encrypted under a master key: they have to
// be had again, other than a token's.
type OneTimeCodes struct {
	UserID     token.ID
	KeyID      string // the master key that both secrets are encrypted under
	Secret     []byte // empty: not enrolled
	EnrolledAt time.Time
	// Pending is the secret of an enrolment that was begun and not confirmed.
	Pending   []byte
	PendingAt time.Time
	// LastStep is the latest period of which a code was used: no code of it or of
	// an earlier one works again.
	LastStep int64
	Recovery []string // digests of the recovery codes that are left
	// Failures counts wrong codes since the last right one, and Recent those of
	// them since RecentFrom.
	Failures, Recent int
	RecentFrom       time.Time
	Locks            int // how often in a row it was locked
	LockedUntil      time.Time
	Version          int64
}

func loadOneTimeCodes(row *db.OneTimeCode) OneTimeCodes {
	return OneTimeCodes{
		UserID: token.ID(row.UserID), KeyID: row.KeyID, Secret: row.Secret, EnrolledAt: loadTime(row.EnrolledAt),
		Pending: row.Pending, PendingAt: loadTime(row.PendingAt), LastStep: row.LastStep, Recovery: loadWords(row.Recovery),
		Failures: int(row.Failures), Recent: int(row.Recent), RecentFrom: loadTime(row.RecentFrom),
		Locks: int(row.Locks), LockedUntil: loadTime(row.LockedUntil), Version: row.Version,
	}
}

// OneTimeCodes returns what there is of a user; ErrNotFound when enrolment was
// never begun.
func (tx *Tx) OneTimeCodes(user token.ID) (OneTimeCodes, error) {
	row, err := tx.q.GetOneTimeCodes(tx.ctx, db.GetOneTimeCodesParams{UserID: string(user)})
	if err != nil {
		return OneTimeCodes{}, tx.explain("read one-time codes", err)
	}
	return loadOneTimeCodes(&row), nil
}

// PutOneTimeCodes inserts a record whose Version is 0, and updates any other;
// ErrConflict when the user has a record of another version. Codes decide about no
// request at a gate, so that they are not on the feed; the caller audits what it
// does.
func (tx *Tx) PutOneTimeCodes(c *OneTimeCodes) error {
	if err := tx.ready(); err != nil {
		return err
	}
	const doing = "store one-time codes"
	if err := tx.knowsKey(doing, c.KeyID); err != nil {
		return err
	}
	if c.UserID == "" {
		return errors.New(doing + ": there is no user")
	}
	p := db.InsertOneTimeCodesParams{
		UserID: string(c.UserID), KeyID: c.KeyID, Secret: orNoBytes(c.Secret), EnrolledAt: storedTime(c.EnrolledAt),
		Pending: orNoBytes(c.Pending), PendingAt: storedTime(c.PendingAt), LastStep: c.LastStep, Recovery: storedWords(c.Recovery),
		Failures: int64(c.Failures), Recent: int64(c.Recent), RecentFrom: storedTime(c.RecentFrom),
		Locks: int64(c.Locks), LockedUntil: storedTime(c.LockedUntil),
	}
	var n int64
	var err error
	if c.Version == 0 {
		n, err = tx.q.InsertOneTimeCodes(tx.ctx, p)
	} else {
		n, err = tx.q.UpdateOneTimeCodes(tx.ctx, db.UpdateOneTimeCodesParams{
			UserID: p.UserID, KeyID: p.KeyID, Secret: p.Secret, EnrolledAt: p.EnrolledAt, Pending: p.Pending, PendingAt: p.PendingAt,
			LastStep: p.LastStep, Recovery: p.Recovery, Failures: p.Failures, Recent: p.Recent, RecentFrom: p.RecentFrom,
			Locks: p.Locks, LockedUntil: p.LockedUntil, Version: c.Version,
		})
	}
	if err != nil {
		return tx.explain(doing, err)
	}
	if n == 0 {
		return fmt.Errorf(doing+": they have another version: %w", ErrConflict)
	}
	c.Version++
	return nil
}

// DeleteOneTimeCodes forgets all that there is of a user; ErrNotFound.
func (tx *Tx) DeleteOneTimeCodes(user token.ID) error {
	if err := tx.ready(); err != nil {
		return err
	}
	n, err := tx.q.DeleteOneTimeCodes(tx.ctx, db.DeleteOneTimeCodesParams{UserID: string(user)})
	return tx.one("delete one-time codes", n, err)
}

// OneTimeCodesUnderKey counts the users whose secrets are encrypted under a master key.
func (tx *Tx) OneTimeCodesUnderKey(keyID string) (int, error) {
	n, err := tx.q.CountOneTimeCodesUnderKey(tx.ctx, db.CountOneTimeCodesUnderKeyParams{KeyID: keyID})
	return int(n), tx.explain("count one-time codes", err)
}

// ListOneTimeCodesUnderKey lists up to limit of them, by user, after one.
func (tx *Tx) ListOneTimeCodesUnderKey(keyID string, after token.ID, limit int) ([]OneTimeCodes, error) {
	rows, err := tx.q.OneTimeCodesUnderKey(tx.ctx, db.OneTimeCodesUnderKeyParams{KeyID: keyID, After: string(after), Lim: int64(limit)})
	if err != nil {
		return nil, tx.explain("list one-time codes", err)
	}
	list := make([]OneTimeCodes, len(rows))
	for i := range rows {
		list[i] = loadOneTimeCodes(&rows[i])
	}
	return list, nil
}
