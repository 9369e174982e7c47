package sqlite

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	sqlite3 "github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"

	"github.com/sallyport/sallyport/tokenstore"
)

// All that depends on which SQLite driver is used stands in this file.

// connect makes a pool whose connections run the statements when they are opened.
func connect(path string, statements ...string) (*sql.DB, error) {
	// The write-ahead log gets the permissions of the file. SQLite reads %20 as a
	// space, and a plus sign as itself. Transactions of the migrations take the
	// write lock at once: one that began by reading could not wait for it.
	parameters := strings.ReplaceAll(url.Values{"modeof": {path}, "_txlock": {"immediate"}}.Encode(), "+", "%20")
	dsn := (&url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(path), RawQuery: parameters}).String()
	return driver.Open(dsn, func(c *sqlite3.Conn) error {
		for _, s := range statements {
			if err := c.Exec(s); err != nil {
				return err
			}
		}
		return nil
	})
}

// setBusyTimeout is how long a statement waits for another process.
func setBusyTimeout(d time.Duration) string {
	return fmt.Sprintf("PRAGMA busy_timeout = %d", d.Milliseconds())
}

// inTransaction says whether the connection has a transaction open: some errors
// end it, others do not.
func inTransaction(ctx context.Context, conn *sql.Conn) (open bool, err error) {
	err = conn.Raw(func(c any) error {
		raw, ok := c.(driver.Conn)
		if !ok {
			return fmt.Errorf("unexpected driver connection %T", c)
		}
		open = !raw.Raw().GetAutocommit()
		return nil
	})
	return open, err
}

// explain turns what the driver says into what the Store contract names.
func explain(err error) error {
	// The driver's errors are of three types, which all can be had as this one.
	var code sqlite3.ExtendedErrorCode
	switch {
	case err == nil || errors.Is(err, tokenstore.ErrUnavailable):
		return err
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, sql.ErrConnDone) || errors.Is(err, sqldriver.ErrBadConn):
		return fmt.Errorf("%w: %w", tokenstore.ErrUnavailable, err)
	case !errors.As(err, &code):
		return err
	}
	switch sqlite3.ErrorCode(code) { // the lower byte
	case sqlite3.CONSTRAINT:
		return explainConstraint(code, err)
	case sqlite3.MISMATCH, sqlite3.RANGE, sqlite3.TOOBIG, sqlite3.MISUSE, sqlite3.ERROR:
		// The statement is wrong, and will be the next time.
		return err
	case sqlite3.CORRUPT, sqlite3.NOTADB:
		return fmt.Errorf("%w: %w: the database file is damaged: stop every process that uses it and restore it from a backup", tokenstore.ErrUnavailable, err)
	case sqlite3.FULL:
		return fmt.Errorf("%w: %w: free space on the disk of the database", tokenstore.ErrUnavailable, err)
	default: // BUSY, LOCKED, IOERR, READONLY, CANTOPEN, NOMEM, INTERRUPT, ...
		return fmt.Errorf("%w: %w", tokenstore.ErrUnavailable, err)
	}
}

func explainConstraint(code sqlite3.ExtendedErrorCode, err error) error {
	switch code {
	case sqlite3.CONSTRAINT_UNIQUE, sqlite3.CONSTRAINT_PRIMARYKEY, sqlite3.CONSTRAINT_ROWID:
		return fmt.Errorf("%w: %w", tokenstore.ErrConflict, err)
	case sqlite3.CONSTRAINT_FOREIGNKEY:
		return fmt.Errorf("%w: it names another record that does not exist: %w", tokenstore.ErrNotFound, err)
	default:
		return err
	}
}

// isBusy says that another process held the lock until the time was up.
func isBusy(err error) bool { return errors.Is(err, sqlite3.BUSY) }

// isNoDatabase says that the file's content is none of SQLite's.
func isNoDatabase(err error) bool { return errors.Is(err, sqlite3.NOTADB) }

// isDamaged says that the file's content contradicts itself.
func isDamaged(err error) bool { return errors.Is(err, sqlite3.CORRUPT) }
