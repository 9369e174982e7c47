package lifecycle

import (
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// landmark keeps, as the holder of a duty that nobody carries out, the first token
// of which use is known. Use is forgotten with nothing: whoever misses the landmark
// looks at a table that was emptied, or at an older one that was put in its place.
const landmark = "known_use"

// missUse says whether use that was known is gone. Then every token looks unused
// that was not used since, so that all time up to now counts as blind: every
// window starts anew.
func (p *pass) missUse(tx *tokenstore.Tx) (lost bool, err error) {
	known, err := tx.Duty(landmark)
	if err != nil {
		return false, err
	}
	first, err := tx.FirstUsed()
	if err != nil {
		return false, err
	}
	// Tokens that are older than the landmark may be used at any time; that it
	// lies further on than it did can have no good reason.
	lost = known.Holder != "" && (first == "" || string(first) > known.Holder)
	if string(first) != known.Holder {
		known.Holder = string(first)
		if err := tx.PutDuty(known); err != nil {
			return false, err
		}
	}
	if !lost {
		return false, nil
	}
	p.alarm(Alarm{Kind: "lost_use", Text: "what was known of the use of tokens is gone from the store: every window starts anew; " +
		"find out who emptied it, or whether an old backup was put in its place"})
	return true, p.blindUntilNow(tx)
}

// blindUntilNow reports a gap in the name of a run that sees nothing else.
func (p *pass) blindUntilNow(tx *tokenstore.Tx) error {
	runs, err := tx.Runs()
	if err != nil || len(runs) == 0 {
		return err // nothing is observed: nothing is taken away
	}
	since := runs[0].StartedAt
	if !since.Before(p.now) {
		return nil
	}
	return p.blind(tx, p.now, token.Gap{From: since, To: p.now, Reason: "lost_use"})
}

// blind reports blind time in the name of a run that begins and ends at one moment.
func (p *pass) blind(tx *tokenstore.Tx, at time.Time, g token.Gap) error {
	id, err := p.NewID("run")
	if err != nil {
		return err
	}
	if err := tx.BeginRun(token.Run{ID: id, Node: p.Holder, StartedAt: at}); err != nil {
		return err
	}
	g.Blind, g.Node = true, p.Holder
	if err := tx.PutActivity(token.Activity{Run: id, Covered: at, Gaps: []token.Gap{g}}); err != nil {
		return err
	}
	return tx.EndRun(id, at)
}
