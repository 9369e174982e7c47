package authority

import (
	"fmt"
	"slices"
	"time"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// VerbRevokeSecret is in the audit log only: a secret was given up for another one,
// and its token lives on.
const VerbRevokeSecret Verb = "token.revoke_secret"

// ErrAmbiguousLast4: several valid secrets of the account end so.
var ErrAmbiguousLast4 = &Error{Code: "ambiguous_last4"}

const (
	fieldRevokeLast4 = "revoke_last4"
	last4Length      = 4
)

// given is the secret that is to be given up for another one, with its token.
type given struct {
	held   held
	secret *token.SecretRecord
	// warning says what giving it up does.
	warning string
}

// none says that no secret was named.
func (g *given) none() bool { return g.secret == nil }

// of says whether it is a secret of a token.
func (g *given) of(id token.ID) bool { return g.secret != nil && g.held.token.ID == id }

// findGiven finds the valid secret of an account that ends in last4, by which people
// know secrets (T18). Letter case counts.
func (s *step) findGiven(account token.ID, last4 string) (given, error) {
	if last4 == "" {
		return given{}, nil
	}
	if len(last4) != last4Length {
		return given{}, invalid(fieldRevokeLast4, "must be the last 4 characters of a secret, and no more of it")
	}
	q := tokenstore.TokenQuery{
		AccountID: account, States: []token.State{token.Active, token.Disabled}, Search: last4,
		Now: s.now, Limit: tokenstore.MaxLimit,
	}
	var found []Candidate
	for {
		page, err := s.tx.Tokens(q)
		if err != nil {
			return given{}, err
		}
		for _, row := range page.Tokens {
			for _, secret := range row.Secrets {
				if secret.Last4 == last4 {
					found = append(found, Candidate{TokenID: row.Token.ID, SecretID: secret.ID, Last4: last4, Name: row.Token.Name})
				}
			}
		}
		if page.Next == "" {
			break
		}
		q.Cursor = page.Next
	}
	switch len(found) {
	case 0:
		return given{}, invalid(fieldRevokeLast4, "no valid secret of the account ends so; letter case counts")
	case 1:
	default:
		return given{}, &Error{
			Code:   ErrAmbiguousLast4.Code,
			Detail: fmt.Sprintf("%d valid secrets of the account end so: revoke the token of the one that you mean, or confirm or roll back its rotation, and ask again without %s", len(found), fieldRevokeLast4),
			// At most as many as a refusal lists.
			Candidates: found[:min(len(found), maxCandidates)],
		}
	}
	var g given
	if _, err := s.hold(found[0].TokenID, &g.held); err != nil {
		return given{}, err
	}
	i := slices.IndexFunc(g.held.secrets, func(r token.SecretRecord) bool { return r.ID == found[0].SecretID })
	if i < 0 {
		return given{}, fmt.Errorf("secret %s is gone from its token", found[0].SecretID)
	}
	g.secret = &g.held.secrets[i]
	g.warning = fmt.Sprintf(" The secret that ends in %s stops working at once.", last4)
	if g.other(s) == nil {
		g.warning = fmt.Sprintf(" The secret that ends in %s stops working at once, and its token is revoked for good.", last4)
	}
	return g, s.mayAlso(VerbRevokeToken, target{
		id: string(g.held.token.ID), account: account, user: g.held.token.UserID, environment: g.held.token.Environment,
	})
}

// mayAlso permits a verb on another target as part of the one that is carried out.
func (s *step) mayAlso(v Verb, t target) error {
	if err := s.asker.may(v, t); err != nil {
		return err
	}
	if s.asker.mustStepUp(s.verb) {
		return nil // the code was judged for that
	}
	part := *s
	part.verb, part.target = v, t
	return part.stepUp()
}

// other is the other valid secret of the token; nil: there is none.
func (g *given) other(s *step) *token.SecretRecord {
	for i := range g.held.secrets {
		if r := &g.held.secrets[i]; r.ID != g.secret.ID && r.ValidAt(s.now) {
			return r
		}
	}
	return nil
}

// confirm asks for the confirmation of a verb, or of the revoking that is part of it.
func (g *given) confirm(s *step, p *token.Policy, confirmed bool, warning string) error {
	warning += g.warning
	if err := confirm(p, s.verb, confirmed, warning); err != nil || g.none() {
		return err
	}
	return confirm(p, VerbRevokeToken, confirmed, warning)
}

// giveUp revokes the secret, before the next one is issued (T16). Its token is
// revoked with it when it was the only one; otherwise the other secret goes on
// alone, as after a confirmation, or after a roll-back.
func (s *step) giveUp(g *given) error {
	h := &g.held
	about := target{id: string(h.token.ID), account: h.token.AccountID}
	before := fields{"secret_id": g.secret.ID, "last4": g.secret.Last4}
	other := g.other(s)
	if other == nil {
		return s.setState(h, VerbRevokeToken, token.Revoked)
	}
	if err := s.save(h); err != nil {
		return err
	}
	after := fields{"secret_id": other.ID, "last4": other.Last4}
	if err := s.retire(g.secret); err != nil {
		return err
	}
	if err := s.tx.EndRotation(h.token.ID); err != nil {
		return err
	}
	if other.Status == token.Previous {
		other.Status, other.ExpiresAt = token.Current, time.Time{}
		if err := s.tx.UpdateSecret(other); err != nil {
			return err
		}
	}
	if err := s.auditAs(VerbRevokeSecret, about, before, after); err != nil {
		return err
	}
	return s.tell(h, token.EventSecretRevoked, notify.Facts{Last4: g.secret.Last4})
}

// endPrevious gives up the previous secret of the token that is rotated: that ends the
// rotation under way, before the next begins.
func (s *step) endPrevious(h *held, id token.ID) error {
	i := slices.IndexFunc(h.secrets, func(r token.SecretRecord) bool { return r.ID == id })
	if i < 0 || h.secrets[i].Status != token.Previous {
		return nil
	}
	previous := &h.secrets[i]
	if err := s.save(h); err != nil {
		return err
	}
	if err := s.retire(previous); err != nil {
		return err
	}
	if err := s.tx.EndRotation(h.token.ID); err != nil {
		return err
	}
	if err := s.audit(fields{"previous_secret_id": previous.ID, "last4": previous.Last4}, fields{"previous_secret_id": nil}); err != nil {
		return err
	}
	return s.tell(h, token.EventSecretRevoked, notify.Facts{Last4: previous.Last4})
}

// makeRoom is what naming a secret does to a rotation (T16, T17): its own current
// secret makes it one without overlap, its own previous one ends the rotation under
// way, and any other is revoked.
func (s *step) makeRoom(h *held, g *given, r *Rotation) error {
	switch {
	case g.none():
		return nil
	case !g.of(h.token.ID):
		return s.giveUp(g)
	case g.secret.Status == token.Previous:
		return s.endPrevious(h, g.secret.ID)
	case r.Mode != "" && r.Mode != token.RotateNow || r.Grace != nil:
		return invalid(fieldRevokeLast4, "names the secret that is rotated, which ends at once then: leave mode and grace_period_seconds out")
	default:
		r.Mode, r.replaces = token.RotateNow, true
		return nil
	}
}
