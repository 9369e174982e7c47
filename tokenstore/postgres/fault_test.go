package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

var errInjected = fmt.Errorf("%w: injected", tokenstore.ErrUnavailable)

// faults lets the n-th statement fail, before it runs or after.
type faults struct {
	mu     sync.Mutex
	failAt int // 0: none
	after  bool
	count  int
	failed string // the statement that did
}

func (f *faults) arm(n int, after bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failAt, f.after, f.count, f.failed = n, after, 0, ""
}

// next counts a statement, and says what is to happen to it.
func (f *faults) next(text string) (before, after error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count++
	if f.count != f.failAt {
		return nil, nil
	}
	f.failed = text
	if f.after {
		return nil, errInjected
	}
	return errInjected, nil
}

func (f *faults) wrap(inner db.DBTX) db.DBTX { return faulty{inner, f} }

type faulty struct {
	db.DBTX
	f *faults
}

func (f faulty) Exec(ctx context.Context, text string, args ...any) (pgconn.CommandTag, error) {
	before, after := f.f.next(text)
	if before != nil {
		return pgconn.CommandTag{}, before
	}
	tag, err := f.DBTX.Exec(ctx, text, args...)
	return tag, errors.Join(err, after)
}

func (f faulty) Query(ctx context.Context, text string, args ...any) (pgx.Rows, error) {
	before, after := f.f.next(text)
	if before != nil {
		return nil, before
	}
	rows, err := f.DBTX.Query(ctx, text, args...)
	if after != nil && err == nil {
		rows.Close()
		return nil, after
	}
	return rows, err
}

func (f faulty) QueryRow(ctx context.Context, text string, args ...any) pgx.Row {
	before, after := f.f.next(text)
	if before != nil {
		return brokenRow{before}
	}
	row := f.DBTX.QueryRow(ctx, text, args...)
	if after != nil {
		var drop any
		_ = row.Scan(&drop)
		return brokenRow{after}
	}
	return row
}

type brokenRow struct{ err error }

func (r brokenRow) Scan(...any) error { return r.err }

// S20: every statement of a transaction fails once, and nothing of it is ever
// visible; f is told, and can not go on.
func TestEveryStatementMayFailAndNothingOfTheWriteIsVisible(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		for _, swallow := range []bool{false, true} {
			t.Run(fmt.Sprintf("after it ran %v, f goes on %v", after, swallow), func(t *testing.T) {
				f, ring := new(faults), storetest.Ring(t)
				s := open(t, database(t), postgres.Options{Ring: ring, Wrap: f.wrap})
				start, err := s.Changes(t.Context(), tokenstore.Position{})
				require.NoError(t, err)
				for n := 1; ; n++ {
					require.Less(t, n, 200)
					f.arm(n, after)
					err := s.Write(t.Context(), func(tx *tokenstore.Tx) error {
						err := changeAll(ring)(tx)
						if swallow {
							return nil
						}
						return err
					})
					failed := f.failed
					f.arm(0, false)
					if failed == "" {
						require.NoError(t, err)
						require.Greater(t, n, 40, "all statements had their turn")
						return
					}
					require.ErrorIs(t, err, tokenstore.ErrUnavailable, failed)
					if failed == "COMMIT" {
						require.ErrorIs(t, err, tokenstore.ErrUnknownOutcome)
						if after {
							return // it was done, and the next would conflict
						}
					} else {
						require.NotErrorIs(t, err, tokenstore.ErrUnknownOutcome, failed)
					}
					require.NoError(t, s.Read(t.Context(), untouched), failed)
					now, err := s.Changes(t.Context(), tokenstore.Position{})
					require.NoError(t, err)
					require.Equal(t, start, now, failed)
					report, err := tokenstore.VerifyAudit(t.Context(), s, ring, nil)
					require.NoError(t, err)
					require.Empty(t, report.Problems, failed)
				}
			})
		}
	}
}

func TestEveryStatementMayFailInReads(t *testing.T) {
	t.Parallel()
	f, ring := new(faults), storetest.Ring(t)
	s := open(t, database(t), postgres.Options{Ring: ring, Wrap: f.wrap})
	require.NoError(t, s.Write(t.Context(), changeAll(ring)))
	for name, read := range map[string]func() error{
		"lookup":  func() error { return second(s.Lookup(t.Context(), tokenstore.Lookup{2})) },
		"changes": func() error { return second(s.Changes(t.Context(), tokenstore.Position{})) },
		"tokens": func() error {
			return s.Read(t.Context(), func(tx *tokenstore.Tx) error {
				_, _ = tx.Tokens(tokenstore.TokenQuery{Search: "x", States: []token.State{token.Disabled}, Scope: "x:read"})
				return nil // an error that f keeps to itself still counts
			})
		},
		"master keys": func() error {
			return s.Read(t.Context(), func(tx *tokenstore.Tx) error { return second(tx.MasterKeys()) })
		},
	} {
		for n := 1; ; n++ {
			f.arm(n, false)
			err := read()
			failed := f.failed
			f.arm(0, false)
			if failed == "" {
				require.NoError(t, err, name)
				require.Greater(t, n, 1)
				break
			}
			require.ErrorIs(t, err, tokenstore.ErrUnavailable, "%s: %s", name, failed)
		}
		require.NoError(t, read(), name)
	}
}

// asking notes the answer to a question that is put inside of each kind of transaction.
func asking(answers *sync.Map, question string) func(db.DBTX) db.DBTX {
	return func(inner db.DBTX) db.DBTX { return asker{inner, answers, question} }
}

type asker struct {
	db.DBTX
	answers  *sync.Map
	question string
}

func (a asker) Exec(ctx context.Context, text string, args ...any) (pgconn.CommandTag, error) {
	tag, err := a.DBTX.Exec(ctx, text, args...)
	if level, ok := beginOf(text); ok && err == nil {
		var answer string
		err = a.DBTX.QueryRow(ctx, a.question).Scan(&answer)
		a.answers.Store(level, answer)
	}
	return tag, err
}
