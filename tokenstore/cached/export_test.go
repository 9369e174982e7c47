package cached

import (
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Fill keeps a record as if it had been loaded, to fill large caches quickly.
func (s *Store) Fill(r *tokenstore.Record) {
	e, err := s.owners.newEntry(r, r.Lookup, s.moment())
	if err != nil {
		panic(err)
	}
	s.keep(e)
}

// Settle waits until ristretto has taken in what was set.
func (s *Store) Settle() { s.memory.cache.Wait() }

// LimitFloors sets how many floors are kept, before anything is learned.
func (s *Store) LimitFloors(n int) { s.known.limit = n }

// RecallIn sets how much of the feed's past is read at once, and at all, before Start.
func (s *Store) RecallIn(window int64, limit int) {
	s.known.ended.window, s.known.ended.limit = window, limit
}

// ForgetRecent empties the table before ristretto.
func (s *Store) ForgetRecent() {
	for i := range s.memory.recent {
		s.memory.recent[i].Store(nil)
	}
}

// Readings is how often the feed was read.
func (s *Store) Readings() uint64 {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	return s.feed.begun
}

// SharedOwners counts the owners in memory.
func (s *Store) SharedOwners() int {
	return s.owners.accounts.len() + s.owners.users.len() + s.owners.roles.len() + s.owners.policies.len()
}

// BootClock is the default clock over given clocks.
func BootClock(clocks func() (wall, monotonic time.Duration), suspended func() (time.Duration, bool)) func() time.Duration {
	return newBootClock(clocks, suspended).read
}

var (
	KernelSuspended = kernelSuspended
	SystemUptime    = systemUptime
)

// Marks exposes the table of versions.
type Marks struct{ m *marks }

func NewMarks() Marks { return Marks{newMarks()} }

func (m Marks) Raise(k tokenstore.Kind, id token.ID, v int64)     { m.m.raise(k, string(id), v) }
func (m Marks) At(k tokenstore.Kind, id token.ID) (version int64) { return m.m.at(k, string(id)) }

const (
	PollWait     = pollWait
	UnknownFor   = unknownFor
	RefreshAfter = refreshAfter
	MaxWaiting   = maxWaiting
	FailureRoom  = addressSets * addressWays
)
