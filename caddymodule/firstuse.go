package caddymodule

import (
	"sync"
	"time"

	"github.com/sallyport/sallyport/token"
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
