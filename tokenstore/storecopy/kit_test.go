package storecopy_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/internal/catalogue"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
	"github.com/sallyport/sallyport/tokenstore/storecopy"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// place is a database of one kind, and how it is opened.
type place struct {
	open func(t testing.TB, ring *tokenstore.Ring, copying bool, wrap func(db.DBTX) db.DBTX) (storecopy.Store, error)
}

func sqlitePlace(t testing.TB) place {
	path := filepath.Join(t.TempDir(), "s.db")
	return place{func(t testing.TB, ring *tokenstore.Ring, copying bool, wrap func(db.DBTX) db.DBTX) (storecopy.Store, error) {
		return opened(t)(sqlite.Open(context.Background(), path, sqlite.Options{Ring: ring, Copying: copying, Wrap: wrap}))
	}}
}

func postgresPlace(t testing.TB, parameters string) place {
	url := pgtest.Shared(t).Database() + parameters
	return place{func(t testing.TB, ring *tokenstore.Ring, copying bool, wrap func(db.DBTX) db.DBTX) (storecopy.Store, error) {
		return opened(t)(postgres.Open(context.Background(), url, postgres.Options{Ring: ring, Copying: copying, Wrap: wrap}))
	}}
}

// opened keeps a nil pointer from becoming an interface that is not nil, and
// closes what was opened with the test.
func opened(t testing.TB) func(storecopy.Store, error) (storecopy.Store, error) {
	return func(s storecopy.Store, err error) (storecopy.Store, error) {
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		return s, nil
	}
}

// serve opens the store as a gateway does.
func (p place) serve(t testing.TB, ring *tokenstore.Ring) storecopy.Store {
	t.Helper()
	s, err := p.open(t, ring, false, nil)
	require.NoError(t, err)
	return s
}

// lend opens the store for copying.
func (p place) lend(t testing.TB, ring *tokenstore.Ring) storecopy.Store {
	t.Helper()
	s, err := p.open(t, ring, true, nil)
	require.NoError(t, err)
	return s
}

// filled is a store with rows in every table.
type filled struct {
	place
	ring   *tokenstore.Ring
	tokens []token.ID
	users  []token.ID
	lookup tokenstore.Lookup // of a secret that works
}

// fill makes one through the front door as far as that goes, and then puts rows
// into every table that is still empty, whatever they mean: also into those of
// later migrations.
func fill(t testing.TB, p place) filled {
	t.Helper()
	f := filled{place: p, ring: storetest.Ring(t)}
	s := p.serve(t, f.ring)
	account := storetest.Account()
	account.Name = "Größe ☃ 𝄞 'quoted' \"twice\"\n" // sorts and travels as bytes
	user := storetest.User(account.ID)
	storetest.MustWrite(t, s, func(tx *tokenstore.Tx) error { return tx.InsertAccount(&account) })
	storetest.MustWrite(t, s, func(tx *tokenstore.Tx) error { return tx.InsertUser(&user) })
	for range 5 {
		another := storetest.User(account.ID)
		storetest.MustWrite(t, s, func(tx *tokenstore.Tx) error { return tx.InsertUser(&another) })
		f.users = append(f.users, another.ID)
	}
	for i := range 7 {
		tok := storetest.Token(account.ID)
		if i%2 == 1 {
			tok.UserID = user.ID // NULL in the others
		}
		tok.Grant = token.Grant{Access: token.Custom, Scopes: []string{"x:read", "x:write"}}
		secret := storetest.Issue(t, s, f.ring, &tok)
		f.tokens = append(f.tokens, tok.ID)
		f.lookup, _ = f.ring.Lookup(f.ring.IDs()[0], secret.Digest())
	}
	for i := range 5 { // which did not report for long
		storetest.MustWrite(t, s, func(tx *tokenstore.Tx) error {
			return tx.PutNode(tokenstore.Node{ID: fmt.Sprintf("x%d ☃", i), SeenAt: storetest.Now().AddDate(0, 0, i-9), Keys: map[string]string{"k": "v"}})
		})
	}
	raw(t, s, true, func(conn db.DBTX) error {
		found, _, err := s.Catalogue(t.Context(), conn)
		if err != nil {
			return err
		}
		// In the order of the list, so that what rows name is there before them.
		for _, name := range storecopy.Tables() {
			at := slices.IndexFunc(found, func(c catalogue.Table) bool { return c.Name == name })
			require.GreaterOrEqual(t, at, 0, name)
			if err := f.fillTable(t, conn, found[at]); err != nil {
				return fmt.Errorf("fill %s: %w", name, err)
			}
		}
		return nil
	})
	require.NoError(t, s.Close())
	return f
}

func (f *filled) fillTable(t testing.TB, conn db.DBTX, table catalogue.Table) error {
	var n int64
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM "+table.Name).Scan(&n); err != nil || n > 0 {
		return err
	}
	for i := range 5 {
		var names, marks []string
		var args []any
		for _, c := range table.Columns {
			var v any = int64(i % 2)
			switch {
			case c.Name == "token_id":
				v = string(f.tokens[i])
			case c.Name == "user_id":
				v = string(f.users[i])
			case c.Kind == catalogue.Text:
				v = fmt.Sprintf("x%d ☃", i)
			case c.Kind == catalogue.Blob:
				v = slices.Repeat([]byte{0, 255}, i) // the first is empty
			case c.Key > 0:
				v = int64(i) - 2
			}
			names = append(names, `"`+c.Name+`"`)
			args = append(args, v)
			marks = append(marks, fmt.Sprintf("$%d", len(args)))
		}
		if _, err := conn.Exec(t.Context(), "INSERT INTO "+table.Name+" ("+strings.Join(names, ", ")+") VALUES ("+strings.Join(marks, ", ")+")", args...); err != nil {
			return err
		}
	}
	return nil
}

// raw runs f on the rows as they are.
func raw(t testing.TB, s tokenstore.Store, write bool, f func(conn db.DBTX) error) {
	t.Helper()
	run := s.Read
	if write {
		run = s.Write
	}
	require.NoError(t, run(context.Background(), func(tx *tokenstore.Tx) error {
		return tx.Raw(func(conn db.DBTX, _ func(string, error) error) error { return f(conn) })
	}))
}

func exec(t testing.TB, s tokenstore.Store, statement string, args ...any) {
	t.Helper()
	raw(t, s, true, func(conn db.DBTX) error {
		_, err := conn.Exec(t.Context(), statement, args...)
		return err
	})
}

// content is every row of every table but the head's epoch and what finishing a
// copy adds to the log.
func content(t testing.TB, s storecopy.Store) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	raw(t, s, false, func(conn db.DBTX) error {
		found, _, err := s.Catalogue(t.Context(), conn)
		if err != nil {
			return err
		}
		for _, table := range found {
			if err := rowsOf(t, conn, table, all); err != nil {
				return err
			}
		}
		return nil
	})
	return all
}

func rowsOf(t testing.TB, conn db.DBTX, table catalogue.Table, all map[string][]string) error {
	names := make([]string, 0, len(table.Columns))
	for _, c := range table.Columns {
		if table.Name == "head" && (c.Name == "epoch" || strings.HasPrefix(c.Name, "audit_")) {
			continue
		}
		names = append(names, `"`+c.Name+`"`)
	}
	slices.Sort(names)
	query := "SELECT " + strings.Join(names, ", ") + " FROM " + table.Name
	if table.Name == "audit" {
		query += " WHERE verb NOT IN ('" + storecopy.Verb + "', 'store.epoch')"
	}
	rows, err := conn.Query(t.Context(), query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		row, into := make([]any, len(names)), make([]any, len(names))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		all[table.Name] = append(all[table.Name], fmt.Sprintf("%#v", row))
	}
	slices.Sort(all[table.Name])
	return rows.Err()
}

// options are those of a copy that can be told what happens in it.
func (f *filled) options() storecopy.Options {
	return storecopy.Options{Ring: f.ring, Actor: tokenstore.Actor{Kind: tokenstore.OperatorActor, Name: "teller"}, Batch: 3}
}

// copyTo copies the store, which must succeed.
func (f *filled) copyTo(t testing.TB, to place, o storecopy.Options) storecopy.Report {
	t.Helper()
	report, err := f.try(t, to, o)
	require.NoError(t, err)
	return report
}

func (f *filled) try(t testing.TB, to place, o storecopy.Options) (storecopy.Report, error) {
	t.Helper()
	from, target := f.lend(t, f.ring), to.lend(t, f.ring)
	report, err := storecopy.Run(t.Context(), from, target, o)
	require.NoError(t, from.Close())
	require.NoError(t, target.Close())
	return report, err
}
