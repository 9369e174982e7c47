package postgres_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/cached"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// region is a primary far away, a standby nearby, and a node beside the standby.
type region struct {
	t                *testing.T
	primary, standby *pgtest.Server
	url, near        string
	ring             *tokenstore.Ring
	node             *postgres.Store
}

func newRegion(t *testing.T) *region {
	t.Helper()
	r := &region{t: t, primary: pgtest.Start(t), ring: storetest.Ring(t)}
	r.url = r.primary.Database()
	require.NoError(t, postgres.Migrate(t.Context(), r.url))
	r.standby = r.primary.Standby()
	r.near = through(r.url, r.standby.Addr())
	r.node = open(t, r.url, postgres.Options{Ring: r.ring, Replica: r.near})
	return r
}

// caughtUp waits until the standby has all that was committed.
func (r *region) caughtUp() {
	r.t.Helper()
	var lsn string
	require.NoError(r.t, psql(r.t, r.url).QueryRow(r.t.Context(), "SELECT pg_current_wal_lsn()::text").Scan(&lsn))
	becomes(r.t, "the standby catches up", psql(r.t, r.near), "SELECT (pg_last_wal_replay_lsn() >= '"+lsn+"')::int", some)
}

func (r *region) pause()  { run(r.t, r.near, "SELECT pg_wal_replay_pause()") }
func (r *region) resume() { run(r.t, r.near, "SELECT pg_wal_replay_resume()") }

// becomesState looks a token up until the replica stands as it should.
func (r *region) becomesState(l tokenstore.Lookup, want postgres.ReplicaState) {
	r.t.Helper()
	eventually(r.t, "the replica is "+want.String(), func() bool {
		require.NoError(r.t, second(r.node.Lookup(context.Background(), l)))
		return r.node.ReplicaStatus().State == want
	})
}

// answered is how many of some lookups the replica answered.
func (r *region) answered(n int, l tokenstore.Lookup) int {
	r.t.Helper()
	before := r.node.ReplicaStatus().Answered
	for range n {
		rec, err := r.node.Lookup(r.t.Context(), l)
		require.NoError(r.t, err)
		require.Equal(r.t, l, rec.Lookup)
	}
	return int(r.node.ReplicaStatus().Answered - before)
}

func TestLookupsAreAnsweredByTheReplica(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]string{"with prepared statements": "", "in the simple protocol": simple} {
		t.Run(name, func(t *testing.T) { testAnswers(t, mode) })
	}
}

func testAnswers(t *testing.T, mode string) {
	r := newRegion(t)
	r.node = open(t, r.url+mode, postgres.Options{Ring: r.ring, Replica: r.near + mode})
	tok, l := issue(t, r.node, r.ring)
	r.caughtUp()
	r.becomesState(l, postgres.ReplicaInUse)
	require.Positive(t, r.answered(20, l), "most of them, unless the machine stands still")
	there, err := r.node.Lookup(t.Context(), l)
	require.NoError(t, err)
	here, err := open(t, r.url, postgres.Options{Ring: r.ring}).Lookup(t.Context(), l)
	require.NoError(t, err)
	require.Equal(t, here, there, "the same record")

	t.Run("what is not there is asked for at the primary", func(t *testing.T) {
		before := r.node.ReplicaStatus()
		_, err := r.node.Lookup(t.Context(), tokenstore.Lookup{1})
		require.ErrorIs(t, err, tokenstore.ErrNotFound)
		require.Greater(t, r.node.ReplicaStatus().Passed, before.Passed)
	})
	t.Run("a new token works at once, and own changes hold at once", func(t *testing.T) {
		r.pause()
		defer r.resume()
		_, fresh := issue(t, r.node, r.ring)
		require.NoError(t, second(r.node.Lookup(t.Context(), fresh)))
		revoke(t, r.node, tok.ID)
		rec, err := r.node.Lookup(t.Context(), l)
		require.NoError(t, err)
		require.Equal(t, token.Revoked, rec.Token.State)
	})
}

// F19, S3: whatever the replica still shows, a token that was revoked elsewhere is
// refused once the feed has told of it, and a replica that lags costs nothing.
func TestAReplicaThatLagsIsNotBelieved(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	elsewhere := open(t, r.url, postgres.Options{Ring: r.ring})
	secrets, lookups, tokens := make([]token.Secret, 20), make([]tokenstore.Lookup, 20), make([]token.Token, 20)
	account := storetest.Account()
	storetest.MustWrite(t, elsewhere, func(tx *tokenstore.Tx) error { return tx.InsertAccount(&account) })
	for i := range tokens {
		tokens[i] = storetest.Token(account.ID)
		secrets[i] = storetest.Issue(t, elsewhere, r.ring, &tokens[i])
		lookups[i], _ = r.ring.Lookup(r.ring.IDs()[0], secrets[i].Digest())
	}
	r.caughtUp()
	// A store that can not be read in bulk: memory is filled by lookups alone.
	c := cached.New(struct{ tokenstore.Store }{r.node}, r.ring, cached.Options{StaleFor: time.Minute, MissesPerAddress: -1, MissesPerNode: -1})
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	require.NoError(t, c.Start(t.Context()))
	from := netip.MustParseAddr("192.0.2.1")
	state := func(i int) token.State {
		rec, ok := c.Peek(secrets[i].Digest())
		if !ok {
			var err error
			rec, err = c.Resolve(t.Context(), secrets[i].Digest(), from)
			require.NoError(t, err)
		}
		return rec.Token.State
	}
	eventually(t, "the replica answers", func() bool {
		require.NoError(t, second(r.node.Lookup(t.Context(), lookups[0])))
		return r.node.ReplicaStatus().State == postgres.ReplicaInUse
	})
	answered := r.node.ReplicaStatus().Answered
	for i := range 10 {
		require.Equal(t, token.Active, state(i))
	}
	require.Greater(t, r.node.ReplicaStatus().Answered, answered, "from nearby")

	r.pause()
	for i := range tokens {
		revoke(t, elsewhere, tokens[i].ID)
	}
	require.NoError(t, c.Sync(t.Context()))
	for i := range tokens { // in memory, and not
		require.Equal(t, token.Revoked, state(i), i)
	}
	rec, err := open(t, r.near+"&target_session_attrs=standby", postgres.Options{}).Lookup(t.Context(), lookups[0])
	require.NoError(t, err)
	require.Equal(t, token.Active, rec.Token.State, "the replica still shows it alive")
	require.Equal(t, postgres.ReplicaLagging, r.node.ReplicaStatus().State)
	require.Zero(t, r.answered(50, lookups[0]))
	require.Less(t, r.node.ReplicaStatus().Passed, uint64(40), "it is not asked each time")

	r.resume()
	r.becomesState(lookups[0], postgres.ReplicaInUse)
	require.Positive(t, r.answered(10, lookups[0]))
}

func TestAReplicaThatFailsIsSkipped(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	_, l := issue(t, r.node, r.ring)
	r.caughtUp()
	for name, fault := range map[string]struct{ down, back func() }{
		"killed":  {r.standby.Kill, r.standby.Run},
		"frozen":  {r.standby.Freeze, r.standby.Thaw},
		"stopped": {func() { r.standby.Stop("fast") }, r.standby.Run},
	} {
		r.becomesState(l, postgres.ReplicaInUse)
		fault.down()
		require.Zero(t, r.answered(1, l), name)
		require.Equal(t, postgres.ReplicaUnreachable, r.node.ReplicaStatus().State, name)
		passed := r.node.ReplicaStatus().Passed
		r.answered(200, l)
		require.Less(t, r.node.ReplicaStatus().Passed-passed, uint64(100), "%s: it costs nothing", name)
		fault.back()
		r.becomesState(l, postgres.ReplicaInUse)
	}
	require.Positive(t, r.answered(20, l))
}

func TestAReplicaThatIsDownKeepsNobodyFromStarting(t *testing.T) {
	t.Parallel()
	url, ring := database(t), storetest.Ring(t)
	s := open(t, url, postgres.Options{Ring: ring, Replica: "postgres://nobody@127.0.0.1:1/none?sslmode=disable"})
	require.Equal(t, postgres.ReplicaUnused, s.ReplicaStatus().State)
	_, l := issue(t, s, ring)
	require.NoError(t, second(s.Lookup(t.Context(), l)))
	require.Equal(t, postgres.ReplicaUnreachable, s.ReplicaStatus().State)

	const secret = "hunter2"
	_, err := postgres.Open(t.Context(), url, postgres.Options{Ring: ring, Replica: "postgres://u:" + secret + "@h:port/d"})
	require.ErrorContains(t, err, "the replica")
	require.NotContains(t, err.Error(), secret)
	_, err = postgres.Open(t.Context(), url, postgres.Options{Ring: ring, Replica: "postgres://u@db.example.com/d"})
	require.ErrorContains(t, err, "the replica: the connection string leaves it open")
}

// A standby that takes over is no replica any more: its numbers go on from the
// same ones for changes of its own.
func TestAReplicaThatWasPromotedIsNotBelieved(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	tok, l := issue(t, r.node, r.ring)
	r.caughtUp()
	r.becomesState(l, postgres.ReplicaInUse)
	r.standby.Promote()
	run(t, r.near, "UPDATE head SET seq = seq + 100") // by somebody who takes it for the primary
	revoke(t, r.node, tok.ID)
	rec, err := r.node.Lookup(t.Context(), l)
	require.NoError(t, err)
	require.Equal(t, token.Revoked, rec.Token.State)
	r.becomesState(l, postgres.ReplicaOfAnotherHistory)
}

// Whoever gives the wrong database for a replica gets no wrong answers from it.
func TestAReplicaOfAnotherDatabaseIsNotBelieved(t *testing.T) {
	t.Parallel()
	url, other, ring := database(t), database(t), storetest.Ring(t)
	foreign := open(t, other, postgres.Options{Ring: ring})
	_, theirs := issue(t, foreign, ring)
	s := open(t, url, postgres.Options{Ring: ring, Replica: other})
	require.Equal(t, postgres.ReplicaState(0), foreign.ReplicaStatus().State)
	_, ours := issue(t, s, ring)
	require.NoError(t, second(s.Lookup(t.Context(), ours)))
	require.Equal(t, postgres.ReplicaOfAnotherHistory, s.ReplicaStatus().State, "also by what it lacks")
	for range 20 {
		_, err := s.Lookup(t.Context(), theirs)
		require.ErrorIs(t, err, tokenstore.ErrNotFound)
	}
	require.Zero(t, s.ReplicaStatus().Answered)
	before := position(t, foreign)
	require.NoError(t, touch(s, second2(s.Lookup(t.Context(), ours)).Token.ID))
	require.Equal(t, before, position(t, foreign), "and it is never written to")
}

func second2(rec *tokenstore.Record, _ error) *tokenstore.Record { return rec }

func TestACallerWhoLeavesSaysNothingAboutTheReplica(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	_, l := issue(t, r.node, r.ring)
	r.caughtUp()
	r.becomesState(l, postgres.ReplicaInUse)
	r.standby.Freeze()
	defer r.standby.Thaw()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := r.node.Lookup(ctx, l)
	require.True(t, errors.Is(err, context.DeadlineExceeded), "%v", err)
	require.Equal(t, postgres.ReplicaInUse, r.node.ReplicaStatus().State)
}

// The replica holds the contract as well, here one that the primary waits for, so
// that facts that are no changes (a first use) are seen too.
func TestTheStoreWithAReplicaKeepsTheContract(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, "max_connections = 300")
	pristine := pristine(t, server)
	standby := server.Standby("max_connections = 300")
	server.Exec("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'")
	server.Exec("postgres", "ALTER SYSTEM SET synchronous_commit = remote_apply")
	server.Exec("postgres", "SELECT pg_reload_conf()")
	storetest.Run(t, func(t *testing.T) (tokenstore.Store, *tokenstore.Ring) {
		ring, url := storetest.Ring(t), pristine.Lend(t)
		s := open(t, url, postgres.Options{Ring: ring, Replica: strings.Replace(url, server.Addr(), standby.Addr(), 1)})
		position(t, s)
		return s, ring
	})
}
