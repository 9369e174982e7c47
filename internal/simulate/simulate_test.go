package simulate_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/internal/simulate"
)

// I1, I4, I7, I10 and L1 to L10: whole fleets for years, with all faults on. The
// long run is make simulate.
func TestFleetsLiveForYearsAndNoRuleIsBroken(t *testing.T) {
	for seed := uint64(1); seed <= 4; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			w, err := simulate.New(t.Context(), simulate.Config{Seed: seed, Dir: memory(t), Tokens: 60, Days: 400})
			require.NoError(t, err)
			defer func() { require.NoError(t, w.Close()) }()
			require.NoError(t, w.Run(context.Background()))
			require.Empty(t, w.Violations)
			f := w.Figures
			require.NotZero(t, f.Calm)
			require.NotZero(t, f.Deletions)
			require.NotZero(t, f.Downgrades)
			t.Logf("%+v", f)
		})
	}
}

// memory is a directory that needs no disk, where there is one.
func memory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "sallyport-simulate-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}
