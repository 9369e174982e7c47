package postgres_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// F14: a slow network makes calls slow, and those that would take too long fail.
func TestASlowNetwork(t *testing.T) {
	t.Parallel()
	proxy := pgtest.NewProxy(t, pgtest.Shared(t).Addr())
	url, ring := database(t), storetest.Ring(t)
	s := open(t, through(url, proxy.Addr()), postgres.Options{Ring: ring})
	tok, l := issue(t, s, ring)
	calls := map[string]func() error{
		"lookup":  func() error { return second(s.Lookup(context.Background(), l)) },
		"changes": func() error { return second(s.Changes(context.Background(), tokenstore.Position{})) },
		"write":   func() error { return touch(s, tok.ID) },
		"read": func() error {
			return s.Read(context.Background(), func(tx *tokenstore.Tx) error { return second(tx.Token(tok.ID)) })
		},
	}
	for kind, attributes := range map[string]map[string]any{
		"latency":   {"latency": 100, "jitter": 50},
		"bandwidth": {"rate": 10},
		"slicer":    {"average_size": 3, "size_variation": 2, "delay": 10},
	} {
		proxy.Add("slow", kind, "downstream", attributes)
		for name, call := range calls {
			require.NoError(t, call(), "%s: %s", kind, name)
		}
		proxy.Remove("slow")
	}
	proxy.Add("too slow", "latency", "downstream", map[string]any{"latency": 60_000})
	for name, call := range calls {
		require.ErrorIs(t, bounded(t, name, call), tokenstore.ErrUnavailable, name)
	}
	proxy.Remove("too slow")
	works(t, s, calls)
	sound(t, s, ring)
}

// F15: a connection over which nothing arrives any more looks alive. The node
// notices, says so, and hears again when it can; the feed misses nothing.
func TestAListenerThatHearsNothingIsMadeAgain(t *testing.T) {
	t.Parallel()
	for _, stream := range []string{"downstream", "upstream"} {
		t.Run(stream, func(t *testing.T) {
			proxy := pgtest.NewProxy(t, pgtest.Shared(t).Addr())
			url, ring := database(t), storetest.Ring(t)
			cut := open(t, through(url, proxy.Addr()), postgres.Options{Ring: ring})
			other := open(t, url, postgres.Options{Ring: ring})
			tok, _ := issue(t, other, ring)
			eventually(t, "both hear", func() bool { return cut.Listening() && other.Listening() })
			c, err := cut.Changes(t.Context(), tokenstore.Position{})
			require.NoError(t, err)

			proxy.Drop(stream)
			drain(cut)
			require.NoError(t, touch(other, tok.ID))
			eventually(t, "it notices", func() bool { return !cut.Listening() })
			err = bounded(t, "changes", func() error { return second(cut.Changes(context.Background(), c.At)) })
			require.ErrorIs(t, err, tokenstore.ErrUnavailable)
			require.True(t, other.Listening())

			proxy.Restore(stream)
			eventually(t, "it hears again", cut.Listening)
			woken(t, cut, "it may have missed something meanwhile")
			require.NoError(t, touch(other, tok.ID))
			woken(t, cut, "it was told")
			c, err = cut.Changes(t.Context(), c.At)
			require.NoError(t, err)
			require.True(t, c.Complete)
			require.Len(t, c.List, 2)
		})
	}
}

func woken(t *testing.T, s *postgres.Store, why string) {
	t.Helper()
	select {
	case <-s.Wakes():
	case <-time.After(ceiling):
		require.FailNow(t, why)
	}
}

// F13: one of two ways to the server loses everything without a word, for ever.
// The node finds the other way, the listener too.
func TestANodeFindsAnotherWay(t *testing.T) {
	t.Parallel()
	first := pgtest.NewProxy(t, pgtest.Shared(t).Addr())
	url, ring := database(t), storetest.Ring(t)
	s := open(t, through(url, first.Addr()+","+pgtest.Shared(t).Addr()), postgres.Options{Ring: ring, Lookups: 1})
	tok, l := issue(t, s, ring)
	require.NoError(t, second(s.Lookup(t.Context(), l)))
	eventually(t, "it hears", s.Listening)
	first.Drop("upstream") // so that the server can not say goodbye either
	first.Drop("downstream")
	// One finds the connection lost, one or two find the first way closed; none
	// waits until the lost connection has said goodbye.
	failed := 0
	for second(s.Lookup(t.Context(), l)) != nil {
		failed++
		require.LessOrEqual(t, failed, 5)
	}
	works(t, s, map[string]func() error{
		"lookup":  func() error { return second(s.Lookup(context.Background(), l)) },
		"changes": func() error { return second(s.Changes(context.Background(), tokenstore.Position{})) },
		"write":   func() error { return touch(s, tok.ID) },
	})
	other := open(t, url, postgres.Options{Ring: ring})
	drain(s)
	eventually(t, "it hears again", func() bool {
		if touch(other, tok.ID) != nil {
			return false
		}
		select {
		case <-s.Wakes():
			return true
		case <-time.After(100 * time.Millisecond):
			return false
		}
	})
	sound(t, s, ring)
}

// F16: behind a pooler that hands out a connection for each transaction nothing
// is ever heard. The node says so; all else works, in the simple protocol.
func TestBehindATransactionPooler(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	url, ring := database(t), storetest.Ring(t)
	pooled := through(url, server.Bouncer(t)) + simple
	one, two := open(t, pooled, postgres.Options{Ring: ring}), open(t, pooled, postgres.Options{Ring: ring})
	require.NoError(t, one.Write(t.Context(), changeAll(ring)))
	at := tokenstore.Position{}
	for range 50 {
		require.NoError(t, touch(one, "tok_x"))
		c, err := two.Changes(t.Context(), at)
		require.NoError(t, err)
		require.True(t, c.Complete)
		at = c.At
		rec, err := two.Lookup(t.Context(), tokenstore.Lookup{2})
		require.NoError(t, err)
		require.Equal(t, c.List[len(c.List)-1].Version, rec.Token.Version)
	}
	// They have tried to listen, and given up for now.
	watcher := psql(t, url)
	becomes(t, "they tried to hear", watcher, ofOthers+" AND query LIKE '%pg_notify%'", some)
	require.False(t, one.Listening())
	require.False(t, two.Listening())
	sound(t, two, ring)
	require.NoError(t, watcher.Close(t.Context()))
	require.NoError(t, one.Close())
	require.NoError(t, two.Close())
}

// Prepared statements belong to a connection that a pooler gives to somebody
// else. The error says what to do.
func TestPreparedStatementsBehindATransactionPooler(t *testing.T) {
	t.Parallel()
	server, ring := pgtest.Shared(t), storetest.Ring(t)
	url := through(database(t), server.Bouncer(t, "default_pool_size = 1"))
	var err error
	for range 3 {
		var s *postgres.Store
		if s, err = postgres.Open(t.Context(), url, postgres.Options{Ring: ring}); err != nil {
			break
		}
		require.NoError(t, s.Close())
	}
	require.ErrorIs(t, err, tokenstore.ErrUnavailable)
	require.ErrorContains(t, err, strings.TrimPrefix(simple, "&"))
}
