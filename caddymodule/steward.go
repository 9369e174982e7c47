package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.jetify.com/typeid"
	"go.uber.org/zap"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/authority"
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
	webhooks  *notify.Webhooks
	declared  authority.Declarations
	cancel    context.CancelFunc
	running   sync.WaitGroup
	once      sync.Once

	mu     sync.Mutex
	told   map[string]time.Time // alarms, by what they say
	held   int
	failed error
	others []string // what gateways with another configuration declare otherwise
	silent bool     // policies ask for notices, and there is no way to give them
}

// newID makes IDs that were never used.
func newID(prefix string) (token.ID, error) {
	id, err := typeid.WithPrefix(prefix)
	return token.ID(id.String()), err
}

// newSteward makes what looks after the tokens of an open store, and sends what
// people are to be told. A mailer that is nil sends no mail.
func newSteward(open *opened, prefixes []string, mailer *notify.Mailer, teller *notify.Notifier, perMinute int, logger *zap.Logger) *steward {
	s := &steward{activity: open.activity, store: open.inner, logger: logger, told: map[string]time.Time{}}
	s.webhooks = &notify.Webhooks{Store: open.inner, Ring: open.ring, Now: time.Now}
	s.sender = &notify.Sender{
		Store: open.management(), NewID: newID, Now: time.Now, PerMinute: perMinute,
		Webhooks: s.webhooks,
		Alarm: func(text string, _ token.ID) {
			s.alarm(lifecycle.Alarm{Kind: "notice", Text: text})
		},
	}
	if mailer != nil { // a nil *Mailer in an interface would not be nil
		s.sender.Mail = mailer
	}
	s.lifecycle = &lifecycle.Keeper{
		Store: open.management(), Authority: newAuthority(open.management(), open.ring, prefixes, teller),
		Teller: teller,
		Holder: open.node.record.ID, NewID: newID, Alarm: s.alarm,
	}
	return s
}

// start begins. What was started is closed.
func (s *steward) start() {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.sender.Start()
	s.running.Go(func() { s.run(ctx) })
	s.running.Go(func() { s.startGraces(ctx) })
}

// startGraces lets the grace periods begin that the first use of a new secret starts,
// as soon as this gateway has told the store of uses. Those that others told of, while
// they were about to end, each pass finds.
func (s *steward) startGraces(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.activity.sink.used:
		}
		if err := s.lifecycle.StartGraces(ctx); err != nil && ctx.Err() == nil {
			s.alarm(lifecycle.Alarm{Kind: "failed", Text: fmt.Sprintf("could not start the grace periods of rotated tokens: %v", err)})
		}
	}
}

func (s *steward) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		s.round(ctx)
		timer.Reset(max(shortestRound, min(s.activity.length(), longestRound)))
	}
}

// round is one look at all tokens. What fails is tried again by the next.
func (s *steward) round(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, roundLimit)
	defer cancel()
	err := s.activity.refresh(limited, s.store)
	var report lifecycle.Report
	if err == nil {
		report, err = s.lifecycle.Pass(limited)
	}
	if err == nil {
		// After the primary changed where nobody asked for it (a node that had the old
		// ring, a copy of the store), so that no webhook keeps a key from being removed.
		err = s.lifecycle.Authority.RekeyWebhooks(limited, bySystem)
	}
	if err == nil {
		err = s.lifecycle.Authority.RekeyCodes(limited, bySystem)
	}
	var others []string
	if err == nil {
		others, err = s.lifecycle.Authority.DeclaredOtherwise(limited, bySystem, s.declared)
	}
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	s.failed = err
	if err == nil {
		s.held, s.silent, s.others = report.Held, report.Silent, others
	}
	s.mu.Unlock()
	if len(others) > 0 {
		s.alarm(lifecycle.Alarm{Kind: "configuration", Text: otherwise(others)})
	}
	if err != nil {
		s.alarm(lifecycle.Alarm{Kind: "failed", Text: fmt.Sprintf("could not look after the tokens: %v", err)})
		return
	}
	s.sender.Kick()
	for kind, n := range report.Done {
		s.logger.Info("looked after tokens", zap.Stringer("action", kind), zap.Int("tokens", n))
	}
	if report.PutBack > 0 {
		s.logger.Warn("took back what turned out to have been wrong", zap.Int("tokens", report.PutBack))
	}
}

// alarm logs what an operator has to look at, and again only after a while.
func (s *steward) alarm(a lifecycle.Alarm) {
	now := time.Now()
	key := a.Kind + "\x00" + string(a.TokenID) + "\x00" + a.Text
	s.mu.Lock()
	last, known := s.told[key]
	again := !known || now.Sub(last) >= alarmAgain
	if again {
		if len(s.told) > 1000 {
			clear(s.told)
		}
		s.told[key] = now
	}
	s.mu.Unlock()
	if again {
		s.logger.Error(a.Text, zap.String("alarm", "lifecycle_"+a.Kind), zap.String("token_id", string(a.TokenID)))
	}
}

// check says how the lifecycle stands. None of it keeps requests from being served.
func (s *steward) check() api.Check {
	s.mu.Lock()
	defer s.mu.Unlock()
	check := api.Check{Name: "lifecycle", Status: api.Ready}
	switch {
	case s.failed != nil && !errors.Is(s.failed, tokenstore.ErrUnavailable):
		check.Status = api.Degraded
		check.Detail = "Tokens could not be looked after; the log says why. Nothing is narrowed or deleted meanwhile."
	case s.silent:
		// A warning: requests are served as they should be.
		check.Detail = "Policies have unused tokens narrowed or deleted, and there is neither mail nor a webhook to give notice by: nothing is done. Set mail, add a webhook, or set delete_unused and downgrade_unused to never."
	case s.held > 0:
		check.Status = api.Degraded
		check.Detail = fmt.Sprintf("%d tokens wait for the allowance of 24 hours: look at lifecycle plan.", s.held)
	}
	return check
}

// maxOthers is how many names one message has.
const maxOthers = 10

func otherwise(names []string) string {
	more := ""
	if len(names) > maxOthers {
		names, more = names[:maxOthers], ", and more"
	}
	return fmt.Sprintf("Another gateway of this store declares these otherwise, and what was declared last holds for all of them: %s%s. Give every gateway the same sallyport options, and reload.",
		strings.Join(names, ", "), more)
}

// configurationCheck says whether all gateways declare the same. None of it keeps
// requests from being served.
func (s *steward) configurationCheck() api.Check {
	s.mu.Lock()
	defer s.mu.Unlock()
	check := api.Check{Name: "configuration", Status: api.Ready}
	if len(s.others) > 0 {
		check.Status, check.Detail = api.Degraded, otherwise(s.others)
	}
	return check
}

// close waits until the round that runs has ended.
func (s *steward) close() {
	s.once.Do(func() {
		s.cancel()
		s.running.Wait()
		_ = s.sender.Close()
		ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
		defer cancel()
		// If it fails, the next holder waits for the end of the term.
		_ = s.lifecycle.Resign(ctx)
	})
}
