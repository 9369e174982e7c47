package usage

import (
	"time"

	"github.com/sallyport/sallyport/token"
)

// clockWatch compares the wall clock with the uptime. Uses are recorded by the wall
// clock: when it was wrong, they were recorded at wrong times.
type clockWatch struct {
	wall   time.Time
	uptime time.Duration
	begun  bool
}

// look says whether the clock was set since the last look. The gap ends now, by the
// clock that is right at last: every window restarts there.
func (w *clockWatch) look(wall time.Time, uptime time.Duration) (token.Gap, bool) {
	wall = wall.UTC().Round(0) // by the wall clock alone
	before, elapsed, begun := w.wall, uptime-w.uptime, w.begun
	w.wall, w.uptime, w.begun = wall, uptime, true
	if !begun {
		return token.Gap{}, false
	}
	off := wall.Sub(before) - elapsed
	if off <= clockBound && off >= -clockBound {
		return token.Gap{}, false
	}
	from := before
	if !from.Before(wall) {
		from = wall.Add(-max(elapsed, time.Nanosecond))
	}
	return token.Gap{From: from, To: wall, Blind: true, Reason: reasonClock}, true
}
