package api

import (
	"time"

	"github.com/sallyport/sallyport/token"
)

// Policy is the rules of the accounts that name it. Every rule is there, as it
// is in force, whether somebody chose it or it is the default.
type Policy struct {
	Name                      string                        `json:"name" doc:"Names the policy." example:"default"`
	MaxSecretsPerAccount      *int                          `json:"max_secrets_per_account" doc:"How many secrets of an account can be valid at a time; null: any number."`
	MaxSecretsPerUser         *int                          `json:"max_secrets_per_user" doc:"How many secrets of a user can be valid at a time; null: any number."`
	MaxLifetimeSeconds        *int64                        `json:"max_lifetime_seconds" doc:"How long a token can live, in seconds from its creation; null: without limit."`
	DeleteExpiredAfterSeconds int64                         `json:"delete_expired_after_seconds" doc:"How long an expired token stays before it is deleted, in seconds; 0: it is deleted when it expires."`
	ExpiryWarningsSeconds     []int64                       `json:"expiry_warnings_seconds" nullable:"false" doc:"How long before a token expires people are warned, in seconds, the earliest warning first."`
	DeleteUnusedSeconds       *int64                        `json:"delete_unused_seconds" doc:"How long a token must be unused to be deleted, in seconds; null: it never is."`
	DowngradeUnusedSeconds    *int64                        `json:"downgrade_unused_seconds" doc:"How long a permission must be unused to be taken away, in seconds; null: it never is."`
	NoticeSeconds             int64                         `json:"notice_seconds" doc:"How long before either of the two people are told, in seconds."`
	RestoreWindowSeconds      int64                         `json:"restore_window_seconds" doc:"How long what was deleted or taken away by itself can be had back, in seconds."`
	DowngradeUndo             bool                          `json:"downgrade_undo" doc:"Whether people can undo a downgrade within the restore window."`
	RotationModes             []token.RotationMode          `json:"rotation_modes" nullable:"false" doc:"The modes that rotating can ask for; the first is the default."`
	GraceDefaultSeconds       int64                         `json:"grace_default_seconds" doc:"How long a previous secret works unless asked otherwise, in seconds."`
	GraceMinSeconds           int64                         `json:"grace_min_seconds" doc:"The shortest grace period, in seconds."`
	GraceMaxSeconds           int64                         `json:"grace_max_seconds" doc:"The longest grace period, in seconds."`
	Editable                  []token.Field                 `json:"editable" nullable:"false" doc:"The fields of a token that can be changed."`
	Allow                     map[string][]string           `json:"allow" doc:"The roles that can carry out each verb; a role after own: can do so on the user's own tokens only. Operators are not bound by it."`
	StepUp                    []string                      `json:"step_up" nullable:"false" doc:"The verbs that need a one-time code. Operators are not bound by it."`
	Confirm                   []string                      `json:"confirm" nullable:"false" doc:"The verbs that need confirm."`
	Notify                    map[token.Event][]token.Class `json:"notify" doc:"Who is told of each event: requester, user, owner, admins, viewers."`
	View                      []string                      `json:"view" nullable:"false" doc:"The roles that can see the account's tokens."`
	RequireIPAllowlist        token.AllowListRule           `json:"require_ip_allowlist" enum:"never,write,always" doc:"Which tokens must have an allow-list: none, those that may write, or all."`
	RevokeOnRetiredUse        bool                          `json:"revoke_on_retired_use" doc:"Whether a token is revoked when one of its retired secrets is used."`
	ManagedByConfig           bool                          `json:"managed_by_config" doc:"Whether the gateway's configuration owns it."`
	Version                   int64                         `json:"version" doc:"Grows with every change."`
}

func policyOf(p *token.Policy) Policy {
	w := Policy{
		Name:                      p.Name,
		MaxSecretsPerAccount:      unlessZero(p.MaxSecretsPerAccount),
		MaxSecretsPerUser:         unlessZero(p.MaxSecretsPerUser),
		MaxLifetimeSeconds:        unlessZero(inSeconds(p.MaxLifetime)),
		DeleteExpiredAfterSeconds: inSeconds(p.DeleteExpiredAfter),
		ExpiryWarningsSeconds:     []int64{},
		DeleteUnusedSeconds:       unlessZero(inSeconds(p.DeleteUnused)),
		DowngradeUnusedSeconds:    unlessZero(inSeconds(p.DowngradeUnused)),
		NoticeSeconds:             inSeconds(p.Notice),
		RestoreWindowSeconds:      inSeconds(p.RestoreWindow),
		DowngradeUndo:             p.DowngradeUndo,
		RotationModes:             listOf(p.RotationModes),
		GraceDefaultSeconds:       inSeconds(p.GraceDefault),
		GraceMinSeconds:           inSeconds(p.GraceMin),
		GraceMaxSeconds:           inSeconds(p.GraceMax),
		Editable:                  listOf(p.Editable),
		Allow:                     map[string][]string{},
		StepUp:                    listOf(p.StepUp),
		Confirm:                   listOf(p.Confirm),
		Notify:                    map[token.Event][]token.Class{},
		View:                      listOf(p.View),
		RequireIPAllowlist:        p.RequireAllowList,
		RevokeOnRetiredUse:        p.RevokeOnRetiredUse,
		ManagedByConfig:           p.ManagedBy != "",
		Version:                   p.Version,
	}
	for _, d := range p.ExpiryWarnings {
		w.ExpiryWarningsSeconds = append(w.ExpiryWarningsSeconds, inSeconds(d))
	}
	for _, verb := range token.PolicyVerbs() {
		w.Allow[verb] = listOf(p.AllowedTo(verb))
	}
	for _, event := range token.Events() {
		w.Notify[event] = listOf(p.Recipients(event))
	}
	return w
}

func inSeconds(d time.Duration) int64 { return int64(d / time.Second) }

// unlessZero makes null of a zero that stands for no limit.
func unlessZero[T int | int64](n T) *T {
	if n == 0 {
		return nil
	}
	return &n
}
