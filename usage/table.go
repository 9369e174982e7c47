package usage

import (
	"sync"
	"sync/atomic"
)

// table is a map that only grows and is thrown away as a whole. A reader takes no
// lock and allocates nothing; a writer locks a shard.
type table[K comparable, V any] struct {
	size   atomic.Int64
	shards [tableShards]shard[K, V]
}

const (
	tableShards = 32
	firstSlots  = 8
)

type shard[K comparable, V any] struct {
	slots atomic.Pointer[[]slot[K, V]] // a power of two, or nil
	mu    sync.Mutex
	used  int
	_     [40]byte // neighbours do not share a cache line
}

type slot[K comparable, V any] struct {
	hash atomic.Uint64 // 0: empty; set after node
	node atomic.Pointer[node[K, V]]
}

type node[K comparable, V any] struct {
	value V // first: what a reader changes shares a cache line with what it compares
	key   K
}

// find gives the value of a key, nil when there is none. hash must not be 0.
func (t *table[K, V]) find(hash uint64, key *K) *V {
	return probe(t.shards[hash>>59].slots.Load(), hash, key)
}

func probe[K comparable, V any](slots *[]slot[K, V], hash uint64, key *K) *V {
	if slots == nil {
		return nil
	}
	s := *slots
	mask := uint64(len(s) - 1)
	for i := hash >> 8 & mask; ; i = (i + 1) & mask {
		h := s[i].hash.Load()
		if h == 0 {
			return nil
		}
		if h == hash {
			// Hashes may be equal by chance: the whole key decides.
			if n := s[i].node.Load(); n.key == *key {
				return &n.value
			}
		}
	}
}

// add gives the value of a key, which it makes when there is none.
func (t *table[K, V]) add(hash uint64, key *K, make func() V) *V {
	s := &t.shards[hash>>59]
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := probe(s.slots.Load(), hash, key); v != nil {
		return v
	}
	s.room()
	n := &node[K, V]{key: *key, value: make()}
	place(*s.slots.Load(), hash, n)
	s.used++
	t.size.Add(1)
	return &n.value
}

// room keeps at least a third of the slots free.
func (s *shard[K, V]) room() {
	old := s.slots.Load()
	if old == nil {
		fresh := make([]slot[K, V], firstSlots)
		s.slots.Store(&fresh)
		return
	}
	if s.used*3 < len(*old)*2 {
		return
	}
	fresh := make([]slot[K, V], 2*len(*old))
	for i := range *old {
		if o := &(*old)[i]; o.hash.Load() != 0 {
			place(fresh, o.hash.Load(), o.node.Load())
		}
	}
	// A reader of the old slots still finds what was in them.
	s.slots.Store(&fresh)
}

func place[K comparable, V any](s []slot[K, V], hash uint64, n *node[K, V]) {
	mask := uint64(len(s) - 1)
	i := hash >> 8 & mask // the lowest bit is always set
	for s[i].hash.Load() != 0 {
		i = (i + 1) & mask
	}
	s[i].node.Store(n)
	s[i].hash.Store(hash)
}
