package cached

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// entry is one record in memory. The record never changes; a changed one gets a
// new entry.
type entry struct {
	// The first two lie beside the start of the record, which is read next, so
	// that a hit touches as few cache lines as can be.

	// comparedAt is the number of the feed's batch up to which the record is
	// known to be unchanged; 0 when it is known to be wrong.
	comparedAt atomic.Uint64
	// refreshAt is when the record is read again although nothing was heard of
	// it, in nanoseconds of uptime: should the feed ever miss a change, it
	// does not last for ever.
	refreshAt atomic.Int64

	record tokenstore.Record
	cost   int64
	since  moment
}

// moment is how far things were known before a record was read.
type moment struct {
	number uint64 // of the feed's last batch
	writes uint64 // that went through this cache
}

const (
	refreshAfter = time.Hour
	// refreshRetry is when a refresh that failed is tried again.
	refreshRetry = time.Minute
)

var errIncomplete = errors.New("the store gave a record without its account, policy or role")

// newEntry takes a record in under the lookup value that the cache knows it by.
// since is the moment before the store was asked.
func (o *owners) newEntry(r *tokenstore.Record, l tokenstore.Lookup, since moment) (*entry, error) {
	if r.Account == nil || r.Policy == nil || (r.User == nil) != (r.Role == nil) {
		return nil, errIncomplete
	}
	e := &entry{record: *r, since: since}
	e.record.Lookup = l
	e.cost = o.share(&e.record) + e.size()
	e.comparedAt.Store(since.number)
	return e, nil
}

// refreshIn sets when the entry is to be read again. Lookups are as good as
// random: they spread the refreshes over the last tenth of the hour.
func (e *entry) refreshIn(now time.Duration) {
	early := refreshAfter / 10 * time.Duration(e.record.Lookup[16]) / 256
	e.refreshAt.Store(int64(now + refreshAfter - early))
}

// spreadRefresh is refreshIn for entries that were read all at once, and must not
// be read again all at once: over the last three quarters of the hour.
func (e *entry) spreadRefresh(now time.Duration) {
	at := time.Duration(binary.LittleEndian.Uint16(e.record.Lookup[16:]))
	e.refreshAt.Store(int64(now + refreshAfter - refreshAfter*3/4*at/(1<<16)))
}

// bury makes sure that the entry is not served again.
func (e *entry) bury() { e.comparedAt.Store(0) }

// claimRefresh says whether the entry is due to be read again. It says so to one caller.
func (e *entry) claimRefresh(now time.Duration) bool {
	due := e.refreshAt.Load()
	return int64(now) >= due && e.refreshAt.CompareAndSwap(due, int64(now+refreshRetry))
}

// is says whether the entry is the one for a lookup. The whole of it is
// compared: ristretto compares less than it is given.
func (e *entry) is(l *tokenstore.Lookup) bool {
	return subtle.ConstantTimeCompare(e.record.Lookup[:], l[:]) == 1
}

// slotKey is what ristretto knows a lookup by. Its second word would add nothing,
// since every hit is compared whole, and a key of one word costs no allocation.
func slotKey(l *tokenstore.Lookup) uint64 { return binary.LittleEndian.Uint64(l[:8]) }

// indexCost is what an entry takes besides itself: its places in ristretto's two
// maps at their usual load, and its counters.
const indexCost = 150

// size is about the memory that the entry takes by itself, in bytes.
func (e *entry) size() int64 {
	r := &e.record
	size := indexCost + allocated(int(reflect.TypeFor[entry]().Size()))
	for _, text := range [...]string{
		string(r.Token.ID), r.Token.Name, r.Token.EndReason, string(r.Secret.ID), r.Secret.Last4,
	} {
		size += allocated(len(text))
	}
	if r.Outlook != nil {
		size += allocated(int(reflect.TypeFor[tokenstore.Outlook]().Size()))
	}
	if !r.Token.AllowList.Empty() {
		size += allocated(32 * len(r.Token.AllowList.Strings()))
	}
	return size
}

// allocated is about what Go's allocator sets aside for n bytes.
func allocated(n int) int64 {
	switch {
	case n == 0:
		return 0
	case n <= 512:
		return int64(n+15) &^ 15
	default:
		return int64(n + n/16)
	}
}

// olderThan says whether any part of a record is older than that of another of
// the same secret.
func olderThan(a, b *tokenstore.Record) bool {
	return a.Token.Version < b.Token.Version ||
		a.Account.ID == b.Account.ID && a.Account.Version < b.Account.Version ||
		a.Policy.Name == b.Policy.Name && a.Policy.Version < b.Policy.Version ||
		a.User != nil && b.User != nil && a.User.ID == b.User.ID &&
			(a.User.Version < b.User.Version || a.Role.Name == b.Role.Name && a.Role.Version < b.Role.Version)
}

// sameState says whether two records lead to the same decisions.
func sameState(a, b *tokenstore.Record) bool {
	return a.Token.ID == b.Token.ID && a.Secret.ID == b.Secret.ID &&
		a.Token.State == b.Token.State && a.Secret.Status == b.Secret.Status &&
		a.Account.ID == b.Account.ID && a.Policy.Name == b.Policy.Name &&
		(a.User == nil) == (b.User == nil) && userID(a) == userID(b) &&
		!olderThan(a, b) && !olderThan(b, a)
}

func userID(r *tokenstore.Record) token.ID {
	if r.User == nil {
		return ""
	}
	return r.User.ID
}
