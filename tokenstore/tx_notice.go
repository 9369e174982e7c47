package tokenstore

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// NoticeState is what has become of a message.
type NoticeState string

// The states of a message.
const (
	NoticeWaiting   NoticeState = "waiting"   // to be sent, or tried again
	NoticeAccepted  NoticeState = "accepted"  // a relay took it, or a webhook answered 2xx
	NoticeFailed    NoticeState = "failed"    // given up
	NoticeCancelled NoticeState = "cancelled" // what it announced was called off before it was sent
)

// Notice is one message to one recipient over one channel.
type Notice struct {
	ID token.ID
	// Same is what makes it the same message: a second one is not stored.
	Same      string
	Event     token.Event
	AccountID token.ID
	TokenID   token.ID
	PlanID    token.ID // the plan that it announces; empty: none
	Channel   string   // "mail" or "webhook"
	Recipient string   // an address, or a webhook's ID
	Facts     json.RawMessage
	Urgency   int // lower goes first
	CreatedAt time.Time
	State     NoticeState
	Attempts  int
	NextAt    time.Time // when it is tried next, or when whoever sends it now is given up
	Claim     string    // of whoever sends it now
	Problem   string    // of the last attempt, without anything secret
	// RefusedFrom is since when it has been refused for good; zero: it is not.
	RefusedFrom time.Time
	DoneAt      time.Time
}

// MayBeKnown says whether somebody may have got the message, whatever was stored
// about it afterwards: an attempt that was never heard of again may have worked,
// and a notice that was called off during one is marked as cancelled. One that
// has no recipient is known to nobody.
func (n *Notice) MayBeKnown() bool {
	return n.Recipient != "" && (n.State == NoticeAccepted || n.Attempts > 0)
}

func loadNotice(row *db.Notice) Notice {
	return Notice{
		ID: token.ID(row.ID), Same: row.Same, Event: token.Event(row.Event), AccountID: token.ID(row.AccountID),
		TokenID: token.ID(row.TokenID), PlanID: token.ID(row.PlanID), Channel: row.Channel, Recipient: row.Recipient,
		Facts: loadJSON(row.Facts), Urgency: int(row.Urgency), CreatedAt: loadTime(row.CreatedAt), State: NoticeState(row.State),
		Attempts: int(row.Attempts), NextAt: loadTime(row.NextAt), Claim: row.Claim, Problem: row.Problem,
		RefusedFrom: loadTime(row.RefusedFrom), DoneAt: loadTime(row.DoneAt),
	}
}

func loadNotices(rows []db.Notice) []Notice {
	list := make([]Notice, len(rows))
	for i := range rows {
		list[i] = loadNotice(&rows[i])
	}
	return list
}

// InsertNotice stores a message that waits to be sent, in the transaction of what
// it tells of. stored is false when the same message was stored before. It is no
// change in the sense of the feed.
func (tx *Tx) InsertNotice(n Notice) (stored bool, err error) {
	if err := tx.ready(); err != nil {
		return false, err
	}
	rows, err := tx.q.InsertNotice(tx.ctx, db.InsertNoticeParams{
		ID: string(n.ID), Same: n.Same, Event: string(n.Event), AccountID: string(n.AccountID), TokenID: string(n.TokenID),
		PlanID: string(n.PlanID), Channel: n.Channel, Recipient: n.Recipient, Facts: string(n.Facts), Urgency: int64(n.Urgency),
		CreatedAt: storedTime(n.CreatedAt), NextAt: storedTime(n.NextAt),
	})
	return rows > 0, tx.explain("store a notice", err)
}

// Notice returns a message; ErrNotFound.
func (tx *Tx) Notice(id token.ID) (Notice, error) {
	row, err := tx.q.GetNotice(tx.ctx, db.GetNoticeParams{ID: string(id)})
	if err != nil {
		return Notice{}, tx.explain("read a notice", err)
	}
	return loadNotice(&row), nil
}

// Urgencies is how many urgencies there are; 0 goes first.
const Urgencies = 3

// NoticesDue says whether there is any message to be sent. It asks so that whoever
// sends need not write to find out that there is nothing.
func (tx *Tx) NoticesDue(now time.Time) (bool, error) {
	for urgency := range Urgencies {
		rows, err := tx.q.DueNotices(tx.ctx, db.DueNoticesParams{Urgency: int64(urgency), Now: storedTime(now), Lim: 1})
		if err != nil {
			return false, tx.explain("look for notices", err)
		}
		if len(rows) > 0 {
			return true, nil
		}
	}
	return false, nil
}

// ClaimNotices gives whoever sends up to limit messages that are due, the most
// urgent first, and until a time keeps all others from sending them. Each counts
// as an attempt, also when whoever claimed it is never heard of again.
func (tx *Tx) ClaimNotices(claim string, now, until time.Time, limit int) ([]Notice, error) {
	if err := tx.ready(); err != nil {
		return nil, err
	}
	var claimed []Notice
	for urgency := range Urgencies {
		if len(claimed) >= limit {
			break
		}
		rows, err := tx.q.DueNotices(tx.ctx, db.DueNoticesParams{Urgency: int64(urgency), Now: storedTime(now), Lim: int64(limit - len(claimed))})
		if err != nil {
			return nil, tx.explain("claim notices", err)
		}
		for _, n := range loadNotices(rows) {
			done, err := tx.q.ClaimNotice(tx.ctx, db.ClaimNoticeParams{
				ID: string(n.ID), Claim: claim, Until: storedTime(until), Was: storedTime(n.NextAt),
			})
			if err != nil {
				return nil, tx.explain("claim notices", err)
			}
			if done == 0 {
				continue
			}
			n.Attempts++
			n.Claim, n.NextAt = claim, until
			claimed = append(claimed, n)
		}
	}
	return claimed, nil
}

// SettleNotice stores what became of an attempt: state, next attempt, problem and
// since when it is refused. ErrNotFound: somebody else claimed it meanwhile, or it
// was cancelled.
func (tx *Tx) SettleNotice(n Notice) error {
	if err := tx.ready(); err != nil {
		return err
	}
	rows, err := tx.q.SettleNotice(tx.ctx, db.SettleNoticeParams{
		ID: string(n.ID), State: string(n.State), NextAt: storedTime(n.NextAt), Problem: n.Problem,
		RefusedFrom: storedTime(n.RefusedFrom), DoneAt: storedTime(n.DoneAt), Claim: n.Claim,
	})
	return tx.one("settle a notice", rows, err)
}

// NoticesOfPlan lists the messages that announce a plan.
func (tx *Tx) NoticesOfPlan(plan token.ID) ([]Notice, error) {
	rows, err := tx.q.NoticesOfPlan(tx.ctx, db.NoticesOfPlanParams{PlanID: string(plan)})
	if err != nil {
		return nil, tx.explain("read a plan's notices", err)
	}
	return loadNotices(rows), nil
}

// CancelNotices cancels the messages of a plan that were not sent yet.
func (tx *Tx) CancelNotices(plan token.ID, at time.Time) error {
	if err := tx.ready(); err != nil {
		return err
	}
	err := tx.q.CancelNoticesOfPlan(tx.ctx, db.CancelNoticesOfPlanParams{PlanID: string(plan), DoneAt: storedTime(at)})
	return tx.explain("cancel a plan's notices", err)
}

// NoticeQuery selects messages. Zero fields select everything.
type NoticeQuery struct {
	AccountID, TokenID token.ID
	State              NoticeState
}

// Notices lists one page of messages, newest first, and gives the cursor of the next.
func (tx *Tx) Notices(q NoticeQuery, p Page) ([]Notice, string, error) {
	l, err := openList("notices", q, p)
	if err != nil {
		return nil, "", err
	}
	b := new(query)
	b.add(`SELECT id, same, event, account_id, token_id, plan_id, channel, recipient, facts, urgency, created_at, state,
 attempts, next_at, claim, problem, refused_from, done_at FROM notices WHERE id < `, b.arg(l.before()))
	for column, value := range map[string]string{"account_id": string(q.AccountID), "token_id": string(q.TokenID), "state": string(q.State)} {
		if value != "" {
			b.add(" AND ", column, " = ", b.arg(value))
		}
	}
	b.add(" ORDER BY id DESC LIMIT ", b.arg(l.fetch()))
	rows, err := tx.db.Query(tx.ctx, b.text.String(), b.args...)
	if err != nil {
		return nil, "", tx.explain("list notices", err)
	}
	defer rows.Close()
	var list []Notice
	for rows.Next() {
		var n db.Notice
		err := rows.Scan(&n.ID, &n.Same, &n.Event, &n.AccountID, &n.TokenID, &n.PlanID, &n.Channel, &n.Recipient, &n.Facts, &n.Urgency,
			&n.CreatedAt, &n.State, &n.Attempts, &n.NextAt, &n.Claim, &n.Problem, &n.RefusedFrom, &n.DoneAt)
		if err != nil {
			return nil, "", tx.explain("list notices", err)
		}
		list = append(list, loadNotice(&n))
	}
	if err := rows.Err(); err != nil {
		return nil, "", tx.explain("list notices", err)
	}
	list, next := cutPage(l, list, func(n *Notice) token.ID { return n.ID })
	return list, next, nil
}

// NoticeCounts is how many messages are in each state, and since when the oldest
// of those that wait does.
type NoticeCounts struct {
	States  map[NoticeState]int
	Waiting time.Time // zero: none does
}

// NoticeCounts counts messages.
func (tx *Tx) NoticeCounts() (NoticeCounts, error) {
	rows, err := tx.q.NoticesByState(tx.ctx)
	if err != nil {
		return NoticeCounts{}, tx.explain("count notices", err)
	}
	c := NoticeCounts{States: map[NoticeState]int{}}
	for _, row := range rows {
		c.States[NoticeState(row.State)] = int(row.N)
	}
	oldest, err := tx.q.OldestWaitingNotice(tx.ctx)
	if err != nil {
		return NoticeCounts{}, tx.explain("count notices", err)
	}
	c.Waiting = loadTime(oldest)
	return c, nil
}

// NoticesBetween says whether there are messages after the one with an ID that were
// stored before a time. It asks so that whoever prunes need not write to find out.
func (tx *Tx) NoticesBetween(after token.ID, before time.Time) (bool, error) {
	row, err := tx.q.NoticeAfter(tx.ctx, db.NoticeAfterParams{After: string(after)})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return err == nil && loadTime(row.CreatedAt).Before(before), tx.explain("look for old notices", err)
}

// PruneNotices looks at up to limit messages after the one with an ID, oldest
// first, and removes those that were stored and done before a time. What waits
// stays, and so does what announces a plan that still stands: whether its notice
// was given is asked until it ends. next is where to go on; empty: no older ones are
// left. It is no change: no feed, no audit entry.
func (tx *Tx) PruneNotices(after token.ID, before time.Time, limit int) (removed int, next token.ID, err error) {
	if err := tx.ready(); err != nil {
		return 0, "", err
	}
	last := db.NoticeAfterRow{ID: aboveAllIDs}
	switch row, err := tx.q.NoticeAfter(tx.ctx, db.NoticeAfterParams{After: string(after), Skip: int64(limit - 1)}); {
	case errors.Is(err, pgx.ErrNoRows): // fewer than that: all of them
	case err != nil:
		return 0, "", tx.explain("prune notices", err)
	default:
		last = row
		// IDs are in the order of their making, so that all further ones are younger.
		if loadTime(row.CreatedAt).Before(before) {
			next = token.ID(row.ID)
		}
	}
	n, err := tx.q.DeleteDoneNotices(tx.ctx, db.DeleteDoneNoticesParams{After: string(after), Last: last.ID, Before: storedTime(before)})
	return int(n), next, tx.explain("prune notices", err)
}
