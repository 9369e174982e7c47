package usage_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/usage"
)

// Whatever is killed, repeated, refused by the store or rotated: what reaches the
// store is what was used, no more and no less. S1, F1, F3, I1.
func TestTheStoreLearnsExactlyWhatWasUsed(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBench(t)
		b.bucket.Store(int64(rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour}).Draw(rt, "bucket")))
		var mu sync.Mutex
		failures := 0 // left
		b.sink.fail(func(_ string, done bool) error {
			mu.Lock()
			defer mu.Unlock()
			if failures > 0 {
				failures--
				if done == (failures%2 == 0) {
					return errAway
				}
			}
			return nil
		})
		size := rapid.Int64Range(200, 5000).Draw(rt, "segment size")
		batch := rapid.IntRange(1, 20).Draw(rt, "batch size")
		synced := rapid.Bool().Draw(rt, "sync")
		open := func() *usage.Recorder {
			r, err := usage.Open(b.options(func(o *usage.Options) {
				o.SegmentSize, o.BatchSize, o.Sync, o.SyncInterval = size, batch, synced, time.Millisecond
			}))
			require.NoError(rt, err)
			_ = r.Start(context.Background()) // the store may be away
			return r
		}
		type use struct {
			n     int
			scope string
			at    time.Time
		}
		var uses []use
		r := open()
		rt.Repeat(map[string]func(*rapid.T){
			"use": func(rt *rapid.T) {
				for range rapid.IntRange(1, 8).Draw(rt, "times") {
					q := b.request(rapid.IntRange(0, 5).Draw(rt, "token"))
					q.Scope.Name = rapid.SampledFrom([]string{"read", "write", "a:b"}).Draw(rt, "scope")
					forwarded := rapid.Bool().Draw(rt, "forwarded")
					require.NoError(rt, r.Use(q, forwarded))
					var n int
					_, err := fmt.Sscanf(string(q.TokenID), "tok_%d", &n)
					require.NoError(rt, err)
					u := use{n, q.Scope.Name, q.At}
					if !forwarded {
						u.scope = ""
					}
					uses = append(uses, u)
				}
			},
			"time passes": func(rt *rapid.T) {
				b.clock.pass(time.Duration(rapid.Int64Range(1, int64(3*time.Minute)).Draw(rt, "by")))
			},
			"bucket changes": func(rt *rapid.T) {
				b.bucket.Store(int64(rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour}).Draw(rt, "to")))
			},
			"the store fails": func(rt *rapid.T) {
				mu.Lock()
				failures = rapid.IntRange(1, 5).Draw(rt, "times")
				mu.Unlock()
			},
			"flush": func(*rapid.T) { b.flush(r) },
			"kill": func(*rapid.T) {
				b.disk.kill()
				_ = r.Close(ended())
				r = open()
			},
			"stop": func(*rapid.T) {
				_ = r.Close(context.Background())
				r = open()
			},
		})
		b.flush(r)
		require.NoError(rt, r.Close(context.Background()))
		require.Empty(rt, b.sink.broken)
		require.Empty(rt, b.sink.allGaps())
		explained := map[key]bool{}
		for _, u := range uses {
			found := false
			for k, f := range b.sink.facts {
				if k.token == token.ID(fmt.Sprintf("tok_%d", u.n)) && k.scope == u.scope && !u.at.Before(f.Bucket) && u.at.Before(f.Until) {
					found = true
					explained[k] = true
				}
			}
			require.True(rt, found, "a use is missing")
		}
		require.Len(rt, explained, len(b.sink.facts), "a fact that nobody caused")
		for id, run := range b.sink.runs {
			require.False(rt, run.StoppedAt.IsZero(), "run %s was not ended", id)
		}
	})
}
