package token

import "fmt"

// Access is how much a token may do.
type Access uint8

// The access levels. The zero value is none of them, so that a forgotten field
// grants nothing.
const (
	ReadOnly Access = iota + 1
	ReadWrite
	Custom
)

// Environment separates test traffic from live traffic; fixed at creation.
type Environment uint8

// The environments. Production secrets are marked "live", sandbox ones "test".
const (
	Production Environment = iota + 1
	Sandbox
)

// State is where a token is in its life.
type State uint8

// The states of a token. Expired is never stored: see Token.StateAt.
const (
	Active State = iota + 1
	Disabled
	Expired
	Revoked
	Deleted
)

// SecretStatus is the place of a secret within its token.
type SecretStatus uint8

// A token has one current secret, during a rotation one previous one, and any
// number of retired ones, of which only digests are kept, for alerts.
const (
	Current SecretStatus = iota + 1
	Previous
	Retired
)

// Nature says what a scope lets happen.
type Nature uint8

// The natures of a scope.
const (
	Read Nature = iota + 1
	Write
)

// names gives an enumeration its one spelling, used in JSON, SQL and flags alike.
type names []string

func (n names) text(v uint8) string {
	if int(v) < len(n) {
		return n[v]
	}
	return fmt.Sprintf("invalid(%d)", v)
}

// marshal refuses what parse would not read again: a record that cannot be read
// back must not be written.
func (n names) marshal(what string, v uint8) ([]byte, error) {
	if v == 0 || int(v) >= len(n) {
		return nil, fmt.Errorf("%s must be one of %q", what, n[1:])
	}
	return []byte(n[v]), nil
}

func (n names) parse(what string, text []byte) (uint8, error) {
	for i := 1; i < len(n); i++ {
		if n[i] == string(text) {
			return uint8(i), nil
		}
	}
	return 0, fmt.Errorf("%s must be one of %q", what, n[1:])
}

var (
	accessNames      = names{"none", "read_only", "read_write", "custom"}
	environmentNames = names{"none", "production", "sandbox"}
	stateNames       = names{"none", "active", "disabled", "expired", "revoked", "deleted"}
	statusNames      = names{"none", "current", "previous", "retired"}
	natureNames      = names{"none", "read", "write"}
)

func (a Access) String() string       { return accessNames.text(uint8(a)) }
func (e Environment) String() string  { return environmentNames.text(uint8(e)) }
func (s State) String() string        { return stateNames.text(uint8(s)) }
func (s SecretStatus) String() string { return statusNames.text(uint8(s)) }
func (n Nature) String() string       { return natureNames.text(uint8(n)) }

// MarshalText writes the access level as it stands in JSON; the zero value is refused.
func (a Access) MarshalText() ([]byte, error) { return accessNames.marshal("access", uint8(a)) }

// MarshalText writes the environment as it stands in JSON; the zero value is refused.
func (e Environment) MarshalText() ([]byte, error) {
	return environmentNames.marshal("environment", uint8(e))
}

// MarshalText writes the state as it stands in JSON; the zero value is refused.
func (s State) MarshalText() ([]byte, error) { return stateNames.marshal("state", uint8(s)) }

// MarshalText writes the status as it stands in JSON; the zero value is refused.
func (s SecretStatus) MarshalText() ([]byte, error) {
	return statusNames.marshal("secret status", uint8(s))
}

// MarshalText writes the nature as it stands in JSON; the zero value is refused.
func (n Nature) MarshalText() ([]byte, error) { return natureNames.marshal("nature", uint8(n)) }

// UnmarshalText accepts the spellings of MarshalText only.
func (a *Access) UnmarshalText(text []byte) error {
	v, err := accessNames.parse("access", text)
	*a = Access(v)
	return err
}

// UnmarshalText accepts the spellings of MarshalText only.
func (e *Environment) UnmarshalText(text []byte) error {
	v, err := environmentNames.parse("environment", text)
	*e = Environment(v)
	return err
}

// UnmarshalText accepts the spellings of MarshalText only.
func (s *State) UnmarshalText(text []byte) error {
	v, err := stateNames.parse("state", text)
	*s = State(v)
	return err
}

// UnmarshalText accepts the spellings of MarshalText only.
func (s *SecretStatus) UnmarshalText(text []byte) error {
	v, err := statusNames.parse("secret status", text)
	*s = SecretStatus(v)
	return err
}

// UnmarshalText accepts the spellings of MarshalText only.
func (n *Nature) UnmarshalText(text []byte) error {
	v, err := natureNames.parse("nature", text)
	*n = Nature(v)
	return err
}
