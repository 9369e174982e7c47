package postgres_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// F19: the primary is lost, and a standby that had not got everything takes over.
// Nodes find it, and learn that they know things that it does not.
func TestFailoverToALaggingStandby(t *testing.T) {
	t.Parallel()
	primary, ring := pgtest.Start(t), storetest.Ring(t)
	url := primary.Database()
	standby := primary.Standby()
	// The standby comes first: it must not be taken for the primary.
	hosts := through(url, standby.Addr()+","+primary.Addr())
	s := open(t, hosts, postgres.Options{Ring: ring})
	tok, l := issue(t, s, ring)
	lagging := psql(t, through(url, standby.Addr()))
	becomes(t, "the standby has the token", lagging, "SELECT count(*) FROM tokens", some)
	becomes(t, "whoever looked there is gone", lagging, ofOthers, none)

	// It is refused as a store, unless it is asked for, and then it can be read.
	_, err := postgres.Open(t.Context(), through(url, standby.Addr()), postgres.Options{Ring: ring})
	require.ErrorIs(t, err, tokenstore.ErrUnavailable)
	replica, err := postgres.Open(t.Context(), through(url, standby.Addr())+"&target_session_attrs=standby", postgres.Options{Ring: ring})
	require.NoError(t, err)
	require.NoError(t, second(replica.Lookup(t.Context(), l)))
	err = touch(replica, tok.ID)
	require.ErrorIs(t, err, tokenstore.ErrUnavailable)
	require.ErrorContains(t, err, "connect to the primary")
	require.NoError(t, replica.Close())

	// What is revoked from now on the standby does not get.
	_, err = lagging.Exec(t.Context(), "ALTER SYSTEM SET primary_conninfo = ''")
	require.NoError(t, err)
	_, err = lagging.Exec(t.Context(), "SELECT pg_reload_conf()")
	require.NoError(t, err)
	watcher := psql(t, url)
	becomes(t, "it is cut off", watcher, "SELECT count(*) FROM pg_stat_replication", none)
	require.NoError(t, watcher.Close(t.Context()))
	require.NoError(t, lagging.Close(t.Context()))
	require.NoError(t, touch(s, tok.ID))
	require.NoError(t, touch(s, tok.ID))
	known, err := s.Changes(t.Context(), tokenstore.Position{})
	require.NoError(t, err)
	require.True(t, known.Complete)

	primary.Kill()
	require.ErrorIs(t, touch(s, tok.ID), tokenstore.ErrUnavailable)
	standby.Promote()
	works(t, s, map[string]func() error{
		"write":   func() error { return touch(s, tok.ID) },
		"lookup":  func() error { return second(s.Lookup(t.Context(), l)) },
		"changes": func() error { return second(s.Changes(t.Context(), tokenstore.Position{})) },
	})
	c, err := s.Changes(t.Context(), known.At)
	require.NoError(t, err)
	require.False(t, c.Complete)
	require.NotEqual(t, known.At.Epoch, c.At.Epoch)
	require.Len(t, epochs(t, s), 2)
	eventually(t, "it hears the new primary", s.Listening)
	sound(t, s, ring)
}

func TestSeveralHostsNeedOneString(t *testing.T) {
	t.Parallel()
	url := database(t)
	_, addr, _ := strings.Cut(url, "@")
	addr, _, _ = strings.Cut(addr, "/")
	s := open(t, through(url, "127.0.0.1:1,"+addr), postgres.Options{Ring: storetest.Ring(t)})
	require.NoError(t, s.Read(t.Context(), func(*tokenstore.Tx) error { return nil }))
}
