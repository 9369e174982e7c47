package usage_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/usage"
)

func TestMain(m *testing.M) {
	if childMain() {
		return
	}
	goleak.VerifyTestMain(m)
}

var (
	noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	v4   = netip.MustParseAddr("192.0.2.1")
)

// clock is set by the test.
type clock struct{ wall, up atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.wall.Store(noon.UnixNano())
	return c
}

func (c *clock) now() time.Time        { return time.Unix(0, c.wall.Load()).UTC() }
func (c *clock) uptime() time.Duration { return time.Duration(c.up.Load()) }
func (c *clock) pass(d time.Duration)  { c.wall.Add(int64(d)); c.up.Add(int64(d)) }

// bench is a machine with a disk and a store on which runs follow each other.
type bench struct {
	t      *testing.T
	disk   *shim
	sink   *memory
	clock  *clock
	boot   usage.Boot
	bucket atomic.Int64
	runs   int

	mu     sync.Mutex
	alarms []usage.AlarmKind
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, disk: newShim(), sink: newMemory(), clock: newClock()}
	b.boot = usage.Boot{ID: "boot 1", At: noon.Add(-time.Hour)}
	t.Cleanup(func() { require.Empty(t, b.sink.broken) })
	return b
}

func (b *bench) options(change ...func(*usage.Options)) usage.Options {
	b.runs++
	disk := b.disk.view()
	o := usage.Options{
		Dir: "/journal", WitnessDir: "/witness", Node: "node-1", Run: token.ID(fmt.Sprintf("run_%d", b.runs)), Sink: process{b.sink, disk},
		Bucket: func() time.Duration { return time.Duration(b.bucket.Load()) },
		Now:    b.clock.now, Uptime: b.clock.uptime, Boot: func() usage.Boot { return b.boot }, Files: disk,
		// Passes are made by Flush alone unless a test says otherwise.
		Interval: time.Hour, SyncInterval: time.Hour, Retry: time.Millisecond, Watchdog: time.Hour,
		Alarm: func(a usage.Alarm) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.alarms = append(b.alarms, a.Kind)
		},
	}
	for _, c := range change {
		c(&o)
	}
	return o
}

func (b *bench) alarmed() []usage.AlarmKind {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]usage.AlarmKind(nil), b.alarms...)
}

func (b *bench) open(change ...func(*usage.Options)) *usage.Recorder {
	b.t.Helper()
	r, err := usage.Open(b.options(change...))
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = r.Close(ended()) }) // its goroutines must end, whatever became of it
	require.NoError(b.t, r.Start(context.Background()))
	return r
}

// ended is a context that gives a last pass no time.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func (b *bench) flush(r *usage.Recorder) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	require.NoError(b.t, r.Flush(ctx))
}

func (b *bench) request(n int) *usage.Request {
	return &usage.Request{
		TokenID: token.ID(fmt.Sprintf("tok_%d", n)), SecretID: token.ID(fmt.Sprintf("sec_%d", n)),
		Scope: token.ReadScope, Address: v4, At: b.clock.now(),
	}
}

func (b *bench) use(r *usage.Recorder, n int) {
	b.t.Helper()
	require.NoError(b.t, r.Use(b.request(n), true))
}

func (b *bench) requireUses(from, to int) {
	b.t.Helper()
	for n := from; n < to; n++ {
		require.True(b.t, b.sink.has(b.request(n).TokenID, b.request(n).SecretID, "read"), "use %d is missing", n)
	}
}

func TestAUseIsHandedOverOnceABucket(t *testing.T) { // P9
	b := newBench(t)
	r := b.open()
	for range 50 {
		for n := range 20 {
			b.use(r, n)
		}
	}
	b.flush(r)
	b.requireUses(0, 20)
	require.Equal(t, 20, b.sink.rows)
	require.Len(t, b.sink.counts, 20)
	require.EqualValues(t, 1000, b.sink.total(func(c token.Count) bool { return c.Outcome == "allowed" && c.Address == "192.0.2.1" }))
	require.Equal(t, noon, b.sink.run("run_1").Covered)

	b.use(r, 3)
	b.flush(r)
	require.Equal(t, 20, b.sink.rows, "the same bucket tells nothing new")

	b.clock.pass(12 * time.Hour)
	b.use(r, 3)
	b.flush(r)
	require.Equal(t, 21, b.sink.rows)
	f := b.sink.facts[key{"tok_3", "sec_3", "read", noon.Add(12 * time.Hour)}]
	require.Equal(t, token.Fact{
		TokenID: "tok_3", SecretID: "sec_3", Scope: token.ReadScope,
		Bucket: noon.Add(12 * time.Hour), Until: noon.Add(36 * time.Hour), First: noon.Add(12 * time.Hour),
	}, f)
}

// M7: what is refused for its scope alone keeps the token alive.
func TestWhatIsUse(t *testing.T) {
	b := newBench(t)
	r := b.open()
	require.NoError(t, r.Use(b.request(1), true))
	require.NoError(t, r.Use(b.request(2), false))
	require.NoError(t, r.Refuse(b.request(3), token.InsufficientScope))
	require.NoError(t, r.Refuse(b.request(4), token.ReadOnlyToken))
	require.NoError(t, r.Refuse(b.request(5), token.AddressNotAllowed))
	require.NoError(t, r.Refuse(b.request(6), token.RevokedToken))
	r.Count(&usage.Request{Address: v4, At: noon}, "unknown_token")
	b.flush(r)

	require.True(t, b.sink.has("tok_1", "sec_1", "read"))
	for n := 2; n <= 4; n++ {
		q := b.request(n)
		require.True(t, b.sink.has(q.TokenID, q.SecretID, ""), n)
		require.False(t, b.sink.has(q.TokenID, q.SecretID, "read"), n)
	}
	require.Len(t, b.sink.facts, 4)
	for _, code := range []string{"insufficient_scope", "read_only_token", "ip_not_allowed", "revoked_token", "unknown_token"} {
		require.EqualValues(t, 1, b.sink.total(func(c token.Count) bool { return c.Outcome == code }), code)
	}
}

func TestAddressesAreBounded(t *testing.T) { // I9
	b := newBench(t)
	r := b.open()
	for i := range 200 {
		q := b.request(1)
		q.Address = netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		require.NoError(t, r.Use(q, true))
		q.Address = netip.MustParseAddr(fmt.Sprintf("2001:db8:0:%x::%x", i%10, i))
		require.NoError(t, r.Use(q, true))
		q.Address = netip.MustParseAddr("::ffff:10.0.0.0%eth0")
		require.NoError(t, r.Use(q, true))
	}
	require.NoError(t, r.Use(&usage.Request{TokenID: "tok_1", SecretID: "sec_1", At: noon}, true))
	b.flush(r)
	seen := map[string]bool{}
	for c := range b.sink.counts {
		seen[c.Address] = true
	}
	require.Len(t, seen, 65)
	require.True(t, seen["other"] && seen["10.0.0.0"] && seen["2001:db8::/64"])
	require.EqualValues(t, 601, b.sink.total(func(token.Count) bool { return true }))
}

func TestCountersAreBoundedAndFactsAreNot(t *testing.T) { // I9
	b := newBench(t)
	r := b.open(func(o *usage.Options) { o.MaxCells = 100 })
	for n := range 1000 {
		b.use(r, n)
		b.use(r, n)
		r.Count(&usage.Request{Address: netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}), At: noon}, "unknown_token")
	}
	require.LessOrEqual(t, r.Stats().Cells, int64(102))
	b.flush(r)
	b.requireUses(0, 1000)
	require.EqualValues(t, 3000, b.sink.total(func(token.Count) bool { return true }))
}

func TestABatchToldTwiceIsCountedOnce(t *testing.T) {
	b := newBench(t)
	r := b.open()
	fails := 3
	b.sink.fail(func(call string, done bool) error {
		if call == "commit" && done && fails > 0 {
			fails--
			return errAway // taken, but nobody heard of it
		}
		return nil
	})
	for n := range 10 {
		b.use(r, n)
	}
	b.flush(r)
	require.EqualValues(t, 10, b.sink.total(func(token.Count) bool { return true }))
	b.requireUses(0, 10)
}

func TestBucketsShrinkWhileRunning(t *testing.T) {
	b := newBench(t)
	r := b.open()
	b.use(r, 1)
	b.bucket.Store(int64(time.Second))
	b.flush(r) // looks at the length
	b.use(r, 1)
	b.flush(r)
	require.Contains(t, b.sink.facts, key{"tok_1", "sec_1", "read", noon.Truncate(24 * time.Hour)})
	f := b.sink.facts[key{"tok_1", "sec_1", "read", noon}]
	require.Equal(t, noon.Add(time.Second), f.Until)
	require.Equal(t, time.Second, r.Stats().Bucket)
}

func TestBucketsLieWithinADay(t *testing.T) {
	for _, d := range []time.Duration{-1, 0, 1, time.Second, 1333 * time.Millisecond, time.Minute * 32, 23 * time.Hour, 25 * time.Hour} {
		got := usage.ClampBucket(d)
		require.Zero(t, (24*time.Hour)%got, d)
		if d > 100*time.Millisecond {
			require.LessOrEqual(t, got, d)
			require.Greater(t, got, min(d, 24*time.Hour)/3)
		}
	}
}

func TestARequestThatCameLateDoesNotTurnTheBucketBack(t *testing.T) {
	b := newBench(t)
	b.bucket.Store(int64(time.Hour))
	r := b.open()
	old := b.request(1)
	b.clock.pass(3 * time.Hour)
	b.use(r, 2)
	require.NoError(t, r.Use(old, true))
	b.flush(r)
	f := b.sink.facts[key{"tok_1", "sec_1", "read", noon.Add(3 * time.Hour)}]
	require.Equal(t, noon.Add(3*time.Hour), f.First)
}

// A use that is under way while the drain looks counts as later than the watermark.
func TestNoUseFallsBehindTheWatermark(t *testing.T) { // I1
	b := newBench(t)
	r := b.open()
	q := b.request(1)
	b.clock.pass(time.Minute)
	b.flush(r)
	covered := b.sink.run("run_1").Covered
	require.NoError(t, r.Use(q, true))
	b.flush(r)
	f := b.sink.facts[key{"tok_1", "sec_1", "read", noon.Truncate(24 * time.Hour)}]
	require.False(t, f.First.Before(covered))
}

func TestAStoreThatIsAwayLosesNothing(t *testing.T) {
	b := newBench(t)
	b.sink.fail(func(string, bool) error { return errAway })
	o := b.options()
	r, err := usage.Open(o)
	require.NoError(t, err)
	require.ErrorIs(t, r.Start(context.Background()), errAway)
	for n := range 50 {
		b.use(r, n)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	require.ErrorIs(t, r.Flush(ctx), context.DeadlineExceeded)
	cancel()
	require.Equal(t, usage.StoreBehind, b.alarmed()[0])
	b.clock.pass(time.Minute)
	require.ErrorIs(t, r.Close(context.Background()), errAway)
	require.ErrorIs(t, r.Close(context.Background()), errAway, "twice is the same")

	// Power is lost while the gateway is stopped: it stopped in order.
	b.disk.cutPower(seeded(1))
	b.boot = usage.Boot{ID: "boot 2", At: b.clock.now()}
	b.sink.fail(nil)
	next := b.open()
	b.flush(next)
	b.requireUses(0, 50)
	require.Empty(t, b.sink.allGaps())
	run := b.sink.run("run_1")
	require.Equal(t, noon, run.StartedAt, "told afterwards, from the journal")
	require.Equal(t, noon.Add(time.Minute), run.StoppedAt)
	require.Equal(t, []string{"run_2-00000001.seg"}, b.disk.named(".seg"))
}

func TestACleanStopLeavesNothingBehind(t *testing.T) {
	b := newBench(t)
	r := b.open()
	b.use(r, 1)
	b.clock.pass(time.Hour)
	require.NoError(t, r.Close(context.Background()))
	require.NoError(t, r.Close(context.Background()))
	b.requireUses(1, 2)
	require.Equal(t, noon.Add(time.Hour), b.sink.run("run_1").StoppedAt)
	require.Empty(t, b.disk.named(".seg"))
	require.Empty(t, b.disk.named(".mark"))
	require.ErrorIs(t, r.Use(b.request(2), true), usage.ErrClosed)
	require.Empty(t, b.alarmed())
}

func TestSegmentsGoOnceTheyAreHandedOver(t *testing.T) {
	b := newBench(t)
	r := b.open(func(o *usage.Options) { o.SegmentSize = 1000; o.BatchSize = 7 })
	for n := range 200 {
		b.use(r, n)
	}
	require.Greater(t, len(b.disk.named(".seg")), 10)
	b.flush(r)
	require.Len(t, b.disk.named(".seg"), 1)
	b.requireUses(0, 200)
	b.disk.kill()
	next := b.open()
	b.flush(next)
	require.Empty(t, b.sink.allGaps(), "segments that are gone on purpose are not missing")
}

func TestAClockThatWasSetLeavesAGap(t *testing.T) { // F25, F26
	for name, by := range map[string]time.Duration{"ahead": 46 * 24 * time.Hour, "back": -3 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			r := b.open()
			b.use(r, 1)
			b.flush(r)
			b.clock.pass(time.Hour) // also sleep passes
			b.flush(r)
			require.Empty(t, b.sink.allGaps())
			b.clock.wall.Add(int64(by))
			b.flush(r)
			require.Len(t, b.sink.allGaps(), 1)
			require.Equal(t, b.clock.now(), b.sink.allGaps()[0].To)
			b.use(r, 2)
			b.flush(r)
			b.requireUses(2, 3)
			require.Equal(t, b.clock.now(), b.sink.run("run_1").Covered)
			require.Contains(t, b.alarmed(), usage.ClockSet)
		})
	}
}

func TestAnIDThatDoesNotFitIsRefused(t *testing.T) {
	b := newBench(t)
	r := b.open()
	q := b.request(1)
	q.TokenID = token.ID(make([]byte, 5000))
	require.Error(t, r.Use(q, true))
	b.use(r, 2)
	b.flush(r)
	b.requireUses(2, 3)
	require.Empty(t, b.sink.allGaps())
}

func TestRecordingWhileBucketsChangeAndTheDrainRuns(t *testing.T) {
	b := newBench(t)
	b.bucket.Store(int64(time.Second))
	r := b.open(func(o *usage.Options) {
		o.Interval = time.Millisecond
		o.SegmentSize = 4000
		o.SyncInterval = time.Millisecond
	})
	var sent atomic.Int64
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			for i := range 400 {
				if i%50 == 0 {
					b.clock.pass(300 * time.Millisecond)
				}
				q := b.request((w + i) % 40)
				if r.Use(q, true) != nil {
					panic("refused")
				}
				sent.Add(1)
			}
		})
	}
	workers.Wait()
	require.NoError(t, r.Close(context.Background()))
	b.requireUses(0, 40)
	// Counts are approximate: a request may outlive its bucket by two passes.
	counted := b.sink.total(func(token.Count) bool { return true })
	require.LessOrEqual(t, counted, sent.Load())
	require.Greater(t, counted, sent.Load()*9/10)
	require.Empty(t, b.sink.allGaps())
}

// A gateway learns how long its buckets are when it has been recording already. What
// it records from then on must not count until the end of the day.
func TestAShorterBucketHoldsAtOnceWhenAskedFor(t *testing.T) {
	b := newBench(t)
	r := b.open()
	require.NoError(t, r.Use(b.request(1), true))
	b.bucket.Store(int64(time.Second))
	r.Rebucket()
	require.NoError(t, r.Use(b.request(2), true))
	require.Equal(t, time.Second, r.Stats().Bucket)
	b.flush(r)
	until := map[token.ID]time.Time{}
	for _, f := range b.sink.facts {
		until[f.TokenID] = f.Until
	}
	require.Equal(t, noon.Truncate(24*time.Hour).Add(24*time.Hour), until["tok_1"])
	require.Equal(t, noon.Add(time.Second), until["tok_2"])
}

func TestCountsAreNotLostWhileTheirTableGrows(t *testing.T) {
	b := newBench(t)
	r := b.open()
	const workers, each, tokens = 4, 3000, 2000
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := range each {
				if r.Use(b.request((i*7+w*31)%tokens), true) != nil {
					t.Error("refused")
				}
			}
		})
	}
	all.Wait()
	b.flush(r)
	var sum int64
	for _, n := range b.sink.counts {
		sum += n
	}
	require.EqualValues(t, workers*each, sum)
	require.EqualValues(t, tokens, r.Stats().Cells)
}

// Counters are told apart by a limited number of scopes. Use is not.
func TestScopesBeyondThoseThatAreCountedApartAreRemembered(t *testing.T) {
	b := newBench(t)
	r := b.open()
	const scopes = usage.MaxKinds + 100
	for range 2 {
		for i := range scopes {
			q := b.request(1)
			q.Scope.Name = fmt.Sprintf("scope:%d", i)
			require.NoError(t, r.Use(q, true))
		}
	}
	b.flush(r)
	require.Len(t, b.sink.facts, scopes)
	var sum int64
	for _, n := range b.sink.counts {
		sum += n
	}
	require.EqualValues(t, 2*scopes, sum)
}

func TestACounterIsOneLineOfTheCache(t *testing.T) { // P4
	require.EqualValues(t, 64, usage.CellSize)
}
