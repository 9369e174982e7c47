package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.jetify.com/typeid"
	"go.uber.org/zap"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/lifecycle"
	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// How often all tokens are looked at: once in a bucket of activity, since nothing
// follows from less, and often enough that a notice goes out on the day it is due.
const (
	longestRound  = 10 * time.Minute
	shortestRound = 500 * time.Millisecond
	// roundLimit ends a round that does not get anywhere. The next goes on from
	// what is stored.
	roundLimit = 30 * time.Minute
	// alarmAgain is when an alarm that still stands is logged again.
	alarmAgain = time.Hour
)

// steward runs the lifecycle for one configuration. During a reload two of them
// may run: each action is conditional, and the duty goes to one at a time.
type steward struct {
	lifecycle *lifecycle.Keeper
	activity  *activity
	store     tokenstore.Store
	logger    *zap.Logger
	sender    *notify.Sender
	cancel    context.CancelFunc
	done      chan struct{}
	once      sync.Once

	mu      sync.Mutex
	told    map[string]time.Time // alarms, by what they say
	held    int
	failed  error
	silent  bool // policies ask for notices, and there is no way to give them
	lastRun time.Time
}

// newID makes IDs that were never used.
func newID(prefix string) (token.ID, error) {
	id, err := typeid.WithPrefix(prefix)
	return token.ID(id.String()), err
}

// newSteward makes what looks after the tokens of an open store, and sends what
// people are to be told. A mailer that is nil sends no mail.
func newSteward(open *opened, prefixes []string, mailer *notify.Mailer, perMinute int, logger *zap.Logger) *steward {
	k := &steward{activity: open.activity, store: open.inner, logger: logger, done: make(chan struct{}), told: map[string]time.Time{}}
	k.sender = &notify.Sender{
		Store: open.management(), NewID: newID, Now: time.Now, PerMinute: perMinute,
		Webhooks: &notify.Webhooks{Store: open.inner, Ring: open.ring, Now: time.Now},
		Alarm: func(text string, notice token.ID) {
			k.alarm(lifecycle.Alarm{Kind: "notice", Text: text})
		},
	}
	if mailer != nil { // a nil *Mailer in an interface would not be nil
		k.sender.Mail = mailer
	}
	k.lifecycle = &lifecycle.Keeper{
		Store: open.management(), Authority: newAuthority(open.management(), open.ring, prefixes),
		Teller: &notify.Notifier{NewID: newID, Mail: mailer != nil},
		Holder: open.node.record.ID, NewID: newID, Alarm: k.alarm,
	}
	return k
}

// start begins. What was started is closed.
func (k *steward) start() {
	ctx, cancel := context.WithCancel(context.Background())
	k.cancel = cancel
	k.sender.Start()
	go k.run(ctx)
}

func (k *steward) run(ctx context.Context) {
	defer close(k.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		k.round(ctx)
		timer.Reset(max(shortestRound, min(k.activity.length(), longestRound)))
	}
}

// round is one look at all tokens. What fails is tried again by the next.
func (k *steward) round(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, roundLimit)
	defer cancel()
	err := k.activity.refresh(limited, k.store)
	var report lifecycle.Report
	silent := false
	if err == nil {
		report, err = k.lifecycle.Pass(limited)
	}
	if err == nil {
		silent, err = k.lifecycle.Silent(limited)
	}
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	k.mu.Lock()
	k.failed, k.lastRun = err, now
	if err == nil {
		k.held, k.silent = report.Held, silent
	}
	k.mu.Unlock()
	if err != nil {
		k.alarm(lifecycle.Alarm{Kind: "failed", Text: fmt.Sprintf("could not look after the tokens: %v", err)})
		return
	}
	k.sender.Kick()
	for kind, n := range report.Done {
		k.logger.Info("looked after tokens", zap.Stringer("action", kind), zap.Int("tokens", n))
	}
	if report.PutBack > 0 {
		k.logger.Warn("took back what turned out to have been wrong", zap.Int("tokens", report.PutBack))
	}
}

// alarm logs what an operator has to look at, and again only after a while.
func (k *steward) alarm(a lifecycle.Alarm) {
	now := time.Now()
	key := a.Kind + "\x00" + string(a.TokenID) + "\x00" + a.Text
	k.mu.Lock()
	last, known := k.told[key]
	again := !known || now.Sub(last) >= alarmAgain
	if again {
		if len(k.told) > 1000 {
			clear(k.told)
		}
		k.told[key] = now
	}
	k.mu.Unlock()
	if again {
		k.logger.Error(a.Text, zap.String("alarm", "lifecycle_"+a.Kind), zap.String("token_id", string(a.TokenID)))
	}
}

// check says how the lifecycle stands. None of it keeps requests from being served.
func (k *steward) check() api.Check {
	k.mu.Lock()
	defer k.mu.Unlock()
	check := api.Check{Name: "lifecycle", Status: api.Ready}
	switch {
	case k.failed != nil && !errors.Is(k.failed, tokenstore.ErrUnavailable):
		check.Status = api.Degraded
		check.Detail = "Tokens could not be looked after; the log says why. Nothing is narrowed or deleted meanwhile."
	case k.silent:
		// A warning: requests are served as they should be.
		check.Detail = "Policies have unused tokens narrowed or deleted, and there is neither mail nor a webhook to give notice by: nothing is done. Set mail, add a webhook, or set delete_unused and downgrade_unused to never."
	case k.held > 0:
		check.Status = api.Degraded
		check.Detail = fmt.Sprintf("%d tokens wait for the allowance of 24 hours: look at lifecycle plan.", k.held)
	}
	return check
}

// close waits until the round that runs has ended.
func (k *steward) close() {
	k.once.Do(func() {
		k.cancel()
		<-k.done
		_ = k.sender.Close()
		ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
		defer cancel()
		// If it fails, the next holder waits for the end of the term.
		_ = k.lifecycle.Resign(ctx)
	})
}
