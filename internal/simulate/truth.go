package simulate

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// given is how far a notice has come.
type given struct {
	copies int
	last   time.Time
}

// act is something that the lifecycle took, and what the truth says of it.
type act struct {
	token  *subject
	kind   token.ActionKind
	at     time.Time // by the store's clock
	true   time.Time
	before token.Grant
	until  time.Time
	wrong  []*request // uses of what was taken, that it did not know of
	inside bool       // one of them was before the date up to which all has to be known
	missed bool       // none of them will ever be told, and none was inside
	passes int        // that came to their end since one of them was told
	closed bool
}

// Violation is a rule that was broken.
type Violation struct {
	Seed uint64
	Day  float64
	Rule string
	Text string
}

func (v Violation) String() string {
	return fmt.Sprintf("seed %d, day %.2f: %s: %s", v.Seed, v.Day, v.Rule, v.Text)
}

func (w *World) violated(rule, format string, args ...any) {
	w.Violations = append(w.Violations, Violation{
		Seed: w.Seed, Day: w.now.Sub(w.start).Hours() / 24, Rule: rule, Text: fmt.Sprintf(format, args...),
	})
}

// follow reads what was done since, by the audit log, and holds it against the truth.
func (w *World) follow() error {
	return w.store.Read(context.Background(), func(tx *tokenstore.Tx) error {
		for {
			entries, err := tx.AuditRange(w.heard, 500)
			if err != nil {
				return err
			}
			if len(entries) == 0 {
				return nil
			}
			for i := range entries {
				e := &entries[i]
				w.heard = e.Seq
				s := w.byID[token.ID(e.Target)]
				if s == nil {
					continue
				}
				if e.Actor.Kind != tokenstore.SystemActor {
					w.changedByPeople(s)
				}
				if err := w.hold(tx, s, e); err != nil {
					return err
				}
			}
			for i := range entries {
				if s := w.byID[token.ID(entries[i].Target)]; s != nil {
					if err := w.look(tx, s); err != nil {
						return err
					}
				}
			}
		}
	})
}

// changedByPeople says that what the lifecycle did to a token is settled.
func (w *World) changedByPeople(s *subject) {
	for _, a := range w.acts {
		a.closed = a.closed || a.token == s
	}
}

// look brings what is known of a token up to what is stored.
func (w *World) look(tx *tokenstore.Tx, s *subject) error {
	t, err := tx.Token(s.id)
	if err != nil {
		return err
	}
	s.version = t.Version
	s.state, s.grant, s.created = t.State, t.Grant, t.CreatedAt
	p := w.policyOf(s)
	s.expiry = t.ExpiryUnder(p)
	return nil
}

// hold judges one entry of the audit log. s is still as it was before.
func (w *World) hold(tx *tokenstore.Tx, s *subject, e *tokenstore.AuditEntry) error {
	switch authority.Verb(e.Verb) {
	case authority.VerbScheduleToken:
		w.count(Announced)
	case authority.VerbUnschedule:
		return w.noteCause(tx, e)
	case authority.VerbDowngradeToken:
		w.count(Downgraded)
		s.narrowedAt = w.now
		return w.judge(tx, s, e, token.Downgrade)
	case authority.VerbDeleteUnused:
		w.count(Deleted)
		return w.judge(tx, s, e, token.DeleteUnused)
	case authority.VerbDeleteExpired:
		w.count(Expired)
		p := w.policyOf(s)
		if s.expiry.IsZero() || e.At.Add(time.Second).Before(s.expiry.Add(p.DeleteExpiredAfter)) {
			w.violated("L3", "token %s was deleted before it was expired for long enough", s.id)
		}
	case authority.VerbPutBackToken:
		w.count(PutBack)
		s.narrowedAt = w.now // or widened again
		return w.judgePutBack(tx, s, e)
	case authority.VerbPurgeToken:
		w.count(Purged)
		if s.state != token.Deleted {
			w.violated("L5", "token %s was purged while it was %s", s.id, s.state)
		}
		s.purged = true
	default:
	}
	return nil
}

// noteCause counts why a notice was called off.
func (w *World) noteCause(tx *tokenstore.Tx, e *tokenstore.AuditEntry) error {
	ev, err := evidenceOf(e)
	if err != nil || ev == nil {
		w.violated("I7", "a notice for token %s was called off without evidence", e.Target)
		return nil
	}
	plan, err := tx.Plan(ev.Notice.ID)
	if err != nil {
		return err
	}
	w.count(CalledOff + ": " + Count(plan.Outcome))
	return nil
}

func evidenceOf(e *tokenstore.AuditEntry) (*token.Evidence, error) {
	var after struct {
		Evidence *token.Evidence `json:"evidence"`
	}
	err := json.Unmarshal(e.After, &after)
	return after.Evidence, err
}

func (w *World) judge(tx *tokenstore.Tx, s *subject, e *tokenstore.AuditEntry, kind token.ActionKind) error {
	ev, err := evidenceOf(e)
	if err != nil || ev == nil {
		w.violated("I7", "%s of token %s has no evidence", kind, s.id)
		return nil
	}
	p := w.policyOf(s)
	a := &act{token: s, kind: kind, at: e.At, true: w.now, before: s.grant, until: e.At.Add(p.RestoreWindow)}
	w.acts = append(w.acts, a)
	if w.chance(0.1) {
		// Somebody misses it, in time or a little too late.
		after := time.Duration(w.r.Float64() * 1.1 * float64(p.RestoreWindow))
		w.regrets = append(w.regrets, regret{at: w.now.Add(after), of: s, kind: kind})
	}

	if s.state != token.Active || !s.enabled {
		w.violated("L1/L2", "%s of token %s, which was not active", kind, s.id)
	}
	if e.At.Before(s.exempt) {
		w.violated("L7", "%s of token %s, which is exempt", kind, s.id)
	}
	window := p.DeleteUnused
	if kind == token.Downgrade {
		window = p.DowngradeUnused
	}
	if window == 0 || e.At.Sub(ev.From) < window {
		w.violated("L2", "%s of token %s after a window of %s", kind, s.id, e.At.Sub(ev.From))
	}
	w.judgeNotice(tx, a, ev, p)
	w.judgeUse(a, ev)
	w.judgeCap(e)
	return nil
}

// judgeNotice is I4, by what the relay really took.
func (w *World) judgeNotice(tx *tokenstore.Tx, a *act, ev *token.Evidence, p *token.Policy) {
	plan, err := tx.Plan(ev.Notice.ID)
	g := w.given[ev.Notice.ID]
	switch {
	case err != nil || g == nil || g.copies < len(w.outbox.Recipients):
		w.violated("I4", "%s of token %s without notice", a.kind, a.token.id)
	case plan.TokenID != a.token.id || plan.Kind != a.kind:
		w.violated("I4", "%s of token %s by the notice of something else", a.kind, a.token.id)
	case a.true.Sub(g.last) < p.Notice-w.leaptLately():
		w.violated("I4", "%s of token %s %s after its notice", a.kind, a.token.id, a.true.Sub(g.last))
	case a.at.Before(plan.Due):
		w.violated("L4", "%s of token %s before the date that its notice named", a.kind, a.token.id)
	case a.before.Access == token.Custom && a.kind == token.Downgrade:
		for _, taken := range ev.Unused {
			if !slices.Contains(plan.Scopes, taken) {
				w.violated("L4", "token %s lost a scope that its notice did not name", a.token.id)
			}
		}
		if len(ev.Unused) == 0 || len(ev.Unused) >= len(a.before.Scopes) {
			w.violated("L1", "token %s came down to nothing", a.token.id)
		}
	}
}

// leaptLately is by how much the store's clock may have been ahead when a notice
// was accepted.
func (w *World) leaptLately() time.Duration {
	if w.now.Sub(w.leaptAt) < 30*day {
		return w.leaptBy.Abs()
	}
	return time.Second
}

// judgeUse is I1, by every request that was really forwarded. All has to be known up
// to the date of an act, and no further: an act that the allowance holds for days
// after its date may miss a use of those days that a gateway has not told. That is put
// back when it is told (L10), and such a use that is lost is held against an act only
// once the store must know that it is blind there.
func (w *World) judgeUse(a *act, ev *token.Evidence) {
	for _, r := range a.token.requests {
		if !r.at.After(ev.From.Add(maxSkew)) || r.at.After(a.at) || !w.used(a, r, ev) {
			continue // before the window, or after the act
		}
		a.wrong = append(a.wrong, r)
		inside := r.at.Add(maxSkew).Before(ev.To)
		a.inside = a.inside || inside
		switch {
		case r.told && r.toldAt.Before(a.at):
			w.violated("I1", "%s of token %s, whose use %s ago was known", a.kind, a.token.id, a.true.Sub(r.at))
		case r.lost && (inside || a.true.After(r.blindBy) && w.now.Sub(w.leaptAt) > 2*day):
			w.violated("I1", "%s of token %s, whose use %s ago was lost", a.kind, a.token.id, a.true.Sub(r.at))
		case inside && w.now.Sub(w.skewedAt) > 2*day && w.now.Sub(w.leaptAt) > 2*day:
			w.violated("I1", "%s of token %s, whose use %s ago had not been told", a.kind, a.token.id, a.true.Sub(r.at))
		}
	}
	if len(a.wrong) > 0 {
		w.count(Late)
	}
}

// used says whether a request used what an act took.
func (w *World) used(a *act, r *request, ev *token.Evidence) bool {
	switch {
	case a.kind == token.DeleteUnused:
		return true
	case r.scope < 0:
		return false
	case a.before.Access == token.Custom:
		return slices.Contains(ev.Unused, w.scopes[r.scope].Name)
	default:
		return w.scopes[r.scope].Nature == token.Write
	}
}

// judgeCap is I10.
func (w *World) judgeCap(e *tokenstore.AuditEntry) {
	w.capped = append(w.capped, e.At)
	n := 0
	for _, at := range w.capped {
		if at.After(e.At.Add(-token.AllowanceSpan)) && !at.After(e.At) {
			n++
		}
	}
	if most := max(5, w.liveBefore/50, w.raised); n > most {
		w.violated("I10", "%d acts in 24 hours on a fleet of %d", n, w.liveBefore)
	}
	if len(w.capped) > 4000 {
		w.capped = slices.Clone(w.capped[2000:])
	}
}

// judgePutBack is L10: nothing is put back that was right, and all that it had.
func (w *World) judgePutBack(tx *tokenstore.Tx, s *subject, _ *tokenstore.AuditEntry) error {
	t, err := tx.Token(s.id)
	if err != nil {
		return err
	}
	for _, a := range slices.Backward(w.acts) {
		if a.token != s || a.closed {
			continue
		}
		a.closed = true
		if t.State != token.Active && t.State != token.Disabled {
			w.violated("L10", "token %s was put back and is %s", s.id, t.State)
		}
		return nil
	}
	w.violated("L10", "token %s was put back, and nothing had been taken", s.id)
	return nil
}

// settle is the rest of L10: what was wrong is put back once that is known.
func (w *World) settle(passed bool) {
	kept := w.acts[:0]
	for _, a := range w.acts {
		known, lost := false, len(a.wrong) > 0
		for _, r := range a.wrong {
			known = known || r.told
			lost = lost && r.lost
		}
		if lost && !a.closed && !a.inside && !a.missed {
			a.missed = true
			w.count(Missed)
		}
		switch {
		case a.closed:
		case lost && a.inside:
			w.violated("I1", "%s of token %s was wrong, and nobody will know: the record was lost", a.kind, a.token.id)
		case !w.storeNow().Before(a.until):
		case known && passed && a.passes >= 2:
			w.violated("L10", "%s of token %s was wrong, and was not put back", a.kind, a.token.id)
		default:
			if known && passed {
				a.passes++
			}
			kept = append(kept, a)
		}
	}
	w.acts = kept
}

// compare is I7 in full: every token is as the audit log made it.
func (w *World) compare() error {
	return w.store.Read(context.Background(), func(tx *tokenstore.Tx) error {
		for after := token.ID(""); ; {
			list, err := tx.Subjects(after, 2000)
			if err != nil || len(list) == 0 {
				return err
			}
			after = list[len(list)-1].Token.ID
			for i := range list {
				t := list[i].Token
				s := w.byID[t.ID]
				if s == nil || s.version != t.Version || s.state != t.State || !s.grant.Equal(&t.Grant) {
					w.violated("I7", "token %s changed without an entry", t.ID)
				}
			}
		}
	})
}

// progress demands, after a calm time, that all is done that was due.
func (w *World) progress(calm time.Time) {
	since := calm.Add(-day)
	for _, s := range w.subjects {
		p := w.policyOf(s)
		if s.state != token.Active || !s.enabled || s.enabledAt.After(calm) || s.created.After(calm) || s.exempt.After(calm) ||
			s.levelAt.After(calm) || w.policyAt.After(calm) {
			continue
		}
		if !s.expiry.IsZero() {
			if w.now.After(s.expiry.Add(p.DeleteExpiredAfter + 2*day)) {
				w.violated("progress", "token %s expired at %s and is still there", s.id, s.expiry)
			}
			continue // L3 comes before L1 and L2 where it can
		}
		used := map[string]bool{}
		any, wrote := false, false
		for _, r := range s.requests {
			if r.at.Before(since) {
				continue
			}
			any = true
			if r.scope >= 0 {
				used[w.scopes[r.scope].Name] = true
				wrote = wrote || w.scopes[r.scope].Nature == token.Write
			}
		}
		if !any && p.DeleteUnused > 0 {
			w.violated("progress", "token %s has not been used for %s and is still there (%s)", s.id, w.now.Sub(calm), w.explain(s))
			continue
		}
		if p.DowngradeUnused == 0 || !any && p.DeleteUnused > 0 {
			continue
		}
		switch s.grant.Access {
		case token.ReadWrite:
			if !wrote {
				w.violated("progress", "token %s has not written for %s and still may (%s)", s.id, w.now.Sub(calm), w.explain(s))
			}
		case token.Custom:
			// What is left must have been in use all the time: what goes idle with the
			// rest is for L2.
			idle, busy := 0, false
			for _, name := range s.grant.Scopes {
				if !used[name] {
					idle++
				}
				busy = busy || w.longestPause(s, name, since) < p.DowngradeUnused-p.Notice-3*day
			}
			// What was narrowed a window ago or less holds its level for too short a time
			// to be narrowed again (L1).
			if idle > 0 && busy && !s.narrowedAt.After(calm) {
				w.violated("progress", "token %s has scopes that were not used for %s (%s)", s.id, w.now.Sub(calm), w.explain(s))
			}
		default:
		}
	}
}

// longestPause is the longest time without a use of a scope.
func (w *World) longestPause(s *subject, scope string, since time.Time) time.Duration {
	last, longest := since, time.Duration(0)
	for _, r := range s.requests {
		if r.scope >= 0 && w.scopes[r.scope].Name == scope && r.at.After(last) {
			longest, last = max(longest, r.at.Sub(last)), r.at
		}
	}
	return max(longest, w.now.Sub(last))
}

// explain says what the forecast says of a token.
func (w *World) explain(s *subject) string {
	var b strings.Builder
	f, err := w.forecast(s.id)
	if err != nil {
		return err.Error()
	}
	for _, c := range f.List {
		for _, a := range c.Actions {
			fmt.Fprintf(&b, "%s at day %.1f waits for [%s]; ", a.Kind, a.Due.Sub(w.start).Hours()/24, a.Waits)
		}
	}
	return b.String()
}
