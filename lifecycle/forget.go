package lifecycle

import (
	"context"
	"errors"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// How long what nobody needs is kept, by the store's clock.
const (
	// NoticesKept is for how long a message can be looked up after it was dealt with.
	NoticesKept = 90 * 24 * time.Hour
	// runsKept is how much observed time is kept beyond the longest window of any
	// policy, so that what a plan was made from can still be looked at for a while.
	runsKept = 90 * 24 * time.Hour
	// nodeKept is after which time without a report a gateway that owes nothing goes
	// off the list: longer than any that lives is silent, and than clocks differ.
	nodeKept = time.Hour
	// forgetAgain is how far the horizon must have moved before runs are dropped again.
	forgetAgain = 24 * time.Hour
)

// How much one transaction, and one pass, removes. Whatever is left is for the next
// pass, so that a store that was never tidied does not stop everybody who writes.
const (
	forgetRuns    = 200
	forgetNotices = 500
	forgetBatches = 20
)

// forget removes what nothing can follow from any more. It is no change to any
// token, and needs no audit entry.
func (p *pass) forget(ctx context.Context) error {
	if err := p.forgetRuns(ctx); err != nil {
		return err
	}
	return p.forgetNotices(ctx)
}

// forgetRuns drops the runs that no window reaches back to, and takes gateways off
// the list that are gone and owe nothing.
func (p *pass) forgetRuns(ctx context.Context) error {
	idle := false
	err := p.Store.Read(ctx, func(tx *tokenstore.Tx) error {
		runs, nodes, _, err := p.forgettable(tx)
		idle = err == nil && len(nodes) == 0 && len(runs) == 0
		return err
	})
	if err != nil || idle {
		return err
	}
	return p.Store.Write(ctx, func(tx *tokenstore.Tx) error {
		if err := p.still(tx); err != nil {
			return err
		}
		runs, nodes, horizon, err := p.forgettable(tx)
		if err != nil {
			return err
		}
		for _, id := range nodes {
			if err := tx.DeleteNode(id); err != nil && !errors.Is(err, tokenstore.ErrNotFound) {
				return err
			}
		}
		if len(runs) == 0 {
			return nil
		}
		for _, id := range runs {
			if err := tx.DropRun(id); err != nil {
				return err
			}
		}
		return p.floor(tx, horizon)
	})
}

// forgettable lists the runs and gateways that can go. Without a run the horizon says
// nothing.
func (p *pass) forgettable(tx *tokenstore.Tx) (drop []token.ID, gone []string, horizon time.Time, err error) {
	runs, err := tx.Runs()
	if err != nil {
		return nil, nil, time.Time{}, err
	}
	if gone, err = p.gone(tx, runs); err != nil {
		return nil, nil, time.Time{}, err
	}
	policies, err := tx.Policies()
	if err != nil {
		return nil, nil, time.Time{}, err
	}
	gaps, ends, err := tx.GapsAndEnds()
	if err != nil {
		return nil, nil, time.Time{}, err
	}
	window := longest(policies)
	var limit time.Time
	if !p.announced.IsZero() {
		limit = p.announced.Add(-window) // the window that a notice was given for
	}
	horizon, drop = token.Forgettable(runs, gaps, ends, p.now, window+runsKept, limit)
	if len(drop) > forgetRuns {
		drop = drop[:forgetRuns]
	}
	for _, g := range gaps {
		// There is always the floor itself to drop, which gains nothing.
		if g.Reason == token.GapForgotten && len(drop) < forgetRuns && horizon.Before(g.From.Add(forgetAgain)) {
			return nil, gone, time.Time{}, nil
		}
	}
	return drop, gone, horizon, nil
}

// floor makes all that was before a time count as not observed: what is left of it
// does not tell any more what was dropped. Blind time can only keep a token longer.
func (p *pass) floor(tx *tokenstore.Tx, horizon time.Time) error {
	return p.blind(tx, horizon, token.Gap{From: horizon, To: horizon, Reason: token.GapForgotten})
}

// gone lists the gateways that were not heard of for long and owe nothing: they
// died without taking themselves off the list, and all that they saw is known or
// accepted as lost. One that owes stays until it comes back or is retired.
func (p *pass) gone(tx *tokenstore.Tx, runs []token.Run) ([]string, error) {
	nodes, err := tx.Nodes()
	if err != nil {
		return nil, err
	}
	owes := map[string]bool{}
	for i := range runs {
		if runs[i].State(p.now).Owes() {
			owes[runs[i].Node] = true
		}
	}
	var list []string
	for _, n := range nodes {
		if !owes[n.ID] && n.ID != p.Holder && p.now.Sub(n.SeenAt) > nodeKept {
			list = append(list, n.ID)
		}
	}
	return list, nil
}

// longest is the longest window that any policy has in force.
func longest(policies []token.Policy) time.Duration {
	var most time.Duration
	for i := range policies {
		most = max(most, policies[i].DeleteUnused, policies[i].DowngradeUnused)
	}
	return most
}

// standing notes since when a token's notices stand.
func (p *pass) standing(s *token.Subject) {
	for i := range s.Notices {
		n := &s.Notices[i]
		if n.Voided || !n.Kind.Capped() {
			continue
		}
		if p.announced.IsZero() || n.Created.Before(p.announced) {
			p.announced = n.Created
		}
	}
}

// forgetNotices removes messages that were dealt with long ago. It goes on where the
// pass before stopped, so that however many have to stay, it comes past them.
func (p *pass) forgetNotices(ctx context.Context) error {
	before := p.now.Add(-NoticesKept)
	var after token.ID
	if at := p.pruned.Load(); at != nil {
		after = *at
	}
	defer func() { p.pruned.Store(&after) }()
	for range forgetBatches {
		old := false
		err := p.Store.Read(ctx, func(tx *tokenstore.Tx) (err error) {
			old, err = tx.NoticesBetween(after, before)
			return err
		})
		if err != nil {
			return err
		}
		if !old {
			after = ""
			return nil
		}
		var next token.ID
		err = p.Store.Write(ctx, func(tx *tokenstore.Tx) (err error) {
			if err := p.still(tx); err != nil {
				return err
			}
			_, next, err = tx.PruneNotices(after, before, forgetNotices)
			return err
		})
		if err != nil {
			return err
		}
		if after = next; next == "" {
			return nil
		}
	}
	return nil
}
