package tokenstore

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"iter"
	"math"
)

// AuditReport is what VerifyAudit found.
type AuditReport struct {
	Entries int64
	Head    AuditHead
	// Problems is empty when the chain holds; each names an entry and what is wrong with it.
	Problems []string
}

const (
	maxAuditProblems = 100
	auditPage        = 200 // entries in memory at a time
)

// VerifyAudit walks the whole chain in bounded memory. With an earlier head it
// also checks that the chain still contains that head. It judges the log as it
// was at the start: entries that are made meanwhile are not looked at, and no
// transaction stays open for the length of the walk.
func VerifyAudit(ctx context.Context, s Store, ring *Ring, earlier *AuditHead) (AuditReport, error) {
	var (
		head   AuditHead
		beyond []AuditEntry
	)
	err := s.Read(ctx, func(tx *Tx) (err error) {
		if head, err = tx.AuditHead(); err != nil {
			return err
		}
		// Read beside the head: here an entry after it is no newer one, but a forged one.
		beyond, err = tx.AuditRange(head.Seq, 1)
		return err
	})
	if err != nil {
		return AuditReport{}, fmt.Errorf("read the head of the audit log: %w", err)
	}
	entries := func(yield func(AuditEntry, error) bool) {
		for e, err := range storedEntries(ctx, s, head.Seq) {
			if !yield(e, err) || err != nil {
				return
			}
		}
		for _, e := range beyond {
			if !yield(e, nil) {
				return
			}
		}
	}
	return VerifyChain(ring, entries, head, earlier)
}

// storedEntries reads the entries up to a number, a page in each transaction.
// It begins before number 1, where no entry may be.
func storedEntries(ctx context.Context, s Store, last int64) iter.Seq2[AuditEntry, error] {
	return func(yield func(AuditEntry, error) bool) {
		after := int64(math.MinInt64)
		for after < last {
			var page []AuditEntry
			err := s.Read(ctx, func(tx *Tx) (err error) {
				page, err = tx.AuditRange(after, auditPage)
				return err
			})
			if err != nil {
				yield(AuditEntry{}, fmt.Errorf("read the audit log after entry %d: %w", after, err))
				return
			}
			if len(page) == 0 {
				return
			}
			for _, e := range page {
				if e.Seq <= after {
					yield(AuditEntry{}, errors.New("read the audit log: the store gave entries out of order"))
					return
				}
				if after = e.Seq; after > last {
					return
				}
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// VerifyChain judges entries, given oldest first, against the head that the
// store names and, if there is one, a head that was written out earlier. An
// error of entries is returned as it is; everything wrong with the chain is a
// problem of the report.
//
// It finds every entry that was edited, removed, inserted or moved by someone
// without the keys. Entries that end in a state that once was the whole log are
// such a log: only an earlier head can tell.
func VerifyChain(ring *Ring, entries iter.Seq2[AuditEntry, error], head AuditHead, earlier *AuditHead) (AuditReport, error) {
	c := chain{ring: ring, earlier: earlier}
	c.report.Head = head
	for e, err := range entries {
		if err != nil {
			return AuditReport{}, err
		}
		c.next(&e)
	}
	c.end()
	if c.unnamed > 0 {
		c.report.Problems = append(c.report.Problems, fmt.Sprintf("and %d problems more", c.unnamed))
	}
	return c.report, nil
}

// chain is the state of a walk: what an entry is judged by, whatever the length of the log.
type chain struct {
	ring    *Ring
	earlier *AuditHead
	report  AuditReport
	unnamed int

	last      AuditHead // of the entry before
	unvouched int64     // the first entry that no MAC under a held key covers yet; 0 for none
	lacking   string    // the key of the last such entry
	met       bool      // the earlier head's entry was seen
	forged    int64     // the first entry after the store's head; 0 for none
}

func (c *chain) problem(format string, args ...any) {
	if len(c.report.Problems) == maxAuditProblems {
		c.unnamed++
		return
	}
	c.report.Problems = append(c.report.Problems, fmt.Sprintf(format, args...))
}

func (c *chain) next(e *AuditEntry) {
	c.report.Entries++
	switch expected := c.last.Seq + 1; {
	case e.Seq < expected:
		c.problem("entry %d is not where it belongs: an entry %d was expected", e.Seq, expected)
	case e.Seq == expected+1:
		c.problem("entry %d is missing", expected)
	case e.Seq > expected:
		c.problem("entries %d to %d are missing", expected, e.Seq-1)
	case e.chainHash(&c.last) != e.Hash:
		c.problem("entry %d does not fit its hash: it was edited, or what stands before it was replaced", e.Seq)
	}
	c.judgeMAC(e)
	c.meet(e)
	if e.Seq > c.report.Head.Seq && c.forged == 0 {
		c.forged = e.Seq
	}
	c.last = Head(e)
}

// judgeMAC notes whether the entry vouches for all up to it. An entry under a
// key that the ring lacks says nothing either way, and waits for a later one.
func (c *chain) judgeMAC(e *AuditEntry) {
	head := Head(e)
	switch genuine, held := c.ring.genuine(&head); {
	case !held:
		if c.unvouched == 0 {
			c.unvouched = e.Seq
		}
		c.lacking = e.KeyID
	case genuine:
		c.unvouched = 0
	default:
		c.problem("entry %d was not made with master key %q, which it names", e.Seq, e.KeyID)
	}
}

func (c *chain) meet(e *AuditEntry) {
	if c.earlier == nil || e.Seq != c.earlier.Seq {
		return
	}
	c.met = true
	if head := Head(e); !head.same(c.earlier) {
		c.problem("entry %d is not the one that the earlier head names: the log was rewritten since", e.Seq)
	}
}

func (c *chain) end() {
	head := &c.report.Head
	switch {
	case c.forged != 0:
		c.problem("entry %d stands after the store's head, which is entry %d: it was added from outside", c.forged, head.Seq)
	case c.last.Seq < head.Seq:
		c.problem("the log ends with entry %d, and the store's head is entry %d: the end was cut off", c.last.Seq, head.Seq)
	case c.report.Entries == 0 && head.KeyID == "" && head.Hash == c.last.Hash && head.MAC == c.last.MAC:
		// A new store: both are zero.
	case !c.last.same(head):
		c.problem("the store's head is not that of entry %d, the last: the head or the end of the log was replaced", c.last.Seq)
	}
	if c.unvouched != 0 {
		name := "a key with no proper ID"
		if validKeyID(c.lacking) {
			name = fmt.Sprintf("master key %q", c.lacking)
		}
		c.problem("nothing vouches for the entries from %d on: they name %s, which the master key file lacks, and none after them is under a key that it holds: add that key's line back", c.unvouched, name)
	}
	c.endEarlier()
}

func (c *chain) endEarlier() {
	h := c.earlier
	if h == nil {
		return
	}
	if genuine, held := c.ring.genuine(h); held && !genuine {
		c.problem("the earlier head was not made with master key %q, which it names: it is damaged or forged", h.KeyID)
	}
	switch {
	case c.met:
	case h.Seq > c.last.Seq:
		c.problem("the log ends with entry %d, and the earlier head is entry %d: the end was cut off", c.last.Seq, h.Seq)
	default:
		c.problem("entry %d, which the earlier head names, is missing", h.Seq)
	}
}

// genuine says whether a head was made by one who had the key that it names;
// held is false when the ring lacks that key and so can not tell.
func (r *Ring) genuine(h *AuditHead) (genuine, held bool) {
	mac, held := r.auditMAC(h.KeyID, h.material())
	return held && hmac.Equal(mac[:], h.MAC[:]), held
}

// same compares what stores keep of heads: times to the microsecond.
func (h *AuditHead) same(o *AuditHead) bool {
	return h.Seq == o.Seq && h.At.UnixMicro() == o.At.UnixMicro() &&
		h.KeyID == o.KeyID && h.Hash == o.Hash && h.MAC == o.MAC
}
