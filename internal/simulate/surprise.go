package simulate

import (
	"context"
	"slices"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// surprise lets a date come for which everything is ready, but that one gateway has
// just seen what is to be taken in use and has not told. Left to chance that hardly
// ever happens: most announcements are overtaken before their date, and a gateway
// that is silent for a whole stride leaves blind time, which calls off every notice
// whether coverage is asked for or not. So the gateway is silent for no longer than
// the store must wait for it. It says whether there was a date to come to.
func (w *World) surprise(ctx context.Context) (bool, error) {
	w.edge = nil
	s, a, err := w.upcoming()
	if s == nil || err != nil {
		return false, err
	}
	n := w.nodes[w.r.IntN(len(w.nodes))]
	cut := n.stale > 0 && w.chance(0.5)
	// The use is further from the date than clocks may be apart.
	lead := 2*maxSkew + time.Duration(w.r.Int64N(int64(5*time.Hour)))
	if d := a.Due.Add(-lead).Sub(w.now); d > 0 {
		if err := w.step(ctx, d); err != nil || len(w.Violations) > 0 {
			return true, err
		}
	}
	// Much may have happened on the way, to the token and to the gateway.
	if a, err = w.waiting(s, token.WaitDate); a == nil || err != nil || a.Due.Sub(w.now) < maxSkew+time.Second {
		return true, err
	}
	if !n.up || !n.connected || n.skew.Abs() > maxSkew {
		return true, nil
	}
	if err := w.drain(n); err != nil {
		return true, err
	}
	if n.silent = true; cut {
		w.partition(n)
	}
	before := len(n.journal)
	w.ask(n, s, w.scopeOf(a), w.now)
	// By the clocks of all others the date is over.
	after := maxSkew + time.Duration(1+w.r.IntN(100))*time.Second
	if err := w.step(ctx, a.Due.Add(after).Sub(w.now)); err != nil {
		return true, err
	}
	if a, err = w.waiting(s, token.WaitCoverage); err != nil {
		return true, err
	}
	if a != nil && len(n.journal) > before {
		w.count(Surprised)
	}
	n.silent = false
	switch w.r.IntN(4) {
	case 0: // what it saw comes from its disk
		w.count(Crashed)
		w.kill(n, false, false)
	case 1: // or never
		w.count(DiskLost)
		w.kill(n, true, false)
	case 2: // it may stay cut off until it refuses everything
	default:
		n.connected = true
		return true, w.drain(n)
	}
	return true, nil
}

// upcoming is a token whose notice was given, and stands, and names a date that is
// near.
func (w *World) upcoming() (*subject, *token.Action, error) {
	const near, tries = 46 * time.Hour, 12
	if w.leap != 0 || w.pause > 0 || len(w.dues) == 0 {
		return nil, nil, nil
	}
	first, tried := w.r.IntN(len(w.dues)), 0
	for i := range w.dues {
		d := w.dues[(first+i)%len(w.dues)]
		s := w.byID[d.of]
		if s == nil || s.state != token.Active || d.at.Before(w.now.Add(3*maxSkew)) || d.at.After(w.now.Add(near)) {
			continue
		}
		if tried++; tried > tries {
			break
		}
		a, err := w.waiting(s, token.WaitDate)
		if err != nil || a != nil && !a.Due.After(w.now.Add(near)) {
			return s, a, err
		}
	}
	return nil, nil, nil
}

// waiting is the act upon a token that waits for one thing and nothing else.
func (w *World) waiting(s *subject, what token.Waits) (*token.Action, error) {
	f, err := w.forecast(s.id)
	for i := range f.List {
		for j := range f.List[i].Actions {
			if a := &f.List[i].Actions[j]; a.Kind.Capped() && a.Waits == what {
				return a, err
			}
		}
	}
	return nil, err
}

// scopeOf is a scope that a use of shows an act to be wrong.
func (w *World) scopeOf(a *token.Action) int {
	var list []int
	for i, scope := range w.scopes {
		switch named := len(a.Scopes) > 0; {
		case a.Kind == token.DeleteUnused, named && slices.Contains(a.Scopes, scope.Name), !named && scope.Nature == token.Write:
			list = append(list, i)
		}
	}
	return list[w.r.IntN(len(list))]
}

// touch is the contact of a gateway that tells nothing of what it saw.
func (w *World) touch(n *node) error {
	return w.store.Write(context.Background(), func(tx *tokenstore.Tx) error {
		return tx.BeginRun(token.Run{ID: n.run, Node: n.name, StartedAt: n.started, StaleFor: n.stale})
	})
}
