package cached_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Who holds a secret that is in memory is no stranger, whatever the store says now:
// only what has ended is as if it had never been.
func TestKnownSecretsAreThoseInMemoryThatHaveNotEnded(t *testing.T) {
	r := newRig(t)
	kept, edited, revoked, retired := r.warm(1), r.warm(2), r.warm(3), r.warm(4)
	r.inner.commit(edited, rename)
	r.inner.commit(revoked, revoke)
	r.inner.commit(retired, retire)
	unseen := r.inner.issue(5)
	r.sync()
	lookups := r.inner.lookups.Load()
	check := func(when string) {
		t.Helper()
		require.True(t, r.Known(kept), when)
		require.True(t, r.Known(edited), when)
		require.False(t, r.Known(revoked), when)
		require.False(t, r.Known(retired), when)
		require.False(t, r.Known(unseen), when)
		require.False(t, r.Known(digest(6)), when)
		require.Equal(t, lookups, r.inner.lookups.Load(), "the store is not asked")
	}
	check("while the store is there")
	r.inner.down.Store(true)
	r.clock.advance(time.Hour)
	_, ok := r.Peek(kept)
	require.False(t, ok)
	check("while it is not")
	require.NoError(t, r.Close())
	require.False(t, r.Known(kept), "closed")
}
