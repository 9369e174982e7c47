package usage

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/token"
)

// Request is what is recorded of a request.
type Request struct {
	// TokenID and SecretID are empty when no token was recognised.
	TokenID, SecretID token.ID
	// Scope is what the operation requires; the zero Scope when that was not looked at.
	Scope   token.Scope
	Address netip.Addr // the zero Addr: not known
	At      time.Time
}

// Recorder records. Make one with Open, Start it, and Close it once no request can
// come any more.
type Recorder struct {
	o       Options
	journal *journal
	drain   *drain
	hashes  hashes
	kinds   kinds
	now     atomic.Pointer[epoch]
	dropped atomic.Int64 // requests whose counts were lost

	mu   sync.Mutex // for changing epochs
	past []*epoch   // their counts have not all been taken

	start  sync.Once
	once   sync.Once
	end    error
	unseen unseen
}

// Open begins a run. It takes over the journal's directory, judges what earlier
// runs left there, and fails with a word on what to do when it cannot be used. It
// does not talk to the sink yet.
func Open(o Options) (*Recorder, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	r := &Recorder{o: o, hashes: newHashes()}
	length := clampBucket(o.Bucket())
	r.now.Store(newEpoch(bucketAt(o.Now(), length), length, o.MaxCells))
	j, found, err := openJournal(&r.o)
	if err != nil {
		return nil, err
	}
	r.journal = j
	r.drain = newDrain(r, found.orphans)
	return r, nil
}

// Run is the run that the recorder records, as it was opened.
func (r *Recorder) Run() token.Run { return r.journal.run }

// Start makes the run known to the sink and begins to hand over. An error means
// that the sink could not be told yet, which goes on being tried: requests may be
// served all the same, since the journal is open.
func (r *Recorder) Start(ctx context.Context) error {
	var err error
	r.start.Do(func() { err = r.drain.startUp(ctx) })
	return err
}

// Use records a request of an authenticated token that is allowed. It is called
// before the request goes upstream, or before it is answered here, in which case
// forwarded is false and the token was used, but none of its scopes. An error means
// that the request must not go on.
func (r *Recorder) Use(q *Request, forwarded bool) error {
	return r.record(q, allowed, forwarded, true)
}

// Refuse records a request that is refused, before it is answered. When its token
// authenticated it, and only the scope was missing, that is use. An error means that
// this could not be recorded.
func (r *Recorder) Refuse(q *Request, reason token.Reason) error {
	return r.record(q, reason.Code(), false, reason.Authenticated())
}

// Count counts a request that was refused before there was a decision. code is one
// of a fixed set, never something that came with the request.
func (r *Recorder) Count(q *Request, code string) {
	_ = r.record(q, code, false, false) // counting alone does not fail
}

const (
	allowed       = token.OutcomeAllowed
	otherOutcomes = "other" // of requests that are counted together
)

func (r *Recorder) record(q *Request, outcome string, forwarded, use bool) error {
	e := r.now.Load()
	if !e.holds(q.At.UnixNano()) {
		e = r.turnTo(q.At)
	}
	k := cellKey{secret: q.SecretID, token: q.TokenID, from: addressOf(q.Address)}
	var h uint64
	k.kind, h = r.kinds.of(r.hashes.seed, &kindKey{q.Scope.Name, outcome, forwarded})
	c := e.cells.find(r.hashes.cell(h, &k), &k)
	if c == nil || k.kind == 0 {
		return r.meet(e, &k, h, outcome, q, forwarded, use)
	}
	c.n.Add(1) // and its use is remembered: see meet
	return nil
}

// meet is the way of a request that there is no counter for: the first of its kind,
// or one of those that are counted together.
func (r *Recorder) meet(e *epoch, k *cellKey, h uint64, outcome string, q *Request, forwarded, use bool) error {
	var f *fact
	if use {
		var scope token.Scope // none was used when nothing was forwarded
		if forwarded {
			scope = q.Scope
		}
		key := factKey{q.SecretID, q.TokenID, scope.Name}
		fh := r.hashes.fact(&key)
		if f = e.facts.find(fh, &key); f == nil {
			f = e.facts.add(fh, &key, func() fact { return fact{} })
		}
		if !f.known.Load() {
			if err := r.remember(e, f, q, scope); err != nil {
				return err
			}
		}
	}
	// Only now: whoever finds the counter takes the use to be remembered.
	r.cell(e, k, h, outcome).n.Add(1)
	return nil
}

// cell finds or makes the counter of a request whose use is remembered. The number
// of counters is bounded; where it ends, addresses and then tokens are counted
// together. Facts are not touched by that.
func (r *Recorder) cell(e *epoch, k *cellKey, h uint64, outcome string) *cell {
	if e.cells.size.Load() < e.maxCells && k.kind != 0 {
		if !e.admit(r.hashes.token(k.token), k.token, k.from) {
			k.from = address{}
		}
		ch := r.hashes.cell(h, k)
		if c := e.cells.find(ch, k); c != nil {
			return c
		}
		return e.cells.add(ch, k)
	}
	k.from = address{}
	if c := e.cells.find(r.hashes.cell(h, k), k); c != nil && k.kind != 0 {
		return c
	}
	if e.cells.size.Load() >= e.maxCells+64 {
		outcome = otherOutcomes
	}
	var all cellKey
	all.kind, h = r.kinds.of(r.hashes.seed, &kindKey{outcome: outcome})
	h = r.hashes.cell(h, &all)
	if c := e.cells.find(h, &all); c != nil {
		return c
	}
	return e.cells.add(h, &all)
}

func (e *epoch) admit(hash uint64, id token.ID, a address) bool {
	s := e.addresses.find(hash, &id)
	if s == nil {
		s = e.addresses.add(hash, &id, func() addresses { return addresses{} })
	}
	if id == "" {
		return s.admit(a, maxUnknownAddresses)
	}
	return s.admit(a, maxAddresses)
}

// remember makes sure that a fact is in the journal. Whoever comes while it is
// being written waits for the same write: none of them may be ahead of it.
func (r *Recorder) remember(e *epoch, f *fact, q *Request, scope token.Scope) error {
	var err error
	if g := f.group.Load(); g != nil {
		err = r.journal.wait(g)
	} else {
		first := q.At.UTC()
		if first.Before(e.start) {
			first = e.start
		}
		err = r.journal.append(token.Fact{
			TokenID: q.TokenID, SecretID: q.SecretID, Scope: scope,
			Bucket: e.start, Until: e.until, First: first,
		}, f.group.Store)
	}
	if err != nil {
		f.group.Store(nil) // whoever comes next tries again
		return err
	}
	// Written, or a gap is open: in memory it waits for both the journal and the store.
	f.known.Store(true)
	return nil
}

// turnTo changes to the bucket of a time.
func (r *Recorder) turnTo(at time.Time) *epoch {
	length := clampBucket(r.o.Bucket())
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.now.Load()
	if e.holds(at.UnixNano()) && e.length <= length {
		return e
	}
	// A request that took long to get here belongs to the present. Only a clock that
	// was set back turns back.
	if at.Before(e.start) && !r.o.Now().Before(e.start) {
		return e
	}
	start := bucketAt(at, length)
	if start.Equal(e.start) && length == e.length {
		return e
	}
	next := newEpoch(start, length, r.o.MaxCells)
	r.past = append(r.past, e)
	r.now.Store(next)
	r.trim()
	return next
}

// Rebucket asks for the length of a bucket anew. One that has become shorter holds
// from now on: a window that is shorter needs shorter buckets, and what is recorded
// in a long one counts as use until that ends. One that has become longer holds from
// the next bucket on.
func (r *Recorder) Rebucket() {
	if r.rebucket() {
		nudge(r.drain.flushes) // shorter buckets are also handed over more often
	}
}

// rebucket says whether it began another bucket.
func (r *Recorder) rebucket() bool {
	length := clampBucket(r.o.Bucket())
	now := r.o.Now()
	e := r.now.Load()
	if length < e.length || !e.holds(now.UnixNano()) {
		return r.turnTo(now) != e
	}
	return false
}

// trim bounds what past buckets hold while the store takes nothing. Called with mu
// held.
func (r *Recorder) trim() {
	var total int64
	for i := len(r.past) - 1; i >= 0; i-- {
		total += r.past[i].cells.size.Load()
		if total <= int64(r.o.MaxCells) && len(r.past)-i <= 1000 {
			continue
		}
		for _, e := range r.past[:i+1] {
			e.cells.take(func(_ cellKey, n int64) bool { r.dropped.Add(n); return true })
		}
		r.past = append([]*epoch(nil), r.past[i+1:]...)
		return
	}
}

// takeCounts moves what was counted into batches of at most size rows. A past
// bucket is visited twice, for requests that were on their way when it ended.
func (r *Recorder) takeCounts(size int, emit func([]token.Count) error) error {
	r.mu.Lock()
	epochs := append(append([]*epoch(nil), r.past...), r.now.Load())
	r.mu.Unlock()
	var batch []token.Count
	var err error
	for _, e := range epochs {
		e.cells.take(func(k cellKey, n int64) bool {
			kind := r.kinds.name(k.kind)
			batch = append(batch, token.Count{
				Bucket: e.start, TokenID: k.token, SecretID: k.secret, Scope: kind.scope,
				Outcome: kind.outcome, Address: k.from.String(), N: n,
			})
			if len(batch) < size {
				return true
			}
			err = emit(batch)
			batch = nil
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	if len(batch) > 0 {
		err = emit(batch)
	}
	if err == nil {
		r.forget()
	}
	return err
}

func (r *Recorder) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := r.past[:0:0]
	for _, e := range r.past {
		if e.drained++; e.drained < 2 {
			kept = append(kept, e)
		}
	}
	r.past = kept
}

// Flush returns once everything recorded before it was called has reached the sink,
// or with what stood in the way.
func (r *Recorder) Flush(ctx context.Context) error { return r.drain.flush(ctx) }

// Close hands over what is left, ends the run, and waits for its goroutines. What
// cannot be handed over within the context stays in the journal for the next start.
func (r *Recorder) Close(ctx context.Context) error {
	r.once.Do(func() {
		r.journal.seal()
		stoppedAt := r.o.Now().UTC()
		err := r.drain.close(ctx, stoppedAt)
		r.end = errors.Join(err, r.journal.close(stoppedAt, err == nil))
	})
	return r.end
}

// Stats is how the recorder is doing.
type Stats struct {
	Facts, Cells int64 // of the current bucket
	Bucket       time.Duration
	Covered      time.Time // everything before it has reached the sink
	Orphans      int       // earlier runs that have not been handed over
	Unwritten    int       // facts that are in memory only
	GapSince     time.Time // of an open gap
	Dropped      int64     // requests whose counts were lost
	Err          error     // why the sink did not take the last batch
}

// Stats tells how the recorder is doing.
func (r *Recorder) Stats() Stats {
	e := r.now.Load()
	s := Stats{Facts: e.facts.size.Load(), Cells: e.cells.size.Load(), Bucket: e.length, Dropped: r.dropped.Load()}
	r.journal.mu.Lock()
	s.Unwritten = len(r.journal.unwritten) + len(r.journal.flight) + len(r.journal.queue)
	if g := r.journal.gap; g != nil && g.firm {
		s.GapSince = g.since
	}
	r.journal.mu.Unlock()
	r.drain.describe(&s)
	return s
}
