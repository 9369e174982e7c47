package lifecycle

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Recommendation is the narrowest that a token could be, going by what is known of
// its use. It is a record, and no promise: what is used once a year is not in it
// before a year is over.
type Recommendation struct {
	Token token.Token
	// Since is when observation of the token began, and Through up to when all of
	// its use is known. Zero: nothing was observed.
	Since, Through time.Time
	LastUse        time.Time
	// Scopes are those that were used, with the last time of each.
	Scopes []token.ScopeUse
	// ReadOnly: nothing that it used needs more than reading.
	ReadOnly bool
	// Narrowest is what is enough for what it used; zero: it used nothing that it
	// still may.
	Narrowest token.Grant
	// Addresses are the narrowest entries of an allow-list that hold all that requests
	// came from and were let through, IPv6 by /64, since AddressesSince.
	Addresses      []string
	AddressesSince time.Time
	// Partial: there were more addresses than are kept apart, or than an allow-list
	// holds, so that one of these would shut some out.
	Partial bool
}

// Recommend tells what a token needs, by its record.
func (k *Keeper) Recommend(ctx context.Context, id token.ID) (Recommendation, error) {
	var r Recommendation
	err := k.Store.Read(ctx, func(tx *tokenstore.Tx) error {
		now, err := tx.Time()
		if err != nil {
			return err
		}
		s, err := tx.Subject(id)
		if err != nil {
			return err
		}
		c, err := commonOf(tx, k.Teller, now)
		if err != nil {
			return err
		}
		subject := c.complete(&s)
		r = Recommendation{Token: *s.Token, LastUse: s.Use.Last, Scopes: s.Use.Scopes}
		if !c.coverage.Since.IsZero() {
			r.Since, r.Through = c.coverage.Since, c.coverage.Through
			if s.Token.CreatedAt.After(r.Since) {
				r.Since = s.Token.CreatedAt
			}
		}
		r.narrow(subject)
		return r.address(tx, id, now)
	})
	return r, err
}

func (r *Recommendation) narrow(s *token.Subject) {
	if len(r.Scopes) == 0 {
		return
	}
	r.ReadOnly = !s.Use.Wrote(s.ScopeNature)
	used := make([]token.Scope, len(r.Scopes))
	for i := range r.Scopes {
		used[i] = r.Scopes[i].Scope
	}
	r.Narrowest = token.Narrowest(&s.Token.Grant, used, s.ScopeNature)
}

func (r *Recommendation) address(tx *tokenstore.Tx, id token.ID, now time.Time) error {
	since, err := tx.CountsSince()
	if err != nil || since.IsZero() {
		return err
	}
	counts, more, err := tx.Counts(id, since, now.Add(24*time.Hour))
	if err != nil {
		return err
	}
	r.AddressesSince, r.Partial = since, more
	for _, c := range counts {
		switch {
		case c.Outcome != token.OutcomeAllowed:
		case c.Address == token.OtherAddresses || c.Address == "":
			r.Partial = true
		default:
			r.Addresses = append(r.Addresses, c.Address)
		}
	}
	joined, ok := token.JoinAddresses(r.Addresses)
	if !ok {
		// More, or further apart, than an allow-list can tell.
		r.Addresses, r.Partial = nil, true
		return nil
	}
	r.Addresses = joined
	return nil
}
