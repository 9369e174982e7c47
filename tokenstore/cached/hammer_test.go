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

// -hammer.edits 20000000 takes an hour or two and makes 10^8 interleavings (S7).
var hammerEdits = flag.Int("hammer.edits", 20_000, "how many changes the race test makes")

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
}

// hammer changes tokens while others ask for them, and counts the answers, and
// those among them that were older than what had been acknowledged before
// the question.
func hammer(inner *fakeStore, c answering, edits int) (answers, stale int64) {
	const slots, writers, readers, editsOfOne = 16, 4, 8, 16
	// Rows are slow to come back, so that changes overtake them.
	inner.onLookup = func(context.Context) { runtime.Gosched() }
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
	var asked, behind atomic.Int64
	var reading, writing sync.WaitGroup
	for r := range readers {
		reading.Go(func() {
			for n := r; !done.Load(); n++ {
				h := current[n%slots].Load()
				version, ended := h.version.Load(), h.ended.Load()
				rec, err := c.record(h.digest)
				if err != nil {
					runtime.Gosched()
					continue
				}
				asked.Add(1)
				if rec.Token.Version < version || ended && rec.Token.State != token.Revoked {
					behind.Add(1)
				}
				if n%64 == 0 {
					c.disturb()
				}
			}
		})
	}
	for w := range writers {
		writing.Go(func() {
			for n := range edits / writers {
				i := w + writers*(n/editsOfOne%(slots/writers))
				h := current[i].Load()
				last := n%editsOfOne == editsOfOne-1
				var version int64
				c.change(h.digest, func() {
					inner.commit(h.digest, func(r *tokenstore.Record) {
						if rename(r); last {
							r.Token.State = token.Revoked
						}
						version = r.Token.Version
					})
				})
				h.version.Store(version)
				if last {
					h.ended.Store(true)
					runtime.Gosched()
					current[i].Store(issue())
				}
			}
		})
	}
	writing.Wait()
	done.Store(true)
	reading.Wait()
	return asked.Load(), behind.Load()
}

// S7.
func TestNoRaceLetsAChangeThatWasAcknowledgedBeForgotten(t *testing.T) {
	edits := *hammerEdits
	if raceEnabled || testing.Short() {
		edits = min(edits, 2000)
	}
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
	answers, stale := hammer(inner, answering{
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
	t.Logf("%d answers, %d from memory, %d of them stale", answers, s.Stats().Hits, stale)
	require.Positive(t, s.Stats().Hits)
	require.Positive(t, s.Stats().Evictions)
	require.Zero(t, stale)
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
		answers, stale := hammer(inner, answering{
			record:  p.record,
			change:  func(d token.Digest, f func()) { f(); p.forget(d) },
			disturb: func() {},
		}, 2000)
		t.Logf("%d answers, %d of them stale", answers, stale)
		if stale > 0 {
			return
		}
	}
	t.Error("the race test finds nothing where there is something to be found")
}
