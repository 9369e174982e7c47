package token

import (
	"slices"
	"time"
)

// GapForgotten is the reason of the gap that stands for everything before it: what
// was observed earlier is no longer kept.
const GapForgotten = "forgotten"

// Forgettable says up to when nobody asks any more what was observed, and which
// runs ended before. gapEnds is when the last gap of each run that reported any
// ended, span how much observed time has to be kept, and limit a time after which
// nothing is forgotten; zero: there is none. A zero time says that all is still
// asked for.
//
// A window that starts at the horizon or later reads the same with these runs and
// without, provided that a blind gap of reason GapForgotten is put at the horizon.
// One that started before, and is no longer than the span, was over before now and
// is so too when it starts at the horizon: the time in which nobody served does not
// count in the span, as it does not count in a window. And a longer window, of a
// policy still to come, cannot reach back to what is forgotten.
//
// What a lost run owes is not forgotten: only an operator accepts that.
func Forgettable(runs []Run, reported []Gap, gapEnds map[ID]time.Time, now time.Time, span time.Duration, limit time.Time) (horizon time.Time, drop []ID) {
	c := Observe(runs, reported, now)
	horizon = c.before(span, now)
	if !limit.IsZero() && limit.Before(horizon) {
		horizon = limit
	}
	if horizon.IsZero() || !horizon.After(c.Since) {
		return time.Time{}, nil
	}
	for i := range runs {
		r := &runs[i]
		end, over := r.Over(now)
		if r.State(now).Owes() && r.Covered.Before(end) || !over || end.After(horizon) || r.StartedAt.After(horizon) || gapEnds[r.ID].After(horizon) {
			continue
		}
		drop = append(drop, r.ID)
	}
	return horizon, drop
}

// before is the latest start of a window of a length that is over, with all that
// was used in it known; zero: there is none.
func (c *Coverage) before(length time.Duration, now time.Time) time.Time {
	if !c.observed() {
		return time.Time{}
	}
	at := now
	if c.Through.Before(at) {
		at = c.Through
	}
	for _, s := range slices.Backward(c.stopped) {
		to := s.to
		if to.IsZero() {
			to = now
		}
		switch {
		case !s.from.Before(at):
			continue
		case to.Before(at):
			if served := at.Sub(to); served >= length {
				return at.Add(-length)
			} else {
				length -= served
			}
		}
		at = s.from
	}
	if at = at.Add(-length); at.Before(c.Since) {
		return time.Time{}
	}
	return at
}
