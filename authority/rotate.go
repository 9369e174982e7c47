package authority

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
)

// Rotation is what rotate asks for.
type Rotation struct {
	Mode    token.RotationMode // empty: the policy's first
	Grace   *time.Duration     // nil: the policy's default; only with timed and on_first_use
	Confirm bool
	// RevokeLast4 names a valid secret of the account by its last 4 characters, to be
	// given up for the new one; empty: none.
	RevokeLast4 string

	// replaces: the secret that was given up is the one that is rotated, so that it
	// ends at once whatever modes the policy has.
	replaces bool
}

// RotateToken issues a new secret under the same token.
//
// A disabled token can be rotated, and so can one whose account or user is
// disabled: after a leak one switches off first and changes the secrets then.
func (a *Authority) RotateToken(ctx context.Context, by By, id token.ID, r Rotation) (Issued, error) {
	release, err := a.reserve(by, VerbRotateToken, id)
	if err != nil {
		return Issued{}, err
	}
	defer release()

	var (
		h   held
		out Issued
	)
	find := func(s *step) (target, error) { return s.hold(id, &h) }
	err = a.change(ctx, by, VerbRotateToken, find, func(s *step) (err error) {
		var again bool
		if out, again, err = s.replay(id); again || err != nil {
			return err
		}
		r := r // a second run begins anew
		room, err := s.findGiven(h.token.AccountID, r.RevokeLast4)
		if err != nil {
			return err
		}
		if err := s.makeRoom(&h, &room, &r); err != nil {
			return err
		}
		p, err := r.plan(&h, s.now)
		if err != nil {
			return err
		}
		known, err := s.declared()
		if err != nil {
			return err
		}
		if err := checkAllowListRule(&h.token, &h.policy, known); err != nil {
			return err
		}
		if err := s.checkCaps(&h, p.adds(&h)); err != nil {
			return err
		}
		if err := room.confirm(s, &h.policy, r.Confirm, p.warning()); err != nil {
			return err
		}
		return s.rotate(&h, p, &out)
	})
	if err != nil {
		return Issued{}, err
	}
	return out, nil
}

// rotationPlan is what a rotation does with the secret that works now.
type rotationPlan struct {
	mode  token.RotationMode
	grace time.Duration
	// until is when it stops working; not later than now means at once, and the zero
	// time that no time ends it: a person does, or the first use of the new one.
	until time.Time
	now   time.Time
}

func (p *rotationPlan) atOnce() bool { return !p.until.IsZero() && !p.until.After(p.now) }

// replaced is the secret that a rotation takes out of use. It is the previous one
// where the removal of a master key has left nothing else.
func (h *held) replaced(now time.Time) *token.SecretRecord {
	if current := h.secret(token.Current, now); current != nil {
		return current
	}
	return h.secret(token.Previous, now)
}

// adds is how many more secrets are valid afterwards: none when the new one
// takes the place of the old one at once.
func (p *rotationPlan) adds(h *held) int {
	if p.atOnce() && h.replaced(p.now) != nil {
		return 0
	}
	return 1
}

func (p *rotationPlan) warning() string {
	switch {
	case p.atOnce():
		return "The present secret stops working at once, wherever it is in use."
	case p.mode == token.RotateUntilConfirmed:
		return "The present secret works on until the switch is confirmed, and from then on the new one alone."
	case p.mode == token.RotateOnFirstUse:
		return fmt.Sprintf("The present secret stops working %s after the new one is first used, wherever it is in use by then.", words(p.grace))
	default:
		return "The present secret works until " + p.until.Format(time.RFC3339) + ", and from then on the new one alone."
	}
}

// words writes a grace period for people.
func words(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= 2*day && d%day == 0:
		return fmt.Sprintf("%d days", d/day)
	default:
		return d.String()
	}
}

// plan judges a rotation by the token's state and the policy.
func (r *Rotation) plan(h *held, now time.Time) (*rotationPlan, error) {
	switch state := h.token.StateAt(&h.policy, now); state {
	case token.Active, token.Disabled:
	case token.Expired:
		return nil, refuse(ErrInvalidState, "the token has expired: give it a later expires_at first, where its policy lets that be edited, or create a new token")
	default:
		return nil, refuse(ErrInvalidState, finalDetail(state))
	}
	mode := r.Mode
	if mode == "" && len(h.policy.RotationModes) > 0 {
		mode = h.policy.RotationModes[0]
	}
	if !slices.Contains(h.policy.RotationModes, mode) && !r.replaces {
		return nil, invalid("mode", fmt.Sprintf("the account's policy allows %q", h.policy.RotationModes))
	}
	grace, err := r.grace(mode, &h.policy)
	if err != nil {
		return nil, err
	}
	if h.secret(token.Previous, now) != nil && h.secret(token.Current, now) != nil {
		return nil, h.underWay(now)
	}
	p := &rotationPlan{mode: mode, grace: grace, now: now}
	if mode == token.RotateNow || mode == token.RotateTimed {
		p.until = now.Add(grace)
		if end := h.token.ExpiryUnder(&h.policy); !end.IsZero() && end.Before(p.until) {
			p.until = end
		}
	}
	return p, nil
}

// underWay refuses a second rotation, and says what can be done instead.
func (h *held) underWay(now time.Time) error {
	end := "has no end yet"
	if at := h.view(now).Previous.ExpiresAt; !at.IsZero() {
		end = "ends at " + at.Format(time.RFC3339)
	}
	return refuse(ErrRotationInProgress, "a rotation is under way, and the previous secret "+end+
		": confirm it to end that secret now, roll it back to go on with that secret alone, extend it, or rotate again once it has ended; "+
		"if the newest secret has leaked, confirm and rotate with mode now, or revoke the token")
}

// grace is how long the previous secret is to work.
func (r *Rotation) grace(mode token.RotationMode, p *token.Policy) (time.Duration, error) {
	const field = "grace_period_seconds"
	switch {
	case mode == token.RotateNow && r.Grace != nil:
		return 0, invalid(field, "mode now ends the previous secret at once: leave the grace period out, or use mode timed")
	case mode == token.RotateUntilConfirmed && r.Grace != nil:
		return 0, invalid(field, "with mode until_confirmed a person ends the previous secret: leave the grace period out, or use mode timed or on_first_use")
	case !mode.TakesGrace():
		return 0, nil
	case r.Grace == nil:
		return min(max(p.GraceDefault, p.GraceMin), p.GraceMax), nil
	}
	grace := r.Grace.Truncate(time.Microsecond)
	if grace < p.GraceMin || grace > p.GraceMax {
		return 0, invalid(field, fmt.Sprintf("the account's policy allows %d to %d", int64(p.GraceMin/time.Second), int64(p.GraceMax/time.Second)))
	}
	return grace, nil
}

// rotate makes the secret that works the previous one, or retires it, and issues
// the next. A token without any, which the removal of a master key can leave behind,
// just gets one.
func (s *step) rotate(h *held, p *rotationPlan, out *Issued) error {
	before := fields{}
	after := fields{"mode": p.mode}
	if err := s.save(h); err != nil {
		return err
	}
	facts := notify.Facts{}
	if old := h.replaced(s.now); old != nil {
		before["secret_id"], before["last4"] = old.ID, old.Last4
		if err := s.supersede(old, p, after); err != nil {
			return err
		}
		facts.PreviousExpiresAt = p.until
		if old.Status == token.Previous {
			facts.PreviousExpiresAt = old.ExpiresAt
		}
	}
	secret, err := s.issue(h, s.retryUntil())
	if err != nil {
		return err
	}
	after["secret_id"], after["last4"] = h.secrets[0].ID, h.secrets[0].Last4
	if err := s.audit(before, after); err != nil {
		return err
	}
	if err := s.remember(h.token.ID, h); err != nil {
		return err
	}
	if err := s.tell(h, token.EventRotated, facts); err != nil {
		return err
	}
	*out = Issued{Token: h.view(s.now), Secret: secret}
	return nil
}

// supersede retires a secret, or makes it the previous one, and notes how it ends.
func (s *step) supersede(old *token.SecretRecord, p *rotationPlan, after fields) error {
	if p.atOnce() {
		old.Status = token.Retired
		if err := s.tx.EndRotation(old.TokenID); err != nil {
			return err
		}
		return s.tx.UpdateSecret(old)
	}
	if old.Status == token.Previous && !old.ExpiresAt.IsZero() {
		after["previous_secret_id"], after["previous_secret_expires_at"] = old.ID, stamp(old.ExpiresAt)
		return nil // its end was promised by the rotation before
	}
	old.Status, old.ExpiresAt = token.Previous, p.until
	after["previous_secret_id"] = old.ID
	after["previous_secret_expires_at"] = stamp(p.until)
	r := token.Rotation{PreviousID: old.ID, Mode: p.mode, StartedAt: s.now}
	if p.mode == token.RotateOnFirstUse {
		r.Grace = p.grace
		after["grace_period_seconds"] = int64(p.grace / time.Second)
	}
	if err := s.tx.PutRotation(old.TokenID, r); err != nil {
		return err
	}
	return s.tx.UpdateSecret(old)
}
