package token_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
)

// after is what is left of runs and gaps when some were dropped.
func after(runs []token.Run, gaps map[token.ID][]token.Gap, horizon time.Time, drop []token.ID) ([]token.Run, []token.Gap) {
	kept := []token.Run{{
		ID: "run_floor", StartedAt: horizon, Covered: horizon, Contact: horizon, StoppedAt: horizon,
	}}
	left := []token.Gap{{From: horizon, To: horizon, Blind: true, Reason: token.GapForgotten}}
	for _, r := range runs {
		if !slices.Contains(drop, r.ID) {
			kept = append(kept, r)
			left = append(left, gaps[r.ID]...)
		}
	}
	return kept, left
}

// world is a random past of gateways that stopped, were lost, retired, or still run.
func world(r *rand.Rand, now time.Time) (runs []token.Run, gaps map[token.ID][]token.Gap) {
	gaps = map[token.ID][]token.Gap{}
	hours := func(n int) time.Duration { return time.Duration(r.IntN(n)) * time.Hour }
	for i := range 1 + r.IntN(12) {
		run := token.Run{ID: token.ID("run_" + strconv.Itoa(i)), Node: "n" + strconv.Itoa(r.IntN(3)), StartedAt: now.Add(-hours(24 * 60)), StaleFor: hours(3)}
		end := run.StartedAt.Add(hours(24 * 20))
		if end.After(now) {
			end = now
		}
		run.Covered, run.Contact = end, end
		switch r.IntN(4) {
		case 0, 1:
			run.StoppedAt = end
		case 2:
			run.Covered = run.StartedAt.Add(time.Duration(r.Int64N(int64(end.Sub(run.StartedAt)) + 1)))
			if r.IntN(2) == 0 {
				run.WaivedAt = now
			}
		default:
			run.Covered, run.Contact = now.Add(-hours(4)), now
			if run.Covered.Before(run.StartedAt) {
				run.Covered = run.StartedAt
			}
		}
		for range r.IntN(3) {
			from := run.StartedAt.Add(hours(24 * 20))
			to := from.Add(hours(48))
			if to.After(now) {
				continue
			}
			gaps[run.ID] = append(gaps[run.ID], token.Gap{From: from, To: to, Blind: true, Node: run.Node, Reason: "disk"})
		}
		runs = append(runs, run)
	}
	return runs, gaps
}

// I1, I4: what is forgotten changes no date of any window that is still asked for,
// and brings none forward, whatever the policies become.
func TestForgettingRunsChangesNoWindow(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 7))
		runs, gaps := world(r, now)
		var all []token.Gap
		ends := map[token.ID]time.Time{}
		for id, list := range gaps {
			all = append(all, list...)
			for _, g := range list {
				if g.To.After(ends[id]) {
					ends[id] = g.To
				}
			}
		}
		window, margin := time.Duration(1+r.IntN(20))*24*time.Hour, time.Duration(r.IntN(5))*24*time.Hour
		horizon, drop := token.Forgettable(runs, all, ends, now, window+margin, time.Time{})
		if horizon.IsZero() {
			require.Empty(t, drop)
			continue
		}
		before := token.Observe(runs, all, now)
		kept, left := after(runs, gaps, horizon, drop)
		after := token.Observe(kept, left, now)
		require.Equal(t, before.Through, after.Through, seed)
		for _, run := range runs {
			if slices.Contains(drop, run.ID) {
				require.NotEqual(t, token.RunLost, run.State(now), "what a lost run owes is kept")
			}
		}
		// later is a time when other policies may be in force.
		for _, later := range []time.Duration{0, 90 * 24 * time.Hour} {
			before, after := token.Observe(runs, all, now.Add(later)), token.Observe(kept, left, now.Add(later))
			for range 20 {
				made := now.Add(-time.Duration(r.Int64N(int64(70 * 24 * time.Hour))))
				length := time.Duration(r.Int64N(int64(80 * 24 * time.Hour)))
				was, is := token.WindowOf(before, made, length, now.Add(later)), token.WindowOf(after, made, length, now.Add(later))
				switch {
				case !made.Before(horizon):
					require.Equal(t, was, is, "seed %d: a window from the horizon on", seed)
				case length <= window && !was.After(now):
					require.True(t, is.Equal(was) || !is.After(now.Add(-margin)), "seed %d: what was over stays over", seed)
				}
				require.False(t, is.Before(was), "seed %d: nothing comes forward", seed)
			}
		}
	}
}

func TestTimeInWhichNobodyServedIsNotCountedAsKept(t *testing.T) {
	t0 := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	d := func(days int) time.Time { return t0.Add(time.Duration(days) * 24 * time.Hour) }
	stopped := func(id token.ID, from, to int) token.Run {
		return token.Run{ID: id, Node: "n", StartedAt: d(from), Covered: d(to), Contact: d(to), StoppedAt: d(to)}
	}
	lost := token.Run{ID: "run_lost", Node: "n", StartedAt: d(0), Covered: d(1), Contact: d(2)}
	runs := []token.Run{stopped("run_a", 0, 10), lost, stopped("run_b", 10, 20), stopped("run_c", 400, 410)}
	for days, want := range map[int]time.Time{5: d(405), 10: d(400), 15: d(15), 30: d(0), 31: {}} {
		horizon, _ := token.Forgettable(runs, nil, nil, d(410), time.Duration(days)*24*time.Hour, time.Time{})
		if want.Equal(d(0)) {
			want = time.Time{} // the beginning of everything: there is nothing before
		}
		require.Equal(t, want, horizon, days)
	}
	horizon, drop := token.Forgettable(runs, nil, nil, d(410), 15*24*time.Hour, time.Time{})
	require.Equal(t, d(15), horizon)
	require.Equal(t, []token.ID{"run_a"}, drop)
	_, drop = token.Forgettable(runs, nil, map[token.ID]time.Time{"run_a": d(16)}, d(410), 15*24*time.Hour, time.Time{})
	require.Empty(t, drop, "blind time of it reaches over the horizon")
	horizon, drop = token.Forgettable(runs, nil, nil, d(410), 5*24*time.Hour, d(9))
	require.Equal(t, d(9), horizon, "a limit")
	require.Empty(t, drop)
}
