package postgres_test

import (
	"flag"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore/cached"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

var warmTokens = flag.Int("warm.tokens", 1_000_000, "how many tokens BenchmarkWarm reads")

// active makes tokens with one secret each; a tenth have a user, all an
// allow-list, half of them scopes of their own.
const active = `
INSERT INTO accounts (id, name, policy, disabled, created_at, updated_at, version)
	SELECT 'acc_' || lpad(i::text, 26, '0'), 'Account ' || i, 'default', 0, 1, 1, 1 FROM generate_series(0, 999) i;
INSERT INTO users (id, account_id, name, email, role, business_units, disabled, created_at, updated_at, version)
	SELECT 'usr_' || lpad(i::text, 26, '0'), 'acc_' || lpad(i::text, 26, '0'), 'User', 'u@example.com', 'member', '[]', 0, 1, 1, 1
	FROM generate_series(0, 999) i;
INSERT INTO tokens (id, name, name_folded, account_id, user_id, access, scopes, allow_list, environment, state,
		created_at, updated_at, expires_at, lifetime_from, ended_at, end_reason, version)
	SELECT 'tok_' || lpad(i::text, 26, '0'), 'Common ' || i, 'common ' || i, 'acc_' || lpad((i % 1000)::text, 26, '0'),
		CASE WHEN i % 10 = 0 THEN 'usr_' || lpad((i % 1000)::text, 26, '0') END,
		CASE WHEN i % 2 = 1 THEN 'custom' ELSE 'read_write' END, CASE WHEN i % 2 = 1 THEN 'payments:read payments:write' ELSE '' END,
		'127.0.0.1', 'production', 'active', 1767225600000000, 1767225600000000, 0, 1767225600000000, 0, '', 1
	FROM generate_series(1, $TOKENS) i;
INSERT INTO secrets (id, token_id, lookup, key_id, last4, status, live, created_at, expires_at, retry_until, first_used)
	SELECT 'sec_' || lpad(i::text, 26, '0'), 'tok_' || lpad(i::text, 26, '0'), sha256(convert_to(i::text, 'UTF8')),
		(SELECT primary_key FROM head), lpad((i % 10000)::text, 4, '0'), 'current', 1, 1767225600000000, 0, 0, 0
	FROM generate_series(1, $TOKENS) i;
ANALYZE;`

// P5, P6: from the database to a cache that holds all of it.
func BenchmarkWarm(b *testing.B) {
	url := pgtest.Start(b, "max_wal_size = 8GB").Database()
	ring := storetest.Ring(b)
	s, err := postgres.Open(b.Context(), url, postgres.Options{Ring: ring})
	require.NoError(b, err)
	defer s.Close()
	conn, err := pgx.Connect(b.Context(), url)
	require.NoError(b, err)
	_, err = conn.Exec(b.Context(), strings.ReplaceAll(active, "$TOKENS", strconv.Itoa(*warmTokens)))
	require.NoError(b, err)
	require.NoError(b, conn.Close(b.Context()))
	for b.Loop() {
		inner, err := postgres.Open(b.Context(), url, postgres.Options{Ring: ring})
		require.NoError(b, err)
		before := heap()
		s := cached.New(inner, ring, cached.Options{MaxBytes: max(int64(*warmTokens)*1200, 8<<20)})
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
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
