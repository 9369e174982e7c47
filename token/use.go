package token

import "time"

// Use is what the store holds of one token's activity, merged over its secrets.
type Use struct {
	// Last is the end of the last bucket in which it was used at all; zero: never.
	Last time.Time
	// Scopes are those of forwarded requests, each once.
	Scopes []ScopeUse
	// Previous is the end of the last bucket in which the previous secret was
	// used; zero: never, or not asked for.
	Previous time.Time
}

// ScopeUse is when a scope was last used: the end of the bucket.
type ScopeUse struct {
	Scope Scope
	Last  time.Time
}

// last is the latest use of any kind. A record in which a scope was used after
// the token was is read as the later of the two.
func (u *Use) last() time.Time {
	last := u.Last
	for i := range u.Scopes {
		last = later(last, u.Scopes[i].Last)
	}
	return last
}

// lastWrite is the latest use that a read-only token would have been refused.
func (u *Use) lastWrite(nature func(string) (Scope, bool)) time.Time {
	var last time.Time
	for i := range u.Scopes {
		if use := &u.Scopes[i]; needsWrite(use.Scope, nature) {
			last = later(last, use.Last)
		}
	}
	return last
}

// needsWrite takes the stricter of what a scope was when it was used and what it
// is now: a scope that is not declared any more, or of which nothing is known,
// counts as one that writes.
func needsWrite(s Scope, nature func(string) (Scope, bool)) bool {
	if b, ok := BuiltInScope(s.Name); ok {
		return b.Nature != Read
	}
	if s.Nature == Write {
		return true
	}
	if nature == nil {
		return s.Nature != Read
	}
	now, ok := nature(s.Name)
	return !ok || now.Nature != Read
}

// since lists the names of the scopes that were used after a time.
func (u *Use) since(from time.Time) []string {
	var used []string
	for i := range u.Scopes {
		if u.Scopes[i].Last.After(from) {
			used = append(used, u.Scopes[i].Scope.Name)
		}
	}
	return used
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Wrote says whether anything was used that a read-only token would have been
// refused.
func (u *Use) Wrote(nature func(string) (Scope, bool)) bool { return !u.lastWrite(nature).IsZero() }
