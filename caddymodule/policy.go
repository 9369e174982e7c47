package caddymodule

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport/sallyport/token"
)

// Policy is the rules of accounts, as a configuration declares them. What is
// left out is as in the preset; the defaults given here are those of the preset
// default.
type Policy struct {
	// The preset that the policy starts from: default, mercury, own, rapyd, staffbase or
	// taxjar. What is written beside it counts instead of what the preset says. Default: default.
	Preset string `json:"preset,omitempty"`

	// How many secrets of one account can be valid at a time: the current ones,
	// and the previous ones while they work, of active and disabled tokens; at
	// most 10000. 0 means any number. Default: any number.
	MaxSecretsPerAccount *int `json:"max_secrets_per_account,omitempty"`
	// How many secrets of one user can be valid at a time, counted in the same
	// way. 0 means any number. Default: any number.
	MaxSecretsPerUser *int `json:"max_secrets_per_user,omitempty"`

	// How long a token lives, however it is used, counted from its creation. 0
	// means no limit. Default: no limit.
	MaxLifetime *caddy.Duration `json:"max_lifetime,omitempty"`
	// How long an expired token stays before it is deleted; 0 deletes it when it
	// expires. Default: 30d.
	DeleteExpiredAfter *caddy.Duration `json:"delete_expired_after,omitempty"`
	// How long before a token expires people are warned, the longest time first,
	// at most 10; an empty list means no warning. Default: 30d, 7d and 1d.
	ExpiryWarnings []caddy.Duration `json:"expiry_warnings,omitzero"`
	// How long a token must be unused to be deleted. 0 means never. Default: 45d.
	DeleteUnused *caddy.Duration `json:"delete_unused,omitempty"`
	// How long a permission must be unused to be taken from a token. 0 means
	// never. Default: 45d.
	DowngradeUnused *caddy.Duration `json:"downgrade_unused,omitempty"`
	// How long before an unused token is deleted, or loses a permission, people
	// are told; shorter than both times. Default: 7d.
	Notice *caddy.Duration `json:"notice,omitempty"`
	// How long a token that was deleted because it expired or was not used can be
	// restored, and a downgrade be undone. Default: 30d.
	RestoreWindow *caddy.Duration `json:"restore_window,omitempty"`
	// Whether people can undo a downgrade. Default: true.
	DowngradeUndo *bool `json:"downgrade_undo,omitempty"`

	// The rotation modes that may be asked for, of timed, now, until_confirmed and
	// on_first_use; the first is used when a request names none. Default: all four,
	// in this order.
	RotationModes []token.RotationMode `json:"rotation_modes,omitempty"`
	// How long the previous secret works after a rotation timed or on_first_use that
	// names no grace period. Default: 24h.
	GraceDefault *caddy.Duration `json:"grace_default,omitempty"`
	// The shortest grace period that may be asked for. Default: 0.
	GraceMin *caddy.Duration `json:"grace_min,omitempty"`
	// The longest grace period that may be asked for. Default: 7d.
	GraceMax *caddy.Duration `json:"grace_max,omitempty"`

	// The fields that may be changed after creation, of name, access, scopes,
	// ip_allowlist and expires_at; an empty list means none.
	// Default: ["name", "ip_allowlist"].
	Editable []token.Field `json:"editable,omitzero"`
	// Which roles may carry out a verb on the account's tokens, by verb: create,
	// edit, rotate, rollback, confirm, extend, enable, disable, revoke, delete,
	// restore, exempt or undo-downgrade. `own:ROLE` may on the tokens of the user
	// alone, and an empty list means nobody. Operators are not bound by it.
	// Default: owner, admin and own:member; undo-downgrade: owner and admin;
	// exempt: owner.
	Allow map[string][]string `json:"allow,omitempty"`
	// The verbs that need a one-time code, of those of allow; an empty list means
	// none. Operators are not bound by it. Default: none.
	StepUp []string `json:"step_up,omitzero"`
	// The verbs that need an explicit confirmation, of those of allow; an empty
	// list means none. Default: ["revoke", "delete"].
	Confirm []string `json:"confirm,omitzero"`

	// Who is told of an event, by event: requester, user (whom the token belongs
	// to), owner, admins (owners included) or viewers (the roles of view); an
	// empty list means nobody. Default: owner and requester for what people do,
	// admins for what the lifecycle does.
	Notify map[token.Event][]token.Class `json:"notify,omitempty"`
	// The roles that see the account's tokens; an empty list means none.
	// Default: ["owner", "admin", "auditor"].
	View []string `json:"view,omitzero"`

	// Which tokens must have an IP allow-list: never, write (those that may
	// change anything) or always. Default: write.
	RequireIPAllowlist token.AllowListRule `json:"require_ip_allowlist,omitempty"`
	// Whether a token is revoked when a secret of it that was retired is used.
	// Default: false.
	RevokeOnRetiredUse *bool `json:"revoke_on_retired_use,omitempty"`
}

// rules is the policy in full.
func (p *Policy) rules(name string) (token.Policy, error) {
	preset := p.Preset
	if preset == "" {
		preset = token.DefaultPolicyName
	}
	rules, ok := token.Preset(preset)
	if !ok {
		return token.Policy{}, fmt.Errorf("preset: takes one of %q", token.PresetNames())
	}
	change := p.change()
	rules = change.Apply(rules)
	rules.Name = name
	return rules, rules.Validate()
}

// change is what is written beside the preset.
func (p *Policy) change() token.PolicyChange {
	c := token.PolicyChange{
		MaxSecretsPerAccount: p.MaxSecretsPerAccount, MaxSecretsPerUser: p.MaxSecretsPerUser,
		MaxLifetime:        (*time.Duration)(p.MaxLifetime),
		DeleteExpiredAfter: (*time.Duration)(p.DeleteExpiredAfter),
		DeleteUnused:       (*time.Duration)(p.DeleteUnused),
		DowngradeUnused:    (*time.Duration)(p.DowngradeUnused),
		Notice:             (*time.Duration)(p.Notice),
		RestoreWindow:      (*time.Duration)(p.RestoreWindow),
		GraceDefault:       (*time.Duration)(p.GraceDefault),
		GraceMin:           (*time.Duration)(p.GraceMin),
		GraceMax:           (*time.Duration)(p.GraceMax),
		DowngradeUndo:      p.DowngradeUndo,
		RotationModes:      p.RotationModes,
		Editable:           p.Editable,
		Allow:              p.Allow,
		StepUp:             p.StepUp,
		Confirm:            p.Confirm,
		Notify:             p.Notify,
		View:               p.View,
		RevokeOnRetiredUse: p.RevokeOnRetiredUse,
	}
	if p.ExpiryWarnings != nil {
		c.ExpiryWarnings = make([]time.Duration, len(p.ExpiryWarnings))
		for i, d := range p.ExpiryWarnings {
			c.ExpiryWarnings[i] = time.Duration(d)
		}
	}
	if p.RequireIPAllowlist != "" {
		c.RequireAllowList = &p.RequireIPAllowlist
	}
	return c
}

// checkList says which values are allowed, and not which was given.
func checkList[T ~string](name string, given, allowed []T) error {
	for i, value := range given {
		if !slices.Contains(allowed, value) {
			return fmt.Errorf("%s takes %q", name, allowed)
		}
		if slices.Contains(given[:i], value) {
			return fmt.Errorf("%s names one value twice", name)
		}
	}
	return nil
}

var errPresetNotFirst = errors.New("preset must be the first line of a policy: the lines after it change what it says")
