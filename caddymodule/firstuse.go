package caddymodule

import (
	"context"
	"sync"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// maxFirstUses bounds the memory for secrets that were written down as used.
const maxFirstUses = 4096

// firstUses remembers which secrets this gate has written down as used. A secret
// that was issued under an Idempotency-Key may be replaced by a retry as long as
// nobody used it, so that its first use must be in the store before the request
// goes on. Cached records do not show it, since it changes nothing that is decided.
type firstUses struct {
	mu   sync.Mutex
	seen map[token.ID]struct{}
}

// pending says whether the use of a secret must still be written down.
func (f *firstUses) pending(s *token.SecretRecord, now time.Time) bool {
	if !now.Before(s.RetryUntil) || !s.FirstUsed.IsZero() {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	_, seen := f.seen[s.ID]
	return !seen
}

// writeFirstUse writes the use down, and says whether a retry has retired the
// secret meanwhile: of the two, the store's order decides who was first.
func writeFirstUse(ctx context.Context, store tokenstore.Store, s *token.SecretRecord, now time.Time) (retired bool, err error) {
	err = store.Write(ctx, func(tx *tokenstore.Tx) error {
		retired = false
		all, err := tx.Secrets(s.TokenID)
		if err != nil {
			return err
		}
		for i := range all {
			retired = retired || all[i].ID == s.ID && all[i].Status == token.Retired
		}
		return tx.MarkUsed(s.ID, now)
	})
	return retired, err
}

// done notes that it was. When there is no more room it forgets all: writing
// the same use down again changes nothing.
func (f *firstUses) done(s *token.SecretRecord) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen == nil || len(f.seen) >= maxFirstUses {
		f.seen = make(map[token.ID]struct{})
	}
	f.seen[s.ID] = struct{}{}
}
