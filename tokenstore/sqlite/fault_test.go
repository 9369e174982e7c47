package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
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
	for _, after := range []bool{false, true} {
		for _, swallow := range []bool{false, true} {
			t.Run(fmt.Sprintf("after it ran %v, f goes on %v", after, swallow), func(t *testing.T) {
				f := new(faults)
				path, ring := filepath.Join(t.TempDir(), "s.db"), newRing(t)
				s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring, Wrap: f.wrap})
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, s.Close()) })
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
	f := new(faults)
	path, ring := filepath.Join(t.TempDir(), "s.db"), newRing(t)
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring, Wrap: f.wrap})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
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

// fullDisk lets the file grow by no more than some pages, as a full disk does.
type fullDisk struct {
	mu    sync.Mutex
	pages int // 0: no limit
}

func (d *fullDisk) limit(pages int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pages = pages
}

func (d *fullDisk) wrap(inner db.DBTX) db.DBTX { return limited{inner, d} }

type limited struct {
	db.DBTX
	d *fullDisk
}

func (l limited) Exec(ctx context.Context, text string, args ...any) (pgconn.CommandTag, error) {
	if strings.HasPrefix(text, "BEGIN IMMEDIATE") {
		l.d.mu.Lock()
		pages := l.d.pages
		l.d.mu.Unlock()
		if pages == 0 {
			pages = 1 << 30
		}
		if _, err := l.DBTX.Exec(ctx, fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
			return pgconn.CommandTag{}, err
		}
	}
	return l.DBTX.Exec(ctx, text, args...)
}

// F23: disk full.
func TestAFullDiskIsUnavailableAndEndsWithTheSpace(t *testing.T) {
	disk := new(fullDisk)
	path, ring := filepath.Join(t.TempDir(), "s.db"), newRing(t)
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring, Wrap: disk.wrap})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	insert := func(i int) error {
		return s.Write(t.Context(), func(tx *tokenstore.Tx) error {
			tx.Audit(tokenstore.AuditEntry{Verb: "account.create", After: []byte(strings.Repeat("x", 5000))})
			return tx.InsertAccount(&token.Account{ID: token.ID(fmt.Sprintf("acc_%06d", i)), Policy: "default"})
		})
	}
	require.NoError(t, insert(0))
	disk.limit(1) // as much as it has
	full := 0
	for i := 1; i < 100; i++ {
		if err := insert(i); err != nil {
			require.ErrorIs(t, err, tokenstore.ErrUnavailable)
			require.ErrorContains(t, err, "free space")
			full++
		}
	}
	require.Positive(t, full)
	// Reads go on, nothing is half there, and space is all that it takes.
	disk.limit(0)
	require.NoError(t, insert(1000))
	report, err := tokenstore.VerifyAudit(t.Context(), s, ring, nil)
	require.NoError(t, err)
	require.Empty(t, report.Problems)
	c, err := s.Changes(t.Context(), tokenstore.Position{})
	require.NoError(t, err)
	require.Equal(t, report.Entries, c.At.Seq)
}

// A log that ends anywhere, or in garbage, gives what was whole in it.
func TestATornLogGivesAPrefixOfWhatWasCommitted(t *testing.T) {
	sequential(t)
	path, ring := filepath.Join(t.TempDir(), "s.db"), newRing(t)
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	for i := range 10 {
		require.NoError(t, s.Write(t.Context(), func(tx *tokenstore.Tx) error {
			tx.Audit(tokenstore.AuditEntry{Verb: "account.create"})
			return tx.InsertAccount(&token.Account{ID: token.ID(fmt.Sprintf("acc_%06d", i)), Policy: "default"})
		}))
	}
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	log, err := os.ReadFile(path + "-wal")
	require.NoError(t, err)
	prefixes := map[int64]bool{}
	for n := range 40 {
		size := len(log) * n / 39
		torn := append([]byte(nil), log[:size]...)
		if n%2 == 1 { // garbage instead of an end
			torn = append(torn, log[:len(log)-size]...)
		}
		path := filepath.Join(t.TempDir(), "s.db")
		require.NoError(t, os.WriteFile(path, file, 0o600))
		require.NoError(t, os.WriteFile(path+"-wal", torn, 0o600))
		s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring})
		require.NoError(t, err, "%d of %d bytes", size, len(log))
		report, err := tokenstore.VerifyAudit(t.Context(), s, ring, nil)
		require.NoError(t, err)
		require.Empty(t, report.Problems)
		c, err := s.Changes(t.Context(), tokenstore.Position{})
		require.NoError(t, err)
		require.True(t, c.Complete)
		require.Len(t, c.List, int(c.At.Seq))
		prefixes[c.At.Seq] = true
		require.NoError(t, s.Close())
	}
	require.Greater(t, len(prefixes), 5)
	require.True(t, prefixes[11])
}
