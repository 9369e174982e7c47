package cached

import (
	"sync/atomic"

	"github.com/dgraph-io/ristretto/v2"

	"github.com/sallyport/sallyport/tokenstore"
)

// memory holds the entries: in ristretto, which bounds them, and the newest ones
// in a small table before it. Ristretto takes an entry in some time after it was
// set, or not at all, and gives the older of two that were set in a row; the
// table bridges that. Neither is relied upon to hold the right entry: every hit
// is judged.
type memory struct {
	cache  *ristretto.Cache[uint64, *entry]
	recent [recentSlots]atomic.Pointer[entry]

	entries, evictions atomic.Int64
	maxCost            int64
}

const (
	recentSlots = 4096
	// countersPerEntry is how much history the admission policy has; ten is
	// advised, at about three bytes each. Those bytes are part of indexCost.
	countersPerEntry = 4
	// leastEntry is the size of the smallest entries, to know how many there can be.
	leastEntry = 768
)

func newMemory(maxBytes int64) (*memory, error) {
	m := &memory{maxCost: maxBytes}
	cache, err := ristretto.NewCache(&ristretto.Config[uint64, *entry]{
		NumCounters:        max(countersPerEntry*maxBytes/leastEntry, 1024),
		MaxCost:            maxBytes,
		BufferItems:        64,
		IgnoreInternalCost: true, // entries know their cost
		KeyToHash:          func(key uint64) (uint64, uint64) { return key, 0 },
		OnEvict:            func(*ristretto.Item[*entry]) { m.evictions.Add(1) },
		OnExit: func(e *entry) {
			if e != nil {
				m.entries.Add(-1)
			}
		},
	})
	m.cache = cache
	return m, err
}

func (m *memory) slot(l *tokenstore.Lookup) *atomic.Pointer[entry] {
	return &m.recent[(uint(l[9])<<8|uint(l[10]))%recentSlots]
}

// put keeps an entry. The table gets it first, so that it is found at once.
func (m *memory) put(e *entry) {
	m.slot(&e.record.Lookup).Store(e)
	if m.cache.Set(slotKey(&e.record.Lookup), e, e.cost) {
		m.entries.Add(1)
	}
}

// putBehind keeps an entry that nobody waits for. It stays out of the table, where
// it would push out what requests have just brought and ristretto has yet to take
// in. ok is false when ristretto's buffer is full.
func (m *memory) putBehind(e *entry) (ok bool) {
	if ok = m.cache.Set(slotKey(&e.record.Lookup), e, e.cost); ok {
		m.entries.Add(1)
	}
	return ok
}

// bytes is the cost of all entries together.
func (m *memory) bytes() int64 { return m.maxCost - m.cache.RemainingCost() }

// find gives the entry of a lookup that says most: one that may be served, else
// one whose fate is known, else one that is outdated.
func (s *Store) find(l *tokenstore.Lookup) (best *entry, v verdict) {
	if e, ok := s.memory.cache.Get(slotKey(l)); ok && e.is(l) {
		if best, v = e, s.known.judge(e); v == current {
			return best, v
		}
	}
	if e := s.memory.slot(l).Load(); e != nil && e != best && e.is(l) {
		if w := s.known.judge(e); w > v {
			return e, w
		}
	}
	return best, v
}

// drop makes sure that no entry of a lookup is served again: the store knows it no more.
func (s *Store) drop(l *tokenstore.Lookup) {
	if e, ok := s.memory.cache.Get(slotKey(l)); ok && e.is(l) {
		e.bury()
	}
	slot := s.memory.slot(l)
	if e := slot.Load(); e != nil && e.is(l) {
		e.bury()
		slot.CompareAndSwap(e, nil)
	}
}
