package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// keep carries out what is to be done for one token. It is planned anew from what
// is stored by now: use, coverage, notice and version may have changed since.
func (p *pass) keep(ctx context.Context, id token.ID) error {
	var done []token.ActionKind
	err := p.Authority.Keep(ctx, bySystem, id, func(tx *tokenstore.Tx, subject *tokenstore.Subject) ([]authority.Keeping, error) {
		done = done[:0]
		if err := p.still(tx); err != nil {
			return nil, err
		}
		now, err := tx.Time()
		if err != nil {
			return nil, err
		}
		common, err := commonOf(tx, p.Teller, now)
		if err != nil {
			return nil, err
		}
		left := p.left
		var list []authority.Keeping
		for _, a := range callOffFirst(token.Plan(common.complete(subject), now)) {
			if !a.Ready() || a.Kind.Takes() && !p.act || a.Kind.Capped() && left <= 0 {
				continue
			}
			k, err := p.carryOut(tx, subject, &a, now)
			if err != nil {
				return nil, fmt.Errorf("%s of token %s: %w", a.Kind, id, err)
			}
			list = append(list, k...)
			done = append(done, a.Kind)
			if a.Kind.Capped() {
				left--
			}
			if a.Kind == token.DeleteUnused || a.Kind == token.DeleteExpired {
				break // the rest of the plan is about a token that is gone
			}
		}
		return list, nil
	})
	// A purged or vanished token needs nothing more.
	if errors.Is(err, authority.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, kind := range done {
		p.report.Done[kind]++
		if kind.Capped() {
			p.left--
		}
	}
	return nil
}

// callOffFirst moves what calls a notice off before all else: what is announced
// in its place must not be taken for it.
func callOffFirst(plan []token.Action) []token.Action {
	slices.SortStableFunc(plan, func(a, b token.Action) int {
		return btoi(b.Kind == token.CancelNotice) - btoi(a.Kind == token.CancelNotice)
	})
	return plan
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// carryOut writes what belongs to one action, and gives the change to the token.
func (p *pass) carryOut(tx *tokenstore.Tx, s *tokenstore.Subject, a *token.Action, now time.Time) ([]authority.Keeping, error) {
	one := func(k authority.Keeping) []authority.Keeping {
		k.Evidence = &a.Evidence
		return []authority.Keeping{k}
	}
	switch a.Kind {
	case token.NoticeDowngrade:
		return one(schedule(token.Downgrade, a.Announces)), p.announce(tx, s, a, token.Downgrade, token.EventDowngradeNotice, now)
	case token.NoticeDeletion:
		return one(schedule(token.DeleteUnused, a.Announces)), p.announce(tx, s, a, token.DeleteUnused, token.EventDeletionNotice, now)
	case token.CancelNotice:
		return one(unschedule(a.Evidence.Notice.Kind)), p.callOff(tx, s, a, now)
	case token.Downgrade:
		k := one(authority.Keeping{Verb: authority.VerbDowngradeToken, Grant: &a.Grant, History: func(h *tokenstore.History) {
			h.DowngradedAt, h.LevelSince, h.UndoUntil = now, now, now.Add(s.Policy.RestoreWindow)
			h.Before = s.Token.Grant
			clearSchedule(h, token.Downgrade)
		}})
		return k, p.did(tx, s, a, token.EventDowngraded, now)
	case token.DeleteUnused:
		k := one(authority.Keeping{Verb: authority.VerbDeleteUnused, End: token.EndUnused, History: func(h *tokenstore.History) {
			h.Scheduled, h.ScheduledAt = 0, time.Time{}
		}})
		return k, p.did(tx, s, a, token.EventUnusedDeleted, now)
	case token.DeleteExpired:
		k := one(authority.Keeping{Verb: authority.VerbDeleteExpired, End: token.EndExpired})
		return k, p.tell(tx, s, a, token.EventExpiredDeleted, "", now)
	case token.WarnExpiry:
		return one(authority.Keeping{Verb: authority.VerbScheduleToken}), p.announce(tx, s, a, a.Kind, token.EventExpiryWarning, now)
	case token.Expire:
		return one(authority.Keeping{Verb: authority.VerbScheduleToken}), p.announce(tx, s, a, a.Kind, token.EventExpired, now)
	case token.RemindRotation:
		return one(authority.Keeping{Verb: authority.VerbScheduleToken}), p.announce(tx, s, a, a.Kind, token.EventRotationReminder, now)
	case token.RetireSecret:
		return one(authority.Keeping{Verb: authority.VerbRetireSecret, Retire: a.SecretID}), nil
	case token.Purge:
		return one(authority.Keeping{Verb: authority.VerbPurgeToken}), p.settle(tx, s, now)
	default:
		return nil, fmt.Errorf("there is nothing to carry out for %s", a.Kind)
	}
}

// schedule shows, on the token, what is to come: the consumer is told of it with
// every answer. Of two the earlier counts.
func schedule(kind token.ActionKind, at time.Time) authority.Keeping {
	return authority.Keeping{Verb: authority.VerbScheduleToken, History: func(h *tokenstore.History) {
		if h.Scheduled == 0 || h.Scheduled == kind || at.Before(h.ScheduledAt) {
			h.Scheduled, h.ScheduledAt = kind, at
		}
	}}
}

func unschedule(kind token.ActionKind) authority.Keeping {
	return authority.Keeping{Verb: authority.VerbUnschedule, History: func(h *tokenstore.History) { clearSchedule(h, kind) }}
}

func clearSchedule(h *tokenstore.History, kind token.ActionKind) {
	if h.Scheduled == kind {
		h.Scheduled, h.ScheduledAt = 0, time.Time{}
	}
}

// announce stores a notice as given for kind, and tells people.
func (p *pass) announce(tx *tokenstore.Tx, s *tokenstore.Subject, a *token.Action, kind token.ActionKind, event token.Event, now time.Time) error {
	id, err := p.NewID("pln")
	if err != nil {
		return err
	}
	due := a.Announces
	if due.IsZero() {
		due = a.Due
	}
	plan := tokenstore.Plan{
		TokenID: s.Token.ID,
		Notice:  token.Notice{ID: id, Kind: kind, Due: due, Scopes: a.Scopes, Created: now},
	}
	if err := tx.InsertPlan(plan); err != nil {
		return err
	}
	return p.tell(tx, s, a, event, id, now)
}

// callOff ends a plan. Whoever was told of it is told that it is off; copies that
// were not sent are not.
func (p *pass) callOff(tx *tokenstore.Tx, s *tokenstore.Subject, a *token.Action, now time.Time) error {
	for _, plan := range s.Plans {
		if plan.ID != a.Evidence.Notice.ID {
			continue
		}
		if err := p.endPlan(tx, plan, a.Cause.String(), now); err != nil {
			return err
		}
		event := token.EventDeletionCancelled
		if plan.Kind == token.Downgrade {
			event = token.EventDowngradeCancelled
		}
		told, err := tx.NoticesOfPlan(plan.ID)
		if err != nil {
			return err
		}
		for _, n := range told {
			if n.MayBeKnown() {
				return p.tell(tx, s, a, event, plan.ID, now)
			}
		}
	}
	return nil
}

func (p *pass) endPlan(tx *tokenstore.Tx, plan tokenstore.Plan, outcome string, now time.Time) error {
	plan.EndedAt, plan.Outcome = now, outcome
	if err := tx.UpdatePlan(plan); err != nil && !errors.Is(err, tokenstore.ErrNotFound) {
		return err
	}
	return tx.CancelNotices(plan.ID, now)
}

// did records an action of L1 or L2, which counts against the allowance and can
// be taken back, ends its plan, and tells people.
func (p *pass) did(tx *tokenstore.Tx, s *tokenstore.Subject, a *token.Action, event token.Event, now time.Time) error {
	id, err := p.NewID("act")
	if err != nil {
		return err
	}
	// The version is the one before: with the token's own it moves on.
	act := tokenstore.Act{ID: id, TokenID: s.Token.ID, Kind: a.Kind, At: now, Evidence: a.Evidence, Before: s.Token.Grant, Version: s.Token.Version}
	if err := tx.InsertAct(act); err != nil {
		return err
	}
	for _, plan := range s.Plans {
		if plan.Kind == a.Kind {
			if err := p.endPlan(tx, plan, tokenstore.PlanDone, now); err != nil {
				return err
			}
		}
	}
	return p.tell(tx, s, a, event, "", now)
}

func (p *pass) tell(tx *tokenstore.Tx, s *tokenstore.Subject, a *token.Action, event token.Event, plan token.ID, now time.Time) error {
	m := messageOf(s.Token, event, now)
	m.PlanID = plan
	m.Facts.Due, m.Facts.Taken, m.Facts.Evidence = a.Announces, a.Scopes, &a.Evidence
	if a.Grant.Access != 0 {
		m.Facts.Access, m.Facts.Scopes = a.Grant.Access.String(), a.Grant.Scopes
	}
	if a.Cause != 0 {
		m.Facts.Reason = a.Cause.String()
	}
	switch a.Kind {
	case token.Downgrade, token.DeleteUnused, token.DeleteExpired:
		m.Facts.UndoUntil = now.Add(s.Policy.RestoreWindow)
	default:
	}
	m.Facts.ExpiresAt = s.Token.ExpiryUnder(s.Policy)
	for i := range s.Secrets {
		if s.Secrets[i].ID == a.SecretID {
			m.Facts.PreviousExpiresAt, m.Facts.Last4 = s.Secrets[i].ExpiresAt, s.Secrets[i].Last4
		}
	}
	return p.Teller.Tell(tx, m)
}

func messageOf(t *token.Token, event token.Event, now time.Time) notify.Message {
	return notify.Message{
		Event: event, AccountID: t.AccountID, TokenID: t.ID, Version: t.Version,
		Facts: notify.Facts{TokenName: t.Name, At: now, Actor: "lifecycle"},
	}
}

// settle ends what stands about a token of which nothing but digests stays.
func (p *pass) settle(tx *tokenstore.Tx, s *tokenstore.Subject, now time.Time) error {
	for _, plan := range s.Plans {
		if err := p.endPlan(tx, plan, token.CauseEnded.String(), now); err != nil {
			return err
		}
	}
	acts, err := tx.OpenActsOf(s.Token.ID)
	if err != nil {
		return err
	}
	for _, act := range acts {
		if err := tx.CloseAct(act.ID); err != nil {
			return err
		}
	}
	return nil
}
