package usage

import (
	"hash/maphash"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/token"
)

// epoch is what is known of one bucket. It only grows; the next bucket has a new one.
type epoch struct {
	start, until time.Time
	// The same in nanoseconds of Unix time, for the request path.
	from, to int64
	length   time.Duration

	cells     cells
	facts     table[factKey, fact]
	addresses table[token.ID, addresses]
	maxCells  int64

	// drained is how often the counts of an epoch that is over were taken.
	drained int
}

type factKey struct {
	secret, token token.ID
	scope         string // empty: only authenticated
}

// fact is a use in this bucket.
type fact struct {
	// known: it is in the journal, or a gap stands for it.
	known atomic.Bool
	// group is the write that is under way.
	group atomic.Pointer[group]
}

func newEpoch(start time.Time, length time.Duration, maxCells int) *epoch {
	until := start.Add(length)
	return &epoch{
		start: start, until: until, from: start.UnixNano(), to: until.UnixNano(),
		length: length, maxCells: int64(maxCells),
	}
}

// bucketAt is the start of the bucket that a time lies in.
func bucketAt(t time.Time, length time.Duration) time.Time { return t.UTC().Truncate(length) }

// clampBucket makes a length from the outside one that works: a whole part of a day,
// so that every bucket lies within one UTC day.
func clampBucket(d time.Duration) time.Duration {
	if d <= 0 || d >= longestBucket {
		return longestBucket
	}
	d = max(d, shortestBucket)
	parts := (longestBucket + d - 1) / d
	for longestBucket%parts != 0 {
		parts++
	}
	return longestBucket / parts
}

// holds says whether requests of a time are counted here. One that comes a little
// late is: it is let pass now, not then.
func (e *epoch) holds(at int64) bool {
	const late = int64(time.Minute)
	return at < e.to && at >= e.from-late
}

// hashes make keys spread in a way that nobody outside can foresee.
type hashes struct {
	seed maphash.Seed
	salt uint64
}

func newHashes() hashes {
	seed := maphash.MakeSeed()
	return hashes{seed: seed, salt: maphash.String(seed, "salt") | 1}
}

// factor is any odd number whose bits are spread well.
const factor = 0x9e3779b97f4a7c15

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

func (h *hashes) fact(k *factKey) uint64 {
	id := string(k.secret)
	if id == "" {
		id = string(k.token)
	}
	return mix(maphash.String(h.seed, id)^h.salt, maphash.String(h.seed, k.scope)|1) | 1
}

// cell goes on from the hash of the kind.
func (h *hashes) cell(kind uint64, k *cellKey) uint64 {
	id := string(k.secret)
	if id == "" {
		id = string(k.token)
	}
	return mix(maphash.String(h.seed, id)^kind, h.salt^k.from.bits^uint64(k.from.family)<<56)
}

func (h *hashes) token(id token.ID) uint64 { return maphash.String(h.seed, string(id)) | 1 }
