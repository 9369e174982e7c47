package simulate

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/tokenstore"
)

// fail lets something go wrong, or get right again.
func (w *World) fail() error {
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
	case w.leap == 0 && w.chance(0.004) && w.now.Sub(w.leaptAt) > 4*day:
		w.leap = []time.Duration{46 * day, -3 * day, 400 * day, -46 * day, 3 * time.Hour, 50 * time.Hour}[w.r.IntN(6)]
		w.leaptAt, w.leaptBy = w.now, w.leap
	case w.chance(0.01):
		w.mailUntil = w.now.Add(time.Duration(w.r.IntN(20*24)) * time.Hour)
	case w.chance(0.01):
		w.raised = []int{0, 0, 50}[w.r.IntN(3)]
	default:
	}
	return nil
}

func (w *World) failNode(n *node) error {
	switch {
	case !n.up:
		if w.chance(0.5) {
			w.boot(n)
			return w.drain(n)
		}
	case w.chance(0.01):
		w.Figures.Crashes++
		w.kill(n, false, false)
	case w.chance(0.003):
		w.Figures.Crashes++
		w.kill(n, false, true)
	case w.chance(0.002):
		w.Figures.Crashes++
		w.kill(n, true, false)
	case w.chance(0.01):
		return w.stop(n)
	case n.connected && w.chance(0.02):
		w.partition(n)
	case !n.connected && w.chance(0.4):
		n.connected = true
		return w.drain(n)
	case n.skew.Abs() > maxSkew:
		if w.chance(0.5) {
			w.setClock(n, 0)
			w.skewedAt = w.now
		}
	case w.chance(0.003):
		w.skewedAt = w.now
		w.setClock(n, []time.Duration{10 * time.Minute, -10 * time.Minute, 366 * day, -366 * day}[w.r.IntN(4)])
	}
	return nil
}

// repair puts everything right.
func (w *World) repair() error {
	w.leap, w.raised, w.mailUntil = 0, 0, time.Time{}
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
	return w.dropOldRuns()
}

// dropOldRuns forgets runs of which nothing follows any more, as a gateway does.
func (w *World) dropOldRuns() error {
	return w.store.Write(context.Background(), func(tx *tokenstore.Tx) error {
		runs, err := tx.Runs()
		if err != nil {
			return err
		}
		for i := range runs {
			since, over := runs[i].Over(w.now)
			if over && i > 0 && since.Before(w.now.Add(-200*day)) && runs[i].StartedAt.Before(w.now.Add(-200*day)) {
				if err := tx.DropRun(runs[i].ID); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
