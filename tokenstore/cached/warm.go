package cached

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// WarmState is how far the cache is with taking in what the store holds.
type WarmState uint8

// A cache that is not warm decides as rightly as one that is: it asks the store
// for what it lacks.
const (
	Cold    WarmState = iota // not started, or the store gives no records in bulk
	Warming                  // under way, or to be tried again soon
	Warm                     // every token that can be used was taken in
	Full                     // as many as MaxBytes has room for, the newest
)

var warmStates = [...]string{Cold: "cold", Warming: "warming", Warm: "warm", Full: "full"}

func (s WarmState) String() string {
	if int(s) < len(warmStates) {
		return warmStates[s]
	}
	return fmt.Sprintf("invalid(%d)", uint8(s))
}

// WarmStats is how the newest reading of all tokens stands.
type WarmStats struct {
	State    WarmState
	Records  int64         // taken in
	Took     time.Duration // so far, if it is under way
	Failures int           // of attempts in a row since one succeeded
	Err      error         // of the last of them
}

// warmth is what WarmStats is made of.
type warmth struct {
	mu    sync.Mutex
	stats WarmStats
	began time.Duration
	// again asks for another reading: a resync left nothing of the one before.
	again chan struct{}
}

func (w *warmth) update(f func(*WarmStats)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.stats)
}

func (w *warmth) read(now time.Duration) WarmStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stats.State == Warming {
		w.stats.Took = now - w.began
	}
	return w.stats
}

func (w *warmth) start(now time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began = now
	w.stats.State, w.stats.Records = Warming, 0
}

func (w *warmth) end(now time.Duration, full bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.State = Warm
	if full {
		w.stats.State = Full
	}
	w.stats.Took, w.stats.Failures, w.stats.Err = now-w.began, 0, nil
}

// chill has all tokens read again, because what was known of them is forgotten.
func (s *Store) chill() {
	select {
	case s.warmth.again <- struct{}{}:
	default:
	}
}

const (
	// warmRetry is how long to wait before a reading that failed is tried again; it
	// doubles up to warmRetryMax.
	warmRetry    = time.Second
	warmRetryMax = time.Minute
	// warmBurst is how many entries are given to ristretto before it is waited for.
	// Its buffer takes 32,768, and drops what requests bring when it is full.
	warmBurst = 4096
)

var (
	// errFull ends a reading that has filled the cache.
	errFull = errors.New("the cache is full")
	// errOvertaken: so much changed while the tokens were read that what was heard
	// when the reading began is not remembered any more.
	errOvertaken = errors.New("too much changed while the tokens were read")
)

// keepWarm takes all tokens in, and does so again after each resync, until the
// cache is closed.
func (s *Store) keepWarm(bulk tokenstore.Bulk) {
	defer s.tasks.Done()
	// What is in memory already, when there was no resync, counts as taken room.
	replacing := false
	retry := warmRetry
	timer := time.NewTimer(0) // fires when a reading is due
	defer timer.Stop()
	for {
		select {
		case <-s.root.Done():
			return
		case <-s.warmth.again:
			replacing, retry = true, warmRetry
		case <-timer.C:
		}
		s.warmth.start(s.options.Uptime())
		err := s.warm(bulk, replacing)
		now := s.options.Uptime()
		if err != nil && !errors.Is(err, errFull) {
			if s.root.Err() != nil {
				return
			}
			s.warmth.update(func(w *WarmStats) { w.Failures++; w.Err = err })
			timer.Reset(jittered(retry))
			retry = min(2*retry, warmRetryMax)
			continue
		}
		timer.Stop()
		replacing, retry = false, warmRetry
		s.warmth.end(now, err != nil)
	}
}

// jittered is between half of d and all of it, so that nodes that failed together
// do not come back together.
func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// warm takes all tokens in once.
func (s *Store) warm(bulk tokenstore.Bulk, replacing bool) (err error) {
	defer recovered(&err)
	w := &warmer{
		store: s,
		// Before the snapshot: all that was heard by now is in it, and whatever is
		// heard from now on an entry is compared with before it is served.
		since:    s.moment(),
		room:     s.memory.maxCost,
		accounts: familiar[token.Account]{}, users: familiar[token.User]{},
		roles: familiar[token.Role]{}, policies: familiar[token.Policy]{},
	}
	if !replacing {
		w.room -= s.memory.bytes()
	}
	err = bulk.All(s.root, w.take)
	if err == nil || errors.Is(err, errFull) {
		s.memory.cache.Wait()
	}
	s.warmth.update(func(st *WarmStats) { st.Records = w.records })
	if err != nil && !errors.Is(err, errFull) && !errors.Is(err, errOvertaken) {
		return unavailable("read all tokens", err)
	}
	return err
}

// warmer takes records in, one after the other.
type warmer struct {
	store   *Store
	since   moment
	room    int64 // in bytes
	records int64
	set     int

	// Records of one reading share their owners. Whose common copy is known by the
	// store's copy need not be compared again.
	accounts familiar[token.Account]
	users    familiar[token.User]
	roles    familiar[token.Role]
	policies familiar[token.Policy]
}

func (w *warmer) take(r *tokenstore.Record) error {
	s := w.store
	if s.known.floors.Load().horizon > w.since.number {
		return errOvertaken
	}
	if p := s.primary.Load(); p == nil || r.KeyID != p.id {
		return nil // it is looked for under a value that only its secret gives
	}
	e, err := w.entry(r)
	if err != nil {
		return nil // as damaged as what the store leaves out by itself
	}
	if w.room < e.cost {
		return errFull
	}
	e.spreadRefresh(s.options.Uptime())
	for {
		set, ok := s.offer(e)
		if set {
			w.room -= e.cost
			w.set++
		}
		if ok {
			break
		}
		if err := s.root.Err(); err != nil {
			return err
		}
		s.memory.cache.Wait()
	}
	w.records++
	if w.set >= warmBurst {
		w.set = 0
		s.memory.cache.Wait()
		s.warmth.update(func(st *WarmStats) { st.Records = w.records })
	}
	return nil
}

// entry is owners.newEntry for many records that share their owners.
func (w *warmer) entry(r *tokenstore.Record) (*entry, error) {
	if r.Account == nil || r.Policy == nil || (r.User == nil) != (r.Role == nil) {
		return nil, errIncomplete
	}
	o := w.store.owners
	e := &entry{record: *r, since: w.since}
	c := &e.record
	var fresh, cost int64
	c.Account, fresh = w.accounts.one(&o.accounts, string(r.Account.ID), r.Account.Version, r.Account)
	cost += fresh
	c.Policy, fresh = w.policies.one(&o.policies, r.Policy.Name, r.Policy.Version, r.Policy)
	cost += fresh
	if r.User != nil {
		c.User, fresh = w.users.one(&o.users, string(r.User.ID), r.User.Version, r.User)
		cost += fresh
		c.Role, fresh = w.roles.one(&o.roles, r.Role.Name, r.Role.Version, r.Role)
		cost += fresh
	}
	e.cost = cost + o.shareTexts(c) + e.size()
	e.comparedAt.Store(w.since.number)
	return e, nil
}

// offer gives an entry of a bulk read to the memory, unless what is there already
// says more. ok is false when ristretto has no room in its buffer.
//
// A request may be reading the same token. What it finds is at least as new: it
// is in memory before its reading ends, and no reading begins under the lock.
func (s *Store) offer(e *entry) (set, ok bool) {
	l := &e.record.Lookup
	shard := s.loads.shard(l)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if shard.m[*l] != nil {
		return false, true
	}
	switch v := s.known.compare(e); {
	case v.final():
		e = s.known.terminal(e, v)
	case v != current:
		return false, true // it changed since the snapshot
	}
	if held, v := s.find(l); v.final() || v == current && !olderThan(&held.record, &e.record) {
		return false, true
	}
	ok = s.memory.putBehind(e)
	return ok, ok
}

// familiar knows the common copy of what a bulk read has given before. It is
// bounded, since a store may have as many users as tokens.
type familiar[T any] map[*T]*T

const maxFamiliar = 4096

func (f familiar[T]) one(s *shared[T], id string, version int64, v *T) (common *T, cost int64) {
	if common, ok := f[v]; ok {
		return common, 0
	}
	common, cost = s.one(id, version, v)
	if len(f) >= maxFamiliar {
		clear(f)
	}
	f[v] = common
	return common, cost
}
