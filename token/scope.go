package token

import (
	"errors"
	"fmt"
	"slices"
)

// Limits of scopes.
const (
	MaxScopes      = 200 // a token
	MaxScopeLength = 128 // bytes of a name
)

// Scope is one permission: a name and what it lets happen.
type Scope struct {
	Name   string
	Nature Nature
}

// The built-in scopes stand for operations that no other scope names. They can
// not be declared anew, and a custom token may list them.
var (
	ReadScope  = Scope{Name: "read", Nature: Read}
	WriteScope = Scope{Name: "write", Nature: Write}
)

// BuiltInScope finds a built-in scope by its name, those for management included.
func BuiltInScope(name string) (Scope, bool) {
	switch name {
	case ReadScope.Name:
		return ReadScope, true
	case WriteScope.Name:
		return WriteScope, true
	default:
		return managementScope(name)
	}
}

// MethodScope is the built-in scope that a method needs when nothing else says
// what it needs: read for the safe methods, write for all others.
func MethodScope(method string) Scope {
	switch method {
	case "GET", "HEAD", "OPTIONS", "QUERY":
		return ReadScope
	default:
		return WriteScope
	}
}

// CheckScopeName accepts what RFC 6749 section 3.3 calls a scope-token, up to
// MaxScopeLength bytes.
func CheckScopeName(name string) error {
	if name == "" {
		return errors.New("a scope needs a name")
	}
	if len(name) > MaxScopeLength {
		return fmt.Errorf("a scope's name has at most %d bytes", MaxScopeLength)
	}
	for i := range len(name) {
		c := name[i]
		if c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return errors.New(`a scope's name is made of visible ASCII characters other than '"' and '\'`)
		}
	}
	return nil
}

// Grant is an access level with, for custom ones, the scopes that it lists.
// Both tokens and roles hold one.
type Grant struct {
	Access Access
	Scopes []string // sorted, without repetition; empty unless Access is Custom
}

// Holds says whether the grant covers a scope.
func (g *Grant) Holds(s Scope) bool {
	switch g.Access {
	case ReadOnly:
		return s.Nature == Read
	case ReadWrite:
		return true
	case Custom:
		_, found := slices.BinarySearch(g.Scopes, s.Name)
		return found
	default:
		return false
	}
}

// NewGrant checks an access level and its scopes against the known ones, and
// brings the scopes into order. The error is a *FieldError.
func NewGrant(access Access, scopes []string, known func(name string) (Scope, bool)) (Grant, error) {
	if access != Custom {
		if len(scopes) > 0 {
			return Grant{}, &FieldError{Field: "scopes", Problem: "only a custom token lists scopes: set access to custom, or leave scopes out"}
		}
		if access != ReadOnly && access != ReadWrite {
			return Grant{}, &FieldError{Field: "access", Problem: "must be read_only, read_write or custom"}
		}
		return Grant{Access: access}, nil
	}
	if len(scopes) == 0 {
		return Grant{}, &FieldError{Field: "scopes", Problem: "a custom token lists at least one scope"}
	}
	for i, name := range scopes {
		if _, ok := lookUpScope(name, known); !ok {
			return Grant{}, &FieldError{Field: fmt.Sprintf("scopes[%d]", i), Problem: "names a scope that is not declared; `scopes` in the Caddyfile's `sallyport` block declares scopes"}
		}
	}
	sorted := slices.Compact(slices.Sorted(slices.Values(scopes)))
	if len(sorted) > MaxScopes {
		return Grant{}, &FieldError{Field: "scopes", Problem: fmt.Sprintf("at most %d scopes", MaxScopes)}
	}
	return Grant{Access: Custom, Scopes: sorted}, nil
}

// lookUpScope finds a built-in or a declared scope; built-in ones first, since
// a declaration cannot change what they mean.
func lookUpScope(name string, known func(name string) (Scope, bool)) (Scope, bool) {
	if s, ok := BuiltInScope(name); ok {
		return s, true
	}
	if known == nil {
		return Scope{}, false
	}
	return known(name)
}

// Equal says whether two grants are the same.
func (g *Grant) Equal(other *Grant) bool {
	return g.Access == other.Access && slices.Equal(g.Scopes, other.Scopes)
}

// Writes says whether the grant lets anything be changed.
func (g *Grant) Writes(known func(name string) (Scope, bool)) bool {
	switch g.Access {
	case ReadOnly:
		return false
	case Custom:
		for _, name := range g.Scopes {
			// A scope that is no longer declared counts as one that writes:
			// the stricter reading.
			if s, ok := lookUpScope(name, known); !ok || s.Nature != Read {
				return true
			}
		}
		return false
	default:
		return true
	}
}

// FieldError names a field of the input and what is wrong with it. It never
// repeats the value, which may hold a secret.
type FieldError struct {
	Field   string
	Problem string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }
