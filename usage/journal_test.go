package usage_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/usage"
)

// crash ends a run as SIGKILL does, and starts the next.
func (b *bench) crash(r *usage.Recorder, change ...func(*usage.Options)) *usage.Recorder {
	b.t.Helper()
	b.disk.kill()
	_ = r.Close(ended()) // only its goroutines: its handles are dead
	next := b.open(change...)
	b.flush(next)
	return next
}

// away keeps the sink from learning anything from a run that is to crash.
func (b *bench) away(run string) {
	b.sink.fail(func(string, bool) error {
		if b.runs > 0 && b.current() == run {
			return errAway
		}
		return nil
	})
}

func (b *bench) current() string { return fmt.Sprintf("run_%d", b.runs) }

func TestAKilledRunIsRecoveredWhole(t *testing.T) { // F1, F3, F35
	for _, sync := range []bool{false, true} {
		t.Run(fmt.Sprintf("sync %v", sync), func(t *testing.T) {
			b := newBench(t)
			b.away("run_1")
			r, err := usage.Open(b.options(func(o *usage.Options) { o.Sync = sync; o.SegmentSize = 500 }))
			require.NoError(t, err)
			for n := range 30 {
				b.use(r, n)
			}
			b.clock.pass(time.Minute)
			b.crash(r)
			b.requireUses(0, 30)
			require.Empty(t, b.sink.allGaps())
			require.Empty(t, b.disk.named(".bad"))
			require.Equal(t, noon, b.sink.run("run_1").StoppedAt, "when it was last known to be alive")
		})
	}
}

func TestAWriteThatAKillCutShortIsNoGap(t *testing.T) { // F1
	b := newBench(t)
	r := b.open()
	b.use(r, 1)
	b.disk.kill()
	for path, f := range b.disk.files {
		if strings.HasSuffix(path, ".seg") {
			f.data = append(f.data, 0, 0, 0, 90, 1, 2, 3) // nobody was told that this is written
		}
	}
	b.crash(r)
	b.requireUses(1, 2)
	require.Empty(t, b.sink.allGaps())
	require.Len(t, b.disk.named(".bad"), 1)
}

func TestLossOfPower(t *testing.T) { // F4
	for seed := range uint64(200) {
		b := newBench(t)
		chance := seeded(seed)
		b.away("run_1")
		synced := seed%2 == 0
		r, err := usage.Open(b.options(func(o *usage.Options) {
			o.Sync = synced
			o.SegmentSize = 600
			o.SyncInterval = time.Duration(chance(3)) * time.Millisecond
		}))
		require.NoError(t, err)
		for n := range 1 + chance(20) {
			b.use(r, n)
			b.clock.pass(time.Second)
		}
		used := int(b.clock.now().Sub(noon) / time.Second)
		b.disk.cutPower(chance)
		_ = r.Close(ended())
		died := b.clock.now()
		b.clock.pass(time.Hour)
		b.boot = usage.Boot{ID: "boot 2", At: b.clock.now().Add(-time.Minute)}
		next := b.open()
		b.flush(next)
		if synced {
			b.requireUses(0, used)
			continue
		}
		gaps := b.sink.allGaps()
		require.NotEmpty(t, gaps)
		for n := range used {
			at := noon.Add(time.Duration(n) * time.Second)
			in := slices.ContainsFunc(gaps, func(g token.Gap) bool { return !at.Before(g.From) && !at.After(g.To) })
			require.True(t, in || b.sink.has(b.request(n).TokenID, b.request(n).SecretID, "read"), "seed %d: use %d is neither there nor in a gap", seed, n)
		}
		require.True(t, slices.ContainsFunc(gaps, func(g token.Gap) bool { return g.To.After(died) }), "a gap ends after the power failed")
		require.NoError(t, next.Close(context.Background()))
	}
}

func TestAnUnknownBootCountsAsALossOfPower(t *testing.T) {
	b := newBench(t)
	b.boot = usage.Boot{}
	r := b.open()
	b.use(r, 1)
	b.crash(r)
	b.requireUses(1, 2)
	require.Len(t, b.sink.allGaps(), 1)
}

// journalOf2kB is what a killed run left, and how many uses it holds.
func journalOf2kB(t *testing.T) (*bench, int) {
	b := newBench(t)
	b.away("run_1")
	r, err := usage.Open(b.options())
	require.NoError(t, err)
	n := 0
	for ; len(b.segment()) < 2000; n++ {
		b.use(r, n)
	}
	b.disk.kill()
	_ = r.Close(ended())
	return b, n
}

func (b *bench) segment() []byte {
	b.disk.mu.Lock()
	defer b.disk.mu.Unlock()
	return slices.Clone(b.disk.files["/journal/run_1-00000001.seg"].data)
}

// check starts a gateway on a copy of the journal with its segment or its mark
// replaced, and says what became of it.
func (b *bench) check(uses int, file string, data []byte) (found int, gap bool) {
	b.t.Helper()
	c := newBench(b.t)
	c.runs = 1
	for path, f := range b.disk.files {
		c.disk.files[path] = &shimFile{data: slices.Clone(f.data)}
	}
	if data == nil {
		delete(c.disk.files, file)
	} else {
		c.disk.files[file].data = data
	}
	r, err := usage.Open(c.options())
	require.NoError(c.t, err)
	require.NoError(c.t, r.Close(context.Background()))
	for n := range uses {
		if c.sink.has(b.request(n).TokenID, b.request(n).SecretID, "read") {
			found++
		}
	}
	require.Len(c.t, c.sink.facts, found, "nothing is made up")
	for _, g := range c.sink.allGaps() {
		gap = gap || !g.To.Before(noon)
	}
	return found, gap
}

func TestTruncationAtEveryByte(t *testing.T) { // F5
	b, uses := journalOf2kB(t)
	whole := b.segment()
	last := 0
	for n := range len(whole) {
		found, gap := b.check(uses, "/journal/run_1-00000001.seg", slices.Clone(whole[:n]))
		require.True(t, gap, "cut at byte %d of %d", n, len(whole))
		require.GreaterOrEqual(t, found, last, "the valid prefix is recovered")
		last = found
	}
	require.Equal(t, uses-1, last)
	found, gap := b.check(uses, "/journal/run_1-00000001.seg", whole)
	require.Equal(t, uses, found)
	require.False(t, gap)
	_, gap = b.check(uses, "/journal/run_1-00000001.seg", nil)
	require.True(t, gap, "the segment is gone")
}

func TestAFlipOfEveryBit(t *testing.T) { // F5
	b, uses := journalOf2kB(t)
	whole := b.segment()
	step := 5 // coprime to 8: all bits of the bytes get their turn
	if os.Getenv("SALLYPORT_ROUNDS") != "" {
		step = 1
	}
	for bit := 0; bit < len(whole)*8; bit += step {
		data := slices.Clone(whole)
		data[bit/8] ^= 1 << (bit % 8)
		found, gap := b.check(uses, "/journal/run_1-00000001.seg", data)
		require.True(t, gap, "bit %d", bit)
		require.Less(t, found, uses)
	}
}

func TestADamagedMark(t *testing.T) { // F5
	b, uses := journalOf2kB(t)
	whole := slices.Clone(b.disk.files["/journal/run_1.mark"].data)
	for bit := 0; bit < len(whole)*8; bit += 3 {
		data := slices.Clone(whole)
		data[bit/8] ^= 1 << (bit % 8)
		found, _ := b.check(uses, "/journal/run_1.mark", data)
		require.Equal(t, uses, found)
	}
	for _, data := range [][]byte{nil, {}, make([]byte, 1024), []byte("garbage")} {
		found, gap := b.check(uses, "/journal/run_1.mark", data)
		require.Equal(t, uses, found)
		require.True(t, gap, "without a mark nobody knows how far the journal went")
	}
}

func TestJournalsThatAreNotOurs(t *testing.T) { // F5
	b, uses := journalOf2kB(t)
	whole := b.segment()
	other := slices.Clone(whole)
	other[9]++ // the version
	for name, data := range map[string][]byte{"version": other, "empty": {}, "garbage": []byte(strings.Repeat("rubbish ", 300))} {
		found, gap := b.check(uses, "/journal/run_1-00000001.seg", data)
		require.Zero(t, found, name)
		require.True(t, gap, name)
	}

	t.Run("of another node", func(t *testing.T) {
		b.runs = 1
		r := b.open(func(o *usage.Options) { o.Node = "node-2" })
		b.flush(r)
		require.Empty(t, b.sink.facts)
		require.Equal(t, "node-2", b.sink.allGaps()[0].Node)
		require.Equal(t, []string{"run_1-00000001.seg.bad", "run_1.mark.bad"}, b.disk.named(".bad"))
		require.Equal(t, usage.JournalDamaged, b.alarmed()[0])
	})
}

// A crash while damage is being put aside must not forget the gap.
func TestDamageIsNotForgottenByASecondCrash(t *testing.T) { // F5
	base, _ := journalOf2kB(t)
	whole := base.segment()
	for stop := 1; ; stop++ {
		b := newBench(t)
		b.runs = 1
		for path, f := range base.disk.files {
			b.disk.files[path] = &shimFile{data: slices.Clone(f.data)}
		}
		b.disk.files["/journal/run_1-00000001.seg"].data = slices.Clone(whole[:300])
		steps := 0
		b.disk.fault = func(string, string) error {
			if steps++; steps >= stop {
				return errDead
			}
			return nil
		}
		b.away("run_2")
		r, err := usage.Open(b.options())
		b.disk.kill()
		if err == nil {
			_ = r.Close(ended())
		}
		survived := steps < stop
		b.disk.fault = nil
		next := b.open()
		b.flush(next)
		require.True(t, slices.ContainsFunc(b.sink.allGaps(), func(g token.Gap) bool { return g.Reason == "journal damaged" }), "crash at step %d", stop)
		require.NoError(t, next.Close(context.Background()))
		if survived {
			break
		}
	}
}

func TestADiskThatIsFull(t *testing.T) { // F6
	for name, op := range map[string]string{"full": "write", "read-only": "create", "sync fails": "sync"} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			r := b.open(func(o *usage.Options) { o.Sync = true })
			b.use(r, 1)
			full := func(o, path string) error {
				if strings.HasSuffix(path, ".seg") && (o == op || o == "create" || o == "write" && op == "create") {
					return syscall.ENOSPC
				}
				return nil
			}
			b.disk.set(func() { b.disk.fault = full })
			b.clock.pass(time.Minute)
			for n := 2; n < 20; n++ {
				b.use(r, n) // the gateway serves on
			}
			require.Equal(t, usage.JournalFailed, b.alarmed()[0])
			require.Equal(t, noon.Add(time.Minute), r.Stats().GapSince)
			b.flush(r)
			b.requireUses(1, 20) // the store is told from memory
			require.Equal(t, noon.Add(time.Minute), b.sink.allGaps()[0].From)

			b.clock.pass(time.Minute)
			b.disk.set(func() { b.disk.fault = nil })
			require.Eventually(t, func() bool { return r.Stats().GapSince.IsZero() }, 30*time.Second, time.Millisecond)
			require.Contains(t, b.alarmed(), usage.JournalRecovered)
			b.use(r, 20)
			b.crash(r)
			b.requireUses(1, 21)
			gaps := b.sink.allGaps()
			require.True(t, slices.ContainsFunc(gaps, func(g token.Gap) bool {
				return g.From.Equal(noon.Add(time.Minute)) && g.To.Equal(noon.Add(2*time.Minute)) && g.Blind && g.Reason == "journal could not be written"
			}), gaps)
		})
	}
}

func TestAGapThatIsOpenOutlivesACrash(t *testing.T) { // F6
	b := newBench(t)
	b.away("run_1")
	r, err := usage.Open(b.options())
	require.NoError(t, err)
	b.disk.set(func() {
		b.disk.fault = func(op, path string) error {
			if strings.HasSuffix(path, ".seg") && op != "read" {
				return syscall.ENOSPC // the mark is overwritten in place
			}
			return nil
		}
	})
	b.clock.pass(time.Minute)
	b.use(r, 1)
	require.Eventually(t, func() bool { return len(b.alarmed()) > 0 }, 30*time.Second, time.Millisecond)
	b.disk.set(func() { b.disk.fault = nil; b.disk.life++ })
	b.clock.pass(time.Minute)
	b.crash(r)
	gaps := b.sink.allGaps()
	require.Len(t, gaps, 1)
	require.Equal(t, noon.Add(time.Minute), gaps[0].From)
	require.Equal(t, noon.Add(2*time.Minute), gaps[0].To)
}

func TestASyncThatFailedIsNotTriedAgain(t *testing.T) { // F8
	b := newBench(t)
	r := b.open(func(o *usage.Options) { o.SyncInterval = time.Millisecond })
	failed := false
	b.disk.set(func() {
		b.disk.fault = func(op, path string) error {
			if op == "sync" && path == "run_1-00000001.seg" {
				if failed {
					t.Error("synced a second time")
				}
				failed = true
				return syscall.EIO
			}
			return nil
		}
	})
	b.clock.pass(time.Second)
	b.use(r, 1)
	require.Eventually(t, func() bool { return slices.Contains(b.disk.named(".seg"), "run_1-00000002.seg") }, 30*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return slices.Contains(b.alarmed(), usage.JournalRecovered) }, 30*time.Second, time.Millisecond)
	b.use(r, 2)
	b.flush(r)
	b.requireUses(1, 3)
	require.Equal(t, noon, b.sink.allGaps()[0].From, "since the last sync that worked")
	require.Equal(t, []usage.AlarmKind{usage.JournalFailed, usage.JournalRecovered}, b.alarmed())
}

func TestADiskThatHangs(t *testing.T) { // F7
	for name, firm := range map[string]bool{"for a moment": false, "for long": true} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			r := b.open(func(o *usage.Options) {
				if firm {
					o.Watchdog = 5 * time.Millisecond
				}
			})
			b.use(r, 0)
			thaw := make(chan struct{})
			b.disk.set(func() { b.disk.hang = thaw })
			b.clock.pass(time.Second)
			for n := 1; n < 200; n++ {
				b.use(r, n) // a single request waits, and not for long
			}
			b.flush(r)
			b.requireUses(0, 200) // from memory
			if firm {
				b.clock.pass(time.Second)
				require.Eventually(t, func() bool { return slices.Contains(b.alarmed(), usage.JournalHangs) }, 30*time.Second, time.Millisecond)
				b.flush(r)
				require.Equal(t, "journal disk did not answer", b.sink.allGaps()[0].Reason)
			}
			b.disk.set(func() { b.disk.hang = nil })
			close(thaw)
			require.Eventually(t, func() bool { s := r.Stats(); return s.Unwritten == 0 && s.GapSince.IsZero() }, 30*time.Second, time.Millisecond)
			b.use(r, 200)
			next := b.crash(r)
			b.requireUses(0, 201)
			require.Equal(t, firm, len(b.sink.allGaps()) > 0, "a disk that came back lost nothing")
			require.NoError(t, next.Close(context.Background()))
		})
	}
}

// S1: of the uses that were let pass while the disk hung, none is forgotten.
func TestAKillWhileTheDiskHangs(t *testing.T) { // F1, F7
	b := newBench(t)
	b.away("run_1")
	r, err := usage.Open(b.options())
	require.NoError(t, err)
	b.use(r, 1)
	thaw := make(chan struct{})
	b.disk.set(func() { b.disk.hang = thaw })
	b.clock.pass(time.Minute)
	b.use(r, 2)
	b.disk.kill()
	b.disk.set(func() { b.disk.hang = nil })
	close(thaw)
	b.clock.pass(time.Minute)
	next := b.crash(r)
	b.requireUses(1, 2)
	gaps := b.sink.allGaps()
	require.Len(t, gaps, 1)
	require.Equal(t, noon.Add(time.Minute), gaps[0].From)
	require.Equal(t, noon.Add(2*time.Minute), gaps[0].To)
	b.crash(next)
	require.Len(t, b.sink.allGaps(), 1, "the witness is heard once")
}

// A crash in the middle of removing what was handed over leaves no damage.
func TestAKillWhileARunIsRemoved(t *testing.T) { // F3
	for stop := range 12 {
		b := newBench(t)
		b.away("run_1")
		r, err := usage.Open(b.options(func(o *usage.Options) { o.SegmentSize = 300 }))
		require.NoError(t, err)
		for n := range 20 {
			b.use(r, n)
		}
		b.disk.kill()
		_ = r.Close(ended())
		removed := 0
		b.disk.set(func() {
			b.disk.fault = func(op, path string) error {
				if strings.HasPrefix(path, "run_1") && (op == "remove" || op == "rename") {
					if removed++; removed > stop {
						return errDead
					}
				}
				return nil
			}
		})
		r = b.open()
		b.flush(r)
		b.disk.set(func() { b.disk.fault = nil })
		b.crash(r)
		b.requireUses(0, 20)
		require.Empty(t, b.sink.allGaps(), "stopped after %d", stop)
	}
}

func TestRequiredRecordingRefusesRatherThanLeavesAGap(t *testing.T) { // F9
	b := newBench(t)
	r := b.open(func(o *usage.Options) { o.Required = true })
	b.use(r, 1)
	b.disk.set(func() { b.disk.fault = func(string, string) error { return syscall.EROFS } })
	require.ErrorIs(t, r.Use(b.request(2), true), usage.ErrUnrecorded)
	require.ErrorIs(t, r.Use(b.request(2), true), usage.ErrUnrecorded)
	require.NoError(t, r.Use(b.request(1), true), "what is recorded already is")
	b.disk.set(func() { b.disk.fault = nil })
	require.Eventually(t, func() bool { return r.Use(b.request(2), true) == nil }, 30*time.Second, time.Millisecond)
}

func TestADirectoryThatCannotBeWritten(t *testing.T) { // F9
	b := newBench(t)
	b.disk.fault = func(string, string) error { return syscall.EROFS }
	_, err := usage.Open(b.options())
	require.ErrorIs(t, err, syscall.EROFS)
	require.ErrorContains(t, err, "make the directory")

	r := b.open(func(o *usage.Options) { o.Degraded = true })
	b.use(r, 1)
	b.clock.pass(time.Minute)
	b.flush(r)
	b.requireUses(1, 2)
	require.Equal(t, noon, b.sink.allGaps()[0].From)
	require.Equal(t, usage.JournalFailed, b.alarmed()[0])
	b.disk.set(func() { b.disk.fault = nil })
	require.Eventually(t, func() bool { return r.Stats().GapSince.IsZero() }, 30*time.Second, time.Millisecond)
	b.use(r, 2)
	b.crash(r)
	b.requireUses(1, 3)
}

func TestASecondProcessIsRefused(t *testing.T) { // F10
	dir := filepath.Join(t.TempDir(), "journal")
	o := usage.Options{Dir: dir, Node: "node-1", Run: "run_1", Sink: newMemory()}
	r, err := usage.Open(o)
	require.NoError(t, err)
	o.Run, o.Degraded = "run_2", true
	_, err = usage.Open(o)
	require.ErrorIs(t, err, usage.ErrLocked)
	require.ErrorContains(t, err, "another running process")
	require.NoError(t, r.Close(context.Background()))
	r, err = usage.Open(o)
	require.NoError(t, err)
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	require.NoError(t, r.Close(context.Background()))
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for name, change := range map[string]func(*usage.Options){
		"directory": func(o *usage.Options) { o.Dir = "" },
		"name":      func(o *usage.Options) { o.Node = "" },
		"letters":   func(o *usage.Options) { o.Run = "../run" },
		"sink":      func(o *usage.Options) { o.Sink = nil },
	} {
		o := usage.Options{Dir: t.TempDir(), Node: "n", Run: "run_1", Sink: newMemory()}
		change(&o)
		_, err := usage.Open(o)
		require.ErrorContains(t, err, name)
	}
	b := newBench(t)
	r := b.open()
	b.use(r, 1)
	b.disk.kill()
	_ = r.Close(ended())
	b.runs--
	_, err := usage.Open(b.options())
	require.ErrorContains(t, err, "used before")
}

// Journals hold no secret and no address.
func TestJournalsHoldNoAddress(t *testing.T) {
	b := newBench(t)
	r := b.open()
	b.use(r, 1)
	for _, f := range b.disk.files {
		require.NotContains(t, string(f.data), "192.0.2.1")
		require.NotContains(t, string(f.data), string([]byte{192, 0, 2, 1}))
	}
}

// F1, F5: a process that is killed while it makes its mark has let nothing pass, and
// leaves no blind time.
func TestAMarkThatWasNeverWrittenIsNoDamage(t *testing.T) {
	for name, data := range map[string][]byte{"empty": nil, "half": make([]byte, 512), "whole": make([]byte, 1024)} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.disk.files["/journal/run_0.mark"] = &shimFile{data: data}
			r := b.open()
			b.flush(r)
			require.Empty(t, b.sink.allGaps())
			require.Empty(t, b.alarmed())
		})
	}
}
