package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// transaction is how one begins, in the simple protocol: there one message holds
// several statements, which is one round trip, through any pooler.
type transaction struct {
	begin    string
	writable bool
	// How long beginning and each statement may take. Where the server has a
	// timeout for the same, it is the shorter one.
	opening, statement time.Duration
}

var (
	// A writer takes the head's row first, and whoever has it is the only writer.
	// So READ COMMITTED is as good as serializable: the first statement after it
	// sees all that was ever committed, and until it is given up nobody commits
	// anything more. Nothing else may write these tables without that lock.
	//
	// The timeouts are for an owner that hangs, and let its connection go without
	// its help.
	writing = transaction{
		begin: `BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '10s'; SET LOCAL idle_in_transaction_session_timeout = '5s';
SELECT 1 FROM head WHERE one = 1 FOR UPDATE`,
		writable: true, opening: 4 * time.Second, statement: 12 * time.Second,
	}
	reading = transaction{
		begin: `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL statement_timeout = '20s'; SET LOCAL idle_in_transaction_session_timeout = '60s'`,
		opening: 2 * time.Second, statement: 22 * time.Second,
	}
	following = transaction{begin: reading.begin, opening: reading.opening, statement: feedTimeout}
)

// attempts is how often a write is tried that others keep from happening. A node
// that stands still while it holds the head is rid of it after 5 s: as many
// attempts to get it take longer.
const attempts = 3

// Lookup implements tokenstore.Store.
func (s *Store) Lookup(ctx context.Context, l tokenstore.Lookup) (rec *tokenstore.Record, err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("look up a secret: %w", err)
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.calls.Done()
	if s.replica != nil {
		if rec, ok := s.replica.lookup(ctx, l); ok {
			return rec, nil
		}
	}
	limited, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	held, err := s.hold(limited, s.lookups, lookupTimeout, func(held *session) (err error) {
		rec, err = s.records.Read(limited, s.o.Wrap(held), l)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look up a secret: %w", explainIn(ctx, err))
	}
	held.release(ctx)
	return rec, nil
}

// Read implements tokenstore.Store.
func (s *Store) Read(ctx context.Context, f func(*tokenstore.Tx) error) error {
	return s.transact(ctx, s.management, &reading, plain(f))
}

// work is what is done in a transaction, over the connection that it runs on.
type work func(conn db.DBTX, tx *tokenstore.Tx) error

func plain(f func(*tokenstore.Tx) error) work {
	return func(_ db.DBTX, tx *tokenstore.Tx) error { return f(tx) }
}

// Write implements tokenstore.Store. Others are told to look only after the
// commit, by a statement of its own: a revocation never fails because of it.
func (s *Store) Write(ctx context.Context, f func(*tokenstore.Tx) error) error {
	return s.write(ctx, plain(f))
}

func (s *Store) write(ctx context.Context, f work) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.calls.Done()
	if err := s.turn(ctx); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { <-s.writers }()
	for attempt := 1; ; attempt++ {
		err := s.transact(ctx, s.management, &writing, f)
		if err == nil {
			s.wakes.tell()
			return nil
		}
		if attempt == attempts || !isRetryable(err) || !sleep(ctx, jittered(time.Duration(attempt)*20*time.Millisecond)) {
			return err
		}
	}
}

// turn waits until few enough others of this node write. All writers wait for
// one row: here they take no connection meanwhile, which those who read need.
func (s *Store) turn(ctx context.Context) error {
	timer := time.NewTimer(turnTimeout)
	defer timer.Stop()
	select {
	case s.writers <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return errSlow
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// Changes implements tokenstore.Store. Mostly there is nothing new, which one
// statement tells.
func (s *Store) Changes(ctx context.Context, after tokenstore.Position) (changes tokenstore.Changes, err error) {
	if err := ctx.Err(); err != nil {
		return tokenstore.Changes{}, fmt.Errorf("read the change feed: %w", err)
	}
	if err := s.enter(); err != nil {
		return tokenstore.Changes{}, err
	}
	defer s.calls.Done()
	limited, cancel := context.WithTimeout(ctx, feedTimeout)
	defer cancel()
	head, err := s.readHeadInTurn(limited)
	if err == nil {
		at := tokenstore.Position{Epoch: head.Epoch, Seq: head.Seq}
		s.reached(at)
		if at == after {
			return tokenstore.Changes{At: at, Complete: true}, nil
		}
		err = s.transact(limited, s.feed, &following, plain(func(tx *tokenstore.Tx) (err error) {
			changes, err = tx.Changes(after)
			return err
		}))
	}
	if err != nil {
		return tokenstore.Changes{}, fmt.Errorf("read the change feed: %w", explainIn(ctx, err))
	}
	s.reached(changes.At)
	return changes, nil
}

// readHeadInTurn reads the head, and waits a little until it is not behind what a
// replica has shown already.
func (s *Store) readHeadInTurn(ctx context.Context) (head db.GetHeadRow, err error) {
	const pause = 5 * time.Millisecond
	for waited := time.Duration(0); ; waited += pause {
		head, err = s.readHead(ctx)
		if err != nil || s.replica == nil || waited >= replicaAheadMax ||
			!s.replica.ahead(tokenstore.Position{Epoch: head.Epoch, Seq: head.Seq}) || !sleep(ctx, pause) {
			return head, err
		}
	}
}

// reached notes how far the feed is known to have come. A replica that has not
// come as far is not believed.
func (s *Store) reached(at tokenstore.Position) {
	if s.replica != nil {
		s.replica.known.raise(at)
	}
}

func (s *Store) transact(ctx context.Context, pool *pgxpool.Pool, as *transaction, f work) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.calls.Done()
	held, err := s.hold(ctx, pool, as.opening, func(held *session) error {
		_, err := s.o.Wrap(held).Exec(ctx, as.begin, pgx.QueryExecModeSimpleProtocol)
		return err
	})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	// Also when f panics: nothing of it may stay.
	defer held.release(ctx)
	held.limit = as.statement
	conn := s.o.Wrap(held)
	tx := tokenstore.NewTx(ctx, tokenstore.TxOptions{
		DB: conn, Explain: explain, Writable: as.writable, Ring: s.o.Ring, Now: s.o.Now,
		Clock: s.o.clock, Empty: "TRUNCATE ",
	})
	defer tx.End()
	if err := f(conn, tx); err != nil {
		return err
	}
	if err := tx.Finish(); err != nil || !as.writable {
		return err
	}
	if s.replica == nil {
		return commit(ctx, conn)
	}
	// What this node writes itself holds for its next lookup.
	head, err := db.New(conn).GetHead(ctx)
	if err != nil {
		return explainIn(ctx, err)
	}
	if err = commit(ctx, conn); err == nil || errors.Is(err, tokenstore.ErrUnknownOutcome) {
		s.reached(tokenstore.Position{Epoch: head.Epoch, Seq: head.Seq})
	}
	return err
}

// commit is not interrupted by ctx: once it has begun, it ends one way or the other.
func commit(ctx context.Context, conn db.DBTX) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	tag, err := conn.Exec(context.WithoutCancel(ctx), "COMMIT")
	switch {
	case err == nil && tag.String() == "COMMIT":
		return nil
	case err == nil:
		// Postgres answers a COMMIT of a transaction that has failed with ROLLBACK.
		return errors.New("commit: the transaction had failed and was rolled back")
	case isRefusal(err) || pgconn.SafeToRetry(err):
		return fmt.Errorf("commit: %w", explain(err))
	default:
		return fmt.Errorf("commit: %w: %w", tokenstore.ErrUnknownOutcome, redact(err))
	}
}
