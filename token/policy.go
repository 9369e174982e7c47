package token

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Policy is the rules of an account, as data. Policies are shared by concurrent
// readers, so that nobody changes the lists and maps of one that is in use.
type Policy struct {
	Name string
	// MaxSecretsPerAccount and MaxSecretsPerUser bound how many secrets are valid
	// at a time: the current ones, and the previous ones while they work, of
	// tokens that are active or disabled. 0 means none.
	MaxSecretsPerAccount, MaxSecretsPerUser int
	// MaxLifetime ends a token however it is used; 0 means none.
	MaxLifetime time.Duration
	// DeleteExpiredAfter is how long an expired token stays before it is deleted;
	// 0: it is deleted when it expires.
	DeleteExpiredAfter time.Duration
	// ExpiryWarnings are how long before it expires people are warned, the
	// earliest warning first.
	ExpiryWarnings []time.Duration
	// DeleteUnused deletes a token that was not used for so long; 0 means never.
	DeleteUnused time.Duration
	// DowngradeUnused takes away what a token did not use for so long; 0 means never.
	DowngradeUnused time.Duration
	// Notice is how long before either of the two people are told.
	Notice time.Duration
	// RestoreWindow is how long what the lifecycle took can be had back.
	RestoreWindow time.Duration
	// DowngradeUndo lets people undo a downgrade within RestoreWindow.
	DowngradeUndo bool
	// RotationModes lists the modes that may be asked for; the first is the default.
	RotationModes []RotationMode
	// GraceDefault, GraceMin and GraceMax bound how long a previous secret works.
	GraceDefault, GraceMin, GraceMax time.Duration
	// Editable lists the fields that may be changed after creation.
	Editable []Field
	// Allow lists who may carry out a verb; a verb that it does not hold is as
	// AllowedTo says. See there for how they are written.
	Allow map[string][]string
	// StepUp lists the verbs that need a one-time code.
	StepUp []string
	// Confirm lists the verbs that need an explicit confirmation.
	Confirm []string
	// Notify lists who is told of an event; an event that it does not hold is as
	// Recipients says.
	Notify map[Event][]Class
	// View lists the roles that see the account's tokens.
	View []string
	// RequireAllowList says which tokens must have an IP allow-list.
	RequireAllowList AllowListRule
	// RevokeOnRetiredUse revokes a token when one of its retired secrets is used.
	RevokeOnRetiredUse bool
	// ManagedBy is the hash of the configuration that owns the policy; empty: the store.
	ManagedBy string
	Version   int64
}

// RotationMode says what becomes of the previous secret.
type RotationMode string

// The rotation modes: the previous secret ends after a grace period; at once; when
// a person says so; a grace period after the new one was first used.
const (
	RotateTimed          RotationMode = "timed"
	RotateNow            RotationMode = "now"
	RotateUntilConfirmed RotationMode = "until_confirmed"
	RotateOnFirstUse     RotationMode = "on_first_use"
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

// Limits of a policy.
const (
	// MaxPolicyDuration keeps every sum of a duration and a date within what all
	// stores and RFC 3339 can write.
	MaxPolicyDuration = 36_500 * 24 * time.Hour
	// MaxSecretCap bounds a cap that is set, since whoever issues a secret counts
	// up to it while other changes wait.
	MaxSecretCap = 10_000
	// MaxExpiryWarnings bounds how many warnings there are before one expiry.
	MaxExpiryWarnings = 10
	maxGrantees       = 32
)

// RotationModes, EditableFields and AllowListRules list what a policy can hold.
func RotationModes() []RotationMode {
	return []RotationMode{RotateTimed, RotateNow, RotateUntilConfirmed, RotateOnFirstUse}
}

// EditableFields lists the fields that a policy can let people edit.
func EditableFields() []Field {
	return []Field{FieldName, FieldAccess, FieldScopes, FieldAllowList, FieldExpiresAt}
}

// AllowListRules lists the rules for allow-lists.
func AllowListRules() []AllowListRule {
	return []AllowListRule{AllowListNever, AllowListWrite, AllowListAlways}
}

// PolicyVerbs lists the verbs that a policy can speak of: those that change a token.
func PolicyVerbs() []string {
	return []string{
		"create", "edit", "rotate", "rollback", "confirm", "extend",
		"enable", "disable", "revoke", "delete", "restore", "exempt", "undo-downgrade",
	}
}

// ownPrefix marks a role that may carry out a verb on the user's own tokens only.
const ownPrefix = "own:"

// AllowedTo lists who may carry out a verb on tokens of the account: the users
// with a role, written as its name, and with `own:` before it, those users on
// tokens that belong to themselves. An operator who acts in nobody's name is not
// bound by it.
func (p *Policy) AllowedTo(verb string) []string {
	if grantees, ok := p.Allow[verb]; ok {
		return grantees
	}
	switch verb {
	case "exempt": // L7
		return []string{"owner"}
	case "undo-downgrade": // L6
		return []string{"owner", "admin"}
	default:
		return []string{"owner", "admin", ownPrefix + "member"}
	}
}

// Recipients lists who is told of an event.
func (p *Policy) Recipients(e Event) []Class {
	if classes, ok := p.Notify[e]; ok {
		return classes
	}
	return defaultRecipients(e)
}

// RolesNamed lists the roles that the policy speaks of, each once.
func (p *Policy) RolesNamed() []string {
	roles := slices.Clone(p.View)
	for _, grantees := range p.Allow {
		for _, grantee := range grantees {
			roles = append(roles, strings.TrimPrefix(grantee, ownPrefix))
		}
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}

// day is the longest bucket.
const day = 24 * time.Hour

// Bucket is how finely the use of tokens is recorded: by the UTC day, or by a
// 45th of the shortest window in force when that is less, so that a window of
// seconds is judged as exactly, in proportion, as one of 45 days.
func (p *Policy) Bucket() time.Duration {
	bucket := day
	for _, window := range []time.Duration{p.DeleteUnused, p.DowngradeUnused} {
		if window > 0 {
			bucket = min(bucket, window/45)
		}
	}
	return bucket
}

// ShortestBucket is how finely use is recorded under several policies.
func ShortestBucket(policies []Policy) time.Duration {
	least := day
	for i := range policies {
		least = min(least, policies[i].Bucket())
	}
	return least
}

// Validate says what is wrong with the policy, if anything is. The error is a
// *FieldError that names the knob.
func (p *Policy) Validate() error {
	if err := CheckPolicyName(p.Name); err != nil {
		return err
	}
	for _, check := range []func() error{
		p.checkCaps, p.checkDurations, p.checkWarnings, p.checkNotice, p.checkRotation, p.checkLists, p.checkAllow, p.checkNotify,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (p *Policy) checkCaps() error {
	for _, c := range []struct {
		knob  string
		value int
	}{
		{"max_secrets_per_account", p.MaxSecretsPerAccount},
		{"max_secrets_per_user", p.MaxSecretsPerUser},
	} {
		if c.value < 0 || c.value > MaxSecretCap {
			return &FieldError{Field: c.knob, Problem: fmt.Sprintf("must be 1 to %d, or none", MaxSecretCap)}
		}
	}
	return nil
}

func (p *Policy) checkDurations() error {
	for _, d := range []struct {
		knob  string
		value time.Duration
	}{
		{"max_lifetime", p.MaxLifetime},
		{"delete_expired_after", p.DeleteExpiredAfter},
		{"delete_unused", p.DeleteUnused},
		{"downgrade_unused", p.DowngradeUnused},
		{"notice", p.Notice},
		{"restore_window", p.RestoreWindow},
		{"grace_min", p.GraceMin},
		{"grace_default", p.GraceDefault},
		{"grace_max", p.GraceMax},
	} {
		if err := checkDuration(d.knob, d.value); err != nil {
			return err
		}
	}
	return nil
}

func checkDuration(knob string, d time.Duration) error {
	switch {
	case d < 0:
		return &FieldError{Field: knob, Problem: "must not be negative"}
	case d%time.Second != 0:
		return &FieldError{Field: knob, Problem: "must be a whole number of seconds"}
	case d > MaxPolicyDuration:
		return &FieldError{Field: knob, Problem: fmt.Sprintf("must be at most %d days", MaxPolicyDuration/day)}
	default:
		return nil
	}
}

func (p *Policy) checkWarnings() error {
	const knob = "expiry_warnings"
	if len(p.ExpiryWarnings) > MaxExpiryWarnings {
		return &FieldError{Field: knob, Problem: fmt.Sprintf("must be at most %d", MaxExpiryWarnings)}
	}
	for i, d := range p.ExpiryWarnings {
		if err := checkDuration(knob, d); err != nil {
			return err
		}
		if d == 0 {
			return &FieldError{Field: knob, Problem: "must be longer than 0: a warning comes before the token expires"}
		}
		if i > 0 && d >= p.ExpiryWarnings[i-1] {
			return &FieldError{Field: knob, Problem: "must go from the longest to the shortest, none twice"}
		}
	}
	return nil
}

// checkNotice keeps the promise that nothing is taken from a token unannounced
// (M4, M8): with a window in force there is a notice, and it begins inside the
// window, since it says what was not used until then.
func (p *Policy) checkNotice() error {
	for _, w := range []struct {
		knob  string
		value time.Duration
	}{
		{"delete_unused", p.DeleteUnused},
		{"downgrade_unused", p.DowngradeUnused},
	} {
		switch {
		case w.value == 0:
		case p.Notice == 0:
			return &FieldError{Field: "notice", Problem: "must be longer than 0 while " + w.knob + " is on"}
		case p.Notice >= w.value:
			return &FieldError{Field: "notice", Problem: "must be shorter than " + w.knob}
		}
	}
	return nil
}

func (p *Policy) checkRotation() error {
	if p.GraceMin > p.GraceMax {
		return &FieldError{Field: "grace_min", Problem: "must be at most grace_max"}
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
	return checkChoices("rotation_modes", p.RotationModes, RotationModes())
}

func (p *Policy) checkLists() error {
	if err := checkChoices("editable", p.Editable, EditableFields()); err != nil {
		return err
	}
	if err := checkChoices("confirm", p.Confirm, PolicyVerbs()); err != nil {
		return err
	}
	if err := checkChoices("step_up", p.StepUp, PolicyVerbs()); err != nil {
		return err
	}
	if err := checkRoles("view", p.View, ""); err != nil {
		return err
	}
	return checkChoices("require_ip_allowlist", []AllowListRule{p.RequireAllowList}, AllowListRules())
}

func (p *Policy) checkAllow() error {
	for _, verb := range sortedKeys(p.Allow) {
		if err := checkChoices("allow", []string{verb}, PolicyVerbs()); err != nil {
			return err
		}
		if err := checkRoles("allow", p.Allow[verb], ownPrefix); err != nil {
			return err
		}
	}
	return nil
}

func (p *Policy) checkNotify() error {
	for _, event := range sortedKeys(p.Notify) {
		if err := checkChoices("notify", []Event{event}, events[:]); err != nil {
			return err
		}
		if err := checkChoices("notify", p.Notify[event], Classes()); err != nil {
			return err
		}
	}
	return nil
}

// checkRoles accepts names of roles, each at most once, and with a prefix also
// those that begin with it. Whether there are such roles, the store knows.
func checkRoles(knob string, roles []string, prefix string) error {
	if len(roles) > maxGrantees {
		return &FieldError{Field: knob, Problem: fmt.Sprintf("must be at most %d roles", maxGrantees)}
	}
	for i, role := range roles {
		if CheckPolicyName(strings.TrimPrefix(role, prefix)) != nil {
			problem := "must be names of roles"
			if prefix != "" {
				problem += ", or " + prefix + " and the name of a role"
			}
			return &FieldError{Field: knob, Problem: problem}
		}
		if slices.Contains(roles[:i], role) {
			return &FieldError{Field: knob, Problem: "must not name anything twice"}
		}
	}
	return nil
}

// sortedKeys makes it the same mistake of several that is told each time.
func sortedKeys[K ~string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
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
