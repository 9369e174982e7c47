package notify

import (
	"time"

	"github.com/sallyport/sallyport/token"
)

// Message is something to tell people of: one copy goes to each recipient that
// the policy names for the event, by each channel that there is.
type Message struct {
	Event     token.Event
	AccountID token.ID
	TokenID   token.ID
	// PlanID is the plan that it announces, or calls off. Copies that were not
	// sent yet go with the plan.
	PlanID token.ID
	// Version is that of the token: with event and plan it makes two messages the
	// same one.
	Version int64
	// Distinct sets two messages apart that are the same by all this, such as
	// alerts about two secrets. It must not hold a secret.
	Distinct string
	// Requester is the user who asked for what happened; empty: no user did.
	Requester token.ID
	Facts     Facts
}

// The reasons for what people are told of, besides those for which the lifecycle
// calls something off.
const (
	// ReasonRetiredUse: a secret that had ended was used.
	ReasonRetiredUse = "retired_secret_used"
	// ReasonTokenRevoked: the token was revoked for it.
	ReasonTokenRevoked = "token_revoked"
	// ReasonMasterKeyRemoved: nothing can find the secret any more.
	ReasonMasterKeyRemoved = "master_key_removed"
	// ReasonLeaked: a secret was found where others can read it.
	ReasonLeaked = "leaked"
	// ReasonLateUse: the lifecycle took something that was in use, as became known
	// late. With ReasonLateUseStands it could not be given back.
	ReasonLateUse       = "late_use"
	ReasonLateUseStands = "late_use_not_undone"
)

// Facts are what a message tells. None of it is secret.
type Facts struct {
	TokenName string `json:"token_name,omitempty"`
	Last4     string `json:"last4,omitempty"`
	// WasNamed is what the token was called before, when its name was changed.
	WasNamed string `json:"was_named,omitempty"`
	// Actor says in words who did it, and Address where it came from.
	Actor   string    `json:"actor,omitempty"`
	Address string    `json:"address,omitempty"`
	At      time.Time `json:"at,omitzero"`
	// Due is when what is announced happens, at the earliest.
	Due time.Time `json:"due,omitzero"`
	// ExpiresAt is when the token ends, and PreviousExpiresAt when the secret
	// before the newest does: for a rotation that ended it at once the time of that,
	// zero when only a confirmation, or the first use of the new one, ends it.
	ExpiresAt         time.Time `json:"expires_at,omitzero"`
	PreviousExpiresAt time.Time `json:"previous_expires_at,omitzero"`
	// UndoUntil is up to when it can be taken back.
	UndoUntil time.Time `json:"undo_until,omitzero"`
	// Access and Scopes are what the token may do afterwards, Taken what it may
	// not do any more.
	Access string   `json:"access,omitempty"`
	Scopes []string `json:"scopes,omitempty"`
	Taken  []string `json:"taken,omitempty"`
	// Changed are the fields that an edit changed, by the names that the API uses.
	Changed []string `json:"changed,omitempty"`
	// Reason is why, in one of the fixed words of the event; Note is why in
	// somebody's own words.
	Reason   string          `json:"reason,omitempty"`
	Note     string          `json:"note,omitempty"`
	Evidence *token.Evidence `json:"evidence,omitempty"`
}

// Verdict is what has become of the copies of a notice.
type Verdict struct {
	// Accepted is when the last counted copy was; zero: not all were yet.
	Accepted time.Time
	// Alarm says what an operator has to look at; empty: nothing.
	Alarm string
}
