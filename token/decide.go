package token

import (
	"errors"
	"net/netip"
	"slices"
	"time"
)

// Reason is why a request is refused; Allowed when it is not.
type Reason uint8

// Every reason that Decide can give, in the order in which it looks for them.
// Code gives the stable name of each.
const (
	Allowed Reason = iota
	RevokedToken
	RetiredSecret
	ExpiredToken
	DisabledToken
	AccountDisabled
	AccountTokensOff
	UserDisabled
	UserTokensOff
	WrongEnvironment
	AddressNotAllowed
	ReadOnlyToken
	InsufficientScope
	OtherBusinessUnit
)

var reasonCodes = [...]string{
	Allowed:           "",
	RevokedToken:      "revoked_token",
	RetiredSecret:     "retired_secret",
	ExpiredToken:      "expired_token",
	DisabledToken:     "disabled_token",
	AccountDisabled:   "account_disabled",
	AccountTokensOff:  "account_disabled",
	UserDisabled:      "user_disabled",
	UserTokensOff:     "user_disabled",
	WrongEnvironment:  "wrong_environment",
	AddressNotAllowed: "ip_not_allowed",
	ReadOnlyToken:     "read_only_token",
	InsufficientScope: "insufficient_scope",
	OtherBusinessUnit: "insufficient_scope",
}

// Code is the reason as callers see it. Reasons that call for the same of callers
// share one.
func (r Reason) Code() string {
	if int(r) < len(reasonCodes) {
		return reasonCodes[r]
	}
	return "unknown_reason"
}

func (r Reason) String() string {
	if r == Allowed {
		return "allowed"
	}
	return r.Code()
}

// Unauthenticated says whether the reason is about who the caller is (401), and
// not about what the caller may do (403).
func (r Reason) Unauthenticated() bool {
	return r >= RevokedToken && r <= DisabledToken
}

// Facts is everything besides the token that one decision depends on, as it is now.
type Facts struct {
	Secret  *SecretRecord // the one that was presented
	Account *Account
	User    *User // nil exactly when the token has no user
	Role    *Role // nil exactly when the token has no user
	Policy  *Policy
	// Address is the client's; the zero Addr means that it is not known.
	Address netip.Addr
	// Required is the scope that the operation needs.
	Required Scope
	// Units are the business units of which the token's user must work for one;
	// none: the operation is not bound to any.
	Units []string
	// Environment is what the gate serves; zero means every environment.
	Environment Environment
}

// ErrUndecidable is returned when facts are missing or do not belong together.
// The caller must refuse the request without blaming the token.
var ErrUndecidable = errors.New("token: facts are missing or do not belong to the token")

// Decide judges one request. It is total: every combination of values gives a
// reason or ErrUndecidable, and only a complete, consistent set of facts is ever
// allowed. Of several reasons the first in the order of the constants is given,
// RevokedToken before RetiredSecret and so on. That order is part of the
// contract: who the caller is comes first, then whether it may come from here,
// then what it may do, because activity counts a request that only its scope
// forbids.
func Decide(t *Token, f *Facts, now time.Time) (Reason, error) {
	if !decidable(t, f, now) {
		return 0, ErrUndecidable
	}
	state := t.StateAt(f.Policy, now)
	switch {
	case state == Revoked || state == Deleted:
		return RevokedToken, nil
	case !f.Secret.ValidAt(now):
		return RetiredSecret, nil
	case state == Expired:
		return ExpiredToken, nil
	case state == Disabled:
		return DisabledToken, nil
	case f.Account.Disabled:
		return AccountDisabled, nil
	case f.Account.TokensOff:
		return AccountTokensOff, nil
	case f.User != nil && f.User.Disabled:
		return UserDisabled, nil
	case f.User != nil && (f.User.TokensOff || f.Role.TokensOff):
		return UserTokensOff, nil
	case f.Environment != 0 && f.Environment != t.Environment:
		return WrongEnvironment, nil
	case !t.AllowList.Allows(f.Address):
		return AddressNotAllowed, nil
	case t.Grant.Access == ReadOnly && !t.Grant.Holds(f.Required):
		return ReadOnlyToken, nil
	case !t.Grant.Holds(f.Required), f.Role != nil && !f.Role.Ceiling.Holds(f.Required):
		return InsufficientScope, nil
	case !f.worksFor():
		return OtherBusinessUnit, nil
	default:
		return Allowed, nil
	}
}

// decidable says whether the facts are complete, well-formed and about this
// token. A record that holds a value outside its enumeration was damaged or
// written by a newer version, and a missing time would let nothing expire:
// neither can be judged, and neither is the caller's fault.
func decidable(t *Token, f *Facts, now time.Time) bool {
	return t != nil && f != nil && f.Secret != nil && f.Account != nil && f.Policy != nil && !now.IsZero() &&
		t.ID != "" && f.Secret.TokenID == t.ID &&
		t.AccountID != "" && f.Account.ID == t.AccountID &&
		ruledBy(f.Account, f.Policy) && ownedBy(t, f.User, f.Role) &&
		t.State >= Active && t.State <= Deleted &&
		f.Secret.Status >= Current && f.Secret.Status <= Retired &&
		(t.Environment == Production || t.Environment == Sandbox) && f.Environment <= Sandbox &&
		validAccess(t.Grant.Access) &&
		f.Required.Name != "" && (f.Required.Nature == Read || f.Required.Nature == Write)
}

// ruledBy says whether the policy is the account's.
func ruledBy(a *Account, p *Policy) bool {
	return p.Name == a.Policy || a.Policy == "" && p.Name == DefaultPolicyName
}

// ownedBy says whether user and role are those that the token acts for.
func ownedBy(t *Token, u *User, r *Role) bool {
	if t.UserID == "" {
		return u == nil && r == nil
	}
	return u != nil && r != nil && u.ID == t.UserID && u.AccountID == t.AccountID &&
		u.Role == r.Name && validAccess(r.Ceiling.Access)
}

// worksFor says whether the operation is open to the user's business units. A
// token of the account itself works for none.
func (f *Facts) worksFor() bool {
	if len(f.Units) == 0 {
		return true
	}
	if f.User == nil {
		return false
	}
	for _, unit := range f.Units {
		if slices.Contains(f.User.BusinessUnits, unit) {
			return true
		}
	}
	return false
}

func validAccess(a Access) bool { return a >= ReadOnly && a <= Custom }

// Authenticated says whether the caller is who the token says and comes from an
// allowed address, so that the request keeps the token alive even when it is refused.
func (r Reason) Authenticated() bool {
	return r == Allowed || r == ReadOnlyToken || r == InsufficientScope || r == OtherBusinessUnit
}

// AuthenticatedOutcome says the same of an outcome as it is counted. Whoever was not
// authenticated is no reason to keep a secret.
func AuthenticatedOutcome(outcome string) bool {
	if outcome == OutcomeAllowed {
		return true
	}
	for r := Allowed + 1; int(r) < len(reasonCodes); r++ {
		if r.Authenticated() && r.Code() == outcome {
			return true
		}
	}
	return false
}
