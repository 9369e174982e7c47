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
		RotationModes:      []RotationMode{RotateTimed, RotateNow},
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

var presets = map[string]func() Policy{
	DefaultPolicyName: DefaultPolicy,
	"mercury":         mercury,
	"own":             own,
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
