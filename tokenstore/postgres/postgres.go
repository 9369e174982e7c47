// Package postgres keeps tokens in a Postgres database, which any number of
// gateways share.
//
// Writers are serialised by the one row of the change feed, so that numbers
// follow the order of commits; readers see snapshots and wait for nobody. Every
// statement has a deadline, and every transaction of ours gives its locks up by
// itself when its owner hangs, so that one stuck node can not keep the others
// from revoking. What others do in the same database has no such deadlines: for
// the roles of people and reports set one,
//
//	ALTER ROLE reports SET idle_in_transaction_session_timeout = '5s'
//
// A node has up to 20 connections, and up to 4 more to a replica. Behind a pooler that hands out a connection
// for each transaction the connection string needs
// default_query_exec_mode=simple_protocol, and changes are found by polling alone.
package postgres

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// Options sets up a Store. Zero values take the defaults named.
type Options struct {
	// Ring seals the audit log, and its first key becomes the primary of a new
	// store. Without one the store can only be read, and does not notice that a
	// backup was restored. Whether it holds the keys that a store needs is asked
	// with Ring.CheckAgainst.
	Ring *tokenstore.Ring
	// Copying opens the store to copy it, or to copy another one into it: it stays
	// as it is but for its schema, also when a copy into it is not finished.
	Copying bool
	// Now is the wall clock; default time.Now. A clock that is given stands in for
	// the database's clock too.
	Now func() time.Time
	// clock reads the database's clock, unless Now stands in for it.
	clock func(context.Context, db.DBTX) (time.Time, error)
	// Random names the epoch of a new store; default crypto/rand.
	Random io.Reader
	// Lookups is how many requests may look for their secret at once; default 8.
	Lookups int32
	// Replica is the connection string of a database that follows this one, a
	// streaming standby for example, and is nearer. Lookups are answered from it
	// as long as it is not behind what this node knows; everything else, and every
	// "there is no such secret", comes from the primary. It may be down at any time,
	// and is never written to. Empty: there is none.
	Replica string
	// Wrap, if set, stands between the store and every statement that it runs,
	// BEGIN and COMMIT included, so that tests can make any of them fail.
	Wrap func(db.DBTX) db.DBTX
}

// The deadlines of this package. Callers may have shorter ones.
const (
	// connectTimeout bounds each attempt to reach one host.
	connectTimeout = 2 * time.Second
	lookupTimeout  = 2 * time.Second
	feedTimeout    = 5 * time.Second
	// acquireTimeout is how long one waits for a connection, turnTimeout how long
	// for other writers of this node.
	acquireTimeout = 10 * time.Second
	turnTimeout    = 15 * time.Second
	// openTimeout bounds how long the start waits for a server that is not there.
	openTimeout = 15 * time.Second
)

// Connections per node at most: Options.Lookups, these, and one that listens.
const (
	feedConns       = 2
	tellingConns    = 1
	managementConns = 8
	// One writer holds the head, and the next is ready for it.
	writersAtOnce = 2
)

// Store is a tokenstore.Store in a Postgres database.
type Store struct {
	o Options
	// Pools of their own, so that none can starve another: requests that look for a
	// secret, the feed on which revocations arrive, people and programs that
	// manage tokens, and notifications.
	lookups, feed, management, telling *pgxpool.Pool

	replica *replica // nil: there is none

	pause   *pause
	writers chan struct{} // holds one for each that writes
	wakes   *wakes
	records tokenstore.Records
	history history

	mu     sync.Mutex
	closed bool
	calls  sync.WaitGroup // running calls
	done   chan struct{}  // closed when Close has finished
}

var (
	_ tokenstore.Store = (*Store)(nil)
	_ tokenstore.Waker = (*Store)(nil)
)

// Open connects to the database that the connection string names and brings its
// schema up to date. Errors never repeat the string, which may hold a password.
//
// The string may name several hosts; the one that takes writes is used, so that
// a standby that was promoted is found. A string that says
// target_session_attrs=standby opens a standby instead, to read only. Unless all
// hosts are on this machine it must say by sslmode whether connections are
// encrypted.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	o.fill()
	s := &Store{
		o: o, done: make(chan struct{}), pause: newPause(time.Now), writers: make(chan struct{}, writersAtOnce), //nolint:forbidigo // a pause is real time
	}
	limited, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := s.open(limited, url); err != nil {
		s.shut()
		return nil, fmt.Errorf("open the Postgres store: %w", explainIn(ctx, err))
	}
	return s, nil
}

func (o *Options) fill() {
	if o.Now == nil {
		o.Now, o.clock = time.Now, databaseClock //nolint:forbidigo // where the default comes from
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if o.Lookups < 1 {
		o.Lookups = 8
	}
	if o.Wrap == nil {
		o.Wrap = func(d db.DBTX) db.DBTX { return d }
	}
}

func (s *Store) open(ctx context.Context, url string) error {
	config, err := configure(url)
	if err != nil {
		return err
	}
	first := []func(context.Context, *sql.DB) error{migrate, nameEpoch(s.o.Random)}
	if !s.o.Copying {
		first = append(first, checkCopied)
	}
	if err := withDatabase(ctx, config.ConnConfig, first...); err != nil {
		return err
	}
	config.BeforeConnect, config.AfterConnect = s.pause.before, s.pause.after
	for _, p := range []struct {
		pool **pgxpool.Pool
		size int32
	}{{&s.lookups, s.o.Lookups}, {&s.feed, feedConns}, {&s.management, managementConns}, {&s.telling, tellingConns}} {
		config := config.Copy()
		config.MaxConns = p.size
		if *p.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
			return errors.New("the connection string can not be used")
		}
	}
	if s.o.Replica != "" {
		if s.replica, err = openReplica(ctx, s.o.Replica, &s.o, &s.records); err != nil {
			return err
		}
	}
	s.wakes = startWakes(config.ConnConfig, s.notify, s.pause.returned)
	if s.o.Ring == nil || s.o.Copying {
		return nil
	}
	if err := tokenstore.Adopt(ctx, s, s.o.Ring); err != nil {
		return err
	}
	return s.checkServer(ctx)
}

// Wakes gives a signal when another node is said to have changed something, so
// that the feed is worth reading before its time. Signals may be lost and may
// come for nothing.
func (s *Store) Wakes() <-chan struct{} { return s.wakes.signals }

// Listening says whether notifications arrive; behind a pooler that hands out a
// connection for each transaction they never do, and changes are found by polling.
func (s *Store) Listening() bool { return s.wakes.listening.Load() }

// notify is a statement of its own.
func (s *Store) notify(ctx context.Context, channel string) error {
	held, err := s.hold(ctx, s.telling, connectTimeout, func(held *session) error {
		_, err := held.Exec(ctx, "SELECT pg_notify($1, '')", channel)
		return err
	})
	if err == nil {
		held.release(ctx)
	}
	return err
}

// enter counts a call, so that Close can wait for it.
func (s *Store) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("%w: the store is closed", tokenstore.ErrUnavailable)
	}
	s.calls.Add(1)
	return nil
}

// Close waits for running calls. Each of them ends in bounded time, even when the
// server stands still.
func (s *Store) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if first {
		s.calls.Wait()
		s.shut()
		close(s.done)
	}
	<-s.done
	return nil
}

func (s *Store) shut() {
	if s.wakes != nil {
		s.wakes.close()
	}
	for _, pool := range []*pgxpool.Pool{s.lookups, s.feed, s.management, s.telling} {
		if pool != nil {
			pool.Close()
		}
	}
	if s.replica != nil {
		s.replica.close()
	}
}
