package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// works demands that every kind of call succeeds again, and says after how long.
func works(t *testing.T, s *postgres.Store, calls map[string]func() error) {
	t.Helper()
	from := time.Now()
	for name, call := range calls {
		var last error
		for end := time.Now().Add(ceiling); ; time.Sleep(10 * time.Millisecond) {
			if last = call(); last == nil {
				break
			}
			require.ErrorIs(t, last, tokenstore.ErrUnavailable, name)
			if time.Now().After(end) {
				require.NoError(t, last, name)
			}
		}
	}
	t.Logf("all calls work again after %v", time.Since(from).Round(time.Millisecond))
}

// F11: however the server ends, no call gives a wrong answer meanwhile, what was
// acknowledged is there, and all goes on when it is back.
func TestARestartOfTheServerIsSurvived(t *testing.T) {
	t.Parallel()
	server, ring := pgtest.Start(t), storetest.Ring(t)
	url := server.Database()
	s := open(t, url, postgres.Options{Ring: ring})
	tok, l := issue(t, s, ring)
	calls := map[string]func() error{
		"lookup": func() error {
			rec, err := s.Lookup(context.Background(), l)
			if err == nil && rec.Token.ID != tok.ID {
				return errors.New("another token")
			}
			return err
		},
		"write":   func() error { return touch(s, tok.ID) },
		"changes": func() error { return second(s.Changes(context.Background(), tokenstore.Position{})) },
		"read": func() error {
			return s.Read(context.Background(), func(tx *tokenstore.Tx) error { return second(tx.Token(tok.ID)) })
		},
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var acked, unknown, failed atomic.Int64
	for name, call := range calls {
		for range 2 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Millisecond):
					}
					err := call()
					switch {
					case err == nil && name == "write":
						acked.Add(1)
					case errors.Is(err, tokenstore.ErrUnknownOutcome) && name == "write":
						unknown.Add(1)
					case isUnavailable(err):
						failed.Add(1)
					case err != nil:
						t.Errorf("%s: %v", name, err)
						return
					}
				}
			})
		}
	}
	for _, how := range []string{"fast", "immediate", "kill", "a session at a time"} {
		before := acked.Load()
		eventually(t, "some were written", func() bool { return acked.Load() > before+20 })
		fails := failed.Load() + unknown.Load()
		switch how {
		case "kill":
			server.Kill()
		case "a session at a time":
			admin := psql(t, url)
			for range 20 {
				_, err := admin.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() LIMIT 1")
				require.NoError(t, err)
			}
			require.NoError(t, admin.Close(t.Context()))
			works(t, s, calls)
			continue
		default:
			server.Stop(how)
		}
		eventually(t, "calls fail", func() bool { return failed.Load()+unknown.Load() > fails+5 })
		server.Run()
		works(t, s, calls)
		eventually(t, "it hears again", s.Listening)
	}
	close(stop)
	wg.Wait()
	// Connections that were lost while nobody used them are nobody's business.
	admin := psql(t, url)
	for name, call := range calls {
		for range 3 {
			_, err := admin.Exec(t.Context(), "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
			require.NoError(t, err)
			require.NoError(t, call(), name)
		}
	}
	require.NoError(t, admin.Close(t.Context()))
	now, err := s.Lookup(t.Context(), l)
	require.NoError(t, err)
	versions := now.Token.Version - tok.Version
	require.GreaterOrEqual(t, versions, acked.Load())
	// Those that `works` counted for itself are no more than a few.
	require.LessOrEqual(t, versions, acked.Load()+unknown.Load()+20)
	sound(t, s, ring)
	t.Logf("%d writes acknowledged, %d with unknown outcome, %d calls refused", acked.Load(), unknown.Load(), failed.Load())
}

// F13: the server stands still, in the middle of whatever it was doing. Every
// call, of callers without a deadline too, comes back and says so, and Close does.
func TestAFrozenServerHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	server, ring := pgtest.Start(t), storetest.Ring(t)
	url := server.Database()
	h := new(hook)
	s := open(t, url, postgres.Options{Ring: ring, Wrap: h.wrap})
	other, err := postgres.Open(t.Context(), url, postgres.Options{Ring: ring})
	require.NoError(t, err)
	tok, l := issue(t, s, ring)
	eventually(t, "both hear", func() bool { return s.Listening() && other.Listening() })

	frozen := make(chan struct{})
	t.Cleanup(server.Thaw)
	ctx := context.Background()
	begun := make(chan struct{}, 1)
	calls := map[string]func() error{
		"lookup":  func() error { return second(s.Lookup(ctx, l)) },
		"changes": func() error { return second(s.Changes(ctx, tokenstore.Position{})) },
		"write":   func() error { return touch(s, tok.ID) },
		"read":    func() error { return s.Read(ctx, func(tx *tokenstore.Tx) error { return second(tx.Token(tok.ID)) }) },
	}
	var wg sync.WaitGroup
	check := func(name string, call func() error, want error) {
		wg.Go(func() {
			from := time.Now()
			if err := call(); !errors.Is(err, want) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
			t.Logf("%s came back after %v", name, time.Since(from).Round(time.Millisecond))
		})
	}
	check("a read in the middle", func() error {
		return s.Read(ctx, func(tx *tokenstore.Tx) error {
			begun <- struct{}{}
			<-frozen
			return second(tx.Token(tok.ID))
		})
	}, tokenstore.ErrUnavailable)
	<-begun
	h.before("COMMIT", func(db.DBTX) { server.Freeze(); close(frozen) })
	check("a commit", func() error { return touch(s, tok.ID) }, tokenstore.ErrUnknownOutcome)
	<-frozen
	for name, call := range calls {
		for n := range 10 { // more than there are connections
			check(fmt.Sprint(name, " ", n), call, tokenstore.ErrUnavailable)
		}
	}
	check("opening", func() error { return second(postgres.Open(ctx, url, postgres.Options{Ring: ring})) }, tokenstore.ErrUnavailable)
	wg.Go(func() {
		if err := other.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	require.NoError(t, bounded(t, "all of it", func() error { wg.Wait(); return nil }))
	eventually(t, "it notices that it hears nothing", func() bool { return !s.Listening() })
	server.Thaw()
	works(t, s, calls)
	eventually(t, "it hears again", s.Listening)
	sound(t, s, ring)
}

// F20: others took all connections. What is connected goes on; the rest is told
// what is wrong.
func TestWhenTheServerHasNoConnectionLeft(t *testing.T) {
	t.Parallel()
	server, ring := pgtest.Start(t, "max_connections = 30"), storetest.Ring(t)
	url := server.Database()
	s := open(t, url, postgres.Options{Ring: ring})
	tok, l := issue(t, s, ring)
	require.NoError(t, second(s.Lookup(t.Context(), l)))
	require.NoError(t, second(s.Changes(t.Context(), tokenstore.Position{})))
	eventually(t, "it hears", s.Listening)
	var taken []*pgx.Conn
	for {
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			require.ErrorContains(t, err, "53300")
			break
		}
		taken = append(taken, conn)
	}
	_, err := postgres.Open(t.Context(), url, postgres.Options{Ring: ring})
	require.ErrorIs(t, err, tokenstore.ErrUnavailable)
	require.ErrorContains(t, err, "too many clients")
	for range 20 {
		require.NoError(t, second(s.Lookup(t.Context(), l)))
		require.NoError(t, second(s.Changes(t.Context(), tokenstore.Position{})))
		require.NoError(t, touch(s, tok.ID))
	}
	var wg sync.WaitGroup
	for range 50 { // some of them find no connection
		wg.Go(func() {
			if err := second(s.Lookup(context.Background(), l)); err != nil && !isUnavailable(err) {
				t.Errorf("lookup: %v", err)
			}
		})
	}
	wg.Wait()
	for _, conn := range taken {
		require.NoError(t, conn.Close(t.Context()))
	}
	s2 := open(t, url, postgres.Options{Ring: ring})
	require.NoError(t, touch(s2, tok.ID))
}
