package api

// Health says whether this gateway can do its work. It names no token, no
// address and no path (D25).
type Health struct {
	Status HealthStatus `json:"status" enum:"ready,degraded,not_ready" doc:"The worst of the checks. ready and degraded answer 200: requests are decided; not_ready answers 503: they are not."`
	Checks []Check      `json:"checks" nullable:"false" doc:"What was looked at."`
}

// HealthStatus is how well something does its work.
type HealthStatus string

// From best to worst. A gateway that is degraded still does what it promises,
// for a time: taking it out of a load balancer would do more harm than leaving it.
const (
	Ready    HealthStatus = "ready"
	Degraded HealthStatus = "degraded"
	NotReady HealthStatus = "not_ready"
)

// Check is one thing that health looks at.
type Check struct {
	Name   string       `json:"name" doc:"What was looked at." example:"store"`
	Status HealthStatus `json:"status" enum:"ready,degraded,not_ready" doc:"How it stands."`
	Detail string       `json:"detail,omitempty" doc:"What is wrong, what it means for requests, and how to mend it."`
}

// HealthOf sums checks up.
func HealthOf(checks ...Check) Health {
	h := Health{Status: Ready, Checks: append([]Check{}, checks...)}
	for _, c := range checks {
		if c.Status == NotReady || h.Status == Ready {
			h.Status = c.Status
		}
	}
	return h
}
