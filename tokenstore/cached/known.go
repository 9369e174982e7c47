package cached

import (
	"sync/atomic"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// known is what the change feed has told: for each record the least version that
// may still be served, and which tokens and secrets have ended.
//
// Every batch of the feed gets a number, and an entry remembers the number up to
// which it was compared. The order of the writes is what makes this safe: marks
// are raised first, then the number is published, then the position. A reader
// that sees a number therefore sees all marks that belong to it.
type known struct {
	number atomic.Uint64
	floors atomic.Pointer[floors]
	ended  *tombstones
	// limit is how many marks are kept before the older half is dropped.
	limit int
}

// floors is the least versions, in two sets. When the recent one is full it
// becomes the older one, whose marks go; entries that were last compared before
// the horizon may have missed a mark that is gone, and count as outdated.
type floors struct {
	horizon       uint64
	recent, older *marks
	// begun is the number that no mark in older is above.
	begun uint64
}

// floorLimit bounds the memory for floors at about 25 MiB, however many records
// are changed in the life of the process.
const floorLimit = 1 << 17

// verdict is what is known about an entry.
type verdict uint8

const (
	absent   verdict = iota // there is no entry
	outdated                // something that it depends on has changed
	revoked                 // its token has ended
	retired                 // its secret has ended
	current
)

// final says that the entry's fate is known whatever the store would say now.
func (v verdict) final() bool { return v == revoked || v == retired }

func newKnown() *known {
	k := &known{ended: newTombstones(), limit: floorLimit}
	// Number 0 stays below every entry's, so that it can mark those that count
	// for nothing any more.
	k.number.Store(1)
	k.floors.Store(&floors{horizon: 1, begun: 1, recent: newMarks(), older: newMarks()})
	return k
}

// learn takes in one batch of the feed. Only the goroutine that reads the feed calls it.
func (k *known) learn(list []tokenstore.Change) {
	next := k.number.Load() + 1
	for i := range list {
		c := &list[i]
		switch c.Kind {
		case tokenstore.TokenKind, tokenstore.SecretKind:
			k.ended.learn(c)
		case tokenstore.AccountKind, tokenstore.UserKind, tokenstore.RoleKind, tokenstore.PolicyKind:
		default:
			continue // no record holds it
		}
		f := k.floors.Load()
		if f.recent.len() >= k.limit {
			f = &floors{horizon: f.begun, recent: newMarks(), older: f.recent, begun: next}
			k.floors.Store(f)
		}
		f.recent.raise(c.Kind, c.ID, c.Version)
	}
	k.number.Store(next)
}

// forget drops all that is known but the tombstones: the feed could not be
// followed without a gap. Every entry is outdated afterwards.
func (k *known) forget(list []tokenstore.Change) {
	next := k.number.Load() + 1
	for i := range list {
		if list[i].Final {
			k.ended.learn(&list[i])
		}
	}
	k.floors.Store(&floors{horizon: next, recent: newMarks(), older: newMarks(), begun: next})
	k.number.Store(next)
}

// judge says whether an entry may be served. It costs two loads when nothing
// changed since the entry was last judged.
func (k *known) judge(e *entry) verdict {
	if e.comparedAt.Load() == k.number.Load() {
		return current
	}
	return k.compare(e)
}

// compare judges against the marks. An entry that was just read from the store
// must come here before it is kept: no change during the reading does not mean
// that the store was not behind.
func (k *known) compare(e *entry) verdict {
	number, seen := k.number.Load(), e.comparedAt.Load()
	f := k.floors.Load()
	if seen < f.horizon {
		return outdated
	}
	r := &e.record
	tokenFloor := f.least(tokenstore.TokenKind, string(r.Token.ID))
	secretFloor := f.least(tokenstore.SecretKind, string(r.Secret.ID))
	if !over(&r.Token) {
		if k.ended.hold(tokenstore.TokenKind, string(r.Token.ID), max(r.Token.Version, tokenFloor)) {
			return revoked
		}
	}
	if r.Secret.Status != token.Retired {
		if k.ended.hold(tokenstore.SecretKind, string(r.Secret.ID), max(r.Token.Version, secretFloor)) {
			return retired
		}
	}
	if r.Token.Version < max(tokenFloor, secretFloor) ||
		r.Account.Version < f.least(tokenstore.AccountKind, string(r.Account.ID)) ||
		r.Policy.Version < f.least(tokenstore.PolicyKind, r.Policy.Name) {
		return outdated
	}
	if r.User != nil &&
		(r.User.Version < f.least(tokenstore.UserKind, string(r.User.ID)) ||
			r.Role.Version < f.least(tokenstore.RoleKind, r.Role.Name)) {
		return outdated
	}
	// Never over the head of somebody who buried the entry meanwhile.
	e.comparedAt.CompareAndSwap(seen, number)
	return current
}

func (f *floors) least(kind tokenstore.Kind, id string) int64 {
	return max(f.recent.at(kind, id), f.older.at(kind, id))
}

// over says whether a token has ended by its own word.
func over(t *token.Token) bool { return t.State == token.Revoked || t.State == token.Deleted }

// terminal gives the entry as it is known to be: ended.
func (k *known) terminal(e *entry, v verdict) *entry {
	t := &entry{record: e.record, cost: e.cost, since: e.since}
	t.comparedAt.Store(e.comparedAt.Load())
	kind, id := tokenstore.TokenKind, string(e.record.Token.ID)
	if v == retired {
		t.record.Secret.Status = token.Retired
		kind, id = tokenstore.SecretKind, string(e.record.Secret.ID)
	} else {
		t.record.Token.State = token.Revoked
	}
	// What is known is the state at the version that ended it.
	t.record.Token.Version = max(t.record.Token.Version, k.ended.versions.at(kind, id))
	return t
}
