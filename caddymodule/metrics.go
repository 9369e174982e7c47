package caddymodule

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport/sallyport/api"
)

var (
	readinessMetric = prometheus.NewDesc("sallyport_readiness",
		"How well this gateway can do its work: 0 ready, 1 degraded, 2 not ready. It is the worst of the checks.", nil, nil)
	checkMetric = prometheus.NewDesc("sallyport_check",
		"How one of the things that readiness looks at stands: 0 ready, 1 degraded, 2 not ready.", []string{"check"}, nil)
	clockMetric = prometheus.NewDesc("sallyport_clock_offset_seconds",
		"How far this gateway's clock is ahead of the store's, as far as that is certain; negative: behind.", nil, nil)
	feedAgeMetric = prometheus.NewDesc("sallyport_feed_age_seconds",
		"For how long this gateway may have missed changes of tokens: the time since it last knew all of them.", nil, nil)
)

// collector tells Prometheus how the gateway stands. It keeps no state, but looks
// when it is asked, like health does: so it survives every reload, although each
// configuration comes with a registry of its own, and nothing has to be undone
// when a configuration fails to load. Its only label is the name of a check.
type collector struct {
	serving func() *serving
}

// register adds the collector to the registry of a configuration.
func (c collector) register(registry prometheus.Registerer) error {
	err := registry.Register(c)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		return nil
	}
	return err
}

// Describe names the metrics.
func (collector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{readinessMetric, checkMetric, feedAgeMetric, clockMetric} {
		to <- desc
	}
}

// Collect looks at the gateway.
func (c collector) Collect(to chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	s := c.serving()
	if s == nil { // the store is not open yet
		gauge(readinessMetric, level(api.NotReady))
		return
	}
	health := s.health()
	gauge(readinessMetric, level(health.Status))
	for _, check := range health.Checks {
		gauge(checkMetric, level(check.Status), check.Name)
	}
	gauge(feedAgeMetric, s.feedAge().Seconds())
	gauge(clockMetric, s.clockOffset().Seconds())
}

// level is a status as a number that grows with the trouble. A status that this
// build does not know is trouble.
func level(s api.HealthStatus) float64 {
	switch s {
	case api.Ready:
		return 0
	case api.Degraded:
		return 1
	default:
		return 2
	}
}
