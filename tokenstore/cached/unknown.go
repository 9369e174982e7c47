package cached

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/tokenstore"
)

// unknownFor is how long a lookup that found nothing is remembered. It only has
// to outlast a caller's retries.
const unknownFor = 5 * time.Second

// The memory has room for 8,192 secrets in about 400 KiB: more than the default
// budgets let in before they lapse.
const (
	unknownSets = 2048
	unknownWays = 4
)

// unknowns remembers secrets that the store does not know, in a space of their
// own, so that no number of them costs a live token its place. It forgets all
// of them when a secret is added anywhere: a created token works at once, also
// where somebody tried its secret before (C7).
type unknowns struct {
	seed maphash.Seed
	sets []unknownSet
	// added counts the times that secrets came to be. An entry holds only while
	// it has not moved since before the store was asked.
	added atomic.Uint64
}

type unknownSet struct {
	mu   sync.Mutex
	ways [unknownWays]unknownEntry
}

type unknownEntry struct {
	lookup tokenstore.Lookup
	until  time.Duration
	added  uint64
}

func newUnknowns() *unknowns {
	return &unknowns{seed: maphash.MakeSeed(), sets: make([]unknownSet, unknownSets)}
}

func (u *unknowns) set(l *tokenstore.Lookup) *unknownSet {
	return &u.sets[maphash.Bytes(u.seed, l[:])%unknownSets]
}

// has says whether the store did not know the secret a moment ago.
func (u *unknowns) has(l *tokenstore.Lookup, now time.Duration) bool {
	set := u.set(l)
	set.mu.Lock()
	defer set.mu.Unlock()
	for i := range set.ways {
		if w := &set.ways[i]; w.lookup == *l {
			return now < w.until && w.added == u.added.Load()
		}
	}
	return false
}

// remember notes that the store did not know the secret; added is what the count
// was before the store was asked.
func (u *unknowns) remember(l *tokenstore.Lookup, now time.Duration, added uint64) {
	set := u.set(l)
	set.mu.Lock()
	defer set.mu.Unlock()
	victim := &set.ways[0]
	for i := range set.ways {
		w := &set.ways[i]
		if w.lookup == *l {
			victim = w
			break
		}
		if w.until < victim.until {
			victim = w
		}
	}
	*victim = unknownEntry{lookup: *l, until: now + unknownFor, added: added}
}

// forget drops all, because a secret was added.
func (u *unknowns) forget() { u.added.Add(1) }
