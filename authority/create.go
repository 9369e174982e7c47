package authority

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// NewToken is what create asks for.
type NewToken struct {
	Name        string
	AccountID   token.ID
	UserID      token.ID // empty: owned by the account
	Access      token.Access
	Scopes      []string
	AllowList   []string
	AllowAny    bool              // accept /0 in the allow-list
	Environment token.Environment // zero: production
	FreshOnly   bool              // nothing from a gateway that may have missed a change
	ExpiresAt   time.Time
	Confirm     bool
	// RevokeLast4 names a valid secret of the account by its last 4 characters, to be
	// given up for the new one; empty: none.
	RevokeLast4 string
}

// Issued is the answer of the verbs that issue a secret: the one place where a
// secret leaves.
type Issued struct {
	Token  View
	Secret token.Secret
	// Replayed says that a retry replaced a secret that was issued before and never used.
	Replayed bool
}

// CreateToken issues a token with its first secret.
//
// The account and the user must be enabled: whoever creates a token expects it
// to work, and one made in a disabled account would start to when the account
// comes back, unnoticed. What the token may do is not compared with its user's
// role: the gate always takes the narrower of the two, as they then are.
func (a *Authority) CreateToken(ctx context.Context, by By, n NewToken) (Issued, error) {
	name, err := nameIn("name", n.Name)
	if err != nil {
		return Issued{}, err
	}
	if n.Environment == 0 {
		n.Environment = token.Production
	}
	if n.Environment != token.Production && n.Environment != token.Sandbox {
		return Issued{}, invalid("environment", "must be production or sandbox")
	}
	allowed, err := token.ParseAllowList(n.AllowList, n.AllowAny)
	if err != nil {
		return Issued{}, asInvalid(err)
	}
	release, err := a.reserve(by, VerbCreateToken, n.AccountID)
	if err != nil {
		return Issued{}, err
	}
	defer release()

	var (
		account token.Account
		out     Issued
	)
	find := func(s *step) (t target, err error) {
		account, err = s.accountFor(n.AccountID)
		return target{account: n.AccountID, user: n.UserID, environment: n.Environment}, err
	}
	err = a.change(ctx, by, VerbCreateToken, find, func(s *step) (err error) {
		var again bool
		if out, again, err = s.replay(n.AccountID); again || err != nil {
			return err
		}
		if account.Disabled {
			return refuse(ErrInvalidState, "the account is disabled: enable it first")
		}
		if err := s.checkUser(n.UserID, &account); err != nil {
			return err
		}
		known, err := s.declared()
		if err != nil {
			return err
		}
		grant, err := token.NewGrant(n.Access, n.Scopes, known)
		if err != nil {
			return asInvalid(err)
		}
		h := held{token: token.Token{
			Name: name, AccountID: n.AccountID, UserID: n.UserID,
			Grant: grant, AllowList: allowed, Environment: n.Environment,
			State:     token.Active,
			FreshOnly: n.FreshOnly,
			CreatedAt: s.now, UpdatedAt: s.now, LifetimeFrom: s.now,
		}}
		if h.policy, err = s.policyOf(n.AccountID); err != nil {
			return err
		}
		if h.token.ExpiresAt, err = expiryIn(n.ExpiresAt, &h.policy, s.now, s.now); err != nil {
			return err
		}
		if err := checkAllowListRule(&h.token, &h.policy, known); err != nil {
			return err
		}
		room, err := s.findGiven(n.AccountID, n.RevokeLast4)
		if err != nil {
			return err
		}
		if !room.none() {
			if err := s.giveUp(&room); err != nil {
				return err
			}
		}
		if err := s.checkCaps(&h, 1); err != nil {
			return err
		}
		if err := room.confirm(s, &h.policy, n.Confirm, "A token and its secret are about to be made."); err != nil {
			return err
		}
		if h.token.ID, err = a.NewID("tok"); err != nil {
			return err
		}
		if err := s.tx.InsertToken(&h.token); err != nil {
			return err
		}
		if err := s.tx.PutHistory(h.token.ID, tokenstore.History{History: token.History{Observed: s.now, LevelSince: s.now}}); err != nil {
			return err
		}
		secret, err := s.issue(&h, s.retryUntil())
		if err != nil {
			return err
		}
		s.target.id = string(h.token.ID)
		after := tokenFields(&h.token)
		after["secret_id"], after["last4"] = h.secrets[0].ID, h.secrets[0].Last4
		if err := s.audit(nil, after); err != nil {
			return err
		}
		if err := s.remember(n.AccountID, &h); err != nil {
			return err
		}
		if err := s.tell(&h, token.EventCreated, notify.Facts{}); err != nil {
			return err
		}
		out = Issued{Token: h.view(s.now), Secret: secret}
		return nil
	})
	if err != nil {
		return Issued{}, err
	}
	return out, nil
}

// accountFor reads the account that something is to be made in.
func (s *step) accountFor(id token.ID) (token.Account, error) {
	const field, problem = "account_id", "must be the ID of an account"
	if !checkID(id) {
		return token.Account{}, invalid(field, problem)
	}
	account, err := s.tx.Account(id)
	if errors.Is(err, tokenstore.ErrNotFound) {
		return account, invalid(field, problem)
	}
	return account, err
}

// checkUser judges the user that a token is to belong to.
func (s *step) checkUser(id token.ID, account *token.Account) error {
	if id == "" {
		return nil
	}
	// One answer for users of other accounts and for those that do not exist, so
	// that nobody can find out which IDs there are.
	problem := invalid("user_id", "must be the ID of a user of the account; leave it out for a token of the account itself")
	if !checkID(id) {
		return problem
	}
	user, err := s.tx.User(id)
	switch {
	case errors.Is(err, tokenstore.ErrNotFound):
		return problem
	case err != nil:
		return err
	case user.AccountID != account.ID:
		return problem
	case user.Disabled:
		return refuse(ErrInvalidState, "the user is disabled: enable them first")
	default:
		return nil
	}
}

// issue makes a secret the current one of a token that was written in the same
// transaction, and is the only place where one is made.
func (s *step) issue(h *held, retryUntil time.Time) (token.Secret, error) {
	keyID, err := s.primary()
	if err != nil {
		return token.Secret{}, err
	}
	if len(s.a.Prefixes) == 0 {
		return token.Secret{}, errors.New("no prefix is set for secrets")
	}
	secret, err := token.NewSecret(s.a.Random, s.a.Prefixes[0], h.token.Environment)
	if err != nil {
		return token.Secret{}, err
	}
	lookup, ok := s.a.Ring.Lookup(keyID, secret.Digest())
	if !ok {
		return token.Secret{}, fmt.Errorf("master key %q is gone from the ring", keyID)
	}
	record := token.SecretRecord{
		TokenID: h.token.ID, Last4: secret.Last4(), Status: token.Current,
		CreatedAt: s.now, RetryUntil: retryUntil,
	}
	if record.ID, err = s.a.NewID("sec"); err != nil {
		return token.Secret{}, err
	}
	if err := s.tx.InsertSecret(&record, lookup, keyID); err != nil {
		return token.Secret{}, err
	}
	h.secrets = append([]token.SecretRecord{record}, h.secrets...)
	return secret, nil
}
