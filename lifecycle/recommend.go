package lifecycle

import (
	"context"
	"slices"
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
	// Narrowest is what is enough for what it used; zero: it used nothing.
	Narrowest token.Grant
	// Addresses are those that requests came from and were let through, IPv6 by /64,
	// since AddressesSince.
	Addresses      []string
	AddressesSince time.Time
	// Partial: there were more addresses than are kept apart, so that an
	// allow-list of these would shut some out.
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
	g := token.Grant{Access: token.Custom}
	for _, use := range r.Scopes {
		// What the token may not do any more is nothing that it needs.
		if s.Token.Grant.Holds(use.Scope) {
			g.Scopes = append(g.Scopes, use.Scope.Name)
		}
	}
	slices.Sort(g.Scopes)
	g.Scopes = slices.Compact(g.Scopes)
	switch {
	case len(g.Scopes) == 0:
		return
	case len(g.Scopes) > token.MaxScopes && r.ReadOnly:
		g = token.Grant{Access: token.ReadOnly}
	case len(g.Scopes) > token.MaxScopes:
		g = s.Token.Grant
	}
	r.Narrowest = g
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
	slices.Sort(r.Addresses)
	r.Addresses = slices.Compact(r.Addresses)
	return nil
}
