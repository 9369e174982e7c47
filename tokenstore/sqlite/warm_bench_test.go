package sqlite_test

import (
	"flag"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3/driver"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/cached"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
)

// warmTokens are active, each with one secret; a tenth have a user, all an
// allow-list, half of them scopes of their own.
var warmTokens = flag.Int("warm.tokens", 1_000_000, "how many tokens BenchmarkWarm reads")

func fillActive(b *testing.B, path string) {
	b.Helper()
	pool, err := driver.Open("file:" + path + "?_pragma=synchronous(off)&_pragma=cache_size(-200000)")
	require.NoError(b, err)
	defer func() { require.NoError(b, pool.Close()) }()
	for _, query := range []string{
		`INSERT INTO accounts (id, name, policy, disabled, created_at, updated_at, version)
			SELECT printf('acc_%026d', i), 'Account ' || i, 'default', 0, 1, 1, 1 FROM n WHERE i < 1000`,
		`INSERT INTO users (id, account_id, name, email, role, business_units, disabled, created_at, updated_at, version)
			SELECT printf('usr_%026d', i), printf('acc_%026d', i), 'User', 'u@example.com', 'member', '[]', 0, 1, 1, 1 FROM n WHERE i < 1000`,
		`INSERT INTO tokens (id, name, name_folded, account_id, user_id, access, scopes, allow_list, environment, state,
				created_at, updated_at, expires_at, lifetime_from, ended_at, end_reason, version)
			SELECT printf('tok_%026d', i), 'Common ' || i, 'common ' || i, printf('acc_%026d', i % 1000),
				CASE WHEN i % 10 = 0 THEN printf('usr_%026d', i % 1000) END,
				CASE WHEN i % 2 = 1 THEN 'custom' ELSE 'read_write' END, CASE WHEN i % 2 = 1 THEN 'payments:read payments:write' ELSE '' END,
				'127.0.0.1', 'production', 'active', 1767225600000000, 1767225600000000, 0, 1767225600000000, 0, '', 1 FROM n`,
		`INSERT INTO secrets (id, token_id, lookup, key_id, last4, status, live, created_at, expires_at, retry_until, first_used)
			SELECT printf('sec_%026d', i), printf('tok_%026d', i), randomblob(32),
				(SELECT primary_key FROM head), printf('%04d', i % 10000), 'current', 1, 1767225600000000, 0, 0, 0 FROM n`,
	} {
		numbers := fmt.Sprintf("WITH RECURSIVE n(i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < %d) ", *warmTokens-1)
		_, err := pool.ExecContext(b.Context(), numbers+query)
		require.NoError(b, err)
	}
}

// P5, P6: from the file to a cache that holds all of it.
func BenchmarkWarm(b *testing.B) {
	path := filepath.Join(b.TempDir(), "s.db")
	o := sqlite.Options{Ring: newRing(b)}
	s, err := sqlite.Open(b.Context(), path, o)
	require.NoError(b, err)
	require.NoError(b, s.Close())
	fillActive(b, path)

	b.Run("read", func(b *testing.B) {
		s, err := sqlite.Open(b.Context(), path, o)
		require.NoError(b, err)
		defer s.Close()
		for b.Loop() {
			n := 0
			require.NoError(b, s.All(b.Context(), func(*tokenstore.Record) error { n++; return nil }))
			require.Equal(b, *warmTokens, n)
		}
	})
	b.Run("cache", func(b *testing.B) {
		for b.Loop() {
			inner, err := sqlite.Open(b.Context(), path, o)
			require.NoError(b, err)
			before := heap()
			s := cached.New(inner, o.Ring, cached.Options{MaxBytes: max(int64(*warmTokens)*1200, 8<<20)})
			require.NoError(b, s.Start(b.Context()))
			for s.Stats().Warm.State == cached.Warming {
				time.Sleep(time.Millisecond)
			}
			stats := s.Stats()
			require.EqualValues(b, *warmTokens, stats.Warm.Records)
			require.EqualValues(b, *warmTokens, stats.Entries)
			b.ReportMetric(stats.Warm.Took.Seconds(), "s")
			b.ReportMetric(float64(heap()-before)/float64(*warmTokens), "B/token")
			b.ReportMetric(float64(stats.Bytes)/float64(*warmTokens), "counted-B/token")
			require.NoError(b, s.Close())
		}
	})
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
