package simulate

import (
	"math"
	"time"
)

// drills are the faults in the order in which a drill has them.
var drills = []Count{Crashed, CutOff, PowerLost, Stopped, MailDown, Raised, ClockSet, Leapt, DiskLost, Paused}

// strikes says whether a fault strikes now: as often as the profile says, whatever
// the stride, and once by plan in a drill.
func (w *World) strikes(fault Count) bool {
	struck := w.r.Float64() < -math.Expm1(-w.Profile.Rates[fault]*w.passed.Hours()/24)
	if len(w.drill) > 0 && w.drill[0] == fault && w.now.Sub(w.drilled) > 2*day {
		w.drill, w.drilled, struck = w.drill[1:], w.now, true
	}
	if struck {
		w.count(fault)
	}
	return struck
}

// over says whether something ends now that takes a time on average.
func (w *World) over(takes time.Duration) bool {
	return w.r.Float64() < -math.Expm1(-w.passed.Hours()/takes.Hours())
}

// fail lets something go wrong, or get right again.
func (w *World) fail() error {
	w.passed, w.failedAt = w.now.Sub(w.failedAt), w.now
	for _, n := range w.nodes {
		if err := w.failNode(n); err != nil {
			return err
		}
	}
	switch {
	case w.leap != 0 && w.now.Sub(w.leaptAt) > time.Duration(w.r.IntN(20))*time.Hour:
		// It is put right before passes trust it.
		w.leap = 0
		w.leaptAt = w.now
	case w.leap == 0 && w.now.Sub(w.leaptAt) > 4*day && w.strikes(Leapt):
		w.leap = []time.Duration{46 * day, -3 * day, 400 * day, -46 * day, 3 * time.Hour, 50 * time.Hour}[w.r.IntN(6)]
		w.leaptAt, w.leaptBy = w.now, w.leap
	case w.strikes(MailDown):
		w.mailUntil = w.now.Add(time.Duration(w.r.IntN(20*24)) * time.Hour)
	case w.strikes(Raised):
		w.raised = []int{0, 0, 50}[w.r.IntN(3)]
	case w.leap == 0 && w.strikes(Paused):
		w.pause = time.Duration(2*24+w.r.IntN(8*24)) * time.Hour
	default:
	}
	return nil
}

func (w *World) failNode(n *node) error {
	switch {
	case !n.up:
		if w.over(14 * time.Hour) {
			w.boot(n)
			return w.drain(n)
		}
	case w.strikes(Crashed):
		w.kill(n, false, false)
	case w.strikes(PowerLost):
		w.kill(n, false, true)
	case w.strikes(DiskLost):
		w.kill(n, true, false)
	case n.connected && w.strikes(Stopped):
		return w.stop(n)
	case n.connected && w.strikes(CutOff):
		w.partition(n)
	case !n.connected && w.over(20*time.Hour):
		n.connected = true
		return w.drain(n)
	case n.skew.Abs() > maxSkew:
		w.skewedAt = w.now
		if w.over(14 * time.Hour) {
			w.setClock(n, 0)
		}
	case w.strikes(ClockSet):
		w.skewedAt = w.now
		w.setClock(n, []time.Duration{10 * time.Minute, -10 * time.Minute, 366 * day, -366 * day}[w.r.IntN(4)])
	}
	return nil
}

// repair puts everything right.
func (w *World) repair() error {
	w.leap, w.raised, w.mailUntil, w.pause = 0, 0, time.Time{}, 0
	for _, n := range w.nodes {
		n.connected = true
		if !n.up {
			w.boot(n)
		}
		if n.skew.Abs() > maxSkew {
			w.setClock(n, 0)
			w.skewedAt = w.now
		}
		if err := w.drain(n); err != nil {
			return err
		}
	}
	return nil
}
