package tokenstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// Tx is one transaction: the one way to read and change records, shared by all
// adapters. It notes each change, so that the adapter can write the feed and the
// audit log as the last statements before the commit.
//
// All methods return ErrNotFound, ErrConflict or ErrUnavailable where they say
// so or the database does. A record that names another one that does not exist
// (a token its account, an account its policy) is ErrNotFound as well. Update
// methods compare Version with the stored one (ErrConflict when they differ),
// store Version+1 and set it in the value they were given; insert methods set
// Version to 1. Times are kept to the microsecond.
//
// Once a statement has failed in the database, all that follow fail with the
// same error and the transaction can not be committed, even if f goes on.
type Tx struct {
	ctx context.Context
	q   *db.Queries
	db  db.DBTX
	o   TxOptions

	changes map[changeKey]*Change
	order   []changeKey
	entries []AuditEntry
	// written holds the tokens that this transaction wrote, as they are now.
	written map[token.ID]writtenToken

	failed error // what the first failing statement gave
	over   bool
}

type changeKey struct {
	kind Kind
	id   string
}

type writtenToken struct {
	version int64
	state   token.State
}

// TxOptions is what an adapter gives to a transaction.
type TxOptions struct {
	// DB runs the statements of one open transaction.
	DB db.DBTX
	// Explain turns a driver's error into one that wraps ErrConflict (a unique
	// value is taken), ErrNotFound (a foreign key names nothing) or
	// ErrUnavailable, or returns it as it is.
	Explain func(error) error
	// Writable is false for a read-only snapshot.
	Writable bool
	// Ring seals audit entries. Only a writable transaction needs it.
	Ring *Ring
	Now  func() time.Time
	// Clock reads the store's clock. Nil: it is Now, since nobody shares the store.
	Clock func(context.Context, db.DBTX) (time.Time, error)
	// Empty is the statement that empties the table named after it as a whole;
	// default "DELETE FROM ".
	Empty string
	// ScanBudget is how many candidates a page of a list looks at, at most, before
	// it ends with a cursor. It bounds the time that a page takes whatever its
	// filters match. 0 means 5,000.
	ScanBudget int
}

// NewTx makes the Tx of a transaction that the adapter has begun. The adapter
// calls Finish before it commits and End in any case.
func NewTx(ctx context.Context, o TxOptions) *Tx {
	if o.ScanBudget < 1 {
		o.ScanBudget = defaultScanBudget
	}
	tx := &Tx{ctx: ctx, o: o}
	tx.db = guard{tx}
	tx.q = db.New(tx.db)
	return tx
}

// Context is the context that the transaction runs under.
func (tx *Tx) Context() context.Context { return tx.ctx }

// End makes every further use an error: a Tx that f let escape must not reach
// the connection, which by then runs somebody else's transaction.
func (tx *Tx) End() { tx.over = true }

var (
	errReadOnly = errors.New("tokenstore: a read-only transaction was asked to write")
	errOver     = errors.New("tokenstore: the transaction is over")
)

// ready is asked by every method that writes.
func (tx *Tx) ready() error {
	if !tx.o.Writable {
		tx.fail(errReadOnly)
	}
	return tx.usable()
}

func (tx *Tx) usable() error {
	if tx.over {
		return errOver
	}
	return tx.failed
}

func (tx *Tx) fail(err error) {
	if tx.failed == nil {
		tx.failed = err
	}
}

// explain is where every error of a statement passes. What says that nothing was
// found is an answer; everything else ends the transaction, as it does in
// Postgres by itself.
func (tx *Tx) explain(doing string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("%s: %w", doing, ErrNotFound)
	}
	if tx.failed != nil && errors.Is(err, tx.failed) || errors.Is(err, errOver) {
		return err
	}
	if ctxErr := tx.ctx.Err(); ctxErr != nil {
		// The driver says only that it was interrupted.
		err = fmt.Errorf("%s: %w", doing, ctxErr)
	} else {
		err = fmt.Errorf("%s: %w", doing, tx.o.Explain(err))
	}
	tx.fail(err)
	return err
}

// damaged ends the transaction because of a row that can not be read as what it
// should be.
func (tx *Tx) damaged(what string, err error) error {
	err = fmt.Errorf("%s: the stored record is damaged: %w", what, err)
	tx.fail(err)
	return err
}

// note puts a change on the feed. Changes of one record in one transaction are
// one change.
func (tx *Tx) note(kind Kind, id string, version int64, final bool) {
	key := changeKey{kind, id}
	c := tx.changes[key]
	if c == nil {
		c = &Change{Kind: kind, ID: id}
		if tx.changes == nil {
			tx.changes = map[changeKey]*Change{}
		}
		tx.changes[key] = c
		tx.order = append(tx.order, key)
	}
	c.Version = version
	c.Final = c.Final || final
}

// guard keeps statements from running after the transaction has failed or ended.
type guard struct{ tx *Tx }

func (g guard) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := g.tx.usable(); err != nil {
		return pgconn.CommandTag{}, err
	}
	if err := checkTexts(args); err != nil {
		return pgconn.CommandTag{}, err
	}
	return g.tx.o.DB.Exec(ctx, sql, args...)
}

func (g guard) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := g.tx.usable(); err != nil {
		return nil, err
	}
	if err := checkTexts(args); err != nil {
		return nil, err
	}
	return g.tx.o.DB.Query(ctx, sql, args...)
}

func (g guard) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if err := g.tx.usable(); err != nil {
		return failedRow{err}
	}
	if err := checkTexts(args); err != nil {
		return failedRow{err}
	}
	return g.tx.o.DB.QueryRow(ctx, sql, args...)
}

var errBrokenText = errors.New("tokenstore: a text is not UTF-8 or holds NUL")

// checkTexts refuses what Postgres can not store and SQLite gives back changed
// or cut, in every database alike. Errors repeat nothing.
func checkTexts(args []any) error {
	for _, arg := range args {
		var text string
		switch v := arg.(type) {
		case string:
			text = v
		case *string:
			if v != nil {
				text = *v
			}
		}
		if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
			return errBrokenText
		}
	}
	return nil
}

type failedRow struct{ err error }

func (r failedRow) Scan(...any) error { return r.err }
