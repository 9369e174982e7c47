package token_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/token"
)

func TestTheDefaultPolicyIsValidAndStoredInThisForm(t *testing.T) {
	policy := token.DefaultPolicy()
	require.NoError(t, policy.Validate())
	text, err := json.Marshal(policy)
	require.NoError(t, err)
	// Stores hold this text: a change here needs a migration.
	require.Equal(t, `{"name":"default","max_lifetime_seconds":0,"rotation_modes":["timed","now"],`+
		`"grace_default_seconds":86400,"grace_min_seconds":0,"grace_max_seconds":604800,`+
		`"editable":["name","ip_allowlist"],"require_ip_allowlist":"write","confirm":["revoke","delete"],"managed_by":"","version":0}`, string(text))
	var read token.Policy
	require.NoError(t, json.Unmarshal(text, &read))
	require.Empty(t, cmp.Diff(policy, read))
}

func TestAKnobThatContradictsItselfIsNamed(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*token.Policy)
		field  string
		say    string
	}{
		"no name":                      {func(p *token.Policy) { p.Name = "" }, "name", "1 to 64"},
		"name in upper case":           {func(p *token.Policy) { p.Name = "Strict" }, "name", "a letter first"},
		"negative lifetime":            {func(p *token.Policy) { p.MaxLifetime = -time.Second }, "max_lifetime", "negative"},
		"negative grace":               {func(p *token.Policy) { p.GraceMin = -time.Second }, "grace_min", "negative"},
		"part of a second":             {func(p *token.Policy) { p.GraceMax += time.Millisecond }, "grace_max", "whole number of seconds"},
		"default below min":            {func(p *token.Policy) { p.GraceMin = 25 * time.Hour }, "grace_default", "at least grace_min"},
		"default above max":            {func(p *token.Policy) { p.GraceMax = 23 * time.Hour }, "grace_default", "at most grace_max"},
		"no mode":                      {func(p *token.Policy) { p.RotationModes = nil }, "rotation_modes", "at least one"},
		"unknown mode":                 {func(p *token.Policy) { p.RotationModes = []token.RotationMode{"never"} }, "rotation_modes", `"timed" "now"`},
		"a mode twice":                 {func(p *token.Policy) { p.RotationModes = []token.RotationMode{"now", "now"} }, "rotation_modes", "twice"},
		"unknown field":                {func(p *token.Policy) { p.Editable = []token.Field{"state"} }, "editable", `"ip_allowlist"`},
		"a field twice":                {func(p *token.Policy) { p.Editable = []token.Field{"name", "access", "name"} }, "editable", "twice"},
		"unknown verb":                 {func(p *token.Policy) { p.Confirm = []string{"verify"} }, "confirm", `"rotate"`},
		"a verb twice":                 {func(p *token.Policy) { p.Confirm = []string{"delete", "delete"} }, "confirm", "twice"},
		"no rule for allow-lists":      {func(p *token.Policy) { p.RequireAllowList = "" }, "require_ip_allowlist", `"never" "write" "always"`},
		"unknown rule for allow-lists": {func(p *token.Policy) { p.RequireAllowList = "s3cr3t" }, "require_ip_allowlist", `"never" "write" "always"`},
	} {
		t.Run(name, func(t *testing.T) {
			policy := token.DefaultPolicy()
			tt.change(&policy)
			err := policy.Validate()
			var field *token.FieldError
			require.True(t, errors.As(err, &field), "%v", err)
			require.Equal(t, tt.field, field.Field)
			require.Contains(t, field.Problem, tt.say)
			require.NotContains(t, err.Error(), "s3cr3t")
			_, err = json.Marshal(policy)
			require.Error(t, err, "what could not be read again is not written")
		})
	}
}

func TestAPolicysNameIsASmallIdentifier(t *testing.T) {
	for _, name := range []string{"a", "default", "a-b_c9", "a" + strings.Repeat("0", 63)} {
		require.NoError(t, token.CheckPolicyName(name), name)
	}
	for _, name := range []string{"", "0a", "_a", "-a", "A", "aB", "a b", "a.b", "é", "a\n", "a" + strings.Repeat("0", 64)} {
		require.Error(t, token.CheckPolicyName(name), name)
	}
}

func TestAPolicyIsReadStrictlyAndTheErrorNamesTheKnob(t *testing.T) {
	good, err := json.Marshal(token.DefaultPolicy())
	require.NoError(t, err)
	replace := func(old, new string) string {
		require.Contains(t, string(good), old)
		return strings.Replace(string(good), old, new, 1)
	}
	for name, tt := range map[string]struct{ text, field string }{
		"no object":          {`[]`, "policy"},
		"null":               {`null`, "policy"},
		"an unknown knob":    {replace(`"name"`, `"s3cr3t":1,"name"`), "policy"},
		"another case":       {replace(`"version"`, `"Version"`), "version"},
		"a missing knob":     {replace(`"confirm":["revoke","delete"],`, ``), "confirm"},
		"a null":             {replace(`["revoke","delete"]`, `null`), "confirm"},
		"a null in a list":   {replace(`["revoke","delete"]`, `["revoke",null]`), "confirm"},
		"text for a number":  {replace(`86400`, `"24h"`), "grace_default_seconds"},
		"a fraction":         {replace(`86400`, `86400.5`), "grace_default_seconds"},
		"a negative number":  {replace(`86400`, `-1`), "grace_default_seconds"},
		"too large":          {replace(`604800`, `9223372037`), "grace_max_seconds"},
		"far too large":      {replace(`604800`, `99999999999999999999`), "grace_max_seconds"},
		"a list for a text":  {replace(`"default"`, `["s3cr3t"]`), "name"},
		"a text for a list":  {replace(`["timed","now"]`, `"timed"`), "rotation_modes"},
		"an invalid value":   {replace(`"timed"`, `"s3cr3t"`), "rotation_modes"},
		"an invalid whole":   {replace(`"grace_min_seconds":0`, `"grace_min_seconds":999999`), "grace_default"},
		"a version as float": {replace(`"version":0`, `"version":0.5`), "version"},
	} {
		t.Run(name, func(t *testing.T) {
			before := token.Policy{Name: "before"}
			read := before
			err := json.Unmarshal([]byte(tt.text), &read)
			if tt.text == `null` {
				// encoding/json does not ask for a null; asked directly, it is refused.
				err = read.UnmarshalJSON([]byte(tt.text))
			}
			var field *token.FieldError
			require.True(t, errors.As(err, &field), "%v", err)
			require.Equal(t, tt.field, field.Field)
			require.NotContains(t, err.Error(), "s3cr3t")
			require.Equal(t, before, read, "a policy that cannot be read changes nothing")
		})
	}
	var read token.Policy
	require.Error(t, json.Unmarshal(append(good, 'x'), &read))
	require.Error(t, read.UnmarshalJSON(append(good, '{')))
}

func TestEveryValidPolicyIsStoredWithoutLoss(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secs := rapid.Int64Range(0, math.MaxInt64/int64(time.Second))
		draw := func(label string) time.Duration { return time.Duration(secs.Draw(t, label)) * time.Second }
		subset := func(label string, from []string) (picked []string) {
			for _, s := range from {
				if rapid.Bool().Draw(t, label) {
					picked = append(picked, s)
				}
			}
			return picked
		}
		grace := []time.Duration{draw("a"), draw("b"), draw("c")}
		policy := token.Policy{
			Name:             rapid.StringMatching(`[a-z][a-z0-9_-]{0,63}`).Draw(t, "name"),
			MaxLifetime:      draw("lifetime"),
			RotationModes:    rapid.SampledFrom([][]token.RotationMode{{"now"}, {"timed"}, {"now", "timed"}}).Draw(t, "modes"),
			GraceMin:         min(grace[0], grace[1], grace[2]),
			GraceMax:         max(grace[0], grace[1], grace[2]),
			RequireAllowList: rapid.SampledFrom([]token.AllowListRule{"never", "write", "always"}).Draw(t, "rule"),
			Confirm:          subset("confirm", []string{"create", "edit", "rotate", "revoke"}),
			ManagedBy:        rapid.StringMatching(`[0-9a-f]{0,64}`).Draw(t, "hash"),
			Version:          rapid.Int64Min(0).Draw(t, "version"),
		}
		policy.GraceDefault = policy.GraceMin + (policy.GraceMax-policy.GraceMin)/2/time.Second*time.Second
		for _, f := range subset("editable", []string{"name", "access", "scopes", "ip_allowlist", "expires_at"}) {
			policy.Editable = append(policy.Editable, token.Field(f))
		}
		text, err := json.Marshal(policy)
		require.NoError(t, err)
		var read token.Policy
		require.NoError(t, json.Unmarshal(text, &read))
		require.Empty(t, cmp.Diff(policy, read))
	})
}

func FuzzPolicy(f *testing.F) {
	good, err := json.Marshal(token.DefaultPolicy())
	require.NoError(f, err)
	f.Add(string(good))
	f.Add(`{}`)
	f.Add(`{"name":null}`)
	f.Add(strings.Replace(string(good), "86400", "1e3", 1))
	f.Fuzz(func(t *testing.T, text string) {
		var policy token.Policy
		if policy.UnmarshalJSON([]byte(text)) != nil {
			return
		}
		require.NoError(t, policy.Validate())
		stored, err := json.Marshal(policy)
		require.NoError(t, err)
		var again token.Policy
		require.NoError(t, again.UnmarshalJSON(stored))
		require.Empty(t, cmp.Diff(policy, again))
	})
}
