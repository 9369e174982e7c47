package api

import (
	"time"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
)

// RotationState is how the rotation of a token stands.
type RotationState struct {
	TokenID    token.ID `json:"token_id" doc:"The token."`
	InProgress bool     `json:"in_progress" doc:"Whether two secrets work: the one that the rotation issued, and the previous one."`
	Mode       string   `json:"mode,omitempty" doc:"How the previous secret ends: timed, until_confirmed or on_first_use; absent when no rotation is under way. One that was extended is timed." example:"until_confirmed"`

	StartedAt          *time.Time `json:"started_at" doc:"When it began (RFC 3339, UTC); null when no rotation is under way."`
	GracePeriodSeconds *int64     `json:"grace_period_seconds" doc:"With on_first_use, how long the previous secret works once the new one is used; null otherwise."`

	SecretID    *token.ID  `json:"secret_id" doc:"The newest secret; null when there is none."`
	Last4       *string    `json:"last4" doc:"Its last 4 characters." example:"x1Yz"`
	FirstUsedAt *time.Time `json:"first_used_at" doc:"During a rotation, when the new secret was first used (RFC 3339, UTC), as far as gateways have told, which takes them seconds; null: not yet."`

	PreviousSecretID        *token.ID    `json:"previous_secret_id" doc:"The previous secret while it works; null otherwise."`
	PreviousLast4           *string      `json:"previous_last4" doc:"Its last 4 characters." example:"9aBc"`
	PreviousSecretExpiresAt *time.Time   `json:"previous_secret_expires_at" doc:"When it ends at the latest (RFC 3339, UTC), with its token in any case; null: nothing has set an end."`
	WaitsFor                string       `json:"waits_for,omitempty" doc:"What else ends it, or sets its end: confirmation or first_use; absent when its end is set." example:"confirmation"`
	PreviousLastUsedAt      *time.Time   `json:"previous_last_used_at" doc:"The latest moment of which it is known that the previous secret was used (RFC 3339, UTC); null: not since the day of the rotation. Of each day the first use is known."`
	PreviousRequests        int64        `json:"previous_requests" doc:"How many requests came with it, about, since the beginning of the day of the rotation."`
	PreviousAddresses       []AddressUse `json:"previous_addresses" nullable:"false" doc:"Where they came from, most requests first."`
	AddressesTruncated      bool         `json:"addresses_truncated" doc:"True when there were more addresses than one answer holds."`
}

// AddressUse is the use of a secret from one address.
type AddressUse struct {
	Address  string    `json:"address" doc:"An address, of IPv6 the /64, or other." example:"192.0.2.7"`
	Requests int64     `json:"requests" doc:"How many requests came from it."`
	LastSeen time.Time `json:"last_seen" doc:"The beginning of the last day on which they did (RFC 3339, UTC)."`
}

func rotationOf(r *authority.RotationStatus) RotationState {
	w := RotationState{TokenID: r.View.Token.ID, PreviousAddresses: []AddressUse{}}
	if r.View.Current.ID != "" {
		w.SecretID, w.Last4 = &r.View.Current.ID, &r.View.Current.Last4
	}
	previous := r.View.Previous
	if previous == nil {
		return w
	}
	w.InProgress, w.Mode, w.StartedAt = true, string(r.Rotation.Mode), timeOrNull(r.Rotation.StartedAt)
	w.FirstUsedAt = timeOrNull(r.NewFirstUsed)
	w.PreviousSecretID, w.PreviousLast4 = &previous.ID, &previous.Last4
	w.PreviousSecretExpiresAt = timeOrNull(previous.ExpiresAt)
	w.PreviousLastUsedAt, w.PreviousRequests, w.AddressesTruncated = timeOrNull(r.PreviousLastUsed), r.Requests, r.More
	if r.Rotation.Mode == token.RotateOnFirstUse {
		seconds := int64(r.Rotation.Grace / time.Second)
		w.GracePeriodSeconds = &seconds
	}
	switch {
	case !r.Waits:
	case r.Rotation.Mode == token.RotateOnFirstUse:
		w.WaitsFor = "first_use"
	default:
		w.WaitsFor = "confirmation"
	}
	for _, a := range r.Addresses {
		w.PreviousAddresses = append(w.PreviousAddresses, AddressUse{Address: a.Address, Requests: a.Requests, LastSeen: a.LastSeen.UTC()})
	}
	return w
}

// RotationChange is what confirming a rotation and rolling it back ask for.
type RotationChange struct {
	_ struct{} `additionalProperties:"false"`

	PreviousSecretID token.ID `json:"previous_secret_id,omitempty" pattern:"^[a-z0-9_]{1,64}$" doc:"The previous secret that is meant, as the token's rotation shows it; absent: whichever it is. With it the request is safe to repeat: what was done already is no error, and a rotation that began since is left alone." example:"sec_example"`
	Confirm          bool     `json:"confirm,omitempty" doc:"Confirms the change where the policy asks for it."`
}

// RotationExtension is what moving the end of the previous secret asks for.
type RotationExtension struct {
	_ struct{} `additionalProperties:"false"`

	PreviousSecretExpiresAt time.Time `json:"previous_secret_expires_at" doc:"When the previous secret is to end (RFC 3339): later than now, and within the policy's grace_max, counted from the rotation, unless an operator asks. A rotation without an end gets one, within grace_max from now."`
	PreviousSecretID        token.ID  `json:"previous_secret_id,omitempty" pattern:"^[a-z0-9_]{1,64}$" doc:"The previous secret that is meant; absent: whichever it is." example:"sec_example"`
	Confirm                 bool      `json:"confirm,omitempty" doc:"Confirms the change where the policy asks for it."`
}
