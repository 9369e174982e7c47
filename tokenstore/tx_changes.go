package tokenstore

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// maxChanges is how many changes one answer of the feed holds, unless one
// transaction made more.
const maxChanges = 10_000

// Changes reads the feed for Store.Changes, in this transaction's snapshot. A
// step is never split: the position of an answer that was cut is its last step.
func (tx *Tx) Changes(after Position) (Changes, error) {
	head, err := tx.q.GetHead(tx.ctx)
	if err != nil {
		return Changes{}, tx.explain("read the change feed", err)
	}
	answer := Changes{At: Position{Epoch: head.Epoch, Seq: head.Seq}}
	switch {
	case after == answer.At:
		answer.Complete = true
		return answer, nil
	case after != Position{} && after.Epoch != head.Epoch, after.Seq < 0, after.Seq > head.Seq:
		return answer, nil
	case head.Seq == 0:
		answer.Complete = true
		return answer, nil
	}
	oldest, err := tx.q.OldestChange(tx.ctx)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return Changes{}, tx.explain("read the change feed", err)
	}
	if err != nil || oldest > after.Seq+1 {
		return answer, nil
	}
	rows, err := tx.q.ListChanges(tx.ctx, db.ListChangesParams{After: after.Seq, Lim: maxChanges + 1})
	if err != nil {
		return Changes{}, tx.explain("read the change feed", err)
	}
	if len(rows) > maxChanges {
		if rows, err = tx.wholeSteps(rows); err != nil {
			return Changes{}, err
		}
		answer.At.Seq = rows[len(rows)-1].Seq
	}
	answer.List = make([]Change, len(rows))
	for i, row := range rows {
		kind, ok := parseKind(row.Kind)
		if !ok {
			// A newer release wrote it. What it means can not be told, so nothing
			// that is known may be trusted.
			return Changes{At: Position{Epoch: head.Epoch, Seq: head.Seq}}, nil
		}
		answer.List[i] = Change{Seq: row.Seq, Kind: kind, ID: row.RecordID, Version: row.Version, Final: row.Final != 0}
	}
	answer.Complete = true
	return answer, nil
}

// wholeSteps cuts off the last step, of which there may be more than was read,
// or, when it is the only one, reads all of it.
func (tx *Tx) wholeSteps(rows []db.ListChangesRow) ([]db.ListChangesRow, error) {
	last := rows[len(rows)-1].Seq
	end := len(rows)
	for end > 0 && rows[end-1].Seq == last {
		end--
	}
	if end > 0 {
		return rows[:end], nil
	}
	step, err := tx.q.ListChangesAt(tx.ctx, db.ListChangesAtParams{Seq: last})
	if err != nil {
		return nil, tx.explain(fmt.Sprintf("read step %d of the change feed", last), err)
	}
	rows = rows[:0]
	for _, row := range step {
		rows = append(rows, db.ListChangesRow(row))
	}
	return rows, nil
}

func parseKind(name string) (Kind, bool) {
	for k, n := range kindNames {
		if n == name && n != "" {
			return Kind(k), true
		}
	}
	return 0, false
}
