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
)

// errSlow says that a deadline of this package passed, and none of the caller's.
var errSlow = fmt.Errorf("%w: it did not answer in time", tokenstore.ErrUnavailable)

// session is a connection that one call holds. Each statement on it has a
// deadline of its own: the server's timeouts end what the server still notices,
// this one is for a server or a network that stands still.
type session struct {
	held  *pgxpool.Conn
	limit time.Duration
}

// hold takes a connection from a pool and runs the first statement on it. A
// connection may have been lost since it was used last, when the server was
// restarted for example, and that shows only now: then another one is tried.
func (s *Store) hold(ctx context.Context, pool *pgxpool.Pool, limit time.Duration, first func(*session) error) (*session, error) {
	for attempt := 1; ; attempt++ {
		held, err := s.acquire(ctx, pool)
		if err != nil {
			return nil, err
		}
		session, asked := &session{held: held, limit: limit}, s.pause.now()
		if err = session.try(ctx, first); err == nil {
			s.pause.answered(asked)
			return session, nil
		}
		lost := held.Conn().IsClosed() && !errors.Is(err, errSlow)
		session.release(ctx)
		if isReadOnly(err) {
			pool.Reset() // it was the primary once
		}
		if !lost || attempt == 2 || ctx.Err() != nil {
			return nil, explainIn(ctx, err)
		}
		pool.Reset() // so are the others, most likely
	}
}

// try gives the connection back also when the statement panics.
func (s *session) try(ctx context.Context, first func(*session) error) error {
	done := false
	defer func() {
		if !done {
			s.release(ctx)
		}
	}()
	err := first(s)
	done = true
	return err
}

// acquire waits for a connection, or makes one.
func (s *Store) acquire(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Conn, error) {
	limited, cancel := context.WithTimeout(ctx, acquireTimeout)
	defer cancel()
	began := s.pause.now()
	held, err := pool.Acquire(limited)
	if err == nil {
		return held, nil
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) && limited.Err() == nil {
		s.pause.failed(began, isOfServer(err))
	}
	return nil, explainIn(ctx, err)
}

// release gives the connection back with no transaction open, or drops it. One
// that broke is taken out of the pool first: pgx waits for the server to
// acknowledge the end of it, 15 s if the server stands still, and its place
// would be taken for as long.
func (s *session) release(ctx context.Context) {
	c := s.held.Conn().PgConn()
	if !c.IsClosed() && c.TxStatus() != 'I' {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
		defer cancel()
		_, _ = s.held.Exec(limited, "ROLLBACK")
	}
	if !c.IsClosed() && !c.IsBusy() && c.TxStatus() == 'I' {
		s.held.Release()
		return
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
	defer cancel()
	_ = s.held.Hijack().Close(limited)
}

// Exec implements db.DBTX.
func (s *session) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	limited, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	tag, err := s.held.Exec(limited, sql, args...)
	return tag, inTime(ctx, limited, err)
}

// Query implements db.DBTX.
func (s *session) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	limited, cancel := context.WithTimeout(ctx, s.limit)
	rows, err := s.held.Query(limited, sql, args...)
	if err != nil {
		defer cancel()
		return nil, inTime(ctx, limited, err)
	}
	return &limitedRows{Rows: rows, ctx: ctx, limited: limited, cancel: cancel}, nil
}

// QueryRow implements db.DBTX.
func (s *session) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	limited, cancel := context.WithTimeout(ctx, s.limit)
	return &limitedRow{row: s.held.QueryRow(limited, sql, args...), ctx: ctx, limited: limited, cancel: cancel}
}

// inTime tells our deadline from the caller's.
func inTime(ctx, limited context.Context, err error) error {
	if err != nil && ctx.Err() == nil && errors.Is(limited.Err(), context.DeadlineExceeded) {
		return errSlow
	}
	return err
}

type limitedRows struct {
	pgx.Rows
	ctx, limited context.Context
	cancel       context.CancelFunc
}

func (r *limitedRows) Close() {
	r.Rows.Close()
	r.cancel()
}

func (r *limitedRows) Err() error { return inTime(r.ctx, r.limited, r.Rows.Err()) }

type limitedRow struct {
	row          pgx.Row
	ctx, limited context.Context
	cancel       context.CancelFunc
}

func (r *limitedRow) Scan(into ...any) error {
	defer r.cancel()
	return inTime(r.ctx, r.limited, r.row.Scan(into...))
}
