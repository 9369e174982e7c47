package postgres_test

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/test/bulk"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// docs/scale.md gives the commands, and what they gave.

var scaleTokens = flag.Int("scale.tokens", 2000, "how many tokens the tables are weighed with")

// copies multiplies what bulk.Into has made, because a million tokens through the
// store take minutes: with other IDs, which grow as real ones do, and other
// lookup values, which are spread as real ones are.
const copies = `
SET max_parallel_workers_per_gather = 0;
CREATE TEMP TABLE originals AS SELECT row_number() OVER (ORDER BY t.id) AS i, t.*, s.key_id, s.last4, s.status, s.live
	FROM tokens t JOIN secrets s ON s.token_id = t.id;
CREATE FUNCTION pg_temp.made(kind text, n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
	$f$ SELECT kind || '_02' || lpad(n::text, 10, '0') || substr(md5(kind || n), 1, 14) $f$;
INSERT INTO tokens (id, name, name_folded, account_id, user_id, access, scopes, allow_list, environment, state,
		created_at, updated_at, expires_at, lifetime_from, ended_at, end_reason, version)
	SELECT pg_temp.made('tok', c * 1000000 + i), name || '-' || c, name_folded || '-' || c, account_id, user_id, access, scopes, allow_list,
		environment, state, created_at + c, updated_at + c, expires_at, lifetime_from + c, ended_at, end_reason, version
	FROM generate_series(1, $COPIES) c, originals ORDER BY c, i;
INSERT INTO secrets (id, token_id, lookup, key_id, last4, status, live, created_at, expires_at, retry_until, first_used)
	SELECT pg_temp.made('sec', c * 1000000 + i), pg_temp.made('tok', c * 1000000 + i), sha256(convert_to('s' || c || '.' || i, 'UTF8')),
		key_id, substr(md5(i || '.' || c), 1, 4), status, live, created_at + c, 0, 0, 0
	FROM generate_series(1, $COPIES) c, originals ORDER BY c, i;
DROP TABLE originals;
ANALYZE;`

func TestTheTablesTakeWhatTheScalePageSays(t *testing.T) {
	url := pgtest.Start(t, "max_wal_size = 8GB").Database()
	ring := storetest.Ring(t)
	s := open(t, url, postgres.Options{Ring: ring})
	seeds := min(*scaleTokens, 1000)
	told := 0
	require.NoError(t, bulk.Into(t.Context(), s, ring, seeds, func(token.ID, token.Secret) error { told++; return nil }))
	require.Equal(t, seeds, told)
	if more := *scaleTokens/seeds - 1; more > 0 {
		run(t, url, strings.ReplaceAll(copies, "$COPIES", fmt.Sprint(more)))
	}
	conn := psql(t, url)
	n := number(t, conn, "SELECT count(*) FROM tokens")
	require.Equal(t, *scaleTokens/seeds*seeds, n)
	require.Equal(t, n, number(t, conn, "SELECT count(*) FROM secrets"))
	total := 0
	for _, table := range []string{"tokens", "secrets"} {
		heap := number(t, conn, "SELECT pg_relation_size($1::text::regclass)", table)
		all := number(t, conn, "SELECT pg_total_relation_size($1::text::regclass)", table)
		total += all
		t.Logf("%d tokens: %s %d B a token, %d B of that rows and the rest indexes", n, table, all/n, heap/n)
	}
	t.Logf("%d tokens: %d B a token in all, %d MiB", n, total/n, total>>20)
	require.Less(t, total/n, 4096, "a token takes less than half a page")
}

// changing is some nodes, each with a store of its own, and a server that keeps
// its word about what is on disk.
func changing(b *testing.B, nodes int) (stores []*postgres.Store, id token.ID, url string) {
	b.Helper()
	url = pgtest.Start(b, "fsync = on", "full_page_writes = on", "max_connections = 500").Database()
	ring := storetest.Ring(b)
	for range nodes {
		s, err := postgres.Open(b.Context(), url, postgres.Options{Ring: ring})
		require.NoError(b, err)
		b.Cleanup(func() { _ = s.Close() })
		stores = append(stores, s)
	}
	tok, _ := issue(b, stores[0], ring)
	return stores, tok.ID, url
}

// How many changes a second there can be: they are made one after the other, for
// the head's row.
func BenchmarkChanges(b *testing.B) {
	for _, writers := range []int{1, 3, 16} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			stores, id, url := changing(b, writers)
			var next atomic.Int64
			failed := make(chan error, writers)
			b.ResetTimer()
			for _, s := range stores {
				go func() {
					for next.Add(1) <= int64(b.N) {
						if err := touch(s, id); err != nil {
							failed <- err
							return
						}
					}
					failed <- nil
				}()
			}
			for range stores {
				require.NoError(b, <-failed)
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "changes/s")
			for _, table := range []string{"audit", "changes"} {
				b.ReportMetric(perRow(b, url, table), "B/"+table)
			}
		})
	}
}

// What following the feed costs, when there is nothing new and when each reading
// finds a change.
func BenchmarkFollow(b *testing.B) {
	for _, news := range []bool{false, true} {
		b.Run(fmt.Sprintf("news=%v", news), func(b *testing.B) {
			stores, id, _ := changing(b, 1)
			s := stores[0]
			c, err := s.Changes(b.Context(), tokenstore.Position{})
			require.NoError(b, err)
			at := c.At
			if news {
				require.NoError(b, touch(s, id))
			}
			for b.Loop() {
				if _, err := s.Changes(context.Background(), at); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "readings/s")
		})
	}
}

// What a miss of the cache costs, eight at a time, as a node asks.
func BenchmarkMiss(b *testing.B) {
	url := pgtest.Start(b).Database()
	ring := storetest.Ring(b)
	s, err := postgres.Open(b.Context(), url, postgres.Options{Ring: ring})
	require.NoError(b, err)
	b.Cleanup(func() { _ = s.Close() })
	var lookups []tokenstore.Lookup
	require.NoError(b, bulk.Into(b.Context(), s, ring, 5000, func(_ token.ID, secret token.Secret) error {
		l, _ := ring.Lookup(ring.IDs()[0], secret.Digest())
		lookups = append(lookups, l)
		return nil
	}))
	var next atomic.Int64
	b.SetParallelism(4)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Lookup(context.Background(), lookups[next.Add(7919)%int64(len(lookups))]); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lookups/s")
}

// perRow is the bytes that a row of a table takes, indexes included.
func perRow(b *testing.B, url, table string) (bytes float64) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), ceiling)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	require.NoError(b, err)
	defer func() { _ = conn.Close(ctx) }()
	query := fmt.Sprintf("SELECT pg_total_relation_size('%[1]s')::float8 / GREATEST(count(*), 1) FROM %[1]s", table)
	require.NoError(b, conn.QueryRow(ctx, query).Scan(&bytes))
	return bytes
}
