package simulate

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// regret is that somebody wants to have back what was taken.
type regret struct {
	at   time.Time
	of   *subject
	kind token.ActionKind
}

func (w *World) newToken(ctx context.Context) error {
	a := w.accounts[w.r.IntN(len(w.accounts))]
	if a.disabled {
		return nil
	}
	n := authority.NewToken{Name: "nightly export", AccountID: a.id, Access: token.ReadWrite}
	switch w.r.IntN(4) {
	case 0:
		n.Access = token.ReadOnly
	case 1, 2:
		n.Access = token.Custom
		for _, i := range w.r.Perm(len(w.scopes))[:1+w.r.IntN(4)] {
			n.Scopes = append(n.Scopes, w.scopes[i].Name)
		}
	}
	if w.chance(0.05) {
		n.ExpiresAt = w.storeNow().Add(time.Duration(20+w.r.IntN(100)) * day)
	}
	issued, err := w.people.CreateToken(ctx, operator, n)
	if err != nil {
		return err
	}
	s := &subject{
		id: issued.Token.Token.ID, secret: issued.Token.Current.ID, account: a, created: w.storeNow(),
		seen: seen{state: token.Active, grant: issued.Token.Token.Grant, enabled: true, expiry: issued.Token.Expires},
	}
	if !w.chance(w.Profile.Idle) {
		for range 1 + w.r.IntN(3) {
			h := habit{scope: w.r.IntN(len(w.scopes)), every: w.Profile.habit(w.r)}
			h.next = w.now.Add(h.every(w.r))
			s.habits = append(s.habits, h)
		}
	}
	// Sooner or later nobody needs it any more, which nobody says.
	s.until = w.now.Add(time.Duration(min(w.r.ExpFloat64(), 30) * float64(3*365*day)))
	w.count(Made)
	w.subjects = append(w.subjects, s)
	w.byID[s.id] = s
	return nil
}

// act lets people do something.
func (w *World) act(ctx context.Context) error {
	if w.leap != 0 {
		return nil
	}
	for live := w.live(); live < w.wanted(); live++ {
		if err := w.newToken(ctx); err != nil {
			return err
		}
	}
	w.subjects = slices.DeleteFunc(w.subjects, func(s *subject) bool {
		last := len(s.requests) - 1
		gone := s.purged || s.state == token.Revoked && (last < 0 || s.requests[last].at.Before(w.now.Add(-150*day)))
		if gone {
			s.requests = nil
		}
		return gone
	})
	if err := w.regret(ctx); err != nil {
		return err
	}
	if err := w.reopen(ctx); err != nil {
		return err
	}
	if !w.chance(0.3) || len(w.subjects) == 0 {
		return w.follow()
	}
	if err := unlessRefused(w.change(ctx, w.subjects[w.r.IntN(len(w.subjects))])); err != nil {
		return err
	}
	return w.follow()
}

// unlessRefused drops the error of a change that was judged and refused.
func unlessRefused(err error) error {
	var refused *authority.Error
	if errors.As(err, &refused) {
		return nil
	}
	return err
}

// regret has back what people miss, where it can be had.
func (w *World) regret(ctx context.Context) error {
	kept := w.regrets[:0]
	for _, r := range w.regrets {
		var err error
		switch {
		case r.at.After(w.now):
			kept = append(kept, r)
		case r.kind == token.DeleteUnused:
			err = w.restore(ctx, r.of)
		default:
			err = w.undo(ctx, r.of)
		}
		if err := unlessRefused(err); err != nil {
			return err
		}
	}
	w.regrets = kept
	return w.follow()
}

// reopen switches accounts on again after some weeks.
func (w *World) reopen(ctx context.Context) error {
	for _, a := range w.accounts {
		if a.disabled && w.over(20*day) {
			if err := unlessRefused(w.toggle(ctx, a)); err != nil {
				return err
			}
		}
	}
	return nil
}

// change is one thing that people do to a token or its account. What is refused is
// as good as any other.
func (w *World) change(ctx context.Context, s *subject) (err error) {
	switch w.r.IntN(14) {
	case 0:
		_, err = w.people.DisableToken(ctx, operator, s.id, true)
	case 1, 2:
		if _, err = w.people.EnableToken(ctx, operator, s.id, true); err == nil {
			s.enabledAt = w.storeNow()
		}
	case 3:
		until := w.storeNow().Add(time.Duration(1+w.r.IntN(100)) * day)
		if w.chance(0.3) {
			until = time.Time{}
		}
		if _, err = w.people.ExemptToken(ctx, operator, s.id, "used once a year", until, true); err == nil {
			s.exempt = until
		}
	case 4, 5:
		return w.restoreAny(ctx)
	case 6:
		return w.undo(ctx, s)
	case 7:
		name := "weekly export"
		_, err = w.people.EditToken(ctx, operator, s.id, s.version, authority.Edit{Name: &name, Confirm: true})
	case 8:
		access := token.ReadWrite
		if _, err = w.people.EditToken(ctx, operator, s.id, s.version, authority.Edit{Access: &access, Confirm: true}); err == nil {
			s.levelAt = w.storeNow()
		}
	case 9:
		if w.chance(0.3) {
			_, err = w.people.RevokeToken(ctx, operator, s.id, true)
		}
	case 10:
		if w.chance(0.3) {
			_, err = w.people.DeleteToken(ctx, operator, s.id, true)
		}
	case 11:
		return w.toggle(ctx, w.accounts[w.r.IntN(len(w.accounts))])
	case 12:
		if w.chance(0.1) {
			return w.changePolicies(ctx)
		}
	default:
		var issued authority.Issued
		if issued, err = w.people.RotateToken(ctx, operator, s.id, authority.Rotation{Mode: token.RotateNow, Confirm: true}); err == nil {
			s.secret = issued.Token.Current.ID
		}
	}
	return err
}

func (w *World) undo(ctx context.Context, s *subject) error {
	_, err := w.people.UndoDowngrade(ctx, operator, s.id, true)
	if err == nil {
		s.levelAt = w.storeNow()
		w.count(Undone)
	}
	return err
}

func (w *World) restoreAny(ctx context.Context) error {
	var gone []*subject
	for _, s := range w.subjects {
		if s.state == token.Deleted {
			gone = append(gone, s)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	return w.restore(ctx, gone[w.r.IntN(len(gone))])
}

func (w *World) restore(ctx context.Context, s *subject) error {
	_, err := w.people.RestoreToken(ctx, operator, s.id, time.Time{}, true)
	if err == nil {
		s.enabledAt = w.storeNow()
		w.count(Restored)
	}
	return err
}

// toggle switches an account off, or on again.
func (w *World) toggle(ctx context.Context, a *account) error {
	if !a.disabled && w.chance(0.7) {
		return nil
	}
	off := !a.disabled
	changed, err := w.people.EditAccount(ctx, operator, a.id, a.version, authority.EditAccount{Disabled: &off})
	if err != nil {
		return err
	}
	a.version, a.disabled, a.enabled = changed.Version, off, w.storeNow()
	for _, s := range w.byID {
		if s.account == a {
			s.enabled = !off
			if !off {
				s.enabledAt = w.storeNow()
			}
		}
	}
	return nil
}

// changePolicies makes one of them stricter or milder.
func (w *World) changePolicies(ctx context.Context) error {
	next := slices.Clone(w.policies)
	p := &next[w.r.IntN(3)]
	if p.DeleteUnused >= 14*day {
		p.DeleteUnused = []time.Duration{45 * day, 30 * day, 40 * day}[w.r.IntN(3)]
	}
	if p.DowngradeUnused >= 14*day {
		p.DowngradeUnused = []time.Duration{45 * day, 14 * day, 30 * day}[w.r.IntN(3)]
		p.Notice = []time.Duration{7 * day, 3 * day, 10 * day}[w.r.IntN(3)]
	}
	was := w.policies
	w.policies = next
	if err := w.declare(ctx); err != nil {
		w.policies = was
		return err
	}
	w.policyAt = w.now
	w.count(PolicyChanged)
	return w.store.Read(ctx, func(tx *tokenstore.Tx) error {
		for _, s := range w.subjects {
			if err := w.look(tx, s); err != nil {
				return err
			}
		}
		return nil
	})
}
