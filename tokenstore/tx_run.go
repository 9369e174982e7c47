package tokenstore

import (
	"fmt"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// None of what follows is a change in the sense of the feed: it decides about no
// request, and needs no audit entry. What the lifecycle does because of it has one.

func loadRun(row *db.Run) token.Run {
	return token.Run{
		ID:        token.ID(row.ID),
		Node:      row.Node,
		StartedAt: loadTime(row.StartedAt),
		Covered:   loadTime(row.Covered),
		Contact:   loadTime(row.ContactAt),
		StaleFor:  time.Duration(row.StaleFor) * time.Microsecond,
		StoppedAt: loadTime(row.StoppedAt),
		WaivedAt:  loadTime(row.WaivedAt),
	}
}

// BeginRun registers a run before it lets anything pass. To register one again
// changes nothing but the time of contact.
func (tx *Tx) BeginRun(r token.Run) error {
	if err := tx.ready(); err != nil {
		return err
	}
	now, err := tx.Time()
	if err != nil {
		return err
	}
	staleFor := r.StaleFor.Microseconds()
	n, err := tx.q.PutRun(tx.ctx, db.PutRunParams{
		ID: string(r.ID), Node: r.Node, StartedAt: storedTime(r.StartedAt), ContactAt: storedTime(now), StaleFor: staleFor,
	})
	if err != nil || n > 0 {
		return tx.explain("register a run", err)
	}
	_, err = tx.q.TouchRun(tx.ctx, db.TouchRunParams{ID: string(r.ID), ContactAt: storedTime(now), StaleFor: staleFor})
	return tx.explain("register a run", err)
}

// EndRun says that a run stopped cleanly at a time, and that all it saw has
// reached the store; ErrNotFound.
func (tx *Tx) EndRun(id token.ID, stopped time.Time) error {
	if err := tx.ready(); err != nil {
		return err
	}
	now, err := tx.Time()
	if err != nil {
		return err
	}
	n, err := tx.q.StopRun(tx.ctx, db.StopRunParams{ID: string(id), StoppedAt: storedTime(stopped), ContactAt: storedTime(now)})
	return tx.one("end a run", n, err)
}

// WaiveRun accepts that what a lost run saw is not known, as of now; ErrNotFound
// when there is no such run or it was waived before. The caller audits it.
func (tx *Tx) WaiveRun(id token.ID) error {
	if err := tx.ready(); err != nil {
		return err
	}
	now, err := tx.Time()
	if err != nil {
		return err
	}
	n, err := tx.q.WaiveRun(tx.ctx, db.WaiveRunParams{ID: string(id), WaivedAt: storedTime(now)})
	return tx.one("retire a run", n, err)
}

// DropRun forgets a run and its gaps, which nothing depends on any more.
func (tx *Tx) DropRun(id token.ID) error {
	if err := tx.ready(); err != nil {
		return err
	}
	if err := tx.q.DeleteGaps(tx.ctx, db.DeleteGapsParams{RunID: string(id)}); err != nil {
		return tx.explain("forget a run", err)
	}
	return tx.explain("forget a run", tx.q.DeleteRun(tx.ctx, db.DeleteRunParams{ID: string(id)}))
}

// one makes ErrNotFound of a statement that was to touch one row and touched none.
func (tx *Tx) one(doing string, n int64, err error) error {
	if err != nil {
		return tx.explain(doing, err)
	}
	if n == 0 {
		return fmt.Errorf("%s: %w", doing, ErrNotFound)
	}
	return nil
}

// Run returns a run; ErrNotFound.
func (tx *Tx) Run(id token.ID) (token.Run, error) {
	row, err := tx.q.GetRun(tx.ctx, db.GetRunParams{ID: string(id)})
	if err != nil {
		return token.Run{}, tx.explain("read a run", err)
	}
	return loadRun(&row), nil
}

// Runs lists all runs by their start.
func (tx *Tx) Runs() ([]token.Run, error) {
	rows, err := tx.q.ListRuns(tx.ctx)
	if err != nil {
		return nil, tx.explain("list runs", err)
	}
	runs := make([]token.Run, len(rows))
	for i := range rows {
		runs[i] = loadRun(&rows[i])
	}
	return runs, nil
}

// Gaps lists the times that runs reported as not observed, by their start.
// Those of waived runs are left out.
func (tx *Tx) Gaps() ([]token.Gap, error) {
	gaps, _, err := tx.GapsAndEnds()
	return gaps, err
}

// GapsAndEnds gives beside the gaps, of each run that reported any, waived ones
// included, when the last of them ended.
func (tx *Tx) GapsAndEnds() (gaps []token.Gap, ends map[token.ID]time.Time, err error) {
	rows, err := tx.q.ListGaps(tx.ctx)
	if err != nil {
		return nil, nil, tx.explain("list gaps", err)
	}
	ends = map[token.ID]time.Time{}
	for _, row := range rows {
		if id, to := token.ID(row.RunID), loadTime(row.ToAt); to.After(ends[id]) {
			ends[id] = to
		}
		if row.WaivedAt != 0 {
			continue
		}
		gaps = append(gaps, token.Gap{
			From: loadTime(row.FromAt), To: loadTime(row.ToAt), Blind: true, Node: row.Node, Reason: row.Reason,
		})
	}
	return gaps, ends, nil
}
