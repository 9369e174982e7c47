package token_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/token"
)

func TestAllowanceIsFiveOrTwoPerCentADay(t *testing.T) {
	for _, c := range []struct {
		name               string
		live, done, raised int
		want               int
	}{
		{"L9: at least five", 10, 0, 0, 5},
		{"L9: two per cent of many", 1000, 0, 0, 20},
		{"L9: rounded down", 299, 0, 0, 5},
		{"L9: just above five", 300, 0, 0, 6},
		{"L9: less what was done in the last 24 hours", 1000, 15, 0, 5},
		{"L9: spent", 1000, 20, 0, 0},
		{"L9: overspent, since there are fewer tokens now", 1000, 50, 0, 0},
		{"L9: raised by an operator", 1000, 15, 500, 485},
		{"L9: an operator does not lower it", 1000, 0, 1, 20},
		{"I10: an empty store", 0, 0, 0, 5},
		{"numbers that cannot be", -7, -7, -7, 5},
		{"the most there can be", math.MaxInt, 0, 0, math.MaxInt / 50},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, token.Allowance(c.live, c.done, c.raised))
		})
	}
}

func TestAfterALeapOfTheClockRunsPlanAndActAgainADayLater(t *testing.T) {
	var zero time.Time
	for _, c := range []struct {
		name               string
		last, trusted, now time.Time
		shortest           time.Duration
		act                bool
		from               time.Time
	}{
		{"in the usual course", day(10), zero, day(10.01), 45 * oneDay, true, zero},
		{"48 hours are still usual", day(10), zero, day(12), 45 * oneDay, true, zero},
		{"L9: more are not", day(10), zero, day(12).Add(1), 45 * oneDay, false, day(13).Add(1)},
		{"F24: 46 days forward", day(10), zero, day(56), 45 * oneDay, false, day(57)},
		{"F25: and back again", day(56), day(57), day(10), 45 * oneDay, false, day(11)},
		{"the day is not over", day(56), day(57), day(56.9), 45 * oneDay, false, day(57)},
		{"and then it is", day(56.9), day(57), day(57), 45 * oneDay, true, day(57)},
		{"a trust that lies too far ahead is of another clock", day(10), day(14), day(10.01), 45 * oneDay, false, day(11.01)},
		{"the first run of all", zero, zero, day(0), 45 * oneDay, false, day(1)},
		{"L9: windows of seconds, in proportion", day(10), zero, day(10).Add(90 * time.Second), 45 * time.Second, true, zero},
		{"L9: and beyond it", day(10), zero, day(10).Add(91 * time.Second), 45 * time.Second, false, day(10).Add(136 * time.Second)},
		{"no window in force", day(10), zero, day(11), 0, true, zero},
		{"times at the ends of the calendar", time.Unix(math.MinInt64/2, 0), zero, day(1), 45 * oneDay, false, day(2)},
	} {
		t.Run(c.name, func(t *testing.T) {
			act, from := token.Resume(c.last, c.trusted, c.now, c.shortest)
			require.Equal(t, c.act, act)
			require.True(t, c.from.Equal(from), "%s", from)
		})
	}
}

// Whatever the clock does, nothing is taken until runs have followed one another
// for the whole pause after it; and when it stays right, that is all it takes.
func TestOnlyAQuietClockActs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now, quiet := birth, birth
		var last, trusted time.Time
		for range rapid.IntRange(1, 60).Draw(t, "runs") {
			if step := time.Duration(rapid.IntRange(-100, 100).Draw(t, "hours")) * time.Hour; rapid.Bool().Draw(t, "leaps") {
				now = now.Add(step)
			} else {
				now = now.Add(time.Hour)
			}
			if last.IsZero() || now.Sub(last).Abs() > 48*time.Hour || quiet.Sub(now) > 48*time.Hour {
				quiet = now
			}
			var act bool
			act, trusted = token.Resume(last, trusted, now, 45*oneDay)
			last = now
			if act {
				require.False(t, now.Before(quiet.Add(24*time.Hour)))
			}
		}
		for range 1 + 24 + 48 {
			now = now.Add(time.Hour)
			var act bool
			if act, trusted = token.Resume(last, trusted, now, 45*oneDay); act {
				return
			}
			last = now
		}
		require.Fail(t, "it never acts again")
	})
}
