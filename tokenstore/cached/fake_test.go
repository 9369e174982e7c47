package cached_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/cached"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ceiling is how long a test waits for what must happen.
const ceiling = 30 * time.Second

var client = netip.MustParseAddr("192.0.2.7")

var testKeys = map[string]string{
	"a": "a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
	"b": "b:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=\n",
}

// testRing is two keys, "a" and "b".
func testRing(t testing.TB) *tokenstore.Ring {
	t.Helper()
	ring, err := tokenstore.ParseRing(strings.NewReader(testKeys["a"] + testKeys["b"]))
	require.NoError(t, err)
	return ring
}

// onlyKey is a ring of one of them.
func onlyKey(t testing.TB, id string) *tokenstore.Ring {
	t.Helper()
	ring, err := tokenstore.ParseRing(strings.NewReader(testKeys[id]))
	require.NoError(t, err)
	return ring
}

// digest is that of the nth secret of a test.
func digest(n int) token.Digest {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	return sha256.Sum256(b[:])
}

// fakeStore is a store in memory whose steps a test can hold up.
type fakeStore struct {
	ring *tokenstore.Ring

	mu    sync.Mutex
	rows  map[tokenstore.Lookup]tokenstore.Record
	epoch string
	seq   int64
	feed  []tokenstore.Change
	most  int // changes in one answer, about; 0 is any number

	// down fails every call.
	down atomic.Bool
	// onLookup runs after a row was read and before it is returned; onChanges
	// the same for the feed; onWrite runs in place of a transaction.
	onLookup  func(ctx context.Context)
	onChanges func(ctx context.Context) error
	onWrite   func() error

	lookups, changes, closes atomic.Int64
}

var _ tokenstore.Store = (*fakeStore)(nil)

func newFakeStore(ring *tokenstore.Ring) *fakeStore {
	return &fakeStore{ring: ring, rows: map[tokenstore.Lookup]tokenstore.Record{}, epoch: "first"}
}

func (f *fakeStore) gone(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("fake: %w", err)
	}
	if f.down.Load() {
		return fmt.Errorf("fake is down: %w", tokenstore.ErrUnavailable)
	}
	return nil
}

func (f *fakeStore) Lookup(ctx context.Context, l tokenstore.Lookup) (*tokenstore.Record, error) {
	f.lookups.Add(1)
	if err := f.gone(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	r, ok := f.rows[l]
	hook := f.onLookup
	f.mu.Unlock()
	if hook != nil {
		hook(ctx)
	}
	if !ok {
		return nil, tokenstore.ErrNotFound
	}
	return &r, nil
}

// Read knows no master keys, so that the ring's first is the primary one.
func (f *fakeStore) Read(ctx context.Context, _ func(*tokenstore.Tx) error) error { return f.gone(ctx) }

func (f *fakeStore) Write(ctx context.Context, _ func(*tokenstore.Tx) error) error {
	if err := f.gone(ctx); err != nil {
		return err
	}
	if change, ok := ctx.Value(changeKey{}).(func()); ok {
		change()
	}
	if f.onWrite != nil {
		return f.onWrite()
	}
	return nil
}

// changeKey is under which a context carries what Write does, in place of the
// function on a Tx that a store in memory cannot run.
type changeKey struct{}

func (f *fakeStore) Changes(ctx context.Context, after tokenstore.Position) (tokenstore.Changes, error) {
	f.changes.Add(1)
	if err := f.gone(ctx); err != nil {
		return tokenstore.Changes{}, err
	}
	f.mu.Lock()
	c := tokenstore.Changes{At: tokenstore.Position{Epoch: f.epoch, Seq: f.seq}}
	c.Complete = after.Epoch == f.epoch && after.Seq <= f.seq
	if c.Complete {
		from, _ := slices.BinarySearchFunc(f.feed, after.Seq+1, func(c tokenstore.Change, seq int64) int { return cmp.Compare(c.Seq, seq) })
		c.List = slices.Clone(f.feed[from:])
		if f.most > 0 && len(c.List) > f.most {
			c.At.Seq = c.List[f.most-1].Seq
			c.List = slices.DeleteFunc(c.List, func(later tokenstore.Change) bool { return later.Seq > c.At.Seq })
		}
	}
	hook := f.onChanges
	f.mu.Unlock()
	if hook != nil {
		if err := hook(ctx); err != nil {
			return tokenstore.Changes{}, err
		}
	}
	return c, nil
}

func (f *fakeStore) Close() error { f.closes.Add(1); return nil }

// commit changes the row of a secret and writes one step of the feed about it.
func (f *fakeStore) commit(d token.Digest, change func(*tokenstore.Record)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l, _ := f.ring.Lookup("a", d)
	r := f.rows[l]
	before := r
	change(&r)
	f.rows[l] = r
	f.seq++
	note := func(kind tokenstore.Kind, id string, version int64, final bool) {
		f.feed = append(f.feed, tokenstore.Change{Seq: f.seq, Kind: kind, ID: id, Version: version, Final: final})
	}
	if r.Token.Version != before.Token.Version {
		note(tokenstore.TokenKind, string(r.Token.ID), r.Token.Version, r.Token.State == token.Revoked || r.Token.State == token.Deleted)
	}
	if r.Secret != before.Secret {
		note(tokenstore.SecretKind, string(r.Secret.ID), r.Token.Version, r.Secret.Status == token.Retired)
	}
	if before.Account != nil && r.Account.Version != before.Account.Version {
		note(tokenstore.AccountKind, string(r.Account.ID), r.Account.Version, false)
	}
	if before.Policy != nil && r.Policy.Version != before.Policy.Version {
		note(tokenstore.PolicyKind, r.Policy.Name, r.Policy.Version, false)
	}
	if before.User != nil && r.User.Version != before.User.Version {
		note(tokenstore.UserKind, string(r.User.ID), r.User.Version, false)
	}
	if before.Role != nil && r.Role.Version != before.Role.Version {
		note(tokenstore.RoleKind, r.Role.Name, r.Role.Version, false)
	}
}

// issue stores the nth token of a test, of a user, with one current secret.
func (f *fakeStore) issue(n int) token.Digest {
	d := digest(n)
	f.commit(d, func(r *tokenstore.Record) { *r = *record(f.ring, "a", n) })
	return d
}

// record is that of the nth token of a test.
func record(ring *tokenstore.Ring, key string, n int) *tokenstore.Record {
	l, ok := ring.Lookup(key, digest(n))
	if !ok {
		panic("no such key")
	}
	accountID := token.ID(fmt.Sprintf("acc_01k%023d", n%1000))
	userID := token.ID(fmt.Sprintf("usr_01k%023d", n%1000))
	tokenID := token.ID(fmt.Sprintf("tok_01k%023d", n))
	policy := token.DefaultPolicy()
	policy.Version = 1
	return &tokenstore.Record{
		Token: token.Token{
			ID: tokenID, Name: fmt.Sprintf("token %d", n), AccountID: accountID, UserID: userID,
			Grant: token.Grant{Access: token.ReadWrite}, Environment: token.Production, State: token.Active,
			CreatedAt: time.Unix(1e9, 0).UTC(), UpdatedAt: time.Unix(1e9, 0).UTC(), LifetimeFrom: time.Unix(1e9, 0).UTC(), Version: 1,
		},
		Secret: token.SecretRecord{
			ID: token.ID(fmt.Sprintf("sec_01k%023d", n)), TokenID: tokenID, Last4: fmt.Sprintf("%04d", n%10000),
			Status: token.Current, CreatedAt: time.Unix(1e9, 0).UTC(),
		},
		Account: &token.Account{ID: accountID, Name: "Castle Supplies", Policy: "default", Version: 1},
		User:    &token.User{ID: userID, AccountID: accountID, Name: "Ada", Email: "ada@example.com", Role: "member", Version: 1},
		Role:    &token.Role{Name: "member", Ceiling: token.Grant{Access: token.ReadWrite}, Version: 1},
		Policy:  &policy,
		Lookup:  l,
		KeyID:   key,
	}
}

// Changes to rows, as commit takes them.

func revoke(r *tokenstore.Record) { r.Token.State = token.Revoked; r.Token.Version++ }
func retire(r *tokenstore.Record) { r.Secret.Status = token.Retired; r.Token.Version++ }
func rename(r *tokenstore.Record) { r.Token.Name += "'"; r.Token.Version++ }

// fakeClock is an uptime that only a test moves.
type fakeClock struct {
	at     atomic.Int64
	onRead atomic.Value // func()
}

func (c *fakeClock) read() time.Duration {
	if hook, ok := c.onRead.Load().(func()); ok {
		hook()
	}
	return time.Duration(c.at.Load())
}

func (c *fakeClock) advance(by time.Duration) { c.at.Add(int64(by)) }

// rig is a started cache over a fake store, on a clock that stands still. Its
// feed is read when a test says so.
type rig struct {
	*cached.Store
	t     *testing.T
	inner *fakeStore
	clock *fakeClock
}

func newRig(t *testing.T, set ...func(*cached.Options)) *rig {
	t.Helper()
	ring := testRing(t)
	r := &rig{t: t, inner: newFakeStore(ring), clock: &fakeClock{}}
	r.clock.advance(1000 * time.Hour)
	o := cached.Options{MaxBytes: 8 << 20, StaleFor: 10 * time.Minute, Poll: time.Hour, Uptime: r.clock.read}
	for _, f := range set {
		f(&o)
	}
	r.Store = cached.New(r.inner, ring, o)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	require.NoError(t, r.Start(t.Context()))
	return r
}

// warm issues a token and brings it into memory.
func (r *rig) warm(n int) token.Digest {
	r.t.Helper()
	d := r.inner.issue(n)
	r.sync()
	rec, err := r.Resolve(r.t.Context(), d, client)
	require.NoError(r.t, err)
	require.Equal(r.t, token.Active, rec.Token.State)
	return d
}

func (r *rig) sync() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), ceiling)
	defer cancel()
	require.NoError(r.t, r.Sync(ctx))
}

// state is what a request with the secret would be judged by: the token's state,
// its secret's status, or the error.
func (r *rig) state(d token.Digest) string {
	rec, ok := r.Peek(d)
	if !ok {
		var err error
		rec, err = r.Resolve(r.t.Context(), d, client)
		switch {
		case err == nil:
		case isAny(err, tokenstore.ErrNotFound, cached.ErrThrottled, tokenstore.ErrUnavailable) == nil:
			r.t.Fatalf("an error that is none of the promised: %v", err)
		default:
			return isAny(err, tokenstore.ErrNotFound, cached.ErrThrottled, tokenstore.ErrUnavailable).Error()
		}
	}
	if rec.Secret.Status == token.Retired {
		return "retired"
	}
	return rec.Token.State.String()
}

var (
	notFound    = tokenstore.ErrNotFound.Error()
	unavailable = tokenstore.ErrUnavailable.Error()
)

// isAny gives the first of the errors that err wraps.
func isAny(err error, targets ...error) error {
	for _, target := range targets {
		if errors.Is(err, target) {
			return target
		}
	}
	return nil
}
