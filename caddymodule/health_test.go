package caddymodule

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/tokenstore/cached"
)

func TestHealthSaysWhatAStoreThatDoesNotAnswerMeans(t *testing.T) {
	for _, row := range []struct {
		age, staleFor time.Duration
		want          api.HealthStatus
	}{
		{0, 0, api.Ready},
		{storeLate, 0, api.Ready},
		{storeLate + 1, 0, api.NotReady},
		{storeLate + 1, 10 * time.Minute, api.Degraded},
		{10 * time.Minute, 10 * time.Minute, api.Degraded},
		{10*time.Minute + 1, 10 * time.Minute, api.NotReady},
	} {
		h := healthOf(cached.Stats{FeedAge: row.age}, row.staleFor)
		require.Equal(t, row.want, h.Status, "age %s, stale for %s", row.age, row.staleFor)
		require.Equal(t, row.want == api.Ready, h.Checks[0].Detail == "")
	}
}

func TestHealthSaysWhenNotificationsAreNotHeard(t *testing.T) {
	require.Equal(t, api.Ready, healthOf(cached.Stats{}, 0, hearingCheck(true)).Status)
	h := healthOf(cached.Stats{}, 0, hearingCheck(false))
	require.Equal(t, api.Degraded, h.Status)
	last := h.Checks[len(h.Checks)-1]
	require.Equal(t, "notifications", last.Name)
	require.Contains(t, last.Detail, "polling, every 500 ms")
	require.Contains(t, last.Detail, "pooler")
}

// I12: who is warming is right already, and says that it is slower.
func TestHealthSaysHowFarTheCacheIsFilled(t *testing.T) {
	for _, row := range []struct {
		warm   cached.WarmStats
		want   api.HealthStatus
		detail string
	}{
		{cached.WarmStats{State: cached.Cold}, api.Ready, ""},
		{cached.WarmStats{State: cached.Warm, Records: 7}, api.Ready, ""},
		{cached.WarmStats{State: cached.Full, Records: 7}, api.Ready, ""},
		{cached.WarmStats{State: cached.Warming, Records: 70_000, Took: 1234 * time.Millisecond}, api.Degraded, "warming: 70000 tokens were read into memory in 1.2s"},
		{cached.WarmStats{State: cached.Warming, Failures: 3, Err: errors.New("postgres://user:word@host")}, api.Degraded, "3 times in a row"},
	} {
		h := healthOf(cached.Stats{Warm: row.warm}, time.Minute)
		require.Equal(t, row.want, h.Status)
		check := h.Checks[1]
		require.Equal(t, "cache", check.Name)
		require.Equal(t, row.want, check.Status)
		require.Contains(t, check.Detail, row.detail)
		require.Equal(t, row.detail == "", check.Detail == "")
		require.NotContains(t, check.Detail, "word", "an error of the store is not for everyone")
	}
	require.Equal(t, api.NotReady, healthOf(cached.Stats{FeedAge: time.Hour, Warm: cached.WarmStats{State: cached.Warm}}, time.Minute).Status)
}
