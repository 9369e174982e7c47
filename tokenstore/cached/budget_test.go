package cached_test

import (
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/tokenstore/cached"
)

func TestFailuresAreSpentWithinASlidingMinute(t *testing.T) {
	f := cached.NewFailures()
	now := time.Date(2026, 1, 1, 0, 0, 30, 0, time.UTC)
	for n := range 20 {
		require.False(t, f.Spent(client, 20, now), "after %d", n)
		f.Add(client, now)
	}
	require.True(t, f.Spent(client, 20, now))
	require.False(t, f.Spent(client, 21, now), "a limit that is raised holds at once")
	require.True(t, f.Spent(client, 5, now), "and one that is lowered")
	require.False(t, f.Spent(client, 0, now), "no limit")
	require.False(t, f.Spent(netip.MustParseAddr("192.0.2.8"), 20, now))
	require.True(t, f.Spent(netip.MustParseAddr("::ffff:192.0.2.7"), 20, now))
	require.True(t, f.Spent(client, 20, now.Add(30*time.Second)))
	require.False(t, f.Spent(client, 20, now.Add(35*time.Second)))
	require.False(t, f.Spent(client, 1, now.Add(90*time.Second)))
}

func TestFailuresOfOneIPv6NetworkCountTogether(t *testing.T) {
	f := cached.NewFailures()
	now := time.Unix(1e9, 0)
	f.Add(netip.MustParseAddr("2001:db8::1"), now)
	f.Add(netip.MustParseAddr("2001:db8::ffff:2"), now)
	require.True(t, f.Spent(netip.MustParseAddr("2001:db8::3"), 2, now))
	require.False(t, f.Spent(netip.MustParseAddr("2001:db8:0:1::3"), 1, now))
	f.Add(netip.Addr{}, now)
	require.True(t, f.Spent(netip.Addr{}, 1, now))
	for _, lone := range []string{"::1", "0.0.0.0", "255.255.255.255", "0.0.0.1"} {
		require.False(t, f.Spent(netip.MustParseAddr(lone), 1, now), lone)
		f.Add(netip.MustParseAddr(lone), now)
		require.True(t, f.Spent(netip.MustParseAddr(lone), 1, now), lone)
		require.False(t, f.Spent(netip.MustParseAddr(lone), 2, now), lone)
	}
}

func TestAClockThatIsSetBackForgivesNoFailures(t *testing.T) {
	f := cached.NewFailures()
	now := time.Unix(1e9, 0)
	for range 20 {
		f.Add(client, now)
	}
	require.True(t, f.Spent(client, 20, now.Add(-time.Hour)))
	require.False(t, f.Spent(client, 20, now.Add(2*time.Minute)))
}

// I9: no number of addresses takes more memory.
func TestFailuresOfAnyNumberOfAddressesTakeTheSameMemory(t *testing.T) {
	f := cached.NewFailures()
	now := time.Unix(1e9, 0)
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	for n := range 10 * cached.FailureRoom {
		f.Add(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), now)
	}
	require.Less(t, heap()-before, int64(1<<20))
	runtime.KeepAlive(f)
}

// Whatever a client does, it gets no more than its limit over any number of whole
// windows, and never more than twice the limit within one.
func TestNoOrderOfFailuresExceedsTheLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 30).Draw(t, "limit")
		f := cached.NewFailures()
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		now := start
		var passed []time.Time
		for range rapid.IntRange(1, 300).Draw(t, "tries") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "ms")) * time.Millisecond)
			if !f.Spent(client, limit, now) {
				f.Add(client, now)
				passed = append(passed, now)
			}
		}
		windows := int(now.Sub(start)/time.Minute) + 1
		if len(passed) > limit*windows {
			t.Fatalf("%d passed in %d minutes at %d a minute", len(passed), windows, limit)
		}
		for i, first := range passed {
			n := 0
			for _, later := range passed[i:] {
				if later.Sub(first) < time.Minute {
					n++
				}
			}
			if n > 2*limit {
				t.Fatalf("%d passed within a minute at %d a minute", n, limit)
			}
		}
	})
}

func TestFailuresCanBeCountedConcurrently(t *testing.T) {
	f := cached.NewFailures()
	now := time.Unix(1e9, 0)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 1000 {
				f.Add(client, now)
				f.Spent(client, 20, now)
			}
		})
	}
	wait.Wait()
	require.True(t, f.Spent(client, 8000, now))
	require.False(t, f.Spent(client, 8001, now))
}
