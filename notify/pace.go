package notify

import (
	"sync"
	"time"
)

// pace allows a number of messages a minute, evenly: a sixth of that at once, and
// what time brings after.
type pace struct {
	since   time.Time
	allowed float64
}

const burstsPerMinute = 6

// left is how many may be sent now.
func (p *pace) left(now time.Time, perMinute int) int {
	most := max(1, float64(perMinute)/burstsPerMinute)
	switch passed := now.Sub(p.since); {
	case p.since.IsZero():
		p.allowed = most
	case passed > 0:
		p.allowed = min(most, p.allowed+passed.Minutes()*float64(perMinute))
	}
	p.since = now
	return int(p.allowed)
}

func (p *pace) spend(n int) { p.allowed -= float64(n) }

// holds keeps a way that is down from being tried with each of the messages that
// go it: every one of them would take a timeout, in which those that go another
// way would have to wait.
type holds struct {
	mu   sync.Mutex
	ways map[string]hold
}

type hold struct {
	until    time.Time
	failures int
}

// maxHold is how long a way is left alone at most: when it works again, urgent
// messages must not wait for long.
const maxHold = 10 * time.Minute

// left is how long a way is still held.
func (h *holds) left(way string, now time.Time) (time.Duration, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	left := h.ways[way].until.Sub(now)
	return left, left > 0
}

// note what came of an attempt.
func (h *holds) note(way string, down bool, now time.Time, first time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !down {
		delete(h.ways, way)
		return
	}
	if h.ways == nil {
		h.ways = map[string]hold{}
	}
	was := h.ways[way]
	was.failures++
	// A little less than the first retry, so that a retry is not held for nothing.
	was.until = now.Add(min(delay(first/2, was.failures, 0), maxHold))
	h.ways[way] = was
}
