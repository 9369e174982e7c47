package tokenstore

import (
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

func storedEntry(e *AuditEntry) db.InsertAuditParams {
	return db.InsertAuditParams{
		Seq:           e.Seq,
		At:            storedTime(e.At),
		ActorKind:     string(e.Actor.Kind),
		ActorName:     e.Actor.Name,
		ActorVerified: storedFlag(e.Actor.Verified),
		ActorAddress:  e.Actor.Address,
		Verb:          e.Verb,
		Target:        e.Target,
		AccountID:     string(e.AccountID),
		OldFields:     string(e.Before),
		NewFields:     string(e.After),
		RequestID:     e.RequestID,
		KeyID:         e.KeyID,
		Hash:          e.Hash[:],
		Mac:           e.MAC[:],
	}
}

func loadEntry(row *db.Audit) AuditEntry {
	return AuditEntry{
		Seq: row.Seq,
		At:  loadTime(row.At),
		Actor: Actor{
			Kind:     ActorKind(row.ActorKind),
			Name:     row.ActorName,
			Verified: row.ActorVerified != 0,
			Address:  row.ActorAddress,
		},
		Verb:      row.Verb,
		Target:    row.Target,
		AccountID: token.ID(row.AccountID),
		Before:    loadJSON(row.OldFields),
		After:     loadJSON(row.NewFields),
		RequestID: row.RequestID,
		KeyID:     row.KeyID,
		Hash:      loadSum(row.Hash),
		MAC:       loadSum(row.Mac),
	}
}

// loadSum gives zeroes for what is no sum. That fits no entry, so that whoever
// verifies the log reports it, and is not kept from reading the rest.
func loadSum(stored []byte) (sum [32]byte) {
	if len(stored) == len(sum) {
		sum = [32]byte(stored)
	}
	return sum
}

func loadJSON(text string) []byte {
	if text == "" {
		return nil
	}
	return []byte(text)
}

// Audit appends an entry; its Seq and hashes are set at the commit, and At too
// when it is zero.
func (tx *Tx) Audit(e AuditEntry) {
	if tx.ready() == nil {
		tx.entries = append(tx.entries, e)
	}
}

// AuditHead is the head of the audit log as the store's counter row names it;
// the zero AuditHead when there is no entry yet.
func (tx *Tx) AuditHead() (AuditHead, error) {
	row, err := tx.q.GetHead(tx.ctx)
	if err != nil {
		return AuditHead{}, tx.explain("read the head of the audit log", err)
	}
	return AuditHead{
		Seq:   row.AuditSeq,
		At:    loadTime(row.AuditAt),
		KeyID: row.AuditKey,
		Hash:  loadSum(row.AuditHash),
		MAC:   loadSum(row.AuditMac),
	}, nil
}

// AuditRange lists up to limit entries with a number above afterSeq, oldest
// first. It shows what is stored, numbers that no entry may have included.
func (tx *Tx) AuditRange(afterSeq int64, limit int) ([]AuditEntry, error) {
	rows, err := tx.q.ListAuditAfter(tx.ctx, db.ListAuditAfterParams{After: afterSeq, Lim: int64(limit)})
	if err != nil {
		return nil, tx.explain("read the audit log", err)
	}
	entries := make([]AuditEntry, len(rows))
	for i := range rows {
		entries[i] = loadEntry(&rows[i])
	}
	return entries, nil
}
