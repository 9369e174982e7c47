package caddymodule

import (
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
