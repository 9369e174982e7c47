package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// simple added to a connection string makes pgx speak the simple protocol.
const simple = "&default_query_exec_mode=simple_protocol"

// ceiling is when a test gives up, on a busy machine too. It says nothing about
// how fast anything must be.
const ceiling = 30 * time.Second

// pristine is a database with the schema, in which no store was opened yet.
func pristine(t *testing.T, server *pgtest.Server) *pgtest.Pristine {
	t.Helper()
	return server.Pristine(func(url string) error {
		ctx, cancel := context.WithTimeout(context.Background(), ceiling)
		defer cancel()
		return postgres.Migrate(ctx, url)
	})
}

var migrated struct {
	once sync.Once
	*pgtest.Pristine
}

// database is an empty one with the schema, on the server that tests share.
func database(t *testing.T) (url string) {
	t.Helper()
	server := pgtest.Shared(t)
	migrated.once.Do(func() { migrated.Pristine = pristine(t, server) })
	return migrated.Lend(t)
}

// open opens a store that is closed with the test.
func open(t *testing.T, url string, o postgres.Options) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), url, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// through is the same database by way of another address.
func through(url, addr string) string {
	before, rest, _ := strings.Cut(url, "@")
	_, after, _ := strings.Cut(rest, "/")
	return before + "@" + addr + "/" + after
}

// psql is a session that has nothing to do with the store.
func psql(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), ceiling)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	})
	return conn
}

// run runs statements in a session of their own.
func run(t *testing.T, url, statements string) {
	t.Helper()
	conn := psql(t, url)
	_, err := conn.Exec(t.Context(), statements)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
}

// rowsOnly makes a role that may read and write rows, and nothing else.
func rowsOnly(t *testing.T, url string) (name string) {
	t.Helper()
	name = fmt.Sprintf("role%d", roles.Add(1))
	run(t, url, "CREATE ROLE "+name+" LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "+name)
	return name
}

var roles atomic.Int64

// number asks for one number.
func number(t *testing.T, conn *pgx.Conn, query string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), query, args...).Scan(&n))
	return n
}

// becomes asks until the answer is the one that must come.
func becomes(t *testing.T, what string, conn *pgx.Conn, query string, right func(n int) bool) {
	t.Helper()
	eventually(t, what, func() bool {
		var n int
		return conn.QueryRow(context.Background(), query).Scan(&n) == nil && right(n)
	})
}

func none(n int) bool { return n == 0 }
func some(n int) bool { return n > 0 }

// ofOthers counts the sessions in a database but the one that asks.
const ofOthers = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

// issue stores an account and a token with a secret, and gives its lookup value.
func issue(t testing.TB, s tokenstore.Store, ring *tokenstore.Ring) (token.Token, tokenstore.Lookup) {
	t.Helper()
	account := storetest.Account()
	tok := storetest.Token(account.ID)
	storetest.MustWrite(t, s, func(tx *tokenstore.Tx) error { return tx.InsertAccount(&account) })
	secret := storetest.Issue(t, s, ring, &tok)
	l, ok := ring.Lookup(ring.IDs()[0], secret.Digest())
	require.True(t, ok)
	return tok, l
}

// touch is the smallest change: a new version of a token.
func touch(s tokenstore.Store, id token.ID) error {
	return s.Write(context.Background(), touching(id))
}

func touching(id token.ID) func(*tokenstore.Tx) error {
	return func(tx *tokenstore.Tx) error {
		tok, err := tx.Token(id)
		if err != nil {
			return err
		}
		e := storetest.Entry()
		e.At = time.Time{} // now: no two histories are the same
		tx.Audit(e)
		return tx.UpdateToken(&tok)
	}
}

// sound demands that the audit log is whole and the feed tells of every step.
func sound(t testing.TB, s tokenstore.Store, ring *tokenstore.Ring) tokenstore.Position {
	t.Helper()
	report, err := tokenstore.VerifyAudit(context.Background(), s, ring, nil)
	require.NoError(t, err)
	require.Empty(t, report.Problems)
	at, last := tokenstore.Position{}, int64(0)
	for {
		c, err := s.Changes(context.Background(), at)
		require.NoError(t, err)
		require.True(t, c.Complete)
		for _, change := range c.List {
			require.LessOrEqual(t, change.Seq, last+1, "no gap in the feed")
			last = max(last, change.Seq)
		}
		if c.At == at {
			return at
		}
		at = c.At
	}
}

// eventually waits for something that must come.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, ceiling, 10*time.Millisecond, what)
}

// bounded demands that f comes back, and says how it ended.
func bounded(t testing.TB, what string, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(ceiling):
		require.FailNow(t, fmt.Sprintf("%s does not come back", what))
		return nil
	}
}

func second[T any](_ T, err error) error { return err }
