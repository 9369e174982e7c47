package cached

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/tokenstore"
)

const (
	// pollWait is how long a request waits for the feed. Past it the rule for a
	// store that cannot be reached applies.
	pollWait = 250 * time.Millisecond
	// pollTimeout is how long one reading of the feed may take. It is longer than
	// pollWait so that a slow store can still be followed.
	pollTimeout = 2 * time.Second
	// pollAgain is when the feed is read again after that failed. A store knows by
	// itself how often it may be knocked at; here it is to be noticed that it is back.
	pollAgain = 100 * time.Millisecond
	// never is an uptime before all others.
	never = math.MinInt64
)

// feed follows the change feed. At most one reading runs at a time, and whoever
// needs one shares it.
type feed struct {
	// at is the uptime at which the newest successful reading began: all that
	// was committed by then is known here. failedAt is when the newest reading
	// failed; never, if it did not.
	at, failedAt atomic.Int64

	mu       sync.Mutex
	running  *reading
	begun    uint64 // readings so far
	required uint64 // readings before this one cannot make the position fresh
	position tokenstore.Position
	syncedAt time.Time
}

// reading is one reading of the feed, under way or done.
type reading struct {
	number uint64
	began  time.Duration
	done   chan struct{}
	err    error // to be read after done
}

// age is how old the position is.
func (s *Store) age() time.Duration {
	at := s.feed.at.Load()
	if at == never {
		return math.MaxInt64
	}
	return s.options.Uptime() - time.Duration(at)
}

// Age is for how long changes may have been missed: the age of the feed's
// position, on the clock that counts suspension.
func (s *Store) Age() time.Duration { return s.age() }

// fresh says whether the position is young enough to answer from memory; if it
// is not, the feed is read, once for all who ask. While the store is known to be
// out of reach nobody waits: the follower keeps trying, and requests go on at
// their usual speed under the rule for stale positions.
func (s *Store) fresh(ctx context.Context) bool {
	if s.age() <= s.options.FreshFor {
		return true
	}
	now := s.options.Uptime()
	if failed := s.feed.failedAt.Load(); failed != never && now-time.Duration(failed) < s.options.FreshFor {
		return false
	}
	s.feed.mu.Lock()
	if s.age() <= s.options.FreshFor {
		s.feed.mu.Unlock() // a reading has just ended
		return true
	}
	r := s.read()
	s.feed.mu.Unlock()
	wait := time.NewTimer(r.began + pollWait - now)
	defer wait.Stop()
	select {
	case <-r.done:
	case <-wait.C:
	case <-ctx.Done():
	}
	return s.age() <= s.options.FreshFor
}

// Sync returns when all that was committed before the call has been taken in.
func (s *Store) Sync(ctx context.Context) error {
	if !s.enter() {
		return errClosed
	}
	defer s.leave()
	if !s.started.Load() {
		return errNotStarted
	}
	return s.sync(ctx)
}

func (s *Store) sync(ctx context.Context) error {
	s.feed.mu.Lock()
	need := s.feed.begun + 1
	s.feed.mu.Unlock()
	for {
		s.feed.mu.Lock()
		r := s.read()
		s.feed.mu.Unlock()
		select {
		case <-r.done:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", tokenstore.ErrUnavailable, context.Cause(ctx))
		}
		if r.number >= need {
			return r.err
		}
	}
}

// Wake has the feed read soon, because something is said to have changed. It
// does not wait.
func (s *Store) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// follow reads the feed at intervals until the store is closed.
func (s *Store) follow() {
	defer s.tasks.Done()
	var wakes <-chan struct{} // nil, which never gives anything, for a store that hears nothing
	if w, ok := s.inner.(tokenstore.Waker); ok {
		wakes = w.Wakes()
	}
	timer := time.NewTimer(s.options.Poll)
	defer timer.Stop()
	for {
		select {
		case <-s.root.Done():
			return
		case <-s.wake:
		case _, more := <-wakes:
			if !more {
				wakes = nil // closed, it would give for ever
			}
		case <-timer.C:
		}
		// What keeps the feed from being read shows in its age.
		wait := s.options.Poll
		if s.sync(s.root) != nil {
			wait = min(wait, pollAgain)
		}
		timer.Reset(wait)
	}
}

// catchUp takes in this node's own change, so that it holds for the next request
// here when the writer gets an answer. If the feed cannot be read now, the next
// request tries before it is answered.
func (s *Store) catchUp() {
	ctx, cancel := context.WithTimeout(s.root, pollTimeout)
	defer cancel()
	if s.sync(ctx) == nil {
		return
	}
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	s.feed.required = s.feed.begun + 1
	if at := s.feed.at.Load(); at != never {
		s.feed.at.Store(min(at, int64(s.options.Uptime()-s.options.FreshFor-1)))
	}
	s.feed.failedAt.Store(never)
}

// read joins the reading under way, or begins one. The caller has entered, and
// holds the feed's lock.
func (s *Store) read() *reading {
	f := &s.feed
	if f.running != nil {
		return f.running
	}
	f.begun++
	r := &reading{number: f.begun, began: s.options.Uptime(), done: make(chan struct{})}
	f.running = r
	after := f.position // nobody else moves it while this reading runs
	s.tasks.Add(1)
	go func() {
		defer s.tasks.Done()
		next, err := s.takeIn(after)
		s.finish(r, next, err)
	}()
	return r
}

// finish publishes what a reading came to. What it learned is in place already.
func (s *Store) finish(r *reading, next tokenstore.Position, err error) {
	f := &s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	r.err = err
	f.position = next
	if err != nil {
		s.counts.pollErrors.Add(1)
		f.failedAt.Store(int64(s.options.Uptime()))
	} else {
		f.syncedAt = s.options.Now()
		if r.number >= f.required {
			f.at.Store(int64(r.began))
		}
		f.failedAt.Store(never)
	}
	f.running = nil
	close(r.done)
}

// takeIn reads all that follows a position, and learns it. It gives the position
// up to which it came, also when it failed.
func (s *Store) takeIn(after tokenstore.Position) (at tokenstore.Position, err error) {
	at = after
	ctx, cancel := context.WithTimeout(s.root, pollTimeout)
	defer cancel()
	defer recovered(&err)
	for {
		changes, err := s.inner.Changes(ctx, at)
		if err != nil {
			return at, unavailable("read the change feed", err)
		}
		follows := changes.Complete && inOrder(at, &changes)
		if follows && changes.At == at {
			return at, nil
		}
		if err := s.learn(ctx, at, &changes, follows); err != nil {
			return at, err
		}
		if !follows {
			// An answer that is not complete tells where the feed ends.
			s.counts.resyncs.Add(1)
			s.chill()
			if s.options.OnResync != nil {
				s.options.OnResync(at, changes.At)
			}
			return changes.At, nil
		}
		// A long answer may have been cut: only one without news is the last.
		at = changes.At
	}
}

// learn takes one answer of the feed in. It may run again for the same answer.
func (s *Store) learn(ctx context.Context, after tokenstore.Position, changes *tokenstore.Changes, follows bool) error {
	if follows {
		s.known.learn(changes.List)
	}
	secrets, keys := !follows, !follows
	for i := range changes.List {
		switch c := &changes.List[i]; c.Kind {
		case tokenstore.SecretKind:
			secrets = secrets || !c.Final
		case tokenstore.MasterKeyKind:
			keys = true
		default: // a mark says all
		}
	}
	if keys {
		// If this fails the position stays, and the next reading tries again.
		if err := s.readPrimary(ctx); err != nil {
			return err
		}
	}
	if secrets || keys {
		s.unknown.forget()
	}
	if !follows {
		if replacedBy(after, changes.At) {
			s.noteReplacement(after, changes.At)
		}
		s.known.forget(changes.List)
	}
	return nil
}

// inOrder checks what a feed promises: every number after the position, in order,
// none left out. One that breaks it has lost something.
func inOrder(after tokenstore.Position, c *tokenstore.Changes) bool {
	if c.At.Epoch != after.Epoch {
		return false
	}
	seq := after.Seq
	for i := range c.List {
		// Changes of one transaction share a number.
		if next := c.List[i].Seq; next == seq+1 || next == seq && i > 0 {
			seq = next
			continue
		}
		return false
	}
	return seq == c.At.Seq
}

// primary is the master key that lookups are made with. held is false when the
// store names one that this node lacks: what is not found then proves nothing.
type primary struct {
	id   string
	held bool
}

// readPrimary asks the store which master key is the primary one. A store that
// names none is new, and will take the ring's first.
func (s *Store) readPrimary(ctx context.Context) error {
	var id string
	err := s.inner.Read(ctx, func(tx *tokenstore.Tx) (err error) {
		id, err = tx.PrimaryKey()
		return err
	})
	if err != nil {
		return unavailable("read the primary master key", err)
	}
	switch old := s.primary.Load(); {
	case id == "":
		s.primary.Store(&primary{id: s.ring.IDs()[0], held: true})
	case s.ring.Has(id):
		s.primary.Store(&primary{id: id, held: true})
	case old != nil:
		s.primary.Store(&primary{id: old.id})
	default:
		return fmt.Errorf("master key %q is the store's primary and is missing: add its line back to the master key file", id)
	}
	return nil
}

// startFeed finds where the feed stands.
func (s *Store) startFeed(ctx context.Context) error {
	began := s.options.Uptime()
	// No store has this epoch, so the answer is where the feed ends now, without
	// all that led there.
	changes, err := s.inner.Changes(ctx, tokenstore.Position{Epoch: "none"})
	if err != nil {
		return unavailable("read the change feed", err)
	}
	if err := s.readPrimary(ctx); err != nil {
		return err
	}
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	s.feed.position, s.feed.syncedAt = changes.At, s.options.Now()
	s.feed.at.Store(int64(began))
	s.endsFrom.Store(changes.At.Seq + 1)
	return nil
}

// recovered turns a panic into an error. It runs on goroutines of the cache,
// where nothing above would keep the process from ending. The error says where
// it happened by names and lines only: a full stack shows arguments too.
func recovered(err *error) {
	p := recover()
	if p == nil {
		return
	}
	var where strings.Builder
	calls := make([]uintptr, 12)
	frames := runtime.CallersFrames(calls[:runtime.Callers(3, calls)])
	for {
		frame, more := frames.Next()
		fmt.Fprintf(&where, "; %s:%d", frame.Function, frame.Line)
		if !more {
			break
		}
	}
	*err = fmt.Errorf("%w: panic: %v%s", tokenstore.ErrUnavailable, p, where.String())
}

// unavailable wraps whatever kept the store from answering. The message of a
// store names no secrets: it never sees one.
func unavailable(doing string, err error) error {
	if errors.Is(err, tokenstore.ErrUnavailable) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fmt.Errorf("%s: %w: %w", doing, tokenstore.ErrUnavailable, err)
}
