package authority

import (
	"context"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// What people may take back of what the lifecycle did, and how they keep it off.
const (
	VerbRestoreToken  Verb = "token.restore"
	VerbUndoDowngrade Verb = "token.undo-downgrade"
	VerbExemptToken   Verb = "token.exempt"
)

// noUndo says what a reason means for whoever asks, and what can be done.
var noUndo = map[token.NoUndo]string{
	token.NothingToUndo:  "there is nothing to undo: the token was not deleted, or its permissions were not narrowed, for being unused",
	token.EndedByPerson:  "a person revoked or deleted the token, which is final: create a new one",
	token.UndoTooLate:    "the time in which this can be undone (the policy's restore_window) is over: create a new token",
	token.UndoOff:        "the account's policy does not let downgrades be undone (its knob downgrade_undo): create a new token with the permissions that it needs",
	token.ChangedSince:   "the token was given other permissions since: edit those, where the policy allows it, or create a new token",
	token.ExpiryNeeded:   "the token would be expired: give a later expires_at",
	token.ExpiryTooLate:  "expires_at is later than the policy's max_lifetime allows: give an earlier one",
	token.NotEnoughKnown: "what the token had is not known any more: create a new one",
}

func refuseUndo(why token.NoUndo) error {
	if why == token.ExpiryNeeded || why == token.ExpiryTooLate {
		return invalid("expires_at", noUndo[why])
	}
	return refuse(ErrInvalidState, noUndo[why])
}

// RestoreToken brings back a token that the lifecycle deleted, with all that it
// had. An expired one needs a new expiry. Its windows start anew.
func (a *Authority) RestoreToken(ctx context.Context, by By, id token.ID, expiresAt time.Time, confirmed bool) (View, error) {
	return a.takeBack(ctx, by, VerbRestoreToken, id, confirmed, "The token's secrets are about to work again.",
		func(s *step, h *held, history *tokenstore.History) error {
			if why := token.Restore(&h.token, &h.policy, expiresAt, s.now); why != 0 {
				return refuseUndo(why)
			}
			t := &h.token
			t.State, t.EndedAt, t.EndReason, t.LifetimeFrom = token.Active, time.Time{}, "", s.now
			if !expiresAt.IsZero() {
				var err error
				if t.ExpiresAt, err = expiryIn(expiresAt, &h.policy, s.now, s.now); err != nil {
					return err
				}
			}
			// Its level is as old as it was: an earlier downgrade can still be undone.
			history.Observed = s.now
			return nil
		})
}

// UndoDowngrade gives a token back what the lifecycle took from it.
func (a *Authority) UndoDowngrade(ctx context.Context, by By, id token.ID, confirmed bool) (View, error) {
	return a.takeBack(ctx, by, VerbUndoDowngrade, id, confirmed, "The token is about to get back the permissions that it had.",
		func(s *step, h *held, history *tokenstore.History) error {
			grant, why := token.UndoDowngrade(&h.token, &history.History, &h.policy, s.now)
			if why != 0 {
				return refuseUndo(why)
			}
			h.token.Grant = grant
			history.LevelSince, history.DowngradedAt, history.UndoUntil, history.Before = s.now, time.Time{}, time.Time{}, token.Grant{}
			return nil
		})
}

// takeBack undoes an act of the lifecycle. The rules that bind creation bind here
// too, at the time of the act.
func (a *Authority) takeBack(ctx context.Context, by By, v Verb, id token.ID, confirmed bool, warning string,
	undo func(*step, *held, *tokenstore.History) error,
) (View, error) {
	var (
		h   held
		out View
	)
	find := func(s *step) (target, error) { return s.hold(id, &h) }
	err := a.change(ctx, by, v, find, func(s *step) error {
		history, err := s.tx.History(id)
		if err != nil {
			return err
		}
		was := tokenFields(&h.token)
		if err := undo(s, &h, &history); err != nil {
			return err
		}
		known, err := s.declared()
		if err != nil {
			return err
		}
		if err := checkAllowListRule(&h.token, &h.policy, known); err != nil {
			return err
		}
		if v == VerbRestoreToken {
			if err := s.checkCaps(&h, h.working(s.now)); err != nil {
				return err
			}
		}
		if err := confirm(&h.policy, v, confirmed, warning); err != nil {
			return err
		}
		history.Scheduled, history.ScheduledAt = 0, time.Time{}
		if err := s.closeActs(id); err != nil {
			return err
		}
		if err := s.save(&h); err != nil {
			return err
		}
		if err := s.tx.PutHistory(id, history); err != nil {
			return err
		}
		h.life.History = history
		before, after, err := differing(was, tokenFields(&h.token))
		if err != nil {
			return err
		}
		event, f := token.EventRestored, notify.Facts{}
		if v == VerbUndoDowngrade {
			event = token.EventDowngradeUndone
			f.Access, f.Scopes = h.token.Grant.Access.String(), h.token.Grant.Scopes
		}
		if err := s.tell(&h, event, f); err != nil {
			return err
		}
		out = h.view(s.now)
		return s.audit(before, after)
	})
	if err != nil {
		return View{}, err
	}
	return out, nil
}

// working counts the secrets that count against caps once the token is back.
func (h *held) working(now time.Time) int {
	n := 0
	for i := range h.secrets {
		if h.secrets[i].ValidAt(now) {
			n++
		}
	}
	return n
}

// closeActs says that what the lifecycle did is settled by a person.
func (s *step) closeActs(id token.ID) error {
	acts, err := s.tx.OpenActsOf(id)
	if err != nil {
		return err
	}
	for _, act := range acts {
		if err := s.tx.CloseAct(act.ID); err != nil {
			return err
		}
	}
	return nil
}

// Limits of exemptions.
const (
	maxExemption = 2 * 366 * 24 * time.Hour
	maxReason    = 500 // bytes
)

// ExemptToken keeps the lifecycle from narrowing or deleting a token for being
// unused, until a time. A zero time ends the exemption.
func (a *Authority) ExemptToken(ctx context.Context, by By, id token.ID, reason string, until time.Time, confirmed bool) (View, error) {
	var (
		h   held
		out View
	)
	if !until.IsZero() {
		until = until.UTC().Truncate(time.Microsecond)
	}
	find := func(s *step) (target, error) { return s.hold(id, &h) }
	err := a.change(ctx, by, VerbExemptToken, find, func(s *step) error {
		switch {
		case h.token.State == token.Revoked || h.token.State == token.Deleted:
			return refuse(ErrInvalidState, finalDetail(h.token.State))
		case until.IsZero():
			reason = ""
		case reason == "" || len(reason) > maxReason || !plain(reason):
			return invalid("reason", fmt.Sprintf("says why the token is exempt, in at most %d bytes without control characters", maxReason))
		case !until.After(s.now) || until.Sub(s.now) > maxExemption:
			return invalid("until", "must be later than now, and at most two years away: an exemption without an end is how unused tokens stay for ever")
		}
		history, err := s.tx.History(id)
		if err != nil {
			return err
		}
		if history.ExemptUntil.Equal(until) && history.ExemptReason == reason {
			out = h.view(s.now)
			return nil
		}
		if err := confirm(&h.policy, VerbExemptToken, confirmed, "The token is about to be left alone even when nobody uses it."); err != nil {
			return err
		}
		before := fields{"exempt_until": stamp(history.ExemptUntil), "exempt_reason": history.ExemptReason}
		history.ExemptUntil, history.ExemptReason = until, reason
		if err := s.save(&h); err != nil {
			return err
		}
		if err := s.tx.PutHistory(id, history); err != nil {
			return err
		}
		h.life.History = history
		if err := s.tell(&h, token.EventExempted, notify.Facts{Due: until, Note: reason}); err != nil {
			return err
		}
		out = h.view(s.now)
		return s.audit(before, fields{"exempt_until": stamp(until), "exempt_reason": reason})
	})
	if err != nil {
		return View{}, err
	}
	return out, nil
}
