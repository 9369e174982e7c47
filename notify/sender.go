package notify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Carrier takes one copy to its recipient. It returns within a bounded time,
// whatever the other side does, and soon after ctx ends. It may be called
// concurrently.
type Carrier interface {
	Carry(ctx context.Context, n *tokenstore.Notice) Outcome
}

// Sender takes messages out of the outbox. Any number of gateways may run one over
// the same store. Its fields are set once, before use.
type Sender struct {
	Store tokenstore.Store
	// Mail and Webhooks carry the copies of their channel; nil: those wait.
	Mail, Webhooks Carrier
	// NewID makes an ID with a prefix that was never used.
	NewID func(prefix string) (token.ID, error)
	// Now measures the rate. When messages are due is told by the store's clock.
	Now func() time.Time
	// Chance gives numbers from 0 to 1; default: random ones.
	Chance func() float64
	// Alarm is told what an operator has to look at. It must not block. The notice
	// is empty when it is about none in particular.
	Alarm func(text string, notice token.ID)
	// PerMinute is how many messages are sent at most; default 600.
	PerMinute int
	// Workers is how many are sent at a time; default 4.
	Workers int
	// Poll is how often the outbox is looked at; default 2 seconds.
	Poll time.Duration
	// FirstRetry is how long after the first attempt the second follows; default 1 minute.
	FirstRetry time.Duration
	// Lease is how long others leave alone what this one has claimed. It must be
	// longer than a batch takes; default 15 minutes.
	Lease time.Duration

	passing sync.Mutex // one pass at a time
	pace    pace
	holds   holds

	running sync.Mutex
	stop    context.CancelFunc
	done    chan struct{}
	kicks   chan struct{}
	once    sync.Once
}

const (
	defaultPerMinute  = 600
	defaultWorkers    = 4
	defaultPoll       = 2 * time.Second
	defaultFirstRetry = time.Minute
	defaultLease      = 15 * time.Minute
	// perWorker is how many messages of a batch each worker has: few, so that an
	// urgent message waits for a short batch only.
	perWorker = 4
	// settleWithin bounds how long it is tried to store what became of an
	// attempt. It is spent also while closing: what is forgotten is sent twice.
	settleWithin = 5 * time.Second
)

func orDefault[T int | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// SendDue sends what is due now, as far as the rate allows, and gives how many
// attempts it made. It needs no Start.
func (s *Sender) SendDue(ctx context.Context) (n int, err error) {
	s.passing.Lock()
	defer s.passing.Unlock()
	for ctx.Err() == nil {
		limit := min(orDefault(s.Workers, defaultWorkers)*perWorker, s.pace.left(s.Now(), orDefault(s.PerMinute, defaultPerMinute)))
		if limit == 0 {
			return n, nil
		}
		batch, err := s.claim(ctx, limit)
		if err != nil || len(batch) == 0 {
			return n, err
		}
		s.pace.spend(len(batch))
		n += len(batch)
		if err := s.sendAll(ctx, batch); err != nil {
			return n, err
		}
	}
	return n, ctx.Err()
}

// claim takes messages for this sender alone, and commits that before any is sent.
func (s *Sender) claim(ctx context.Context, limit int) ([]tokenstore.Notice, error) {
	var due bool
	err := s.Store.Read(ctx, func(tx *tokenstore.Tx) error {
		now, err := tx.Time()
		if err != nil {
			return err
		}
		due, err = tx.NoticesDue(now)
		return err
	})
	if err != nil || !due {
		return nil, err
	}
	claim, err := s.NewID("clm")
	if err != nil {
		return nil, err
	}
	var batch []tokenstore.Notice
	err = s.Store.Write(ctx, func(tx *tokenstore.Tx) error {
		now, err := tx.Time()
		if err != nil {
			return err
		}
		batch, err = tx.ClaimNotices(string(claim), now, now.Add(orDefault(s.Lease, defaultLease)), limit)
		return err
	})
	return batch, err
}

func (s *Sender) sendAll(ctx context.Context, batch []tokenstore.Notice) error {
	var (
		work  = make(chan *tokenstore.Notice)
		group sync.WaitGroup
		mu    sync.Mutex
		errs  []error
	)
	for range min(orDefault(s.Workers, defaultWorkers), len(batch)) {
		group.Go(func() {
			for n := range work {
				if err := s.send(ctx, n); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	for i := range batch {
		work <- &batch[i]
	}
	close(work)
	group.Wait()
	return errors.Join(errs...)
}

// send makes one attempt and stores what became of it.
func (s *Sender) send(ctx context.Context, n *tokenstore.Notice) error {
	way := wayOf(n)
	var o Outcome
	wait, held := s.holds.left(way, s.Now())
	switch {
	case ctx.Err() != nil:
		o = Outcome{Cut: true, Problem: "the gateway was stopping"}
	case n.Recipient == nobody:
		held = false
		o = s.look(ctx, n)
	case held:
		o = Outcome{Problem: "not tried, since others that go the same way just failed"}
	default:
		o = s.carry(ctx, n)
		if !o.Accepted && ctx.Err() != nil {
			o.Cut = true
		}
		if !o.Cut {
			s.holds.note(way, o.Down, s.Now(), s.firstRetry())
		}
	}
	if !held {
		wait = delay(s.firstRetry(), n.Attempts, s.chance())
	} else {
		wait += time.Duration(float64(s.firstRetry()) * s.chance())
	}
	return s.store(ctx, n, &o, min(wait, maxDelay))
}

// look writes the copies of a notice that had no recipients, if it has some by now.
// A crash before this is settled looks again, and finds the same ones.
func (s *Sender) look(ctx context.Context, n *tokenstore.Notice) Outcome {
	told := 0
	err := s.Store.Write(ctx, func(tx *tokenstore.Tx) (err error) {
		o := Notifier{NewID: s.NewID, Mail: s.Mail != nil}
		m := Message{Event: n.Event, AccountID: n.AccountID, TokenID: n.TokenID, PlanID: n.PlanID}
		told, err = o.copies(tx, &m, n.Facts)
		return err
	})
	switch {
	case err != nil:
		return Outcome{Problem: "the recipients could not be looked up"}
	case told == 0:
		return Outcome{Problem: problemNobody}
	default:
		return Outcome{Gone: true, Problem: "there was nobody to tell at first; others carry the notice now"}
	}
}

// wayOf is what messages have in common that fail for the same reason.
func wayOf(n *tokenstore.Notice) string {
	if n.Channel == ChannelWebhook {
		return n.Recipient
	}
	return n.Channel
}

func (s *Sender) carry(ctx context.Context, n *tokenstore.Notice) Outcome {
	carrier := s.Mail
	if n.Channel == ChannelWebhook {
		carrier = s.Webhooks
	}
	if carrier == nil {
		return Outcome{Problem: fmt.Sprintf("this gateway has nothing to send a %s with", n.Channel)}
	}
	return carrier.Carry(ctx, n)
}

// store settles an attempt. It goes on for a while when the store fails or the
// sender is closed: an acceptance that is not stored is a second message.
func (s *Sender) store(ctx context.Context, n *tokenstore.Notice, o *Outcome, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	for pause := 50 * time.Millisecond; ; pause *= 2 {
		var text string
		err := s.Store.Write(ctx, func(tx *tokenstore.Tx) error {
			now, err := tx.Time()
			if err != nil {
				return err
			}
			var settled tokenstore.Notice
			settled, text = settle(*n, o, now, wait)
			return tx.SettleNotice(settled)
		})
		if errors.Is(err, tokenstore.ErrNotFound) {
			// Called off meanwhile, or we were away so long that another one sends it.
			return nil
		}
		if err == nil {
			if text != "" {
				s.alarm(text, n.ID)
			}
			return nil
		}
		if !errors.Is(err, tokenstore.ErrUnavailable) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

func (s *Sender) firstRetry() time.Duration { return orDefault(s.FirstRetry, defaultFirstRetry) }

func (s *Sender) chance() float64 {
	if s.Chance == nil {
		return rand.Float64()
	}
	return s.Chance()
}

func (s *Sender) alarm(text string, notice token.ID) {
	if s.Alarm != nil {
		s.Alarm(text, notice)
	}
}

// Start sends what comes until Close. It may be called once.
func (s *Sender) Start() {
	s.running.Lock()
	defer s.running.Unlock()
	if s.done != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop, s.done = cancel, make(chan struct{})
	go s.run(ctx)
}

// Close ends what Start began and waits for it; it may be called twice. A message
// that is on its way is broken off, and sent again after the next Start.
func (s *Sender) Close() error {
	s.running.Lock()
	defer s.running.Unlock()
	if s.done == nil {
		closed := make(chan struct{})
		close(closed)
		s.stop, s.done = func() {}, closed // it can not be started any more
	}
	s.stop()
	<-s.done
	return nil
}

// Kick says that something was just written to the outbox. It never blocks.
func (s *Sender) Kick() {
	select {
	case s.kicked() <- struct{}{}:
	default:
	}
}

func (s *Sender) kicked() chan struct{} {
	s.once.Do(func() { s.kicks = make(chan struct{}, 1) })
	return s.kicks
}

func (s *Sender) run(ctx context.Context) {
	defer close(s.done)
	ticker := time.NewTicker(orDefault(s.Poll, defaultPoll))
	defer ticker.Stop()
	failing := false
	for {
		_, err := s.SendDue(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failing {
			s.alarm(fmt.Sprintf("notices can not be sent: %v", err), "")
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-s.kicked():
		}
	}
}
