package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Teller tells people, in the transaction of what it tells of.
type Teller interface {
	// Tell writes a message to the outbox. To tell the same twice tells it once.
	Tell(tx *tokenstore.Tx, m notify.Message) error
	// Accepted says whether a plan's notice counts as given.
	Accepted(tx *tokenstore.Tx, plan token.ID, now time.Time) (notify.Verdict, error)
	// Channel says whether there is any way to tell people.
	Channel(tx *tokenstore.Tx) (bool, error)
}

// Alarm is something that an operator has to look at.
type Alarm struct {
	Kind    string // a fixed word, for metrics
	TokenID token.ID
	Text    string
}

// Keeper looks after all tokens. Its fields are set once, before use.
type Keeper struct {
	// Store must be the store itself, as for authority.
	Store     tokenstore.Store
	Authority *authority.Authority
	Teller    Teller
	// Holder names this gateway among those that could do the same.
	Holder string
	NewID  func(prefix string) (token.ID, error)
	// Raised is how many tokens an operator lets it act on in a day, if that is
	// more than the rule allows; 0 raises nothing.
	Raised int
	// Alarm is told what an operator has to look at. It must not block.
	Alarm func(Alarm)
	// Page is how many tokens are read at once; default 2,000.
	Page int
	// Term is how long the duty is held without a sign of life; default 1 minute.
	Term time.Duration

	// pruned is up to where the last pass looked for old messages; nil: to the end.
	pruned atomic.Pointer[token.ID]
}

const (
	defaultPage = 2000
	defaultTerm = time.Minute
)

var bySystem = authority.By{Actor: tokenstore.Actor{Kind: tokenstore.SystemActor, Name: "lifecycle", Verified: true}}

// Report is what a pass did.
type Report struct {
	// Holder is false when another gateway has the duty: nothing was done.
	Holder bool
	// Resting is true while nothing is taken away, because the clock leapt or this
	// is the first pass of all.
	Resting bool
	Tokens  int // that were looked at
	Done    map[token.ActionKind]int
	// Silent says that policies ask for notices that nobody can be given: there is
	// neither mail nor a webhook, so that nothing is narrowed or deleted. It is told
	// whoever has the duty.
	Silent bool
	// Held is how many actions the allowance kept back.
	Held int
	// PutBack is how many actions were taken back since a late fact showed that
	// they were wrong.
	PutBack int
	// Broken is how many tokens have records that contradict themselves.
	Broken int
}

// ErrLost: another gateway took the duty over while a pass was on its way, which ends there.
var ErrLost = errors.New("lifecycle: another gateway took over meanwhile")

// pass is one pass on its way.
type pass struct {
	*Keeper
	fence  int64
	now    time.Time
	report *Report
	// What all tokens have in common.
	common common
	act    bool
	left   int // of the allowance
	// restore is the shortest time for which any policy lets things be had back.
	restore time.Duration
	// renew is from when on a sign of life is due.
	renew time.Time
	// announced is when the oldest notice was given that still stands; zero: none does.
	announced time.Time
}

// common is what the plans of all tokens follow from alike.
type common struct {
	coverage *token.Coverage
	channel  bool
	nature   func(string) (token.Scope, bool)
}

// Pass looks at all tokens once, when this gateway has the duty or can have it.
func (k *Keeper) Pass(ctx context.Context) (Report, error) {
	report := Report{Done: map[token.ActionKind]int{}}
	p := &pass{Keeper: k, report: &report}
	if err := p.begin(ctx); err != nil || !report.Holder {
		return report, err
	}
	if err := p.judgeNotices(ctx); err != nil {
		return report, err
	}
	if err := p.putBack(ctx); err != nil {
		return report, err
	}
	if err := p.StartGraces(ctx); err != nil {
		return report, err
	}
	if err := p.keepAll(ctx); err != nil {
		return report, err
	}
	if err := p.forget(ctx); err != nil {
		return report, err
	}
	return report, p.end(ctx)
}

// StartGraces sets the end of previous secrets whose successors were used, where that
// starts their grace period. It needs no duty, and does not wait for one: any gateway
// may do it as soon as it has told of a use.
func (k *Keeper) StartGraces(ctx context.Context) error {
	_, err := k.Authority.StartGraces(ctx, bySystem)
	return err
}

// Resign gives the duty up, so that another gateway need not wait for its end.
func (k *Keeper) Resign(ctx context.Context) error {
	return k.Store.Write(ctx, func(tx *tokenstore.Tx) error { return tx.GiveUpDuty(tokenstore.LifecycleDuty, k.Holder) })
}

func (k *Keeper) term() time.Duration {
	if k.Term <= 0 {
		return defaultTerm
	}
	return k.Term
}

// begin takes the duty and reads what all plans have in common.
func (p *pass) begin(ctx context.Context) error {
	return p.Store.Write(ctx, func(tx *tokenstore.Tx) error {
		policies, err := tx.Policies()
		if err != nil {
			return err
		}
		if p.report.Silent, err = p.silent(tx, policies); err != nil {
			return err
		}
		d, ok, err := tx.TakeDuty(tokenstore.LifecycleDuty, p.Holder, p.term())
		p.report.Holder = ok
		if err != nil || !ok {
			return err
		}
		if p.now, err = tx.Time(); err != nil {
			return err
		}
		// Each pass has a fence of its own: one that was left behind in this very
		// process, while the gateway was configured anew, ends here too.
		d.Fence++
		p.fence, p.renew = d.Fence, p.now.Add(p.term()/2)
		var trusted time.Time
		p.act, trusted = token.Resume(d.LastRun, d.Trusted, p.now, shortest(policies))
		d.LastRun, d.Trusted = p.now, trusted
		for i := range policies {
			if i == 0 || policies[i].RestoreWindow < p.restore {
				p.restore = policies[i].RestoreWindow
			}
		}
		if err := tx.PutDuty(d); err != nil {
			return err
		}
		lost, err := p.missUse(tx)
		if err != nil {
			return err
		}
		p.act = p.act && !lost
		p.report.Resting = !p.act
		if p.left, err = allowance(tx, p.Raised, p.now); err != nil {
			return err
		}
		p.common, err = commonOf(tx, p.Teller, p.now)
		return err
	})
}

// shortest is the shortest window that any policy has in force.
func shortest(policies []token.Policy) time.Duration {
	var least time.Duration
	for i := range policies {
		for _, window := range []time.Duration{policies[i].DeleteUnused, policies[i].DowngradeUnused} {
			if window > 0 && (least == 0 || window < least) {
				least = window
			}
		}
	}
	return least
}

func commonOf(tx *tokenstore.Tx, teller Teller, now time.Time) (c common, err error) {
	runs, err := tx.Runs()
	if err != nil {
		return c, err
	}
	gaps, err := tx.Gaps()
	if err != nil {
		return c, err
	}
	scopes, err := tx.Scopes()
	if err != nil {
		return c, err
	}
	declared := make(map[string]token.Scope, len(scopes))
	for _, s := range scopes {
		declared[s.Name] = token.Scope{Name: s.Name, Nature: s.Nature}
	}
	c.nature = func(name string) (token.Scope, bool) {
		s, ok := declared[name]
		return s, ok
	}
	c.coverage = token.Observe(runs, gaps, now)
	c.channel, err = teller.Channel(tx)
	return c, err
}

func (c *common) complete(s *tokenstore.Subject) *token.Subject {
	s.Coverage, s.Channel, s.ScopeNature = c.coverage, c.channel, c.nature
	return &s.Subject
}

// still makes sure, in a transaction of the pass, that the duty is still held.
// Whoever was away for longer than its term finds another fence. A pass that takes
// long gives signs of life on its way.
func (p *pass) still(tx *tokenstore.Tx) error {
	d, err := tx.Duty(tokenstore.LifecycleDuty)
	if err != nil {
		return err
	}
	if d.Holder != p.Holder || d.Fence != p.fence {
		return ErrLost
	}
	now, err := tx.Time()
	if err != nil || now.Before(p.renew) {
		return err
	}
	if _, _, err := tx.TakeDuty(tokenstore.LifecycleDuty, p.Holder, p.term()); err != nil {
		return err
	}
	p.renew = now.Add(p.term() / 2)
	return nil
}

// alive gives a sign of life when one is due.
func (p *pass) alive(ctx context.Context, now time.Time) error {
	if now.Before(p.renew) {
		return nil
	}
	return p.Store.Write(ctx, p.still)
}

// end notes that the pass came to its end.
func (p *pass) end(ctx context.Context) error {
	if p.report.Held > 0 {
		p.alarm(Alarm{Kind: "held", Text: fmt.Sprintf(
			"%d tokens are due to be narrowed or deleted beyond what is done in 24 hours; raise the allowance if that is right: see lifecycle plan", p.report.Held)})
	}
	return p.Store.Write(ctx, func(tx *tokenstore.Tx) error {
		if err := p.still(tx); err != nil {
			return err
		}
		_, _, err := tx.TakeDuty(tokenstore.LifecycleDuty, p.Holder, p.term())
		return err
	})
}

func (k *Keeper) alarm(a Alarm) {
	if k.Alarm != nil {
		k.Alarm(a)
	}
}

// judgeNotices notes which notices were accepted since.
func (p *pass) judgeNotices(ctx context.Context) error {
	for after := token.ID(""); ; {
		var plans []tokenstore.Plan
		err := p.Store.Read(ctx, func(tx *tokenstore.Tx) (err error) {
			plans, err = tx.UnacceptedPlans(after, 200)
			return err
		})
		if err != nil || len(plans) == 0 {
			return err
		}
		after = plans[len(plans)-1].ID
		err = p.Store.Write(ctx, func(tx *tokenstore.Tx) error {
			if err := p.still(tx); err != nil {
				return err
			}
			for _, plan := range plans {
				verdict, err := p.Teller.Accepted(tx, plan.ID, p.now)
				if err != nil {
					return err
				}
				if verdict.Alarm != "" {
					p.alarm(Alarm{Kind: "notice", TokenID: plan.TokenID, Text: verdict.Alarm})
				}
				if verdict.Accepted.IsZero() {
					continue
				}
				plan.Accepted = verdict.Accepted
				if err := tx.UpdatePlan(plan); err != nil && !errors.Is(err, tokenstore.ErrNotFound) {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}

// keepAll plans for every token, and carries out what is to be done.
func (p *pass) keepAll(ctx context.Context) error {
	page := p.Page
	if page < 1 {
		page = defaultPage
	}
	var plan []token.Action
	for after := token.ID(""); ; {
		var subjects []tokenstore.Subject
		var now time.Time
		err := p.Store.Read(ctx, func(tx *tokenstore.Tx) (err error) {
			if now, err = tx.Time(); err != nil {
				return err
			}
			subjects, err = tx.Subjects(after, page)
			return err
		})
		if err != nil || len(subjects) == 0 {
			return err
		}
		if err := p.alive(ctx, now); err != nil {
			return err
		}
		after = subjects[len(subjects)-1].Token.ID
		p.report.Tokens += len(subjects)
		for i := range subjects {
			s := p.common.complete(&subjects[i])
			p.standing(s)
			if err := s.Check(); err != nil {
				p.report.Broken++
				p.alarm(Alarm{Kind: "broken", TokenID: s.Token.ID, Text: fmt.Sprintf("nothing is planned for token %s: %v", s.Token.ID, err)})
				continue
			}
			plan = token.AppendPlan(plan[:0], s, p.now)
			if !p.anything(plan) {
				continue
			}
			if err := p.keep(ctx, s.Token.ID); err != nil {
				return err
			}
		}
	}
}

// anything says whether a plan has something to be done now, and counts what the
// allowance keeps back.
func (p *pass) anything(plan []token.Action) bool {
	something := false
	for i := range plan {
		a := &plan[i]
		switch {
		case !a.Ready():
		case a.Kind.Takes() && !p.act:
		case a.Kind.Capped() && p.left <= 0:
			p.report.Held++
		default:
			something = true
		}
	}
	return something
}

// silent says whether policies ask for notices that nobody can be given.
func (p *pass) silent(tx *tokenstore.Tx, policies []token.Policy) (bool, error) {
	if shortest(policies) == 0 {
		return false, nil
	}
	channel, err := p.Teller.Channel(tx)
	if err != nil || channel {
		return false, err
	}
	live, err := tx.LiveTokens()
	return live > 0, err
}
