package usage

import (
	"sync"
	"sync/atomic"

	"github.com/sallyport/sallyport/token"
)

// cellKey is what requests are counted by. One of a token whose secret is known
// has both; the token follows from the secret, but not for those without.
type cellKey struct {
	secret, token token.ID
	from          address
	kind          uint16
}

// cell counts requests. It is made once their use is remembered, so that a request
// that has one has nothing to look for in the facts. What a request touches of the
// recorder that differs from token to token is this alone: one line of the
// processor's cache, which lies in the table itself.
type cell struct {
	// tag is the hash, the kind and the family of the address in one; 0: nothing is
	// here. It is set last, and what stands below n never changes then.
	tag           atomic.Uint64
	n             atomic.Int64
	bits          uint64 // of the address
	secret, token token.ID
	_             [8]byte
}

// The lowest bits of a tag are the family's, then come those of the kind.
const (
	kindShift = 2
	hashShift = 16
	maxKinds  = 1<<(hashShift-kindShift) - 1
)

// tagOf marks what is there with the highest bit. Families are 0, 4 and 6.
func tagOf(hash uint64, k *cellKey) uint64 {
	return hash>>hashShift<<hashShift | uint64(k.kind)<<kindShift | uint64(k.from.family>>1) | 1<<63
}

func (c *cell) key(tag uint64) cellKey {
	family := uint8(tag&(1<<kindShift-1)) << 1
	return cellKey{
		secret: c.secret, token: c.token, from: address{c.bits, family}, kind: uint16(tag >> kindShift & maxKinds),
	}
}

// cells are the counters of a bucket. They only grow and are thrown away as a
// whole. A reader takes no lock and allocates nothing; a writer locks a shard.
type cells struct {
	size   atomic.Int64
	shards [tableShards]cellShard
}

type cellShard struct {
	now  atomic.Pointer[cellArray]
	mu   sync.Mutex
	used int
	_    [40]byte // neighbours do not share a cache line
}

// cellArray is a power of two of them. When it became too small, its cells went on
// in the next with what they had counted; requests that were on their way still count
// in the old one, which is therefore kept.
type cellArray struct {
	cells []cell
	old   *cellArray
}

func (t *cells) shard(hash uint64) *cellShard { return &t.shards[hash>>58&(tableShards-1)] }

// find gives the counter of a key, nil when there is none.
func (t *cells) find(hash uint64, k *cellKey) *cell {
	return t.shard(hash).now.Load().find(hash, k)
}

func (a *cellArray) find(hash uint64, k *cellKey) *cell {
	if a == nil {
		return nil
	}
	tag := tagOf(hash, k)
	mask := uint64(len(a.cells) - 1)
	for i := hash >> hashShift & mask; ; i = (i + 1) & mask {
		c := &a.cells[i]
		switch c.tag.Load() {
		case 0:
			return nil
		case tag:
			// Hashes may be equal by chance: the whole key decides.
			if c.bits == k.from.bits && c.secret == k.secret && c.token == k.token {
				return c
			}
		}
	}
}

// add gives the counter of a key, which it makes when there is none.
func (t *cells) add(hash uint64, k *cellKey) *cell {
	s := t.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.now.Load().find(hash, k); c != nil {
		return c
	}
	s.room()
	s.used++
	t.size.Add(1)
	return s.now.Load().place(tagOf(hash, k), k)
}

// room keeps at least a quarter free.
func (s *cellShard) room() {
	old := s.now.Load()
	if old == nil {
		s.now.Store(&cellArray{cells: make([]cell, firstSlots)})
		return
	}
	if s.used*4 < len(old.cells)*3 {
		return
	}
	fresh := &cellArray{cells: make([]cell, 2*len(old.cells)), old: old}
	for i := range old.cells {
		c := &old.cells[i]
		if tag := c.tag.Load(); tag != 0 {
			k := c.key(tag)
			fresh.place(tag, &k).n.Store(c.n.Swap(0))
		}
	}
	s.now.Store(fresh)
}

func (a *cellArray) place(tag uint64, k *cellKey) *cell {
	mask := uint64(len(a.cells) - 1)
	i := tag >> hashShift & mask
	for a.cells[i].tag.Load() != 0 {
		i = (i + 1) & mask
	}
	c := &a.cells[i]
	c.bits, c.secret, c.token = k.from.bits, k.secret, k.token
	c.tag.Store(tag)
	return c
}

// take gives what was counted since the last time, in any order, until emit says
// no. A key may come twice when its cell was moved while it counted.
func (t *cells) take(emit func(k cellKey, n int64) bool) {
	for i := range t.shards {
		for a := t.shards[i].now.Load(); a != nil; a = a.old {
			for j := range a.cells {
				c := &a.cells[j]
				tag := c.tag.Load()
				if tag == 0 {
					continue
				}
				if n := c.n.Swap(0); n != 0 && !emit(c.key(tag), n) {
					return
				}
			}
		}
	}
}
