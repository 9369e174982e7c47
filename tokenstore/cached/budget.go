package cached

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// Failures counts refused credentials by client address, over a sliding minute.
// Its memory is fixed. It outlives configurations: a reload must not hand a
// guesser a fresh minute.
type Failures struct{ addresses *addressTable }

// NewFailures makes an empty count.
func NewFailures() *Failures { return &Failures{newAddressTable(time.Minute)} }

// Add counts one failure of the address. IPv6 counts by /64, because that is
// what one subscriber is given; requests without a known address count together.
func (f *Failures) Add(addr netip.Addr, now time.Time) {
	f.addresses.count(addressKey(addr), now.UnixNano(), noLimit)
}

// Spent says whether the address has failed limit times within the last minute.
// A limit of 0 or less is never spent.
func (f *Failures) Spent(addr netip.Addr, limit int, now time.Time) bool {
	return limit > 0 && f.addresses.spent(addressKey(addr), now.UnixNano(), limit)
}

// missBudget bounds the lookups that find nothing, by address and for the node.
// A unit is taken before the store is asked, because afterwards is too late to
// protect it, and given back when there was a token. Until then it is out: who
// finds the budget spent by units that are out waits for them, so that a crowd of
// good tokens that a cold node does not know yet is slowed down and not refused.
type missBudget struct {
	perAddress, perNode int
	addresses           *addressTable

	mu      sync.Mutex
	node    tally
	out     map[uint64]int // units that are out, by address
	settled chan struct{}  // closed when one of them is settled
}

// missUnit is one unit of the budget, to be given back.
type missUnit struct {
	key    uint64
	window int64
}

func newMissBudget(perAddress, perNode int) *missBudget {
	return &missBudget{
		perAddress: perAddress, perNode: perNode, addresses: newAddressTable(time.Second),
		out: map[uint64]int{}, settled: make(chan struct{}),
	}
}

// take asks for one unit. Without one, retry is closed when it is worth asking
// again; a nil retry means that the budget is spent. A budget of less than 0 is
// without a limit.
func (b *missBudget) take(addr netip.Addr, now time.Duration) (u missUnit, retry <-chan struct{}, ok bool) {
	key := addressKey(addr)
	b.mu.Lock()
	defer b.mu.Unlock()
	window, ok := b.addresses.count(key, int64(now), b.perAddress)
	if !ok {
		if b.out[key] > 0 {
			retry = b.settled
		}
		return missUnit{}, retry, false
	}
	if !b.node.add(window, int64(now), time.Second, b.perNode) {
		b.addresses.uncount(key, window)
		if len(b.out) > 0 {
			retry = b.settled
		}
		return missUnit{}, retry, false
	}
	b.out[key]++
	return missUnit{key, window}, nil, true
}

// settle ends a lookup; one that found a token gives its unit back.
func (b *missBudget) settle(u missUnit, found bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if found {
		b.addresses.uncount(u.key, u.window)
		b.node.undo(u.window)
	}
	if b.out[u.key]--; b.out[u.key] == 0 {
		delete(b.out, u.key)
	}
	close(b.settled)
	b.settled = make(chan struct{})
}

const noLimit = -1

// tally counts over a sliding window with two fixed ones: what the window before
// counted weighs less the further the present one has come. Unlike a bucket
// that refills, it lets no more than the limit through from the start, and it
// needs no limit to count, so that a changed limit holds at once.
type tally struct {
	window  int64 // number of the present window
	was, is uint32
}

// roll brings the tally into a window.
func (t *tally) roll(window int64) {
	switch {
	case window == t.window, window == t.window-1:
		// The second: this caller read the clock just before the window ended.
	case window == t.window+1:
		t.was, t.is, t.window = t.is, 0, window
	case window > t.window:
		t.was, t.is, t.window = 0, 0, window
	default:
		// The clock was set back. What was counted stays counted.
		t.window = window
	}
}

// sum is the count of the sliding window that ends now.
func (t *tally) sum(now int64, width time.Duration) float64 {
	into := float64(now-t.window*int64(width)) / float64(width)
	return float64(t.was)*(1-min(max(into, 0), 1)) + float64(t.is)
}

// add counts one, unless that would exceed the limit.
func (t *tally) add(window, now int64, width time.Duration, limit int) bool {
	t.roll(window)
	if limit >= 0 && t.sum(now, width)+1 > float64(limit) {
		return false
	}
	t.is++
	return true
}

// undo takes back one that was counted in a window.
func (t *tally) undo(window int64) {
	switch {
	case window == t.window && t.is > 0:
		t.is--
	case window == t.window-1 && t.was > 0:
		t.was--
	}
}

// The table has room for 65,536 addresses in about 2 MiB. Whoever holds more
// addresses than that can push out counts, but has as many budgets anyway; the
// budget of the node bounds them.
const (
	addressSets = 8192
	addressWays = 8
)

// addressTable is a fixed table of tallies by address.
type addressTable struct {
	width time.Duration
	seed  maphash.Seed // so that nobody can choose addresses that share a set
	sets  []addressSet
}

type addressSet struct {
	mu   sync.Mutex
	ways [addressWays]addressTally
}

type addressTally struct {
	key uint64
	tally
}

func newAddressTable(width time.Duration) *addressTable {
	return &addressTable{width: width, seed: maphash.MakeSeed(), sets: make([]addressSet, addressSets)}
}

func (t *addressTable) set(key uint64) *addressSet {
	return &t.sets[maphash.Comparable(t.seed, key)%addressSets]
}

// count adds one to an address, and gives the window that it was counted in.
func (t *addressTable) count(key uint64, now int64, limit int) (window int64, ok bool) {
	window = now / int64(t.width)
	set := t.set(key)
	set.mu.Lock()
	defer set.mu.Unlock()
	way := set.find(key)
	if way == nil {
		way = set.oldest()
		*way = addressTally{key: key, tally: tally{window: window}}
	}
	ok = way.add(window, now, t.width, limit)
	return way.window, ok
}

func (t *addressTable) uncount(key uint64, window int64) {
	set := t.set(key)
	set.mu.Lock()
	defer set.mu.Unlock()
	if way := set.find(key); way != nil {
		way.undo(window)
	}
}

func (t *addressTable) spent(key uint64, now int64, limit int) bool {
	set := t.set(key)
	set.mu.Lock()
	defer set.mu.Unlock()
	way := set.find(key)
	if way == nil {
		return false
	}
	way.roll(now / int64(t.width))
	return way.sum(now, t.width) >= float64(limit)
}

func (s *addressSet) find(key uint64) *addressTally {
	for i := range s.ways {
		if s.ways[i].key == key {
			return &s.ways[i]
		}
	}
	return nil
}

// oldest gives the way to be overwritten: the one that counted longest ago and,
// among equals, least.
func (s *addressSet) oldest() *addressTally {
	victim := &s.ways[0]
	for i := 1; i < len(s.ways); i++ {
		w := &s.ways[i]
		if w.window < victim.window || w.window == victim.window && w.is < victim.is {
			victim = w
		}
	}
	return victim
}

// IPv4 addresses and the unknown address take keys in the multicast range of
// IPv6, where no client's /64 lies.
const (
	ipv4Keys   = 0xffff_fffe << 32
	unknownKey = 0xffff_ffff << 32
)

// addressKey names what shares a budget. It is never 0, which marks an empty way.
func addressKey(addr netip.Addr) uint64 {
	addr = addr.Unmap()
	switch {
	case !addr.IsValid():
		return unknownKey
	case addr.Is4():
		b := addr.As4()
		return ipv4Keys | uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3])
	default:
		b := addr.As16()
		var key uint64
		for _, part := range b[:8] {
			key = key<<8 | uint64(part)
		}
		if key == 0 {
			// ::/64 holds the loopback address.
			return unknownKey | 1
		}
		return key
	}
}
