package postgres_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// marker is a password that must never be seen again.
const marker = "s3cr3t-marker"

func TestErrorsNeverRepeatThePassword(t *testing.T) {
	t.Parallel()
	url := database(t)
	run(t, url, "DO $$ BEGIN CREATE ROLE guarded LOGIN PASSWORD 'another'; EXCEPTION WHEN duplicate_object THEN END $$")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	dead := l.Addr().String()
	require.NoError(t, l.Close())
	_, addr, _ := strings.Cut(url, "@")
	for name, tc := range map[string]struct {
		url         string
		unavailable bool
		says        string
	}{
		"wrong password":          {"postgres://guarded:" + marker + "@" + addr, true, "password authentication failed"},
		"no such host":            {"postgres://u:" + marker + "@no-such-host.invalid/x?sslmode=disable", true, "no-such-host.invalid"},
		"nobody listens":          {"postgres://u:" + marker + "@" + dead + "/x", true, "connect"},
		"no such database":        {"postgres://postgres:" + marker + "@" + pgtest.Shared(t).Addr() + "/missing?sslmode=disable", true, "does not exist"},
		"no server is encrypted":  {"postgres://postgres:" + marker + "@" + pgtest.Shared(t).Addr() + "/missing?sslmode=verify-full&sslrootcert=" + pgtest.AnotherCertificate(t), true, "certificate"},
		"port is no number":       {"postgres://u:" + marker + "@localhost:port/x", false, "can not be read"},
		"password not encoded":    {"postgres://u:" + marker + "#%/@[@localhost/x", false, "can not be read"},
		"a broken percent sign":   {"postgres://u:%zz" + marker + "@localhost/x", false, "can not be read"},
		"a setting is wrong":      {"postgres://u:" + marker + "@localhost/x?sslmode=" + marker, false, "can not be read"},
		"a setting is unknown":    {"postgres://postgres:x@" + pgtest.Shared(t).Addr() + "/postgres?sslmode=disable&passwort=" + marker, true, "passwort"},
		"no URL at all":           {marker, false, "can not be read"},
		"key and value, broken":   {"host=localhost password='" + marker, false, "can not be read"},
		"encryption is left open": {"postgres://u:" + marker + "@db.example.com/x", false, "sslmode=verify-full"},
		"encryption is allowed":   {"postgres://u:" + marker + "@localhost,db.example.com/x?sslmode=allow", false, "sslmode=verify-full"},
	} {
		_, err := postgres.Open(t.Context(), tc.url, postgres.Options{})
		require.Error(t, err, name)
		require.ErrorContains(t, err, tc.says, name)
		require.Equal(t, tc.unavailable, isUnavailable(err), "%s: %v", name, err)
		require.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), marker, name)
		require.NotContains(t, postgres.Migrate(t.Context(), tc.url).Error(), marker, name)
	}
}

func TestOpeningGivesUpWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := postgres.Open(ctx, database(t), postgres.Options{})
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, tokenstore.ErrUnavailable)
}

func TestTheServersCertificateIsVerified(t *testing.T) {
	t.Parallel()
	url, server := database(t), pgtest.Shared(t)
	encrypted := strings.Replace(url, "sslmode=disable", "sslmode=verify-full&sslrootcert=", 1)
	s := open(t, encrypted+server.Certificate(), postgres.Options{Ring: storetest.Ring(t)})
	require.NoError(t, s.Read(t.Context(), func(*tokenstore.Tx) error { return nil }))
	require.Positive(t, number(t, psql(t, url),
		"SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE datname = current_database() AND ssl"))

	_, err := postgres.Open(t.Context(), encrypted+pgtest.AnotherCertificate(t), postgres.Options{})
	require.ErrorIs(t, err, tokenstore.ErrUnavailable)
	require.ErrorContains(t, err, "certificate")
}

func TestManyNodesMakeANewStoreTogether(t *testing.T) {
	t.Parallel()
	url, ring := pgtest.Shared(t).Database(), storetest.Ring(t)
	stores := make([]*postgres.Store, 6)
	var wg sync.WaitGroup
	for i := range stores {
		wg.Go(func() {
			var err error
			if stores[i], err = postgres.Open(t.Context(), url, postgres.Options{Ring: ring}); err != nil {
				t.Errorf("open: %v", err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	positions := map[tokenstore.Position]bool{}
	for _, s := range stores {
		c, err := s.Changes(t.Context(), tokenstore.Position{})
		require.NoError(t, err)
		positions[c.At] = true
		require.NoError(t, s.Close())
	}
	require.Len(t, positions, 1, "one epoch, one first master key")
}

func TestASchemaOfALaterReleaseIsRefused(t *testing.T) {
	t.Parallel()
	database(t) // the schema is there to be copied
	url := migrated.Copy(t)
	run(t, url, "INSERT INTO sallyport_schema (version_id, is_applied) VALUES (999, true)")
	_, err := postgres.Open(t.Context(), url, postgres.Options{})
	require.ErrorContains(t, err, "upgrade Sallyport")
	require.ErrorContains(t, postgres.Migrate(t.Context(), url), "upgrade Sallyport")
	require.NotErrorIs(t, err, tokenstore.ErrUnavailable)
}

// The gateways' role needs no right to change the schema when somebody else
// migrated it. F16: nor the right to notify; nothing that is written fails for it.
func TestARoleThatMayOnlyReadAndWriteRowsIsEnough(t *testing.T) {
	t.Parallel()
	database(t)
	url, ring := migrated.Copy(t), storetest.Ring(t)
	role := rowsOnly(t, url)
	run(t, url, "REVOKE EXECUTE ON FUNCTION pg_notify FROM PUBLIC")
	as := strings.Replace(url, "postgres@", role+"@", 1)
	s := open(t, as, postgres.Options{Ring: ring})
	require.NoError(t, s.Write(t.Context(), changeAll(ring)))
	require.NoError(t, second(s.Lookup(t.Context(), tokenstore.Lookup{2})))
	sound(t, s, ring)
	require.False(t, s.Listening(), "it never hears itself")

	run(t, url, "REVOKE UPDATE ON head FROM "+role)
	err := touch(s, "tok_x")
	require.ErrorIs(t, err, tokenstore.ErrUnavailable)
	require.ErrorContains(t, err, "grant the role")
	// An empty database can not be migrated by such a role, and it is told so.
	empty := strings.Replace(pgtest.Shared(t).Database(), "postgres@", role+"@", 1)
	require.ErrorContains(t, postgres.Migrate(t.Context(), empty), "grant the role")
}

func TestCloseLeavesNoGoroutineAndNoConnection(t *testing.T) {
	url, ring := database(t), storetest.Ring(t)
	conn := psql(t, url)
	pgtest.Shared(t)
	before := goleak.IgnoreCurrent()
	for _, mode := range []string{"", simple} {
		s, err := postgres.Open(t.Context(), url+mode, postgres.Options{Ring: ring})
		require.NoError(t, err)
		tok, l := issue(t, s, ring)
		require.NoError(t, touch(s, tok.ID))
		require.NoError(t, second(s.Lookup(t.Context(), l)))
		eventually(t, "it hears", s.Listening)
		require.NoError(t, s.Close())
		require.NoError(t, s.Close())
		require.ErrorIs(t, touch(s, tok.ID), tokenstore.ErrUnavailable)
		leavesNone(t, before)
		becomes(t, "the connections end", conn, ofOthers, none)
	}
	_, err := postgres.Open(t.Context(), strings.Replace(url, "copy", "no_copy", 1), postgres.Options{})
	require.ErrorIs(t, err, tokenstore.ErrUnavailable)
	leavesNone(t, before)
	require.NoError(t, conn.Close(t.Context()))
}

// leavesNone gives goroutines that are on their way out all the time that a busy
// machine takes.
func leavesNone(t *testing.T, before goleak.Option) {
	t.Helper()
	eventually(t, "every goroutine ends", func() bool { return goleak.Find(before) == nil })
}

// A command that revokes a token ends right after it did; the others hear of it
// nevertheless.
func TestWhatAStoreWroteBeforeItClosedIsTold(t *testing.T) {
	t.Parallel()
	url, ring := database(t), storetest.Ring(t)
	node := open(t, url, postgres.Options{Ring: ring})
	tok, _ := issue(t, node, ring)
	eventually(t, "it hears", node.Listening)
	for range 10 {
		s, err := postgres.Open(t.Context(), url, postgres.Options{Ring: ring})
		require.NoError(t, err)
		drain(node)
		require.NoError(t, touch(s, tok.ID))
		require.NoError(t, s.Close())
		select {
		case <-node.Wakes():
		case <-time.After(ceiling):
			require.FailNow(t, "it was not told")
		}
	}
}

func drain(s *postgres.Store) {
	select {
	case <-s.Wakes():
	default:
	}
}
