package postgres_test

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// hook does something once, before a statement runs.
type hook struct {
	mu   sync.Mutex
	text string
	do   func(db.DBTX)
}

func (h *hook) before(text string, do func(db.DBTX)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text, h.do = text, do
}

func (h *hook) take(text string) (do func(db.DBTX)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.do != nil && h.text == text {
		do, h.do = h.do, nil
	}
	return do
}

func (h *hook) wrap(inner db.DBTX) db.DBTX { return hooked{inner, h} }

type hooked struct {
	db.DBTX
	h *hook
}

func (k hooked) Exec(ctx context.Context, text string, args ...any) (pgconn.CommandTag, error) {
	if do := k.h.take(text); do != nil {
		do(k.DBTX)
	}
	return k.DBTX.Exec(ctx, text, args...)
}

// What is said about a commit that failed is true: that it was not done, or that
// nobody knows.
func TestWhatBecameOfACommit(t *testing.T) {
	t.Parallel()
	ring := storetest.Ring(t)
	setUp := func(t *testing.T) (s *postgres.Store, h *hook, tok token.Token, url string, proxy *pgtest.Proxy) {
		t.Parallel()
		h, url, proxy = new(hook), database(t), pgtest.NewProxy(t, pgtest.Shared(t).Addr())
		s = open(t, through(url, proxy.Addr()), postgres.Options{Ring: ring, Wrap: h.wrap})
		tok, _ = issue(t, s, ring)
		return s, h, tok, url, proxy
	}
	version := func(t *testing.T, url string) int {
		t.Helper()
		conn := psql(t, url)
		defer func() { require.NoError(t, conn.Close(t.Context())) }()
		return number(t, conn, "SELECT version FROM tokens")
	}
	inTransaction := ofOthers + " AND state LIKE 'idle in transaction%'"

	t.Run("the server gave up waiting for it", func(t *testing.T) {
		s, h, tok, url, _ := setUp(t)
		watcher := psql(t, url)
		h.before("COMMIT", func(conn db.DBTX) {
			_, err := conn.Exec(context.Background(), "SET LOCAL idle_in_transaction_session_timeout = '20ms'")
			require.NoError(t, err)
			becomes(t, "the session is ended", watcher, inTransaction, none)
		})
		err := touch(s, tok.ID)
		require.ErrorIs(t, err, tokenstore.ErrUnavailable)
		require.NotErrorIs(t, err, tokenstore.ErrUnknownOutcome)
		require.EqualValues(t, tok.Version, version(t, url))
		require.NoError(t, watcher.Close(t.Context()))
	})
	t.Run("somebody ended the session", func(t *testing.T) {
		s, h, tok, url, _ := setUp(t)
		watcher := psql(t, url)
		h.before("COMMIT", func(db.DBTX) {
			_, err := watcher.Exec(context.Background(), "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'")
			require.NoError(t, err)
		})
		require.ErrorIs(t, touch(s, tok.ID), tokenstore.ErrUnknownOutcome)
		require.EqualValues(t, tok.Version, version(t, url))
		require.NoError(t, watcher.Close(t.Context()))
	})
	t.Run("it was done, and the answer lost", func(t *testing.T) {
		s, h, tok, url, proxy := setUp(t)
		h.before("COMMIT", func(db.DBTX) { proxy.Drop("downstream") })
		err := bounded(t, "the write", func() error { return touch(s, tok.ID) })
		require.ErrorIs(t, err, tokenstore.ErrUnknownOutcome)
		require.EqualValues(t, tok.Version+1, version(t, url))
		proxy.Restore("downstream")
	})
	t.Run("the transaction had failed before", func(t *testing.T) {
		s, h, tok, url, _ := setUp(t)
		h.before("COMMIT", func(conn db.DBTX) {
			_, err := conn.Exec(context.Background(), "SELECT 1/0")
			require.Error(t, err)
		})
		err := touch(s, tok.ID)
		require.ErrorContains(t, err, "rolled back")
		require.NotErrorIs(t, err, tokenstore.ErrUnknownOutcome)
		require.EqualValues(t, tok.Version, version(t, url))
	})
	t.Run("the caller ended", func(t *testing.T) {
		s, h, tok, url, _ := setUp(t)
		ctx, cancel := context.WithCancel(t.Context())
		h.before("COMMIT", func(db.DBTX) { cancel() })
		require.NoError(t, s.Write(ctx, touching(tok.ID)), "a commit that has begun is seen through")
		require.EqualValues(t, tok.Version+1, version(t, url))
	})
}

func TestWhichErrorsTellWhatBecameOfACommit(t *testing.T) {
	for _, tc := range []struct {
		severity, code string
		known          bool
	}{
		{"ERROR", "40001", true},
		{"ERROR", "53100", true},
		{"FATAL", "25P03", true},  // the transaction was open for too long
		{"FATAL", "25P04", true},  // the same
		{"ERROR", "57014", false}, // cancelled, perhaps while it waited for a standby
		{"FATAL", "57P01", false}, // the server is shut down
		{"PANIC", "53100", false},
		{"FATAL", "XX000", false},
		{"ERROR", "08P01", false}, // a pooler lost its server
	} {
		err := fmt.Errorf("x: %w", &pgconn.PgError{SeverityUnlocalized: tc.severity, Code: tc.code})
		require.Equal(t, tc.known, postgres.IsRefusal(err), tc)
	}
	require.False(t, postgres.IsRefusal(io.EOF))
}
