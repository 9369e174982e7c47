package test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	bounds "github.com/sallyport/sallyport/test/bench/fleet"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
)

// I2, S3 to S6, S8, S22, F11 to F15, F28, in small, and without a judgement of
// how fast: what make bench measures has to work, and must not happen does not.
func TestWhatAFleetPromisesHolds(t *testing.T) {
	const revocations, streams, rounds = 60, 3, 1
	f, err := bounds.Measure(t.Context(), bounds.Options{
		Binary: binary, Server: pgtest.Start(t), Revocations: revocations,
		Streams: streams, Known: 50, Outage: 3 * time.Second, Stale: 3 * time.Second, Rounds: rounds,
		Progress: func(what string) { t.Log(what) },
	})
	require.NoError(t, err)
	t.Log("\n" + f.Table())
	within := func(what string, n int, times bounds.Times) {
		t.Helper()
		require.Len(t, times, n, what)
		require.Less(t, times.Worst(), ceiling, what)
	}
	for _, r := range []*bounds.Revocations{f.Notified, f.Deaf} {
		within("refused by the node that was asked", revocations, r.Asked)
		for _, times := range r.Others {
			within("refused by each of the others", revocations*2/3, times)
		}
		require.Zero(t, r.Back, "what was refused once is never accepted again")
	}
	for _, s := range []*bounds.Streams{f.StreamsNotified, f.StreamsDeaf} {
		within("WebSockets cut", 3*streams, s.WebSocket)
		within("event streams cut", 3*streams, s.SSE)
		within("gRPC streams cut", 3*streams, s.GRPC)
	}
	require.Positive(t, f.Suspended.Asked)
	require.Zero(t, f.Suspended.Accepted, "F28")
	require.Positive(t, f.Outage.Asked)
	require.Equal(t, f.Outage.Asked, f.Outage.Served, "S8: all known tokens go on working")
	require.Len(t, f.Recoveries, 3)
	for _, r := range f.Recoveries {
		within("fresh after the store was "+r.Fault, 3*rounds, r.Fresh)
		within("a revocation holds after the store was "+r.Fault, 3*rounds, r.Revoked)
	}
	require.Len(t, f.Stale, 3)
	for _, s := range f.Stale {
		require.Positive(t, s.Asked, s.Fault)
		require.Zero(t, s.Accepted, "S5: the store was %s", s.Fault)
		require.Positive(t, s.Last, "known tokens worked first: the store was %s", s.Fault)
	}
}
