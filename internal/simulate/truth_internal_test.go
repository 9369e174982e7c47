package simulate

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
)

// I1: a use before the date of an act is held against it whatever becomes of the
// record. One after the date, which an act that was held for long may miss, is so
// only where it was told before, or the store knew that it was blind.
func TestALostUseIsHeldAgainstAnActThatHadToKnowOfIt(t *testing.T) {
	start := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	due, acted := start.Add(50*day), start.Add(52*day)
	never := time.Time{}
	for _, c := range []struct {
		name           string
		used           time.Time
		lost           bool // before the act
		blindBy        time.Time
		judged, broken bool // by the act itself, and in the end
	}{
		{"before the date, lost after the act", due.Add(-time.Hour), false, never, true, true},
		{"before the date, lost before the act", due.Add(-time.Hour), true, acted.Add(time.Hour), true, true},
		{"after the date, lost after the act", due.Add(43 * time.Hour), false, never, false, false},
		{"after the date, lost before the act, which nobody could know", due.Add(43 * time.Hour), true, acted.Add(time.Hour), false, false},
		{"after the date, lost before the act, and known to be", due.Add(time.Hour), true, acted.Add(-time.Hour), true, true},
		{"at the date, as far as clocks can tell", due.Add(-maxSkew / 2), false, never, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &World{Figures: Figures{Counts: map[Count]int{}}, start: start, now: acted, skewedAt: start, leaptAt: start}
			r := &request{scope: -1, at: c.used, lost: c.lost, blindBy: c.blindBy}
			a := &act{
				token: &subject{id: "tok_1", requests: []*request{r}}, kind: token.DeleteUnused,
				at: acted, true: acted, until: acted.Add(30 * day),
			}
			w.acts = []*act{a}
			w.judgeUse(a, &token.Evidence{From: start, To: due})
			require.Equal(t, c.judged, len(w.Violations) > 0)
			r.lost = true
			w.settle(true)
			w.settle(true)
			require.Equal(t, c.broken, len(w.Violations) > 0)
			if !c.broken {
				require.Equal(t, 1, w.Figures.Counts[Missed])
			}
		})
	}
}
