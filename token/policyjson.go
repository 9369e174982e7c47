package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"time"
)

// policyJSON is how a policy is stored. Durations are whole seconds, so that
// what is stored depends on no language's spelling of them.
type policyJSON struct {
	Name             string         `json:"name"`
	MaxLifetime      seconds        `json:"max_lifetime_seconds"`
	RotationModes    []RotationMode `json:"rotation_modes"`
	GraceDefault     seconds        `json:"grace_default_seconds"`
	GraceMin         seconds        `json:"grace_min_seconds"`
	GraceMax         seconds        `json:"grace_max_seconds"`
	Editable         []Field        `json:"editable"`
	RequireAllowList AllowListRule  `json:"require_ip_allowlist"`
	Confirm          []string       `json:"confirm"`
	ManagedBy        string         `json:"managed_by"`
	Version          int64          `json:"version"`
}

type knob struct {
	key  string
	into any
}

// knobs are the fields by their keys, in the order in which they are written.
func (j *policyJSON) knobs() []knob {
	return []knob{
		{"name", &j.Name},
		{"max_lifetime_seconds", &j.MaxLifetime},
		{"rotation_modes", &j.RotationModes},
		{"grace_default_seconds", &j.GraceDefault},
		{"grace_min_seconds", &j.GraceMin},
		{"grace_max_seconds", &j.GraceMax},
		{"editable", &j.Editable},
		{"require_ip_allowlist", &j.RequireAllowList},
		{"confirm", &j.Confirm},
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

// MarshalJSON writes the policy as it is stored. A policy that is not valid is
// refused, since it could not be read again.
func (p Policy) MarshalJSON() ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(policyJSON{
		Name:             p.Name,
		MaxLifetime:      seconds(p.MaxLifetime),
		RotationModes:    p.RotationModes,
		GraceDefault:     seconds(p.GraceDefault),
		GraceMin:         seconds(p.GraceMin),
		GraceMax:         seconds(p.GraceMax),
		Editable:         orEmpty(p.Editable),
		RequireAllowList: p.RequireAllowList,
		Confirm:          orEmpty(p.Confirm),
		ManagedBy:        p.ManagedBy,
		Version:          p.Version,
	})
}

// UnmarshalJSON reads what MarshalJSON writes, and nothing else: a knob that is
// unknown, missing or null may be one that a newer version meant to be stricter,
// so that guessing could widen what people may do. The error is a *FieldError
// that names the knob, never its value.
func (p *Policy) UnmarshalJSON(text []byte) error {
	// Keys are looked at by themselves first: encoding/json takes them in any
	// letter case, and a missing one for zero.
	var found map[string]json.RawMessage
	if err := json.Unmarshal(text, &found); err != nil || found == nil {
		return &FieldError{Field: "policy", Problem: "must be a JSON object"}
	}
	var stored policyJSON
	for _, k := range stored.knobs() {
		value, ok := found[k.key]
		if !ok || bytes.Equal(value, []byte("null")) {
			return &FieldError{Field: k.key, Problem: "is missing"}
		}
		if err := json.Unmarshal(value, k.into); err != nil {
			return &FieldError{Field: k.key, Problem: "has the wrong form"}
		}
		delete(found, k.key)
	}
	if len(found) > 0 {
		// The key is input too, so it is not repeated.
		return &FieldError{Field: "policy", Problem: "has a knob that is not known"}
	}
	read := Policy{
		Name:             stored.Name,
		MaxLifetime:      time.Duration(stored.MaxLifetime),
		RotationModes:    stored.RotationModes,
		GraceDefault:     time.Duration(stored.GraceDefault),
		GraceMin:         time.Duration(stored.GraceMin),
		GraceMax:         time.Duration(stored.GraceMax),
		Editable:         orNil(stored.Editable),
		RequireAllowList: stored.RequireAllowList,
		Confirm:          orNil(stored.Confirm),
		ManagedBy:        stored.ManagedBy,
		Version:          stored.Version,
	}
	if err := read.Validate(); err != nil {
		return err
	}
	*p = read
	return nil
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
