package tokenstore

import (
	"errors"
	"time"

	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// Feed rows are kept for all that nodes may have missed: a node that was cut off
// for longer starts anew.
const (
	keepChangesFor = 7 * 24 * time.Hour
	keepChanges    = 100_000
	pruneEvery     = 256 // steps of the feed
	pruneBatch     = 1024
)

// Finish writes one step of the feed and the audit entries. It is the last that
// the adapter does with a Tx before the commit. After an error it must roll back.
func (tx *Tx) Finish() error {
	if err := tx.usable(); err != nil {
		return err
	}
	if len(tx.order) > 0 && len(tx.entries) == 0 {
		return ErrUnaudited
	}
	if len(tx.order) == 0 && len(tx.entries) == 0 {
		return nil
	}
	now := tx.o.Now()
	step := int64(0)
	if len(tx.order) > 0 {
		step = 1
	}
	// The row's lock is what serialises writers in Postgres, so that it is taken
	// last and numbers follow the order of commits.
	head, err := tx.q.StepHead(tx.ctx, db.StepHeadParams{Step: step})
	if err != nil {
		return tx.explain("step the change feed", err)
	}
	if err := tx.writeAudit(&head, now); err != nil {
		return err
	}
	if step == 0 {
		return nil
	}
	for _, key := range tx.order {
		c := tx.changes[key]
		version := c.Version
		if version == 0 {
			// Scopes and master keys carry no version: the feed's number stands in.
			version = head.Seq
		}
		err := tx.q.InsertChange(tx.ctx, db.InsertChangeParams{
			Seq: head.Seq, Kind: c.Kind.String(), RecordID: c.ID, Version: version, Final: storedFlag(c.Final), At: storedTime(now),
		})
		if err != nil {
			return tx.explain("write the change feed", err)
		}
	}
	if head.Seq%pruneEvery == 0 {
		return tx.pruneChanges(head.Seq, now)
	}
	return nil
}

// writeAudit continues the chain. Entries are sealed under the primary key;
// before the store names one, under the ring's first, which is to become it.
func (tx *Tx) writeAudit(head *db.StepHeadRow, now time.Time) error {
	if tx.o.Ring == nil {
		return errors.New("write the audit log: the store was opened without master keys")
	}
	var keyID string
	if head.PrimaryKey != nil {
		keyID = *head.PrimaryKey
	} else {
		keyID = tx.o.Ring.IDs()[0]
	}
	last := AuditHead{
		Seq:   head.AuditSeq,
		At:    loadTime(head.AuditAt),
		KeyID: head.AuditKey,
		Hash:  loadSum(head.AuditHash),
		MAC:   loadSum(head.AuditMac),
	}
	for _, e := range tx.entries {
		if e.At.IsZero() {
			e.At = now
		}
		// As it will be read back, so that the seal fits what is stored.
		e.At = loadTime(storedTime(e.At))
		if err := tx.o.Ring.Seal(keyID, last, &e); err != nil {
			return err
		}
		if err := tx.q.InsertAudit(tx.ctx, storedEntry(&e)); err != nil {
			return tx.explain("write the audit log", err)
		}
		last = Head(&e)
	}
	err := tx.q.SetAuditHead(tx.ctx, db.SetAuditHeadParams{
		AuditSeq: last.Seq, AuditAt: storedTime(last.At), AuditKey: last.KeyID, AuditHash: last.Hash[:], AuditMac: last.MAC[:],
	})
	return tx.explain("write the head of the audit log", err)
}

// pruneChanges removes the oldest steps of the feed, a bounded number at a time.
// What is removed is always a prefix: Changes tells from the oldest row that is
// left whether it can answer.
func (tx *Tx) pruneChanges(seq int64, now time.Time) error {
	rows, err := tx.q.ListOldestChanges(tx.ctx, db.ListOldestChangesParams{Lim: pruneBatch})
	if err != nil {
		return tx.explain("prune the change feed", err)
	}
	cutoff := storedTime(now.Add(-keepChangesFor))
	upTo := int64(0)
	for _, row := range rows {
		if row.At >= cutoff || row.Seq > seq-keepChanges {
			break
		}
		upTo = row.Seq
	}
	if upTo == 0 {
		return nil
	}
	return tx.explain("prune the change feed", tx.q.DeleteChangesUpTo(tx.ctx, db.DeleteChangesUpToParams{Seq: upTo}))
}
