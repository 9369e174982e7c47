package token

import (
	"slices"
	"time"
)

// How long a run that says nothing is still taken for running, and what is added
// to how long it may have served without the store: clocks differ, and a request
// that was let through just before the end takes a moment to be told of.
const (
	quietRun  = time.Minute
	runMargin = time.Minute
	// unheardRun is how long a run may have been in contact, at most, without telling
	// what it saw; asked only when the time of its contact cannot be right.
	unheardRun = 24 * time.Hour
)

// lastServed is the latest time at which a run may have let a request pass. ok is
// false when that is not known yet, because it may still do so.
func (r *Run) lastServed(now time.Time) (at time.Time, ok bool) {
	if !r.StoppedAt.IsZero() {
		return r.StoppedAt, true
	}
	contact := r.Contact
	if contact.After(now.Add(runMargin)) {
		// The store's clock was ahead then. Whoever is in contact tells what it saw, so
		// that it was not for long after it last did.
		contact = r.Covered.Add(unheardRun)
	}
	if now.Sub(contact) < quietRun {
		return now, false
	}
	// Without the store it serves for a while, and then nothing at all.
	end := later(contact, r.StartedAt).Add(r.StaleFor + runMargin)
	return end, !now.Before(end)
}

// Observe says what was observed by all runs together up to now, by the store's
// clock. reported are the gaps that runs told of themselves.
//
// A run that was lost leaves blind time behind, from the last moment of which all
// is known to the last at which it may have served. What an operator accepted as
// lost leaves none. Time in which no run was serving is a gap that is not blind.
func Observe(runs []Run, reported []Gap, now time.Time) *Coverage {
	var (
		since   time.Time
		through = now
		gaps    = slices.Clone(reported)
		served  []span
	)
	for i := range runs {
		r := &runs[i]
		if since.IsZero() || r.StartedAt.Before(since) {
			since = r.StartedAt
		}
		end, over := r.lastServed(now)
		served = append(served, span{r.StartedAt, later(end, r.StartedAt)})
		switch {
		case !r.WaivedAt.IsZero(), !r.StoppedAt.IsZero():
		case over:
			// What was seen after it was last heard of may be in a journal that is
			// still to come; until then it is blind time.
			if r.Covered.Before(end) {
				gaps = append(gaps, Gap{From: r.Covered, To: end, Blind: true, Node: r.Node, Reason: "lost"})
			}
		case r.Covered.Before(through):
			through = r.Covered
		}
	}
	if since.IsZero() {
		return NewCoverage(since, time.Time{}, gaps)
	}
	at := since
	for _, s := range merge(served) {
		if s.from.After(at) {
			gaps = append(gaps, Gap{From: at, To: s.from, Reason: "stopped"})
		}
		at = later(at, s.to)
	}
	if at.Before(now) {
		gaps = append(gaps, Gap{From: at, To: now, Reason: "stopped"})
	}
	return NewCoverage(since, through, gaps)
}

// Over says whether a run lets no more requests pass, and since when. While that is
// not so, what it has not handed over holds everything back.
func (r *Run) Over(now time.Time) (since time.Time, over bool) { return r.lastServed(now) }
