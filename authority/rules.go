package authority

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/text/unicode/norm"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// scopeFinder finds a declared scope.
type scopeFinder = func(name string) (token.Scope, bool)

// declared reads the declared scopes.
func (s *step) declared() (scopeFinder, error) {
	scopes, err := s.tx.Scopes()
	if err != nil {
		return nil, err
	}
	byName := make(map[string]token.Scope, len(scopes))
	for _, scope := range scopes {
		byName[scope.Name] = scope.Scope
	}
	return func(name string) (token.Scope, bool) {
		scope, ok := byName[name]
		return scope, ok
	}, nil
}

// maxNameInput is more bytes than any spelling of a name takes: the longest
// decomposition of one code point has 18 bytes.
const maxNameInput = 18 * token.MaxNameLength

// nameIn brings a name into normal form C, so that two spellings of what looks
// the same are the same, and judges it.
func nameIn(field, name string) (string, error) {
	if len(name) <= maxNameInput {
		name = norm.NFC.String(name)
	}
	if err := token.CheckName(name); err != nil {
		var f *token.FieldError
		if errors.As(err, &f) {
			return "", invalid(field, f.Problem)
		}
		return "", err
	}
	return name, nil
}

// expiryIn judges an expiry date that was asked for: a time to come, within what
// every store and RFC 3339 can write, and not after the end that the policy sets.
// The zero time asks for none and is always fine, since the policy's limit binds
// by itself.
func expiryIn(at time.Time, p *token.Policy, lifetimeFrom, now time.Time) (time.Time, error) {
	if at.IsZero() {
		return at, nil
	}
	const field = "expires_at"
	at = at.UTC().Truncate(time.Microsecond)
	if !at.After(now) {
		return at, invalid(field, "must be later than now")
	}
	if at.Year() > 9999 {
		return at, invalid(field, "must be in the year 9999 or before; leave it out for no expiry")
	}
	if p.MaxLifetime != 0 {
		if limit := lifetimeFrom.Add(p.MaxLifetime); at.After(limit) {
			return at, invalid(field, fmt.Sprintf("must be at most %s: the account's policy sets max_lifetime", limit.Format(time.RFC3339)))
		}
	}
	return at, nil
}

// checkAllowListRule refuses a token that needs an allow-list under the policy
// and has none, or one so broad that it keeps nobody out.
func checkAllowListRule(t *token.Token, p *token.Policy, known scopeFinder) error {
	var who string
	switch p.RequireAllowList {
	case token.AllowListNever:
		return nil
	case token.AllowListWrite:
		if !t.Grant.Writes(known) {
			return nil
		}
		who = "a token that may write"
	default: // always, and the stricter reading of what is not known
		who = "every token"
	}
	switch {
	case t.AllowList.Empty():
		return refuse(ErrAllowListRequired, "the account's policy wants an IP allow-list on "+who+": set ip_allowlist to the addresses that it is used from")
	case t.AllowList.Broad():
		return refuse(ErrAllowListRequired, "the account's policy wants an IP allow-list on "+who+", and ranges broader than /8 (IPv4) or /16 (IPv6) do not count: narrow them")
	default:
		return nil
	}
}

// confirm refuses a verb that the policy wants confirmed. The warning says what
// is about to happen, and is asked for last, when nothing else stands in the way.
func confirm(p *token.Policy, v Verb, confirmed bool, warning string) error {
	if confirmed || !slices.Contains(p.Confirm, v.name()) {
		return nil
	}
	return refuse(ErrConfirmationRequired, warning+" Ask again with confirm to go on.")
}

// checkVersion refuses a change of a record that the caller has not seen as it is.
func checkVersion(read, present int64) error {
	if read != present {
		return refuse(ErrVersionMismatch, "it was changed since it was read, or the version was left out: read it again, and send its version along")
	}
	return nil
}

// primary is the ID of the master key that new lookup values are made with.
func (s *step) primary() (string, error) {
	id, err := s.tx.PrimaryKey()
	if err != nil {
		return "", err
	}
	if id == "" {
		return "", errors.New("the store names no primary master key: it was never opened with one")
	}
	if !s.a.Ring.Has(id) {
		// The caller can do nothing about it, and another node may be able to serve.
		return "", fmt.Errorf("%w: this node's master keys lack the primary %q", tokenstore.ErrUnavailable, id)
	}
	return id, nil
}
