// Package cached answers the gate from memory. It wraps a Store, follows its
// change feed, and never serves a record that it knows to have changed.
//
// Three rules carry it. What was heard of a record lives apart from the records
// (known) and is exact, so that it does not matter what the cache of records
// holds, drops or brings back: every hit is judged before it is served. A
// position of the feed is only believed for as long as FreshFor, on a clock that
// counts suspension. And whatever cannot be known is answered with
// tokenstore.ErrUnavailable, never with "no such token".
package cached

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Options sets the bounds of a Store. Zero values take the defaults named.
type Options struct {
	MaxBytes int64         // memory for records, about; default 512 MiB
	StaleFor time.Duration // how long known tokens work without the store; 0 means not at all; no default
	// Poll is how often the feed is read (default 500ms); FreshFor is the age of the
	// feed position beyond which a request polls first (default 1s).
	Poll, FreshFor time.Duration
	// Budgets for lookups that find nothing, per second; defaults 10 and 200.
	// Less than 0 is no limit.
	MissesPerAddress, MissesPerNode int
	Now                             func() time.Time     // wall clock
	Uptime                          func() time.Duration // a clock that counts suspension
	// OnResync is told when the feed could not be followed without a gap, so
	// that everything but tombstones was forgotten: the store was restored, is
	// another one, or was out of reach for too long. It must not block.
	OnResync func(from, to tokenstore.Position)
}

const (
	defaultMaxBytes = 512 << 20
	defaultPoll     = 500 * time.Millisecond
	defaultFreshFor = time.Second
	defaultPerAddr  = 10
	defaultPerNode  = 200
)

func (o Options) withDefaults() Options {
	if o.MaxBytes <= 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.Poll <= 0 {
		o.Poll = defaultPoll
	}
	if o.FreshFor <= 0 {
		o.FreshFor = defaultFreshFor
	}
	if o.MissesPerAddress == 0 {
		o.MissesPerAddress = defaultPerAddr
	}
	if o.MissesPerNode == 0 {
		o.MissesPerNode = defaultPerNode
	}
	if o.Now == nil {
		o.Now = systemNow
	}
	if o.Uptime == nil {
		o.Uptime = systemUptime()
	}
	return o
}

// ErrThrottled: the lookup was shed by a budget; nothing is known about the secret.
var ErrThrottled = errors.New("cached: too many lookups that find nothing")

var (
	errClosed     = fmt.Errorf("%w: the cache is closed", tokenstore.ErrUnavailable)
	errNotStarted = fmt.Errorf("%w: the cache is not started", tokenstore.ErrUnavailable)
	errUnknownNow = fmt.Errorf("%w: the change feed cannot be read, and nothing certain is known of this secret", tokenstore.ErrUnavailable)
	errStale      = fmt.Errorf("%w: the change feed could not be read for too long", tokenstore.ErrUnavailable)
)

// Store is a tokenstore.Store whose lookups are answered from memory. It owns
// the store that it wraps.
type Store struct {
	inner   tokenstore.Store
	ring    *tokenstore.Ring
	options Options

	primary atomic.Pointer[primary]
	known   *known
	memory  *memory
	unknown *unknowns
	owners  *owners
	misses  *missBudget
	waiting atomic.Int64 // requests that wait for a unit of it
	loads   loads
	warmth  warmth
	feed    feed
	wake    chan struct{}
	// replaced is what is to be done after the store was put back; endsFrom is the
	// first number of the feed from which on every end is known.
	replaced replacements
	endsFrom atomic.Int64
	writes   atomic.Uint64 // that went through this cache
	counts   counts
	lanes    [laneCount]lane

	// root ends when the store is closed; tasks are its goroutines.
	root  context.Context
	end   context.CancelFunc
	tasks sync.WaitGroup

	life     sync.RWMutex // orders calls before or after the closing
	calls    sync.WaitGroup
	closed   atomic.Bool
	started  atomic.Bool
	makeErr  error
	closing  sync.Once
	closeErr error
}

var _ tokenstore.Store = (*Store)(nil)

// New wraps a store. Call Start before use, and Close in any case.
func New(inner tokenstore.Store, ring *tokenstore.Ring, o Options) *Store {
	o = o.withDefaults()
	s := &Store{
		inner:   inner,
		ring:    ring,
		options: o,
		known:   newKnown(),
		unknown: newUnknowns(),
		owners:  new(owners),
		misses:  newMissBudget(o.MissesPerAddress, o.MissesPerNode),
		wake:    make(chan struct{}, 1),
		warmth:  warmth{again: make(chan struct{}, 1)},
	}
	s.memory, s.makeErr = newMemory(o.MaxBytes)
	s.feed.at.Store(never)
	s.feed.failedAt.Store(never)
	s.root, s.end = context.WithCancel(context.Background())
	return s
}

// Start reads the feed's position and the primary key, and begins to follow the
// feed. It refuses a ring that does not fit the store. All tokens are read into
// memory in the background (tokenstore.Bulk); until then those that are asked for
// come from the store.
func (s *Store) Start(ctx context.Context) error {
	if !s.enter() {
		return errClosed
	}
	defer s.leave()
	if s.makeErr != nil {
		return fmt.Errorf("make the cache: %w", s.makeErr)
	}
	if s.started.Load() {
		return errors.New("cached: started twice")
	}
	if err := s.startFeed(ctx); err != nil {
		return err
	}
	if !s.started.CompareAndSwap(false, true) {
		return errors.New("cached: started twice")
	}
	s.known.ended.beginRecall()
	s.tasks.Add(2)
	go s.recall(s.feed.position) // which nobody moves yet
	go s.follow()
	if bulk, ok := s.inner.(tokenstore.Bulk); ok {
		s.warmth.start(s.options.Uptime())
		s.tasks.Add(1)
		go s.keepWarm(bulk)
	}
	return nil
}

// Close ends what runs, waits for it, and closes the store that is wrapped. It
// may be called twice. Calls that come later get tokenstore.ErrUnavailable.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.life.Lock()
		s.closed.Store(true)
		s.life.Unlock()
		s.end()
		s.calls.Wait()
		s.tasks.Wait()
		// Ristretto must not be closed under a reader's hands. A Peek never
		// waits, so neither does this for long.
		for i := range s.lanes {
			for !s.lanes[i].quiet() {
				runtime.Gosched()
			}
		}
		s.memory.cache.Close()
		s.closeErr = s.inner.Close()
	})
	return s.closeErr
}

// enter notes a call that Close has to wait for.
func (s *Store) enter() bool {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed.Load() {
		return false
	}
	s.calls.Add(1)
	return true
}

func (s *Store) leave() { s.calls.Done() }

// Peek answers from memory alone, without allocating or waiting. ok is false
// when the record is not there, may have changed, or the feed is too old to say.
func (s *Store) Peek(d token.Digest) (rec *tokenstore.Record, ok bool) {
	lane := &s.lanes[d[0]%laneCount]
	lane.entered.Add(1)
	defer func() {
		if ok {
			lane.hits.Add(1)
		} else {
			lane.misses.Add(1)
		}
	}()
	// The order counts: the marks that the entry is judged by are then at least
	// as new as the position, also when the process is stopped in between.
	at := s.feed.at.Load()
	p := s.primary.Load()
	if at == never || p == nil || s.closed.Load() {
		return nil, false
	}
	l, ok := s.ring.Lookup(p.id, d)
	if !ok {
		return nil, false
	}
	e, v := s.find(&l)
	if v != current {
		return nil, false
	}
	now := s.options.Uptime()
	if now-time.Duration(at) > s.options.FreshFor || int64(now) >= e.refreshAt.Load() {
		return nil, false
	}
	return &e.record, true
}

// Known says whether a record is in memory that is not known to have ended, without
// asking the store. It may have changed, and the feed may be too old to say: who
// holds such a secret is no stranger, and Resolve answers them at nobody's cost.
func (s *Store) Known(d token.Digest) bool {
	if !s.enter() {
		return false
	}
	defer s.leave()
	p := s.primary.Load()
	if p == nil {
		return false
	}
	l, ok := s.ring.Lookup(p.id, d)
	if !ok {
		return false
	}
	_, v := s.find(&l)
	return v == current || v == outdated
}

// Resolve answers what Peek could not: it asks the store, once for any number of
// concurrent callers, within the budgets. Errors: tokenstore.ErrNotFound (no
// such secret), ErrThrottled, tokenstore.ErrUnavailable.
func (s *Store) Resolve(ctx context.Context, d token.Digest, from netip.Addr) (*tokenstore.Record, error) {
	if !s.enter() {
		return nil, errClosed
	}
	defer s.leave()
	return s.resolve(ctx, d, charge{from: from}, nil)
}

// Current gives the newest known state of a record that was resolved before, for
// requests that last: the same record while nothing changed. Errors as Resolve,
// but for ErrThrottled: who asks holds a record already.
func (s *Store) Current(ctx context.Context, d token.Digest, rec *tokenstore.Record) (*tokenstore.Record, error) {
	found, ok := s.Peek(d)
	if !ok {
		if !s.enter() {
			return nil, errClosed
		}
		defer s.leave()
		var err error
		if found, err = s.resolve(ctx, d, charge{free: true}, rec); err != nil {
			return nil, err
		}
	}
	if found == rec || sameState(found, rec) {
		return rec, nil
	}
	return found, nil
}

// resolve is Resolve and Current. held is a record that the caller got earlier;
// it may be known to the caller only.
func (s *Store) resolve(ctx context.Context, d token.Digest, c charge, held *tokenstore.Record) (*tokenstore.Record, error) {
	if !s.started.Load() {
		return nil, errNotStarted
	}
	fresh := s.fresh(ctx)
	p := s.primary.Load() // after the feed, which can change it
	l, ok := s.ring.Lookup(p.id, d)
	if !ok {
		return nil, fmt.Errorf("%w: the ring lacks the master key for lookups", tokenstore.ErrUnavailable)
	}
	e, v := s.find(&l)
	if v == absent && held != nil {
		// It was put out of memory. What the caller holds can be judged as well,
		// unless marks were dropped since.
		e = &entry{record: *held}
		e.comparedAt.Store(1)
		if v = s.known.compare(e); v == current && fresh {
			return held, nil
		}
	}
	if !fresh {
		return s.stale(e, v)
	}
	if v == current {
		if e.claimRefresh(s.options.Uptime()) {
			// Nobody waits for it, and if it fails the record serves on.
			_, _, _, _ = s.load(d, l, p, charge{free: true}, true)
		}
		return &e.record, nil
	}
	// A token that was known does not draw on the budgets for unknown ones: a
	// flood must not lock out whoever was edited during it.
	c.free = c.free || v != absent
	for range loadAttempts {
		added := s.unknown.added.Load()
		under, rec, err := s.loadInTurn(ctx, d, l, p, c)
		if err != nil || rec != nil {
			return rec, err
		}
		select {
		case <-under.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", tokenstore.ErrUnavailable, context.Cause(ctx))
		}
		rec, err, ok := s.outcome(under, added)
		if !ok {
			continue
		}
		if v.final() && errors.Is(err, tokenstore.ErrUnavailable) {
			return s.conclude(e, v), nil
		}
		return rec, err
	}
	return nil, fmt.Errorf("%w: %w", tokenstore.ErrUnavailable, errBehind)
}

// stale answers while the feed cannot be read: what is known serves on for a while.
func (s *Store) stale(e *entry, v verdict) (*tokenstore.Record, error) {
	switch {
	case s.age() > s.options.StaleFor:
		return nil, errStale
	case v == current:
		return &e.record, nil
	case v.final():
		return s.conclude(e, v), nil
	default:
		return nil, errUnknownNow
	}
}

// conclude answers with what is known of an entry that has ended.
func (s *Store) conclude(e *entry, v verdict) *tokenstore.Record {
	t := s.known.terminal(e, v)
	s.keep(t)
	return &t.record
}

// Lookup answers from memory when the record there is sure to be current, else
// from the store. It asks under no other key, and within no budget: it is for
// callers who have a lookup value, which no stranger can make.
func (s *Store) Lookup(ctx context.Context, l tokenstore.Lookup) (*tokenstore.Record, error) {
	if !s.enter() {
		return nil, errClosed
	}
	defer s.leave()
	if s.started.Load() && s.fresh(ctx) {
		// The feed does not tell when a secret moves to another key or is first
		// used. What this node wrote itself is honoured none the less.
		if e, v := s.find(&l); v == current && e.since.writes == s.writes.Load() {
			return &e.record, nil
		}
	}
	for range loadAttempts {
		since := s.moment()
		r, err := s.lookup(ctx, l)
		if err != nil {
			return nil, err
		}
		e, v, err := s.admit(r, l, since)
		if err != nil {
			return nil, err
		}
		if v != current {
			continue
		}
		if p := s.primary.Load(); p != nil && p.id == e.record.KeyID {
			s.keep(e)
		}
		return &e.record, nil
	}
	return nil, fmt.Errorf("%w: %w", tokenstore.ErrUnavailable, errBehind)
}

// Read reads from the store itself.
func (s *Store) Read(ctx context.Context, f func(*tokenstore.Tx) error) error {
	if !s.enter() {
		return errClosed
	}
	defer s.leave()
	return s.inner.Read(ctx, f)
}

// Write writes to the store itself. When it returns nil, the change holds for
// the next request of this node too.
func (s *Store) Write(ctx context.Context, f func(*tokenstore.Tx) error) error {
	if !s.enter() {
		return errClosed
	}
	defer s.leave()
	err := s.inner.Write(ctx, f)
	s.writes.Add(1)
	// Whether something was committed can be unknown.
	unknown := errors.Is(err, tokenstore.ErrUnavailable) || errors.Is(err, tokenstore.ErrUnknownOutcome)
	if s.started.Load() && (err == nil || unknown) {
		s.catchUp()
	}
	return err
}

// Changes reads the store's own feed.
func (s *Store) Changes(ctx context.Context, after tokenstore.Position) (tokenstore.Changes, error) {
	if !s.enter() {
		return tokenstore.Changes{}, errClosed
	}
	defer s.leave()
	return s.inner.Changes(ctx, after)
}
