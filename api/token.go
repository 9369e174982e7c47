package api

import (
	"encoding/json"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
)

// Token is a token as people see it. It never holds a secret.
type Token struct {
	ID                      token.ID          `json:"id" doc:"Names the token for ever; IDs are not used again." example:"tok_example"`
	Name                    string            `json:"name" doc:"What people call it." example:"nightly export"`
	AccountID               token.ID          `json:"account_id" doc:"The account that the token belongs to." example:"acc_example"`
	UserID                  *token.ID         `json:"user_id" doc:"The user that the token belongs to; null when it belongs to the account itself." example:"usr_example"`
	Access                  token.Access      `json:"access" enum:"read_only,read_write,custom" doc:"How much the token may do."`
	Scopes                  []string          `json:"scopes" nullable:"false" doc:"The scopes of a custom token, sorted; empty otherwise." example:"[\"payments:read\"]"`
	IPAllowlist             []string          `json:"ip_allowlist" nullable:"false" doc:"Addresses and CIDR ranges that the token may be used from, in canonical form; empty: from everywhere." example:"[\"192.0.2.0/24\"]"`
	Environment             token.Environment `json:"environment" enum:"production,sandbox" doc:"Fixed at creation."`
	State                   token.State       `json:"state" enum:"active,disabled,expired,revoked,deleted" doc:"The state at the time of the answer."`
	Last4                   *string           `json:"last4" doc:"The last 4 characters of the newest secret, by which people know it; null when there is none. They stay when the token ends." example:"x1Yz"`
	FreshOnly               bool              `json:"fresh_only" doc:"Whether a gateway that may have missed a change, because the store is out of reach, refuses to answer for the token (503), also where it would for others."`
	CreatedAt               time.Time         `json:"created_at" doc:"When it was created (RFC 3339, UTC)."`
	UpdatedAt               time.Time         `json:"updated_at" doc:"When it was last changed (RFC 3339, UTC)."`
	ExpiresAt               *time.Time        `json:"expires_at" doc:"When it ends: its own expiry or its policy's limit, whichever is earlier (RFC 3339, UTC); null: never."`
	PreviousSecretExpiresAt *time.Time        `json:"previous_secret_expires_at" doc:"During a rotation, when the previous secret ends (RFC 3339, UTC); null otherwise, and while nothing has set an end: the token's rotation says which it is."`
	LastUsedAt              *time.Time        `json:"last_used_at" doc:"The latest moment of which it is known that the token was used (RFC 3339, UTC); null: never. It is the first use on the last day of use, and may be some minutes behind."`
	ExemptUntil             *time.Time        `json:"exempt_until" doc:"Until when it is kept from being narrowed or deleted for being unused (RFC 3339, UTC); null: it is not."`
	Scheduled               *Scheduled        `json:"scheduled" doc:"What was announced for it and is still to come; null: nothing."`
	DowngradedAt            *time.Time        `json:"downgraded_at" doc:"When permissions that it did not use were taken from it (RFC 3339, UTC); null: they were not, or it has them back."`
	UndoUntil               *time.Time        `json:"undo_until" doc:"Until when it can have them back, where the policy lets it (RFC 3339, UTC); null: there is nothing to undo, or it is too late."`
	Version                 int64             `json:"version" doc:"Grows with every change; If-Match takes it in quotes." example:"3"`
}

// Scheduled is what was announced for a token.
type Scheduled struct {
	Action string    `json:"action"`
	At     time.Time `json:"at"`
}

// Schema describes it in the OpenAPI document, where it can be null.
func (Scheduled) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, Nullable: true, Required: []string{"action", "at"}, AdditionalProperties: true,
		Properties: map[string]*huma.Schema{
			"action": {
				Type: huma.TypeString, Enum: []any{token.Downgrade.String(), token.DeleteUnused.String()},
				Description: "downgrade: permissions that it does not use are taken. delete_unused: it is deleted.",
			},
			"at": {Type: huma.TypeString, Format: "date-time", Description: "The date that was announced; nothing happens before (RFC 3339, UTC)."},
		},
	}
}

// tokenOf shows a view. Lists are empty and never null, so that a client can
// range over them without asking.
func tokenOf(v *authority.View) Token {
	t := Token{
		ID:          v.Token.ID,
		Name:        v.Token.Name,
		AccountID:   v.Token.AccountID,
		Access:      v.Token.Grant.Access,
		Scopes:      listOf(v.Token.Grant.Scopes),
		IPAllowlist: listOf(v.Token.AllowList.Strings()),
		Environment: v.Token.Environment,
		State:       v.State,
		FreshOnly:   v.Token.FreshOnly,
		CreatedAt:   v.Token.CreatedAt.UTC(),
		UpdatedAt:   v.Token.UpdatedAt.UTC(),
		ExpiresAt:   timeOrNull(v.Expires),
		Version:     v.Token.Version,

		LastUsedAt:   timeOrNull(v.Life.LastUsed),
		ExemptUntil:  timeOrNull(v.Life.ExemptUntil),
		DowngradedAt: timeOrNull(v.Life.DowngradedAt),
		UndoUntil:    timeOrNull(v.Life.UndoUntil),
	}
	if v.Life.Scheduled != 0 {
		t.Scheduled = &Scheduled{Action: v.Life.Scheduled.String(), At: v.Life.ScheduledAt.UTC()}
	}
	if v.Token.UserID != "" {
		t.UserID = &v.Token.UserID
	}
	if v.Current.Last4 != "" {
		t.Last4 = &v.Current.Last4
	}
	if v.Previous != nil {
		t.PreviousSecretExpiresAt = timeOrNull(v.Previous.ExpiresAt)
	}
	return t
}

// NewToken is what creating a token asks for.
type NewToken struct {
	_ struct{} `additionalProperties:"false"`

	Name            string            `json:"name" doc:"What people call it: 1 to 100 characters, no control or bidirectional ones." example:"nightly export"`
	AccountID       token.ID          `json:"account_id" pattern:"^[a-z0-9_]{1,64}$" doc:"The account that the token belongs to." example:"acc_example"`
	UserID          token.ID          `json:"user_id,omitempty" pattern:"^[a-z0-9_]{1,64}$" nullable:"true" doc:"The user that it belongs to; null or absent: the account itself." example:"usr_example"`
	Access          token.Access      `json:"access" enum:"read_only,read_write,custom" doc:"How much it may do."`
	Scopes          []string          `json:"scopes,omitempty" nullable:"false" maxItems:"200" doc:"The scopes of a custom token; absent for the other levels." example:"[\"payments:read\"]"`
	IPAllowlist     []string          `json:"ip_allowlist,omitempty" nullable:"false" maxItems:"1000" doc:"Addresses and CIDR ranges that it may be used from. A policy may require it." example:"[\"192.0.2.0/24\"]"`
	AllowAnyAddress bool              `json:"allow_any_address,omitempty" doc:"Accept 0.0.0.0/0 and ::/0 in ip_allowlist, which are refused as a likely mistake otherwise."`
	Environment     token.Environment `json:"environment,omitempty" enum:"production,sandbox" doc:"Fixed from now on; production when absent."`
	ExpiresAt       *time.Time        `json:"expires_at,omitempty" nullable:"true" doc:"When it ends (RFC 3339); null or absent: never, as far as the policy lets it."`
	FreshOnly       bool              `json:"fresh_only,omitempty" doc:"Have gateways answer for it only while they know all changes: 503 once the store has been out of reach for 5 seconds, also where other tokens go on working."`
	RevokeLast4     string            `json:"revoke_last4,omitempty" maxLength:"4" doc:"The last 4 characters of a valid secret of the account, which is revoked to make room for the new one, and its token with it when it was the only one. Letter case counts." example:"x7Qe"`
	Confirm         bool              `json:"confirm,omitempty" doc:"Confirms the creation where the policy asks for it."`
	OTP             string            `json:"otp,omitempty" maxLength:"64" doc:"The one-time code of the user who asks, where the policy wants one; or the header Sallyport-OTP." example:"123456"`
}

// Issued is the answer of the two routes that issue a secret.
type Issued struct {
	Token    Token  `json:"token"`
	Secret   Secret `json:"secret" doc:"The bearer string. It is shown in this response and never again." example:"(shown once)"`
	Replayed bool   `json:"replayed,omitempty" doc:"True when an Idempotency-Key was repeated: the secret issued before, which nobody had used, was replaced by this one."`
}

// TokenEdit is a change of a token. What is absent stays as it is. Which fields
// may be changed is up to the account's policy.
type TokenEdit struct {
	_ struct{} `additionalProperties:"false"`

	Name            *string       `json:"name,omitempty" nullable:"false" doc:"What people call it."`
	Access          *token.Access `json:"access,omitempty" enum:"read_only,read_write,custom" nullable:"false" doc:"How much it may do."`
	Scopes          *[]string     `json:"scopes,omitempty" nullable:"false" maxItems:"200" doc:"The scopes, all of them, of a custom token."`
	IPAllowlist     *[]string     `json:"ip_allowlist,omitempty" nullable:"false" maxItems:"1000" doc:"The whole allow-list; an empty one allows every address, if the policy lets it."`
	AllowAnyAddress bool          `json:"allow_any_address,omitempty" doc:"Accept 0.0.0.0/0 and ::/0 in ip_allowlist."`
	ExpiresAt       ExpiryEdit    `json:"expires_at,omitzero" doc:"When it ends (RFC 3339); null: never, as far as the policy lets it."`
	FreshOnly       *bool         `json:"fresh_only,omitempty" nullable:"false" doc:"Whether gateways answer for it only while they know all changes. The policy does not restrict it."`
	Confirm         bool          `json:"confirm,omitempty" doc:"Confirms the edit where the policy asks for it."`
	OTP             string        `json:"otp,omitempty" maxLength:"64" doc:"The one-time code of the user who asks, where the policy wants one; or the header Sallyport-OTP." example:"123456"`
}

// ExpiryEdit is a change of an expiry. The zero value leaves it as it is: JSON
// tells a field that is absent from one that is null, and a pointer could not.
type ExpiryEdit struct {
	Changed bool
	At      *time.Time // nil: never
}

// IsZero makes the field absent in JSON.
func (e ExpiryEdit) IsZero() bool { return !e.Changed }

// MarshalJSON writes null for never.
func (e ExpiryEdit) MarshalJSON() ([]byte, error) { return json.Marshal(e.At) }

// UnmarshalJSON reads null as never.
func (e *ExpiryEdit) UnmarshalJSON(data []byte) error {
	*e = ExpiryEdit{Changed: true}
	return json.Unmarshal(data, &e.At)
}

// Schema describes an expiry in the OpenAPI document.
func (ExpiryEdit) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time", Nullable: true}
}

// Rotation is what rotating asks for.
type Rotation struct {
	_ struct{} `additionalProperties:"false"`

	Mode               token.RotationMode `json:"mode,omitempty" enum:"timed,now,until_confirmed,on_first_use" doc:"timed: the previous secret works for the grace period. now: it ends at once. until_confirmed: it works until the rotation is confirmed. on_first_use: it works until the grace period after the first use of the new secret. Absent: the policy's first mode."`
	GracePeriodSeconds *int64             `json:"grace_period_seconds,omitempty" nullable:"false" minimum:"0" maximum:"315360000" doc:"How long the previous secret goes on working, in seconds, within the policy's bounds; absent: the policy's default. Only with the modes timed and on_first_use." example:"86400"`
	RevokeLast4        string             `json:"revoke_last4,omitempty" maxLength:"4" doc:"The last 4 characters of a valid secret of the account, which is revoked to make room for the new one, and its token with it when it was the only one. Letter case counts. The token's own current secret makes the rotation end it at once, and its previous secret ends the rotation under way." example:"x7Qe"`
	Confirm            bool               `json:"confirm,omitempty" doc:"Confirms the rotation where the policy asks for it."`
	OTP                string             `json:"otp,omitempty" maxLength:"64" doc:"The one-time code of the user who asks, where the policy wants one; or the header Sallyport-OTP." example:"123456"`
}

// Confirmation is the body of the verbs that take nothing else.
type Confirmation struct {
	_ struct{} `additionalProperties:"false"`

	Confirm bool   `json:"confirm,omitempty" doc:"Confirms the change where the policy asks for it."`
	OTP     string `json:"otp,omitempty" maxLength:"64" doc:"The one-time code of the user who asks, where the policy wants one; or the header Sallyport-OTP." example:"123456"`
}

// Restoring is what bringing a deleted token back asks for.
type Restoring struct {
	_ struct{} `additionalProperties:"false"`

	ExpiresAt *time.Time `json:"expires_at,omitempty" nullable:"true" doc:"When it ends from now on (RFC 3339); null or absent: as before. One that has expired needs it."`
	Confirm   bool       `json:"confirm,omitempty" doc:"Confirms the change where the policy asks for it."`
	OTP       string     `json:"otp,omitempty" maxLength:"64" doc:"The one-time code of the user who asks, where the policy wants one; or the header Sallyport-OTP." example:"123456"`
}

// Exemption is what keeping a token from being narrowed or deleted asks for.
type Exemption struct {
	_ struct{} `additionalProperties:"false"`

	Reason  string    `json:"reason" doc:"Why, for those who read the audit log: at most 500 bytes." example:"yearly closing"`
	Until   time.Time `json:"until" doc:"When it ends (RFC 3339): at most two years from now."`
	Confirm bool      `json:"confirm,omitempty" doc:"Confirms the change where the policy asks for it."`
}

// Question asks what the gate would say to a request.
type Question struct {
	_ struct{} `additionalProperties:"false"`

	Secret Secret `json:"secret" doc:"The secret that would be presented."`
	IP     string `json:"ip,omitempty" maxLength:"64" doc:"The client's address; absent: not known, which a token with an allow-list is refused for." example:"192.0.2.7"`
	Method string `json:"method,omitempty" pattern:"^[A-Z]{1,32}$" doc:"The request's method; GET when absent." example:"POST"`
	Path   string `json:"path,omitempty" maxLength:"8192" doc:"The request's path. It does not change the answer: what a path requires is configured at each gate, and this API serves all of them. Name the scope instead."`
	Scope  string `json:"scope,omitempty" maxLength:"128" doc:"The scope that the operation requires, as a gate's require line names it; absent: read or write, by method." example:"payments:read"`
}

// Verification is what the gate would say.
type Verification struct {
	Valid         bool   `json:"valid" doc:"Whether the gate would let the request pass."`
	Code          string `json:"code,omitempty" doc:"The code that the gate would refuse with; absent when valid." example:"ip_not_allowed"`
	Token         *Token `json:"token,omitempty" doc:"The token, if the secret belongs to one."`
	RequiredScope string `json:"required_scope" doc:"The scope that the answer was judged by." example:"read"`
}

func listOf[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
