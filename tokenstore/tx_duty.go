package tokenstore

import (
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// LifecycleDuty is to look after all tokens.
const LifecycleDuty = "lifecycle"

// Duty is something that one gateway at a time does for all.
type Duty struct {
	Name   string
	Holder string
	// Fence grows with every new holder. Whoever comes with an older one was
	// replaced while it was away, and must not act.
	Fence   int64
	Until   time.Time // when the holder's term ends, by the store's clock
	LastRun time.Time
	// Trusted is from when on the holder may act, after the clock has leapt.
	Trusted time.Time
}

// Duty reads a duty; the zero value but for its name when nobody had it yet.
func (tx *Tx) Duty(name string) (Duty, error) {
	row, err := tx.q.GetDuty(tx.ctx, db.GetDutyParams{Name: name})
	if errors.Is(err, pgx.ErrNoRows) {
		return Duty{Name: name}, nil
	}
	if err != nil {
		return Duty{}, tx.explain("read a duty", err)
	}
	return Duty{
		Name: row.Name, Holder: row.Holder, Fence: row.Fence, Until: loadTime(row.Until),
		LastRun: loadTime(row.LastRun), Trusted: loadTime(row.Trusted),
	}, nil
}

// PutDuty stores a duty. Writers are serialised, so that the caller decides from
// what Duty gave in the same transaction. It is no change: no feed, no audit entry.
func (tx *Tx) PutDuty(d Duty) error {
	if err := tx.ready(); err != nil {
		return err
	}
	return tx.explain("store a duty", tx.q.PutDuty(tx.ctx, db.PutDutyParams{
		Name: d.Name, Holder: d.Holder, Fence: d.Fence, Until: storedTime(d.Until),
		LastRun: storedTime(d.LastRun), Trusted: storedTime(d.Trusted),
	}))
}

// TakeDuty gives a duty to a holder for a term, when it is free, the holder's
// already, or its term has ended. ok is false when another one has it.
func (tx *Tx) TakeDuty(name, holder string, term time.Duration) (d Duty, ok bool, err error) {
	d, err = tx.Duty(name)
	if err != nil {
		return d, false, err
	}
	now, err := tx.Time()
	if err != nil {
		return d, false, err
	}
	if d.Holder != holder {
		if d.Holder != "" && now.Before(d.Until) {
			return d, false, nil
		}
		d.Holder = holder
		d.Fence++
	}
	d.Until = now.Add(term)
	return d, true, tx.PutDuty(d)
}

// GiveUpDuty ends a holder's term at once, so that the next need not wait.
func (tx *Tx) GiveUpDuty(name, holder string) error {
	d, err := tx.Duty(name)
	if err != nil || d.Holder != holder {
		return err
	}
	d.Holder, d.Until = "", time.Time{}
	return tx.PutDuty(d)
}
