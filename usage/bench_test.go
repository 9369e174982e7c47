//go:build unix

package usage_test

import (
	"context"
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/usage"
)

func warm(tb testing.TB, tokens int) (*usage.Recorder, []usage.Request) {
	o := usage.Options{
		Dir: tb.TempDir(), Node: "node-1", Run: "run_1", Sink: newMemory(),
		Bucket: func() time.Duration { return 24 * time.Hour }, Now: func() time.Time { return noon },
		MaxCells: 2 * tokens,
	}
	r, err := usage.Open(o)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = r.Close(context.Background()) })
	requests := make([]usage.Request, tokens)
	for i := range requests {
		requests[i] = usage.Request{
			TokenID: token.ID("tok_01j9z3n4p5q6r7s8t9v" + strconv.Itoa(100000+i)), SecretID: token.ID("sec_01j9z3n4p5q6r7s8t9v" + strconv.Itoa(100000+i)),
			Scope: token.ReadScope, Address: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), At: noon,
		}
		require.NoError(tb, r.Use(&requests[i], true))
	}
	return r, requests
}

func TestRecordingDoesNotAllocate(t *testing.T) { // P4
	r, requests := warm(t, 100)
	other := requests[0]
	for i := range 100 { // one address too many for a token
		other.Address = netip.AddrFrom4([4]byte{11, 0, 0, byte(i)})
		require.NoError(t, r.Use(&other, true))
	}
	i := 0
	for name, f := range map[string]func() error{
		"known":   func() error { i++; return r.Use(&requests[i%100], true) },
		"refused": func() error { return r.Refuse(&requests[0], token.InsufficientScope) },
		"other":   func() error { return r.Use(&other, true) },
		"unknown": func() error { r.Count(&usage.Request{Address: v4, At: noon}, "unknown_token"); return nil },
	} {
		require.NoError(t, f())
		require.Zero(t, testing.AllocsPerRun(1000, func() { _ = f() }), name)
	}
}

// The requests are walked through at random, so that they are cold, as what the
// recorder knows of them is: walk is what that alone costs.
func BenchmarkUse(b *testing.B) {
	for _, tokens := range []int{1, 1000, 100_000, 1_000_000} {
		b.Run(strconv.Itoa(tokens), func(b *testing.B) {
			r, requests := warm(b, tokens)
			runtime.GC()
			defer debug.SetGCPercent(debug.SetGCPercent(-1)) // what filled the memory is not looked at here
			seed := maphash.MakeSeed()
			walk := func(use func(q *usage.Request) bool) func(b *testing.B) {
				return func(b *testing.B) {
					b.ReportAllocs()
					before := processorTime()
					b.RunParallel(func(pb *testing.PB) {
						for i := rand.IntN(tokens); pb.Next(); i = (i + 7919) % tokens {
							if !use(&requests[i]) {
								b.Error("refused")
							}
						}
					})
					b.ReportMetric(float64(processorTime()-before)/float64(b.N), "cpu-ns/op")
				}
			}
			b.Run("walk", walk(func(q *usage.Request) bool {
				return maphash.String(seed, string(q.SecretID)) != 0 && q.At.Equal(noon) && q.Address.IsValid() && q.Scope.Name != ""
			}))
			b.Run("record", walk(func(q *usage.Request) bool { return r.Use(q, true) == nil }))
		})
	}
}

// processorTime is what the process has used. On a machine that others use too it
// says more than the clock does.
func processorTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkFirstUse(b *testing.B) {
	r, requests := warm(b, 1)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		q := requests[0]
		q.TokenID, q.SecretID = token.ID("tok_"+strconv.Itoa(i)), token.ID("sec_"+strconv.Itoa(i))
		if r.Use(&q, true) != nil {
			b.Error("refused")
		}
	}
}
