package token

import "time"

// ID names a record: a kind, an underscore, and a sortable unique part
// (tok_01j…). IDs are never used again.
type ID string

// Token is the record that a secret stands for. It never holds a secret.
type Token struct {
	ID          ID
	Name        string
	AccountID   ID
	UserID      ID // empty: the token belongs to the account itself
	Grant       Grant
	AllowList   AllowList
	Environment Environment
	State       State // what a person or the lifecycle made it; see StateAt for expiry
	CreatedAt   time.Time
	UpdatedAt   time.Time
	ExpiresAt   time.Time // zero: never
	// LifetimeFrom is when a policy's maximum lifetime began: creation, import
	// or restoring. Rotation does not move it.
	LifetimeFrom time.Time
	// EndedAt and EndReason say when and why a token was revoked or deleted.
	EndedAt   time.Time
	EndReason string
	// FreshOnly: while a gateway may have missed a change, it does not answer for
	// this token, even where it would for others.
	FreshOnly bool
	// Version grows by one with every change to the token or to its secrets.
	Version int64
}

// StateAt is the state that people see at a time: an active or disabled token
// past its expiry, its policy's maximum lifetime included, is expired.
func (t *Token) StateAt(p *Policy, now time.Time) State {
	if t.State == Active || t.State == Disabled {
		if end := t.ExpiryUnder(p); !end.IsZero() && !now.Before(end) {
			return Expired
		}
	}
	return t.State
}

// ExpiryUnder is when the token ends: its own expiry or the end of the policy's
// maximum lifetime, whichever is earlier; zero when neither is set.
func (t *Token) ExpiryUnder(p *Policy) time.Time {
	end := t.ExpiresAt
	// A negative lifetime, which no valid policy has, must not read as none.
	if p != nil && p.MaxLifetime != 0 {
		limit := t.LifetimeFrom.Add(p.MaxLifetime)
		if end.IsZero() || limit.Before(end) {
			end = limit
		}
	}
	return end
}

// SecretRecord is what is kept of one secret: never the secret itself.
type SecretRecord struct {
	ID        ID
	TokenID   ID
	Last4     string
	Status    SecretStatus
	CreatedAt time.Time
	// ExpiresAt ends the grace period of a previous secret; zero means that
	// only a person ends it. It has no meaning for a current secret.
	ExpiresAt time.Time
	// RetryUntil is set on a secret issued under an Idempotency-Key: until
	// then, and while the secret is unused, a retry replaces it.
	RetryUntil time.Time
	FirstUsed  time.Time // zero: not seen in use
}

// ValidAt says whether the secret works at a time, as far as it alone decides.
func (s *SecretRecord) ValidAt(now time.Time) bool {
	switch s.Status {
	case Current:
		return true
	case Previous:
		return s.ExpiresAt.IsZero() || now.Before(s.ExpiresAt)
	default:
		return false
	}
}

// Account is a customer of the API.
type Account struct {
	ID        ID
	Name      string
	Policy    string // name of the policy that rules it
	Disabled  bool
	TokensOff bool      // it may have no tokens: those that there are stop working
	EnabledAt time.Time // when either was last ended; zero: it always was
	CreatedAt time.Time
	UpdatedAt time.Time
	Version   int64
}

// User is a person of an account.
type User struct {
	ID            ID
	AccountID     ID
	Name          string
	Email         string
	Role          string
	BusinessUnits []string
	Disabled      bool
	TokensOff     bool      // they may have no tokens: those that there are stop working
	EnabledAt     time.Time // when either was last ended; zero: it always was
	CreatedAt     time.Time
	UpdatedAt     time.Time
	Version       int64
}

// Role is a ceiling: a user's tokens never do more than the role allows.
type Role struct {
	Name    string
	Ceiling Grant
	// TokensOff: nobody with the role may have tokens.
	TokensOff bool
	EnabledAt time.Time // when that was last ended; zero: it always was
	ManagedBy string    // hash of the configuration that owns it; empty: the store
	Version   int64
}
