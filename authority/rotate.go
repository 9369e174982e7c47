package authority

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport/sallyport/token"
)

// Rotation is what rotate asks for.
type Rotation struct {
	Mode    token.RotationMode // empty: the policy's first
	Grace   *time.Duration     // nil: the policy's default; only with timed
	Confirm bool
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
		if err := confirm(&h.policy, s.verb, r.Confirm, p.warning()); err != nil {
			return err
		}
		return s.rotate(&h, p, &out)
	})
	if err != nil {
		return Issued{}, err
	}
	return out, nil
}

// rotationPlan is what a rotation does with the secret that is current now.
type rotationPlan struct {
	mode token.RotationMode
	// until is when it stops working; not later than now means at once.
	until time.Time
	now   time.Time
}

func (p *rotationPlan) atOnce() bool { return !p.until.After(p.now) }

// adds is how many more secrets are valid afterwards: none when the new one
// takes the place of the old one at once.
func (p *rotationPlan) adds(h *held) int {
	if p.atOnce() && h.secret(token.Current, p.now) != nil {
		return 0
	}
	return 1
}

func (p *rotationPlan) warning() string {
	if p.atOnce() {
		return "The present secret stops working at once, wherever it is in use."
	}
	return "The present secret works until " + p.until.Format(time.RFC3339) + ", and from then on the new one alone."
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
	if !slices.Contains(h.policy.RotationModes, mode) {
		return nil, invalid("mode", fmt.Sprintf("the account's policy allows %q", h.policy.RotationModes))
	}
	grace, err := r.grace(mode, &h.policy)
	if err != nil {
		return nil, err
	}
	if previous := h.secret(token.Previous, now); previous != nil && h.secret(token.Current, now) != nil {
		end := "only when a person ends it"
		if at := h.view(now).Previous.ExpiresAt; !at.IsZero() {
			end = "at " + at.Format(time.RFC3339)
		}
		return nil, refuse(ErrRotationInProgress, "a rotation is under way, and the previous secret ends "+end+
			": rotate again after that; if a secret has leaked, disable or revoke the token now, and create another")
	}
	until := now.Add(grace)
	if end := h.token.ExpiryUnder(&h.policy); !end.IsZero() && end.Before(until) {
		until = end
	}
	return &rotationPlan{mode: mode, until: until, now: now}, nil
}

// grace is how long the previous secret is to work.
func (r *Rotation) grace(mode token.RotationMode, p *token.Policy) (time.Duration, error) {
	const field = "grace_period_seconds"
	switch {
	case mode == token.RotateNow && r.Grace != nil:
		return 0, invalid(field, "mode now ends the previous secret at once: leave the grace period out, or use mode timed")
	case mode == token.RotateNow:
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

// rotate makes the current secret the previous one, or retires it, and issues
// the next. A token without a current secret, which the removal of a master key
// can leave behind, just gets one.
func (s *step) rotate(h *held, p *rotationPlan, out *Issued) error {
	before := fields{}
	after := fields{"mode": p.mode}
	if err := s.save(h); err != nil {
		return err
	}
	if old := h.secret(token.Current, s.now); old != nil {
		before["secret_id"], before["last4"] = old.ID, old.Last4
		if p.atOnce() {
			old.Status = token.Retired
		} else {
			old.Status, old.ExpiresAt = token.Previous, p.until
			after["previous_secret_id"] = old.ID
			after["previous_secret_expires_at"] = stamp(p.until)
		}
		if err := s.tx.UpdateSecret(old); err != nil {
			return err
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
	*out = Issued{Token: h.view(s.now), Secret: secret}
	return nil
}
