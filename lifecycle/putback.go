package lifecycle

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// putBack judges again what was done, by what has become known since. What is
// known of a token's use only grows, so that it is enough to look at it as it is:
// no late fact has to be noticed on its way.
func (p *pass) putBack(ctx context.Context) error {
	for after := token.ID(""); ; {
		var (
			acts []tokenstore.Act
			last token.ID
		)
		err := p.Store.Read(ctx, func(tx *tokenstore.Tx) (err error) {
			acts, last, err = p.doubtful(tx, after)
			return err
		})
		if err != nil || last == "" {
			return err
		}
		after = last
		// The newest first: what was done to a token comes off in the order in which it
		// lies on it.
		for _, act := range slices.Backward(acts) {
			if err := p.judge(ctx, act); err != nil && !errors.Is(err, authority.ErrNotFound) {
				return err
			}
		}
	}
}

// doubtful lists, of one page of acts, those of which something may have to become.
// Of most there is nothing new, which takes one question each to see.
func (p *pass) doubtful(tx *tokenstore.Tx, after token.ID) (list []tokenstore.Act, last token.ID, err error) {
	acts, err := tx.OpenActs(after, 500)
	if err != nil || len(acts) == 0 {
		return nil, "", err
	}
	for i := range acts {
		act := &acts[i]
		uses, err := tx.Uses(act.TokenID)
		if err != nil {
			return nil, "", err
		}
		done := token.Done{Kind: act.Kind, At: act.At, Evidence: act.Evidence, Before: act.Before, After: act.Before}
		if act.Kind == token.Downgrade {
			done.After = afterOf(act)
		}
		if !p.now.Before(act.At.Add(p.restore)) || slices.ContainsFunc(factsOf(act.TokenID, uses), func(f token.Fact) bool {
			return done.DisprovedBy(&f)
		}) {
			list = append(list, *act)
		}
	}
	return list, acts[len(acts)-1].ID, nil
}

// judge takes one act back if it was wrong, and closes it when nothing can come of
// it any more.
func (p *pass) judge(ctx context.Context, act tokenstore.Act) error {
	var repair token.Repair
	late := false
	err := p.Store.Read(ctx, func(tx *tokenstore.Tx) error {
		s, err := tx.Subject(act.TokenID)
		if err != nil {
			return err
		}
		uses, err := tx.Uses(act.TokenID)
		if err != nil {
			return err
		}
		done := doneOf(&s, &act)
		late = !p.now.Before(done.Until)
		repair, _ = done.Repair(s.Token, factsOf(act.TokenID, uses), p.now)
		return nil
	})
	if errors.Is(err, tokenstore.ErrNotFound) || err == nil && repair == token.LetStand && late {
		return p.closeAct(ctx, act.ID)
	}
	if err != nil || repair == token.LetStand {
		return err
	}
	return p.repair(ctx, act)
}

func (p *pass) closeAct(ctx context.Context, id token.ID) error {
	err := p.Store.Write(ctx, func(tx *tokenstore.Tx) error { return tx.CloseAct(id) })
	if errors.Is(err, tokenstore.ErrNotFound) {
		return nil
	}
	return err
}

// doneOf is an act as the rules judge it.
func doneOf(s *tokenstore.Subject, act *tokenstore.Act) token.Done {
	d := token.Done{
		Kind: act.Kind, At: act.At, Evidence: act.Evidence, Before: act.Before, After: act.Before,
		Until: act.At.Add(s.Policy.RestoreWindow), Changed: s.Token.Version != act.Version,
	}
	if act.Kind == token.Downgrade {
		d.After = afterOf(act)
	}
	return d
}

// afterOf is what an act left: of a custom token what it did not take, else only
// reading.
func afterOf(act *tokenstore.Act) token.Grant {
	if act.Before.Access != token.Custom {
		return token.Grant{Access: token.ReadOnly}
	}
	left := token.Grant{Access: token.Custom}
	for _, scope := range act.Before.Scopes {
		taken := false
		for _, t := range act.Evidence.Unused {
			taken = taken || t == scope
		}
		if !taken {
			left.Scopes = append(left.Scopes, scope)
		}
	}
	return left
}

func factsOf(id token.ID, uses []tokenstore.SecretUse) []token.Fact {
	facts := make([]token.Fact, len(uses))
	for i, u := range uses {
		facts[i] = token.Fact{TokenID: id, SecretID: u.SecretID, Scope: u.Scope, First: u.Last, Until: u.Until}
	}
	return facts
}

// repair puts back what an act took, or tells people that it was wrong when it is
// too late for that. It is judged again in the transaction of the change.
func (p *pass) repair(ctx context.Context, act tokenstore.Act) error {
	back := false
	err := p.Authority.Keep(ctx, bySystem, act.TokenID, func(tx *tokenstore.Tx, s *tokenstore.Subject) ([]authority.Keeping, error) {
		back = false
		if err := p.still(tx); err != nil {
			return nil, err
		}
		uses, err := tx.Uses(act.TokenID)
		if err != nil {
			return nil, err
		}
		// Somebody may have settled it since it was read.
		open, err := tx.OpenActsOf(act.TokenID)
		if err != nil {
			return nil, err
		}
		for _, present := range open {
			if present.ID == act.ID {
				return p.mend(tx, s, &present, factsOf(act.TokenID, uses), &back)
			}
		}
		return nil, nil
	})
	if err == nil && back {
		p.report.PutBack++
	}
	return err
}

func (p *pass) mend(tx *tokenstore.Tx, s *tokenstore.Subject, act *tokenstore.Act, facts []token.Fact, back *bool) ([]authority.Keeping, error) {
	now, err := tx.Time()
	if err != nil {
		return nil, err
	}
	done := doneOf(s, act)
	repair, grant := done.Repair(s.Token, facts, now)
	if repair == token.LetStand {
		return nil, nil
	}
	if err := tx.CloseAct(act.ID); err != nil {
		return nil, err
	}
	event := token.EventRestored
	if act.Kind == token.Downgrade {
		event = token.EventDowngradeUndone
	}
	m := messageOf(s.Token, event, now)
	m.Facts.Reason, m.Facts.Evidence = "late_use", &act.Evidence
	if repair == token.TellPeople {
		m.Facts.Reason = "late_use_not_undone"
	}
	if err := p.Teller.Tell(tx, m); err != nil {
		return nil, err
	}
	if repair == token.TellPeople {
		p.alarm(Alarm{Kind: "wrong", TokenID: act.TokenID, Text: "a late fact shows that an action was wrong, and it could not be undone: " + act.Kind.String()})
		// Told, and nothing else: yet what was told stands in the audit log.
		return []authority.Keeping{{Verb: authority.VerbUnschedule, Evidence: &act.Evidence}}, nil
	}
	*back = true
	return []authority.Keeping{{
		Verb: authority.VerbPutBackToken, Grant: &grant, Revive: act.Kind == token.DeleteUnused, Evidence: &act.Evidence,
		History: func(h *tokenstore.History) {
			if act.Kind == token.DeleteUnused {
				h.Observed = now
				return
			}
			h.DowngradedAt, h.UndoUntil, h.Before = time.Time{}, time.Time{}, token.Grant{}
			h.LevelSince = now
		},
	}}, nil
}
