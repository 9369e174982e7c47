package sqlite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ncruces/go-sqlite3/driver"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// Whoever can write the file, but has no master key, does not change the audit
// log unnoticed: not in one column of one row (D20).
func TestAnAuditLogThatIsChangedInTheFileIsNoticed(t *testing.T) {
	ring := storetest.Ring(t)
	dir := t.TempDir()
	genuine := filepath.Join(dir, "genuine.db")
	store, err := sqlite.Open(t.Context(), genuine, sqlite.Options{Ring: ring})
	require.NoError(t, err)
	for range 6 {
		storetest.MustWrite(t, store, func(tx *tokenstore.Tx) error {
			a := storetest.Account()
			return tx.InsertAccount(&a)
		})
	}
	report, err := tokenstore.VerifyAudit(t.Context(), store, ring, nil)
	require.NoError(t, err)
	require.Empty(t, report.Problems)
	last := report.Head.Seq
	require.NoError(t, store.Close())
	file, err := os.ReadFile(genuine)
	require.NoError(t, err)

	// What is done to the file, and whether it takes an earlier head to notice.
	tamper := map[string]struct {
		sql          []string
		needsEarlier bool
	}{
		"nothing":          {},
		"the first gone":   {sql: []string{"DELETE FROM audit WHERE seq = 1"}},
		"one gone":         {sql: []string{"DELETE FROM audit WHERE seq = 3"}},
		"the last gone":    {sql: []string{fmt.Sprintf("DELETE FROM audit WHERE seq = %d", last)}},
		"all gone":         {sql: []string{"DELETE FROM audit"}},
		"two exchanged":    {sql: []string{"UPDATE audit SET seq = -3 WHERE seq = 3", "UPDATE audit SET seq = 3 WHERE seq = 4", "UPDATE audit SET seq = 4 WHERE seq = -3"}},
		"one twice":        {sql: []string{"UPDATE audit SET seq = -seq WHERE seq > 3", "UPDATE audit SET seq = 1 - seq WHERE seq < 0", "INSERT INTO audit SELECT 4, " + auditColumns + " FROM audit WHERE seq = 3"}},
		"one more":         {sql: []string{fmt.Sprintf("INSERT INTO audit SELECT %d, "+auditColumns+" FROM audit WHERE seq = %d", last+1, last)}},
		"one before all":   {sql: []string{"INSERT INTO audit SELECT -7, " + auditColumns + " FROM audit WHERE seq = 1"}},
		"one moved along":  {sql: []string{"UPDATE audit SET seq = seq + 1000000 WHERE seq = 2"}},
		"the end cut off":  {sql: []string{fmt.Sprintf("DELETE FROM audit WHERE seq > %d", last-2), setHead}, needsEarlier: true},
		"started again":    {sql: []string{"DELETE FROM audit WHERE seq > 1", setHead}, needsEarlier: true},
		"a shorter hash":   {sql: []string{"UPDATE audit SET hash = substr(hash, 1, 31) WHERE seq = 3"}},
		"no MAC":           {sql: []string{"UPDATE audit SET mac = x'' WHERE seq = 3"}},
		"the head is none": {sql: []string{"UPDATE head SET audit_seq = 0, audit_at = 0, audit_key = '', audit_hash = zeroblob(32), audit_mac = zeroblob(32)"}},
	}
	for table, where := range map[string]string{"audit": " WHERE seq = 3", "head": ""} {
		for column, kind := range columns(t, genuine, table) {
			if table == "head" && !strings.HasPrefix(column, "audit_") {
				continue
			}
			change := map[string]string{"TEXT": column + " || 'x'", "INTEGER": "1 - " + column, "BLOB": "randomblob(32)"}[kind]
			require.NotEmpty(t, change, "a column of kind %s", kind)
			tamper[table+" "+column] = struct {
				sql          []string
				needsEarlier bool
			}{sql: []string{fmt.Sprintf("UPDATE %s SET %s = %s%s", table, column, change, where)}}
		}
	}

	for name, c := range tamper {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sallyport.db")
			require.NoError(t, os.WriteFile(path, file, 0o600))
			pool, err := driver.Open("file:" + path)
			require.NoError(t, err)
			for _, statement := range c.sql {
				_, err := pool.Exec(statement)
				require.NoError(t, err, statement)
			}
			require.NoError(t, pool.Close())

			store, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring})
			require.NoError(t, err)
			defer store.Close()
			alone, err := tokenstore.VerifyAudit(t.Context(), store, ring, nil)
			require.NoError(t, err)
			against, err := tokenstore.VerifyAudit(t.Context(), store, ring, &report.Head)
			require.NoError(t, err)
			if c.sql == nil {
				require.Empty(t, against.Problems)
				return
			}
			require.NotEmpty(t, against.Problems)
			require.Equal(t, c.needsEarlier, len(alone.Problems) == 0, "%q", alone.Problems)
		})
	}
}

const auditColumns = "at, actor_kind, actor_name, actor_verified, actor_address, verb, target, account_id, old_fields, new_fields, request_id, key_id, hash, mac"

// setHead makes the last entry that is left the head, as it once was.
const setHead = `UPDATE head SET (audit_seq, audit_at, audit_key, audit_hash, audit_mac) =
	(SELECT seq, at, key_id, hash, mac FROM audit ORDER BY seq DESC LIMIT 1)`

// columns gives a table's columns with their types.
func columns(t *testing.T, path, table string) map[string]string {
	t.Helper()
	pool, err := driver.Open("file:" + path + "?mode=ro")
	require.NoError(t, err)
	defer pool.Close()
	rows, err := pool.Query("SELECT name, type FROM pragma_table_info('" + table + "')")
	require.NoError(t, err)
	defer rows.Close()
	found := map[string]string{}
	for rows.Next() {
		var name, kind string
		require.NoError(t, rows.Scan(&name, &kind))
		found[name] = kind
	}
	require.NoError(t, rows.Err())
	require.NotEmpty(t, found)
	return found
}
