package sqlite_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/ncruces/go-sqlite3/driver"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
)

// recorder notes the statements that a store runs.
type recorder struct {
	mu    sync.Mutex
	texts []string
}

func (r *recorder) wrap(inner db.DBTX) db.DBTX { return recording{inner, r} }

func (r *recorder) note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.texts = append(r.texts, text)
}

// take gives what was noted since it was last called.
func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	texts := r.texts
	r.texts = nil
	return texts
}

type recording struct {
	db.DBTX
	to *recorder
}

func (r recording) Exec(ctx context.Context, text string, args ...any) (pgconn.CommandTag, error) {
	r.to.note(text)
	return r.DBTX.Exec(ctx, text, args...)
}

func (r recording) Query(ctx context.Context, text string, args ...any) (pgx.Rows, error) {
	r.to.note(text)
	return r.DBTX.Query(ctx, text, args...)
}

func (r recording) QueryRow(ctx context.Context, text string, args ...any) pgx.Row {
	r.to.note(text)
	return r.DBTX.QueryRow(ctx, text, args...)
}

// walks are the statements that may look at all rows of a table.
var walks = map[string]bool{
	// Tables that people fill by hand.
	"ListRoles": true, "ListPolicies": true, "ListScopes": true, "ListMasterKeys": true, "ListNodes": true, "ShortestLifetime": true,
	// The head, which has one row, may name the key.
	"DeleteMasterKey": true,
	// Only the first rows, in the order in which they lie.
	"OldestChange": true, "ListOldestChanges": true,
	// It counts.
	"CountSecretsUnderKeys": true,
}

var (
	queryName = regexp.MustCompile(`^-- name: (\w+)`)
	// wholeTable is a plan's step that walks over a table: those over what a
	// subquery gave are named b0, b1, ... or c.
	wholeTable = regexp.MustCompile(`^SCAN (?:[^bc]|[bc]\w*[^\d])`)
	parameter  = regexp.MustCompile(`\$(\d+)`)
)

func TestNoStatementWalksOverATableOrSortsIt(t *testing.T) {
	sequential(t)
	path := filepath.Join(t.TempDir(), "s.db")
	rec := new(recorder)
	ring := newRing(t)
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring, Wrap: rec.wrap})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	const n = 6_000 // more than a page may look at
	fill(t, path, n)
	require.NoError(t, s.Write(t.Context(), changeAll(ring)))
	_, err = s.Lookup(t.Context(), filledLookup(1))
	require.NoError(t, err)
	_, err = s.Changes(t.Context(), tokenstore.Position{})
	require.NoError(t, err)
	read := func(f func(tx *tokenstore.Tx) error) {
		t.Helper()
		require.NoError(t, s.Read(t.Context(), f))
	}
	read(func(tx *tokenstore.Tx) error { _, err := tx.MasterKeys(); return err })
	read(func(tx *tokenstore.Tx) error {
		_, _, err := tx.TokensUnderKey(ring.IDs()[0], tokenstore.Page{})
		return err
	})
	read(func(tx *tokenstore.Tx) error { _, _, err := tx.Accounts(tokenstore.Page{}); return err })
	read(func(tx *tokenstore.Tx) error { _, _, err := tx.Users("", tokenstore.Page{}); return err })
	read(func(tx *tokenstore.Tx) error { _, _, err := tx.Users("acc_0000", tokenstore.Page{}); return err })
	read(func(tx *tokenstore.Tx) error { _, err := tx.Secrets(filledToken(1)); return err })
	read(func(tx *tokenstore.Tx) error { _, err := tx.SecretKeys(filledToken(1)); return err })
	read(func(tx *tokenstore.Tx) error { _, err := tx.Rotation(filledToken(1)); return err })
	read(func(tx *tokenstore.Tx) error {
		_, err := tx.FirstUse(&token.SecretRecord{ID: "sec_x", TokenID: "tok_x"})
		return err
	})
	read(func(tx *tokenstore.Tx) error { _, _, err := tx.GracesToStart("", 10); return err })
	for _, q := range auditQueries() {
		read(func(tx *tokenstore.Tx) error { _, _, err := tx.AuditEntries(q); return err })
	}
	read(func(tx *tokenstore.Tx) error { _, err := tx.AuditRange(0, 10); return err })
	// With a policy that limits lifetimes, and without.
	for _, q := range listQueries(n) {
		read(func(tx *tokenstore.Tx) error { _, err := tx.Tokens(q); return err })
	}
	require.NoError(t, s.Write(t.Context(), func(tx *tokenstore.Tx) error {
		tx.Audit(tokenstore.AuditEntry{Verb: "policy.edit"})
		p := token.DefaultPolicy()
		p.MaxLifetime = 180 * 24 * 3600e9
		return tx.PutPolicy(&p)
	}))
	for _, q := range listQueries(n) {
		read(func(tx *tokenstore.Tx) error { _, err := tx.Tokens(q); return err })
	}

	pool, err := driver.Open("file:" + path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	seen := map[string]bool{}
	for _, text := range rec.take() {
		if seen[text] || strings.HasPrefix(text, "BEGIN") || text == "COMMIT" {
			continue
		}
		seen[text] = true
		name := text
		if m := queryName.FindStringSubmatch(text); m != nil {
			name = m[1]
		}
		for _, step := range explainPlan(t, pool, text) {
			if walks[name] {
				continue
			}
			if wholeTable.MatchString(step) {
				t.Errorf("walks over a table: %s\n%s", step, text)
			}
			// What a way found is sorted when it is complete, and so little enough.
			if strings.Contains(step, "TEMP B-TREE") && !strings.Contains(text, "a.seq IN (SELECT") {
				t.Errorf("sorts: %s\n%s", step, text)
			}
		}
	}
	require.Greater(t, len(seen), 60)
}

// explainPlan gives the steps by which SQLite would run the statement.
func explainPlan(t *testing.T, pool *sql.DB, text string) []string {
	t.Helper()
	highest := 0
	for _, m := range parameter.FindAllStringSubmatch(text, -1) {
		n, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		highest = max(highest, n)
	}
	rows, err := pool.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+parameter.ReplaceAllString(text, "?$1"), make([]any, highest)...)
	require.NoError(t, err, text)
	defer func() { require.NoError(t, rows.Close()) }()
	var steps []string
	for rows.Next() {
		var id, parent, unused int
		var step string
		require.NoError(t, rows.Scan(&id, &parent, &unused, &step))
		steps = append(steps, step)
	}
	require.NoError(t, rows.Err())
	return steps
}
