package usage

import (
	"sync"
	"time"

	"github.com/sallyport/sallyport/token"
)

// unseen is time in which requests may have passed that never came to the recorder:
// nothing in the journal tells of it, so that whoever knows has to say so.
type unseen struct {
	mu     sync.Mutex
	open   *token.Gap // goes on
	closed []token.Gap
}

// Blind says that from a time on requests may pass unseen, until Sighted. While that
// goes on it is handed over as far as it has come. An earlier time moves the beginning.
func (r *Recorder) Blind(since time.Time, reason string) {
	u := &r.unseen
	u.mu.Lock()
	defer u.mu.Unlock()
	since = since.UTC().Round(0)
	if u.open == nil {
		u.open = &token.Gap{From: since, Blind: true, Node: r.o.Node, Reason: reason}
	} else if since.Before(u.open.From) {
		u.open.From = since
	}
}

// Sighted says that from a time on no request passes unseen.
func (r *Recorder) Sighted(at time.Time) {
	u := &r.unseen
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.open == nil {
		return
	}
	g := *u.open
	g.To = at.UTC().Round(0)
	if !g.To.After(g.From) {
		g.To = g.From.Add(time.Nanosecond)
	}
	u.open, u.closed = nil, append(u.closed, g)
}

// gaps lists what is to be handed over, and how many of it have ended.
func (u *unseen) gaps(now time.Time) (list []token.Gap, ended int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	list, ended = append(list, u.closed...), len(u.closed)
	if u.open != nil {
		g := *u.open
		if g.To = now; !now.After(g.From) {
			g.To = g.From.Add(time.Nanosecond)
		}
		list = append(list, g)
	}
	return list, ended
}

// told drops those that were handed over for good.
func (u *unseen) told(ended int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = append([]token.Gap(nil), u.closed[ended:]...)
}
