package notify

import (
	"fmt"
	"strings"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// refusedFor is how long a recipient must have been refused for good before the
// others' copies count without it.
const refusedFor = 72 * time.Hour

// Judge says what has become of the copies of a plan's notice (L4). It counts as
// given when every recipient's copy was accepted by the relay, or when a webhook
// accepted its copy, whichever was first. A recipient whom the relay refused for
// 72 hours does not count, provided that another one accepted: a person who left
// must not keep a token alive for ever, and nothing happens that nobody was told.
func Judge(copies []tokenstore.Notice, now time.Time) Verdict {
	var (
		mails, waiting, refused, failed []token.ID
		lastMail, firstHook             time.Time
		accepted                        int
		any                             bool
	)
	for i := range copies {
		n := &copies[i]
		if callsOff(n.Event) || n.Recipient == nobody {
			continue
		}
		any = true
		done := n.State == tokenstore.NoticeAccepted && !n.DoneAt.IsZero()
		switch {
		case n.Channel == ChannelWebhook:
			if done && (firstHook.IsZero() || n.DoneAt.Before(firstHook)) {
				firstHook = n.DoneAt
			}
			continue
		case n.Channel != ChannelMail:
			continue
		case done:
			accepted++
			lastMail = later(lastMail, n.DoneAt)
		case givenUpOn(n):
			refused = append(refused, n.ID)
		case n.State == tokenstore.NoticeFailed:
			failed = append(failed, n.ID)
		default:
			waiting = append(waiting, n.ID)
		}
		mails = append(mails, n.ID)
	}
	var v Verdict
	if accepted > 0 && len(waiting)+len(failed) == 0 {
		v.Accepted = lastMail
	}
	if !firstHook.IsZero() && (v.Accepted.IsZero() || firstHook.Before(v.Accepted)) {
		v.Accepted = firstHook
	}
	// An acceptance of the future is a clock that was set back; it will count
	// when that time has come.
	if v.Accepted.After(now) {
		v.Accepted = time.Time{}
	}
	v.Alarm = alarm(any, accepted, len(mails), refused, failed)
	return v
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// givenUpOn says whether a recipient was refused for as long as it takes, and at
// both ends of that time: a refusal before three days without any attempt is
// only one. What is stored is when the next attempt is due, which is at most
// maxDelay after the last one; and while an attempt is under way it is something else.
func givenUpOn(n *tokenstore.Notice) bool {
	if n.RefusedFrom.IsZero() {
		return false
	}
	switch n.State {
	case tokenstore.NoticeFailed:
		return n.DoneAt.Sub(n.RefusedFrom) >= refusedFor
	case tokenstore.NoticeWaiting:
		return n.Claim == "" && n.NextAt.Sub(n.RefusedFrom) >= refusedFor+maxDelay
	default:
		return false
	}
}

const problemNobody = "nobody could be told: none of the recipients that the policy names is an enabled user with a mail address, and no webhook takes the event"

func alarm(any bool, accepted, mails int, refused, failed []token.ID) string {
	switch {
	case !any:
		return problemNobody
	case len(failed) > 0:
		return fmt.Sprintf("copies of a notice could not be delivered and were given up, so that nothing is done: %s; see notice list", list(failed))
	case len(refused) > 0 && accepted == 0 && len(refused) == mails:
		return fmt.Sprintf("all recipients of a notice have been refused by the relay for 72 hours: %s; correct their mail addresses", list(refused))
	case len(refused) > 0:
		return fmt.Sprintf("recipients of a notice have been refused by the relay for 72 hours and are not waited for: %s; correct their mail addresses", list(refused))
	default:
		return ""
	}
}

// list names notices by ID: an alarm ends up in logs, where addresses do not belong.
func list(ids []token.ID) string {
	const most = 5
	texts := make([]string, 0, most+1)
	for i, id := range ids {
		if i == most {
			texts = append(texts, fmt.Sprintf("and %d more", len(ids)-most))
			break
		}
		texts = append(texts, string(id))
	}
	return strings.Join(texts, ", ")
}
