package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/tokenstore"
)

// explainIn prefers what ended the caller's context to what the driver made of it.
func explainIn(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctxErr := ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	return explain(err)
}

// explain turns what the driver says into what the Store contract names. Whoever
// calls it knows that the caller's context has not ended, so that a deadline that
// passed is one of ours: the store did not answer.
func explain(err error) error {
	for _, known := range []error{tokenstore.ErrUnavailable, tokenstore.ErrNotFound, tokenstore.ErrConflict, pgx.ErrNoRows} {
		if errors.Is(err, known) {
			return err
		}
	}
	var connect *pgconn.ConnectError
	var e *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &connect):
		err := fmt.Errorf("%w: %w", tokenstore.ErrUnavailable, redact(err))
		if errors.As(connect, &e) && advice[e.Code] != "" {
			return fmt.Errorf("%w: %s", err, advice[e.Code])
		}
		return err
	case errors.As(err, &e):
		return explainCode(e)
	case errors.Is(err, context.DeadlineExceeded):
		return errSlow
	case isOfConnection(err):
		return fmt.Errorf("%w: %w", tokenstore.ErrUnavailable, err)
	default:
		return err
	}
}

// What an operator can do about what the server says.
var advice = map[string]string{
	"25006": "this server is a standby or read-only: connect to the primary",
	"26000": "a pooler shares connections: add default_query_exec_mode=simple_protocol to the connection string",
	"42P05": "a pooler shares connections: add default_query_exec_mode=simple_protocol to the connection string",
	"42501": "grant the role its rights on the schema",
	"42P01": "the schema is missing: run sallyport migrate",
	"53300": "raise max_connections, or put a pooler between",
	"55P03": "another session holds a lock for too long: find it in pg_stat_activity, and set idle_in_transaction_session_timeout for its role",
}

func explainCode(e *pgconn.PgError) error {
	switch e.Code {
	case "23505": // unique_violation
		return fmt.Errorf("%w: %w", tokenstore.ErrConflict, brief(e))
	case "23503": // foreign_key_violation
		return fmt.Errorf("%w: it names another record that does not exist: %w", tokenstore.ErrNotFound, brief(e))
	}
	if mend, ok := advice[e.Code]; ok {
		return fmt.Errorf("%w: %w: %s", tokenstore.ErrUnavailable, brief(e), mend)
	}
	switch e.Code[:2] {
	case "08", // connection exception
		"25", // invalid transaction state: ended by a timeout
		"28", // invalid authorisation
		"3D", // no such database
		"40", // rolled back: serialization failure, deadlock
		"53", // insufficient resources
		"55", // not in the prerequisite state
		"57", // operator intervention: shutdown, timeouts
		"58", // system error
		"XX": // internal error
		return fmt.Errorf("%w: %w", tokenstore.ErrUnavailable, brief(e))
	default:
		return brief(e)
	}
}

// brief keeps what says what happened and drops what quotes rows: Postgres's
// details repeat values.
func brief(e *pgconn.PgError) error {
	return &pgconn.PgError{
		Severity: e.Severity, SeverityUnlocalized: e.SeverityUnlocalized, Code: e.Code, Message: e.Message,
		TableName: e.TableName, ConstraintName: e.ConstraintName, ColumnName: e.ColumnName,
	}
}

// isOfConnection says that the error is about the way to the server.
func isOfConnection(err error) bool {
	var network net.Error
	return errors.As(err, &network) || pgconn.SafeToRetry(err) || pgconn.Timeout(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, pgconn.ErrConnClosed)
}

// redact drops what pgx puts in front of an error about connecting: the user's
// and the database's name. The rest names the host, and what it said. Only the
// text is kept: a deadline that passed in there is nobody's but pgx's.
func redact(err error) error {
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		if inner := connect.Unwrap(); inner != nil {
			return fmt.Errorf("connect to Postgres: %s", inner.Error())
		}
	}
	return err
}

// isRefusal says that the server itself refused to commit, so that the outcome is
// known. What ended the whole session may have come after the commit, but for
// the two timeouts of open transactions.
func isRefusal(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case "25P03", "25P04": // idle_in_transaction_session_timeout, transaction_timeout
		return true
	default:
		return e.SeverityUnlocalized == "ERROR" && e.Code[:2] != "57" && e.Code[:2] != "08"
	}
}

// isOfServer says that the server answered.
func isOfServer(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e)
}

// isReadOnly says that the server does not take writes any more.
func isReadOnly(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "25006"
}

// isRetryable says that only the company of other transactions kept this one
// from committing.
func isRetryable(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) || errors.Is(err, tokenstore.ErrUnknownOutcome) {
		return false
	}
	switch e.Code {
	case "40001", "40P01", "55P03": // serialization failure, deadlock, lock not available
		return true
	default:
		return false
	}
}
