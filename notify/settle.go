package notify

import (
	"fmt"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Outcome is what came of one attempt to deliver. The zero value: it failed for
// now, and nobody knows why.
type Outcome struct {
	// Accepted: the relay took it, or the webhook answered 2xx.
	Accepted bool
	// Refused: the relay said, of this recipient, that it never will.
	Refused bool
	// Gone: there is nobody any more to deliver to.
	Gone bool
	// Down: the attempt failed for reasons that hold for all messages that go the
	// same way, so that they need not be tried each.
	Down bool
	// Cut: we broke it off ourselves; it says nothing about the recipient.
	Cut bool
	// Problem says what went wrong, without anything secret.
	Problem string
}

const (
	// maxDelay is the longest time between two attempts.
	maxDelay = 4 * time.Hour
	// giveUpAfter is how long delivery is tried.
	giveUpAfter = 7 * 24 * time.Hour
	// maxProblem is how much of a problem is kept, in bytes.
	maxProblem = 300
)

// delay is how long to wait after a number of attempts: minutes first, then hours.
// A fifth of it is left to chance (0 to 1), so that messages which failed
// together are not all tried together again. It is never more than maxDelay.
func delay(first time.Duration, attempts int, chance float64) time.Duration {
	d := min(first, maxDelay)
	for i := 1; i < attempts && d < maxDelay; i++ {
		d = min(2*d, maxDelay)
	}
	return d - time.Duration(float64(d)*chance/5)
}

// settle says what becomes of a notice after an attempt, and what an operator has
// to know; it decides and stores nothing.
func settle(n tokenstore.Notice, o *Outcome, now time.Time, wait time.Duration) (settled tokenstore.Notice, alarm string) {
	n.Problem = plainProblem(o.Problem)
	n.NextAt = now.Add(wait)
	refusedFrom := n.RefusedFrom
	// Only refusals without anything else between them add up to 72 hours.
	n.RefusedFrom = time.Time{}
	switch {
	case o.Accepted:
		n.State, n.DoneAt, n.Problem = tokenstore.NoticeAccepted, now, ""
		return n, ""
	case o.Gone:
		n.State, n.DoneAt = tokenstore.NoticeCancelled, now
		return n, ""
	case o.Cut:
		n.State, n.NextAt, n.RefusedFrom = tokenstore.NoticeWaiting, now, time.Time{}
		return n, ""
	case o.Refused:
		n.RefusedFrom = refusedFrom
		if refusedFrom.IsZero() {
			n.RefusedFrom = now
		}
	}
	n.State = tokenstore.NoticeWaiting
	if now.Sub(n.CreatedAt) < giveUpAfter {
		return n, ""
	}
	if waitedFor(n.Event) {
		// Nothing may happen to the token before people know, and nothing else
		// would tell them: it is tried until the plan ends.
		return n, fmt.Sprintf("a notice could not be delivered for 7 days, and what it announces waits for it; see notice list. Last: %s", n.Problem)
	}
	n.State, n.DoneAt = tokenstore.NoticeFailed, now
	return n, fmt.Sprintf("a notice could not be delivered for 7 days and is given up. Last: %s", n.Problem)
}

// waitedFor says whether something happens only once people got the event's notice.
func waitedFor(e token.Event) bool {
	return e == token.EventDowngradeNotice || e == token.EventDeletionNotice
}

// plainProblem keeps what others say to one short line.
func plainProblem(text string) string {
	if text == "" {
		text = "no reason is known"
	}
	buf := make([]byte, 0, min(len(text), maxProblem))
	for i := 0; i < len(text) && len(buf) < maxProblem; i++ {
		c := text[i]
		if c < ' ' || c > '~' {
			c = ' '
		}
		if c == ' ' && (len(buf) == 0 || buf[len(buf)-1] == ' ') {
			continue
		}
		buf = append(buf, c)
	}
	return string(buf)
}
