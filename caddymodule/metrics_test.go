package caddymodule

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
)

// gathered is what a pedantic registry, such as Caddy's, makes of a collector.
func gathered(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			name := family.GetName()
			for _, label := range metric.GetLabel() {
				name += " " + label.GetName() + "=" + label.GetValue()
			}
			values[name] = metric.GetGauge().GetValue()
		}
	}
	return values
}

func TestMetricsSayHowTheGatewayStands(t *testing.T) {
	var s *serving
	c := collector{serving: func() *serving { return s }}
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, c.register(registry))
	require.Equal(t, map[string]float64{"sallyport_readiness": 2}, gathered(t, registry), "not open yet")

	s = &serving{
		health: func() api.Health {
			return api.HealthOf(api.Check{Name: "store", Status: api.Degraded}, api.Check{Name: "notifications", Status: api.Ready})
		},
		clockOffset: func() time.Duration { return -2500 * time.Millisecond },
		feedAge:     func() time.Duration { return 7500 * time.Millisecond },
	}
	want := map[string]float64{
		"sallyport_readiness": 1, "sallyport_check check=store": 1, "sallyport_check check=notifications": 0,
		"sallyport_feed_age_seconds": 7.5, "sallyport_clock_offset_seconds": -2.5,
	}
	require.Equal(t, want, gathered(t, registry))

	require.NoError(t, c.register(registry), "two configurations may share a registry")
	next := prometheus.NewPedanticRegistry()
	require.NoError(t, c.register(next))
	require.Equal(t, want, gathered(t, next), "a reload brings a registry of its own")
	require.Equal(t, 2.0, level("new"), "what is not known is trouble")
}
