package loss

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// settle waits until all that was seen is in the store, by the gateways' own word:
// each that runs has told of everything until now, and each that was killed has
// been handed over by the process after it.
func (b *bench) settle(ctx context.Context) error {
	now := time.Now()
	var state string
	for end := now.Add(ceiling); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var runs []token.Run
		err := b.store.Read(ctx, func(tx *tokenstore.Tx) (err error) {
			runs, err = tx.Runs()
			return err
		})
		if err != nil {
			return err
		}
		open, behind := 0, 0
		for i := range runs {
			if !runs[i].StoppedAt.IsZero() {
				continue
			}
			open++
			if !runs[i].Covered.After(now) {
				behind++
			}
		}
		// One killed while it started may never have told the store that it was there,
		// and has let nothing pass.
		served := b.figures.Starts - b.figures.Starting
		if open == len(b.gateways) && behind == 0 && len(runs) >= served {
			return nil
		}
		state = fmt.Sprintf("%d runs of %d, %d open, %d behind", len(runs), served, open, behind)
	}
	return fmt.Errorf("the gateways do not hand over what they saw: %s", state)
}

// compare holds what is known of the keys that were asked with since the last time,
// or of all, against the record.
func (b *bench) compare(ctx context.Context, all bool) error {
	if err := b.settle(ctx); err != nil {
		return err
	}
	settled := time.Now().UnixNano()
	f, l := b.figures, b.load
	f.Answered, f.Refused = l.answered.Load(), l.refused.Load()
	f.Unanswered, f.Unavailable = l.unanswered.Load(), l.unavailable.Load()
	f.Forwarded = l.up.got.Load()
	return b.store.Read(ctx, func(tx *tokenstore.Tx) error {
		gaps, err := tx.Gaps()
		if err != nil {
			return err
		}
		for _, g := range gaps {
			if id := fmt.Sprint(g.Node, g.From.UnixNano(), g.Reason); !b.gaps[id] {
				b.gaps[id] = true
				f.Blind[g.Reason]++
			}
		}
		for from := 0; from < len(l.keys); {
			to := from + 1
			for to < len(l.keys) && l.keys[to].token == l.keys[from].token {
				to++
			}
			if all || slices.ContainsFunc(l.seen[from:to], func(s seen) bool { return s.fresh }) {
				uses, err := tx.Uses(l.keys[from].token)
				if err != nil {
					return err
				}
				f.judge(l.keys[from:to], l.seen[from:to], l.up.latest[from:to], uses, gaps, settled)
			}
			from = to
		}
		return nil
	})
}

// judge compares all keys of one token with all that the record says of it, which is
// of before settled.
func (f *Figures) judge(keys []key, asked []seen, latest []atomic.Int64, uses []tokenstore.SecretUse, gaps []token.Gap, settled int64) {
	rows := make([]*tokenstore.SecretUse, len(keys))
	for i := range uses {
		u := &uses[i]
		k := slices.IndexFunc(keys, func(k key) bool { return k.secret == u.SecretID && k.scope == u.Scope.Name })
		if k >= 0 {
			rows[k] = u
		}
		// A gateway may still be at a request whose answer the client has read, and note
		// that it goes on in the next bucket.
		if k < 0 || asked[k].tried == 0 || u.Until.UnixNano() > endOf(settled) {
			f.Invented = append(f.Invented, fmt.Sprintf("%+v", *u))
		}
	}
	for i := range keys {
		s, row := &asked[i], rows[i]
		// What the upstream got was used, whether the client heard of it or not.
		forwarded := latest[i].Load()
		must := max(s.answered, forwarded)
		if s.fresh && s.buckets > 0 {
			f.Facts += s.buckets
			f.Alone++ // the latest is what the record shows
		} else if s.fresh && forwarded > max(s.answered, s.forwarded) {
			f.OnlyForwarded++
		}
		s.forwarded, s.fresh, s.buckets = forwarded, false, 0
		if must == 0 {
			continue
		}
		if row != nil && row.Until.UnixNano() >= endOf(must) && (s.first == 0 || row.First.UnixNano() <= s.first) {
			continue
		}
		if inGap(gaps, time.Unix(0, must)) {
			f.Unseen++
			continue
		}
		f.Missing = append(f.Missing, fmt.Sprintf("%s %s %q used at %s: %+v", keys[i].token, keys[i].secret, keys[i].scope, time.Unix(0, must).UTC(), row))
	}
}

// inGap says whether a blind gap stands for a time. The request that was sent then
// may have been let pass up to a bucket later.
func inGap(gaps []token.Gap, at time.Time) bool {
	return slices.ContainsFunc(gaps, func(g token.Gap) bool { return !at.Before(g.From.Add(-bucket)) && !at.After(g.To) })
}

// endOf is the end of the bucket that a time lies in.
func endOf(at int64) int64 { return (at/int64(bucket) + 1) * int64(bucket) }
