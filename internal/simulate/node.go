package simulate

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// maxSkew is how far off a gateway's clock may be while it serves.
const maxSkew = 60 * time.Second

// node is a gateway: what it serves by, and what it has not told the store yet.
type node struct {
	name string
	up   bool
	skew time.Duration

	run     token.ID
	started time.Time // by its own clock
	known   bool      // its run is registered
	journal []*request
	gaps    []token.Gap
	covered time.Time
	orphans []orphan

	connected bool
	silent    bool      // it tells nothing for now
	contact   time.Time // by the true clock
	stale     time.Duration
	cache     map[token.ID]seen // of the moment when it lost the store
}

// orphan is what a killed process left on its disk.
type orphan struct {
	run     token.ID
	started time.Time
	stopped time.Time
	journal []*request
	gaps    []token.Gap
}

// seen is what decides about a request.
type seen struct {
	state   token.State
	grant   token.Grant
	expiry  time.Time
	enabled bool
}

// request is a request that was authenticated, as it really was.
type request struct {
	token *subject
	scope int // of the world's; -1: it only authenticated
	at    time.Time
	fact  token.Fact
	// What has become of the fact.
	told, lost bool
	toldAt     time.Time
	blindBy    time.Time // when at the latest the store knows of the blind time that a loss leaves
}

func (n *node) now(w *World) time.Time { return w.now.Add(n.skew) }

// serves says whether a request would pass at all.
func (w *World) serves(n *node, at time.Time) bool {
	if w.leap.Abs() > maxSkew {
		return false // its clock and the store's are apart
	}
	return n.up && n.known && n.skew.Abs() <= maxSkew && (n.connected || !at.After(n.contact.Add(n.stale)))
}

func (n *node) knows(s *subject) seen {
	if n.connected {
		return s.seen
	}
	return n.cache[s.id]
}

// ask is one request at a node. It is recorded before it goes on.
func (w *World) ask(n *node, s *subject, scope int, at time.Time) {
	if !w.serves(n, at) {
		return
	}
	k := n.knows(s)
	here := at.Add(n.skew)
	if k.state != token.Active || !k.enabled || !k.expiry.IsZero() && !here.Before(k.expiry) {
		return
	}
	r := &request{token: s, scope: scope, at: at}
	if scope >= 0 && !allows(&k.grant, w.scopes[scope]) {
		r.scope = -1 // refused, and yet a use of the token
	}
	bucket := here.Truncate(w.bucket)
	r.fact = token.Fact{TokenID: s.id, SecretID: s.secret, Bucket: bucket, Until: bucket.Add(w.bucket), First: here}
	if r.scope >= 0 {
		r.fact.Scope = w.scopes[r.scope]
	}
	n.journal = append(n.journal, r)
	s.requests = append(s.requests, r)
	w.count(Requests)
}

// allows is what a gate asks: may this grant do that.
func allows(g *token.Grant, scope token.Scope) bool {
	switch g.Access {
	case token.ReadWrite:
		return true
	case token.ReadOnly:
		return scope.Nature == token.Read
	default:
		return g.Holds(scope)
	}
}

func (w *World) boot(n *node) {
	n.up, n.known, n.run = true, false, w.id("run")
	n.skew = time.Duration(w.r.Int64N(int64(100*time.Second))) - 50*time.Second
	n.started, n.covered = n.now(w), n.now(w)
	n.connected, n.contact = true, w.now
}

// kill ends a process. What it wrote is still on the disk, unless that is lost; when
// the power failed, the last of it may be missing, which the next process notices.
func (w *World) kill(n *node, disk, power bool) {
	// Its last contact is not after now.
	blindBy := w.now.Add(n.stale + maxSkew)
	o := orphan{run: n.run, started: n.started, stopped: n.now(w), journal: n.journal, gaps: n.gaps}
	n.up, n.journal, n.gaps = false, nil, nil
	switch {
	case disk:
		for _, old := range append(n.orphans, o) {
			lose(old.journal, blindBy)
		}
		n.orphans = nil
		return
	case power:
		since := n.now(w).Add(-time.Second)
		for i, r := range o.journal {
			if r.fact.First.After(since) {
				lose(o.journal[i:], blindBy)
				o.journal = o.journal[:i:i]
				break
			}
		}
		o.gaps = append(o.gaps, token.Gap{From: since, To: o.stopped, Blind: true, Node: n.name, Reason: "power"})
	}
	if n.known || len(o.journal) > 0 {
		n.orphans = append(n.orphans, o)
	}
}

func lose(list []*request, blindBy time.Time) {
	for _, r := range list {
		r.lost, r.blindBy = !r.told, blindBy
	}
}

// partition cuts a node off from the store, which it goes on without for a while.
func (w *World) partition(n *node) {
	n.connected, n.contact = false, w.now
	n.cache = map[token.ID]seen{}
	for _, s := range w.subjects {
		n.cache[s.id] = s.seen
	}
}

// setClock moves a node's clock. It notices, and says that it does not know.
func (w *World) setClock(n *node, skew time.Duration) {
	from := n.covered
	n.skew = skew
	to := n.now(w)
	if to.Before(from) {
		from, to = to, from
	}
	n.gaps = append(n.gaps, token.Gap{From: from, To: to.Add(time.Second), Blind: true, Node: n.name, Reason: "clock"})
}

// drain tells the store what the node saw up to a moment ago, with what earlier
// processes left.
func (w *World) drain(n *node) error {
	if !n.up || !n.connected || n.silent {
		return nil
	}
	through := n.now(w)
	var told, kept []*request
	for _, r := range n.journal {
		if r.fact.First.After(through) {
			kept = append(kept, r)
		} else {
			told = append(told, r)
		}
	}
	err := w.store.Write(context.Background(), func(tx *tokenstore.Tx) error {
		if err := tx.BeginRun(token.Run{ID: n.run, Node: n.name, StartedAt: n.started, StaleFor: n.stale}); err != nil {
			return err
		}
		return tx.PutActivity(token.Activity{Run: n.run, Covered: through, Facts: facts(told), Gaps: n.gaps})
	})
	if err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	w.arrived(told)
	n.known, n.contact, n.covered, n.journal, n.gaps = true, w.now, through, kept, nil
	for _, o := range n.orphans {
		err := w.store.Write(context.Background(), func(tx *tokenstore.Tx) error {
			if err := tx.BeginRun(token.Run{ID: o.run, Node: n.name, StartedAt: o.started}); err != nil {
				return err
			}
			if err := tx.PutActivity(token.Activity{Run: o.run, Covered: o.stopped, Facts: facts(o.journal), Gaps: o.gaps}); err != nil {
				return err
			}
			return tx.EndRun(o.run, o.stopped)
		})
		if err != nil {
			return fmt.Errorf("drain what was left: %w", err)
		}
		w.arrived(o.journal)
	}
	n.orphans = nil
	return nil
}

// stop ends a process in order.
func (w *World) stop(n *node) error {
	if !n.up || !n.connected {
		return nil
	}
	if err := w.drain(n); err != nil {
		return err
	}
	n.up = false
	return w.store.Write(context.Background(), func(tx *tokenstore.Tx) error { return tx.EndRun(n.run, n.now(w)) })
}

func facts(list []*request) []token.Fact {
	type key struct {
		token token.ID
		scope string
		until time.Time
	}
	merged := map[key]bool{}
	var out []token.Fact
	for _, r := range list {
		k := key{r.fact.TokenID, r.fact.Scope.Name, r.fact.Until}
		if !merged[k] {
			merged[k] = true
			out = append(out, r.fact)
		}
	}
	return out
}

func (w *World) arrived(list []*request) {
	for _, r := range list {
		r.told, r.toldAt = true, w.now
	}
}

// forget drops what nobody asks for any more.
func (w *World) forget() {
	const kept = 150 * day
	for _, s := range w.subjects {
		i := 0
		for i < len(s.requests)-1 && s.requests[i].at.Before(w.now.Add(-kept)) && (s.requests[i].told || s.requests[i].lost) {
			i++
		}
		s.requests = s.requests[i:]
	}
	maps.DeleteFunc(w.given, func(_ token.ID, g *given) bool { return g.last.Before(w.now.Add(-2 * 365 * day)) })
}
