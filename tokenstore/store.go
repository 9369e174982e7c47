package tokenstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/token"
)

// Store keeps tokens and all that their decisions depend on. All methods may be
// called concurrently, and return an error wrapping ctx.Err() soon after ctx ends.
type Store interface {
	// Lookup returns the record of the secret that is stored under the lookup
	// value, whatever its state, read in one snapshot. ErrNotFound: no secret,
	// not even a retired one, is stored under it.
	Lookup(ctx context.Context, l Lookup) (*Record, error)

	// Read runs f in one read-only snapshot: f sees one state of the store,
	// never half of a change. A write in f is an error. f's error is returned as it is.
	Read(ctx context.Context, f func(*Tx) error) error

	// Write runs f in one serializable transaction. When f returns nil, its
	// changes, its audit entries and one step of the change feed become visible
	// and durable together before Write returns nil; in every other case
	// nothing of it is visible, ever, except that ErrUnknownOutcome says it may
	// be. f may run more than once and must have no other effect than on the
	// Tx. A transaction with changes but without an audit entry is refused with
	// ErrUnaudited. f's error is returned as it is.
	Write(ctx context.Context, f func(*Tx) error) error

	// Changes returns what was committed after a position, in commit order and
	// without gaps. Complete is false when the store can not tell (the position
	// is too old, ahead of the store, or of another epoch): the caller must then
	// forget all that it knows but its tombstones. With nothing new it returns
	// the same position at once; it never waits.
	Changes(ctx context.Context, after Position) (Changes, error)

	// Close releases the store; it waits for running calls and may be called twice.
	Close() error
}

// Waker is a Store that hears of other nodes' changes sooner than polling would.
type Waker interface {
	// Wakes gives a signal when something is said to have changed. Signals may
	// be lost, and may come for nothing: the feed alone says what is true. There
	// is one channel, for one reader.
	Wakes() <-chan struct{}
}

// Bulk is a Store that gives many records at once, for a cache to start with.
type Bulk interface {
	// All gives f the record of every secret that a request could come with: those
	// of active tokens before their expiry, current or within their grace
	// period. It judges by no more than that, so that some records may be refused
	// for what their account, user, role or policy says.
	//
	// All records are of one snapshot, which holds everything that was committed
	// before the call, and each is what Lookup would have given then. Tokens come
	// newest first, so that who has room for some keeps the newest. However many
	// there are, a bounded number is in memory here at any time. A stored
	// record that can not be read is left out: Lookup says what is wrong with it.
	//
	// f is called by one goroutine at a time, and not after All has returned. While
	// f takes its time the snapshot is held, which keeps a database from cleaning
	// up. When f gives an error, All ends and returns it as it is; it may
	// then have read a little further than f has seen.
	All(ctx context.Context, f func(*Record) error) error
}

var (
	// ErrNotFound: the record does not exist.
	ErrNotFound = errors.New("tokenstore: not found")
	// ErrConflict: the record was changed since it was read (its version
	// differs), or a unique value is taken. Nothing was written.
	ErrConflict = errors.New("tokenstore: conflict")
	// ErrUnaudited: a transaction changed something without an audit entry.
	ErrUnaudited = errors.New("tokenstore: change without audit entry")
	// ErrUnavailable: the store can not be reached or did not answer in time.
	// Nothing is known about the record; the caller fails closed.
	ErrUnavailable = errors.New("tokenstore: unavailable")
	// ErrUnknownOutcome: the connection broke during the commit. It wraps ErrUnavailable.
	ErrUnknownOutcome = fmt.Errorf("%w: outcome of the commit is unknown", ErrUnavailable)
)

// Record is everything that a decision about one secret depends on, besides the
// request. Records are immutable: they are shared by concurrent readers.
type Record struct {
	Token   token.Token
	Secret  token.SecretRecord
	Account *token.Account
	User    *token.User // nil: the token belongs to the account
	Role    *token.Role // nil exactly when User is nil
	Policy  *token.Policy
	Lookup  Lookup
	KeyID   string // the master key that Lookup is made with
	// Outlook is what the token's consumer is told of besides; nil: nothing.
	Outlook *Outlook
}

// Outlook is what is to come for a token, and what was taken from it.
type Outlook struct {
	// Scheduled was announced for ScheduledAt; zero: nothing was.
	Scheduled   token.ActionKind
	ScheduledAt time.Time
	// DowngradedAt is when permissions were taken for not having been used, Before
	// what it held, and UndoUntil up to when they can be had back.
	DowngradedAt, UndoUntil time.Time
	Before                  token.Grant
}

// Position is a place in the change feed. The zero Position is before everything.
type Position struct {
	Epoch string // another epoch: the store was restored, or is another one
	Seq   int64
}

// Kind says what a change is about.
type Kind uint8

// The kinds of things that decisions depend on.
const (
	TokenKind Kind = iota + 1
	SecretKind
	AccountKind
	UserKind
	RoleKind
	PolicyKind
	ScopeKind
	MasterKeyKind
)

var kindNames = [...]string{
	TokenKind:     "token",
	SecretKind:    "secret",
	AccountKind:   "account",
	UserKind:      "user",
	RoleKind:      "role",
	PolicyKind:    "policy",
	ScopeKind:     "scope",
	MasterKeyKind: "master_key",
}

func (k Kind) String() string {
	if int(k) < len(kindNames) && k > 0 {
		return kindNames[k]
	}
	return fmt.Sprintf("invalid(%d)", uint8(k))
}

// Change is one step of the feed: a record now has this version. For secrets,
// Version is that of the token at the time.
type Change struct {
	Seq     int64
	Kind    Kind
	ID      string // of the record: a token.ID, or a name
	Version int64
	// Final is set when the change ends a token (revoked, deleted) or retires a
	// secret: what must not come back to life.
	Final bool
}

// Changes is an answer of the feed.
type Changes struct {
	At       Position
	List     []Change
	Complete bool
}
