package test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/test/bench/loss"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
)

// I1, S1: gateways are killed with SIGKILL at random moments while many tokens are
// used; whatever was answered, and whatever the upstream got, is in the record
// afterwards, and nothing that nobody did. Hundreds of kills:
//
//	go run ./test/bench -binary ./sallyport -kills 300
func TestKillNineLosesNoUse(t *testing.T) {
	const seed = 20261122
	for _, c := range []struct {
		name     string
		journal  string
		gateways int // on one Postgres; 0: one on SQLite
		kills    int
	}{
		{"SQLite", "fast", 0, 4},
		{"SQLite, each use on the disk", "sync", 0, 2},
		{"two gateways on Postgres", "fast", 2, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := loss.Options{
				Binary: binary, Gateways: c.gateways, Journal: c.journal, Kills: rounds(t, c.kills), Workers: 4, Tokens: 1200,
				Seed: seed, Life: 1200 * time.Millisecond, Progress: func(string) {},
			}
			if c.gateways > 0 {
				o.Server = pgtest.Start(t)
			}
			f, err := loss.Measure(t.Context(), o)
			require.NoError(t, err, "seed %d", seed)
			t.Logf("seed %d: %s", seed, f)
			require.NoError(t, f.Err())
			require.Positive(t, f.Alone)
			// A journal that is recovered whole leaves no blind time. A disk that does not
			// answer in time is another matter, and a shared machine may have one.
			delete(f.Blind, "journal disk did not answer")
			require.Empty(t, f.Blind)
		})
	}
}
