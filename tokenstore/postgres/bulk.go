package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/sallyport/sallyport/tokenstore"
)

var _ tokenstore.Bulk = (*Store)(nil)

// bulkTimeout bounds how long one bulk read may hold its snapshot: for as long
// vacuum cleans nothing up that was deleted since. Ten million tokens take a
// fraction of it.
const bulkTimeout = 5 * time.Minute

// All implements tokenstore.Bulk. It reads from the primary, on one of the
// connections that read for people and programs and never on one that requests
// wait for. Its statements are short ones under the timeouts of every snapshot
// here, whatever the role's own are.
func (s *Store) All(ctx context.Context, f func(*tokenstore.Record) error) error {
	limited, cancel := context.WithTimeoutCause(ctx, bulkTimeout, errSlow)
	defer cancel()
	err := s.transact(limited, s.management, &reading, plain(func(tx *tokenstore.Tx) error { return s.records.All(tx, f) }))
	if err != nil && ctx.Err() == nil && limited.Err() != nil && errors.Is(err, context.DeadlineExceeded) {
		return errSlow
	}
	return err
}
