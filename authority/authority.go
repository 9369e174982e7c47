// Package authority is the one choke point for changes: every verb that changes
// a token, or anything a token's power depends on, goes through it, is allowed
// or refused with a reason, and leaves an audit entry in the transaction of the
// change. No audit entry, no change.
//
// It authorises from the store, in the transaction of the change, and never from
// a cache.
package authority

import (
	"io"
	"sync"
	"time"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Authority carries out the verbs. Its fields are set once, before use, and it
// is not copied after the first use.
type Authority struct {
	// Store must be the store itself: a cache in front of it would let a change
	// be judged by what is no longer so.
	Store tokenstore.Store
	Ring  *tokenstore.Ring
	// Prefixes are the accepted secret prefixes; the first issues.
	Prefixes []string
	Now      func() time.Time
	Random   io.Reader
	// NewID makes an ID with a prefix ("tok") that was never used.
	NewID func(prefix string) (token.ID, error)
	// Teller writes down whom to tell of a change, in its transaction; nil: nobody.
	Teller *notify.Notifier
	// Webhooks sends to webhooks, and knows where they may be; nil: they can not be
	// tried out, and where they may be shows when they are sent to.
	Webhooks *notify.Webhooks

	// retries holds the Idempotency-Keys whose request is being answered.
	retries sync.Map
}

// now is the present time as precisely as every store keeps it, so that what a
// verb returns and what is read later are the same.
func (a *Authority) now() time.Time { return a.Now().UTC().Truncate(time.Microsecond) }
