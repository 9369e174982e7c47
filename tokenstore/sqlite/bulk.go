package sqlite

import (
	"context"

	"github.com/sallyport/sallyport/tokenstore"
)

var _ tokenstore.Bulk = (*Store)(nil)

// All implements tokenstore.Bulk. It holds one of the connections that read for
// people and programs, never one that requests wait for.
func (s *Store) All(ctx context.Context, f func(*tokenstore.Record) error) error {
	return s.transact(ctx, s.reading, "BEGIN", func(tx *tokenstore.Tx) error { return s.records.All(tx, f) })
}
