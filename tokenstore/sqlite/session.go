package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// maxStatements bounds the statements that a session keeps prepared. The lists
// make a statement of their own for every combination of filters.
const maxStatements = 256

// session is one connection with its prepared statements. It speaks to the
// shared queries as pgx does. One goroutine uses it at a time.
type session struct {
	conn       *sql.Conn
	statements map[string]*sql.Stmt
}

func openSession(ctx context.Context, pool *sql.DB) (*session, error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &session{conn: conn, statements: map[string]*sql.Stmt{}}, nil
}

func (s *session) close() error {
	errs := make([]error, 0, len(s.statements)+1)
	for _, st := range s.statements {
		errs = append(errs, st.Close())
	}
	return errors.Join(append(errs, s.conn.Close())...)
}

// lane is a few sessions that are used for one purpose. Whoever waits longest
// gets the next; nil stands for a session that is not open yet.
type lane struct {
	pool *sql.DB
	free chan *session
}

func newLane(pool *sql.DB, sessions int) lane {
	l := lane{pool: pool, free: make(chan *session, sessions)}
	for range sessions {
		l.free <- nil
	}
	return l
}

// acquire takes a session, opening it if need be.
func (l lane) acquire(ctx context.Context) (*session, error) {
	var s *session
	select {
	case s = <-l.free:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s != nil {
		return s, nil
	}
	s, err := openSession(ctx, l.pool)
	if err != nil {
		l.free <- nil
	}
	return s, err
}

// release gives a session back, or drops it when it is of no use any more.
func (l lane) release(s *session, broken bool) {
	if broken {
		_ = s.close()
		s = nil
	}
	l.free <- s
}

// drain waits for all sessions and closes them.
func (l lane) drain() error {
	var errs []error
	for range cap(l.free) {
		if s := <-l.free; s != nil {
			errs = append(errs, s.close())
		}
	}
	return errors.Join(errs...)
}

var placeholder = regexp.MustCompile(`\$([0-9]+)`)

// statement prepares a query once. Postgres numbers placeholders $1; SQLite
// reads that as a name and numbers ?1.
func (s *session) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	if st := s.statements[query]; st != nil {
		return st, nil
	}
	st, err := s.conn.PrepareContext(ctx, placeholder.ReplaceAllString(query, "?$1"))
	if err != nil {
		return nil, err
	}
	if len(s.statements) >= maxStatements {
		for text, old := range s.statements { // any one
			delete(s.statements, text)
			_ = old.Close()
			break
		}
	}
	s.statements[query] = st
	return st, nil
}

// Exec runs a statement that gives no rows.
func (s *session) Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error) {
	st, err := s.statement(ctx, query) //nolint:sqlclosecheck // the session keeps it
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	result, err := st.ExecContext(ctx, args...)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	n, err := result.RowsAffected()
	return pgconn.NewCommandTag("EXEC " + strconv.FormatInt(n, 10)), err
}

// Query runs a statement that gives rows.
func (s *session) Query(ctx context.Context, query string, args ...any) (pgx.Rows, error) {
	st, err := s.statement(ctx, query) //nolint:sqlclosecheck // the session keeps it
	if err != nil {
		return nil, err
	}
	r, err := st.QueryContext(ctx, args...)
	if err != nil {
		return nil, err
	}
	return &rows{r: r}, nil
}

// QueryRow runs a statement that gives one row at most.
func (s *session) QueryRow(ctx context.Context, query string, args ...any) pgx.Row {
	r, err := s.Query(ctx, query, args...)
	return &row{rows: r, err: err}
}

// rows is sql.Rows as the generated code reads pgx.Rows. What it does not call
// stays with the embedded nil interface.
type rows struct {
	pgx.Rows
	r   *sql.Rows
	err error
}

func (r *rows) Close()                 { r.err = errors.Join(r.err, r.r.Close()) }
func (r *rows) Next() bool             { return r.r.Next() }
func (r *rows) Scan(into ...any) error { return r.r.Scan(into...) }
func (r *rows) Err() error {
	if r.err != nil {
		return r.err
	}
	return r.r.Err()
}

type row struct {
	rows pgx.Rows
	err  error
}

func (r *row) Scan(into ...any) error {
	if r.err != nil {
		return r.err
	}
	if !r.rows.Next() {
		r.rows.Close()
		if err := r.rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := r.rows.Scan(into...); err != nil {
		r.rows.Close()
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}

// rollback ends the transaction if one is still open. An error means that the
// connection is of no use any more.
func (s *session) rollback(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	open, err := inTransaction(ctx, s.conn)
	if err != nil || !open {
		return err
	}
	if _, err := s.Exec(ctx, "ROLLBACK"); err != nil {
		return fmt.Errorf("roll back: %w", err)
	}
	return nil
}
