package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"slices"
	"time"
)

// policyJSON is how a policy is stored. Durations are whole seconds, so that
// what is stored depends on no language's spelling of them.
type policyJSON struct {
	Name                 string              `json:"name"`
	MaxSecretsPerAccount int                 `json:"max_secrets_per_account"`
	MaxSecretsPerUser    int                 `json:"max_secrets_per_user"`
	MaxLifetime          seconds             `json:"max_lifetime_seconds"`
	DeleteExpiredAfter   seconds             `json:"delete_expired_after_seconds"`
	ExpiryWarnings       []seconds           `json:"expiry_warnings_seconds"`
	DeleteUnused         seconds             `json:"delete_unused_seconds"`
	DowngradeUnused      seconds             `json:"downgrade_unused_seconds"`
	Notice               seconds             `json:"notice_seconds"`
	RestoreWindow        seconds             `json:"restore_window_seconds"`
	DowngradeUndo        bool                `json:"downgrade_undo"`
	RotationModes        []RotationMode      `json:"rotation_modes,omitempty"`
	GraceDefault         seconds             `json:"grace_default_seconds"`
	GraceMin             seconds             `json:"grace_min_seconds"`
	GraceMax             seconds             `json:"grace_max_seconds"`
	Editable             []Field             `json:"editable"`
	Allow                map[string][]string `json:"allow"`
	StepUp               []string            `json:"step_up"`
	Confirm              []string            `json:"confirm"`
	Notify               map[Event][]Class   `json:"notify"`
	View                 []string            `json:"view"`
	RequireAllowList     AllowListRule       `json:"require_ip_allowlist"`
	RevokeOnRetiredUse   bool                `json:"revoke_on_retired_use"`
	ManagedBy            string              `json:"managed_by"`
	Version              int64               `json:"version"`
}

type knob struct {
	key  string
	into any
}

// knobs are the fields by their keys, in the order in which they are written.
func (j *policyJSON) knobs() []knob {
	return []knob{
		{"name", &j.Name},
		{"max_secrets_per_account", &j.MaxSecretsPerAccount},
		{"max_secrets_per_user", &j.MaxSecretsPerUser},
		{"max_lifetime_seconds", &j.MaxLifetime},
		{"delete_expired_after_seconds", &j.DeleteExpiredAfter},
		{"expiry_warnings_seconds", &j.ExpiryWarnings},
		{"delete_unused_seconds", &j.DeleteUnused},
		{"downgrade_unused_seconds", &j.DowngradeUnused},
		{"notice_seconds", &j.Notice},
		{"restore_window_seconds", &j.RestoreWindow},
		{"downgrade_undo", &j.DowngradeUndo},
		{"rotation_modes", &j.RotationModes},
		{"grace_default_seconds", &j.GraceDefault},
		{"grace_min_seconds", &j.GraceMin},
		{"grace_max_seconds", &j.GraceMax},
		{"editable", &j.Editable},
		{"allow", &j.Allow},
		{"step_up", &j.StepUp},
		{"confirm", &j.Confirm},
		{"notify", &j.Notify},
		{"view", &j.View},
		{"require_ip_allowlist", &j.RequireAllowList},
		{"revoke_on_retired_use", &j.RevokeOnRetiredUse},
		{"managed_by", &j.ManagedBy},
		{"version", &j.Version},
	}
}

// seconds is a duration of whole seconds.
type seconds time.Duration

func (s seconds) MarshalJSON() ([]byte, error) {
	return json.Marshal(int64(time.Duration(s) / time.Second))
}

func (s *seconds) UnmarshalJSON(text []byte) error {
	var n int64
	if err := json.Unmarshal(text, &n); err != nil || n < 0 || n > math.MaxInt64/int64(time.Second) {
		return errors.New("not a number of seconds")
	}
	*s = seconds(time.Duration(n) * time.Second)
	return nil
}

// stored is the policy as it is written: all lists and maps are there.
func (p *Policy) stored() policyJSON {
	return policyJSON{
		Name:                 p.Name,
		MaxSecretsPerAccount: p.MaxSecretsPerAccount,
		MaxSecretsPerUser:    p.MaxSecretsPerUser,
		MaxLifetime:          seconds(p.MaxLifetime),
		DeleteExpiredAfter:   seconds(p.DeleteExpiredAfter),
		ExpiryWarnings:       orEmpty(convert[seconds](p.ExpiryWarnings)),
		DeleteUnused:         seconds(p.DeleteUnused),
		DowngradeUnused:      seconds(p.DowngradeUnused),
		Notice:               seconds(p.Notice),
		RestoreWindow:        seconds(p.RestoreWindow),
		DowngradeUndo:        p.DowngradeUndo,
		RotationModes:        storedModes(p.RotationModes),
		GraceDefault:         seconds(p.GraceDefault),
		GraceMin:             seconds(p.GraceMin),
		GraceMax:             seconds(p.GraceMax),
		Editable:             orEmpty(p.Editable),
		Allow:                listsOrEmpty(p.Allow),
		StepUp:               orEmpty(p.StepUp),
		Confirm:              orEmpty(p.Confirm),
		Notify:               listsOrEmpty(p.Notify),
		View:                 orEmpty(p.View),
		RequireAllowList:     p.RequireAllowList,
		RevokeOnRetiredUse:   p.RevokeOnRetiredUse,
		ManagedBy:            p.ManagedBy,
		Version:              p.Version,
	}
}

// policy undoes stored.
func (j *policyJSON) policy() Policy {
	return Policy{
		Name:                 j.Name,
		MaxSecretsPerAccount: j.MaxSecretsPerAccount,
		MaxSecretsPerUser:    j.MaxSecretsPerUser,
		MaxLifetime:          time.Duration(j.MaxLifetime),
		DeleteExpiredAfter:   time.Duration(j.DeleteExpiredAfter),
		ExpiryWarnings:       orNil(convert[time.Duration](j.ExpiryWarnings)),
		DeleteUnused:         time.Duration(j.DeleteUnused),
		DowngradeUnused:      time.Duration(j.DowngradeUnused),
		Notice:               time.Duration(j.Notice),
		RestoreWindow:        time.Duration(j.RestoreWindow),
		DowngradeUndo:        j.DowngradeUndo,
		RotationModes:        j.modes(),
		GraceDefault:         time.Duration(j.GraceDefault),
		GraceMin:             time.Duration(j.GraceMin),
		GraceMax:             time.Duration(j.GraceMax),
		Editable:             orNil(j.Editable),
		Allow:                knownLists(j.Allow, PolicyVerbs()),
		StepUp:               orNil(j.StepUp),
		Confirm:              orNil(j.Confirm),
		Notify:               knownLists(j.Notify, events[:]),
		View:                 orNil(j.View),
		RequireAllowList:     j.RequireAllowList,
		RevokeOnRetiredUse:   j.RevokeOnRetiredUse,
		ManagedBy:            j.ManagedBy,
		Version:              j.Version,
	}
}

// storedModes leaves out the list of the preset default. The versions that know two
// modes only refuse a row that names others, and with it every request under the
// policy: while gateways are upgraded one after another, they must not meet one for
// whose modes nobody has asked.
func storedModes(modes []RotationMode) []RotationMode {
	if slices.Equal(modes, RotationModes()) {
		return nil
	}
	return modes
}

// modes undoes storedModes. A list that is there and empty stays so, for Validate to
// refuse.
func (j *policyJSON) modes() []RotationMode {
	if j.RotationModes == nil {
		return RotationModes()
	}
	return j.RotationModes
}

// MarshalJSON writes the policy as it is stored, every knob of it that is not left
// out on purpose. A policy that is not valid is refused, since it could not be read
// again.
func (p Policy) MarshalJSON() ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(p.stored())
}

// UnmarshalJSON reads what MarshalJSON wrote, in this version or in another one.
// A knob that is missing is as in the preset default, and one that is not known
// is passed over; so are the events and verbs within notify and allow.
//
// While gateways are upgraded one after another, versions with different knobs
// read the same row. A version that refused a row for a knob that it has not
// heard of would answer 503 to every request of every account under the policy,
// and reading on widens nothing: it could not keep the rule of that knob in any
// case, and what the gate itself judges by (max_lifetime) every version knows. A
// row without a knob was written by a version in which the knob did not exist,
// and for which nobody has chosen anything yet.
//
// A knob that is there with a value that makes no sense is damage, or a value
// that a newer version knows and whose meaning must not be guessed: an error. It
// is a *FieldError that names the knob, never its value.
func (p *Policy) UnmarshalJSON(text []byte) error {
	// Keys are looked at by themselves first: encoding/json takes them in any
	// letter case, and a null for nothing said.
	var found map[string]json.RawMessage
	if err := json.Unmarshal(text, &found); err != nil || found == nil {
		return &FieldError{Field: "policy", Problem: "must be a JSON object"}
	}
	if _, ok := found["name"]; !ok {
		return &FieldError{Field: "name", Problem: "is missing"}
	}
	preset := DefaultPolicy()
	stored := preset.stored()
	for _, k := range stored.knobs() {
		value, ok := found[k.key]
		if !ok {
			continue
		}
		if err := readKnob(value, k.into); err != nil {
			return &FieldError{Field: k.key, Problem: "has the wrong form"}
		}
	}
	read := stored.policy()
	if err := read.Validate(); err != nil {
		return err
	}
	*p = read
	return nil
}

var errNull = errors.New("null says nothing")

// readKnob reads one value in the place of the one that is there.
func readKnob(value []byte, into any) error {
	if bytes.Equal(value, []byte("null")) {
		return errNull
	}
	// Lists and maps would keep what the preset has of them.
	reflect.ValueOf(into).Elem().SetZero()
	if err := json.Unmarshal(value, into); err != nil {
		return err
	}
	switch lists := into.(type) {
	case *map[string][]string:
		return noNull(*lists)
	case *map[Event][]Class:
		return noNull(*lists)
	default:
		return nil
	}
}

// noNull refuses a null in the place of a list: it could mean nobody or the default.
func noNull[K comparable, T any](lists map[K][]T) error {
	for _, list := range lists {
		if list == nil {
			return errNull
		}
	}
	return nil
}

func convert[To, From ~int64](list []From) []To {
	out := make([]To, len(list))
	for i, item := range list {
		out[i] = To(item)
	}
	return out
}

// orEmpty keeps an empty list from being written as null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// orNil undoes orEmpty, so that a policy comes back as it was.
func orNil[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return list
}

func listsOrEmpty[K comparable, T any](lists map[K][]T) map[K][]T {
	out := make(map[K][]T, len(lists))
	for key, list := range lists {
		out[key] = orEmpty(list)
	}
	return out
}

// knownLists keeps the lists whose keys are known, and undoes listsOrEmpty.
func knownLists[K comparable, T any](lists map[K][]T, known []K) map[K][]T {
	var out map[K][]T
	for _, key := range known {
		list, ok := lists[key]
		if !ok {
			continue
		}
		if out == nil {
			out = map[K][]T{}
		}
		out[key] = orNil(list)
	}
	return out
}
