package cached_test

import (
	"context"
	"encoding/binary"
	"flag"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/ristretto/v2"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/cached"
)

// go test ./tokenstore/cached -run TestNoRace -v -timeout 0 -hammer.interleavings 100000000
// is the whole of S7, and takes minutes.
var hammerInterleavings = flag.Int64("hammer.interleavings", 20_000, "how many interleavings the race test meets at least")

// answering is a cache before a fake store, as the race test sees it. change
// returns when the change is said to hold.
type answering struct {
	record func(token.Digest) (*tokenstore.Record, error)
	change func(token.Digest, func())
	// disturb throws entries out, as a full cache does.
	disturb func()
}

// hammered is a token that is edited some times and then revoked, with what was
// acknowledged of that.
type hammered struct {
	digest  token.Digest
	version atomic.Int64
	ended   atomic.Bool
	// Changes of it that began, and that were acknowledged.
	begun, acknowledged atomic.Int64
}

// tally counts the answers of a race.
type tally struct {
	// answers is all of them; interleavings is the pairs of a change and a reader
	// who had a question about the same token under way at some moment between
	// the beginning of the change and its acknowledgement. What the same reader
	// asks again during the same change is judged too, as is what meets no change,
	// but counts no more.
	answers, interleavings int64
	// stale is those that were older than what had been acknowledged before the
	// question.
	stale int64
}

func (t *tally) add(u tally) {
	t.answers += u.answers
	t.interleavings += u.interleavings
	t.stale += u.stale
}

// hammer changes tokens while others ask for them.
func hammer(inner *fakeStore, c answering, edits int) (sum tally) {
	const slots, writers, readers, editsOfOne = 8, 4, 8, 16
	// Rows are slow to come back, so that changes overtake them.
	inner.onLookup = func(context.Context) { runtime.Gosched() }
	inner.onChanges = func(context.Context) error { runtime.Gosched(); return nil }
	var next atomic.Int64
	issue := func() *hammered {
		n := int(next.Add(1))
		c.change(digest(n), func() { inner.issue(n) })
		return &hammered{digest: digest(n)}
	}
	var current [slots]atomic.Pointer[hammered]
	for i := range current {
		current[i].Store(issue())
	}
	var done atomic.Bool
	var tallies [readers]tally
	var reading, writing sync.WaitGroup
	for r := range readers {
		reading.Go(func() {
			var mine tally
			var met [slots]struct {
				token *hammered
				begun int64
			}
			for n := r; !done.Load(); n++ {
				h := current[n%slots].Load()
				acknowledged := h.acknowledged.Load()
				version, ended := h.version.Load(), h.ended.Load()
				rec, err := c.record(h.digest)
				if err != nil {
					runtime.Gosched()
					continue
				}
				mine.answers++
				last := &met[n%slots]
				if begun := h.begun.Load(); begun > acknowledged && (last.token != h || last.begun != begun) {
					last.token, last.begun = h, begun
					mine.interleavings++
				}
				if rec.Token.Version < version || ended && rec.Token.State != token.Revoked {
					mine.stale++
				}
				if n%64 == 0 {
					c.disturb()
				}
				// On few cores whoever does not yield runs for milliseconds, and
				// meets no more than one moment of a change.
				runtime.Gosched()
			}
			tallies[r] = mine
		})
	}
	for w := range writers {
		writing.Go(func() {
			for n := range edits / writers {
				i := w + writers*(n/editsOfOne%(slots/writers))
				h := current[i].Load()
				last := n%editsOfOne == editsOfOne-1
				var version int64
				h.begun.Add(1)
				c.change(h.digest, func() {
					inner.commit(h.digest, func(r *tokenstore.Record) {
						if rename(r); last {
							r.Token.State = token.Revoked
						}
						version = r.Token.Version
					})
				})
				h.version.Store(version)
				h.ended.Store(last)
				h.acknowledged.Add(1)
				if last {
					runtime.Gosched()
					current[i].Store(issue())
				}
			}
		})
	}
	writing.Wait()
	done.Store(true)
	reading.Wait()
	for _, t := range tallies {
		sum.add(t)
	}
	return sum
}

// S7.
func TestNoRaceLetsAChangeThatWasAcknowledgedBeForgotten(t *testing.T) {
	want, edits := *hammerInterleavings, 200_000
	if want < 1_000_000 {
		edits = 2000
	}
	if raceEnabled || testing.Short() {
		want = min(want, 5000)
	}
	var sum tally
	var hits, evictions, changes int64
	began := time.Now()
	// Rounds, each with a cache and a store of its own: what was revoked is kept
	// for ever, and so would fill the memory.
	for round := 0; sum.interleavings < want; round++ {
		of, stats := hammerRound(t, edits)
		sum.add(of)
		changes += int64(edits)
		hits += int64(stats.Hits)
		evictions += stats.Evictions
		require.Zero(t, sum.stale)
		if round%25 == 0 || sum.interleavings >= want {
			t.Logf("%d interleavings in %d changes and %d answers, %d of them from memory, %d stale, %s",
				sum.interleavings, changes, sum.answers, hits, sum.stale, time.Since(began).Round(time.Second))
		}
	}
	require.Positive(t, hits)
	require.Positive(t, evictions)
}

func hammerRound(t *testing.T, edits int) (tally, cached.Stats) {
	t.Helper()
	ring := testRing(t)
	inner := newFakeStore(ring)
	s := cached.New(inner, ring, cached.Options{
		MaxBytes: 16 << 10, // a few entries
		Poll:     time.Millisecond,
		FreshFor: time.Hour, // so that only what was taken in counts
	})
	defer s.Close()
	s.LimitFloors(8)
	require.NoError(t, s.Start(t.Context()))
	sum := hammer(inner, answering{
		record: func(d token.Digest) (*tokenstore.Record, error) {
			if rec, ok := s.Peek(d); ok {
				return rec, nil
			}
			return s.Resolve(context.Background(), d, client)
		},
		change: func(_ token.Digest, f func()) {
			if err := s.Write(context.WithValue(context.Background(), changeKey{}, f), nil); err != nil {
				t.Error(err)
			}
		},
		disturb: s.ForgetRecent,
	}, edits)
	return sum, s.Stats()
}

// plain is ristretto as one would use it: read through, and delete what changed.
type plain struct {
	inner *fakeStore
	cache *ristretto.Cache[uint64, *tokenstore.Record]
}

func newPlain(t *testing.T, inner *fakeStore) *plain {
	t.Helper()
	cache, err := ristretto.NewCache(&ristretto.Config[uint64, *tokenstore.Record]{
		NumCounters: 1000, MaxCost: 100, BufferItems: 64, IgnoreInternalCost: true,
	})
	require.NoError(t, err)
	t.Cleanup(cache.Close)
	return &plain{inner, cache}
}

func plainKey(d token.Digest) uint64 { return binary.LittleEndian.Uint64(d[:]) }

func (p *plain) record(d token.Digest) (*tokenstore.Record, error) {
	if rec, ok := p.cache.Get(plainKey(d)); ok {
		return rec, nil
	}
	l, _ := p.inner.ring.Lookup("a", d)
	rec, err := p.inner.Lookup(context.Background(), l)
	if err == nil {
		p.cache.Set(plainKey(d), rec, 1)
	}
	return rec, err
}

func (p *plain) forget(d token.Digest) {
	p.cache.Del(plainKey(d))
	p.cache.Wait()
}

// The tests above could be blind. So the same races are run against ristretto
// used plainly, where they must show.
func TestPlainRistrettoLetsARevokedTokenBackIn(t *testing.T) {
	inner := newFakeStore(testRing(t))
	p := newPlain(t, inner)
	d := inner.issue(1)
	read, release := make(chan struct{}), make(chan struct{})
	inner.onLookup = holdFirst(read, release)
	loaded := make(chan error)
	go func() { _, err := p.record(d); loaded <- err }()
	<-read
	inner.commit(d, revoke)
	p.forget(d)
	close(release)
	require.NoError(t, <-loaded)
	p.cache.Wait()
	rec, err := p.record(d)
	require.NoError(t, err)
	require.Equal(t, token.Active, rec.Token.State, "revoked, and served")
}

func TestTheRaceTestFindsThePlainWayWanting(t *testing.T) {
	inner := newFakeStore(testRing(t))
	p := newPlain(t, inner)
	for range 100 {
		sum := hammer(inner, answering{
			record:  p.record,
			change:  func(d token.Digest, f func()) { f(); p.forget(d) },
			disturb: func() {},
		}, 2000)
		t.Logf("%d answers, %d of them stale", sum.answers, sum.stale)
		if sum.stale > 0 {
			return
		}
	}
	t.Error("the race test finds nothing where there is something to be found")
}
