package authority

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// EndRetiredUse is why a token ended whose retired secret was used.
const EndRetiredUse = notify.ReasonRetiredUse

// VerbNoteRetiredUse notes that a retired secret was used. No person asks for it.
const VerbNoteRetiredUse Verb = "token.retired_use"

// RetiredUse is that somebody presented a secret that works no more: its grace
// period had ended, or it was replaced. It is no guess, since nobody finds a
// secret that once was one; either a client was forgotten, or it leaked.
type RetiredUse struct {
	TokenID, SecretID token.ID
	Address           netip.Addr // it came from there; zero: not known
}

// RetiredUseResult is what came of a use of a retired secret.
type RetiredUseResult uint8

// What can come of it.
const (
	// RetiredUseDismissed: the secret works, or the token has ended.
	RetiredUseDismissed RetiredUseResult = iota
	// RetiredUseNoted: it stands in the audit log and people are told, by now or
	// since earlier that day.
	RetiredUseNoted
	// RetiredUseRevoked: the token was revoked besides.
	RetiredUseRevoked
)

// NoteRetiredUse writes down that a retired secret was used, tells people of it,
// and revokes the token where its policy wants that (revoke_on_retired_use). What
// the gate saw may be out of date by now, so that everything is judged anew here.
//
// However often a secret is used, and at however many gateways, it is noted and
// told once in a day (UTC): whoever has one could else have thousands of mails sent,
// and people would stop reading them. Repetitions are found by reading alone.
func (a *Authority) NoteRetiredUse(ctx context.Context, by By, use RetiredUse) (result RetiredUseResult, err error) {
	var h held
	find := func(s *step) (target, error) { return s.hold(use.TokenID, &h) }
	settled := false
	err = a.see(ctx, by, VerbNoteRetiredUse, find, func(s *step) (err error) {
		var used *token.SecretRecord
		result, used, err = s.judgeRetiredUse(&h, use)
		settled = used == nil
		return err
	})
	if err == nil && !settled {
		err = a.change(ctx, by, VerbNoteRetiredUse, find, func(s *step) error {
			judged, used, err := s.judgeRetiredUse(&h, use)
			result = judged
			if err != nil || used == nil {
				return err
			}
			return s.noteRetiredUse(&h, use, used, result)
		})
	}
	if err != nil {
		return RetiredUseDismissed, err
	}
	return result, nil
}

// judgeRetiredUse says what is to come of a use, and of which secret it is; nil:
// nothing is left to do.
func (s *step) judgeRetiredUse(h *held, use RetiredUse) (RetiredUseResult, *token.SecretRecord, error) {
	if isOver(&h.token) {
		return RetiredUseDismissed, nil, nil
	}
	var used *token.SecretRecord
	for i := range h.secrets {
		if h.secrets[i].ID == use.SecretID && !h.secrets[i].ValidAt(s.now) {
			used = &h.secrets[i]
		}
	}
	switch {
	case used == nil:
		return RetiredUseDismissed, nil, nil
	case h.policy.RevokeOnRetiredUse:
		return RetiredUseRevoked, used, nil
	}
	noted, err := s.notedToday(used)
	if err != nil || noted {
		return RetiredUseNoted, nil, err
	}
	return RetiredUseNoted, used, nil
}

// noteRetiredUse writes it down: the use itself, and the end of the token.
func (s *step) noteRetiredUse(h *held, use RetiredUse, used *token.SecretRecord, result RetiredUseResult) error {
	what := fields{"secret_id": used.ID, "last4": used.Last4}
	if use.Address.IsValid() {
		what["address"] = use.Address.String()
	}
	if result != RetiredUseRevoked {
		if err := s.tellOfRetiredUse(h, use, used, ""); err != nil {
			return err
		}
		return s.audit(nil, what)
	}
	if err := s.revokeFor(h, EndRetiredUse, what, notify.Facts{Reason: notify.ReasonRetiredUse}); err != nil {
		return err
	}
	return s.tellOfRetiredUse(h, use, used, notify.ReasonTokenRevoked)
}

// revokeFor ends a token that nobody asked to end, for what became known about one of
// its secrets. Whoever is to know of every revocation is told of this one too (O23).
func (s *step) revokeFor(h *held, reason string, what fields, facts notify.Facts) error {
	was := tokenFields(&h.token)
	h.token.State, h.token.EndedAt, h.token.EndReason = token.Revoked, s.now, reason
	if err := s.save(h); err != nil {
		return err
	}
	before, after, err := differing(was, tokenFields(&h.token))
	if err != nil {
		return err
	}
	maps.Copy(after, what)
	if err := s.tell(h, token.EventRevoked, facts); err != nil {
		return err
	}
	return s.auditAs(VerbRevokeToken, s.target, before, after)
}

func (s *step) tellOfRetiredUse(h *held, use RetiredUse, used *token.SecretRecord, reason string) error {
	if s.a.Teller == nil {
		return nil
	}
	f := notify.Facts{Last4: used.Last4, Reason: reason}
	if use.Address.IsValid() {
		f.Address = use.Address.String()
	}
	m, err := s.message(h, token.EventRetiredSecretUsed, f)
	if err != nil {
		return err
	}
	m.Facts.Actor = "" // nobody knows who it was
	m.Version, m.Distinct = 0, string(used.ID)+" "+s.now.UTC().Format(time.DateOnly)+" "+reason
	return s.a.Teller.Tell(s.tx, m)
}

// notedToday says whether a use of the secret stands in the audit log already
// today. The log and not the outbox is asked: there may be nobody to tell.
func (s *step) notedToday(used *token.SecretRecord) (bool, error) {
	return s.noted(used, tokenstore.AuditQuery{
		Target: string(used.TokenID), Verb: string(VerbNoteRetiredUse),
		After: dayOf(s.now).Add(-time.Microsecond), // which is excluded
	})
}

// noted says whether one of some audit entries is about a secret.
func (s *step) noted(secret *token.SecretRecord, q tokenstore.AuditQuery) (bool, error) {
	q.Limit = tokenstore.MaxLimit
	for {
		entries, next, err := s.tx.AuditEntries(q)
		if err != nil {
			return false, err
		}
		for i := range entries {
			var about struct {
				SecretID token.ID `json:"secret_id"`
			}
			if err := json.Unmarshal(entries[i].After, &about); err != nil {
				return false, fmt.Errorf("an audit entry of %s can not be read", q.Verb)
			}
			if about.SecretID == secret.ID {
				return true, nil
			}
		}
		if next == "" {
			return false, nil
		}
		q.Cursor = next
	}
}
