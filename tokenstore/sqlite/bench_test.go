package sqlite_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3/driver"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
)

// fillStart is when the first token of a filled store was made; one follows
// every second.
var fillStart = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

func filledToken(i int) token.ID { return token.ID(fmt.Sprintf("tok_%026d", i)) }

func filledLookup(i int) (l tokenstore.Lookup) {
	copy(l[:], fmt.Sprintf("%010d%022d", uint32(i)*2654435761, 0))
	return l
}

// fill makes n tokens with a secret each, by SQL, since the store would take
// minutes for a million. One account has a tenth of all tokens, one user a
// hundredth; states, scopes, names and expiry are mixed.
func fill(t testing.TB, path string, n int) {
	t.Helper()
	pool, err := driver.Open("file:" + path + "?_pragma=synchronous(off)&_pragma=cache_size(-200000)")
	require.NoError(t, err)
	defer func() { require.NoError(t, pool.Close()) }()
	start := fillStart.UnixMicro()
	run := func(query string, args ...any) {
		t.Helper()
		_, err := pool.ExecContext(t.Context(), query, args...)
		require.NoError(t, err)
	}
	numbers := fmt.Sprintf("WITH RECURSIVE n(i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < %d) ", n-1)
	const thousand = "WITH RECURSIVE n(i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < 999) "
	run(thousand+`INSERT INTO accounts (id, name, policy, disabled, created_at, updated_at, version) SELECT printf('acc_%04d', i), 'Account ' || i, 'default', 0, ?1, ?1, 1 FROM n`, start)
	run(thousand+`INSERT INTO users (id, account_id, name, email, role, business_units, disabled, created_at, updated_at, version) SELECT printf('usr_%04d', i), printf('acc_%04d', i), 'User', 'u@example.com', 'member', '[]', 0, ?1, ?1, 1 FROM n`, start)
	run(numbers+`INSERT INTO tokens (id, name, name_folded, account_id, user_id, access, scopes, allow_list, environment, state,
			created_at, updated_at, expires_at, lifetime_from, ended_at, end_reason, version)
		SELECT printf('tok_%026d', i),
			CASE WHEN i % 1000 = 7 THEN 'Rare ' ELSE 'Common ' END || i,
			CASE WHEN i % 1000 = 7 THEN 'rare ' ELSE 'common ' END || i,
			CASE WHEN i % 10 = 0 THEN 'acc_0000' ELSE printf('acc_%04d', i % 1000) END,
			CASE WHEN i % 100 = 0 THEN 'usr_0000' END,
			'custom', CASE WHEN i % 2 = 1 THEN 'odd ' ELSE '' END || 'payments:read' || CASE WHEN i % 5000 = 3 THEN ' rarely' ELSE '' END,
			'', 'production',
			CASE WHEN i % 10000 = 9999 THEN 'disabled' WHEN i % 20 = 0 THEN 'deleted' WHEN i % 20 = 1 THEN 'revoked' ELSE 'active' END,
			?1 + i * 1000000, ?1 + i * 1000000,
			CASE WHEN i % 3000 = 11 THEN ?1 + i * 1000000 + 3600000000 ELSE 0 END,
			?1 + i * 1000000, 0, '', 1
		FROM n`, start)
	run(numbers + `INSERT INTO token_scopes SELECT 'payments:read', printf('tok_%026d', i) FROM n`)
	run(numbers + `INSERT INTO token_scopes SELECT 'odd', printf('tok_%026d', i) FROM n WHERE i % 2 = 1`)
	run(numbers + `INSERT INTO token_scopes SELECT 'rarely', printf('tok_%026d', i) FROM n WHERE i % 5000 = 3`)
	run(numbers+`INSERT INTO secrets
		SELECT printf('sec_%026d', i), printf('tok_%026d', i), CAST(printf('%010d%022d', (i * 2654435761) & 4294967295, 0) AS BLOB),
			(SELECT primary_key FROM head), printf('%04d', i % 10000), 'current', i % 20 > 1, ?1, 0, 0, 0
		FROM n`, start)
}

// filled opens a store with n tokens.
func filled(t testing.TB, n int) *sqlite.Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.db")
	o := sqlite.Options{Ring: newRing(t)}
	s, err := sqlite.Open(t.Context(), path, o)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	fill(t, path, n)
	s, err = sqlite.Open(t.Context(), path, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

var sizes = []int{1, 100_000, 1_000_000}

func BenchmarkLookup(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := filled(b, n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Lookup(b.Context(), filledLookup(rand.IntN(n))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// listQueries are pages that people ask for, some of which fit nearly all
// tokens and some nearly none.
func listQueries(n int) map[string]tokenstore.TokenQuery {
	now := fillStart.Add(time.Duration(n) * time.Second)
	return map[string]tokenstore.TokenQuery{
		"all":                   {Now: now},
		"active":                {Now: now, States: []token.State{token.Active}},
		"disabled":              {Now: now, States: []token.State{token.Disabled}},
		"expired":               {Now: now, States: []token.State{token.Expired}},
		"deleted":               {Now: now, States: []token.State{token.Deleted}},
		"account":               {Now: now, AccountID: "acc_0000"},
		"small account":         {Now: now, AccountID: "acc_0501"},
		"user":                  {Now: now, UserID: "usr_0000", States: []token.State{token.Deleted}},
		"account, active":       {Now: now, AccountID: "acc_0000", States: []token.State{token.Active}},
		"account, rare scope":   {Now: now, AccountID: "acc_0003", Scope: "rarely"},
		"common scope":          {Now: now, Scope: "payments:read"},
		"odd scope":             {Now: now, Scope: "odd"},
		"rare scope":            {Now: now, Scope: "rarely"},
		"scope, disabled":       {Now: now, Scope: "payments:read", States: []token.State{token.Disabled}},
		"account without scope": {Now: now, AccountID: "acc_0000", Scope: "odd"},
		"no such scope":         {Now: now, Scope: "nothing"},
		"expires before":        {Now: now, ExpiresBefore: now.Add(-time.Duration(n) * time.Second / 2)},
		"not used since":        {Now: now, LastUsedBefore: now.Add(-time.Duration(n) * time.Second / 2)},
		"account, not used":     {Now: now, AccountID: "acc_0000", LastUsedBefore: now.Add(time.Hour)},
		"search common name":    {Now: now, Search: "COMMON"},
		"search rare name":      {Now: now, Search: "RARE"},
		"search id":             {Now: now, Search: string(filledToken(n/2 + 3))},
		"search last 4":         {Now: now, Search: "0001"},
		"search nothing":        {Now: now, Search: "zzz"},
		"common name, disabled": {Now: now, Search: "common", States: []token.State{token.Disabled}},
	}
}

func BenchmarkTokens(b *testing.B) {
	for _, n := range sizes[1:] {
		s := filled(b, n)
		for name, q := range listQueries(n) {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				var got int
				next := ""
				for b.Loop() {
					q := q
					q.Cursor = next
					err := s.Read(b.Context(), func(tx *tokenstore.Tx) error {
						p, err := tx.Tokens(q)
						got, next = len(p.Tokens), p.Next
						return err
					})
					if err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(got), "rows")
			})
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := filled(b, n)
			for b.Loop() {
				err := s.Write(b.Context(), func(tx *tokenstore.Tx) error {
					t, err := tx.Token(filledToken(rand.IntN(n)))
					if err != nil {
						return err
					}
					tx.Audit(tokenstore.AuditEntry{Verb: "token.edit", Target: string(t.ID)})
					return tx.UpdateToken(&t)
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOpen is the start on a store that was closed, and on one that is in use.
func BenchmarkOpen(b *testing.B) {
	for _, n := range sizes {
		path := filepath.Join(b.TempDir(), "s.db")
		o := sqlite.Options{Ring: newRing(b)}
		s, err := sqlite.Open(b.Context(), path, o)
		require.NoError(b, err)
		require.NoError(b, s.Close())
		fill(b, path, n)
		open := func(b *testing.B) {
			for b.Loop() {
				s, err := sqlite.Open(b.Context(), path, o)
				require.NoError(b, err)
				require.NoError(b, s.Close())
			}
		}
		b.Run(fmt.Sprint(n), open)
		b.Run(fmt.Sprintf("%d in use", n), func(b *testing.B) {
			running, err := sqlite.Open(b.Context(), path, o)
			require.NoError(b, err)
			require.NoError(b, running.Write(b.Context(), func(tx *tokenstore.Tx) error {
				return tx.PutNode(tokenstore.Node{ID: "n"})
			}))
			open(b)
			require.NoError(b, running.Close())
		})
	}
}

// BenchmarkMasterKeys counts all secrets, as a start does once.
func BenchmarkMasterKeys(b *testing.B) {
	s := filled(b, sizes[len(sizes)-1])
	for b.Loop() {
		require.NoError(b, s.Read(b.Context(), func(tx *tokenstore.Tx) error { return second(tx.MasterKeys()) }))
	}
}
