package caddymodule

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport/sallyport/token"
)

const policyBlock = "policy "

// aLineName matches what a line could be called. Anything else may be a secret that
// stands where a line should, and no message repeats it.
var aLineName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)

// unknownLine refuses a line. Those of a policy are many, and a rule that was
// misspelt is not in force, so that their names are told.
func (p *optionParser) unknownLine(name, where string, lines map[string]func() error) error {
	if !aLineName.MatchString(name) {
		name = "(not repeated)"
	}
	if !strings.HasPrefix(where, policyBlock) {
		return p.Errf("unrecognized subdirective %q in %s", name, where)
	}
	return p.Errf("unrecognized subdirective %q in %s: it takes %s", name, where, strings.Join(slices.Sorted(maps.Keys(lines)), ", "))
}

func (p *optionParser) policy() error {
	var name string
	if err := p.oneArg(&name); err != nil {
		return err
	}
	if err := checkDeclaredName("policy", name); err != nil {
		return p.WrapErr(err)
	}
	if _, ok := p.app.Policies[name]; ok {
		return p.Errf("policy %s is declared twice", name)
	}
	policy := new(Policy)
	file, line := p.File(), p.Line()
	nesting := p.Nesting()
	if err := p.policyRules(func() bool { return p.NextBlock(nesting) }, name, policy); err != nil {
		return err
	}
	if p.app.Policies == nil {
		p.app.Policies = map[string]*Policy{}
	}
	p.app.Policies[name] = policy
	// What no single line shows: how the lines fit together.
	if _, err := p.app.policy(name); err != nil {
		return fmt.Errorf("%w, at %s:%d", err, file, line)
	}
	return nil
}

// policyRules reads the rules of a policy, in a block or from a command line.
func (p *optionParser) policyRules(next func() bool, name string, policy *Policy) error {
	return p.lines(next, policyBlock+name, p.policyLines(policy), "allow", "notify")
}

func (p *optionParser) policyLines(policy *Policy) map[string]func() error {
	lines := map[string]func() error{
		"max_secrets_per_account": func() error { return p.limit(&policy.MaxSecretsPerAccount) },
		"max_secrets_per_user":    func() error { return p.limit(&policy.MaxSecretsPerUser) },
		"max_lifetime":            func() error { return p.span(&policy.MaxLifetime, "none") },
		"delete_expired_after":    func() error { return p.span(&policy.DeleteExpiredAfter, "") },
		"expiry_warnings":         func() error { return p.spans(&policy.ExpiryWarnings) },
		"delete_unused":           func() error { return p.span(&policy.DeleteUnused, "never") },
		"downgrade_unused":        func() error { return p.span(&policy.DowngradeUnused, "never") },
		"notice":                  func() error { return p.span(&policy.Notice, "") },
		"restore_window":          func() error { return p.span(&policy.RestoreWindow, "") },
		"downgrade_undo":          func() error { return p.onOff(&policy.DowngradeUndo) },
		"rotation_modes":          func() error { return listOf(p, &policy.RotationModes, token.RotationModes(), false) },
		"grace_default":           func() error { return p.span(&policy.GraceDefault, "") },
		"grace_min":               func() error { return p.span(&policy.GraceMin, "") },
		"grace_max":               func() error { return p.span(&policy.GraceMax, "") },
		"editable":                func() error { return listOf(p, &policy.Editable, token.EditableFields(), true) },
		"allow":                   func() error { return p.allow(policy) },
		"step_up":                 func() error { return listOf(p, &policy.StepUp, token.PolicyVerbs(), true) },
		"confirm":                 func() error { return listOf(p, &policy.Confirm, token.PolicyVerbs(), true) },
		"notify":                  func() error { return p.notify(policy) },
		"view": func() (err error) {
			policy.View, err = p.words()
			return err
		},
		"require_ip_allowlist": func() error {
			var rule []token.AllowListRule
			if err := listOf(p, &rule, token.AllowListRules(), false); err != nil {
				return err
			}
			if len(rule) != 1 {
				return p.ArgErr()
			}
			policy.RequireIPAllowlist = rule[0]
			return nil
		},
		"revoke_on_retired_use": func() error { return p.onOff(&policy.RevokeOnRetiredUse) },
	}
	first := true
	for name, read := range lines {
		lines[name] = func() error {
			first = false
			return read()
		}
	}
	lines["preset"] = func() error {
		if !first {
			return p.WrapErr(errPresetNotFirst)
		}
		first = false
		var preset []string
		if err := listOf(p, &preset, token.PresetNames(), false); err != nil {
			return err
		}
		if len(preset) != 1 {
			return p.ArgErr()
		}
		policy.Preset = preset[0]
		return nil
	}
	return lines
}

// limit reads a number of secrets. A written 0 could mean none at all as well as
// no limit, so that it is neither.
func (p *optionParser) limit(target **int) error {
	name := p.Val()
	var value string
	if err := p.oneArg(&value); err != nil {
		return err
	}
	n := 0
	if value != "none" {
		var err error
		if n, err = strconv.Atoi(value); err != nil || n < 1 || n > token.MaxSecretCap {
			return p.Errf("%s takes a number from 1 to %d, or none for no limit", name, token.MaxSecretCap)
		}
	}
	*target = &n
	return nil
}

// span reads a duration, or the word that switches the rule off. Where there is
// one, a written 0 would say the opposite, and is refused.
func (p *optionParser) span(target **caddy.Duration, off string) error {
	name := p.Val()
	if off != "" && p.NextArg() {
		if p.Val() == off && p.CountRemainingArgs() == 0 {
			*target = new(caddy.Duration)
			return nil
		}
		p.Prev()
	}
	duration, err := p.duration()
	if err == nil && duration == 0 && off != "" {
		return p.Errf("%s 0 would leave no time at all: write %s to switch it off", name, off)
	}
	*target = &duration
	return err
}

func (p *optionParser) spans(target *[]caddy.Duration) error {
	name := p.Val()
	args := p.RemainingArgs()
	if len(args) == 0 {
		return p.ArgErr()
	}
	list := []caddy.Duration{}
	if len(args) == 1 && args[0] == "none" {
		args = nil
	}
	for _, arg := range args {
		duration, err := caddy.ParseDuration(arg)
		if err != nil || duration < 0 {
			return p.Errf("%s takes durations such as 30d 7d 1d, or none", name)
		}
		list = append(list, caddy.Duration(duration))
	}
	*target = list
	return nil
}

func (p *optionParser) onOff(target **bool) error {
	name := p.Val()
	var value string
	if err := p.oneArg(&value); err != nil {
		return err
	}
	if value != "on" && value != "off" {
		return p.Errf("%s takes on or off", name)
	}
	on := value == "on"
	*target = &on
	return nil
}

// words reads names, or none alone for no name.
func (p *optionParser) words() ([]string, error) {
	args := p.RemainingArgs()
	if len(args) == 0 {
		return nil, p.ArgErr()
	}
	if len(args) == 1 && args[0] == "none" {
		return []string{}, nil
	}
	return args, nil
}

func (p *optionParser) allow(policy *Policy) error {
	if !p.NextArg() {
		return p.ArgErr()
	}
	verb := p.Val()
	if err := checkList("allow", []string{verb}, token.PolicyVerbs()); err != nil {
		return p.WrapErr(err)
	}
	if _, ok := policy.Allow[verb]; ok {
		return p.Errf("allow %s is set twice", verb)
	}
	roles, err := p.words()
	if err != nil {
		return err
	}
	if policy.Allow == nil {
		policy.Allow = map[string][]string{}
	}
	policy.Allow[verb] = roles
	return nil
}

func (p *optionParser) notify(policy *Policy) error {
	if !p.NextArg() {
		return p.ArgErr()
	}
	event := token.Event(p.Val())
	if err := checkList("notify", []token.Event{event}, token.Events()); err != nil {
		return p.WrapErr(err)
	}
	if _, ok := policy.Notify[event]; ok {
		return p.Errf("notify %s is set twice", event)
	}
	var classes []token.Class
	if err := listOf(p, &classes, token.Classes(), true); err != nil {
		return err
	}
	if policy.Notify == nil {
		policy.Notify = map[token.Event][]token.Class{}
	}
	policy.Notify[event] = classes
	return nil
}
