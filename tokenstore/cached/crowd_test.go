package cached_test

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/cached"
)

// A node that was just started knows nobody. Many good tokens behind one address
// must then wait for each other, and none be refused.
func TestACrowdOfGoodTokensBehindOneAddressIsSlowedAndNotRefused(t *testing.T) {
	r := newRig(t)
	const crowd = 500
	for n := range crowd {
		r.inner.issue(n)
	}
	r.sync()
	from := netip.MustParseAddr("192.0.2.1")
	var wg sync.WaitGroup
	var refused atomic.Int64
	for n := range crowd {
		wg.Go(func() {
			if _, err := r.Resolve(t.Context(), digest(n), from); err != nil {
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	require.Zero(t, refused.Load())
}

// The crowd's patience is nothing for those who guess: once the units that are
// out have found nothing, the budget is spent.
func TestACrowdThatGuessesIsStillShed(t *testing.T) {
	r := newRig(t)
	from := netip.MustParseAddr("192.0.2.1")
	var wg sync.WaitGroup
	var shed, unknown atomic.Int64
	for n := range 200 {
		wg.Go(func() {
			switch _, err := r.Resolve(t.Context(), digest(1_000_000+n), from); {
			case isAny(err, cached.ErrThrottled) != nil:
				shed.Add(1)
			case isAny(err, tokenstore.ErrNotFound) != nil:
				unknown.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 10, unknown.Load())
	require.EqualValues(t, 190, shed.Load())
}

// Nor is it patience with any number of them: against a slow store they would
// pile up.
func TestOnlySoManyWaitForTheBudget(t *testing.T) {
	const flood = 3 * cached.MaxWaiting
	r := newRig(t)
	release := make(chan struct{})
	r.inner.onLookup = func(context.Context) { <-release }
	from := netip.MustParseAddr("192.0.2.1")
	var wg sync.WaitGroup
	for n := range flood {
		wg.Go(func() { _, _ = r.Resolve(t.Context(), digest(1_000_000+n), from) })
	}
	require.Eventually(t, func() bool { return r.Stats().Throttled == flood-10-cached.MaxWaiting }, ceiling, time.Millisecond)
	close(release)
	wg.Wait()
}
