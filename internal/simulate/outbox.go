package simulate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Outbox tells people by rows of the outbox, and judges a notice as given when every
// recipient's copy was accepted. What becomes of each copy is for whoever calls
// Deliver.
type Outbox struct {
	NewID      func(prefix string) (token.ID, error)
	Recipients []string // none: there is no channel
	// Told, if set, hears of every message that is written, also in transactions
	// that come to nothing.
	Told func(*notify.Message)
}

// Tell implements lifecycle.Teller.
func (o *Outbox) Tell(tx *tokenstore.Tx, m notify.Message) error {
	if o.Told != nil {
		o.Told(&m)
	}
	for _, to := range o.Recipients {
		id, err := o.NewID("ntc")
		if err != nil {
			return err
		}
		_, err = tx.InsertNotice(tokenstore.Notice{
			ID: id, Same: fmt.Sprintf("%s %s %s %d %s", m.Event, m.TokenID, m.PlanID, m.Version, to), Event: m.Event,
			AccountID: m.AccountID, TokenID: m.TokenID, PlanID: m.PlanID, Channel: "mail", Recipient: to,
			Facts: []byte("{}"), CreatedAt: m.Facts.At,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Accepted implements lifecycle.Teller.
func (o *Outbox) Accepted(tx *tokenstore.Tx, plan token.ID, _ time.Time) (notify.Verdict, error) {
	copies, err := tx.NoticesOfPlan(plan)
	if err != nil || len(copies) == 0 {
		return notify.Verdict{}, err
	}
	var v notify.Verdict
	for i := range copies {
		if copies[i].State != tokenstore.NoticeAccepted {
			return notify.Verdict{}, nil
		}
		if copies[i].DoneAt.After(v.Accepted) {
			v.Accepted = copies[i].DoneAt
		}
	}
	return v, nil
}

// Channel implements lifecycle.Teller.
func (o *Outbox) Channel(*tokenstore.Tx) (bool, error) { return len(o.Recipients) > 0, nil }

// Deliver tries every copy that waits. accept says whether the relay takes one; a
// copy that it does not take is tried again by the next call.
func (o *Outbox) Deliver(ctx context.Context, s tokenstore.Store, accept func(*tokenstore.Notice) bool) (accepted []tokenstore.Notice, err error) {
	err = s.Write(ctx, func(tx *tokenstore.Tx) error {
		accepted = accepted[:0]
		now, err := tx.Time()
		if err != nil {
			return err
		}
		due, err := tx.ClaimNotices("outbox", now, now.Add(time.Minute), 1000)
		if err != nil {
			return err
		}
		for _, n := range due {
			n.NextAt = time.Time{}
			if accept(&n) {
				n.State, n.DoneAt = tokenstore.NoticeAccepted, now
				accepted = append(accepted, n)
			} else {
				n.State, n.Problem = tokenstore.NoticeWaiting, "not taken"
			}
			if err := tx.SettleNotice(n); err != nil && !errors.Is(err, tokenstore.ErrNotFound) {
				return err
			}
		}
		return nil
	})
	return accepted, err
}
