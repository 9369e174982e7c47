package authority_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

var ctx = context.Background()

// kim is the operator that most tests act as.
var kim = authority.By{
	Actor:     tokenstore.Actor{Kind: tokenstore.OperatorActor, Name: "kim", Address: "127.0.0.1"},
	RequestID: "req-1",
}

var system = authority.By{Actor: tokenstore.Actor{Kind: tokenstore.SystemActor, Name: "caddyfile", Verified: true}}

func retrying(key string, body byte) authority.By {
	by := kim
	by.Retry = authority.Retry{Key: key, Route: "test", BodyHash: [32]byte{body}}
	return by
}

// clock is a clock that stands until it is moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// house is an authority over an embedded store, with one account under a policy
// of the test's making.
type house struct {
	*authority.Authority
	t       testing.TB
	clock   *clock
	path    string
	account token.Account
}

// liberal is the policy that stands in no test's way.
func liberal() token.Policy {
	return token.Policy{
		Name:             "test",
		RotationModes:    token.RotationModes(),
		GraceDefault:     time.Hour,
		GraceMax:         7 * 24 * time.Hour,
		Editable:         []token.Field{token.FieldName, token.FieldAccess, token.FieldScopes, token.FieldAllowList, token.FieldExpiresAt},
		RequireAllowList: token.AllowListNever,
	}
}

var testScopes = []token.Scope{
	{Name: "invoices:read", Nature: token.Read},
	{Name: "payments:read", Nature: token.Read},
	{Name: "payments:write", Nature: token.Write},
}

func open(t testing.TB, path string, ring *tokenstore.Ring, c *clock) *authority.Authority {
	t.Helper()
	store, err := sqlite.Open(ctx, path, sqlite.Options{Ring: ring, Now: c.Now})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return &authority.Authority{
		Store: store, Ring: ring, Prefixes: []string{"sp", "old"},
		Now: c.Now, Random: rand.Reader,
		NewID: func(prefix string) (token.ID, error) { return storetest.ID(prefix), nil },
	}
}

// bare is a house before anything happened in it but the registration of its key.
func bare(t testing.TB) *house {
	t.Helper()
	c := &clock{at: storetest.Now().Add(345 * time.Nanosecond)}
	path := filepath.Join(storetest.Memory(t), "sallyport.db")
	h := &house{Authority: open(t, path, storetest.Ring(t), c), t: t, clock: c, path: path}
	require.NoError(t, h.EnsureKeys(ctx, system))
	return h
}

func build(t testing.TB, change ...func(*token.Policy)) *house {
	t.Helper()
	h := bare(t)
	h.policy(change...)
	var err error
	h.account, err = h.CreateAccount(ctx, kim, authority.NewAccount{Name: "Castle Supplies", Policy: "test"})
	require.NoError(t, err)
	return h
}

// policy declares the test's policy anew.
func (h *house) policy(change ...func(*token.Policy)) {
	h.t.Helper()
	p := liberal()
	for _, f := range change {
		f(&p)
	}
	require.NoError(h.t, h.Declare(ctx, system, authority.Declarations{Policies: []token.Policy{p}, Scopes: testScopes}))
}

func (h *house) newToken(change ...func(*authority.NewToken)) authority.NewToken {
	n := authority.NewToken{Name: "nightly export", AccountID: h.account.ID, Access: token.ReadWrite}
	for _, f := range change {
		f(&n)
	}
	return n
}

func (h *house) create(change ...func(*authority.NewToken)) authority.Issued {
	h.t.Helper()
	issued, err := h.CreateToken(ctx, kim, h.newToken(change...))
	require.NoError(h.t, err)
	return issued
}

func (h *house) user(role string) token.User {
	h.t.Helper()
	u, err := h.CreateUser(ctx, kim, authority.NewUser{AccountID: h.account.ID, Name: "Ada", Role: role})
	require.NoError(h.t, err)
	return u
}

func (h *house) show(id token.ID) authority.View {
	h.t.Helper()
	v, err := h.Token(ctx, kim, id)
	require.NoError(h.t, err)
	return v
}

// says gives what the gate would answer to a secret: "" when it would let it in.
func (h *house) says(s token.Secret) string {
	h.t.Helper()
	v, err := h.Verify(ctx, kim, authority.Question{Secret: s.Reveal()})
	require.NoError(h.t, err)
	require.Equal(h.t, v.Code == "", v.Valid)
	return v.Code
}

// use notes the first use of a token's current secret, as the gate does.
func (h *house) use(id token.ID) {
	h.t.Helper()
	secret := h.show(id).Current.ID
	require.NoError(h.t, h.Store.Write(ctx, func(tx *tokenstore.Tx) error {
		return tx.MarkUsed(secret, h.clock.Now())
	}))
}

func (h *house) secrets(id token.ID) (secrets []token.SecretRecord) {
	h.t.Helper()
	storetest.MustRead(h.t, h.Store, func(tx *tokenstore.Tx) (err error) {
		secrets, err = tx.Secrets(id)
		return err
	})
	return secrets
}

// entry is an audit entry without what the chain adds.
type entry struct {
	Actor         string
	Verb, Target  string
	Account       token.ID
	Request       string
	Before, After map[string]any
}

// entries are the audit entries after a number, oldest first.
func (h *house) entries(after int64) (entries []entry) {
	h.t.Helper()
	storetest.MustRead(h.t, h.Store, func(tx *tokenstore.Tx) error {
		stored, err := tx.AuditRange(after, 10_000)
		for _, e := range stored {
			entries = append(entries, entry{
				Actor: string(e.Actor.Kind) + " " + e.Actor.Name, Verb: e.Verb, Target: e.Target,
				Account: e.AccountID, Request: e.RequestID,
				Before: object(h.t, e.Before), After: object(h.t, e.After),
			})
		}
		return err
	})
	return entries
}

func object(t testing.TB, text []byte) (o map[string]any) {
	t.Helper()
	if text != nil {
		require.NoError(t, json.Unmarshal(text, &o))
	}
	return o
}

// head is the number of the last audit entry.
func (h *house) head() (seq int64) {
	h.t.Helper()
	storetest.MustRead(h.t, h.Store, func(tx *tokenstore.Tx) error {
		head, err := tx.AuditHead()
		seq = head.Seq
		return err
	})
	return seq
}

// told demands that exactly these entries were made since a number.
func (h *house) told(after int64, want ...entry) {
	h.t.Helper()
	for i := range want {
		if want[i].Actor == "" {
			want[i].Actor, want[i].Request = "operator kim", "req-1"
		}
		if want[i].Account == "" {
			want[i].Account = h.account.ID
		}
	}
	if diff := cmp.Diff(want, h.entries(after)); diff != "" {
		h.t.Fatalf("audit entries (-want +got):\n%s", diff)
	}
}

// world is everything that a verb could change.
type world struct {
	Tokens   []token.Token
	Secrets  map[token.ID][]token.SecretRecord
	Accounts []token.Account
	Users    []token.User
	Roles    []token.Role
	Policies []token.Policy
	Scopes   []tokenstore.DeclaredScope
	Keys     []tokenstore.MasterKey
	Head     tokenstore.AuditHead
}

func (h *house) world() (w world) {
	h.t.Helper()
	storetest.MustRead(h.t, h.Store, func(tx *tokenstore.Tx) error {
		w = world{Secrets: map[token.ID][]token.SecretRecord{}}
		page, err := tx.Tokens(tokenstore.TokenQuery{Now: h.clock.Now(), Limit: tokenstore.MaxLimit, States: []token.State{
			token.Active, token.Disabled, token.Expired, token.Revoked, token.Deleted,
		}})
		if err != nil {
			return err
		}
		for _, row := range page.Tokens {
			w.Tokens = append(w.Tokens, row.Token)
			if w.Secrets[row.Token.ID], err = tx.Secrets(row.Token.ID); err != nil {
				return err
			}
		}
		var errs [7]error
		w.Accounts, _, errs[0] = tx.Accounts(tokenstore.Page{Limit: tokenstore.MaxLimit})
		w.Users, _, errs[1] = tx.Users("", tokenstore.Page{Limit: tokenstore.MaxLimit})
		w.Roles, errs[2] = tx.Roles()
		w.Policies, errs[3] = tx.Policies()
		w.Scopes, errs[4] = tx.Scopes()
		w.Keys, errs[5] = tx.MasterKeys()
		w.Head, errs[6] = tx.AuditHead()
		return errors.Join(errs[:]...)
	})
	return w
}

// unchanged demands that f fails with a refusal of the code and changes nothing,
// not even the audit log. It gives the refusal.
func (h *house) unchanged(want *authority.Error, f func() error) *authority.Error {
	h.t.Helper()
	before := h.world()
	err := f()
	require.ErrorIs(h.t, err, want)
	if diff := cmp.Diff(before, h.world()); diff != "" {
		h.t.Fatalf("a refused verb changed something (-before +after):\n%s", diff)
	}
	var refusal *authority.Error
	require.ErrorAs(h.t, err, &refusal)
	return refusal
}

// chainHolds demands that the audit log is whole.
func (h *house) chainHolds() {
	h.t.Helper()
	report, err := h.VerifyAudit(ctx, kim, nil)
	require.NoError(h.t, err)
	require.Empty(h.t, report.Problems)
}

func ptr[T any](v T) *T { return &v }

type query = tokenstore.TokenQuery

func tokenQuery(change func(*query)) query {
	var q query
	change(&q)
	return q
}
