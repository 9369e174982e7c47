package token

import (
	"cmp"
	"slices"
	"sort"
	"time"
)

// Coverage is which time was observed, over all nodes together. NewCoverage makes
// one; the zero value and nil say that nothing was. It is not changed once made,
// so that the plans of many tokens share it.
type Coverage struct {
	// Since is when observation began at all.
	Since time.Time
	// Through is up to when everything that was used has reached the store.
	Through time.Time

	gaps    []Gap
	stopped []span // when nobody served: apart from each other, by their start
	// restart is the end of the latest blind time, and open whether one has not
	// ended.
	restart time.Time
	open    bool
}

// span is a time from and to; a zero to has not come yet.
type span struct{ from, to time.Time }

// The years that RFC 3339 and all stores can write. Within them no sum of a time,
// the gaps and a policy's durations runs over.
var (
	firstTime = time.Time{}
	lastTime  = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
)

// plausible says whether a time is within the years that can be written.
func plausible(t time.Time) bool { return !t.Before(firstTime) && !t.After(lastTime) }

// NewCoverage takes the gaps of all nodes in any order; they may overlap. A gap
// whose To is zero has not ended. One whose ends are the wrong way round is read
// as the time between them: of two readings the one that takes less away.
func NewCoverage(since, through time.Time, gaps []Gap) *Coverage {
	c := &Coverage{Since: since, Through: through, gaps: slices.Clone(gaps)}
	slices.SortStableFunc(c.gaps, func(a, b Gap) int {
		return cmp.Or(a.From.Compare(b.From), a.To.Compare(b.To))
	})
	var stopped []span
	for _, g := range c.gaps {
		from, to, open := within(g.From), within(g.To), g.To.IsZero()
		if !open && to.Before(from) {
			from, to = to, from
		}
		switch {
		case !g.Blind:
			stopped = append(stopped, span{from, to})
		case open:
			c.open = true
		default:
			c.restart = later(c.restart, to)
		}
	}
	c.stopped = merge(stopped)
	return c
}

// within brings a time into the years that can be written.
func within(t time.Time) time.Time {
	if t.After(lastTime) {
		return lastTime
	}
	return later(t, firstTime)
}

// merge joins what overlaps, so that no time is counted twice.
func merge(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return a.from.Compare(b.from) })
	merged := spans[:0]
	for _, s := range spans {
		last := len(merged) - 1
		switch {
		case last < 0 || !merged[last].to.IsZero() && s.from.After(merged[last].to):
			merged = append(merged, s)
		case s.to.IsZero() || merged[last].to.IsZero():
			merged[last].to = time.Time{}
		default:
			merged[last].to = later(merged[last].to, s.to)
		}
	}
	return merged
}

// Gaps lists the times that were not observed, by their start.
func (c *Coverage) Gaps() []Gap {
	if c == nil {
		return nil
	}
	return slices.Clone(c.gaps)
}

// complete says whether all that happened before a time is known.
func (c *Coverage) complete(before time.Time) bool {
	return c.observed() && !c.Through.Before(before)
}

// observed says whether there was any observation.
func (c *Coverage) observed() bool {
	return c != nil && !c.Since.IsZero() && !c.Through.IsZero()
}

// base is before when nothing is known: the start of observation, and the end of
// the latest blind time, in which anything may have been used. Blind time that
// goes on reaches until now.
func (c *Coverage) base(now time.Time) (since, blind time.Time) {
	switch {
	case c == nil:
		return time.Time{}, time.Time{}
	case c.open:
		return c.Since, later(c.restart, now)
	default:
		return c.Since, c.restart
	}
}

// end is when a window that starts at a time is over: its length, and as much
// more as nobody was serving meanwhile.
func (c *Coverage) end(from time.Time, window time.Duration, now time.Time) time.Time {
	end := from.Add(window)
	if c == nil {
		return end
	}
	first := sort.Search(len(c.stopped), func(i int) bool {
		return c.stopped[i].to.IsZero() || c.stopped[i].to.After(from)
	})
	for _, s := range c.stopped[first:] {
		start, to := later(s.from, from), s.to
		if !start.Before(end) {
			break
		}
		if to.IsZero() {
			to = later(now, start)
		}
		end = end.Add(to.Sub(start))
	}
	return end
}
