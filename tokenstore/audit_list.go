package tokenstore

import (
	"errors"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// auditWay is one index by which entries are reached.
type auditWay struct {
	column string // of an equality; empty: the order itself
	value  string
}

// AuditEntries lists one page, newest first, and gives the cursor of the next:
// by number, or, when a span of time is asked for, by time, which can differ
// where a clock was set back. After and Before are exclusive. Pages cost the
// same at any depth, as those of Tokens do, and may be short for the same reason.
func (tx *Tx) AuditEntries(q AuditQuery) ([]AuditEntry, string, error) {
	filters := q
	filters.Page = Page{}
	l, err := openList("audit", filters, q.Page)
	if err != nil {
		return nil, "", err
	}
	p := &auditPlan{q: &q, l: l, budget: tx.o.ScanBudget, timed: !q.After.IsZero() || !q.Before.IsZero()}
	w, floor, err := tx.chooseAuditWay(p)
	if err != nil {
		return nil, "", err
	}
	entries, err := tx.fetchAudit(p.fetch(w, floor))
	if err != nil {
		return nil, "", err
	}
	switch {
	case len(entries) > l.limit:
		entries = entries[:l.limit]
		last := &entries[l.limit-1]
		return entries, l.next(cursor{Seq: last.Seq, At: storedTime(last.At)}), nil
	case floor != nil:
		return entries, l.next(*floor), nil
	default:
		return entries, "", nil
	}
}

type auditPlan struct {
	q      *AuditQuery
	l      list
	budget int
	timed  bool
}

// equalities are the filters that have an index each, the most selective first
// as a rule.
func (p *auditPlan) equalities() []auditWay {
	var out []auditWay
	for _, w := range []auditWay{
		{"target", p.q.Target},
		{"account_id", string(p.q.AccountID)},
		{"verb", p.q.Verb},
	} {
		if w.value != "" {
			out = append(out, w)
		}
	}
	return out
}

// addRange keeps to the part of the list after the cursor.
func (p *auditPlan) addRange(b *query) {
	from := p.l.from
	if !p.timed {
		before := int64(math.MaxInt64)
		if from != nil {
			before = from.Seq
		}
		b.add("a.seq < ", b.arg(before))
		return
	}
	// The bound of the span that the cursor makes superfluous stays, so that the
	// index is entered at the right place either way.
	after, before := int64(math.MinInt64), int64(math.MaxInt64)
	if !p.q.After.IsZero() {
		after = p.q.After.UnixMicro()
	}
	if !p.q.Before.IsZero() {
		before = lastBefore(p.q.Before)
	}
	b.add("a.at > ", b.arg(after), " AND a.at <= ", b.arg(before))
	if from != nil {
		b.add(" AND (a.at, a.seq) < (", b.arg(from.At), ", ", b.arg(from.Seq), ")")
	}
}

func (p *auditPlan) addOrder(b *query) {
	if p.timed {
		b.add(" ORDER BY a.at DESC, a.seq DESC LIMIT ")
	} else {
		b.add(" ORDER BY a.seq DESC LIMIT ")
	}
}

// chooseAuditWay works as chooseWay does for tokens.
func (tx *Tx) chooseAuditWay(p *auditPlan) (auditWay, *cursor, error) {
	equal := p.equalities()
	if len(equal) == 0 || len(equal) == 1 && !p.timed {
		return append(equal, auditWay{})[0], nil, nil
	}
	var best auditWay
	var floor *cursor
	if p.timed {
		var err error
		if floor, err = tx.reachAudit(p, best); err != nil || floor == nil {
			return best, nil, err
		}
	}
	for i, w := range equal {
		reached, err := tx.reachAudit(p, w)
		if err != nil || reached == nil {
			return w, nil, err
		}
		// Out of the list's order a way is of use only when it is complete.
		if !p.timed && (i == 0 || reached.Seq < floor.Seq) {
			best, floor = w, reached
		}
	}
	return best, floor, nil
}

// reachAudit is where a way ends that has more candidates than the budget.
func (tx *Tx) reachAudit(p *auditPlan, w auditWay) (*cursor, error) {
	b := p.reach(w)
	var c cursor
	switch err := tx.db.QueryRow(tx.ctx, b.text.String(), b.args...).Scan(&c.Seq, &c.At); {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, tx.explain("list audit entries", err)
	default:
		return &c, nil
	}
}

func (p *auditPlan) reach(w auditWay) *query {
	b := new(query)
	b.add("SELECT a.seq, a.at FROM audit a WHERE ")
	if w.column == "" {
		p.addRange(b)
		p.addOrder(b)
		b.add("1 OFFSET ", b.arg(int64(p.budget-1)))
		return b
	}
	before := int64(math.MaxInt64)
	if !p.timed && p.l.from != nil {
		before = p.l.from.Seq
	}
	b.add("a.", w.column, " = ", b.arg(w.value), " AND a.seq < ", b.arg(before),
		" ORDER BY a.seq DESC LIMIT 1 OFFSET ", b.arg(int64(p.budget-1)))
	return b
}

const auditColumns = `a.seq, a.at, a.actor_kind, a.actor_name, a.actor_verified, a.actor_address, a.verb, a.target, a.account_id,
	a.old_fields, a.new_fields, a.request_id, a.key_id, a.hash, a.mac`

func (p *auditPlan) fetch(w auditWay, floor *cursor) *query {
	b := new(query)
	b.add("SELECT ", auditColumns, " FROM audit a WHERE ")
	switch {
	case w.column == "":
		p.addRange(b)
		if floor != nil && p.timed {
			b.add(" AND (a.at, a.seq) >= (", b.arg(floor.At), ", ", b.arg(floor.Seq), ")")
		}
	case p.timed: // complete, so few enough to be sorted
		b.add("a.seq IN (SELECT c.seq FROM audit c WHERE c.", w.column, " = ", b.arg(w.value), ") AND ")
		p.addRange(b)
	default:
		b.add("a.", w.column, " = ", b.arg(w.value), " AND ")
		p.addRange(b)
		if floor != nil {
			b.add(" AND a.seq >= ", b.arg(floor.Seq))
		}
	}
	for _, e := range p.equalities() {
		if e.column != w.column {
			b.add(" AND a.", e.column, " || '' = ", b.arg(e.value))
		}
	}
	p.addOrder(b)
	b.add(b.arg(p.l.fetch()))
	return b
}

func (tx *Tx) fetchAudit(b *query) ([]AuditEntry, error) {
	rows, err := tx.db.Query(tx.ctx, b.text.String(), b.args...)
	if err != nil {
		return nil, tx.explain("list audit entries", err)
	}
	defer rows.Close()
	var entries []AuditEntry
	for rows.Next() {
		var r db.Audit
		err := rows.Scan(&r.Seq, &r.At, &r.ActorKind, &r.ActorName, &r.ActorVerified, &r.ActorAddress, &r.Verb, &r.Target, &r.AccountID,
			&r.OldFields, &r.NewFields, &r.RequestID, &r.KeyID, &r.Hash, &r.Mac)
		if err != nil {
			return nil, tx.explain("list audit entries", err)
		}
		entries = append(entries, loadEntry(&r))
	}
	return entries, tx.explain("list audit entries", rows.Err())
}
