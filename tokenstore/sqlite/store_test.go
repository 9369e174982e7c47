package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
)

func TestUsesASoundSQLite(t *testing.T) {
	var version string
	require.NoError(t, rawPool(t, filepath.Join(t.TempDir(), "x.db")).QueryRowContext(t.Context(), "SELECT sqlite_version()").Scan(&version))
	var have [3]int
	for i, part := range strings.SplitN(version, ".", 3) {
		var err error
		have[i], err = strconv.Atoi(part)
		require.NoError(t, err)
	}
	// Before that, a write-ahead log that was reset at a bad moment could lose commits.
	sound := [3]int{3, 51, 3}
	for i := range sound {
		if have[i] != sound[i] {
			require.Greater(t, have[i], sound[i], version)
			return
		}
	}
}

// asking runs a query on each connection that begins a transaction.
type asking struct {
	db.DBTX
	begin string
	ask   func(d db.DBTX)
}

func (a asking) Exec(ctx context.Context, text string, args ...any) (pgconn.CommandTag, error) {
	if text == a.begin {
		a.ask(a.DBTX)
	}
	return a.DBTX.Exec(ctx, text, args...)
}

func TestSetsUpItsConnections(t *testing.T) {
	for begin, want := range map[string]map[string]string{
		"BEGIN IMMEDIATE": {"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "query_only": "0", "trusted_schema": "0"},
		"BEGIN":           {"journal_mode": "wal", "foreign_keys": "1", "query_only": "1", "trusted_schema": "0"},
	} {
		asked := 0
		s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"), sqlite.Options{
			Ring: newRing(t),
			Wrap: func(inner db.DBTX) db.DBTX {
				return asking{inner, begin, func(d db.DBTX) {
					asked++
					for pragma, value := range want {
						var got string
						require.NoError(t, d.QueryRow(t.Context(), "PRAGMA "+pragma).Scan(&got))
						require.Equal(t, value, got, "%s: %s", begin, pragma)
					}
				}}
			},
		})
		require.NoError(t, err)
		require.NoError(t, s.Write(t.Context(), func(*tokenstore.Tx) error { return nil }))
		require.NoError(t, s.Read(t.Context(), func(*tokenstore.Tx) error { return nil }))
		require.Positive(t, asked)
		require.NoError(t, s.Close())
	}
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ring := newRing(t)
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"), sqlite.Options{Ring: ring})
	require.NoError(t, err)
	require.NoError(t, s.Write(t.Context(), changeAll(ring)))
	_, err = s.Lookup(t.Context(), tokenstore.Lookup{2})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Write(t.Context(), changeAll(ring)), tokenstore.ErrUnavailable)
}

func TestARefusedFileLeavesNoGoroutine(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	_, err := sqlite.Open(t.Context(), t.TempDir(), sqlite.Options{})
	require.Error(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = sqlite.Open(ctx, filepath.Join(t.TempDir(), "s.db"), sqlite.Options{})
	require.ErrorIs(t, err, context.Canceled)
}

func TestWithoutARingTheStoreCanBeRead(t *testing.T) {
	path, ring := closedStore(t)
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.Read(t.Context(), func(tx *tokenstore.Tx) error { return second(tx.Token("tok_x")) }))
	require.Error(t, s.Write(t.Context(), func(tx *tokenstore.Tx) error {
		tx.Audit(tokenstore.AuditEntry{Verb: "x"})
		return nil
	}))
	report, err := tokenstore.VerifyAudit(t.Context(), s, ring, nil)
	require.NoError(t, err)
	require.Empty(t, report.Problems)
}

// What was parsed once is used again, and must not outlive what it was parsed from.
func TestALookupShowsTheVersionOfAPolicyThatWasPutAgainUnchanged(t *testing.T) {
	path, ring := closedStore(t)
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	for want := int64(2); want < 5; want++ {
		require.NoError(t, s.Write(t.Context(), func(tx *tokenstore.Tx) error {
			tx.Audit(tokenstore.AuditEntry{Verb: "policy.edit"})
			policy, role := token.DefaultPolicy(), token.Role{Name: "member", Ceiling: token.Grant{Access: token.ReadWrite}}
			return errors.Join(tx.PutPolicy(&policy), tx.PutRole(&role))
		}))
		rec, err := s.Lookup(t.Context(), tokenstore.Lookup{2})
		require.NoError(t, err)
		require.Equal(t, want, rec.Policy.Version)
		require.Equal(t, want, rec.Role.Version)
	}
}

func TestAWriterThatWaitsForAnotherProcess(t *testing.T) {
	path, ring := closedStore(t)
	other := rawPool(t, path)
	other.SetMaxOpenConns(1)
	conn, err := other.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	require.NoError(t, err)
	put := func(tx *tokenstore.Tx) error { return tx.PutNode(tokenstore.Node{ID: "n"}) }

	t.Run("gives up after its time", func(t *testing.T) {
		s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring, BusyTimeout: time.Millisecond})
		require.NoError(t, err)
		defer s.Close()
		require.ErrorIs(t, s.Write(t.Context(), put), tokenstore.ErrUnavailable)
		// Readers wait for nobody.
		require.NoError(t, s.Read(t.Context(), func(tx *tokenstore.Tx) error { return second(tx.Token("tok_x")) }))
	})
	t.Run("gives up with its context", func(t *testing.T) {
		s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring, BusyTimeout: time.Hour})
		require.NoError(t, err)
		defer s.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, s.Write(ctx, put), context.DeadlineExceeded)
	})
	t.Run("writes when the other is done", func(t *testing.T) {
		s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring, BusyTimeout: time.Hour})
		require.NoError(t, err)
		defer s.Close()
		written := make(chan error, 1)
		go func() { written <- s.Write(t.Context(), put) }()
		_, err = conn.ExecContext(t.Context(), "COMMIT")
		require.NoError(t, err)
		require.NoError(t, <-written)
	})
}

// fillFeed adds steps to the feed, past the store, and makes all of it some time old.
func fillFeed(t *testing.T, path string, steps int, age time.Duration) {
	t.Helper()
	pool := rawPool(t, path)
	_, err := pool.ExecContext(t.Context(), fmt.Sprintf(`WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO changes SELECT (SELECT seq FROM head) + i, 'token', 'tok_' || i, 1, 0, ?1 FROM n`, steps), time.Now().Add(-age).UnixMicro())
	require.NoError(t, err)
	_, err = pool.ExecContext(t.Context(), "UPDATE head SET seq = seq + ?1", steps)
	require.NoError(t, err)
	_, err = pool.ExecContext(t.Context(), "UPDATE changes SET at = ?1", time.Now().Add(-age).UnixMicro())
	require.NoError(t, err)
}

func TestTheFeedForgetsWhatIsOldAndFarBack(t *testing.T) {
	sequential(t)
	step := func(s *sqlite.Store, steps int) {
		for range steps {
			require.NoError(t, s.Write(t.Context(), func(tx *tokenstore.Tx) error {
				tx.Audit(tokenstore.AuditEntry{Verb: "x"})
				return tx.PutScope(tokenstore.DeclaredScope{Scope: token.Scope{Name: "x", Nature: token.Read}})
			}))
		}
	}
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		steps  int
		age    time.Duration
		forget bool
	}{
		"old and far back":         {101_000, 8 * day, true},
		"old, and not far back":    {90_000, 8 * day, false},
		"far back, and not so old": {101_000, 6 * day, false},
	} {
		t.Run(name, func(t *testing.T) {
			path, ring := closedStore(t)
			fillFeed(t, path, c.steps, c.age)
			s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Close()) })
			before, err := s.Changes(t.Context(), tokenstore.Position{})
			require.NoError(t, err)
			require.True(t, before.Complete)
			step(s, 257) // it prunes in passing, every so many steps

			after, err := s.Changes(t.Context(), tokenstore.Position{})
			require.NoError(t, err)
			require.Equal(t, !c.forget, after.Complete, "from the beginning")
			if c.forget {
				require.Empty(t, after.List)
			}
			recent, err := s.Changes(t.Context(), tokenstore.Position{Epoch: after.At.Epoch, Seq: max(1, int64(c.steps)-99_000)})
			require.NoError(t, err)
			require.True(t, recent.Complete, "what is within the last 100,000 stays")
			require.NotEmpty(t, recent.List)
		})
	}
}

// What is removed is a prefix: a step that seems young, made while the clock was
// ahead, keeps those after it, or else the feed would have a gap.
func TestTheFeedForgetsNothingAfterAStepThatIsYoung(t *testing.T) {
	sequential(t)
	path, ring := closedStore(t)
	fillFeed(t, path, 101_000, 8*24*time.Hour)
	_, err := rawPool(t, path).ExecContext(t.Context(), "UPDATE changes SET at = ?1 WHERE seq = 10", time.Now().Add(time.Hour).UnixMicro())
	require.NoError(t, err)
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	for range 257 {
		require.NoError(t, s.Write(t.Context(), func(tx *tokenstore.Tx) error {
			tx.Audit(tokenstore.AuditEntry{Verb: "x"})
			return tx.PutScope(tokenstore.DeclaredScope{Scope: token.Scope{Name: "x", Nature: token.Read}})
		}))
	}
	c, err := s.Changes(t.Context(), tokenstore.Position{})
	require.NoError(t, err)
	require.False(t, c.Complete)
	for after, complete := range map[int64]bool{8: false, 9: true, 10: true, 500: true} {
		c, err = s.Changes(t.Context(), tokenstore.Position{Epoch: c.At.Epoch, Seq: after})
		require.NoError(t, err)
		require.Equal(t, complete, c.Complete, after)
		if complete {
			require.Equal(t, after+1, c.List[0].Seq)
		}
	}
}

func TestTheFeedAnswersInPiecesThatEndWithAStep(t *testing.T) {
	sequential(t)
	path, ring := closedStore(t)
	fillFeed(t, path, 25_000, 0)
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	// One step that is larger than a piece.
	require.NoError(t, s.Write(t.Context(), func(tx *tokenstore.Tx) error {
		tx.Audit(tokenstore.AuditEntry{Verb: "x"})
		for i := range 10_500 {
			if err := tx.PutScope(tokenstore.DeclaredScope{Scope: token.Scope{Name: fmt.Sprint("s", i), Nature: token.Read}}); err != nil {
				return err
			}
		}
		return nil
	}))
	var pieces []int
	var at tokenstore.Position
	last := int64(0)
	for {
		c, err := s.Changes(t.Context(), at)
		require.NoError(t, err)
		require.True(t, c.Complete)
		if c.At == at {
			break
		}
		require.Equal(t, last+1, c.List[0].Seq)
		last = c.List[len(c.List)-1].Seq
		require.Equal(t, c.At.Seq, last)
		pieces, at = append(pieces, len(c.List)), c.At
	}
	require.Len(t, pieces, 4)
	require.Equal(t, 10_500, pieces[3])
}

func TestLookupsAndTheFeedDoNotWaitForReaders(t *testing.T) {
	path, ring := closedStore(t)
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring, Readers: 1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.Read(t.Context(), func(*tokenstore.Tx) error {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		_, err := s.Lookup(ctx, tokenstore.Lookup{2})
		require.NoError(t, err)
		_, err = s.Changes(ctx, tokenstore.Position{})
		require.NoError(t, err)
		ctx, cancel = context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		require.ErrorIs(t, s.Read(ctx, func(*tokenstore.Tx) error { return nil }), context.DeadlineExceeded)
		return nil
	}))
}

func TestWritersTakeTurnsAndLookupsGoOn(t *testing.T) {
	path, ring := closedStore(t)
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring, Readers: 2})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	var inside, lookups atomic.Int32
	done := make(chan error, 20)
	for i := range 10 {
		go func() {
			done <- s.Write(t.Context(), func(tx *tokenstore.Tx) error {
				if inside.Add(1) != 1 {
					return fmt.Errorf("two writers at once")
				}
				defer inside.Add(-1)
				return tx.PutNode(tokenstore.Node{ID: fmt.Sprint(i)})
			})
		}()
		go func() {
			_, err := s.Lookup(t.Context(), tokenstore.Lookup{2})
			lookups.Add(1)
			done <- err
		}()
	}
	for range 20 {
		require.NoError(t, <-done)
	}
	require.EqualValues(t, 10, lookups.Load())
}
