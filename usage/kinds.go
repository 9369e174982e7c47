package usage

import (
	"hash/maphash"
	"sync"
)

// kindKey is what counters differ by besides token and address. There are few of
// them: scopes that are declared and outcomes from a fixed set.
type kindKey struct {
	scope     string
	outcome   string
	forwarded bool // part of what is a fact, not of what is told
}

// kinds numbers them, from 1, for as long as the recorder runs.
type kinds struct {
	known table[kindKey, uint16]

	mu   sync.Mutex
	list []kindKey
}

// of gives the number of a kind, and 0 when there are too many: such requests have
// no counter of their own.
func (s *kinds) of(seed maphash.Seed, k *kindKey) (number uint16, hash uint64) {
	// Outcomes are few: their length and last byte tell most of them apart.
	extra := uint64(len(k.outcome)) << 8
	if n := len(k.outcome); n > 0 {
		extra |= uint64(k.outcome[n-1])
	}
	if k.forwarded {
		extra |= 1 << 48
	}
	hash = mix(maphash.String(seed, k.scope)^extra, factor) | 1
	if found := s.known.find(hash, k); found != nil {
		return *found, hash
	}
	return s.add(hash, k), hash
}

func (s *kinds) add(hash uint64, k *kindKey) uint16 {
	if s.known.size.Load() >= maxKinds {
		return 0
	}
	return *s.known.add(hash, k, func() uint16 {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.list) == maxKinds {
			return 0
		}
		s.list = append(s.list, *k)
		return uint16(len(s.list))
	})
}

// name gives a kind by its number.
func (s *kinds) name(number uint16) kindKey {
	if number == 0 {
		return kindKey{outcome: otherOutcomes}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list[number-1]
}
