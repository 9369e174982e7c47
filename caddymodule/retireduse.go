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
	// maxRetiredUses bounds how many tokens wait to be looked at. Uses beyond that
	// are passed over: whoever has the secret will come again. Those after which
	// nothing is revoked take half of it at most.
	maxRetiredUses = 256
	// maxNotedUses bounds of how many secrets it is kept that their use was noted
	// today, and with that how many of them one gateway notes in a day.
	maxNotedUses = 4096
	// retiredUseTries is how often it is tried to note a use before the next one has
	// to ask for it anew, and retiredUseWait how long to wait in between.
	retiredUseTries = 3
	retiredUseWait  = time.Second
	// retiredUseLimit is how long one try may take.
	retiredUseLimit = 5 * time.Second
)

// noteRetired is what is done about a use.
type noteRetired func(context.Context, authority.RetiredUse) (authority.RetiredUseResult, error)

// retiredUses has it noted that retired secrets were used, so that people are told
// and tokens are revoked where their policy wants it. It works one after another and
// behind the requests: a gate reports and goes on, and its answer is the same
// either way.
type retiredUses struct {
	queue  chan authority.RetiredUse
	cancel context.CancelFunc
	done   chan struct{}
	wait   time.Duration
	now    func() time.Time

	mu      sync.Mutex
	note    noteRetired           // as the newest configuration does it
	pending map[token.ID]struct{} // the tokens in the queue and at work
	noted   map[token.ID]struct{} // the secrets that are noted for the day
	day     time.Time
}

// startRetiredUses starts the work. What is to be done says serve.
func startRetiredUses(wait time.Duration, now func() time.Time) *retiredUses {
	u := &retiredUses{
		queue:   make(chan authority.RetiredUse, maxRetiredUses),
		done:    make(chan struct{}),
		wait:    wait,
		now:     now,
		pending: map[token.ID]struct{}{},
		noted:   map[token.ID]struct{}{},
	}
	var ctx context.Context
	ctx, u.cancel = context.WithCancel(context.Background())
	go u.run(ctx)
	return u
}

// byRetiredUse stands in the audit log for what follows from these uses.
var byRetiredUse = authority.By{Actor: tokenstore.Actor{Kind: tokenstore.SystemActor, Name: "retired_secret_used", Verified: true}}

// serve has uses noted by an authority from now on.
func (u *retiredUses) serve(a *authority.Authority) {
	u.noteBy(func(ctx context.Context, use authority.RetiredUse) (authority.RetiredUseResult, error) {
		return a.NoteRetiredUse(ctx, byRetiredUse, use)
	})
}

func (u *retiredUses) noteBy(f noteRetired) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.note = f
}

// report says that a retired secret was used. It never waits, and costs next to
// nothing when the use is noted already: an attacker may repeat it at will.
func (u *retiredUses) report(record *tokenstore.Record, address netip.Addr) {
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	room := maxRetiredUses
	if !record.Policy.RevokeOnRetiredUse {
		room /= 2
		if day := u.now().UTC().Truncate(24 * time.Hour); !day.Equal(u.day) {
			u.day = day
			clear(u.noted)
		}
		if _, ok := u.noted[record.Secret.ID]; ok || len(u.noted) >= maxNotedUses {
			return
		}
	}
	if _, ok := u.pending[record.Token.ID]; ok || len(u.pending) >= room {
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
			u.mu.Lock()
			day := u.day
			u.mu.Unlock()
			noted := u.carryOut(ctx, use)
			u.mu.Lock()
			if noted && day.Equal(u.day) { // or it may have been noted for the day before
				u.noted[use.SecretID] = struct{}{}
			}
			delete(u.pending, use.TokenID)
			u.mu.Unlock()
		}
	}
}

// carryOut tries until it is decided, and says whether the use is noted for today.
// What fails for good is left to the next use.
func (u *retiredUses) carryOut(ctx context.Context, use authority.RetiredUse) (noted bool) {
	for try := 1; ; try++ {
		u.mu.Lock()
		note := u.note
		u.mu.Unlock()
		limited, cancel := context.WithTimeout(ctx, retiredUseLimit)
		result, err := note(limited, use)
		cancel()
		var refusal *authority.Error
		if err == nil || errors.As(err, &refusal) || try == retiredUseTries {
			return err == nil && result == authority.RetiredUseNoted
		}
		timer := time.NewTimer(u.wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
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
