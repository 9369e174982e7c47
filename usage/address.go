package usage

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sallyport/sallyport/token"
)

// address is what is counted of an address: an IPv4 address, or the /64 of an IPv6
// address. The zero value stands for all others.
type address struct {
	bits   uint64
	family uint8 // 4, 6, or 0
}

// maxAddresses is how many addresses are told apart for a token in a bucket.
// Requests without a token share theirs.
const (
	maxAddresses        = 64
	maxUnknownAddresses = 1024
)

func addressOf(a netip.Addr) address {
	switch {
	case a.Is4() || a.Is4In6():
		b := a.As4()
		return address{uint64(binary.BigEndian.Uint32(b[:])), 4}
	case a.Is6():
		b := a.As16()
		return address{binary.BigEndian.Uint64(b[:]), 6}
	default:
		return address{}
	}
}

func (a address) String() string {
	switch a.family {
	case 4:
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(a.bits))
		return netip.AddrFrom4(b).String()
	case 6:
		var b [16]byte
		binary.BigEndian.PutUint64(b[:], a.bits)
		return netip.PrefixFrom(netip.AddrFrom16(b), 64).String()
	default:
		return token.OtherAddresses
	}
}

// addresses are those that one token is seen at in a bucket.
type addresses struct {
	mu   sync.Mutex
	list atomic.Pointer[[]address]
}

// admit says whether the address is among those that are told apart, and takes it
// in while there is room. Once there is none it takes no lock.
func (s *addresses) admit(a address, most int) bool {
	if known, full := s.has(a, most); known || full {
		return known
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, full := s.has(a, most); known || full {
		return known
	}
	var fresh []address
	if old := s.list.Load(); old != nil {
		fresh = slices.Clone(*old)
	}
	fresh = append(fresh, a)
	if len(fresh) == most {
		// No more come: from now on it is searched often.
		slices.SortFunc(fresh, compareAddresses)
	}
	s.list.Store(&fresh)
	return true
}

func (s *addresses) has(a address, most int) (known, full bool) {
	list := s.list.Load()
	if list == nil {
		return false, false
	}
	if len(*list) < most {
		return slices.Contains(*list, a), false
	}
	_, known = slices.BinarySearchFunc(*list, a, compareAddresses)
	return known, true
}

func compareAddresses(a, b address) int {
	switch {
	case a.bits < b.bits:
		return -1
	case a.bits > b.bits:
		return 1
	default:
		return int(a.family) - int(b.family)
	}
}
