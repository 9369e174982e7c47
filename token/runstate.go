package token

import "time"

// RunState is how a run is doing.
type RunState string

// The states of a run.
const (
	RunServing RunState = "serving" // it was heard of a moment ago
	// RunSilent: it was not heard of for a while, and may still be letting requests
	// pass without the store.
	RunSilent  RunState = "silent"
	RunLost    RunState = "lost"    // it lets nothing pass any more, and what it saw last is not known
	RunStopped RunState = "stopped" // cleanly: all that it saw is known
	RunWaived  RunState = "waived"  // lost, and that was accepted by an operator
)

// State judges a run at a time by the store's clock. Whatever asks how a run is
// doing asks here, so that what one list calls lost nothing else takes for alive.
func (r *Run) State(now time.Time) RunState {
	at, over := r.Over(now)
	switch {
	case !r.StoppedAt.IsZero():
		return RunStopped
	case !r.WaivedAt.IsZero():
		return RunWaived
	case over:
		return RunLost
	case at.After(now):
		return RunSilent
	default:
		return RunServing
	}
}

// Owes says whether anything may still come, or be waited for, of what a run saw.
func (s RunState) Owes() bool { return s == RunServing || s == RunSilent || s == RunLost }
