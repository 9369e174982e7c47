package caddymodule

import (
	"context"
	"crypto/rand"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/cached"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
)

const restoreCeiling = 30 * time.Second

// fleetOf is some gateways on one Postgres, without their HTTP parts.
type fleetOf struct {
	t     *testing.T
	url   string
	ring  *tokenstore.Ring
	nodes []*runtime
}

func newFleetOf(t *testing.T, url string, n int) *fleetOf {
	t.Helper()
	ring, err := tokenstore.NewRing(rand.Reader)
	require.NoError(t, err)
	f := &fleetOf{t: t, url: url, ring: ring}
	for range n {
		f.join()
	}
	return f
}

// join starts one more.
func (f *fleetOf) join() *opened {
	f.t.Helper()
	inner, err := postgres.Open(f.t.Context(), f.url, postgres.Options{Ring: f.ring})
	require.NoError(f.t, err)
	open, err := openOver(f.t.Context(), inner, f.ring, journalOptions{dir: f.t.TempDir()}, cached.Options{StaleFor: time.Minute, Poll: 20 * time.Millisecond, MissesPerAddress: -1, MissesPerNode: -1})
	require.NoError(f.t, err)
	r := newRuntime()
	r.started = open
	r.publish(open)
	f.nodes = append(f.nodes, r)
	f.t.Cleanup(func() { _ = r.close() })
	return open
}

func (f *fleetOf) node(i int) *opened { return f.nodes[i].open.Load() }

// says is what a gateway knows of a secret.
func (f *fleetOf) says(o *opened, s token.Secret) string {
	rec, ok := o.store.Peek(s.Digest())
	if !ok {
		var err error
		if rec, err = o.store.Resolve(context.Background(), s.Digest(), netip.MustParseAddr("192.0.2.1")); err != nil {
			return err.Error()
		}
	}
	if rec.Secret.Status == token.Retired {
		return "retired"
	}
	return rec.Token.State.String()
}

func (f *fleetOf) eventually(what string, ok func() bool) {
	f.t.Helper()
	require.Eventually(f.t, ok, restoreCeiling, 10*time.Millisecond, what)
}

// story is a customer's tokens. Those in lost end after the state that the store
// is to be put back to.
type story struct {
	*fleetOf
	rules *authority.Authority
	stays authority.Issued
	lost  map[string]authority.Issued
}

func (f *fleetOf) begin() *story {
	f.t.Helper()
	s := &story{fleetOf: f, rules: newAuthority(f.node(0).management(), f.ring, []string{"sp"}, nil), lost: map[string]authority.Issued{}}
	account, err := s.rules.CreateAccount(f.t.Context(), keeper, authority.NewAccount{Name: "Castle Supplies"})
	require.NoError(f.t, err)
	issue := func() authority.Issued {
		issued, err := s.rules.CreateToken(f.t.Context(), keeper, authority.NewToken{Name: "reports", AccountID: account.ID, Access: token.ReadOnly})
		require.NoError(f.t, err)
		return issued
	}
	s.stays = issue()
	for _, end := range []string{"revoked", "deleted", "rotated"} {
		s.lost[end] = issue()
	}
	return s
}

// end ends what is to be lost, after some edits, and has every gateway know it.
func (s *story) end() {
	s.t.Helper()
	ctx := s.t.Context()
	for _, issued := range s.lost {
		name := "renamed"
		_, err := s.rules.EditToken(ctx, keeper, issued.Token.Token.ID, issued.Token.Token.Version, authority.Edit{Name: &name})
		require.NoError(s.t, err)
	}
	_, err := s.rules.RevokeToken(ctx, keeper, s.lost["revoked"].Token.Token.ID, true)
	require.NoError(s.t, err)
	_, err = s.rules.DeleteToken(ctx, keeper, s.lost["deleted"].Token.Token.ID, true)
	require.NoError(s.t, err)
	_, err = s.rules.RotateToken(ctx, keeper, s.lost["rotated"].Token.Token.ID, authority.Rotation{Mode: token.RotateNow, Confirm: true})
	require.NoError(s.t, err)
	for i := range s.nodes {
		require.NoError(s.t, s.node(i).store.Sync(ctx))
	}
}

// refused demands that nothing that ended works on a gateway.
func (s *story) refused(o *opened, why string) {
	s.t.Helper()
	for end, issued := range s.lost {
		require.NotEqual(s.t, "active", s.says(o, issued.Secret), "%s: %s", why, end)
	}
}

// settles waits until every gateway has written down what it knows, and demands
// that nothing works meanwhile or afterwards, on them or on one that starts anew.
func (s *story) settles() {
	s.t.Helper()
	for i := range s.nodes {
		o := s.node(i)
		s.eventually("the store is found replaced and mended", func() bool {
			s.refused(o, "meanwhile")
			_, pending := o.store.Replacement()
			return o.store.Stats().Resyncs > 0 && !pending
		})
		require.Equal(s.t, api.Ready, o.reassertion.check().Status)
		s.eventually("what had not ended goes on", func() bool { return s.says(o, s.stays.Secret) == "active" })
		s.refused(o, "afterwards")
	}
	verbs := map[string]int{}
	entries, _, err := s.rules.AuditEntries(s.t.Context(), keeper, tokenstore.AuditQuery{Page: tokenstore.Page{Limit: 100}})
	require.NoError(s.t, err)
	for _, e := range entries {
		verbs[e.Verb]++
	}
	require.Equal(s.t, 2, verbs["store.epoch"])
	require.Equal(s.t, 3, verbs["token.reassert"], "each once, however many gateways know of it")
	require.Equal(s.t, len(s.nodes), verbs["store.reassert"], "and what each could vouch for")

	for _, node := range s.nodes {
		require.NoError(s.t, node.close())
	}
	s.nodes = nil
	fresh := s.join()
	require.Equal(s.t, "revoked", s.says(fresh, s.lost["revoked"].Secret))
	require.Equal(s.t, "revoked", s.says(fresh, s.lost["deleted"].Secret))
	require.Equal(s.t, "retired", s.says(fresh, s.lost["rotated"].Secret))
	require.Equal(s.t, "active", s.says(fresh, s.stays.Secret))
	report, err := tokenstore.VerifyAudit(s.t.Context(), fresh.store, s.ring, nil)
	require.NoError(s.t, err)
	require.Empty(s.t, report.Problems)
}

// I3, F18, F49, D21: what had ended stays ended, also for gateways that start
// after the backup was restored.
func TestARestoredBackupRevivesNothingThatAGatewaySawToEnd(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	f := newFleetOf(t, server.Database(), 2)
	s := f.begin()
	backup := server.Dump(t, f.url)
	s.end()
	for i := range f.nodes {
		s.refused(f.node(i), "before")
	}
	server.Restore(t, backup, f.url)
	s.settles()
}

// What ended before a gateway started is known to it as well.
func TestAGatewayThatStartedLaterKnowsWhatTheFeedStillTells(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	f := newFleetOf(t, server.Database(), 1)
	s := f.begin()
	backup := server.Dump(t, f.url)
	s.end()
	require.NoError(t, f.nodes[0].close())
	f.nodes = nil
	later := f.join()
	s.rules = newAuthority(later.management(), f.ring, []string{"sp"}, nil)
	f.eventually("it has read the feed's past", func() bool { return later.store.Stats().Tombstones >= 3 })
	server.Restore(t, backup, f.url)
	s.settles()
}

// F19: a standby that had not got everything takes over.
func TestAFailoverRevivesNothingThatAGatewaySawToEnd(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t)
	url := primary.Database()
	require.NoError(t, postgres.Migrate(t.Context(), url))
	standby := primary.Standby()
	f := newFleetOf(t, strings.Replace(url, "@", "@"+standby.Addr()+",", 1), 2)
	s := f.begin()
	lagging := func(statement string) (n int) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), strings.Replace(url, primary.Addr(), standby.Addr(), 1))
		require.NoError(t, err)
		require.NoError(t, conn.QueryRow(t.Context(), statement).Scan(&n))
		require.NoError(t, conn.Close(t.Context()))
		return n
	}
	f.eventually("the standby has the tokens", func() bool { return lagging("SELECT count(*) FROM tokens") == 4 })
	standby.Exec("postgres", "ALTER SYSTEM SET primary_conninfo = ''")
	standby.Exec("postgres", "SELECT pg_reload_conf()")
	f.eventually("it is cut off", func() bool { return lagging("SELECT count(*) FROM pg_stat_wal_receiver") == 0 })
	s.end()
	primary.Kill()
	standby.Promote()
	s.settles()
}

// While it can not be written, the gateway says so, and goes on refusing.
func TestAReassertionThatFailsIsToldAndTriedAgain(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	f := newFleetOf(t, server.Database(), 1)
	s := f.begin()
	o := f.node(0)
	backup := server.Dump(t, f.url)
	s.end()
	o.reassertion.close() // as if it never got to write
	server.Restore(t, backup, f.url)
	f.eventually("the restore is found", func() bool { _, found := o.store.Replacement(); return found })
	name := "edited again and again"
	late := s.lost["revoked"].Token.Token.ID
	for version := int64(1); version < 6; version++ { // which takes it past the version that it ended with
		_, err := s.rules.EditToken(t.Context(), keeper, late, version, authority.Edit{Name: &name})
		require.NoError(t, err)
		name += "."
		s.refused(o, "edited")
	}
	check := o.reassertion.check()
	require.Equal(t, api.Degraded, check.Status)
	require.Contains(t, check.Detail, "put back to an earlier state")

	o.reassertion = newReassertion()
	o.reassertion.start(o.store, s.rules, "node_1")
	o.reassertion.notice(tokenstore.Position{}, tokenstore.Position{})
	s.settles()
}
