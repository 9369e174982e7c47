package token

import (
	"fmt"
	"slices"
	"time"
)

// Policy is the rules of an account, as data.
type Policy struct {
	Name string
	// MaxLifetime ends a token however it is used; 0 means none.
	MaxLifetime time.Duration
	// RotationModes lists the modes that may be asked for; the first is the default.
	RotationModes []RotationMode
	// GraceDefault, GraceMin and GraceMax bound how long a previous secret works.
	GraceDefault, GraceMin, GraceMax time.Duration
	// Editable lists the fields that may be changed after creation.
	Editable []Field
	// RequireAllowList says which tokens must have an IP allow-list.
	RequireAllowList AllowListRule
	// Confirm lists the verbs that need an explicit confirmation.
	Confirm []string
	// ManagedBy is the hash of the configuration that owns the policy; empty: the store.
	ManagedBy string
	Version   int64
}

// RotationMode says what becomes of the previous secret.
type RotationMode string

// The rotation modes.
const (
	RotateTimed RotationMode = "timed"
	RotateNow   RotationMode = "now"
)

// Field is a field of a token that a policy may let people edit.
type Field string

// The editable fields.
const (
	FieldName      Field = "name"
	FieldAccess    Field = "access"
	FieldScopes    Field = "scopes"
	FieldAllowList Field = "ip_allowlist"
	FieldExpiresAt Field = "expires_at"
)

// AllowListRule says which tokens must have an IP allow-list.
type AllowListRule string

// The rules for allow-lists: no token, tokens that may write, every token.
const (
	AllowListNever  AllowListRule = "never"
	AllowListWrite  AllowListRule = "write"
	AllowListAlways AllowListRule = "always"
)

// DefaultPolicyName names the policy of an account that names no other.
const DefaultPolicyName = "default"

// DefaultPolicy is the preset named default, and the policy of an account that
// names no other.
func DefaultPolicy() Policy {
	return Policy{
		Name:             DefaultPolicyName,
		RotationModes:    []RotationMode{RotateTimed, RotateNow},
		GraceDefault:     24 * time.Hour,
		GraceMax:         7 * 24 * time.Hour,
		Editable:         []Field{FieldName, FieldAllowList},
		RequireAllowList: AllowListWrite,
		Confirm:          []string{"revoke", "delete"},
	}
}

// confirmable are the verbs that a policy can ask a confirmation for: those that
// change something.
var confirmable = []string{
	"create", "edit", "rotate", "rollback", "confirm", "extend",
	"enable", "disable", "revoke", "delete", "restore",
}

// Validate says what is wrong with the policy, if anything is. The error is a
// *FieldError that names the knob.
func (p *Policy) Validate() error {
	if err := CheckPolicyName(p.Name); err != nil {
		return err
	}
	for _, d := range []struct {
		knob  string
		value time.Duration
	}{
		{"max_lifetime", p.MaxLifetime},
		{"grace_min", p.GraceMin},
		{"grace_default", p.GraceDefault},
		{"grace_max", p.GraceMax},
	} {
		if d.value < 0 {
			return &FieldError{Field: d.knob, Problem: "must not be negative"}
		}
		if d.value%time.Second != 0 {
			return &FieldError{Field: d.knob, Problem: "must be a whole number of seconds"}
		}
	}
	if p.GraceMin > p.GraceDefault {
		return &FieldError{Field: "grace_default", Problem: "must be at least grace_min"}
	}
	if p.GraceDefault > p.GraceMax {
		return &FieldError{Field: "grace_default", Problem: "must be at most grace_max"}
	}
	if len(p.RotationModes) == 0 {
		return &FieldError{Field: "rotation_modes", Problem: "needs at least one mode; the first is the default"}
	}
	if err := checkChoices("rotation_modes", p.RotationModes, []RotationMode{RotateTimed, RotateNow}); err != nil {
		return err
	}
	if err := checkChoices("editable", p.Editable, []Field{FieldName, FieldAccess, FieldScopes, FieldAllowList, FieldExpiresAt}); err != nil {
		return err
	}
	if err := checkChoices("confirm", p.Confirm, confirmable); err != nil {
		return err
	}
	return checkChoices("require_ip_allowlist", []AllowListRule{p.RequireAllowList}, []AllowListRule{AllowListNever, AllowListWrite, AllowListAlways})
}

// checkChoices accepts values that are all known, each at most once.
func checkChoices[T ~string](knob string, values, known []T) error {
	for i, value := range values {
		if !slices.Contains(known, value) {
			return &FieldError{Field: knob, Problem: fmt.Sprintf("must be of %q", known)}
		}
		if slices.Contains(values[:i], value) {
			return &FieldError{Field: knob, Problem: "must not name anything twice"}
		}
	}
	return nil
}

// CheckPolicyName accepts a lower-case letter, then up to 63 lower-case letters,
// digits, underscores and hyphens. The error is a *FieldError.
func CheckPolicyName(name string) error {
	ok := name != "" && len(name) <= 64
	for i := 0; ok && i < len(name); i++ {
		c := name[i]
		ok = 'a' <= c && c <= 'z' || i > 0 && ('0' <= c && c <= '9' || c == '_' || c == '-')
	}
	if !ok {
		return &FieldError{Field: "name", Problem: "must be 1 to 64 of a-z, 0-9, _ and -, a letter first"}
	}
	return nil
}
