package token_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
)

func TestWhatWasObservedByAllRunsTogether(t *testing.T) {
	t0 := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	h := func(hours float64) time.Time { return t0.Add(time.Duration(hours * float64(time.Hour))) }
	stopped := func(from, to float64) token.Run {
		return token.Run{ID: "run_s", Node: "s", StartedAt: h(from), Covered: h(to), Contact: h(to), StoppedAt: h(to), StaleFor: time.Hour}
	}
	quiet := func(from, covered, contact float64) token.Run {
		return token.Run{ID: "run_q", Node: "q", StartedAt: h(from), Covered: h(covered), Contact: h(contact), StaleFor: time.Hour}
	}
	idle := func(from, to float64) token.Gap { return token.Gap{From: h(from), To: h(to), Reason: "stopped"} }
	waived := quiet(0, 1, 2)
	waived.WaivedAt = h(9)
	minute := 1.0 / 60
	for name, c := range map[string]struct {
		runs     []token.Run
		reported []token.Gap
		now      float64
		since    time.Time
		through  time.Time
		gaps     []token.Gap
	}{
		"nobody ever": {now: 5},
		"one that runs limits what is known": {
			runs: []token.Run{quiet(0, 4.9, 5)}, now: 5, since: h(0), through: h(4.9),
		},
		"of two the one that is behind": {
			runs: []token.Run{quiet(0, 4.9, 5), quiet(1, 4.8, 5)}, now: 5, since: h(0), through: h(4.8),
		},
		"clean stops stretch": {
			runs: []token.Run{stopped(3, 4), stopped(0, 1)}, now: 5, since: h(0), through: h(5), gaps: []token.Gap{idle(1, 3), idle(4, 5)},
		},
		"runs that overlap leave nothing between": {
			runs: []token.Run{stopped(0, 2), stopped(1, 5)}, now: 5, since: h(0), through: h(5),
		},
		"one that is quiet may still serve": {
			runs: []token.Run{quiet(0, 4, 4.5)}, now: 5, since: h(0), through: h(4),
		},
		"one that was lost is blind until it can have served no more": {
			runs: []token.Run{quiet(0, 1, 2), stopped(0, 9)}, now: 9, since: h(0), through: h(9),
			gaps: []token.Gap{{From: h(1), To: h(3 + minute), Blind: true, Node: "q", Reason: "lost"}},
		},
		"one that was lost and never covered anything": {
			runs: []token.Run{quiet(0, 0, 0)}, now: 9, since: h(0), through: h(9),
			gaps: []token.Gap{{From: h(0), To: h(1 + minute), Blind: true, Node: "q", Reason: "lost"}, idle(1+minute, 9)},
		},
		"one that was waived": {
			runs: []token.Run{waived, stopped(2, 9)}, now: 9, since: h(0), through: h(9),
		},
		"gaps that were reported stay": {
			runs: []token.Run{stopped(0, 9)}, reported: []token.Gap{{From: h(1), To: h(2), Blind: true, Node: "s", Reason: "disk"}},
			now: 9, since: h(0), through: h(9), gaps: []token.Gap{{From: h(1), To: h(2), Blind: true, Node: "s", Reason: "disk"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := token.Observe(c.runs, c.reported, h(c.now))
			require.Empty(t, cmp.Diff(c.gaps, got.Gaps(), cmp.Comparer(func(a, b []token.Gap) bool {
				return len(a) == 0 && len(b) == 0 || cmp.Equal(a, b)
			})))
			require.Equal(t, c.since, got.Since)
			require.Equal(t, c.through, got.Through)
		})
	}
}
