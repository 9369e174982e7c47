package token

import (
	"maps"
	"time"
)

// PolicyChange is a change of a policy: nil leaves a knob as it is.
type PolicyChange struct {
	MaxSecretsPerAccount, MaxSecretsPerUser *int

	MaxLifetime, DeleteExpiredAfter, DeleteUnused, DowngradeUnused *time.Duration
	Notice, RestoreWindow, GraceDefault, GraceMin, GraceMax        *time.Duration

	ExpiryWarnings []time.Duration
	DowngradeUndo  *bool
	RotationModes  []RotationMode
	Editable       []Field
	// Allow and Notify change the verbs and the events that they hold, and no other.
	Allow              map[string][]string
	StepUp, Confirm    []string
	Notify             map[Event][]Class
	View               []string
	RequireAllowList   *AllowListRule
	RevokeOnRetiredUse *bool
}

// Apply is the policy after the change. What it gives is not validated yet.
func (c *PolicyChange) Apply(p Policy) Policy {
	change(&p.MaxSecretsPerAccount, c.MaxSecretsPerAccount)
	change(&p.MaxSecretsPerUser, c.MaxSecretsPerUser)
	change(&p.MaxLifetime, c.MaxLifetime)
	change(&p.DeleteExpiredAfter, c.DeleteExpiredAfter)
	change(&p.DeleteUnused, c.DeleteUnused)
	change(&p.DowngradeUnused, c.DowngradeUnused)
	change(&p.Notice, c.Notice)
	change(&p.RestoreWindow, c.RestoreWindow)
	change(&p.GraceDefault, c.GraceDefault)
	change(&p.GraceMin, c.GraceMin)
	change(&p.GraceMax, c.GraceMax)
	change(&p.DowngradeUndo, c.DowngradeUndo)
	change(&p.RequireAllowList, c.RequireAllowList)
	change(&p.RevokeOnRetiredUse, c.RevokeOnRetiredUse)
	// A bound that was moved past the default takes it along; only a default that
	// was written down can contradict.
	if c.GraceDefault == nil && p.GraceMin <= p.GraceMax {
		p.GraceDefault = min(max(p.GraceDefault, p.GraceMin), p.GraceMax)
	}
	changeList(&p.ExpiryWarnings, c.ExpiryWarnings)
	changeList(&p.RotationModes, c.RotationModes)
	changeList(&p.Editable, c.Editable)
	changeList(&p.StepUp, c.StepUp)
	changeList(&p.Confirm, c.Confirm)
	changeList(&p.View, c.View)
	p.Allow = changeMap(p.Allow, c.Allow)
	p.Notify = changeMap(p.Notify, c.Notify)
	return p
}

func change[T any](knob, to *T) {
	if to != nil {
		*knob = *to
	}
}

func changeList[T any](knob *[]T, to []T) {
	if to != nil {
		*knob = to
	}
}

// changeMap makes a new map, since policies that are in use are shared.
func changeMap[K comparable, T any](knob, to map[K][]T) map[K][]T {
	if len(to) == 0 {
		return knob
	}
	changed := maps.Clone(knob)
	if changed == nil {
		changed = map[K][]T{}
	}
	maps.Copy(changed, to)
	return changed
}
