package simulate_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/internal/simulate"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// I1, I4, I7, I10 and L1 to L10: whole fleets for years, with all faults on, each of
// which strikes in each of them. The long run is make simulate.
func TestFleetsLiveForYearsAndNoRuleIsBroken(t *testing.T) {
	small := func(p simulate.Profile, tokens, days int) simulate.Profile {
		p.Tokens, p.Days, p.Storm = tokens, days, [2]int{days / 2, days / 2}
		return p
	}
	var (
		mu  sync.Mutex
		all simulate.Figures
	)
	t.Run("fleets", func(t *testing.T) {
		for seed, p := range []simulate.Profile{
			small(simulate.Calm(), 40, 400),
			small(simulate.Stormy(), 30, 240),
			small(simulate.Brief(), 24, 90),
		} {
			t.Run(p.Name, func(t *testing.T) {
				t.Parallel()
				w, err := simulate.New(t.Context(), simulate.Config{Seed: uint64(seed), Dir: storetest.Memory(t), Profile: p, Drill: true})
				require.NoError(t, err)
				defer func() { require.NoError(t, w.Close()) }()
				require.NoError(t, w.Run(context.Background()))
				t.Logf("%+v", w.Figures)
				require.Empty(t, w.Violations)
				for _, fault := range []simulate.Count{
					simulate.Crashed, simulate.PowerLost, simulate.DiskLost, simulate.Stopped, simulate.CutOff, simulate.ClockSet, simulate.Leapt,
					simulate.MailDown, simulate.MailRefused, simulate.Raised, simulate.Paused, simulate.Killed, simulate.Twice, simulate.Interleaved,
				} {
					require.NotZero(t, w.Figures.Counts[fault], fault)
				}
				mu.Lock()
				defer mu.Unlock()
				all.Add(w.Figures)
			})
		}
	})
	for _, c := range []simulate.Count{
		simulate.Announced, simulate.CalledOff + ": used", simulate.CalledOff + ": blind",
		simulate.Downgraded, simulate.Deleted, simulate.Expired, simulate.Purged, simulate.Restored, simulate.Lulls, simulate.Surprised,
	} {
		require.NotZero(t, all.Counts[c], c)
	}
}
