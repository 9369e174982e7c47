package cached

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

const (
	// loadTimeout is how long one token may take to be read from the store.
	loadTimeout = 2 * time.Second
	// loadAttempts is how often a record that is older than the feed is read
	// again: a change can overtake a reading, but not many times in a row.
	loadAttempts = 4
)

var errBehind = errors.New("the store answers with records that are older than its change feed: it may have been restored, or is a replica that lags")

// loads is the readings of tokens under way, so that any number of callers with
// one secret cost one.
type loads struct {
	shards [64]loadShard
}

type loadShard struct {
	mu sync.Mutex
	m  map[tokenstore.Lookup]*load
}

func (l *loads) shard(of *tokenstore.Lookup) *loadShard {
	return &l.shards[of[8]%uint8(len(l.shards))]
}

// load is one of them. The rest may be read after done.
type load struct {
	done  chan struct{}
	entry *entry
	err   error
	// added is how often secrets had been added before the store was asked.
	added uint64
}

// charge says who pays for a lookup that may find nothing.
type charge struct {
	from netip.Addr
	free bool
}

const (
	// budgetWait is how long a request waits for lookups of others that may yet
	// give their units of the budget back.
	budgetWait = loadTimeout
	// maxWaiting is how many requests may wait so. Against a slow store a flood
	// would otherwise hold any number of them, and wake them all each time.
	maxWaiting = 1024
)

// loadInTurn is load for callers who have no claim to a lookup of their own: it
// waits while the budgets are spent by lookups that are still under way.
func (s *Store) loadInTurn(ctx context.Context, d token.Digest, l tokenstore.Lookup, p *primary, c charge) (*load, *tokenstore.Record, error) {
	var patience *time.Timer
	for {
		under, rec, retry, err := s.load(d, l, p, c, false)
		if retry == nil {
			if errors.Is(err, ErrThrottled) {
				s.counts.throttled.Add(1)
			}
			return under, rec, err
		}
		if patience == nil {
			defer s.waiting.Add(-1)
			if s.waiting.Add(1) > maxWaiting {
				s.counts.throttled.Add(1)
				return nil, nil, ErrThrottled
			}
			patience = time.NewTimer(budgetWait)
			defer patience.Stop()
		}
		select {
		case <-retry:
			continue
		case <-patience.C:
		case <-ctx.Done():
		case <-s.root.Done():
		}
		s.counts.throttled.Add(1)
		return nil, nil, ErrThrottled
	}
}

// load joins the reading of a token, or begins one. anew asks the store even
// when the token is in memory. The result is a record when waiting turned out
// not to be needed. With ErrThrottled, retry is closed when it is worth trying
// again, and nil when it is not. The caller has entered.
func (s *Store) load(d token.Digest, l tokenstore.Lookup, p *primary, c charge, anew bool) (under *load, rec *tokenstore.Record, retry <-chan struct{}, err error) {
	shard := s.loads.shard(&l)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if under := shard.m[l]; under != nil {
		return under, nil, nil, nil
	}
	if !anew {
		// A reading may have ended between the caller's look and the lock.
		if e, v := s.find(&l); v == current {
			return nil, &e.record, nil, nil
		}
	}
	now := s.options.Uptime()
	if s.unknown.has(&l, now) {
		s.counts.negativeHits.Add(1)
		return nil, nil, nil, tokenstore.ErrNotFound
	}
	var unit missUnit
	if !c.free {
		var ok bool
		if unit, retry, ok = s.misses.take(c.from, now); !ok {
			return nil, nil, retry, ErrThrottled
		}
	}
	under = &load{done: make(chan struct{})}
	if shard.m == nil {
		shard.m = make(map[tokenstore.Lookup]*load)
	}
	shard.m[l] = under
	s.tasks.Add(1)
	// Detached from the caller: whoever came first may leave first.
	go func() {
		defer s.tasks.Done()
		found := s.fetch(under, d, l, p)
		if !c.free {
			s.misses.settle(unit, found)
		}
		if under.err != nil && !errors.Is(under.err, tokenstore.ErrNotFound) {
			s.counts.loadErrors.Add(1)
		}
		// The entry is in memory before the reading is over: see the look above.
		shard.mu.Lock()
		delete(shard.m, l)
		shard.mu.Unlock()
		close(under.done)
	}()
	return under, nil, nil, nil
}

// outcome is what a load means to a caller who came when secrets had been added
// so many times. A caller may have joined a load that had asked the store before
// a change which the caller knows of: then ok is false, and the store has to
// be asked again.
func (s *Store) outcome(under *load, added uint64) (rec *tokenstore.Record, err error, ok bool) {
	switch {
	case errors.Is(under.err, tokenstore.ErrNotFound):
		return nil, under.err, under.added >= added
	case under.err != nil:
		return nil, under.err, true
	}
	switch v := s.known.judge(under.entry); {
	case v == current:
		return &under.entry.record, nil, true
	case v.final():
		return s.conclude(under.entry, v), nil, true
	default:
		return nil, nil, false
	}
}

// fetch asks the store until it gets a record that the feed does not contradict,
// and keeps it. found is set when there was a record at all.
func (s *Store) fetch(under *load, d token.Digest, l tokenstore.Lookup, p *primary) (found bool) {
	ctx, cancel := context.WithTimeout(s.root, loadTimeout)
	defer cancel()
	defer recovered(&under.err)
	for range loadAttempts {
		since, added := s.moment(), s.unknown.added.Load()
		under.added = added
		record, err := s.ask(ctx, d, l, p)
		switch {
		case errors.Is(err, tokenstore.ErrNotFound) && !p.held:
			under.err = fmt.Errorf("%w: the store's primary master key is not in this node's ring: add its line to the master key file", tokenstore.ErrUnavailable)
			return found
		case errors.Is(err, tokenstore.ErrNotFound):
			if added != s.unknown.added.Load() {
				continue // this secret may have been created meanwhile
			}
			s.drop(&l)
			s.unknown.remember(&l, s.options.Uptime(), added)
			under.err = tokenstore.ErrNotFound
			return found
		case err != nil:
			under.err = unavailable("look a token up", err)
			return found
		}
		found = true
		e, v, err := s.admit(record, l, since)
		if err != nil {
			under.err = err
			return found
		}
		if v == current {
			s.keep(e)
			under.entry = e
			return found
		}
	}
	under.err = fmt.Errorf("%w: %w", tokenstore.ErrUnavailable, errBehind)
	return found
}

// keep puts an entry into memory, to be read again in an hour.
func (s *Store) keep(e *entry) {
	e.refreshIn(s.options.Uptime())
	s.memory.put(e)
}

func (s *Store) moment() moment {
	return moment{number: s.known.number.Load(), writes: s.writes.Load()}
}

// admit judges a record that the store just gave. The entry is the one to
// serve when the verdict is current.
func (s *Store) admit(r *tokenstore.Record, l tokenstore.Lookup, since moment) (*entry, verdict, error) {
	e, err := s.owners.newEntry(r, l, since)
	if err != nil {
		return nil, absent, fmt.Errorf("%w: %w", tokenstore.ErrUnavailable, err)
	}
	v := s.known.compare(e)
	if v.final() {
		// The store says alive what was seen to end: it is behind, or it was
		// restored. What was seen holds.
		return s.known.terminal(e, v), current, nil
	}
	if held, w := s.find(&l); v == current && w == current && olderThan(&e.record, &held.record) {
		return e, outdated, nil
	}
	return e, v, nil
}

// ask looks a secret up under the primary key and, if it is not there, under the
// others. Found under another, it is moved to the primary.
func (s *Store) ask(ctx context.Context, d token.Digest, l tokenstore.Lookup, p *primary) (*tokenstore.Record, error) {
	r, err := s.lookup(ctx, l)
	if !errors.Is(err, tokenstore.ErrNotFound) {
		return r, err
	}
	others := false
	for _, id := range s.ring.IDs() {
		other, ok := s.ring.Lookup(id, d)
		if id == p.id || !ok {
			continue
		}
		others = true
		r, err := s.lookup(ctx, other)
		if errors.Is(err, tokenstore.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		moved := *r
		moved.Lookup = l
		if p.held && s.rekey(ctx, r.Secret.ID, other, l, p.id) == nil {
			moved.KeyID = p.id
			s.drop(&other)
		}
		return &moved, nil
	}
	if others {
		// Another node may have moved the secret between the two questions.
		return s.lookup(ctx, l)
	}
	return nil, err
}

func (s *Store) lookup(ctx context.Context, l tokenstore.Lookup) (*tokenstore.Record, error) {
	s.counts.loads.Add(1)
	return s.inner.Lookup(ctx, l)
}

// rekey moves a secret to the primary key. The request does not depend on it:
// what is not moved now is moved the next time.
func (s *Store) rekey(ctx context.Context, secret token.ID, from, to tokenstore.Lookup, key string) error {
	return s.inner.Write(ctx, func(tx *tokenstore.Tx) error {
		return tx.Rekey(secret, from, to, key)
	})
}
