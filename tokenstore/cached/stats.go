package cached

import (
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/tokenstore"
)

// Stats is what a Store has done since it was made, and how it stands.
type Stats struct {
	// Hits and Misses count Peek's answers.
	Hits, Misses uint64
	// NegativeHits counts unknown secrets that were refused from memory;
	// Throttled those that were shed by a budget.
	NegativeHits, Throttled uint64
	// Loads counts lookups in the store; LoadErrors those of them that came to
	// neither a record nor a certain "not found".
	Loads, LoadErrors uint64
	// PollErrors counts readings of the feed that failed. Resyncs counts gaps in
	// it: everything but tombstones was forgotten then.
	PollErrors, Resyncs uint64
	Evictions           int64

	Warm           WarmStats
	Entries, Bytes int64 // about
	Tombstones     int
	Position       tokenstore.Position
	SyncedAt       time.Time     // when the feed was last read
	FeedAge        time.Duration // for how long it has not been, on the clock that counts suspension
}

// counts is the counters off the path of a hit.
type counts struct {
	negativeHits, throttled, loads, loadErrors, pollErrors, resyncs atomic.Uint64
}

// lane counts the Peeks of a part of all tokens. What a hit has to count anyway
// also tells Close when the last Peek is over. Each lane has cache lines of
// its own, lest cores that serve different tokens fight over one.
type lane struct {
	entered, hits, misses atomic.Uint64
	_                     [128 - 24]byte
}

const laneCount = 64

// quiet says whether no Peek is under way. Ends are read before beginnings, so
// that a Peek in between counts as under way.
func (l *lane) quiet() bool {
	ended := l.hits.Load() + l.misses.Load()
	return ended == l.entered.Load()
}

// Stats gives a snapshot. Its figures are not of one instant.
func (s *Store) Stats() Stats {
	if !s.enter() {
		return Stats{}
	}
	defer s.leave()
	st := Stats{
		NegativeHits: s.counts.negativeHits.Load(),
		Throttled:    s.counts.throttled.Load(),
		Loads:        s.counts.loads.Load(),
		LoadErrors:   s.counts.loadErrors.Load(),
		PollErrors:   s.counts.pollErrors.Load(),
		Resyncs:      s.counts.resyncs.Load(),
		Evictions:    s.memory.evictions.Load(),
		Warm:         s.warmth.read(s.options.Uptime()),
		Entries:      s.memory.entries.Load(),
		Bytes:        s.memory.bytes(),
		Tombstones:   s.known.ended.versions.len(),
		FeedAge:      s.age(),
	}
	for i := range s.lanes {
		st.Hits += s.lanes[i].hits.Load()
		st.Misses += s.lanes[i].misses.Load()
	}
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	st.Position, st.SyncedAt = s.feed.position, s.feed.syncedAt
	return st
}
