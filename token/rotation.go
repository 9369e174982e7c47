package token

import "time"

// Rotation is a rotation under way: both secrets of its token work.
type Rotation struct {
	// PreviousID is the secret that it takes out of use. One that is not the token's
	// previous secret any more is over.
	PreviousID ID
	Mode       RotationMode
	StartedAt  time.Time
	// Grace is, with RotateOnFirstUse, how long the previous secret works once the new
	// one was used.
	Grace time.Duration
}

// TakesGrace says whether a rotation in the mode has a grace period.
func (m RotationMode) TakesGrace() bool { return m == RotateTimed || m == RotateOnFirstUse }

// EndAfter is when the previous secret ends by a first use of the new one. A gateway
// whose clock is behind may have seen that use before the rotation, and one whose
// clock is ahead after now: neither moves the end out of what can be true.
func (r *Rotation) EndAfter(firstUse, now time.Time) time.Time {
	if firstUse.After(now) {
		firstUse = now
	}
	return later(r.StartedAt, firstUse).Add(r.Grace)
}

// StartsGrace says whether a first use of the new secret sets an end, or an earlier
// one: what is learnt late only ever brings it forward. An end that a person set is
// not touched, since such a rotation is timed from then on.
func (r *Rotation) StartsGrace(previous *SecretRecord, end time.Time) bool {
	return r.Mode == RotateOnFirstUse && previous.Status == Previous && previous.ID == r.PreviousID &&
		(previous.ExpiresAt.IsZero() || end.Before(previous.ExpiresAt))
}

// RotationOf is the rotation that a previous secret belongs to: what is stored of it,
// or, when a version that knew nothing of rotations made it, a timed one that began
// when the newest secret was issued.
func RotationOf(stored Rotation, previous *SecretRecord, secrets []SecretRecord) Rotation {
	if stored.PreviousID == previous.ID {
		return stored
	}
	r := Rotation{PreviousID: previous.ID, Mode: RotateTimed, StartedAt: previous.CreatedAt}
	if previous.ExpiresAt.IsZero() {
		r.Mode = RotateUntilConfirmed
	}
	for i := range secrets {
		if secrets[i].Status == Current {
			r.StartedAt = later(r.StartedAt, secrets[i].CreatedAt)
		}
	}
	return r
}

// planGrace ends grace periods, and reminds people of rotations that are not
// finished.
func (p *planner) planGrace() {
	for i := range p.Secrets {
		previous := &p.Secrets[i]
		if previous.Status != Previous {
			continue
		}
		// Every grace period ends with the token, also one without an end.
		end := previous.ExpiresAt
		if end.IsZero() || !p.expiry.IsZero() && p.expiry.Before(end) {
			end = p.expiry
		}
		if !end.IsZero() {
			p.add(Action{Kind: RetireSecret, Due: end, SecretID: previous.ID})
		}
		// Nobody can switch programs over while the token works with neither secret.
		if p.Token.StateAt(p.Policy, p.now) == Active {
			p.planReminder(previous, end)
		}
	}
}

const (
	remindEvery  = 7 * 24 * time.Hour // while nothing but a person, or a first use, sets an end
	remindBefore = 24 * time.Hour     // the end, at most
)

// planReminder reminds of a rotation without an end every week, and of one that ends
// once before its end, a quarter of the grace period but at most a day, if the
// previous secret was used since the rotation. An end that was moved is another one.
func (p *planner) planReminder(previous *SecretRecord, end time.Time) {
	r := RotationOf(p.Rotation, previous, p.Secrets)
	var last time.Time
	for i := range p.Notices {
		if n := &p.Notices[i]; n.Kind == RemindRotation && n.Created.After(r.StartedAt) {
			last = later(last, n.Created)
		}
	}
	if previous.ExpiresAt.IsZero() {
		due := later(r.StartedAt, last).Add(remindEvery)
		if end.IsZero() || due.Before(end) {
			p.add(Action{Kind: RemindRotation, Due: due, Announces: end, SecretID: previous.ID})
		}
		return
	}
	due := end.Add(-min(remindBefore, end.Sub(r.StartedAt)/4))
	if p.now.Before(end) && p.Use.Previous.After(r.StartedAt) && last.Before(due) {
		p.add(Action{Kind: RemindRotation, Due: due, Announces: end, SecretID: previous.ID})
	}
}
