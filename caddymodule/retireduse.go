package caddymodule

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

const (
	// maxRetiredUses bounds how many tokens wait to be revoked. Uses beyond that
	// are passed over: whoever has the secret will come again.
	maxRetiredUses = 256
	// retiredUseTries is how often a revocation is tried before the next use has
	// to ask for it anew, and retiredUseWait how long to wait in between.
	retiredUseTries = 3
	retiredUseWait  = time.Second
	// retiredUseLimit is how long one try may take.
	retiredUseLimit = 5 * time.Second
)

// retiredUses revokes tokens whose retired secrets were used, where their policy
// wants it, one after another and behind the requests: a gate reports and goes
// on, and its answer is the same either way.
type retiredUses struct {
	revoke func(context.Context, authority.RetiredUse) error
	queue  chan authority.RetiredUse
	cancel context.CancelFunc
	done   chan struct{}
	wait   time.Duration

	mu      sync.Mutex
	pending map[token.ID]struct{} // the tokens in the queue and at work
}

func startRetiredUses(revoke func(context.Context, authority.RetiredUse) error, wait time.Duration) *retiredUses {
	u := &retiredUses{
		revoke:  revoke,
		queue:   make(chan authority.RetiredUse, maxRetiredUses),
		done:    make(chan struct{}),
		wait:    wait,
		pending: map[token.ID]struct{}{},
	}
	var ctx context.Context
	ctx, u.cancel = context.WithCancel(context.Background())
	go u.run(ctx)
	return u
}

// byRetiredUse stands in the audit log for these revocations.
var byRetiredUse = authority.By{Actor: tokenstore.Actor{Kind: tokenstore.SystemActor, Name: "retired_secret_used", Verified: true}}

func revokeRetiredUse(a *authority.Authority) func(context.Context, authority.RetiredUse) error {
	return func(ctx context.Context, use authority.RetiredUse) error {
		_, err := a.RevokeForRetiredUse(ctx, byRetiredUse, use)
		return err
	}
}

// report asks for a revocation. It never waits.
func (u *retiredUses) report(record *tokenstore.Record, address netip.Addr) {
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.pending[record.Token.ID]; ok || len(u.pending) >= maxRetiredUses {
		return
	}
	u.pending[record.Token.ID] = struct{}{}
	// There is room: the queue holds no more than is pending.
	u.queue <- authority.RetiredUse{TokenID: record.Token.ID, SecretID: record.Secret.ID, Address: address}
}

func (u *retiredUses) run(ctx context.Context) {
	defer close(u.done)
	for {
		select {
		case <-ctx.Done():
			return
		case use := <-u.queue:
			u.carryOut(ctx, use)
			u.mu.Lock()
			delete(u.pending, use.TokenID)
			u.mu.Unlock()
		}
	}
}

// carryOut tries until it is decided. What fails for good is left to the next use.
func (u *retiredUses) carryOut(ctx context.Context, use authority.RetiredUse) {
	for try := 1; ; try++ {
		limited, cancel := context.WithTimeout(ctx, retiredUseLimit)
		err := u.revoke(limited, use)
		cancel()
		var refusal *authority.Error
		if err == nil || errors.As(err, &refusal) || try == retiredUseTries {
			return
		}
		timer := time.NewTimer(u.wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// close ends the work and waits for it. It may be called twice.
func (u *retiredUses) close() {
	if u == nil {
		return
	}
	u.cancel()
	<-u.done
}
