package cached_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/cached"
)

// filled is a cache that holds n tokens, and their digests in random order.
func filled(tb testing.TB, n int, maxBytes int64) (*cached.Store, []token.Digest) {
	tb.Helper()
	ring := testRing(tb)
	s := cached.New(newFakeStore(ring), ring, cached.Options{MaxBytes: maxBytes})
	tb.Cleanup(func() { s.Close() })
	require.NoError(tb, s.Start(tb.Context()))
	digests := make([]token.Digest, n)
	for i := range n {
		digests[i] = digest(i)
		s.Fill(record(ring, "a", i))
		if i%10_000 == 0 {
			s.Settle() // lest ristretto's buffer run over
		}
	}
	s.Settle()
	rand.New(rand.NewPCG(1, 2)).Shuffle(n, func(i, j int) { digests[i], digests[j] = digests[j], digests[i] })
	return s, digests
}

// P4: what of it is the cache's. HMAC and the comparison are in it.
func BenchmarkPeek(b *testing.B) {
	for _, n := range []int{1, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			before := heapInUse()
			s, digests := filled(b, n, max(int64(n)*1000, 8<<20))
			perToken := float64(heapInUse()-before-int64(n*32)) / float64(n)
			b.Run("serial", func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if _, ok := s.Peek(digests[i%n]); !ok {
						b.Fatal("no hit")
					}
				}
				if n > 1 {
					b.ReportMetric(perToken, "B/token") // P5
				}
			})
			b.Run("parallel", func(b *testing.B) {
				b.ReportAllocs()
				var start atomic.Int64
				b.RunParallel(func(pb *testing.PB) {
					for i := int(start.Add(7919)); pb.Next(); i++ {
						if _, ok := s.Peek(digests[i%n]); !ok {
							b.Error("no hit")
							return
						}
					}
				})
			})
			b.Run("while the feed moves", func(b *testing.B) {
				// Every hit is compared with the marks anew.
				for i := 0; b.Loop(); i++ {
					if i%1000 == 0 {
						s.Wake()
					}
					if _, ok := s.Peek(digests[i%n]); !ok {
						b.Fatal("no hit")
					}
				}
			})
		})
	}
}

// What no cache that is keyed so can do without: the HMAC, and the clock.
func BenchmarkLookupValue(b *testing.B) {
	ring := testRing(b)
	d := digest(1)
	for b.Loop() {
		ring.Lookup("a", d)
	}
}

// P7: unknown secrets, most of them shed.
func BenchmarkUnknown(b *testing.B) {
	s, _ := filled(b, 1000, 64<<20)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		d := digest(1_000_000 + i)
		if _, ok := s.Peek(d); ok {
			b.Fatal("a hit")
		}
		if _, err := s.Resolve(context.Background(), d, client); err == nil {
			b.Fatal("found")
		}
	}
}

func BenchmarkUptime(b *testing.B) {
	read := cached.SystemUptime()
	for b.Loop() {
		read()
	}
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// MaxBytes is to be what is used, about.
func TestTheCacheCountsTheMemoryThatItTakes(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory of its own")
	}
	const n = 50_000
	ring := testRing(t)
	before := heapInUse()
	s := cached.New(newFakeStore(ring), ring, cached.Options{MaxBytes: 1 << 30})
	defer s.Close()
	require.NoError(t, s.Start(t.Context()))
	empty := heapInUse()
	for i := range n {
		s.Fill(record(ring, "a", i))
		if i%10_000 == 0 {
			s.Settle()
		}
	}
	s.Settle()
	used := heapInUse() - empty
	counted := s.Stats().Bytes
	t.Logf("empty %d KiB; %d tokens: used %d bytes each, counted %d", (empty-before)>>10, n, used/n, counted/n)
	require.EqualValues(t, n, s.Stats().Entries)
	require.InEpsilon(t, used, counted, 0.3)
}

func TestTheCacheHoldsNoMoreThanItMay(t *testing.T) {
	s, digests := filled(t, 20_000, 4<<20)
	require.LessOrEqual(t, s.Stats().Bytes, int64(4<<20))
	require.Positive(t, s.Stats().Evictions)
	s.ForgetRecent()
	held := 0
	for _, d := range digests {
		if _, ok := s.Peek(d); ok {
			held++
		}
	}
	require.EqualValues(t, held, s.Stats().Entries)
	require.Greater(t, held, 2000)
}

// F42, P7: the flood that memory must not notice.
func TestAFloodOfUnknownSecretsTakesNoMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory of its own")
	}
	r := newRig(t)
	r.warm(1)
	flood := func(from, to int) {
		for n := from; n < to; n++ {
			r.state(digest(1_000_000 + n))
			if n%100 == 0 {
				r.clock.advance(10 * time.Millisecond)
			}
		}
	}
	flood(0, 20_000)
	before := heapInUse()
	flood(20_000, 300_000)
	require.Less(t, heapInUse()-before, int64(4<<20))
	require.Positive(t, r.Stats().Throttled)
}
