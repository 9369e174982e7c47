// Package sqlite keeps tokens in one file on this machine: the embedded store.
//
// One connection writes and a few read, each reader in a snapshot that no writer
// disturbs. A commit is on the disk before Write returns. Several processes may
// have the file open, so that commands work beside a running gateway; it must
// lie on a local disk, since network file systems break SQLite's locks.
package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// Options sets up a Store. Zero values take the defaults named.
type Options struct {
	// Ring seals the audit log, and its first key becomes the primary of a new
	// store. Without one the store can only be read. Whether it holds the keys
	// that a store needs is asked with Ring.CheckAgainst.
	Ring *tokenstore.Ring
	// Copying opens the store to copy it, or to copy another one into it: it stays
	// as it is but for its schema, also when a copy into it is not finished.
	Copying bool
	// Now is the wall clock; default time.Now.
	Now func() time.Time
	// Random names the epoch of a new store; default crypto/rand.
	Random io.Reader
	// Readers is how many may read at once, and as many again may look up secrets or
	// follow the feed, which never wait for readers; default the number of
	// processors, at least 4.
	Readers int
	// BusyTimeout is how long to wait for another process that writes; default 5s.
	BusyTimeout time.Duration
	// ScanBudget is how many candidates a page of a list looks at; see
	// tokenstore.TxOptions.
	ScanBudget int
	// Wrap, if set, stands between the store and every statement that it runs,
	// BEGIN and COMMIT included, so that tests can make any of them fail.
	Wrap func(db.DBTX) db.DBTX
}

// Store is a tokenstore.Store in a SQLite file.
type Store struct {
	o    Options
	path string
	file os.FileInfo // what lay at path when it was opened

	writers, readers *sql.DB
	// Write, Read, and what the gate waits for: Lookup and Changes.
	writing, reading, serving lane

	records tokenstore.Records

	mu     sync.Mutex
	closed bool
	calls  sync.WaitGroup // running calls
	done   chan struct{}  // closed when Close has finished
	err    error          // what Close found
}

var _ tokenstore.Store = (*Store)(nil)

// Open opens the store in the file, or makes one when there is none and brings
// an older one up to date. Errors say what is wrong with the file and how to mend it.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	o.fill()
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{o: o, path: path, done: make(chan struct{})}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", path, err), s.shut())
	}
	return s, nil
}

func (o *Options) fill() {
	if o.Now == nil {
		o.Now = time.Now //nolint:forbidigo // where the default comes from
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if o.Readers < 1 {
		o.Readers = max(4, runtime.GOMAXPROCS(0))
	}
	if o.BusyTimeout <= 0 {
		o.BusyTimeout = 5 * time.Second
	}
	if o.Wrap == nil {
		o.Wrap = func(d db.DBTX) db.DBTX { return d }
	}
}

func (s *Store) open(ctx context.Context) error {
	fresh, err := prepareFile(s.path)
	if err != nil {
		return err
	}
	if err := inspect(ctx, s.path, s.o.BusyTimeout, fresh); err != nil {
		return err
	}
	// Again: who closes a database last removes it, as the inspection just did.
	if err := prepareSharedMemory(s.path); err != nil {
		return err
	}
	common := []string{
		setBusyTimeout(s.o.BusyTimeout), // first: what follows may have to wait
		"PRAGMA foreign_keys = on",
		"PRAGMA trusted_schema = off",
		"PRAGMA cell_size_check = on",
		"PRAGMA temp_store = memory",
		"PRAGMA cache_size = -16000", // KiB
	}
	s.writers, err = connect(s.path, append(common[:len(common):len(common)],
		"PRAGMA journal_mode = wal",
		// A commit that was acknowledged survives a loss of power.
		"PRAGMA synchronous = full",
		"PRAGMA journal_size_limit = 67108864",
	)...)
	if err != nil {
		return err
	}
	s.readers, err = connect(s.path, append(common[:len(common):len(common)], "PRAGMA query_only = on")...)
	if err != nil {
		return err
	}
	if err := migrate(ctx, s.writers, s.o.Random); err != nil {
		return mendable(explain(err))
	}
	var mode string
	if err := s.writers.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return explain(err)
	}
	if mode != "wal" {
		return errors.New("its file system keeps no write-ahead log: put the file on a local disk")
	}
	if s.file, err = os.Stat(s.path); err != nil {
		return err
	}
	s.writing = newLane(s.writers, 1)
	s.reading = newLane(s.readers, s.o.Readers)
	s.serving = newLane(s.readers, s.o.Readers)
	if s.o.Copying {
		return nil
	}
	if err := checkCopied(ctx, s.readers); err != nil {
		return err
	}
	if s.o.Ring == nil {
		return nil
	}
	return tokenstore.Adopt(ctx, s, s.o.Ring)
}

// present notices that the file was moved, deleted or replaced. SQLite would go
// on with the old one, and what is written to it would be lost with this process.
func (s *Store) present() error {
	info, err := os.Stat(s.path)
	if err == nil && os.SameFile(info, s.file) {
		return nil
	}
	return fmt.Errorf("%w: the database file %s was moved, deleted or replaced while it was in use: put it back, or restart with the new one", tokenstore.ErrUnavailable, s.path)
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

// Close waits for running calls, and leaves one file with everything in it.
func (s *Store) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if !first {
		<-s.done
		return s.err
	}
	s.calls.Wait()
	s.err = s.shut()
	close(s.done)
	return s.err
}

// shut closes all connections. The writer is the last, because the last one
// moves the write-ahead log into the file, which a reader may not.
func (s *Store) shut() error {
	errs := []error{s.reading.drain(), s.serving.drain()}
	if s.readers != nil {
		errs = append(errs, s.readers.Close())
	}
	errs = append(errs, s.writing.drain())
	if s.writers != nil {
		errs = append(errs, s.writers.Close())
	}
	return errors.Join(errs...)
}

// explain prefers what ended the context to what the driver made of it.
func (s *Store) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctxErr := ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	return explain(err)
}
