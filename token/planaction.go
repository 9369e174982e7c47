package token

import (
	"fmt"
	"strings"
	"time"
)

// ActionKind is what an action does.
type ActionKind uint8

// The kinds. Downgrade, DeleteUnused, DeleteExpired, RetireSecret and Purge take
// something away; all others only tell people.
const (
	NoticeDowngrade ActionKind = iota + 1 // L4
	NoticeDeletion                        // L4
	CancelNotice                          // L4
	Downgrade                             // L1
	DeleteUnused                          // L2
	WarnExpiry                            // L3
	Expire                                // L3: it has happened by itself; people are told
	DeleteExpired                         // L3
	RetireSecret                          // the end of a grace period
	RemindRotation                        // the previous secret is still used
	Purge                                 // L5: only digests stay
)

var actionNames = names{
	"none", "notice_downgrade", "notice_deletion", "cancel_notice", "downgrade", "delete_unused",
	"warn_expiry", "expire", "delete_expired", "retire_secret", "remind_rotation", "purge",
}

func (k ActionKind) String() string { return actionNames.text(uint8(k)) }

// MarshalText writes the kind as it stands in JSON; the zero value is refused.
func (k ActionKind) MarshalText() ([]byte, error) { return actionNames.marshal("action", uint8(k)) }

// UnmarshalText accepts the spellings of MarshalText only.
func (k *ActionKind) UnmarshalText(text []byte) error {
	v, err := actionNames.parse("action", text)
	*k = ActionKind(v)
	return err
}

// Capped says whether the action counts against the allowance of L9.
func (k ActionKind) Capped() bool { return k == Downgrade || k == DeleteUnused }

// Takes says whether the action takes something away, so that after a leap of
// the store's clock it waits (see Resume).
func (k ActionKind) Takes() bool {
	switch k {
	case Downgrade, DeleteUnused, DeleteExpired, RetireSecret, Purge:
		return true
	default:
		return false
	}
}

// Waits is the set of what an action still waits for.
type Waits uint16

// What actions wait for.
const (
	WaitDate     Waits = 1 << iota // its date has not come
	WaitNotice                     // its notice was not given, or not accepted
	WaitCoverage                   // not all that was used has reached the store
	WaitBlind                      // blind time goes on
	WaitExempt                     // an exemption
	WaitChannel                    // there is neither mail nor webhook
)

var waitNames = [...]string{"date", "notice", "coverage", "blind", "exemption", "channel"}

// Has says whether the set holds all that another does.
func (w Waits) Has(of Waits) bool { return w&of == of }

// Names lists what the set holds, as it stands in JSON.
func (w Waits) Names() []string {
	list := []string{}
	for i, name := range waitNames {
		if w.Has(1 << i) {
			list = append(list, name)
		}
	}
	if rest := w >> len(waitNames); rest != 0 {
		list = append(list, fmt.Sprintf("invalid(%d)", rest<<len(waitNames)))
	}
	return list
}

func (w Waits) String() string { return strings.Join(w.Names(), " ") }

// Cause is why a notice is called off.
type Cause uint8

// The causes.
const (
	CauseUsed      Cause = iota + 1 // what it announced to take was used
	CauseBlind                      // it may have been used
	CauseExempted                   // somebody exempted the token
	CauseNotActive                  // token, user or account is disabled, or the token expired
	CauseEnded                      // the token was revoked or deleted
	CauseRestarted                  // the token was enabled or restored, or got other permissions
	CausePolicy                     // the policy does not ask for it any more
	CauseMoved                      // the date moved by more than a stretch: a late record, or another policy
)

var causeNames = names{"none", "used", "blind", "exempted", "not_active", "ended", "restarted", "policy", "moved"}

func (c Cause) String() string { return causeNames.text(uint8(c)) }

// MarshalText writes the cause as it stands in JSON; the zero value is refused.
func (c Cause) MarshalText() ([]byte, error) { return causeNames.marshal("cause", uint8(c)) }

// UnmarshalText accepts the spellings of MarshalText only.
func (c *Cause) UnmarshalText(text []byte) error {
	v, err := causeNames.parse("cause", text)
	*c = Cause(v)
	return err
}

// Action is one thing that follows from a token's past, now or later.
type Action struct {
	Kind    ActionKind
	TokenID ID
	// Due is the earliest time for it, as far as can be told now.
	Due time.Time
	// Waits is what stands in its way; nothing: it is to be done.
	Waits Waits
	// Announces is, for a notice, a warning or a reminder, the date that it names:
	// the Due of the Notice that is to be kept of it. Zero: there is none.
	Announces time.Time
	// Grant is what is left after a downgrade, and Scopes what it takes, for the
	// notice of one too. Scopes is empty when read_write becomes read_only.
	Grant  Grant
	Scopes []string
	// SecretID is the secret that RetireSecret and RemindRotation are about.
	SecretID ID
	// Cause is why CancelNotice calls off Evidence.Notice.
	Cause    Cause
	Evidence Evidence
}

// Ready says whether the action is to be done.
func (a *Action) Ready() bool { return a.Waits == 0 }

// Evidence is why an action follows. It goes into the audit log.
type Evidence struct {
	// From and To are the window in which nothing of what is taken was used, up
	// to the date of the act.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// LastUse is the end of the bucket in which what is taken was last used: for
	// a deletion the token, for a downgrade the permissions. Zero: never.
	LastUse time.Time `json:"last_use,omitzero"`
	// Used are the scopes that were used in the window, Unused those taken away.
	Used   []string `json:"used,omitempty"`
	Unused []string `json:"unused,omitempty"`
	// Stretched is how much the window was lengthened since nobody was serving,
	// and BlindUntil the end of the blind time that it starts from, if it does.
	Stretched  time.Duration `json:"stretched_ns,omitempty"`
	BlindUntil time.Time     `json:"blind_until,omitzero"`
	// Through is up to when all was known.
	Through time.Time `json:"through,omitzero"`
	// Notice is the one that was given; its ID is empty when there is none.
	Notice Notice `json:"notice,omitzero"`
}
