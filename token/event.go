package token

import "slices"

// Event is something about a token that people are told of. The list is closed:
// a policy names recipients for these and for nothing else.
type Event string

// What people do, and what comes of it.
const (
	EventCreated           Event = "token_created"
	EventEdited            Event = "token_edited"
	EventRotated           Event = "token_rotated"
	EventRotationReminder  Event = "rotation_reminder" // the previous secret is still used, or the new one still is not
	EventRotationConfirmed Event = "rotation_confirmed"
	EventRotationExtended  Event = "rotation_extended"
	EventRolledBack        Event = "token_rolled_back"
	EventSecretRevoked     Event = "secret_revoked" // one secret, to make room under a cap
	EventEnabled           Event = "token_enabled"
	EventDisabled          Event = "token_disabled"
	EventRevoked           Event = "token_revoked"
	EventDeleted           Event = "token_deleted" // by a person
	EventRestored          Event = "token_restored"
	EventExempted          Event = "token_exempted"
	EventRetiredSecretUsed Event = "retired_secret_used"
)

// What the lifecycle does, and announces.
const (
	EventExpiryWarning       Event = "expiry_warning"
	EventExpired             Event = "token_expired"
	EventExpiredDeleted      Event = "expired_token_deleted"
	EventDowngradeNotice     Event = "downgrade_notice"
	EventDowngradeCancelled  Event = "downgrade_cancelled"
	EventDowngraded          Event = "token_downgraded"
	EventDowngradeUndone     Event = "downgrade_undone"
	EventDeletionNotice      Event = "deletion_notice"
	EventDeletionCancelled   Event = "deletion_cancelled"
	EventUnusedDeleted       Event = "unused_token_deleted"
	firstLifecycleEventIndex       = 15 // of events
)

var events = [...]Event{
	EventCreated, EventEdited, EventRotated, EventRotationReminder, EventRotationConfirmed, EventRotationExtended,
	EventRolledBack, EventSecretRevoked, EventEnabled, EventDisabled, EventRevoked, EventDeleted, EventRestored,
	EventExempted, EventRetiredSecretUsed,

	EventExpiryWarning, EventExpired, EventExpiredDeleted, EventDowngradeNotice, EventDowngradeCancelled,
	EventDowngraded, EventDowngradeUndone, EventDeletionNotice, EventDeletionCancelled, EventUnusedDeleted,
}

// Events lists all events, those of people before those of the lifecycle.
func Events() []Event { return slices.Clone(events[:]) }

// Lifecycle says whether an event comes of rules and time, and of nobody's act.
func (e Event) Lifecycle() bool { return slices.Contains(events[firstLifecycleEventIndex:], e) }

// Class names recipients by what they are to the token that an event is about.
type Class string

// The classes.
const (
	ClassRequester Class = "requester" // who asked for what happened
	ClassUser      Class = "user"      // the user whom the token belongs to
	ClassOwner     Class = "owner"     // the owners of the account
	ClassAdmins    Class = "admins"    // the owners and the admins of the account
	ClassViewers   Class = "viewers"   // whoever may view the token: the knob view
)

// Classes lists all classes.
func Classes() []Class {
	return []Class{ClassRequester, ClassUser, ClassOwner, ClassAdmins, ClassViewers}
}

// defaultRecipients are who is told of an event when the policy names nobody.
func defaultRecipients(e Event) []Class {
	if e.Lifecycle() {
		return []Class{ClassAdmins}
	}
	return []Class{ClassOwner, ClassRequester}
}
