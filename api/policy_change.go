package api

import (
	"time"

	"github.com/sallyport/sallyport/lifecycle"
	"github.com/sallyport/sallyport/token"
)

// PolicyRules are rules for a policy. What is absent stays as it is, or as the
// preset says. Where a rule can be switched off, 0 does that.
type PolicyRules struct {
	Preset                    string                        `json:"preset,omitempty" maxLength:"64" doc:"Starts from the rules of this preset: default, mercury, own, rapyd, staffbase or taxjar. Absent: a new policy starts from default, one that is edited from itself." example:"mercury"`
	MaxSecretsPerAccount      *int                          `json:"max_secrets_per_account,omitempty" nullable:"false" doc:"How many secrets of an account can be valid at a time; 0: any number."`
	MaxSecretsPerUser         *int                          `json:"max_secrets_per_user,omitempty" nullable:"false" doc:"How many secrets of a user can be valid at a time; 0: any number."`
	MaxLifetimeSeconds        *int64                        `json:"max_lifetime_seconds,omitempty" nullable:"false" doc:"How long a token can live, in seconds from its creation; 0: without limit."`
	DeleteExpiredAfterSeconds *int64                        `json:"delete_expired_after_seconds,omitempty" nullable:"false" doc:"How long an expired token stays before it is deleted, in seconds; 0: it is deleted when it expires."`
	ExpiryWarningsSeconds     *[]int64                      `json:"expiry_warnings_seconds,omitempty" nullable:"false" maxItems:"10" doc:"How long before a token expires people are warned, in seconds, the earliest warning first."`
	DeleteUnusedSeconds       *int64                        `json:"delete_unused_seconds,omitempty" nullable:"false" doc:"How long a token must be unused to be deleted, in seconds; 0: it never is."`
	DowngradeUnusedSeconds    *int64                        `json:"downgrade_unused_seconds,omitempty" nullable:"false" doc:"How long a permission must be unused to be taken away, in seconds; 0: it never is."`
	NoticeSeconds             *int64                        `json:"notice_seconds,omitempty" nullable:"false" doc:"How long before either of the two people are told, in seconds."`
	RestoreWindowSeconds      *int64                        `json:"restore_window_seconds,omitempty" nullable:"false" doc:"How long what was deleted or taken away by itself can be had back, in seconds."`
	DowngradeUndo             *bool                         `json:"downgrade_undo,omitempty" nullable:"false" doc:"Whether people can undo a downgrade within the restore window."`
	RotationModes             *[]token.RotationMode         `json:"rotation_modes,omitempty" nullable:"false" maxItems:"8" doc:"The modes that rotating can ask for; the first is the default."`
	GraceDefaultSeconds       *int64                        `json:"grace_default_seconds,omitempty" nullable:"false" doc:"How long a previous secret works unless asked otherwise, in seconds."`
	GraceMinSeconds           *int64                        `json:"grace_min_seconds,omitempty" nullable:"false" doc:"The shortest grace period, in seconds."`
	GraceMaxSeconds           *int64                        `json:"grace_max_seconds,omitempty" nullable:"false" doc:"The longest grace period, in seconds."`
	Editable                  *[]token.Field                `json:"editable,omitempty" nullable:"false" maxItems:"8" doc:"The fields of a token that can be changed: name, access, scopes, ip_allowlist, expires_at."`
	Allow                     map[string][]string           `json:"allow,omitempty" nullable:"false" doc:"The roles that can carry out a verb, by verb; a role after own: can do so on the user's own tokens only. Verbs that are absent stay as they are."`
	StepUp                    *[]string                     `json:"step_up,omitempty" nullable:"false" maxItems:"16" doc:"The verbs that need a one-time code."`
	Confirm                   *[]string                     `json:"confirm,omitempty" nullable:"false" maxItems:"16" doc:"The verbs that need confirm."`
	Notify                    map[token.Event][]token.Class `json:"notify,omitempty" nullable:"false" doc:"Who is told of an event, by event. Events that are absent stay as they are."`
	View                      *[]string                     `json:"view,omitempty" nullable:"false" maxItems:"32" doc:"The roles that can see the account's tokens."`
	RequireIPAllowlist        *token.AllowListRule          `json:"require_ip_allowlist,omitempty" nullable:"false" enum:"never,write,always" doc:"Which tokens must have an allow-list: none, those that may write, or all."`
	RevokeOnRetiredUse        *bool                         `json:"revoke_on_retired_use,omitempty" nullable:"false" doc:"Whether a token is revoked when one of its retired secrets is used."`
}

// NewPolicy is what creating a policy asks for.
type NewPolicy struct {
	_ struct{} `additionalProperties:"false"`

	Name string `json:"name" maxLength:"64" doc:"Names the policy: 1 to 64 of a-z, 0-9, _ and -, a letter first." example:"strict"`
	PolicyRules
}

// PolicyEdit is a change of a policy.
type PolicyEdit struct {
	_ struct{} `additionalProperties:"false"`

	PolicyRules
	ConfirmChange bool `json:"confirm_change,omitempty" doc:"Confirms a change of a policy that rules accounts."`
}

// PolicyQuestion asks what rules would change for the tokens that there are.
type PolicyQuestion struct {
	_ struct{} `additionalProperties:"false"`

	PolicyRules
	AccountID token.ID `json:"account_id,omitempty" maxLength:"64" doc:"What they would change for the tokens of this account. Absent: of all accounts that the policy rules."`
	Cursor    string   `json:"cursor,omitempty" pattern:"^[!-~]{1,512}$" doc:"The next_cursor of the page before."`
	Limit     int      `json:"limit,omitempty" minimum:"1" maximum:"200" default:"50" doc:"About how many tokens a page has."`
}

// PolicyPreview is one page of what rules would change.
type PolicyPreview struct {
	Now        time.Time     `json:"now" doc:"The store's time (RFC 3339, UTC)."`
	Tokens     int           `json:"tokens" doc:"How many tokens were looked at for this page."`
	Items      []TokenEffect `json:"items" nullable:"false" doc:"The tokens that something changes for."`
	OverCap    []OverCap     `json:"over_cap" nullable:"false" doc:"The accounts and users with more valid secrets than the rules allow. All of those work on, and none can be added."`
	NextCursor string        `json:"next_cursor,omitempty" doc:"Asks for the next page; absent on the last one. A page may be short, and even empty, before that."`
}

// TokenEffect is what rules would change for one token.
type TokenEffect struct {
	TokenID        token.ID  `json:"token_id" doc:"The token."`
	Name           string    `json:"name" doc:"The token's name."`
	AccountID      token.ID  `json:"account_id" doc:"The account that it belongs to."`
	Now            TokenFate `json:"now" doc:"What is to come by the rules in force."`
	Then           TokenFate `json:"then" doc:"What would be to come."`
	NeedsAllowList bool      `json:"needs_ip_allowlist" doc:"Whether it lacks the allow-list that the rules want, and those in force do not. It works on; whoever edits or rotates it has to add one."`
}

// TokenFate is what is to come for a token if nothing else happens.
type TokenFate struct {
	EndsAt       *time.Time `json:"ends_at" doc:"When it stops working: its expiry, or the end of its lifetime (RFC 3339, UTC); null: never."`
	DowngradesAt *time.Time `json:"downgrades_at" doc:"When it loses what it did not use, at the earliest (RFC 3339, UTC); null: nothing is to be taken."`
	DeletesAt    *time.Time `json:"deletes_at" doc:"When it is deleted, at the earliest (RFC 3339, UTC); null: it is not to be."`
}

// OverCap is who has more valid secrets than rules allow.
type OverCap struct {
	AccountID token.ID  `json:"account_id" doc:"The account."`
	UserID    *token.ID `json:"user_id" doc:"The user of it; null: the account as a whole."`
	Most      int       `json:"most" doc:"How many the rules allow."`
}

func (w *PolicyRules) change() token.PolicyChange {
	return token.PolicyChange{
		MaxSecretsPerAccount: w.MaxSecretsPerAccount, MaxSecretsPerUser: w.MaxSecretsPerUser,
		MaxLifetime:        ofSeconds(w.MaxLifetimeSeconds),
		DeleteExpiredAfter: ofSeconds(w.DeleteExpiredAfterSeconds),
		DeleteUnused:       ofSeconds(w.DeleteUnusedSeconds),
		DowngradeUnused:    ofSeconds(w.DowngradeUnusedSeconds),
		Notice:             ofSeconds(w.NoticeSeconds),
		RestoreWindow:      ofSeconds(w.RestoreWindowSeconds),
		GraceDefault:       ofSeconds(w.GraceDefaultSeconds),
		GraceMin:           ofSeconds(w.GraceMinSeconds),
		GraceMax:           ofSeconds(w.GraceMaxSeconds),
		ExpiryWarnings:     warningsOf(w.ExpiryWarningsSeconds),
		DowngradeUndo:      w.DowngradeUndo,
		RotationModes:      given(w.RotationModes),
		Editable:           given(w.Editable),
		Allow:              w.Allow,
		StepUp:             given(w.StepUp),
		Confirm:            given(w.Confirm),
		Notify:             w.Notify,
		View:               given(w.View),
		RequireAllowList:   w.RequireIPAllowlist,
		RevokeOnRetiredUse: w.RevokeOnRetiredUse,
	}
}

// PolicyRulesOf writes a change of a policy, or of a preset, as the API takes it.
func PolicyRulesOf(preset string, c *token.PolicyChange) PolicyRules {
	return PolicyRules{
		Preset:               preset,
		MaxSecretsPerAccount: c.MaxSecretsPerAccount, MaxSecretsPerUser: c.MaxSecretsPerUser,
		MaxLifetimeSeconds:        toSeconds(c.MaxLifetime),
		DeleteExpiredAfterSeconds: toSeconds(c.DeleteExpiredAfter),
		DeleteUnusedSeconds:       toSeconds(c.DeleteUnused),
		DowngradeUnusedSeconds:    toSeconds(c.DowngradeUnused),
		NoticeSeconds:             toSeconds(c.Notice),
		RestoreWindowSeconds:      toSeconds(c.RestoreWindow),
		GraceDefaultSeconds:       toSeconds(c.GraceDefault),
		GraceMinSeconds:           toSeconds(c.GraceMin),
		GraceMaxSeconds:           toSeconds(c.GraceMax),
		ExpiryWarningsSeconds:     warningsToSeconds(c.ExpiryWarnings),
		DowngradeUndo:             c.DowngradeUndo,
		RotationModes:             unlessNil(c.RotationModes),
		Editable:                  unlessNil(c.Editable),
		Allow:                     c.Allow,
		StepUp:                    unlessNil(c.StepUp),
		Confirm:                   unlessNil(c.Confirm),
		Notify:                    c.Notify,
		View:                      unlessNil(c.View),
		RequireIPAllowlist:        c.RequireAllowList,
		RevokeOnRetiredUse:        c.RevokeOnRetiredUse,
	}
}

func toSeconds(d *time.Duration) *int64 {
	if d == nil {
		return nil
	}
	n := inSeconds(*d)
	return &n
}

func warningsToSeconds(list []time.Duration) *[]int64 {
	if list == nil {
		return nil
	}
	seconds := make([]int64, len(list))
	for i, d := range list {
		seconds[i] = inSeconds(d)
	}
	return &seconds
}

func unlessNil[T any](list []T) *[]T {
	if list == nil {
		return nil
	}
	return &list
}

// ofSeconds is a time of whole seconds. One that is too long to count is as long
// as can be, which no policy accepts.
func ofSeconds(n *int64) *time.Duration {
	if n == nil {
		return nil
	}
	const most = int64(2 * token.MaxPolicyDuration / time.Second)
	d := time.Duration(max(min(*n, most), -1)) * time.Second
	return &d
}

func warningsOf(list *[]int64) []time.Duration {
	if list == nil {
		return nil
	}
	warnings := make([]time.Duration, len(*list))
	for i := range *list {
		warnings[i] = *ofSeconds(&(*list)[i])
	}
	return warnings
}

// given keeps a list that is empty apart from one that is absent.
func given[T any](list *[]T) []T {
	switch {
	case list == nil:
		return nil
	case *list == nil:
		return []T{}
	default:
		return *list
	}
}

func previewOf(p *lifecycle.Preview) PolicyPreview {
	w := PolicyPreview{Now: p.Now.UTC(), Tokens: p.Tokens, Items: []TokenEffect{}, OverCap: []OverCap{}, NextCursor: p.Cursor}
	for i := range p.Effects {
		e := &p.Effects[i]
		w.Items = append(w.Items, TokenEffect{
			TokenID: e.Token.ID, Name: e.Token.Name, AccountID: e.Token.AccountID,
			Now: fateOf(e.Now), Then: fateOf(e.Then), NeedsAllowList: e.NeedsAllowList,
		})
	}
	for _, c := range p.Crowds {
		over := OverCap{AccountID: c.AccountID, Most: c.Most}
		if c.UserID != "" {
			over.UserID = &c.UserID
		}
		w.OverCap = append(w.OverCap, over)
	}
	return w
}

func fateOf(f lifecycle.Fate) TokenFate {
	return TokenFate{EndsAt: timeOrNull(f.Ends), DowngradesAt: timeOrNull(f.Downgraded), DeletesAt: timeOrNull(f.Deleted)}
}
