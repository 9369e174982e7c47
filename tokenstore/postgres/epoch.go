package postgres

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// A backup that is restored takes back what happened after it, revocations too,
// and so does a standby that takes over without having got everything. Both go on
// to count from where they are, so that the feed's numbers alone may not show it.
// Two things do, and each begins a new epoch, in which no node trusts what it
// knew:
//
//   - The audit log is a chain. A node remembers the last link that it saw, and
//     looks for it again whenever the log has grown.
//   - The database is another one, or is where another one was. That is found when
//     a store is opened, also when no node was running to remember anything.

// epochVerb is that of the audit entry with which an epoch begins. The entry also
// holds what the database was known by.
const epochVerb = "store.epoch"

// newEpoch names an epoch.
func newEpoch(random io.Reader) (string, error) {
	var fresh [16]byte
	if _, err := io.ReadFull(random, fresh[:]); err != nil {
		return "", fmt.Errorf("draw the epoch: %w", err)
	}
	return hex.EncodeToString(fresh[:]), nil
}

// history is the last link of the audit log that this node saw.
type history struct {
	mu   sync.Mutex
	last *link
}

type link struct {
	epoch string
	seq   int64
	hash  []byte
}

func (h *history) load() *link {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

// advance replaces a link that was loaded before. When somebody else was faster
// that one stands: it was seen later, or as late.
func (h *history) advance(from *link, head *db.GetHeadRow) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last == from {
		h.last = &link{epoch: head.Epoch, seq: head.AuditSeq, hash: head.AuditHash}
	}
}

// follows says whether a head that was read after the link comes after it in the
// same history too. In another epoch it need not.
func (l *link) follows(ctx context.Context, conn db.DBTX, head *db.GetHeadRow) (bool, error) {
	switch {
	case l == nil || head.Epoch != l.epoch:
		return true, nil
	case head.AuditSeq < l.seq:
		return false, nil
	case head.AuditSeq == l.seq:
		return bytes.Equal(head.AuditHash, l.hash), nil
	case l.seq == 0:
		return true, nil
	}
	var hash []byte
	err := conn.QueryRow(ctx, "SELECT hash FROM audit WHERE seq = $1", l.seq).Scan(&hash)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return bytes.Equal(hash, l.hash), err
}

// readHead reads the head, and whether it follows from what was seen before. If
// not, a new epoch begins, and the head is read again.
func (s *Store) readHead(ctx context.Context) (head db.GetHeadRow, err error) {
	for range 2 {
		last, follows := s.history.load(), true
		held, err := s.hold(ctx, s.feed, reading.opening, func(held *session) (err error) {
			conn := s.o.Wrap(held)
			if head, err = db.New(conn).GetHead(ctx); err == nil {
				follows, err = last.follows(ctx, conn, &head)
			}
			return err
		})
		if err != nil {
			return head, err
		}
		held.release(ctx)
		if follows || s.o.Ring == nil {
			s.history.advance(last, &head)
			return head, nil
		}
		if err := s.renew(ctx, head.Epoch, "the log lacks what this node has seen in it: a backup was restored, or a standby took over that had not got everything"); err != nil {
			// Until it succeeds no answer can be told from one that was given before.
			return head, fmt.Errorf("begin a new epoch: %w", err)
		}
	}
	return head, fmt.Errorf("%w: its history was replaced again and again", tokenstore.ErrUnavailable)
}

// server is what a database is known by. What can not be found out is empty.
type server struct {
	System   string `json:"system,omitempty"`   // the cluster, from initdb on
	Timeline string `json:"timeline,omitempty"` // steps when a standby or a backup takes over
	Database string `json:"database,omitempty"`
	Table    string `json:"table,omitempty"` // a restored table has another number
}

// isOf says whether both may be of the same database.
func (v server) isOf(o server) bool {
	same := func(a, b string) bool { return a == b || a == "" || b == "" }
	return same(v.System, o.System) && same(v.Timeline, o.Timeline) && same(v.Database, o.Database) && same(v.Table, o.Table)
}

// epochFields are the fields of an epoch's audit entry.
type epochFields struct {
	Reason string `json:"reason"`
	Server server `json:"server"`
}

// identify asks who the server is. Not all services that speak Postgres answer.
func identify(ctx context.Context, conn db.DBTX) (v server, err error) {
	for _, q := range []struct {
		query string
		into  *string
		need  bool
	}{
		{"SELECT oid::text FROM pg_database WHERE datname = current_database()", &v.Database, true},
		{"SELECT 'head'::regclass::oid::text", &v.Table, true},
		{"SELECT system_identifier::text FROM pg_control_system()", &v.System, false},
		{"SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)", &v.Timeline, false},
	} {
		if err := conn.QueryRow(ctx, q.query).Scan(q.into); err != nil && (q.need || !isOfServer(err)) {
			return v, err
		}
	}
	return v, nil
}

// checkServer begins a new epoch when the database is not the one that the log
// says it is.
func (s *Store) checkServer(ctx context.Context) error {
	var standby bool
	var now server
	var known epochFields
	var head db.GetHeadRow
	err := s.ask(ctx, func(conn db.DBTX) (err error) {
		if err = conn.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&standby); err != nil || standby {
			return err
		}
		if now, err = identify(ctx, conn); err != nil {
			return err
		}
		if known, err = lastEpoch(ctx, conn); err != nil {
			return err
		}
		head, err = db.New(conn).GetHead(ctx)
		return err
	})
	switch {
	case err != nil || standby:
		return err
	case known.Reason == "":
		return s.renew(ctx, "", "the store is new, or of an earlier release")
	case !known.Server.isOf(now):
		return s.renew(ctx, head.Epoch, "the database is not the one it was: a backup was restored, or a standby took over")
	default:
		return nil
	}
}

// ask runs statements outside of any transaction.
func (s *Store) ask(ctx context.Context, f func(conn db.DBTX) error) error {
	held, err := s.hold(ctx, s.management, reading.opening, func(held *session) error { return f(s.o.Wrap(held)) })
	if err == nil {
		held.release(ctx)
	}
	return err
}

// renew begins a new epoch after the one named, unless another node was first. An
// empty name only writes down what there is.
func (s *Store) renew(ctx context.Context, after, reason string) error {
	fields := epochFields{Reason: reason}
	err := s.ask(ctx, func(conn db.DBTX) (err error) {
		fields.Server, err = identify(ctx, conn)
		return err
	})
	if err != nil {
		return err
	}
	return s.write(ctx, func(conn db.DBTX, tx *tokenstore.Tx) error {
		head, err := db.New(conn).GetHead(ctx)
		if err != nil {
			return explainIn(ctx, err)
		}
		before, err := lastEpoch(ctx, conn)
		if err != nil {
			return explainIn(ctx, err)
		}
		entry := tokenstore.AuditEntry{
			Actor: tokenstore.Actor{Kind: tokenstore.SystemActor, Verified: true}, Verb: epochVerb, Target: head.Epoch,
		}
		if after == "" && before.Reason != "" || after != "" && head.Epoch != after {
			return nil
		}
		if after != "" {
			if entry.Target, err = newEpoch(s.o.Random); err != nil {
				return err
			}
			if _, err := conn.Exec(ctx, "UPDATE head SET epoch = $1 WHERE one = 1", entry.Target); err != nil {
				return explainIn(ctx, err)
			}
			if entry.Before, err = json.Marshal(before); err != nil {
				return err
			}
		}
		entry.After, err = json.Marshal(fields)
		tx.Audit(entry)
		return err
	})
}

// lastEpoch reads the entry of the current epoch, or nothing.
func lastEpoch(ctx context.Context, conn db.DBTX) (f epochFields, err error) {
	var text string
	err = conn.QueryRow(ctx, "SELECT new_fields FROM audit WHERE verb = $1 ORDER BY seq DESC LIMIT 1", epochVerb).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return f, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &f)
	}
	return f, err
}
