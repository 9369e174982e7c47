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
// left out is as in the built-in policy, which the defaults describe.
type Policy struct {
	// How long a token lives, however it is used, counted from its creation.
	// Default: no limit.
	MaxLifetime caddy.Duration `json:"max_lifetime,omitempty"`
	// The rotation modes that may be asked for; the first is used when a request
	// names none. Default: ["timed", "now"].
	RotationModes []token.RotationMode `json:"rotation_modes,omitempty"`
	// How long the previous secret works after a timed rotation that names no
	// grace period. Default: 24h.
	GraceDefault *caddy.Duration `json:"grace_default,omitempty"`
	// The shortest grace period that may be asked for. Default: 0.
	GraceMin *caddy.Duration `json:"grace_min,omitempty"`
	// The longest grace period that may be asked for. Default: 7d.
	GraceMax *caddy.Duration `json:"grace_max,omitempty"`
	// The fields that may be changed after creation, of name, access, scopes,
	// ip_allowlist and expires_at; an empty list means none.
	// Default: ["name", "ip_allowlist"].
	Editable []token.Field `json:"editable,omitzero"`
	// Which tokens must have an IP allow-list: never, write (those that may
	// change anything) or always. Default: write.
	RequireIPAllowlist token.AllowListRule `json:"require_ip_allowlist,omitempty"`
	// The verbs that need an explicit confirmation, of rotate, enable, disable,
	// revoke and delete; an empty list means none. Default: ["revoke", "delete"].
	Confirm []string `json:"confirm,omitzero"`
}

// What the lists of a policy may hold.
var (
	rotationModes   = []token.RotationMode{token.RotateTimed, token.RotateNow}
	editableFields  = []token.Field{token.FieldName, token.FieldAccess, token.FieldScopes, token.FieldAllowList, token.FieldExpiresAt}
	allowListRules  = []token.AllowListRule{token.AllowListNever, token.AllowListWrite, token.AllowListAlways}
	confirmedVerbs  = []string{"rotate", "enable", "disable", "revoke", "delete"}
	errGraceMinMax  = errors.New("grace_min is longer than grace_max")
	errGraceOutside = errors.New("grace_default is not between grace_min and grace_max")
)

// rules is the policy in full.
func (p *Policy) rules(name string) (token.Policy, error) {
	rules := token.DefaultPolicy()
	rules.Name = name
	rules.MaxLifetime = time.Duration(p.MaxLifetime)
	if p.RotationModes != nil {
		rules.RotationModes = p.RotationModes
	}
	override(&rules.GraceDefault, p.GraceDefault)
	override(&rules.GraceMin, p.GraceMin)
	override(&rules.GraceMax, p.GraceMax)
	// A bound that was moved past the built-in default takes it along; only a
	// default that was written down can contradict.
	if p.GraceDefault == nil {
		rules.GraceDefault = min(max(rules.GraceDefault, rules.GraceMin), rules.GraceMax)
	}
	if p.Editable != nil {
		rules.Editable = p.Editable
	}
	if p.RequireIPAllowlist != "" {
		rules.RequireAllowList = p.RequireIPAllowlist
	}
	if p.Confirm != nil {
		rules.Confirm = p.Confirm
	}
	return rules, checkRules(&rules)
}

func override(rule *time.Duration, configured *caddy.Duration) {
	if configured != nil {
		*rule = time.Duration(*configured)
	}
}

func checkRules(rules *token.Policy) error {
	switch {
	case rules.MaxLifetime < 0 || rules.GraceDefault < 0 || rules.GraceMin < 0 || rules.GraceMax < 0:
		return errors.New("a duration is negative")
	case rules.GraceMin > rules.GraceMax:
		return errGraceMinMax
	case rules.GraceDefault < rules.GraceMin || rules.GraceDefault > rules.GraceMax:
		return errGraceOutside
	case len(rules.RotationModes) == 0:
		return errors.New("rotation_modes names no mode")
	}
	if err := checkList("rotation_modes", rules.RotationModes, rotationModes); err != nil {
		return err
	}
	if err := checkList("editable", rules.Editable, editableFields); err != nil {
		return err
	}
	if err := checkList("confirm", rules.Confirm, confirmedVerbs); err != nil {
		return err
	}
	return checkList("require_ip_allowlist", []token.AllowListRule{rules.RequireAllowList}, allowListRules)
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
