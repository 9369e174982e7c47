package cached

import (
	"sync"
	"sync/atomic"
	"time"
)

// systemNow is the machine's clock, for a Store that is given none.
func systemNow() time.Time { return time.Now() } //nolint:forbidigo // the one place where the default comes from

// bootClock counts the time since its making, suspension included, and never
// goes back. The kernel's own such clock takes a system call, several times what
// the rest of a cache hit takes. Suspension always shows as a jump of the
// wall clock against the monotonic one, and both of them are read without a
// system call; so the kernel is asked only when they have drifted apart.
type bootClock struct {
	// clocks reads the wall clock and the monotonic one, as times since the clock
	// was made.
	clocks func() (wall, monotonic time.Duration)
	// suspended reads how much time was spent suspended since the machine
	// started. ok is false where the system does not say.
	suspended func() (total time.Duration, ok bool)

	drift atomic.Int64 // of the wall clock against the monotonic one, when last compared
	added atomic.Int64 // suspended time to add to the monotonic clock

	mu     sync.Mutex
	before time.Duration // suspended time when the clock was made
	known  bool
}

// jump is the drift that cannot be the slow correction of a clock. Corrections
// of this size add up over minutes; each costs one system call.
const jump = 50 * time.Millisecond

func newBootClock(clocks func() (wall, monotonic time.Duration), suspended func() (time.Duration, bool)) *bootClock {
	c := &bootClock{clocks: clocks, suspended: suspended}
	c.before, c.known = suspended()
	return c
}

// systemUptime is the default clock.
func systemUptime() func() time.Duration {
	start := systemNow()
	return newBootClock(func() (wall, monotonic time.Duration) {
		t := systemNow()
		return time.Duration(t.UnixNano() - start.UnixNano()), t.Sub(start)
	}, kernelSuspended).read
}

// read gives the time since the clock was made.
func (c *bootClock) read() time.Duration {
	wall, monotonic := c.clocks()
	if d := wall - monotonic - time.Duration(c.drift.Load()); d > jump || d < -jump {
		c.compare(wall - monotonic)
	}
	return monotonic + time.Duration(c.added.Load())
}

func (c *bootClock) compare(drift time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := drift - time.Duration(c.drift.Load())
	if d <= jump && d >= -jump {
		return // somebody else was first
	}
	if total, ok := c.suspended(); ok && c.known {
		c.added.Store(max(c.added.Load(), int64(total-c.before)))
	} else if d > 0 {
		// The wall clock went ahead: of a sleep, or because it was set. To take
		// the second for the first costs one reading of the feed.
		c.added.Add(int64(d))
	}
	c.drift.Store(int64(drift))
}
