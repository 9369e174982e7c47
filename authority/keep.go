package authority

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// The verbs of the lifecycle. No person asks for them: they follow from a token's
// past, and each entry in the audit log carries the evidence.
const (
	VerbScheduleToken  Verb = "token.schedule" // notice was given of something to come
	VerbUnschedule     Verb = "token.unschedule"
	VerbDowngradeToken Verb = "token.downgrade"
	VerbDeleteUnused   Verb = "token.delete_unused"
	VerbDeleteExpired  Verb = "token.delete_expired"
	VerbRetireSecret   Verb = "token.retire_secret"
	VerbPurgeToken     Verb = "token.purge"
	VerbPutBackToken   Verb = "token.put_back" // an action turned out to be wrong
)

// Keeping is one change that the lifecycle makes to a token. Fields that are zero
// change nothing.
type Keeping struct {
	Verb Verb
	// Grant is what the token may do from now on.
	Grant *token.Grant
	// End is why the token is deleted now: token.EndUnused or token.EndExpired.
	End string
	// Revive makes a deleted token active again.
	Revive bool
	// Retire is the previous secret whose grace period is over.
	Retire token.ID
	// Purge clears all of a deleted token but what is needed to know its secrets.
	Purge bool
	// History changes what is kept beside the token.
	History func(*tokenstore.History)
	// Evidence is why.
	Evidence *token.Evidence
}

// errNotOfLifecycle keeps the lifecycle to what is its own.
var errNotOfLifecycle = errors.New("authority: the lifecycle does not do that")

// Keep carries out what decide finds to follow from a token's past, with its audit
// entries, in one transaction: what decide reads is what is so when its changes are
// made. decide may write plans, acts and notices; it may run more than once.
func (a *Authority) Keep(ctx context.Context, by By, id token.ID, decide func(*tokenstore.Tx, *tokenstore.Subject) ([]Keeping, error)) error {
	var h held
	find := func(s *step) (target, error) { return s.hold(id, &h) }
	// The verb that is permitted is the one that all others belong to; each entry
	// has its own.
	return a.change(ctx, by, VerbScheduleToken, find, func(s *step) error {
		if by.Actor.Kind != tokenstore.SystemActor {
			return errNotOfLifecycle
		}
		// What is kept for days is dated by the clock that all gateways share.
		now, err := s.tx.Time()
		if err != nil {
			return err
		}
		s.now = now
		subject, err := s.tx.Subject(id)
		if err != nil {
			return found(err, "token")
		}
		list, err := decide(s.tx, &subject)
		if err != nil || len(list) == 0 {
			return err
		}
		history := subject.History
		for i := range list {
			if err := s.keep(&h, &history, &list[i]); err != nil {
				return err
			}
		}
		was := h.token.Version
		if err := s.save(&h); err != nil {
			return err
		}
		if err := s.tx.PutHistory(id, history); err != nil {
			return err
		}
		// Its own changes are no sign that somebody else changed the token.
		return s.tx.MoveActs(id, was, h.token.Version)
	})
}

// keep makes one change and appends its entry. The token is saved by the caller,
// once for all of them.
func (s *step) keep(h *held, history *tokenstore.History, k *Keeping) error {
	was := tokenFields(&h.token)
	t := &h.token
	switch k.Verb {
	case VerbScheduleToken, VerbUnschedule:
	case VerbDowngradeToken:
		if k.Grant == nil || t.State != token.Active {
			return errNotOfLifecycle
		}
		t.Grant = *k.Grant
	case VerbDeleteUnused, VerbDeleteExpired:
		if k.End != token.EndUnused && k.End != token.EndExpired || t.State == token.Deleted || t.State == token.Revoked {
			return errNotOfLifecycle
		}
		t.State, t.EndedAt, t.EndReason = token.Deleted, s.now, k.End
	case VerbPutBackToken:
		if k.Grant == nil {
			return errNotOfLifecycle
		}
		t.Grant = *k.Grant
		if k.Revive {
			t.State, t.EndedAt, t.EndReason = token.Active, time.Time{}, ""
		}
	case VerbRetireSecret:
		return s.keepRetired(h, k)
	case VerbPurgeToken:
		if t.State != token.Deleted {
			return errNotOfLifecycle
		}
		t.Name, t.Grant, t.AllowList = "", token.Grant{Access: token.ReadOnly}, token.AllowList{}
		history.PurgedAt = s.now
	default:
		return errNotOfLifecycle
	}
	if k.History != nil {
		k.History(history)
	}
	before, after, err := differing(was, tokenFields(t))
	if err != nil {
		return err
	}
	if k.Evidence != nil {
		after["evidence"] = k.Evidence
	}
	if err := s.auditAs(k.Verb, target{id: string(t.ID), account: t.AccountID}, before, after); err != nil {
		return fmt.Errorf("%s: %w", k.Verb, err)
	}
	return nil
}

// keepRetired retires a previous secret whose time is over. save would do it in
// passing; here it has its entry.
func (s *step) keepRetired(h *held, k *Keeping) error {
	for i := range h.secrets {
		secret := &h.secrets[i]
		if secret.ID != k.Retire || secret.Status != token.Previous {
			continue
		}
		// The secret is written by save, with its token. One without an end of its own
		// ends with its token.
		if secret.ValidAt(s.now) {
			secret.ExpiresAt = s.now
		}
		return s.auditAs(k.Verb, target{id: string(h.token.ID), account: h.token.AccountID},
			fields{"previous_secret_id": secret.ID, "last4": secret.Last4}, fields{"previous_secret_id": nil})
	}
	return nil
}
