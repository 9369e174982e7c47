package tokenstore

import (
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// Life is what lists show of a token's past and of what is to come for it.
type Life struct {
	History History
	// LastUsed is the latest moment of which it is known that the token was used:
	// of each scope and secret the first use in a bucket is kept. Zero: never.
	LastUsed time.Time
}

// Lives reads the lives of tokens, all in one statement; a token that there is
// not is left out. It is made for one page of a list.
func (tx *Tx) Lives(ids ...token.ID) (map[token.ID]Life, error) {
	lives := make(map[token.ID]Life, len(ids))
	if len(ids) == 0 {
		return lives, nil
	}
	b := new(query)
	b.add(`SELECT t.id, COALESCE(h.observed_from, 0), COALESCE(h.level_from, 0), COALESCE(h.exempt_until, 0), COALESCE(h.exempt_reason, ''),
 COALESCE(h.scheduled, ''), COALESCE(h.scheduled_at, 0), COALESCE(h.downgraded_at, 0), COALESCE(h.undo_until, 0),
 COALESCE(h.before_access, ''), COALESCE(h.before_scopes, ''), COALESCE(h.purged_at, 0),
 COALESCE((SELECT MAX(u.last_at) FROM uses u WHERE u.token_id = t.id), 0)
 FROM tokens t LEFT JOIN histories h ON h.token_id = t.id WHERE t.id IN (`)
	for i := range roundUp(len(ids)) {
		if i > 0 {
			b.add(", ")
		}
		b.add(b.arg(string(ids[min(i, len(ids)-1)])))
	}
	b.add(")")
	rows, err := tx.db.Query(tx.ctx, b.text.String(), b.args...)
	if err != nil {
		return nil, tx.explain("read what tokens went through", err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			r    db.History
			last int64
		)
		err := rows.Scan(&r.TokenID, &r.ObservedFrom, &r.LevelFrom, &r.ExemptUntil, &r.ExemptReason, &r.Scheduled, &r.ScheduledAt,
			&r.DowngradedAt, &r.UndoUntil, &r.BeforeAccess, &r.BeforeScopes, &r.PurgedAt, &last)
		if err != nil {
			return nil, tx.explain("read what tokens went through", err)
		}
		h, err := loadHistory(&r)
		if err != nil {
			return nil, tx.damaged("read the history of token "+r.TokenID, err)
		}
		lives[token.ID(r.TokenID)] = Life{History: h, LastUsed: loadTime(last)}
	}
	return lives, tx.explain("read what tokens went through", rows.Err())
}
