package postgres_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

func isUnavailable(err error) bool { return errors.Is(err, tokenstore.ErrUnavailable) }

// F17: somebody's session holds the head and none of our timeouts are its own.
// Writes fail in bounded time and say what to do; all else goes on; and they
// succeed again when it is over.
func TestAForeignSessionThatHoldsTheHeadFailsWritesAndNothingElse(t *testing.T) {
	t.Parallel()
	url, ring := database(t), storetest.Ring(t)
	s := open(t, url, postgres.Options{Ring: ring})
	tok, l := issue(t, s, ring)
	foreign := psql(t, url)
	_, err := foreign.Exec(t.Context(), "BEGIN; UPDATE head SET seq = seq + 1")
	require.NoError(t, err)

	var wg sync.WaitGroup
	for range 20 { // more than there are connections
		wg.Go(func() {
			err := touch(s, tok.ID)
			if !isUnavailable(err) {
				t.Errorf("write: %v", err)
			}
		})
	}
	watcher := psql(t, url)
	waiting := ofOthers + " AND wait_event_type = 'Lock'"
	becomes(t, "some wait for the lock", watcher, waiting, some)
	for range 20 {
		require.LessOrEqual(t, number(t, watcher, waiting), 2, "they wait on few connections")
		require.NoError(t, second(s.Lookup(t.Context(), l)))
		require.NoError(t, second(s.Changes(t.Context(), tokenstore.Position{})))
		require.NoError(t, s.Read(t.Context(), func(tx *tokenstore.Tx) error { return second(tx.Token(tok.ID)) }))
	}
	err = touch(s, tok.ID)
	require.True(t, isUnavailable(err))
	require.NoError(t, bounded(t, "the writers", func() error { wg.Wait(); return nil }))

	// It is given up while one waits.
	done := make(chan error, 1)
	go func() { done <- touch(s, tok.ID) }()
	becomes(t, "one waits for the lock", watcher, waiting, some)
	require.NoError(t, foreign.Close(t.Context()))
	require.NoError(t, watcher.Close(t.Context()))
	require.NoError(t, bounded(t, "the write", func() error { return <-done }))
	sound(t, s, ring)
}

func TestAHeadThatIsHeldIsNamedInTheError(t *testing.T) {
	t.Parallel()
	url, ring := database(t), storetest.Ring(t)
	s := open(t, url, postgres.Options{Ring: ring})
	foreign := psql(t, url)
	_, err := foreign.Exec(t.Context(), "BEGIN; SELECT 1 FROM head FOR UPDATE")
	require.NoError(t, err)
	err = s.Write(t.Context(), func(*tokenstore.Tx) error { return nil })
	require.ErrorIs(t, err, tokenstore.ErrUnavailable)
	require.ErrorContains(t, err, "pg_stat_activity")
	require.NoError(t, foreign.Close(t.Context()))
}

// F18, I3: whatever is done to the head, a node learns that it can not go on from
// where it was.
func TestAHeadThatWasChangedByHandIsNoticed(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"it went back":         "UPDATE head SET seq = seq - 1",
		"it is another's":      "UPDATE head SET epoch = 'another'",
		"the feed was emptied": "DELETE FROM changes; UPDATE head SET seq = seq + 5",
		"the feed was cut":     "UPDATE head SET seq = seq + 5; INSERT INTO changes SELECT seq, 'token', 'x', 1, 0, 0 FROM head; DELETE FROM changes WHERE seq <> (SELECT seq FROM head)",
	} {
		t.Run(name, func(t *testing.T) {
			url, ring := database(t), storetest.Ring(t)
			s := open(t, url, postgres.Options{Ring: ring})
			issue(t, s, ring)
			c, err := s.Changes(t.Context(), tokenstore.Position{})
			require.NoError(t, err)
			require.True(t, c.Complete)
			run(t, url, change)
			now, err := s.Changes(t.Context(), c.At)
			require.NoError(t, err)
			require.False(t, now.Complete)
			require.NotEqual(t, c.At, now.At)
			// From there it goes on.
			again, err := s.Changes(t.Context(), now.At)
			require.NoError(t, err)
			require.True(t, again.Complete)
		})
	}
}

// F22: many change the same token at once. Whoever read before it wrote steps the
// version once; nobody sees an error of the database.
func TestManyWritersOfOneTokenAllSucceed(t *testing.T) {
	t.Parallel()
	url, ring := database(t), storetest.Ring(t)
	nodes := []*postgres.Store{
		open(t, url, postgres.Options{Ring: ring}), open(t, url+simple, postgres.Options{Ring: ring}),
	}
	tok, _ := issue(t, nodes[0], ring)
	const writers = 64
	var wg sync.WaitGroup
	for n := range writers {
		wg.Go(func() {
			if err := touch(nodes[n%len(nodes)], tok.ID); err != nil {
				t.Errorf("write: %v", err)
			}
		})
	}
	wg.Wait()
	storetest.MustRead(t, nodes[0], func(tx *tokenstore.Tx) error {
		now, err := tx.Token(tok.ID)
		require.Equal(t, tok.Version+writers, now.Version)
		return err
	})
	sound(t, nodes[1], ring)
}

// F22: the server may end any transaction to resolve a deadlock or a conflict of
// snapshots. f runs again, and that is all.
func TestATransactionThatOthersSpoiltRunsAgain(t *testing.T) {
	t.Parallel()
	url, ring := database(t), storetest.Ring(t)
	s := open(t, url, postgres.Options{Ring: ring})
	tok, _ := issue(t, s, ring)
	// Another session locks the account and then wants the head: a deadlock with f,
	// which has the head and wants the account.
	foreign := psql(t, url)
	_, err := foreign.Exec(t.Context(), "SET deadlock_timeout = '10min'; BEGIN; SELECT 1 FROM accounts FOR UPDATE")
	require.NoError(t, err)
	runs, wants := 0, make(chan error, 1)
	err = s.Write(t.Context(), func(tx *tokenstore.Tx) error {
		if runs++; runs == 1 {
			go func() { wants <- second(foreign.Exec(context.Background(), "UPDATE head SET seq = seq; COMMIT")) }()
		}
		tx.Audit(storetest.Entry())
		a, err := tx.Account(tok.AccountID)
		if err != nil {
			return err
		}
		return tx.UpdateAccount(&a)
	})
	require.NoError(t, err)
	require.Equal(t, 2, runs)
	require.NoError(t, <-wants)
	sound(t, s, ring)
}

// F21: reports that take all connections of the management leave lookups and the
// feed alone.
func TestLongReportsStarveNeitherLookupsNorTheFeed(t *testing.T) {
	t.Parallel()
	url, ring := database(t), storetest.Ring(t)
	s := open(t, url, postgres.Options{Ring: ring})
	_, l := issue(t, s, ring)
	release := make(chan struct{})
	var running atomic.Int32
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			err := s.Read(context.Background(), func(*tokenstore.Tx) error {
				running.Add(1)
				<-release
				return nil
			})
			if err != nil {
				t.Errorf("report: %v", err)
			}
		})
	}
	eventually(t, "all connections are taken", func() bool { return running.Load() == 8 })
	for range 50 {
		require.NoError(t, second(s.Lookup(t.Context(), l)))
		require.NoError(t, second(s.Changes(t.Context(), tokenstore.Position{})))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Read(ctx, func(*tokenstore.Tx) error { return nil }), context.DeadlineExceeded)
	close(release)
	wg.Wait()
}

// A statement that is given up leaves no lock and no broken connection behind.
func TestACancelledCallHarmsNobody(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]string{"extended": "", "simple": simple} {
		t.Run(name, func(t *testing.T) {
			url, ring := database(t), storetest.Ring(t)
			s := open(t, url+mode, postgres.Options{Ring: ring})
			tok, l := issue(t, s, ring)
			foreign := psql(t, url)
			_, err := foreign.Exec(t.Context(), "BEGIN; UPDATE tokens SET name = name")
			require.NoError(t, err)
			for range 20 { // more than there are connections
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				err := s.Write(ctx, touching(tok.ID)) // waits for the row
				cancel()
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.NotErrorIs(t, err, tokenstore.ErrUnavailable)
			}
			_, err = foreign.Exec(t.Context(), "COMMIT")
			require.NoError(t, err)
			require.NoError(t, foreign.Close(t.Context()))
			require.NoError(t, touch(s, tok.ID))
			require.NoError(t, second(s.Lookup(t.Context(), l)))
			storetest.MustRead(t, s, func(tx *tokenstore.Tx) error {
				now, err := tx.Token(tok.ID)
				require.Equal(t, tok.Version+1, now.Version, "what was given up was not done")
				return err
			})
			sound(t, s, ring)
		})
	}
}

func TestAPanicLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	url, ring := database(t), storetest.Ring(t)
	s := open(t, url, postgres.Options{Ring: ring})
	tok, _ := issue(t, s, ring)
	before := sound(t, s, ring)
	for range 20 { // more than there are connections
		require.Panics(t, func() {
			_ = s.Write(t.Context(), func(tx *tokenstore.Tx) error {
				if err := touching(tok.ID)(tx); err != nil {
					return err
				}
				panic("in f")
			})
		})
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = s.Read(context.Background(), func(*tokenstore.Tx) error { runtime.Goexit(); return nil })
		}()
		<-done
	}
	require.Equal(t, before, sound(t, s, ring))
	require.NoError(t, touch(s, tok.ID))
}

// A refusal is nothing that a connection must be given up for.
func TestATransactionThatFailsKeepsItsConnection(t *testing.T) {
	t.Parallel()
	var pids sync.Map
	url, ring := database(t), storetest.Ring(t)
	s := open(t, url, postgres.Options{Ring: ring, Wrap: asking(&pids, "SELECT pg_backend_pid()::text")})
	errOfTest := errors.New("of the test")
	seen := map[any]bool{}
	for range 20 {
		require.ErrorIs(t, s.Write(t.Context(), func(*tokenstore.Tx) error { return errOfTest }), errOfTest)
		pid, ok := pids.Load("READ COMMITTED")
		require.True(t, ok)
		seen[pid] = true
	}
	require.LessOrEqual(t, len(seen), 2)
}

// What one node commits the others hear; a thousand changes may be one signal.
func TestWhatOneNodeCommitsTheOthersHear(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]string{"extended": "", "simple": simple} {
		t.Run(name, func(t *testing.T) {
			url, ring := database(t), storetest.Ring(t)
			one, two := open(t, url+mode, postgres.Options{Ring: ring}), open(t, url+mode, postgres.Options{Ring: ring})
			tok, _ := issue(t, one, ring)
			eventually(t, "both hear", func() bool { return one.Listening() && two.Listening() })
			c, err := two.Changes(t.Context(), tokenstore.Position{})
			require.NoError(t, err)
			at, heard, known := c.At, 0, 0
			const changes = 100
			var wg sync.WaitGroup
			wg.Go(func() {
				for range changes {
					if err := touch(one, tok.ID); err != nil {
						t.Errorf("write: %v", err)
						return
					}
				}
			})
			for end := time.After(ceiling); known < changes; {
				select {
				case <-two.Wakes():
					heard++
					c, err := two.Changes(t.Context(), at)
					require.NoError(t, err)
					require.True(t, c.Complete)
					at, known = c.At, known+len(c.List)
				case <-end:
					require.FailNow(t, "not all was heard")
				}
			}
			wg.Wait()
			require.Equal(t, changes, known)
			require.LessOrEqual(t, heard, changes+10, "its own heartbeats are no news")
		})
	}
}

// F16: a storm of notifications holds up no commit, and is over some time.
func TestAStormOfNotificationsKeepsNobodyFromWriting(t *testing.T) {
	t.Parallel()
	url, ring := database(t), storetest.Ring(t)
	s := open(t, url, postgres.Options{Ring: ring})
	tok, _ := issue(t, s, ring)
	var wg sync.WaitGroup
	wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), ceiling)
		defer cancel()
		storm, err := pgx.Connect(ctx, url)
		if err == nil {
			_, err = storm.Exec(ctx, "SELECT pg_notify('sallyport', i::text) FROM generate_series(1, 100000) i")
			err = errors.Join(err, storm.Close(ctx))
		}
		if err != nil {
			t.Errorf("storm: %v", err)
		}
	})
	for range 50 {
		require.NoError(t, touch(s, tok.ID))
	}
	wg.Wait()
	eventually(t, "it hears again", s.Listening)
	sound(t, s, ring)
}

// Writers are alone from their first statement on, whatever they do first.
func TestWhatAWriterReadStaysTrueUntilItsCommit(t *testing.T) {
	t.Parallel()
	url, ring := database(t), storetest.Ring(t)
	one, two := open(t, url, postgres.Options{Ring: ring}), open(t, url, postgres.Options{Ring: ring})
	account := storetest.Account()
	storetest.MustWrite(t, one, func(tx *tokenstore.Tx) error { return tx.InsertAccount(&account) })
	// Each adds a token unless there are as many as may be: a write skew, if two
	// could count at once.
	const limit = 10
	errFull := errors.New("full")
	var wg sync.WaitGroup
	for n := range 4 {
		s := []*postgres.Store{one, two}[n%2]
		wg.Go(func() {
			for {
				tok := storetest.Token(account.ID)
				err := s.Write(t.Context(), func(tx *tokenstore.Tx) error {
					page, err := tx.Tokens(tokenstore.TokenQuery{AccountID: account.ID, States: []token.State{token.Active}})
					if err != nil {
						return err
					}
					if len(page.Tokens) >= limit {
						return errFull
					}
					tx.Audit(storetest.Entry())
					return tx.InsertToken(&tok)
				})
				if errors.Is(err, errFull) {
					return
				}
				if err != nil {
					t.Errorf("write: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, limit, number(t, psql(t, url), "SELECT count(*) FROM tokens"))
}

// The timeouts that keep a hanging node from blocking the others hold in both
// protocols, and end with the transaction.
func TestTransactionsHaveTheirTimeouts(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]string{"extended": "", "simple": simple} {
		t.Run(name, func(t *testing.T) {
			url, ring := database(t), storetest.Ring(t)
			var inside sync.Map
			s := open(t, url+mode, postgres.Options{Ring: ring, Wrap: asking(&inside, settings)})
			tok, _ := issue(t, s, ring)
			require.NoError(t, touch(s, tok.ID))
			require.NoError(t, s.Read(t.Context(), func(tx *tokenstore.Tx) error { return second(tx.Token(tok.ID)) }))
			for begin, want := range map[string]string{
				"READ COMMITTED":            "read committed/off/2s/10s/5s",
				"REPEATABLE READ READ ONLY": "repeatable read/on/0/20s/1min",
			} {
				got, ok := inside.Load(begin)
				require.True(t, ok, begin)
				require.Equal(t, want, got, begin)
			}
		})
	}
}

const settings = `SELECT current_setting('transaction_isolation') || '/' || current_setting('transaction_read_only') || '/' ||
	current_setting('lock_timeout') || '/' || current_setting('statement_timeout') || '/' || current_setting('idle_in_transaction_session_timeout')`

func beginOf(text string) (string, bool) {
	rest, ok := strings.CutPrefix(text, "BEGIN ISOLATION LEVEL ")
	level, _, _ := strings.Cut(rest, ";")
	return level, ok
}
