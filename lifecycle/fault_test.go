package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/lifecycle"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

var errKilled = fmt.Errorf("%w: killed", tokenstore.ErrUnavailable)

// killer lets a process die at its n-th statement, and all that follow fail.
type killer struct {
	mu    sync.Mutex
	at    int // 0: it lives
	count int
	died  bool
}

func (k *killer) arm(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at, k.count, k.died = n, 0, false
}

func (k *killer) next() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.count++
	if k.at == 0 || k.count < k.at {
		return nil
	}
	k.died = true
	return errKilled
}

// statements is what a store runs its statements by.
type statements interface {
	Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
	Query(context.Context, string, ...any) (pgx.Rows, error)
	QueryRow(context.Context, string, ...any) pgx.Row
}

// doomed is whoever mortally stands before. The store's own name for statements
// cannot be written here, and a generic function with it can hold nothing.
var doomed = new(killer)

func mortally[T statements](inner T) T {
	outer, ok := any(mortal{inner, doomed}).(T)
	if !ok {
		panic("the store has other statements")
	}
	return outer
}

type mortal struct {
	statements
	k *killer
}

func (m mortal) Exec(ctx context.Context, text string, args ...any) (pgconn.CommandTag, error) {
	if text != "ROLLBACK" {
		if err := m.k.next(); err != nil {
			return pgconn.CommandTag{}, err
		}
	}
	return m.statements.Exec(ctx, text, args...)
}

func (m mortal) Query(ctx context.Context, text string, args ...any) (pgx.Rows, error) {
	if err := m.k.next(); err != nil {
		return nil, err
	}
	return m.statements.Query(ctx, text, args...)
}

func (m mortal) QueryRow(ctx context.Context, text string, args ...any) pgx.Row {
	if err := m.k.next(); err != nil {
		return deadRow{err}
	}
	return m.statements.QueryRow(ctx, text, args...)
}

type deadRow struct{ err error }

func (r deadRow) Scan(...any) error { return r.err }

// F29, S20: a pass that is killed at any statement, and another gateway that takes
// over, come to one effect, one notice and one entry.
func TestAPassThatIsKilledAnywhereHasOneEffect(t *testing.T) {
	for _, at := range []int{38, 45} {
		t.Run(fmt.Sprintf("on day %d", at), func(t *testing.T) {
			for n, more := 1, true; more; n++ {
				require.Less(t, n, 400)
				more = killedAt(t, at, n)
			}
		})
	}
}

func killedAt(t *testing.T, at, n int) (died bool) {
	c := &clock{at: storetest.Now().Truncate(day)}
	ring, k := storetest.Ring(t), doomed
	o := sqlite.Options{Ring: ring, Now: c.Now}
	o.Wrap = mortally
	store, err := sqlite.Open(ctx, filepath.Join(storetest.Memory(t), "s.db"), o)
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	h := move(t, store, ring, c)
	idle, reads := h.create(readOnly), h.create()
	h.use(reads, "payments:read")
	// A few long days: nothing happens before the notice.
	for _, d := range []int{36, 37, 38, 40, 42, 43, 44, 45} {
		if d > at {
			break
		}
		h.clock.add(h.start.Add(time.Duration(d) * day).Sub(h.clock.Now()))
		h.use(reads, "payments:read")
		if d == at {
			k.arm(n)
			_, err := h.Pass(ctx)
			died = k.died
			if died {
				require.ErrorIs(t, err, tokenstore.ErrUnavailable)
			}
			k.arm(0)
			h.clock.add(2 * time.Minute) // its term ends
			h.Keeper = h.keeper("node-2")
			h.use(reads, "payments:read")
		}
		h.tick(0)
		h.tick(0)
	}
	if at == 38 {
		require.Equal(t, []token.Event{token.EventDeletionNotice}, h.told(idle), "statement %d", n)
		require.Equal(t, []string{"token.schedule"}, h.verbs(idle))
		return died
	}
	require.Equal(t, []token.Event{token.EventDeletionNotice, token.EventUnusedDeleted}, h.told(idle), "statement %d", n)
	require.Equal(t, []string{"token.schedule", "token.delete_unused"}, h.verbs(idle))
	require.Equal(t, []string{"token.schedule", "token.downgrade"}, h.verbs(reads))
	require.Equal(t, token.ReadOnly, h.show(reads).Token.Grant.Access)
	h.chainHolds()
	return died
}

// L8, F29: gateways that all pass at once, and do not know of each other, come to
// one effect and one notice; on both stores.
func TestManyGatewaysAtOnceHaveOneEffect(t *testing.T) {
	for name, open := range map[string]func(*testing.T, *tokenstore.Ring, *clock) tokenstore.Store{
		"sqlite": func(t *testing.T, ring *tokenstore.Ring, c *clock) tokenstore.Store {
			s, err := sqlite.Open(ctx, filepath.Join(storetest.Memory(t), "s.db"), sqlite.Options{Ring: ring, Now: c.Now})
			require.NoError(t, err)
			return s
		},
		"postgres": func(t *testing.T, ring *tokenstore.Ring, c *clock) tokenstore.Store {
			url := pgtest.Start(t).Database()
			require.NoError(t, postgres.Migrate(ctx, url))
			s, err := postgres.Open(ctx, url, postgres.Options{Ring: ring, Now: c.Now})
			require.NoError(t, err)
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, ring := &clock{at: storetest.Now().Truncate(day)}, storetest.Ring(t)
			store := open(t, ring, c)
			t.Cleanup(func() { require.NoError(t, store.Close()) })
			h := move(t, store, ring, c)
			var ids []token.ID
			for range 4 {
				ids = append(ids, h.create(readOnly))
			}
			for _, d := range []int{37, 38, 39, 41, 43, 44, 45} {
				h.clock.add(h.start.Add(time.Duration(d) * day).Sub(h.clock.Now()))
				h.observe()
				h.allAtOnce(5)
				h.deliver()
				h.allAtOnce(5)
				if d < 44 {
					h.clock.add(time.Hour)
				}
			}
			h.clock.add(2 * time.Minute)
			h.pass()
			for _, id := range ids {
				require.Equal(t, []string{"token.schedule", "token.delete_unused"}, h.verbs(id))
				require.Equal(t, []token.Event{token.EventDeletionNotice, token.EventUnusedDeleted}, h.told(id))
			}
			h.chainHolds()
		})
	}
}

// allAtOnce lets gateways of two names pass at once: of one name there may be two
// for a moment, when a gateway is configured anew.
func (h *house) allAtOnce(n int) {
	h.t.Helper()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		k := h.keeper(fmt.Sprintf("node-%d", i%2+1))
		k.Alarm = nil
		wg.Go(func() { _, errs[i] = k.Pass(ctx) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, lifecycle.ErrLost) && !errors.Is(err, tokenstore.ErrConflict) {
			require.NoError(h.t, err)
		}
	}
}
