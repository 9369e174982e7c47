package tokenstore

import (
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// History is what is kept of a token for its lifecycle, beside the token.
type History struct {
	token.History
	ExemptReason string
	// Scheduled is what was announced and is still to come, and ScheduledAt its
	// date. Zero: nothing is.
	Scheduled   token.ActionKind
	ScheduledAt time.Time
	// PurgedAt is when all but the digests of a deleted token was cleared.
	PurgedAt time.Time
}

// History returns a token's history; the zero value when there is none, since it
// is older than histories are.
func (tx *Tx) History(id token.ID) (History, error) {
	row, err := tx.q.GetHistory(tx.ctx, db.GetHistoryParams{TokenID: string(id)})
	if errors.Is(err, pgx.ErrNoRows) {
		return History{}, nil
	}
	if err != nil {
		return History{}, tx.explain("read a token's history", err)
	}
	h, err := loadHistory(&row)
	if err != nil {
		return History{}, tx.damaged("read the history of token "+row.TokenID, err)
	}
	return h, nil
}

func loadHistory(row *db.History) (h History, err error) {
	h.Observed, h.LevelSince = loadTime(row.ObservedFrom), loadTime(row.LevelFrom)
	h.ExemptUntil, h.ExemptReason = loadTime(row.ExemptUntil), row.ExemptReason
	h.ScheduledAt, h.PurgedAt = loadTime(row.ScheduledAt), loadTime(row.PurgedAt)
	h.DowngradedAt, h.UndoUntil = loadTime(row.DowngradedAt), loadTime(row.UndoUntil)
	var errs [2]error
	if row.Scheduled != "" {
		errs[0] = h.Scheduled.UnmarshalText([]byte(row.Scheduled))
	}
	if row.BeforeAccess != "" {
		h.Before, errs[1] = loadGrant(row.BeforeAccess, row.BeforeScopes)
	}
	return h, errors.Join(errs[:]...)
}

var errHistoryAlone = errors.New("tokenstore: a history changes only together with its token: insert or update the token first, in the same transaction")

// PutHistory stores the history of a token that was inserted or updated in the
// same transaction: what a gate tells the consumer of it is part of the token as
// caches know it.
func (tx *Tx) PutHistory(id token.ID, h History) error {
	if err := tx.ready(); err != nil {
		return err
	}
	if _, ok := tx.written[id]; !ok {
		return errHistoryAlone
	}
	p := db.PutHistoryParams{
		TokenID:      string(id),
		ObservedFrom: storedTime(h.Observed),
		LevelFrom:    storedTime(h.LevelSince),
		ExemptUntil:  storedTime(h.ExemptUntil),
		ExemptReason: h.ExemptReason,
		ScheduledAt:  storedTime(h.ScheduledAt),
		DowngradedAt: storedTime(h.DowngradedAt),
		UndoUntil:    storedTime(h.UndoUntil),
		PurgedAt:     storedTime(h.PurgedAt),
	}
	var errs [2]error
	if h.Scheduled != 0 {
		p.Scheduled, errs[0] = storedEnum(h.Scheduled)
	}
	if h.Before.Access != 0 {
		p.BeforeAccess, errs[1] = storedEnum(h.Before.Access)
		p.BeforeScopes = storedWords(h.Before.Scopes)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	return tx.explain("store a token's history", tx.q.PutHistory(tx.ctx, p))
}

// loadOutlook gives what consumers are told; nil when that is nothing.
func loadOutlook(row *db.BulkHistoriesRow) (*Outlook, error) {
	if row.Scheduled == "" && row.DowngradedAt == 0 {
		return nil, nil
	}
	h, err := loadHistory(&db.History{
		Scheduled: row.Scheduled, ScheduledAt: row.ScheduledAt, DowngradedAt: row.DowngradedAt, UndoUntil: row.UndoUntil,
		BeforeAccess: row.BeforeAccess, BeforeScopes: row.BeforeScopes,
	})
	return &Outlook{
		Scheduled: h.Scheduled, ScheduledAt: h.ScheduledAt, DowngradedAt: h.DowngradedAt, UndoUntil: h.UndoUntil, Before: h.Before,
	}, err
}
