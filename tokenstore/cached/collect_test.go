package cached_test

import (
	"runtime"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore/cached"
)

// A reload that opens the store anew closes the old cache, which must then give
// its memory back.
func TestAClosedCacheIsCollected(t *testing.T) {
	inner := func() weak.Pointer[fakeStore] {
		ring := testRing(t)
		inner := newFakeStore(ring)
		s := cached.New(inner, ring, cached.Options{MaxBytes: 1 << 20})
		require.NoError(t, s.Start(t.Context()))
		d := inner.issue(1)
		_, err := s.Resolve(t.Context(), d, client)
		require.NoError(t, err)
		require.NoError(t, s.Close())
		return weak.Make(inner)
	}()
	for end := time.Now().Add(ceiling); inner.Value() != nil; runtime.GC() {
		require.True(t, time.Now().Before(end), "something keeps the closed cache")
		time.Sleep(time.Millisecond)
	}
}
