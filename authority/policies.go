package authority

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// The verbs of policies. A policy can rule many accounts, so that they are the
// operator's.
const (
	VerbShowPolicy   Verb = "policy.show"
	VerbCreatePolicy Verb = "policy.create"
	VerbEditPolicy   Verb = "policy.edit"
	VerbDeletePolicy Verb = "policy.delete"
)

// EditPolicy is a change of a policy.
type EditPolicy struct {
	// Preset starts anew from the preset of this name; empty: from the policy as it is.
	Preset string
	Change token.PolicyChange
	// Confirm is asked for when the policy rules accounts.
	Confirm bool
}

// MeetsAllowListRule says whether a token has the allow-list that a policy wants.
func MeetsAllowListRule(t *token.Token, p *token.Policy, known func(name string) (token.Scope, bool)) bool {
	return checkAllowListRule(t, p, known) == nil
}

// OverCap says whether an account, or with a user one user of it, has more valid
// secrets than a number.
func OverCap(tx *tokenstore.Tx, account, user token.ID, most int, now time.Time) (bool, error) {
	_, over, err := (&step{tx: tx, now: now}).listSecrets(account, user, most)
	return over, err
}

// NewPolicyRules are the rules of a new policy: those of a preset, default unless
// named, with a change.
func NewPolicyRules(name, preset string, c *token.PolicyChange) (token.Policy, error) {
	if err := token.CheckPolicyName(name); err != nil {
		return token.Policy{}, asInvalid(err)
	}
	if preset == "" {
		preset = token.DefaultPolicyName
	}
	p, ok := token.Preset(preset)
	if !ok {
		return token.Policy{}, invalid("preset", fmt.Sprintf("must be one of %q", token.PresetNames()))
	}
	p.Name = name
	return changed(p, c)
}

// changed is a policy after a change, if that makes a policy.
func changed(p token.Policy, c *token.PolicyChange) (token.Policy, error) {
	p = c.Apply(p)
	if err := p.Validate(); err != nil {
		return token.Policy{}, asInvalid(err)
	}
	return p, nil
}

// rules are those of a policy after an edit.
func (e *EditPolicy) rules(p token.Policy) (token.Policy, error) {
	if e.Preset == "" {
		return changed(p, &e.Change)
	}
	after, err := NewPolicyRules(p.Name, e.Preset, &e.Change)
	after.ManagedBy, after.Version = p.ManagedBy, p.Version
	return after, err
}

// Policy shows one policy.
func (a *Authority) Policy(ctx context.Context, by By, name string) (token.Policy, error) {
	var p token.Policy
	err := a.see(ctx, by, VerbShowPolicy, findPolicy(name, &p), func(*step) error { return nil })
	return p, err
}

// PolicyAfter is what a policy would be after an edit; it changes nothing.
func (a *Authority) PolicyAfter(ctx context.Context, by By, name string, e EditPolicy) (after token.Policy, err error) {
	var p token.Policy
	err = a.see(ctx, by, VerbShowPolicy, findPolicy(name, &p), func(s *step) error {
		if after, err = e.rules(p); err != nil {
			return err
		}
		return s.checkRolesNamed(&Declarations{Policies: []token.Policy{after}})
	})
	return after, err
}

var noSuchPolicy = refuse(ErrNotFound, "there is no such policy: `policy list` lists them")

func findPolicy(name string, p *token.Policy) finder {
	return func(s *step) (target, error) {
		t := target{id: name}
		if token.CheckPolicyName(name) != nil {
			return target{}, noSuchPolicy
		}
		var err error
		*p, err = s.tx.Policy(name)
		if errors.Is(err, tokenstore.ErrNotFound) {
			err = noSuchPolicy
		}
		return t, err
	}
}

// CreatePolicy makes a policy.
func (a *Authority) CreatePolicy(ctx context.Context, by By, name string, e EditPolicy) (token.Policy, error) {
	p, err := NewPolicyRules(name, e.Preset, &e.Change)
	if err != nil {
		return token.Policy{}, err
	}
	err = a.change(ctx, by, VerbCreatePolicy, anything, func(s *step) error {
		if _, err := s.tx.Policy(name); !errors.Is(err, tokenstore.ErrNotFound) {
			if err != nil {
				return err
			}
			return invalid("name", "there is a policy with this name: edit that one, or choose another name")
		}
		if err := s.checkRolesNamed(&Declarations{Policies: []token.Policy{p}}); err != nil {
			return err
		}
		if err := s.tx.PutPolicy(&p); err != nil {
			return err
		}
		after, err := policyFields(&p)
		if err != nil {
			return err
		}
		s.target = target{id: name}
		return s.audit(nil, after)
	})
	return p, err
}

// EditPolicy changes a policy. version is the one that was read (If-Match). The
// accounts that it rules follow from the next request on, so that a change of a
// policy that rules any is to be confirmed.
func (a *Authority) EditPolicy(ctx context.Context, by By, name string, version int64, e EditPolicy) (token.Policy, error) {
	var p token.Policy
	err := a.change(ctx, by, VerbEditPolicy, findPolicy(name, &p), func(s *step) error {
		if p.ManagedBy != "" {
			return policyOfConfig()
		}
		if err := checkVersion(version, p.Version); err != nil {
			return err
		}
		after, err := e.rules(p)
		if err != nil {
			return err
		}
		was, err := policyFields(&p)
		if err != nil {
			return err
		}
		will, err := policyFields(&after)
		if err != nil {
			return err
		}
		if was, will, err = differing(was, will); err != nil || len(will) == 0 {
			return err
		}
		if err := s.checkRolesNamed(&Declarations{Policies: []token.Policy{after}}); err != nil {
			return err
		}
		if err := s.confirmPolicy(name, e.Confirm, "The policy rules %d accounts, which follow the change at once: see beforehand what it would do to their tokens (`policy preview`)."); err != nil {
			return err
		}
		if err := s.tx.PutPolicy(&after); err != nil {
			return err
		}
		p = after
		return s.audit(was, will)
	})
	return p, err
}

func policyOfConfig() error {
	return refuse(ErrManagedByConfig, "the gateway's configuration owns this policy: change its policy block there, and reload")
}

// confirmPolicy asks for a confirmation when the policy rules accounts.
func (s *step) confirmPolicy(name string, confirmed bool, warning string) error {
	if confirmed {
		return nil
	}
	n, err := s.tx.AccountsUnderPolicy(name)
	if err != nil || n == 0 {
		return err
	}
	return refuse(ErrConfirmationRequired, fmt.Sprintf(warning, n)+" Ask again with confirm to go on.")
}

// DeletePolicy removes a policy that rules no account. The policy default, which
// accounts have that name no other, stays.
func (a *Authority) DeletePolicy(ctx context.Context, by By, name string) (token.Policy, error) {
	var p token.Policy
	err := a.change(ctx, by, VerbDeletePolicy, findPolicy(name, &p), func(s *step) error {
		if name == token.DefaultPolicyName {
			return refuse(ErrInvalidState, "the policy default stays: accounts have it that name no other")
		}
		if p.ManagedBy != "" {
			return policyOfConfig()
		}
		n, err := s.tx.AccountsUnderPolicy(name)
		if err != nil {
			return err
		}
		if n > 0 {
			return refuse(ErrInvalidState, fmt.Sprintf("the policy rules %d accounts: assign another one to them first", n))
		}
		was, err := policyFields(&p)
		if err != nil {
			return err
		}
		if err := s.tx.DeletePolicy(&p); err != nil {
			return err
		}
		return s.audit(was, nil)
	})
	return p, err
}
