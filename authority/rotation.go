package authority

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// The verbs about a rotation under way. VerbStartGrace is nobody's: it follows from
// the first use of a new secret.
const (
	VerbConfirmRotation Verb = "token.confirm"
	VerbRollBack        Verb = "token.rollback"
	VerbExtendRotation  Verb = "token.extend"
	VerbShowRotation    Verb = "token.rotation"
	VerbStartGrace      Verb = "token.start_grace"
)

// ErrNoRotation: no rotation of the token is under way.
var ErrNoRotation = &Error{Code: "no_rotation"}

// RotationChange is what the verbs about a rotation under way take.
type RotationChange struct {
	// Previous is the previous secret that is meant; empty: whichever it is. Whoever
	// names it can repeat a request whose answer was lost: what was done already is
	// no error, and a rotation that began since is not touched.
	Previous token.ID
	Confirm  bool
}

const fieldPreviousEnds = "previous_secret_expires_at"

// ConfirmRotation ends the previous secret now: everything has been switched over.
func (a *Authority) ConfirmRotation(ctx context.Context, by By, id token.ID, c RotationChange) (View, error) {
	return a.changeRotation(ctx, by, VerbConfirmRotation, id, &c, func(s *step, h *held, previous *token.SecretRecord) error {
		if h.secret(token.Current, s.now) == nil {
			return refuse(ErrInvalidState, "the previous secret is the only one that works: rotate the token to give it another")
		}
		still, err := s.stillUsed(h, previous)
		if err != nil {
			return err
		}
		warning := "The previous secret stops working at once, wherever it is in use." + still
		if err := confirm(&h.policy, s.verb, c.Confirm, warning); err != nil {
			return err
		}
		before := fields{"previous_secret_id": previous.ID, fieldPreviousEnds: stamp(previous.ExpiresAt)}
		if err := s.save(h); err != nil {
			return err
		}
		if err := s.retire(previous); err != nil {
			return err
		}
		if err := s.tx.EndRotation(id); err != nil {
			return err
		}
		if err := s.audit(before, fields{"previous_secret_id": nil, fieldPreviousEnds: nil}); err != nil {
			return err
		}
		return s.tell(h, token.EventRotationConfirmed, notify.Facts{PreviousExpiresAt: s.now})
	})
}

// RollBackRotation goes back to the previous secret alone: the new one is retired,
// and the one before it has no end of its own any more (R14).
func (a *Authority) RollBackRotation(ctx context.Context, by By, id token.ID, c RotationChange) (View, error) {
	return a.changeRotation(ctx, by, VerbRollBack, id, &c, func(s *step, h *held, previous *token.SecretRecord) error {
		warning := "The new secret stops working at once, wherever it is in use; the previous one stays, without an end of its own."
		if err := confirm(&h.policy, s.verb, c.Confirm, warning); err != nil {
			return err
		}
		before := fields{"previous_secret_id": previous.ID, fieldPreviousEnds: stamp(previous.ExpiresAt)}
		if err := s.save(h); err != nil {
			return err
		}
		if current := h.secret(token.Current, s.now); current != nil {
			before["secret_id"], before["last4"] = current.ID, current.Last4
			if err := s.retire(current); err != nil {
				return err
			}
		}
		previous.Status, previous.ExpiresAt = token.Current, time.Time{}
		if err := s.tx.UpdateSecret(previous); err != nil {
			return err
		}
		if err := s.tx.EndRotation(id); err != nil {
			return err
		}
		after := fields{"secret_id": previous.ID, "last4": previous.Last4, "previous_secret_id": nil, fieldPreviousEnds: nil}
		if err := s.audit(before, after); err != nil {
			return err
		}
		return s.tell(h, token.EventRolledBack, notify.Facts{Last4: previous.Last4})
	})
}

// ExtendRotation moves the end of the previous secret. A rotation that had no end, or
// one that a first use would have set, is timed from then on.
func (a *Authority) ExtendRotation(ctx context.Context, by By, id token.ID, until time.Time, c RotationChange) (View, error) {
	return a.changeRotation(ctx, by, VerbExtendRotation, id, &c, func(s *step, h *held, previous *token.SecretRecord) error {
		r, err := s.rotationOf(h, previous)
		if err != nil {
			return err
		}
		until := until.UTC().Truncate(time.Microsecond)
		if previous.ExpiresAt.Equal(until) && r.Mode == token.RotateTimed {
			return nil // it was asked for before
		}
		if err := s.checkExtension(h, &r, previous, until); err != nil {
			return err
		}
		warning := "The previous secret works until " + until.Format(time.RFC3339) + ", and from then on the new one alone."
		if err := confirm(&h.policy, s.verb, c.Confirm, warning); err != nil {
			return err
		}
		before := fields{"mode": r.Mode, fieldPreviousEnds: stamp(previous.ExpiresAt)}
		if err := s.save(h); err != nil {
			return err
		}
		previous.ExpiresAt = until
		if err := s.tx.UpdateSecret(previous); err != nil {
			return err
		}
		r.Mode, r.Grace = token.RotateTimed, 0
		if err := s.tx.PutRotation(id, r); err != nil {
			return err
		}
		if err := s.audit(before, fields{"mode": r.Mode, fieldPreviousEnds: stamp(until)}); err != nil {
			return err
		}
		return s.tell(h, token.EventRotationExtended, notify.Facts{PreviousExpiresAt: until})
	})
}

// checkExtension judges a new end. Beyond the policy's longest grace period, counted
// from the rotation, only an operator extends, also where a customer has asked (R20).
// A rotation that had no end gets one within that time from now: that makes it shorter,
// however long ago it began. What was granted before stands.
func (s *step) checkExtension(h *held, r *token.Rotation, previous *token.SecretRecord, until time.Time) error {
	switch end := h.token.ExpiryUnder(&h.policy); {
	case !until.After(s.now):
		return invalid(fieldPreviousEnds, "must be later than now: to end the previous secret now, confirm the rotation")
	case until.Year() > 9999:
		return invalid(fieldPreviousEnds, "must be in the year 9999 or before")
	case !end.IsZero() && until.After(end):
		return invalid(fieldPreviousEnds, fmt.Sprintf("must be at most %s, when the token itself ends", end.Format(time.RFC3339)))
	case s.by.Actor.Kind == tokenstore.OperatorActor:
		return nil
	}
	limit := r.StartedAt.Add(h.policy.GraceMax)
	if previous.ExpiresAt.IsZero() {
		limit = s.now.Add(h.policy.GraceMax)
	} else if previous.ExpiresAt.After(limit) {
		limit = previous.ExpiresAt
	}
	if until.After(limit) {
		return invalid(fieldPreviousEnds, fmt.Sprintf("must be at most %s: the account's policy sets grace_max, and only an operator goes beyond it", limit.Format(time.RFC3339)))
	}
	return nil
}

// changeRotation is what the verbs about a rotation under way have in common.
func (a *Authority) changeRotation(ctx context.Context, by By, v Verb, id token.ID, c *RotationChange,
	do func(*step, *held, *token.SecretRecord) error,
) (View, error) {
	var (
		h   held
		out View
	)
	find := func(s *step) (target, error) { return s.hold(id, &h) }
	err := a.change(ctx, by, v, find, func(s *step) error {
		if c.Previous != "" && !checkID(c.Previous) {
			return invalid("previous_secret_id", "must be the ID of a secret, as the token's rotation shows it")
		}
		if err := h.rotating(v, s.now); err != nil {
			return err
		}
		previous := h.secret(token.Previous, s.now)
		if c.Previous != "" && (previous == nil || previous.ID != c.Previous) {
			if !h.doneAlready(v, c.Previous, s.now) {
				return refuse(ErrNoRotation, "the secret that previous_secret_id names is not the previous one of a rotation under way: show the token's rotation to see how it stands")
			}
			out = h.view(s.now)
			return nil
		}
		if previous == nil {
			return refuse(ErrNoRotation, "no rotation of this token is under way: it was confirmed or rolled back, or the previous secret has ended by itself")
		}
		if err := do(s, &h, previous); err != nil {
			return err
		}
		out = h.view(s.now)
		return nil
	})
	if err != nil {
		return View{}, err
	}
	return out, nil
}

// rotating refuses verbs about the rotation of a token that can have none.
func (h *held) rotating(v Verb, now time.Time) error {
	switch state := h.token.StateAt(&h.policy, now); state {
	case token.Active, token.Disabled:
		return nil
	case token.Expired:
		return refuse(ErrInvalidState, "the token has expired, and both secrets of a rotation with it")
	default:
		return refuse(ErrInvalidState, finalDetail(state))
	}
}

// doneAlready says whether a secret is what a verb would have made of it when it was
// the previous one.
func (h *held) doneAlready(v Verb, id token.ID, now time.Time) bool {
	i := slices.IndexFunc(h.secrets, func(s token.SecretRecord) bool { return s.ID == id })
	switch {
	case i < 0:
		return false
	case v == VerbConfirmRotation:
		return !h.secrets[i].ValidAt(now)
	case v == VerbRollBack:
		return h.secrets[i].Status == token.Current
	default:
		return false
	}
}

// endWithToken ends a previous secret that has no earlier end together with its
// token, so that it does not come back when the token gets a later expiry: what was
// over stays over.
func (h *held) endWithToken(now time.Time) {
	end := h.token.ExpiryUnder(&h.policy)
	if end.IsZero() || now.Before(end) {
		return
	}
	for i := range h.secrets {
		if s := &h.secrets[i]; s.Status == token.Previous && s.ValidAt(end) {
			s.ExpiresAt = end
		}
	}
}

// rotationOf is the rotation under way, with the secret that is replaced by it.
func (s *step) rotationOf(h *held, previous *token.SecretRecord) (token.Rotation, error) {
	stored, err := s.tx.Rotation(h.token.ID)
	return token.RotationOf(stored, previous, h.secrets), err
}

// stillUsed warns of programs that were not switched over.
func (s *step) stillUsed(h *held, previous *token.SecretRecord) (string, error) {
	uses, err := s.tx.Uses(previous.TokenID)
	if err != nil {
		return "", err
	}
	r, err := s.rotationOf(h, previous)
	if err != nil {
		return "", err
	}
	if last := lastUseSince(uses, r); !last.IsZero() {
		return " It was last seen in use on " + last.Format(time.DateOnly) + ".", nil
	}
	return "", nil
}

// lastUseSince is when the previous secret was last known to be used, unless that was
// for certain before the rotation. Of a bucket only the first use is known.
func lastUseSince(uses []tokenstore.SecretUse, r token.Rotation) (last time.Time) {
	for i := range uses {
		if u := &uses[i]; u.SecretID == r.PreviousID && u.Until.After(r.StartedAt) && u.Last.After(last) {
			last = u.Last
		}
	}
	return last
}

// StartGraces sets the end of the previous secrets whose successors were used, in
// rotations whose grace period starts with that, or brings it forward when an earlier
// use becomes known. Any number of gateways may do it at once: what is set is the same
// whoever sets it, and it is set once. It says how many it set.
func (a *Authority) StartGraces(ctx context.Context, by By) (int, error) {
	const page = 500
	n := 0
	for after := token.ID(""); ; {
		var ids []token.ID
		var next token.ID
		err := a.Store.Read(ctx, func(tx *tokenstore.Tx) (err error) {
			ids, next, err = tx.GracesToStart(after, page)
			return err
		})
		if err != nil {
			return n, fmt.Errorf("%s: %w", VerbStartGrace, err)
		}
		for _, id := range ids {
			started, err := a.startGrace(ctx, by, id)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return n, err
			}
			if started {
				n++
			}
		}
		if next == "" {
			return n, nil
		}
		after = next
	}
}

func (a *Authority) startGrace(ctx context.Context, by By, id token.ID) (started bool, err error) {
	var h held
	find := func(s *step) (target, error) { return s.hold(id, &h) }
	err = a.change(ctx, by, VerbStartGrace, find, func(s *step) error {
		started = false
		if by.Actor.Kind != tokenstore.SystemActor {
			return errNotOfLifecycle
		}
		now, err := s.tx.Time()
		if err != nil {
			return err
		}
		s.now = now
		previous, current := h.secret(token.Previous, now), h.secret(token.Current, now)
		if previous == nil || current == nil {
			return nil
		}
		r, err := s.tx.Rotation(id)
		if err != nil {
			return err
		}
		first, err := s.tx.FirstUse(current)
		if err != nil || first.IsZero() {
			return err
		}
		end := r.EndAfter(first, now)
		if !r.StartsGrace(previous, end) {
			return nil
		}
		started = true
		before := fields{"previous_secret_id": previous.ID, fieldPreviousEnds: stamp(previous.ExpiresAt)}
		after := fields{"previous_secret_id": previous.ID, fieldPreviousEnds: stamp(end), "first_used_at": stamp(first)}
		previous.ExpiresAt = end
		if err := s.save(&h); err != nil { // which retires it, if that was long ago
			return err
		}
		if previous.Status == token.Previous {
			if err := s.tx.UpdateSecret(previous); err != nil {
				return err
			}
		}
		return s.audit(before, after)
	})
	return started && err == nil, err
}

// RotationStatus is how a rotation stands.
type RotationStatus struct {
	View View
	// Rotation is the one under way; View.Previous is nil when there is none.
	Rotation token.Rotation
	// Waits: nothing but a confirmation, or the first use of the new secret, has set
	// an end of the previous one, which still ends with its token.
	Waits bool
	// NewFirstUsed is when the new secret was first used, as far as is known; zero:
	// not yet.
	NewFirstUsed time.Time
	// PreviousLastUsed is the latest moment of which it is known that the previous
	// secret was used, in or after the bucket in which the rotation began; zero: none.
	PreviousLastUsed time.Time
	// Requests were authenticated with the previous secret since, from Addresses, most
	// requests first. The bucket in which the rotation began counts whole.
	Requests  int64
	Addresses []AddressUse
	// More: there were more addresses than one answer holds.
	More bool
}

// AddressUse is the use of a secret from one address.
type AddressUse struct {
	Address  string
	Requests int64
	LastSeen time.Time // the beginning of the last bucket
}

// maxAddresses bounds one answer.
const maxAddresses = 100

// TokenRotation shows how the rotation of a token stands, and who still uses the
// previous secret.
func (a *Authority) TokenRotation(ctx context.Context, by By, id token.ID) (RotationStatus, error) {
	var (
		h   held
		out RotationStatus
	)
	find := func(s *step) (target, error) { return s.hold(id, &h) }
	err := a.see(ctx, by, VerbShowRotation, find, func(s *step) error {
		out = RotationStatus{View: h.view(s.now)}
		if out.View.Previous == nil {
			return nil
		}
		previous := h.secret(token.Previous, s.now)
		var err error
		if out.Rotation, err = s.rotationOf(&h, previous); err != nil {
			return err
		}
		out.Waits = previous.ExpiresAt.IsZero()
		if out.View.Current.ID != "" {
			if out.NewFirstUsed, err = s.tx.FirstUse(&out.View.Current); err != nil {
				return err
			}
		}
		uses, err := s.tx.Uses(id)
		if err != nil {
			return err
		}
		return s.countPrevious(&out, uses)
	})
	if err != nil {
		return RotationStatus{}, err
	}
	return out, nil
}

func (s *step) countPrevious(out *RotationStatus, uses []tokenstore.SecretUse) error {
	policies, err := s.tx.Policies()
	if err != nil {
		return err
	}
	bucket := token.ShortestBucket(policies)
	began := out.Rotation.StartedAt
	out.PreviousLastUsed = lastUseSince(uses, out.Rotation)
	counts, more, err := s.tx.Counts(out.View.Token.ID, began.Add(-bucket), s.now.Add(24*time.Hour))
	if err != nil {
		return err
	}
	out.More = more
	byAddress := map[string]*AddressUse{}
	for _, c := range counts {
		if c.SecretID != out.View.Previous.ID || !token.AuthenticatedOutcome(c.Outcome) || !c.Bucket.Add(bucket).After(began) {
			continue
		}
		use := byAddress[c.Address]
		if use == nil {
			use = &AddressUse{Address: c.Address}
			byAddress[c.Address] = use
		}
		use.Requests += c.N
		out.Requests += c.N
		if c.Bucket.After(use.LastSeen) {
			use.LastSeen = c.Bucket
		}
	}
	for _, use := range byAddress {
		out.Addresses = append(out.Addresses, *use)
	}
	slices.SortFunc(out.Addresses, func(a, b AddressUse) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Address, b.Address))
	})
	if len(out.Addresses) > maxAddresses {
		out.Addresses, out.More = out.Addresses[:maxAddresses], true
	}
	return nil
}
