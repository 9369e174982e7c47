package authority

import (
	"errors"
	"fmt"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// tell has people told of what happened to a token, in the transaction in which
// it does. It is called once the token is saved, so that each change of it is a
// message of its own. What every message says (which token, when, by whom, from
// where, when it expires) is filled in where f leaves it open.
//
// That there is nobody to tell, or no way to, is no error: whoever has to revoke a
// token must not wait for an address.
func (s *step) tell(h *held, e token.Event, f notify.Facts) error {
	if s.a.Teller == nil {
		return nil
	}
	m, err := s.message(h, e, f)
	if err != nil {
		return err
	}
	return s.a.Teller.Tell(s.tx, m)
}

// message is what tell tells.
func (s *step) message(h *held, e token.Event, f notify.Facts) (notify.Message, error) {
	t := &h.token
	f.At = s.now
	if f.TokenName == "" {
		f.TokenName = t.Name
	}
	if f.Last4 == "" {
		f.Last4 = h.last4()
	}
	if f.ExpiresAt.IsZero() && !isOver(t) {
		f.ExpiresAt = t.ExpiryUnder(&h.policy)
	}
	if f.Address == "" {
		f.Address = s.by.Actor.Address
	}
	if f.Actor == "" {
		var err error
		if f.Actor, err = s.actor(); err != nil {
			return notify.Message{}, err
		}
	}
	m := notify.Message{
		Event: e, AccountID: t.AccountID, TokenID: t.ID, Version: t.Version, Requester: s.requester(), Facts: f,
	}
	if e == token.EventSecretRevoked {
		m.Distinct = f.Last4 // one change of a token can take several of its secrets
	}
	return m, nil
}

// last4 is what people know the token's newest secret by.
func (h *held) last4() string {
	for i := range h.secrets {
		if h.secrets[i].Status == token.Current {
			return h.secrets[i].Last4
		}
	}
	return ""
}

// requester is the user who asked: in whose name an operator acts, or who acts.
func (s *step) requester() token.ID {
	if s.by.RequestedBy == "" && s.by.Actor.Kind == tokenstore.UserActor {
		return token.ID(s.by.Actor.Name)
	}
	return s.by.RequestedBy
}

// actor says in words who did it.
func (s *step) actor() (string, error) {
	actor := &s.by.Actor
	var words string
	switch actor.Kind {
	case tokenstore.UserActor:
		return s.userWords(token.ID(actor.Name))
	case tokenstore.SystemActor:
		return "Sallyport itself", nil
	case tokenstore.OperatorActor:
		words = "operator " + actor.Name
		if actor.Name == "" {
			words = "an operator without a name"
		}
	default:
		words = string(actor.Kind) + " " + actor.Name
	}
	if !actor.Verified {
		words += " (unverified)" // anybody can call themselves that
	}
	if s.by.RequestedBy == "" {
		return words, nil
	}
	user, err := s.userWords(s.by.RequestedBy)
	return words + " on behalf of " + user, err
}

// userWords names a user. The ID goes with the name, which people give themselves.
func (s *step) userWords(id token.ID) (string, error) {
	user, err := s.tx.User(id)
	switch {
	case errors.Is(err, tokenstore.ErrNotFound), err == nil && user.Name == "":
		return fmt.Sprintf("user %s", id), nil
	case err != nil:
		return "", err
	default:
		return fmt.Sprintf("%s (%s)", user.Name, id), nil
	}
}
