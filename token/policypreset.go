package token

import "time"

// A preset is the rules of one vendor, or the default ones, whole. Each knob
// says which rule it keeps; one without a number is as in the preset default,
// because the vendor says nothing about it.

// DefaultPolicy is the preset named default, and the policy of an account that
// names no other.
func DefaultPolicy() Policy {
	return Policy{
		Name:               DefaultPolicyName,
		DeleteExpiredAfter: 30 * day,
		ExpiryWarnings:     []time.Duration{30 * day, 7 * day, day},
		DeleteUnused:       45 * day,
		DowngradeUnused:    45 * day,
		Notice:             7 * day,
		RestoreWindow:      30 * day,
		DowngradeUndo:      true,
		RotationModes:      RotationModes(),
		GraceDefault:       day,
		GraceMax:           7 * day,
		Editable:           []Field{FieldName, FieldAllowList},
		Confirm:            []string{"revoke", "delete"},
		View:               []string{"owner", "admin", "auditor"},
		RequireAllowList:   AllowListWrite,
	}
}

// mercury is tokens that look after themselves.
func mercury() Policy {
	p := DefaultPolicy()
	p.Name = "mercury"
	p.DowngradeUnused = 45 * day                    // M2, M3
	p.DeleteUnused = 45 * day                       // M6
	p.Notice = 7 * day                              // M4, M8
	p.Editable = []Field{FieldName, FieldAllowList} // M13, and M20: scopes are not
	p.RequireAllowList = AllowListWrite             // M10, M14, M19
	p.Notify = map[Event][]Class{
		EventDowngradeNotice: {ClassAdmins}, // M5
		EventDeletionNotice:  {ClassAdmins}, // M9
	}
	return p
}

// own is one personal token for half a year.
func own() Policy {
	p := DefaultPolicy()
	p.Name = "own"
	p.MaxSecretsPerUser = 1                                    // O7
	p.MaxLifetime = 180 * day                                  // O4
	p.DeleteExpiredAfter = 0                                   // O4: deleted as it expires
	p.ExpiryWarnings = []time.Duration{30 * day, 7 * day, day} // O6
	p.DeleteUnused = 0                                         // O4: used or not
	p.DowngradeUnused = 0                                      // O10: a token follows its user's role, and nothing else narrows it
	p.RestoreWindow = 0                                        // O4: once it is deleted, nobody has it back
	p.RotationModes = []RotationMode{RotateNow}                // O19: no overlap
	p.GraceDefault, p.GraceMin, p.GraceMax = 0, 0, 0           // O19
	p.Editable = nil                                           // it is revoked and made anew (O19); the vendor edits nothing
	p.Confirm = []string{"revoke", "delete"}                   // O20
	p.RequireAllowList = AllowListNever                        // the vendor has none
	p.Allow = map[string][]string{
		"create": {"own:owner", "own:admin", "own:member"}, // O13: from the user's own profile
		"rotate": {"own:owner", "own:admin", "own:member"}, // O13, O19
		"revoke": {"own:owner", "own:admin", "own:member"}, // O19
	}
	p.Notify = map[Event][]Class{
		EventCreated:       {ClassUser}, // O17
		EventRotated:       {ClassUser}, // O17: it is a new token to them
		EventRevoked:       {ClassUser}, // O23
		EventExpiryWarning: {ClassUser}, // O6
		EventExpired:       {ClassUser}, // O5
	}
	return p
}

// taxjar is rotation with a helping hand: support rotates when an owner or an
// admin asks for it.
func taxjar() Policy {
	p := DefaultPolicy()
	p.Name = "taxjar"
	p.MaxSecretsPerAccount = 3                             // T9; T10 and T16 come of any cap
	p.RotationModes = []RotationMode{RotateUntilConfirmed} // T11, T12, T15: no timer, and never at once
	p.RequireAllowList = AllowListNever                    // the vendor has none
	admins := []string{"owner", "admin"}
	p.Allow = map[string][]string{
		"create": admins, "rotate": admins, "confirm": admins, "rollback": admins, "revoke": admins, // T3, T4, T5
	}
	p.Notify = map[Event][]Class{
		EventRotated:       {ClassRequester, ClassOwner}, // T13, T14
		EventSecretRevoked: {ClassRequester, ClassOwner}, // T16
	}
	return p
}

// staffbase is named tokens that people edit and rotate in place.
func staffbase() Policy {
	p := DefaultPolicy()
	p.Name = "staffbase"
	p.RotationModes = []RotationMode{RotateNow}      // S9
	p.GraceDefault, p.GraceMin, p.GraceMax = 0, 0, 0 // S9
	// S4, S5: the scopes are part of an access level that is custom.
	p.Editable = []Field{FieldName, FieldAccess, FieldScopes, FieldAllowList}
	p.RequireAllowList = AllowListNever // S4: ranges can be set, and need not be
	// S2: finding what nobody needs any more is a task of people, who then disable
	// or delete it; and S4: the access level is theirs to set.
	p.DeleteUnused, p.DowngradeUnused = 0, 0
	p.Confirm = []string{"rotate", "enable", "disable", "delete", "revoke"} // S8, S11, S12, S13
	return p
}

// rapyd is rotation by the owner, with a timer, a way back and a second factor.
func rapyd() Policy {
	p := DefaultPolicy()
	p.Name = "rapyd"
	p.RotationModes = []RotationMode{RotateTimed, RotateNow} // R5
	p.GraceMin, p.GraceMax = 0, 7*day                        // R5; R20: an operator goes beyond
	p.RequireAllowList = AllowListNever                      // the vendor has none
	p.Allow = map[string][]string{
		"rotate":   {"owner"}, // R3
		"rollback": {"owner"}, // R15
		"confirm":  {"owner"}, // R3: whoever rotates ends it
		"extend":   {"owner"}, // R3, and R20 for what is beyond the seven days
	}
	p.StepUp = []string{"rotate", "rollback"}                      // R10, R17
	p.Confirm = []string{"rotate", "rollback", "revoke", "delete"} // R9, R17
	p.Notify = map[Event][]Class{
		EventRotated:          {ClassViewers}, // R12, R13
		EventRolledBack:       {ClassViewers}, // R19
		EventRotationExtended: {ClassViewers}, // R12: the date that they were told of has moved
	}
	return p
}

var presets = map[string]func() Policy{
	DefaultPolicyName: DefaultPolicy,
	"mercury":         mercury,
	"own":             own,
	"rapyd":           rapyd,
	"staffbase":       staffbase,
	"taxjar":          taxjar,
}

// Preset is the preset of a name, which is also the policy's. Each call makes it
// anew, so that it can be changed.
func Preset(name string) (Policy, bool) {
	preset, ok := presets[name]
	if !ok {
		return Policy{}, false
	}
	return preset(), true
}

// PresetNames lists the presets.
func PresetNames() []string { return sortedKeys(presets) }
