package caddymodule

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

const (
	// sweepInterval is how often the requests in flight are judged again. With
	// the time that a change takes to reach this node it must stay well below
	// the second that a stream may outlive its token by.
	sweepInterval = 250 * time.Millisecond
	// sweepLimit bounds what one sweep waits for the store. What is undecided by
	// then is asked about again by the next one, and ended when it has been
	// undecided for longer than undecidedLimit: an answer that does not come is no
	// permission. The wait gives the store time when many tokens change at once.
	sweepLimit     = 300 * time.Millisecond
	undecidedLimit = 250 * time.Millisecond
	// sweepers is how many questions one sweep puts to the store at a time.
	sweepers = 8
	// streamShards keeps requests on many cores from meeting at one lock.
	streamShards = 16
)

// streams holds the requests in flight and ends those whose token stops being
// valid. Every forwarded request is in it, since nobody can tell beforehand which
// one will last. It outlives configurations: a WebSocket that was opened under
// one ends by a revocation under the next.
type streams struct {
	now      func() time.Time
	interval time.Duration

	shards [streamShards]streamShard

	mu      sync.Mutex
	closed  atomic.Bool // written under mu
	started atomic.Bool // written under mu
	cancel  context.CancelFunc
	done    chan struct{}
}

// streamShard is a ring of streams. Its own stream is the ring's beginning.
type streamShard struct {
	mu   sync.Mutex
	ring stream
	_    [64]byte // keeps neighbours off one cache line
}

// stream is one request in flight. What is judged stands in it, so that judging
// again costs no lookup of the request.
type stream struct {
	prev, next *stream
	shard      uint32

	source recordSource
	digest token.Digest
	// record is what the request was last allowed by, and undecided since when
	// nobody knows whether it still is. Once the stream is registered only the
	// sweep touches them.
	record    *tokenstore.Record
	undecided time.Time
	facts     requestFacts
	recording recording
	cancel    context.CancelFunc

	// client is where the response goes, until the stream leaves. hasBody says
	// whether the client may still be sending; begun, whether the response has
	// a header by now.
	client  http.ResponseWriter
	hasBody bool
	begun   atomic.Bool

	// ended is why the stream was ended; nil while it may go on.
	ended atomic.Pointer[refusal]
}

// requestFacts is what a decision depends on that comes from the request and
// the gate, not from the store.
type requestFacts struct {
	address     netip.Addr
	required    token.Scope
	units       []string // of which the user must work for one; none: of any
	environment token.Environment
	freshOnly   bool // the gate answers only while it knows all changes
}

// freshLimit is for how long a token or a gate that is marked fresh_only may miss
// changes before nothing is decided for it.
const freshLimit = 5 * time.Second

// outdated says whether a record that was resolved is too old a truth to decide
// by for whoever is marked fresh_only. What Peek finds never is: it has a bound of
// its own, which is stricter. It is asked before anything is judged: an expiry,
// an allow-list or a scope may be what has changed meanwhile, and a token is not
// to be blamed for what its gateway did not hear.
func (f *requestFacts) outdated(record *tokenstore.Record, source recordSource) bool {
	return (f.freshOnly || record.Token.FreshOnly) && source.Age() > freshLimit
}

// recordSource follows records that were resolved before.
type recordSource interface {
	Peek(token.Digest) (*tokenstore.Record, bool)
	Current(context.Context, token.Digest, *tokenstore.Record) (*tokenstore.Record, error)
	Age() time.Duration
}

// newStreams makes an empty registry. It runs nothing until a request comes, so
// that a configuration that is only validated leaves nothing behind.
func newStreams() *streams {
	s := &streams{now: time.Now, interval: sweepInterval}
	for i := range s.shards {
		ring := &s.shards[i].ring
		ring.prev, ring.next = ring, ring
	}
	return s
}

// enter registers a request. It says false when the registry is closed, and
// then the request must not be forwarded: nobody would end it.
func (s *streams) enter(st *stream) bool {
	if !s.started.Load() {
		s.start()
	}
	st.shard = rand.Uint32() % streamShards
	shard := &s.shards[st.shard]
	shard.mu.Lock()
	// Close empties a shard under its lock after it has set closed, so a stream
	// that passes here is either seen by Close or refused.
	if s.closed.Load() {
		shard.mu.Unlock()
		return false
	}
	st.prev, st.next = shard.ring.prev, &shard.ring
	st.prev.next, st.next.prev = st, st
	shard.mu.Unlock()
	return true
}

// leave forgets a request that ended. It may be called once for each enter.
func (s *streams) leave(st *stream) {
	shard := &s.shards[st.shard]
	shard.mu.Lock()
	if st.next != nil {
		st.prev.next, st.next.prev = st.next, st.prev
		st.prev, st.next = nil, nil
	}
	shard.mu.Unlock()
}

func (s *streams) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started.Load() || s.closed.Load() {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.done = cancel, make(chan struct{})
	s.started.Store(true)
	go s.run(ctx, s.done)
}

func (s *streams) run(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	ticker := time.NewTicker(s.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.sweep(ctx)
		}
	}
}

// sweep judges every request in flight again: those whose token is in memory at
// once, and then the others, about which the store has to be asked.
func (s *streams) sweep(ctx context.Context) {
	var asking []*stream
	for _, st := range s.snapshot(nil) {
		if st.ended.Load() != nil {
			continue
		}
		if record, ok := st.source.Peek(st.digest); ok {
			s.decide(st, record)
		} else {
			asking = append(asking, st)
		}
	}
	if len(asking) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sweepLimit)
	defer cancel()
	// Those that have waited longest first, or a crowd would starve them.
	waited, fresh := make([]*stream, 0, len(asking)), make([]*stream, 0, len(asking))
	for _, st := range asking {
		if st.undecided.IsZero() {
			fresh = append(fresh, st)
		} else {
			waited = append(waited, st)
		}
	}
	asking = append(waited, fresh...)
	var next atomic.Int64
	var asked sync.WaitGroup
	for range min(sweepers, len(asking)) {
		asked.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(asking)); i = next.Add(1) - 1 {
				s.ask(ctx, asking[i])
			}
		})
	}
	asked.Wait()
}

// snapshot copies the registered streams, so that no lock is held while they
// are judged. One that leaves meanwhile is judged for nothing.
func (s *streams) snapshot(batch []*stream) []*stream {
	for i := range s.shards {
		shard := &s.shards[i]
		shard.mu.Lock()
		for st := shard.ring.next; st != &shard.ring; st = st.next {
			batch = append(batch, st)
		}
		shard.mu.Unlock()
	}
	return batch
}

// Close ends every request in flight and the sweeping, and waits for the latter.
// It may be called twice.
func (s *streams) Close() {
	s.mu.Lock()
	s.closed.Store(true)
	cancel, done := s.cancel, s.done
	s.mu.Unlock()
	if cancel != nil {
		cancel()
		<-done
	}
	for _, st := range s.snapshot(nil) {
		s.end(st, refuse(problemStoreUnavailable))
	}
}

// ask judges a request whose token has to be looked up.
func (s *streams) ask(ctx context.Context, st *stream) {
	defer s.endOnPanic(st)
	record, err := st.source.Current(ctx, st.digest, st.record)
	switch {
	case err == nil && st.facts.outdated(record, st.source):
		s.end(st, refuse(problemStoreUnavailable))
	case err == nil:
		s.decide(st, record)
	case ctx.Err() == nil:
		s.end(st, refuseLookup(err))
	case st.undecided.IsZero():
		st.undecided = time.Now()
	case time.Since(st.undecided) > undecidedLimit:
		s.end(st, refuse(problemStoreUnavailable))
	}
}

// decide judges as if the request came now.
func (s *streams) decide(st *stream, record *tokenstore.Record) {
	defer s.endOnPanic(st)
	st.record, st.undecided = record, time.Time{}
	now := s.now()
	refused, _ := decide(record, &st.facts, now)
	if refused != nil {
		s.end(st, refused)
		return
	}
	st.recording.renew(now)
}

// endOnPanic has a mistake of ours end the request, and not the process.
func (s *streams) endOnPanic(st *stream) {
	if recover() != nil {
		s.end(st, refuse(problemStoreUnavailable))
	}
}

// end ends the request, and leaves word why for the goroutine that serves it.
func (s *streams) end(st *stream, why *refusal) {
	if !st.ended.CompareAndSwap(nil, why) {
		return
	}
	shard := &s.shards[st.shard]
	shard.mu.Lock()
	// A request that has left no longer owns its connection, which may by now
	// serve another one.
	if st.next != nil {
		st.interrupt()
	}
	shard.mu.Unlock()
	st.cancel()
}

// interrupt wakes whoever waits for the client to send or to read. The end of
// the context alone does not: a proxy that is reading a request body reads on.
func (st *stream) interrupt() {
	if st.client == nil {
		return
	}
	past := time.Unix(1, 0)
	// Where a deadline cannot be set, the next bytes or Caddy's idle timeout end
	// the wait.
	if st.hasBody {
		_ = http.NewResponseController(st.client).SetReadDeadline(past)
	}
	if st.begun.Load() { // before that, the refusal is still to be written
		_ = http.NewResponseController(innermost(st.client)).SetWriteDeadline(past)
	}
}

// innermost is the writer of the server itself. Caddy's own, around it, takes
// write deadlines only from the goroutine that writes.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = wrapper.Unwrap()
	}
}
