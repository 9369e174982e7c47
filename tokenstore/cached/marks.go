package cached

import (
	"hash/maphash"
	"iter"
	"strings"
	"sync/atomic"

	"github.com/sallyport/sallyport/tokenstore"
)

// marks remembers the highest version heard of for any number of records. One
// goroutine at a time raises; readers take no lock, because they are requests. A mark is
// never lowered and never removed; whole sets of marks are.
type marks struct {
	seed  maphash.Seed
	table atomic.Pointer[[]atomic.Pointer[mark]] // length is a power of two; at most half full
	count atomic.Int64
}

type mark struct {
	kind    tokenstore.Kind
	id      string
	version atomic.Int64
}

func newMarks() *marks {
	m := &marks{seed: maphash.MakeSeed()}
	table := make([]atomic.Pointer[mark], 64)
	m.table.Store(&table)
	return m
}

// at gives the version marked for a record; 0 when there is none.
func (m *marks) at(kind tokenstore.Kind, id string) int64 {
	if m.count.Load() == 0 {
		return 0
	}
	if found := m.slot(*m.table.Load(), kind, id).Load(); found != nil {
		return found.version.Load()
	}
	return 0
}

// all gives every mark that was there when it began.
func (m *marks) all() iter.Seq[*mark] {
	return func(yield func(*mark) bool) {
		table := *m.table.Load()
		for i := range table {
			if found := table[i].Load(); found != nil && !yield(found) {
				return
			}
		}
	}
}

// raise marks a version for a record. Only one goroutine at a time may call it.
func (m *marks) raise(kind tokenstore.Kind, id string, version int64) {
	table := *m.table.Load()
	slot := m.slot(table, kind, id)
	if found := slot.Load(); found != nil {
		if version > found.version.Load() {
			found.version.Store(version)
		}
		return
	}
	fresh := &mark{kind: kind, id: strings.Clone(id)}
	fresh.version.Store(version)
	slot.Store(fresh)
	if m.count.Add(1)*2 <= int64(len(table)) {
		return
	}
	// Readers that still hold the old table see every mark that was there when
	// they began, and a mark's version is shared by both.
	larger := make([]atomic.Pointer[mark], 2*len(table))
	for i := range table {
		if old := table[i].Load(); old != nil {
			m.slot(larger, old.kind, old.id).Store(old)
		}
	}
	m.table.Store(&larger)
}

// slot is where the mark of a record is, or belongs.
func (m *marks) slot(table []atomic.Pointer[mark], kind tokenstore.Kind, id string) *atomic.Pointer[mark] {
	mask := uint64(len(table) - 1)
	h := maphash.String(m.seed, id) + uint64(kind)
	for {
		slot := &table[h&mask]
		found := slot.Load()
		if found == nil || found.kind == kind && found.id == id {
			return slot
		}
		h++
	}
}

func (m *marks) len() int { return int(m.count.Load()) }
