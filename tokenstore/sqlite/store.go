package sqlite

import (
	"context"
	"fmt"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// Lookup implements tokenstore.Store.
func (s *Store) Lookup(ctx context.Context, l tokenstore.Lookup) (*tokenstore.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("look up a secret: %w", err)
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.calls.Done()
	open, err := s.serving.acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("look up a secret: %w", s.explain(ctx, err))
	}
	defer s.serving.release(open, false)
	rec, err := s.records.Read(ctx, s.o.Wrap(open), l)
	if err != nil {
		return nil, fmt.Errorf("look up a secret: %w", s.explain(ctx, err))
	}
	return rec, nil
}

// Read implements tokenstore.Store.
func (s *Store) Read(ctx context.Context, f func(*tokenstore.Tx) error) error {
	return s.transact(ctx, s.reading, "BEGIN", f)
}

// Write implements tokenstore.Store. The one writing connection takes the
// file's write lock at once, so that f never has to be run again.
func (s *Store) Write(ctx context.Context, f func(*tokenstore.Tx) error) error {
	return s.transact(ctx, s.writing, beginWrite, f)
}

// beginWrite takes the write lock.
const beginWrite = "BEGIN IMMEDIATE"

func (s *Store) transact(ctx context.Context, l lane, begin string, f func(*tokenstore.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.calls.Done()
	if err := s.present(); err != nil {
		return err
	}
	open, err := l.acquire(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", s.explain(ctx, err))
	}
	// Also when f panics: nothing of it may stay.
	defer func() { l.release(open, open.rollback(ctx) != nil) }()

	conn := s.o.Wrap(open)
	if _, err := conn.Exec(ctx, begin); err != nil {
		return fmt.Errorf("begin: %w", s.explain(ctx, err))
	}
	writable := begin == beginWrite
	tx := tokenstore.NewTx(ctx, tokenstore.TxOptions{
		DB: conn, Explain: explain, Writable: writable, Ring: s.o.Ring, Now: s.o.Now, ScanBudget: s.o.ScanBudget,
	})
	defer tx.End()
	if err := f(tx); err != nil {
		return err
	}
	if err := tx.Finish(); err != nil || !writable {
		return err
	}
	return s.commit(ctx, conn)
}

// commit is not interrupted by ctx: once it has begun, it ends one way or the other.
func (s *Store) commit(ctx context.Context, conn db.DBTX) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	_, err := conn.Exec(context.WithoutCancel(ctx), "COMMIT")
	switch {
	case err == nil:
		return nil
	case isBusy(err):
		return fmt.Errorf("commit: %w", explain(err))
	default:
		// All may be in the log already, and only its flush have failed: then the
		// transaction is there again after a crash.
		return fmt.Errorf("commit: %w: %w", tokenstore.ErrUnknownOutcome, err)
	}
}

// Changes implements tokenstore.Store.
func (s *Store) Changes(ctx context.Context, after tokenstore.Position) (tokenstore.Changes, error) {
	var changes tokenstore.Changes
	err := s.transact(ctx, s.serving, "BEGIN", func(tx *tokenstore.Tx) (err error) {
		changes, err = tx.Changes(after)
		return err
	})
	return changes, err
}
