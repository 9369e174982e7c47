package token_test

import (
	"encoding/json"
	"errors"
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
	// Stores hold this text: a change here needs a migration, unless it is a new
	// knob, which older texts are read without.
	require.Equal(t, `{"name":"default","max_secrets_per_account":0,"max_secrets_per_user":0,"max_lifetime_seconds":0,`+
		`"delete_expired_after_seconds":2592000,"expiry_warnings_seconds":[2592000,604800,86400],`+
		`"delete_unused_seconds":3888000,"downgrade_unused_seconds":3888000,"notice_seconds":604800,"restore_window_seconds":2592000,`+
		`"downgrade_undo":true,`+
		`"grace_default_seconds":86400,"grace_min_seconds":0,"grace_max_seconds":604800,`+
		`"editable":["name","ip_allowlist"],"allow":{},"step_up":[],"confirm":["revoke","delete"],"notify":{},`+
		`"view":["owner","admin","auditor"],"require_ip_allowlist":"write","revoke_on_retired_use":false,"managed_by":"","version":0}`, string(text))
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
		"unknown verb to step up for":  {func(p *token.Policy) { p.StepUp = []string{"list"} }, "step_up", `"undo-downgrade"`},
		"unknown verb to allow":        {func(p *token.Policy) { p.Allow = map[string][]string{"s3cr3t": nil} }, "allow", `"exempt"`},
		"a grantee that is no role":    {func(p *token.Policy) { p.Allow = map[string][]string{"edit": {"own:own:x"}} }, "allow", "own: and the name of a role"},
		"an empty grantee":             {func(p *token.Policy) { p.Allow = map[string][]string{"edit": {"own:"}} }, "allow", "names of roles"},
		"a grantee twice":              {func(p *token.Policy) { p.Allow = map[string][]string{"edit": {"owner", "owner"}} }, "allow", "twice"},
		"too many grantees":            {func(p *token.Policy) { p.Allow = map[string][]string{"edit": make([]string, 33)} }, "allow", "at most 32"},
		"a viewer that is no role":     {func(p *token.Policy) { p.View = []string{"own:member"} }, "view", "names of roles"},
		"unknown event":                {func(p *token.Policy) { p.Notify = map[token.Event][]token.Class{"s3cr3t": nil} }, "notify", `"deletion_notice"`},
		"unknown class":                {func(p *token.Policy) { p.Notify = map[token.Event][]token.Class{"token_created": {"s3cr3t"}} }, "notify", `"viewers"`},
		"a class twice":                {func(p *token.Policy) { p.Notify = map[token.Event][]token.Class{"token_created": {"user", "user"}} }, "notify", "twice"},
		"negative cap":                 {func(p *token.Policy) { p.MaxSecretsPerAccount = -1 }, "max_secrets_per_account", "1 to 10000"},
		"a cap nobody could count to":  {func(p *token.Policy) { p.MaxSecretsPerUser = 10_001 }, "max_secrets_per_user", "1 to 10000"},
		"beyond all dates":             {func(p *token.Policy) { p.RestoreWindow = 36_501 * 24 * time.Hour }, "restore_window", "at most 36500 days"},
		"negative delay":               {func(p *token.Policy) { p.DeleteExpiredAfter = -time.Second }, "delete_expired_after", "negative"},
		"part of a second to warn":     {func(p *token.Policy) { p.ExpiryWarnings = []time.Duration{time.Millisecond} }, "expiry_warnings", "whole number"},
		"a warning at the end":         {func(p *token.Policy) { p.ExpiryWarnings = []time.Duration{time.Hour, 0} }, "expiry_warnings", "longer than 0"},
		"warnings out of order":        {func(p *token.Policy) { p.ExpiryWarnings = []time.Duration{time.Hour, 2 * time.Hour} }, "expiry_warnings", "longest to the shortest"},
		"one warning twice":            {func(p *token.Policy) { p.ExpiryWarnings = []time.Duration{time.Hour, time.Hour} }, "expiry_warnings", "none twice"},
		"too many warnings":            {func(p *token.Policy) { p.ExpiryWarnings = make([]time.Duration, 11) }, "expiry_warnings", "at most 10"},
		"notice as long as a window":   {func(p *token.Policy) { p.DeleteUnused = 7 * 24 * time.Hour }, "notice", "shorter than delete_unused"},
		"notice longer than a window":  {func(p *token.Policy) { p.DowngradeUnused, p.DeleteUnused = time.Hour, 0 }, "notice", "shorter than downgrade_unused"},
		"no notice at all":             {func(p *token.Policy) { p.Notice = 0 }, "notice", "longer than 0 while delete_unused is on"},
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

func TestAKnobThatMakesNoSenseIsAnErrorThatNamesIt(t *testing.T) {
	policy := token.DefaultPolicy()
	policy.RotationModes = []token.RotationMode{token.RotateTimed, token.RotateNow}
	good, err := json.Marshal(policy)
	require.NoError(t, err)
	replace := func(old, new string) string {
		require.Contains(t, string(good), old)
		return strings.Replace(string(good), old, new, 1)
	}
	for name, tt := range map[string]struct{ text, field string }{
		"no object":           {`[]`, "policy"},
		"null":                {`null`, "policy"},
		"no name":             {`{}`, "name"},
		"another case":        {replace(`"name"`, `"Name"`), "name"},
		"a null":              {replace(`["revoke","delete"]`, `null`), "confirm"},
		"a null in a list":    {replace(`["revoke","delete"]`, `["revoke",null]`), "confirm"},
		"a null for a list":   {replace(`"notify":{}`, `"notify":{"token_created":null}`), "notify"},
		"a null for grantees": {replace(`"allow":{}`, `"allow":{"s3cr3t":null}`), "allow"},
		"a null to warn":      {replace(`[2592000,604800,86400]`, `[2592000,null]`), "expiry_warnings"},
		"text for a number":   {replace(`86400,"grace`, `"24h","grace`), "grace_default_seconds"},
		"a fraction":          {replace(`86400,"grace`, `86400.5,"grace`), "grace_default_seconds"},
		"a negative number":   {replace(`86400,"grace`, `-1,"grace`), "grace_default_seconds"},
		"too large":           {replace(`604800,"editable`, `9223372037,"editable`), "grace_max_seconds"},
		"far too large":       {replace(`604800,"editable`, `99999999999999999999,"editable`), "grace_max_seconds"},
		"a cap as text":       {replace(`"max_secrets_per_user":0`, `"max_secrets_per_user":"none"`), "max_secrets_per_user"},
		"a switch as text":    {replace(`"revoke_on_retired_use":false`, `"revoke_on_retired_use":"on"`), "revoke_on_retired_use"},
		"a list for a text":   {replace(`"default"`, `["s3cr3t"]`), "name"},
		"a text for a list":   {replace(`["timed","now"]`, `"timed"`), "rotation_modes"},
		"an invalid value":    {replace(`"timed"`, `"s3cr3t"`), "rotation_modes"},
		"no mode at all":      {replace(`["timed","now"]`, `[]`), "rotation_modes"},
		"an invalid whole":    {replace(`"grace_min_seconds":0`, `"grace_min_seconds":999999`), "grace_min"},
		"a class unknown":     {replace(`"notify":{}`, `"notify":{"token_created":["s3cr3t"]}`), "notify"},
		"a version as float":  {replace(`"version":0`, `"version":0.5`), "version"},
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

func TestAPolicyOfAnotherVersionIsReadAsFarAsItIsKnown(t *testing.T) {
	// Gateways of two versions share a store while they are upgraded.
	read := func(text string) (p token.Policy) {
		t.Helper()
		require.NoError(t, json.Unmarshal([]byte(text), &p))
		return p
	}

	t.Run("what is missing is as in the preset default", func(t *testing.T) {
		want := token.DefaultPolicy()
		want.Name = "old"
		require.Empty(t, cmp.Diff(want, read(`{"name":"old"}`)))
	})
	t.Run("the modes that everybody gets are left out, so that who knows fewer can read on", func(t *testing.T) {
		mercury, _ := token.Preset("mercury")
		text, err := json.Marshal(mercury)
		require.NoError(t, err)
		require.NotContains(t, string(text), "rotation_modes")
		require.Equal(t, token.RotationModes(), read(string(text)).RotationModes)
		mercury.RotationModes = []token.RotationMode{token.RotateNow, token.RotateOnFirstUse}
		text, err = json.Marshal(mercury)
		require.NoError(t, err)
		require.Contains(t, string(text), `"rotation_modes":["now","on_first_use"]`)
		require.Equal(t, mercury.RotationModes, read(string(text)).RotationModes)
	})
	t.Run("the rules that the first schema wrote are those of the default but for the modes", func(t *testing.T) {
		want := token.DefaultPolicy()
		want.RotationModes = []token.RotationMode{token.RotateTimed, token.RotateNow}
		want.Version = 1
		require.Empty(t, cmp.Diff(want, read(`{"name":"default","max_lifetime_seconds":0,"rotation_modes":["timed","now"],`+
			`"grace_default_seconds":86400,"grace_min_seconds":0,"grace_max_seconds":604800,"editable":["name","ip_allowlist"],`+
			`"require_ip_allowlist":"write","confirm":["revoke","delete"],"managed_by":"","version":1}`)))
	})
	t.Run("what it states holds, empty lists included", func(t *testing.T) {
		got := read(`{"name":"old","confirm":[],"expiry_warnings_seconds":[],"view":[],"downgrade_undo":false,"delete_unused_seconds":0}`)
		require.Empty(t, got.Confirm)
		require.Empty(t, got.ExpiryWarnings)
		require.Empty(t, got.View)
		require.False(t, got.DowngradeUndo)
		require.Zero(t, got.DeleteUnused)
	})
	t.Run("what only a newer version knows is passed over", func(t *testing.T) {
		got := read(`{"name":"new","hourly_limit":[1],"Confirm":["s"],"notify":{"token_dreamt":["angels"],"token_created":["user"]},"allow":{"dream":["Nobody!"],"edit":[]}}`)
		require.Equal(t, map[token.Event][]token.Class{"token_created": {"user"}}, got.Notify)
		require.Equal(t, map[string][]string{"edit": nil}, got.Allow)
		require.Empty(t, got.AllowedTo("edit"), "an empty list is nobody, and not the default")
		require.Equal(t, []string{"revoke", "delete"}, got.Confirm, "keys are compared in their letter case")
	})
}

func TestPresetsKeepTheirRules(t *testing.T) {
	const day = 24 * time.Hour
	preset := func(name string) token.Policy {
		t.Helper()
		p, ok := token.Preset(name)
		require.True(t, ok)
		require.Equal(t, name, p.Name)
		require.NoError(t, p.Validate())
		text, err := json.Marshal(p)
		require.NoError(t, err)
		var read token.Policy
		require.NoError(t, json.Unmarshal(text, &read))
		require.Empty(t, cmp.Diff(p, read))
		return p
	}
	require.Equal(t, []string{"default", "mercury", "own", "rapyd", "staffbase", "taxjar"}, token.PresetNames())
	_, ok := token.Preset("none")
	require.False(t, ok)
	require.Empty(t, cmp.Diff(token.DefaultPolicy(), preset("default")))

	mercury := preset("mercury")
	require.Equal(t, 45*day, mercury.DowngradeUnused, "M2, M3")
	require.Equal(t, 45*day, mercury.DeleteUnused, "M6")
	require.Equal(t, 7*day, mercury.Notice, "M4, M8")
	require.Equal(t, []token.Class{token.ClassAdmins}, mercury.Recipients(token.EventDowngradeNotice), "M5")
	require.Equal(t, []token.Class{token.ClassAdmins}, mercury.Recipients(token.EventDeletionNotice), "M9")
	require.Equal(t, token.AllowListWrite, mercury.RequireAllowList, "M10, M14, M19")
	require.Contains(t, mercury.Editable, token.FieldAllowList, "M13")
	require.NotContains(t, mercury.Editable, token.FieldScopes, "M20")
	require.NotContains(t, mercury.Editable, token.FieldAccess, "M20")

	own := preset("own")
	require.Equal(t, 180*day, own.MaxLifetime, "O4")
	require.Zero(t, own.DeleteExpiredAfter, "O4: deleted when it expires")
	require.Zero(t, own.DeleteUnused, "O4: used or not")
	require.NotEmpty(t, own.ExpiryWarnings, "O6")
	require.Equal(t, []token.Class{token.ClassUser}, own.Recipients(token.EventExpiryWarning), "O6")
	require.Equal(t, 1, own.MaxSecretsPerUser, "O7")
	require.Zero(t, own.MaxSecretsPerAccount, "O7 counts by the user")
	require.Equal(t, []token.RotationMode{token.RotateNow}, own.RotationModes, "O19")
	require.Zero(t, own.GraceMax, "O19")
	require.Equal(t, []string{"own:owner", "own:admin", "own:member"}, own.AllowedTo("create"), "O13")
	require.Equal(t, []token.Class{token.ClassUser}, own.Recipients(token.EventCreated), "O17")
	require.Equal(t, []token.Class{token.ClassUser}, own.Recipients(token.EventRevoked), "O23")
	require.Contains(t, own.Confirm, "revoke", "O20")

	taxjar := preset("taxjar")
	require.Equal(t, 3, taxjar.MaxSecretsPerAccount, "T9")
	require.Equal(t, []token.RotationMode{token.RotateUntilConfirmed}, taxjar.RotationModes, "T11, T12, T15")
	require.Equal(t, []string{"owner", "admin"}, taxjar.AllowedTo("rotate"), "T3, T4, T5")
	require.Equal(t, []token.Class{token.ClassRequester, token.ClassOwner}, taxjar.Recipients(token.EventRotated), "T13")

	staffbase := preset("staffbase")
	require.Equal(t, []token.RotationMode{token.RotateNow}, staffbase.RotationModes, "S9")
	require.Zero(t, staffbase.GraceMax, "S9")
	require.Subset(t, staffbase.Editable, []token.Field{token.FieldName, token.FieldAccess, token.FieldAllowList}, "S4")
	require.Subset(t, staffbase.Confirm, []string{"rotate", "enable", "disable", "delete"}, "S8, S11, S12, S13")
	require.Zero(t, staffbase.DeleteUnused, "S2")

	rapyd := preset("rapyd")
	require.Zero(t, rapyd.GraceMin, "R5: now")
	require.Equal(t, 7*day, rapyd.GraceMax, "R5: to seven days")
	for _, verb := range []string{"rotate", "rollback"} {
		require.Equal(t, []string{"owner"}, rapyd.AllowedTo(verb), "R3, R15")
		require.Contains(t, rapyd.StepUp, verb, "R10, R17")
		require.Contains(t, rapyd.Confirm, verb, "R9, R17")
	}
	require.Equal(t, []token.Class{token.ClassViewers}, rapyd.Recipients(token.EventRotated), "R13")
	require.Equal(t, []token.Class{token.ClassViewers}, rapyd.Recipients(token.EventRolledBack), "R19")

	one, _ := token.Preset("own")
	one.Notify[token.EventCreated][0] = token.ClassAdmins
	another, _ := token.Preset("own")
	require.Equal(t, []token.Class{token.ClassUser}, another.Recipients(token.EventCreated), "a preset that is changed changes no other")
}

func TestWhoIsToldAndWhoMayActIsAsTheDefaultUnlessSaid(t *testing.T) {
	p := token.DefaultPolicy()
	admins, people := []token.Class{token.ClassAdmins}, []token.Class{token.ClassOwner, token.ClassRequester}
	for _, e := range token.Events() {
		want := people
		if e.Lifecycle() {
			want = admins
		}
		require.Equal(t, want, p.Recipients(e), e)
	}
	require.False(t, token.EventRetiredSecretUsed.Lifecycle())
	require.True(t, token.EventExpiryWarning.Lifecycle())
	require.True(t, token.EventUnusedDeleted.Lifecycle())
	require.False(t, token.Event("no such").Lifecycle())
	require.Equal(t, []string{"owner", "admin", "own:member"}, p.AllowedTo("rotate"))
	require.Equal(t, []string{"owner"}, p.AllowedTo("exempt"), "L7")
	require.Equal(t, []string{"owner", "admin"}, p.AllowedTo("undo-downgrade"), "L6")

	p.Notify = map[token.Event][]token.Class{token.EventCreated: {}}
	p.Allow = map[string][]string{"rotate": {"owner", "own:clerk"}}
	require.Empty(t, p.Recipients(token.EventCreated))
	require.Equal(t, people, p.Recipients(token.EventEdited))
	require.Equal(t, []string{"owner", "own:clerk"}, p.AllowedTo("rotate"))
	require.Equal(t, []string{"admin", "auditor", "clerk", "owner"}, p.RolesNamed())
}

func TestTheBucketIsADayOrA45thOfTheShortestWindowInForce(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct{ unused, downgrade, want time.Duration }{
		{45 * day, 45 * day, day},
		{90 * day, 0, day},
		{0, 0, day},
		{9 * day, 45 * day, 9 * day / 45},
		{45 * day, 90 * time.Second, 2 * time.Second},
		{0, 45 * time.Second, time.Second},
		{time.Second, 0, time.Second / 45},
	} {
		p := token.Policy{DeleteUnused: tt.unused, DowngradeUnused: tt.downgrade}
		require.Equal(t, tt.want, p.Bucket(), "%v, %v", tt.unused, tt.downgrade)
	}
}

func TestALifeOfSecondsIsAPolicy(t *testing.T) {
	p := token.DefaultPolicy()
	p.DeleteUnused, p.DowngradeUnused, p.Notice = 20*time.Second, 10*time.Second, time.Second
	p.MaxLifetime, p.RestoreWindow, p.DeleteExpiredAfter = 40*time.Second, 10*time.Second, time.Second
	p.ExpiryWarnings = []time.Duration{5 * time.Second, time.Second}
	require.NoError(t, p.Validate())
}

func TestEveryValidPolicyIsStoredWithoutLoss(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secs := rapid.Int64Range(0, int64(token.MaxPolicyDuration/time.Second))
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
			StepUp:           subset("step up", []string{"rotate", "exempt", "undo-downgrade"}),
			View:             subset("view", []string{"owner", "clerk"}),

			MaxSecretsPerAccount: rapid.IntRange(0, token.MaxSecretCap).Draw(t, "account cap"),
			MaxSecretsPerUser:    rapid.IntRange(0, token.MaxSecretCap).Draw(t, "user cap"),
			DeleteExpiredAfter:   draw("expired"),
			RestoreWindow:        draw("restore"),
			DowngradeUndo:        rapid.Bool().Draw(t, "undo"),
			RevokeOnRetiredUse:   rapid.Bool().Draw(t, "retired"),

			ManagedBy: rapid.StringMatching(`[0-9a-f]{0,64}`).Draw(t, "hash"),
			Version:   rapid.Int64Min(0).Draw(t, "version"),
		}
		policy.GraceDefault = policy.GraceMin + (policy.GraceMax-policy.GraceMin)/2/time.Second*time.Second
		for _, f := range subset("editable", []string{"name", "access", "scopes", "ip_allowlist", "expires_at"}) {
			policy.Editable = append(policy.Editable, token.Field(f))
		}
		if rapid.Bool().Draw(t, "windows") {
			policy.Notice = time.Duration(rapid.Int64Range(1, 1000).Draw(t, "notice")) * time.Second
			policy.DeleteUnused = rapid.SampledFrom([]time.Duration{0, policy.Notice + time.Second, token.MaxPolicyDuration}).Draw(t, "unused")
			policy.DowngradeUnused = rapid.SampledFrom([]time.Duration{0, policy.Notice + time.Second}).Draw(t, "downgrade")
			policy.ExpiryWarnings = []time.Duration{policy.Notice + time.Second, policy.Notice}
		}
		for _, e := range rapid.SliceOfDistinct(rapid.SampledFrom(token.Events()), rapid.ID).Draw(t, "events") {
			if policy.Notify == nil {
				policy.Notify = map[token.Event][]token.Class{}
			}
			policy.Notify[e] = rapid.SampledFrom([][]token.Class{nil, {"user"}, {"admins", "viewers"}}).Draw(t, "classes")
		}
		for _, verb := range subset("allow", token.PolicyVerbs()) {
			if policy.Allow == nil {
				policy.Allow = map[string][]string{}
			}
			policy.Allow[verb] = rapid.SampledFrom([][]string{nil, {"owner"}, {"owner", "own:owner"}}).Draw(t, "grantees")
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
	f.Add(`{"name":"old","hourly_limit":1,"notify":{"token_created":[],"x":[]},"allow":{"edit":["own:member"]}}`)
	f.Add(`{"name":"own","expiry_warnings_seconds":[3,2,1],"delete_unused_seconds":0,"downgrade_unused_seconds":45,"notice_seconds":1}`)
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
