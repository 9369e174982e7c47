package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// A replica answers lookups from nearby, and is never trusted for more than it
// can prove. The statement that reads a record also reads how far the change feed
// had come in that very snapshot. An answer counts only when that is at least as
// far as this node was ever told, so that no change which the node has heard of
// can be missing from it; what the node has not heard of it learns from the
// primary's feed, as it does for records that the primary gave it. That a secret
// does not exist is believed from the primary alone: a token works as soon as it
// was issued, however far the replica has come.
//
// A replica that can not keep up, or is not there, is left alone for a while.

const (
	// replicaTimeout is how long a lookup waits for the replica before the primary
	// is asked: one that is near needs a few milliseconds.
	replicaTimeout = 250 * time.Millisecond
	// A replica that failed is left alone for a time between these, doubling; one
	// that was behind only for as long as it takes to catch up.
	replicaRestMin   = 100 * time.Millisecond
	replicaRestMax   = 5 * time.Second
	replicaLagMax    = time.Second
	replicaConnsMost = 4
	// replicaAheadMax is how long the feed waits until the primary, too, shows what
	// the replica has shown.
	replicaAheadMax = 200 * time.Millisecond
)

// ReplicaState is how the replica stands.
type ReplicaState uint8

// The states of a replica.
const (
	NoReplica          ReplicaState = iota // none is configured
	ReplicaUnused                          // nothing was asked of it yet
	ReplicaInUse                           // it answers
	ReplicaLagging                         // it is behind what this node knows, and is skipped for a moment
	ReplicaUnreachable                     // it fails or does not answer in time, and is skipped for a while
	// ReplicaOfAnotherHistory: its feed has another epoch, since it has not got to
	// where a backup was restored or a standby took over, or is of another database;
	// or it takes writes itself, and is no replica.
	ReplicaOfAnotherHistory
)

var replicaStates = [...]string{
	NoReplica:               "none",
	ReplicaUnused:           "unused",
	ReplicaInUse:            "in use",
	ReplicaLagging:          "lagging",
	ReplicaUnreachable:      "unreachable",
	ReplicaOfAnotherHistory: "of another history",
}

func (s ReplicaState) String() string {
	if int(s) < len(replicaStates) {
		return replicaStates[s]
	}
	return fmt.Sprintf("invalid(%d)", uint8(s))
}

// ReplicaStatus is how the replica stands, and what it has done.
type ReplicaStatus struct {
	State ReplicaState
	// Answered counts lookups that the replica answered for good, Passed those
	// that it was asked for and the primary answered.
	Answered, Passed uint64
}

// ReplicaStatus says how the replica stands.
func (s *Store) ReplicaStatus() ReplicaStatus {
	if s.replica == nil {
		return ReplicaStatus{}
	}
	return ReplicaStatus{
		State: s.replica.rest.standing(), Answered: s.replica.answered.Load(), Passed: s.replica.passed.Load(),
	}
}

// replica is a database that follows the primary. It is only ever read.
type replica struct {
	pool *pgxpool.Pool
	// turns bounds how many ask it at once. Who gets none in time asks the
	// primary, which says nothing about the replica.
	turns   chan struct{}
	wrap    func(db.DBTX) db.DBTX
	records *tokenstore.Records
	// known is what the primary told, seen what the replica did.
	known, seen reached
	rest        rest

	answered, passed atomic.Uint64
}

// openReplica makes the pool. It connects to nothing: that the replica is down
// keeps nobody from starting.
func openReplica(ctx context.Context, url string, o *Options, records *tokenstore.Records) (*replica, error) {
	config, err := parse(url) // which may name a standby
	if err != nil {
		return nil, fmt.Errorf("the replica: %w", err)
	}
	size := min(replicaConnsMost, o.Lookups)
	config.MaxConns = size
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, errors.New("the replica: the connection string can not be used")
	}
	return &replica{
		pool: pool, turns: make(chan struct{}, size), wrap: o.Wrap, records: records,
		rest: rest{now: time.Now}, //nolint:forbidigo // how long one rests is real time
	}, nil
}

// lookup asks the replica. ok is false when the primary has to be asked.
func (r *replica) lookup(ctx context.Context, l tokenstore.Lookup) (rec *tokenstore.Record, ok bool) {
	known := r.known.load()
	if known == (tokenstore.Position{}) || !r.rest.over() {
		return nil, false
	}
	limited, cancel := context.WithTimeout(ctx, replicaTimeout)
	defer cancel()
	select {
	case r.turns <- struct{}{}:
		defer func() { <-r.turns }()
	case <-limited.Done():
		r.rest.abandon()
		return nil, false
	}
	rec, at, err := r.read(limited, l)
	missing := errors.Is(err, tokenstore.ErrNotFound)
	if ctx.Err() != nil {
		r.rest.abandon()
		return nil, false // the caller left, which is nobody's fault
	}
	state := ReplicaUnreachable
	if err == nil || missing {
		// What is known now, and not what was when the question was put: the feed
		// may have told of a change meanwhile.
		state = r.known.judge(&at)
	}
	r.rest.begin(state)
	if state == ReplicaInUse && !missing {
		r.seen.raise(at.Position)
		r.answered.Add(1)
		return rec, true
	}
	r.passed.Add(1)
	return nil, false
}

// read reads a record, and the position of the feed in the snapshot that it is from.
func (r *replica) read(ctx context.Context, l tokenstore.Lookup) (*tokenstore.Record, place, error) {
	held, err := r.pool.Acquire(ctx)
	if err != nil {
		return nil, place{}, err
	}
	session := &session{held: held, limit: replicaTimeout}
	defer session.release(ctx)
	conn := &positioned{DBTX: r.wrap(session)}
	rec, err := r.records.Read(ctx, conn, l)
	if err != nil && held.Conn().IsClosed() {
		r.pool.Reset() // the others are lost as well, most likely
	}
	return rec, conn.at, err
}

func (r *replica) close() { r.pool.Close() }

// place is where an answer is from. follows is false for a server that takes
// writes: after a promotion by mistake it counts the same numbers as the primary
// for changes of its own.
type place struct {
	tokenstore.Position
	follows bool
}

// positioned has a statement for one row also tell the position of the feed, when
// there is no such row too.
type positioned struct {
	db.DBTX
	at place
}

func (p *positioned) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, err := p.Query(ctx, "SELECT found.*, head.epoch, head.seq, pg_is_in_recovery() FROM head LEFT JOIN (\n"+sql+"\n) found ON true", args...)
	return &positionedRow{rows: rows, err: err, of: p}
}

type positionedRow struct {
	rows pgx.Rows
	err  error
	of   *positioned
}

func (r *positionedRow) Scan(into ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return errors.New("the database has no head: the schema is not complete")
	}
	// The first column of what is looked for is never NULL.
	missing := r.rows.RawValues()[0] == nil
	if missing {
		into = make([]any, len(into)) // nil: nothing to be read
	}
	if err := r.rows.Scan(append(into, &r.of.at.Epoch, &r.of.at.Seq, &r.of.at.follows)...); err != nil {
		return err
	}
	r.rows.Close()
	if err := r.rows.Err(); err != nil {
		return err
	}
	if missing {
		return pgx.ErrNoRows
	}
	return nil
}

// reached is the furthest position of the feed that this node was told of.
type reached struct {
	mu sync.Mutex
	at tokenstore.Position
}

func (r *reached) load() tokenstore.Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at
}

// raise takes in what the primary told. Within an epoch it never goes back.
func (r *reached) raise(at tokenstore.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at.Epoch != r.at.Epoch || at.Seq > r.at.Seq {
		r.at = at
	}
}

// judge says what an answer from a position is worth.
func (r *reached) judge(at *place) ReplicaState {
	switch known := r.load(); {
	case at.Epoch != known.Epoch, !at.follows:
		return ReplicaOfAnotherHistory
	case at.Seq < known.Seq:
		return ReplicaLagging
	default:
		return ReplicaInUse
	}
}

// ahead says whether the replica showed more than a position. It may apply a
// commit a moment before the primary shows it to anyone.
func (r *replica) ahead(of tokenstore.Position) bool {
	seen := r.seen.load()
	return seen.Epoch == of.Epoch && seen.Seq > of.Seq
}

// rest says when the replica may be asked. After a rest one asks first, and the
// others go on without it until there is an answer.
type rest struct {
	now func() time.Time

	awake atomic.Bool // nobody rests: all may ask

	mu     sync.Mutex
	state  ReplicaState
	wait   time.Duration
	until  time.Time
	trying bool // one asks after a rest
}

// over says whether the caller may ask.
func (r *rest) over() bool {
	if r.awake.Load() {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if now.Before(r.until) {
		return false
	}
	// Should the answer never be told, somebody else asks.
	r.until, r.trying = now.Add(4*replicaTimeout), true
	return true
}

// begin takes in what became of a question: in use, or a rest.
func (r *rest) begin(state ReplicaState) {
	if state == ReplicaInUse && r.awake.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if state == ReplicaInUse {
		r.state, r.wait, r.trying = state, 0, false
		r.awake.Store(true)
		return
	}
	if !r.awake.Load() && !r.trying && r.wait != 0 {
		return // it was asked before the rest began: several that failed together count once
	}
	longest := replicaRestMax
	if state == ReplicaLagging {
		longest = replicaLagMax
	}
	r.state, r.wait, r.trying = state, min(max(2*r.wait, replicaRestMin), longest), false
	r.until = r.now().Add(jittered(r.wait))
	r.awake.Store(false)
}

// abandon lets somebody else ask, since nobody learned anything.
func (r *rest) abandon() {
	if r.awake.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.trying {
		r.until, r.trying = r.now(), false
	}
}

func (r *rest) standing() ReplicaState {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == NoReplica {
		return ReplicaUnused
	}
	return r.state
}
