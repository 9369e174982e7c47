package caddymodule

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/cached"
)

const (
	// reassertLimit bounds each transaction of a reassertion.
	reassertLimit = 30 * time.Second
	// What failed is tried again after a time between these, doubling.
	reassertRetryMin = time.Second
	reassertRetryMax = 30 * time.Second
)

// reassertion writes what this gateway saw to end into the store again when the
// store was put back to an earlier state: a backup was restored, or a standby took
// over that had not got everything. The gateway itself goes on refusing what it
// saw to end, but one that starts later knows only what the store says.
//
// Every gateway of a fleet does it by itself, since each may know of something
// that the others missed.
type reassertion struct {
	store     *cached.Store
	authority *authority.Authority
	by        authority.By

	wake chan struct{}
	told uint64 // the replacement that the log told of
	done authority.Reasserted
	// failing is set while what has to be written can not be written.
	failing atomic.Bool

	cancel context.CancelFunc
	ended  chan struct{}
	once   sync.Once
}

// newReassertion makes one that waits to be started.
func newReassertion() *reassertion {
	return &reassertion{wake: make(chan struct{}, 1), ended: make(chan struct{}), cancel: func() {}}
}

// notice is told of every resync of the feed. It does not block.
func (r *reassertion) notice(_, _ tokenstore.Position) {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// start begins to wait for replacements of the store.
func (r *reassertion) start(store *cached.Store, a *authority.Authority, node string) {
	r.store, r.authority = store, a
	r.by = authority.By{Actor: tokenstore.Actor{Kind: tokenstore.SystemActor, Name: node, Verified: true}}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background())
	go r.run(ctx)
}

// close ends it. What was not written is written by the other gateways, as far as
// they know of it.
func (r *reassertion) close() {
	r.once.Do(func() {
		r.cancel()
		<-r.ended
	})
}

func (r *reassertion) run(ctx context.Context) {
	defer close(r.ended)
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		for wait := reassertRetryMin; ; wait = min(2*wait, reassertRetryMax) {
			replaced, ok := r.store.Replacement()
			if !ok {
				break
			}
			if err := r.settle(ctx, replaced); err == nil {
				wait = reassertRetryMin / 2 // it may have been replaced once more
				continue
			} else if ctx.Err() == nil {
				r.failing.Store(true)
				caddy.Log().Named("sallyport").Error("could not write what had ended into the restored store; it is tried again", zap.Error(err))
			}
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
			case <-r.wake:
			case <-timer.C:
			}
			timer.Stop()
			if ctx.Err() != nil {
				return
			}
		}
	}
}

// settle writes all that is known to have ended.
func (r *reassertion) settle(ctx context.Context, replaced cached.Replacement) error {
	log := caddy.Log().Named("sallyport")
	if r.told != replaced.Number {
		r.told, r.done = replaced.Number, authority.Reasserted{}
		log.Error("the store was put back to an earlier state: a backup was restored, or a standby took over that had not got everything. "+
			"What this gateway saw to end stays refused, and is written into the store again; other changes since then are lost",
			zap.Int64("restored_at_most_to_change", replaced.To.Seq), zap.Int64("seen_up_to_change", replaced.From.Seq),
			zap.Int64("ends_known_from_change", replaced.EndsFrom), zap.String("epoch", replaced.To.Epoch))
	}
	batch := make([]tokenstore.Change, 0, authority.ReassertBatch)
	flush := func() error {
		ctx, cancel := context.WithTimeout(ctx, reassertLimit)
		defer cancel()
		done, err := r.authority.Reassert(ctx, r.by, batch)
		r.done.Add(done)
		batch = batch[:0]
		return err
	}
	for ended := range r.store.Ended() {
		if batch = append(batch, ended); len(batch) < authority.ReassertBatch {
			continue
		}
		if err := flush(); err != nil {
			return err
		}
	}
	if err := flush(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reassertLimit)
	defer cancel()
	err := r.authority.NoteRestore(ctx, r.by, authority.Restore{
		From: replaced.From, To: replaced.To, EndsFrom: replaced.EndsFrom, Done: r.done,
	})
	if err != nil {
		return err
	}
	r.store.Reasserted(replaced.Number)
	r.failing.Store(false)
	log.Warn("what this gateway had seen to end is in the restored store again: see the audit log, store.reassert and token.reassert",
		zap.Int("tokens_revoked", r.done.Tokens), zap.Int("secrets_retired", r.done.Secrets))
	return nil
}

// check says how it stands.
func (r *reassertion) check() api.Check {
	check := api.Check{Name: "restore", Status: api.Ready}
	replaced, ok := r.store.Replacement()
	if !ok {
		return check
	}
	check.Status = api.Degraded
	check.Detail = fmt.Sprintf("The store was put back to an earlier state, change %d at most; this gateway had seen change %d. "+
		"What ended from change %d to %[2]d is known, stays refused, and is being written into the store again; of what ended later or before nothing is known here, and other changes are lost. "+
		"Look at the audit log: store.epoch, store.reassert, token.reassert.",
		replaced.To.Seq, replaced.From.Seq, replaced.EndsFrom)
	if r.failing.Load() {
		check.Detail += " Writing has failed so far and is tried again; the log says why."
	}
	return check
}
