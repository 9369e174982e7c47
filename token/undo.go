package token

import (
	"slices"
	"time"
)

// Why the lifecycle deleted a token. What a person deleted is never restored, so
// that those reasons are others.
const (
	EndUnused  = "deleted_unused"
	EndExpired = "deleted_expired"
)

// NoUndo is why something cannot be had back; zero: it can.
type NoUndo uint8

// The reasons.
const (
	NothingToUndo  NoUndo = iota + 1 // no downgrade, or no deletion
	EndedByPerson                    // a person revoked or deleted it, for good
	UndoTooLate                      // the window for it is over
	UndoOff                          // the policy does not let people undo
	ChangedSince                     // a person gave the token other permissions since
	ExpiryNeeded                     // a restored token would be expired: give it a new expiry
	ExpiryTooLate                    // that expiry is later than the policy lets any token live
	NotEnoughKnown                   // the records contradict each other
)

var noUndoNames = names{
	"none", "nothing_to_undo", "ended_by_person", "too_late", "undo_off", "changed_since",
	"expiry_needed", "expiry_too_late", "not_enough_known",
}

func (n NoUndo) String() string { return noUndoNames.text(uint8(n)) }

// UndoDowngrade is L6: what the token gets back, if it can. Who may ask for it,
// and whether an allow-list is required then, is for the caller.
func UndoDowngrade(t *Token, h *History, p *Policy, now time.Time) (Grant, NoUndo) {
	switch {
	case h.DowngradedAt.IsZero():
		return Grant{}, NothingToUndo
	case !validAccess(h.Before.Access) || !orderedScopes(&h.Before):
		return Grant{}, NotEnoughKnown
	case t.State != Active && t.State != Disabled:
		return Grant{}, EndedByPerson
	case !p.DowngradeUndo:
		return Grant{}, UndoOff
	case !now.Before(h.UndoUntil):
		return Grant{}, UndoTooLate
	case h.LevelSince.After(h.DowngradedAt):
		return Grant{}, ChangedSince
	default:
		return h.Before, 0
	}
}

// Restore is L5: whether a deleted token can be had back, with this expiry; zero:
// with the one it had. Its maximum lifetime counts anew from now.
func Restore(t *Token, p *Policy, expiresAt, now time.Time) NoUndo {
	expires := expiresAt
	if expires.IsZero() {
		expires = t.ExpiresAt
	}
	switch {
	case t.State == Revoked:
		return EndedByPerson
	case t.State != Deleted:
		return NothingToUndo
	case t.EndReason != EndUnused && t.EndReason != EndExpired:
		return EndedByPerson
	case t.EndedAt.IsZero():
		return NotEnoughKnown
	case !now.Before(t.EndedAt.Add(p.RestoreWindow)):
		return UndoTooLate
	case t.EndReason == EndExpired && expiresAt.IsZero(), !expires.IsZero() && !expires.After(now):
		return ExpiryNeeded
	case p.MaxLifetime != 0 && expiresAt.After(now.Add(p.MaxLifetime)):
		return ExpiryTooLate
	default:
		return 0
	}
}

// Done is an action of L1 or L2 that was carried out, as its record tells.
type Done struct {
	Kind     ActionKind
	At       time.Time
	Evidence Evidence
	// Before and After are the permissions around it; equal for a deletion.
	Before, After Grant
	// Until is how long the record is kept to be judged by.
	Until time.Time
	// Changed says that a person changed or revoked the token since.
	Changed bool
}

// clockSlack is how far a node's clock may be off while it is ready, so that what
// it saw before an act can bear a time that is after it.
const clockSlack = 60 * time.Second

// DisprovedBy says whether a fact that arrived late shows that the action should
// not have been: what was taken had been used in the window, or up to the act.
func (d *Done) DisprovedBy(f *Fact) bool {
	first, until := f.First, later(f.Until, f.First)
	if first.IsZero() {
		first = f.Bucket
	}
	if first.IsZero() || !until.After(d.Evidence.From) || !first.Before(d.At.Add(clockSlack)) {
		return false
	}
	switch d.Kind {
	case DeleteUnused:
		return true
	case Downgrade:
		// Whoever only authenticated used no permission.
		return f.Scope.Name != "" && d.took(f.Scope)
	default:
		return false // nothing else follows from use
	}
}

// took says whether a scope went away. One of unknown nature counts as one that
// writes.
func (d *Done) took(s Scope) bool {
	if d.Before.Access == Custom {
		return d.Before.Holds(s) && !d.After.Holds(s)
	}
	return d.Before.Access == ReadWrite && d.After.Access == ReadOnly && needsWrite(s, nil)
}

// Repair is what follows from late facts.
type Repair uint8

// The repairs.
const (
	LetStand   Repair = iota // the action was right
	TellPeople               // it was wrong, and too late to undo
	PutBack                  // it was wrong: the token gets back exactly what it had
)

// Repair is L10: what has to become of an action, given facts that arrived after
// it. With PutBack come the permissions to put back; a deleted token is active
// again with them, until its own expiry if that has not passed.
func (d *Done) Repair(t *Token, facts []Fact, now time.Time) (Repair, Grant) {
	disproved := slices.ContainsFunc(facts, func(f Fact) bool {
		return f.TokenID == t.ID && d.DisprovedBy(&f)
	})
	if !disproved {
		return LetStand, Grant{}
	}
	if d.Changed || !now.Before(d.Until) || !d.stands(t) || !validAccess(d.Before.Access) || !orderedScopes(&d.Before) {
		return TellPeople, Grant{}
	}
	return PutBack, d.Before
}

// stands says whether the token is still as the action left it.
func (d *Done) stands(t *Token) bool {
	if d.Kind == DeleteUnused {
		return t.State == Deleted && t.EndReason == EndUnused
	}
	return (t.State == Active || t.State == Disabled) &&
		t.Grant.Equal(&d.After)
}
