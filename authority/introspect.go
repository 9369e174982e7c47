package authority

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Introspection is what a secret is good for (RFC 7662). Everything but Active is zero
// unless it is active, so that nothing is told of what does not work.
type Introspection struct {
	Active bool
	Token  token.Token
	Secret token.SecretRecord
	// Scopes are what it may do, as far as its user's role lets it.
	Scopes   []string
	Username string    // the name of its user
	Expires  time.Time // of the secret or the token, whichever comes first; zero: never
}

// Introspect says what a secret is good for. It judges as Verify does without an
// operation: whose it is, and whether it may come from the address. So a token with an
// allow-list is not active for whoever does not say where it came from, which is what
// keeps a service that asks no further from letting it in from everywhere.
func (a *Authority) Introspect(ctx context.Context, by By, secret string, address netip.Addr) (Introspection, error) {
	j, err := a.judge(ctx, by, Question{Secret: secret, Address: address})
	if err != nil || !j.valid {
		return Introspection{}, err
	}
	var declared []tokenstore.DeclaredScope
	err = a.Store.Read(ctx, func(tx *tokenstore.Tx) (err error) {
		declared, err = tx.Scopes()
		return err
	})
	if err != nil {
		return Introspection{}, fmt.Errorf("%s: %w", VerbVerifyToken, err)
	}
	r := j.record
	out := Introspection{Active: true, Token: r.Token, Secret: r.Secret, Expires: r.Token.ExpiryUnder(r.Policy)}
	if end := r.Secret.ExpiresAt; r.Secret.Status == token.Previous && !end.IsZero() && (out.Expires.IsZero() || end.Before(out.Expires)) {
		out.Expires = end
	}
	ceiling := &token.Grant{Access: token.ReadWrite}
	if r.User != nil && r.Role != nil {
		out.Username, ceiling = r.User.Name, &r.Role.Ceiling
	}
	out.Scopes = commonScopes(&r.Token.Grant, ceiling, declared)
	return out, nil
}

// commonScopes lists the scopes that both a grant and its ceiling cover, sorted.
func commonScopes(grant, ceiling *token.Grant, declared []tokenstore.DeclaredScope) []string {
	known := map[string]token.Scope{token.ReadScope.Name: token.ReadScope, token.WriteScope.Name: token.WriteScope}
	for _, scope := range declared {
		known[scope.Name] = scope.Scope
	}
	manages := map[string]bool{}
	for _, scope := range token.ManagementScopes() {
		known[scope.Name], manages[scope.Name] = scope, true
	}
	for _, g := range []*token.Grant{grant, ceiling} {
		for _, name := range g.Scopes {
			if _, ok := known[name]; !ok {
				// Not declared any more: the most that it can have been.
				known[name] = token.Scope{Name: name, Nature: token.Write}
			}
		}
	}
	var names []string
	for name, scope := range known {
		// Management scopes are held by those that list them, and by no access level.
		if manages[name] && grant.Access != token.Custom {
			continue
		}
		if grant.Holds(scope) && ceiling.Holds(scope) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
