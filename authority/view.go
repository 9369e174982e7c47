package authority

import (
	"context"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// View is a token as people see it.
type View struct {
	Token   token.Token
	State   token.State // at the time of the answer
	Expires time.Time   // the earlier of its own expiry and the policy's limit
	// Current is the newest secret. A token that ended keeps showing it, though
	// it works no more: its last four characters are how people knew the token.
	Current  token.SecretRecord
	Previous *token.SecretRecord // while it is valid
	Life     Life
}

// Life is what people see of a token's past, and of what is announced for it. Zero
// times: it was never so.
type Life struct {
	// LastUsed is the latest moment of which it is known that it was used.
	LastUsed    time.Time
	ExemptUntil time.Time
	// Scheduled is what was announced and is still to come; zero: nothing is.
	Scheduled   token.ActionKind
	ScheduledAt time.Time
	// DowngradedAt is when the lifecycle took permissions, which can be had back
	// until UndoUntil.
	DowngradedAt, UndoUntil time.Time
}

// withLife adds what is stored of a token's life, as far as it still means something.
func (v View) withLife(stored tokenstore.Life, now time.Time) View {
	h := &stored.History
	v.Life = Life{LastUsed: stored.LastUsed, DowngradedAt: h.DowngradedAt}
	if h.ExemptUntil.After(now) {
		v.Life.ExemptUntil = h.ExemptUntil
	}
	if h.UndoUntil.After(now) {
		v.Life.UndoUntil = h.UndoUntil
	}
	if v.State != token.Revoked && v.State != token.Deleted {
		v.Life.Scheduled, v.Life.ScheduledAt = h.Scheduled, h.ScheduledAt
	}
	return v
}

func viewOf(t token.Token, p *token.Policy, secrets []token.SecretRecord, now time.Time) View {
	v := View{Token: t, State: t.StateAt(p, now), Expires: t.ExpiryUnder(p)}
	ended := v.State == token.Revoked || v.State == token.Deleted
	for _, secret := range secrets {
		switch {
		case secret.Status == token.Current:
			v.Current = secret
		case secret.Status == token.Previous && !ended && secret.ValidAt(now):
			// An edit may since have brought the end of the token forward.
			if !v.Expires.IsZero() && (secret.ExpiresAt.IsZero() || v.Expires.Before(secret.ExpiresAt)) {
				secret.ExpiresAt = v.Expires
			}
			v.Previous = &secret
		}
	}
	return v
}

// held is a token with all that the rules about it depend on.
type held struct {
	token   token.Token
	policy  token.Policy
	secrets []token.SecretRecord // newest first
	life    tokenstore.Life
}

// hold reads a token into h and makes it the target.
func (s *step) hold(id token.ID, h *held) (target, error) {
	t := target{id: string(id)}
	if !checkID(id) {
		return t, refuse(ErrNotFound, "there is no such token")
	}
	var err error
	if h.token, err = s.tx.Token(id); err != nil {
		return t, found(err, "token")
	}
	t.account, t.user, t.environment = h.token.AccountID, h.token.UserID, h.token.Environment
	if h.policy, err = s.policyOf(h.token.AccountID); err != nil {
		return t, err
	}
	if h.secrets, err = s.tx.Secrets(id); err != nil {
		return t, err
	}
	h.endWithToken(s.now)
	lives, err := s.tx.Lives(id)
	h.life = lives[id]
	return t, err
}

// policyOf reads the policy of the account of a stored token. That it is missing
// is the store's fault, so the error is no refusal.
func (s *step) policyOf(id token.ID) (token.Policy, error) {
	_, policy, err := s.accountAndPolicy(id)
	return policy, err
}

// accountAndPolicy reads the account of a stored record, and the policy that rules it.
func (s *step) accountAndPolicy(id token.ID) (token.Account, token.Policy, error) {
	account, err := s.tx.Account(id)
	if err != nil {
		return account, token.Policy{}, fmt.Errorf("read account %s: %w", id, err)
	}
	policy, err := s.tx.Policy(account.Policy)
	if err != nil {
		return account, policy, fmt.Errorf("read the policy of account %s: %w", id, err)
	}
	return account, policy, nil
}

func (h *held) view(now time.Time) View {
	return viewOf(h.token, &h.policy, h.secrets, now).withLife(h.life, now)
}

// secret is the secret of the token that has a status now, if there is one.
func (h *held) secret(status token.SecretStatus, now time.Time) *token.SecretRecord {
	for i := range h.secrets {
		if h.secrets[i].Status == status && h.secrets[i].ValidAt(now) {
			return &h.secrets[i]
		}
	}
	return nil
}

// save writes the token. In passing it retires a previous secret whose grace
// period has ended: only now, because a period ends by itself at the gate and
// needs no write, but a record that says previous should not outlive it for ever.
func (s *step) save(h *held) error {
	h.token.UpdatedAt = s.now
	if err := s.tx.UpdateToken(&h.token); err != nil {
		return err
	}
	for i := range h.secrets {
		if secret := &h.secrets[i]; secret.Status == token.Previous && !secret.ValidAt(s.now) {
			if err := s.retire(secret); err != nil {
				return err
			}
			if err := s.tx.EndRotation(h.token.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// markHistory changes what is kept beside a token that was saved in the same
// transaction.
func (s *step) markHistory(id token.ID, change func(*tokenstore.History)) error {
	history, err := s.tx.History(id)
	if err != nil {
		return err
	}
	change(&history)
	return s.tx.PutHistory(id, history)
}

func (s *step) retire(secret *token.SecretRecord) error {
	secret.Status = token.Retired
	return s.tx.UpdateSecret(secret)
}

// Token shows one token, whatever its state.
func (a *Authority) Token(ctx context.Context, by By, id token.ID) (View, error) {
	var (
		h held
		v View
	)
	find := func(s *step) (target, error) { return s.hold(id, &h) }
	err := a.see(ctx, by, VerbShowToken, find, func(s *step) error {
		v = h.view(s.now)
		return nil
	})
	if err != nil {
		return View{}, err
	}
	return v, nil
}

// Tokens lists a page, newest first.
func (a *Authority) Tokens(ctx context.Context, by By, q tokenstore.TokenQuery) ([]View, string, error) {
	for field, text := range map[string]string{
		"account_id": string(q.AccountID), "user_id": string(q.UserID), "scope": q.Scope, "search": q.Search,
	} {
		if err := checkFilter(field, text); err != nil {
			return nil, "", err
		}
	}
	var (
		views []View
		next  string
	)
	find := func(*step) (target, error) { return target{account: q.AccountID, user: q.UserID}, nil }
	err := a.see(ctx, by, VerbListTokens, find, func(s *step) error {
		if q.Now.IsZero() {
			q.Now = s.now
		}
		page, err := s.tx.Tokens(q)
		if err != nil {
			return badCursor(err)
		}
		next = page.Next
		views = make([]View, len(page.Tokens))
		ids := make([]token.ID, len(page.Tokens))
		for i, row := range page.Tokens {
			ids[i] = row.Token.ID
		}
		lives, err := s.tx.Lives(ids...)
		if err != nil {
			return err
		}
		policies := map[token.ID]*token.Policy{}
		for i, row := range page.Tokens {
			p := policies[row.Token.AccountID]
			if p == nil {
				read, err := s.policyOf(row.Token.AccountID)
				if err != nil {
					return err
				}
				p = &read
				policies[row.Token.AccountID] = p
			}
			views[i] = viewOf(row.Token, p, row.Secrets, q.Now).withLife(lives[row.Token.ID], q.Now)
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return views, next, nil
}
