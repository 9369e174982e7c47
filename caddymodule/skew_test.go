package caddymodule

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/tokenstore"
)

func TestTheOffsetOfAClockIsTheLeastThatIsCertain(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct{ before, after, want time.Duration }{
		{0, 0, 0},
		{-time.Minute, time.Minute, 0},
		{90 * time.Second, 91 * time.Second, 90 * time.Second},
		{-91 * time.Second, -90 * time.Second, -90 * time.Second},
		{0, time.Hour, 0}, // the store took an hour to answer
		{time.Second, time.Hour, time.Second},
		{-time.Hour, -time.Second, -time.Second},
		{91 * time.Second, 90 * time.Second, 90 * time.Second}, // it was set meanwhile
	} {
		require.Equal(t, c.want, skewOf(at.Add(c.before), at, at.Add(c.after)), "%+v", c)
	}
}

// Who is more than a minute off the store's clock is not ready.
func TestAClockThatIsFarOffMakesAGatewayUnready(t *testing.T) {
	for _, c := range []struct {
		offset time.Duration
		want   api.HealthStatus
		detail string
	}{
		{0, api.Ready, ""},
		{maxSkew, api.Ready, ""},
		{-maxSkew, api.Ready, ""},
		{maxSkew + time.Second, api.NotReady, "1m1s ahead of the store's"},
		{-maxSkew - time.Second, api.NotReady, "1m1s behind the store's"},
	} {
		check := skewCheck(c.offset)
		require.Equal(t, "clock", check.Name)
		require.Equal(t, c.want, check.Status, c.offset)
		require.Contains(t, check.Detail, c.detail)
		require.Equal(t, c.want, api.HealthOf(check).Status)
	}
}

// Each report measures the clock anew, so that one that was set right is ready again.
func TestReportsMeasureTheClock(t *testing.T) {
	h := newGatehouse(t)
	var ahead time.Duration
	now := func() time.Time {
		var at time.Time
		require.NoError(t, h.inner.Read(t.Context(), func(tx *tokenstore.Tx) (err error) {
			at, err = tx.Time()
			return err
		}))
		return at.Add(ahead)
	}
	n, err := startNode(t.Context(), "node-skewed", h.inner, h.Ring, time.Hour, now)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.close(context.Background())) })
	for _, ahead = range []time.Duration{time.Hour, -time.Hour, 0} {
		require.NoError(t, n.report(t.Context()))
		require.InDelta(t, ahead.Seconds(), n.skew().Seconds(), 30)
		require.Equal(t, ahead != 0, skewCheck(n.skew()).Status == api.NotReady)
	}
}
