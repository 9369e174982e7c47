package lifecycle_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3/driver"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/internal/simulate"
	"github.com/sallyport/sallyport/lifecycle"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

var ctx = context.Background()

const day = 24 * time.Hour

var kim = authority.By{Actor: tokenstore.Actor{Kind: tokenstore.OperatorActor, Name: "kim"}}

var system = authority.By{Actor: tokenstore.Actor{Kind: tokenstore.SystemActor, Name: "caddyfile", Verified: true}}

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

// house is a gateway with one account, one node that observes, mail that works, and
// days that pass.
type house struct {
	*authority.Authority
	*lifecycle.Keeper
	t       testing.TB
	clock   *clock
	store   tokenstore.Store
	path    string
	outbox  *simulate.Outbox
	account token.Account
	start   time.Time
	run     token.ID
	alarms  []lifecycle.Alarm
	// What does not work just now.
	mailDown, nodeAway bool
}

var scopes = []token.Scope{
	{Name: "invoices:read", Nature: token.Read},
	{Name: "payments:read", Nature: token.Read},
	{Name: "payments:write", Nature: token.Write},
}

// rules is the policy of most tests: 45 days, 7 days' notice.
func rules() token.Policy {
	p := token.DefaultPolicy()
	p.Name, p.RequireAllowList, p.Confirm = "test", token.AllowListNever, nil
	p.Editable = token.EditableFields()
	return p
}

func newID(prefix string) (token.ID, error) { return storetest.ID(prefix), nil }

// build starts at midnight, so that days and buckets begin together.
func build(t testing.TB, change ...func(*token.Policy)) *house {
	t.Helper()
	c := &clock{at: storetest.Now().Truncate(day)}
	ring := storetest.Ring(t)
	path := filepath.Join(storetest.Memory(t), "s.db")
	store, err := sqlite.Open(ctx, path, sqlite.Options{Ring: ring, Now: c.Now})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	h := move(t, store, ring, c, change...)
	h.path = path
	return h
}

// move sets a house up in a store that is there.
func move(t testing.TB, store tokenstore.Store, ring *tokenstore.Ring, c *clock, change ...func(*token.Policy)) *house {
	t.Helper()
	h := &house{t: t, clock: c, store: store, start: c.Now(), run: storetest.ID("run")}
	h.Authority = &authority.Authority{
		Store: store, Ring: ring, Prefixes: []string{"sp"}, Now: c.Now, Random: rand.Reader, NewID: newID,
	}
	h.outbox = &simulate.Outbox{NewID: newID, Recipients: []string{"ada@example.com", "bob@example.com"}}
	h.Keeper = h.keeper("node-1")
	require.NoError(t, h.EnsureKeys(ctx, system))
	h.policy(change...)
	var err error
	h.account, err = h.CreateAccount(ctx, kim, authority.NewAccount{Name: "Castle Supplies", Policy: "test"})
	require.NoError(t, err)
	h.observe()
	h.pass() // the first pass of all only looks
	return h
}

func (h *house) keeper(holder string) *lifecycle.Keeper {
	return &lifecycle.Keeper{
		Store: h.store, Authority: h.Authority, Teller: h.outbox, Holder: holder, NewID: newID,
		Alarm: func(a lifecycle.Alarm) { h.alarms = append(h.alarms, a) },
	}
}

func (h *house) policy(change ...func(*token.Policy)) {
	h.t.Helper()
	p := rules()
	for _, f := range change {
		f(&p)
	}
	require.NoError(h.t, h.Declare(ctx, system, authority.Declarations{Policies: []token.Policy{p}, Scopes: scopes}))
}

func (h *house) create(change ...func(*authority.NewToken)) token.ID {
	h.t.Helper()
	n := authority.NewToken{Name: "nightly export", AccountID: h.account.ID, Access: token.ReadWrite}
	for _, f := range change {
		f(&n)
	}
	issued, err := h.CreateToken(ctx, kim, n)
	require.NoError(h.t, err)
	return issued.Token.Token.ID
}

func custom(names ...string) func(*authority.NewToken) {
	return func(n *authority.NewToken) { n.Access, n.Scopes = token.Custom, names }
}

func readOnly(n *authority.NewToken) { n.Access = token.ReadOnly }

// observe says that the node has told all that it saw up to now.
func (h *house) observe(facts ...token.Fact) {
	h.t.Helper()
	require.NoError(h.t, h.store.Write(ctx, func(tx *tokenstore.Tx) error {
		if err := tx.BeginRun(token.Run{ID: h.run, Node: "node-1", StartedAt: h.start, StaleFor: time.Hour}); err != nil {
			return err
		}
		return tx.PutActivity(token.Activity{Run: h.run, Covered: h.clock.Now(), Facts: facts})
	}))
}

// used is a use of a token at a time, as a node tells of it.
func (h *house) used(id token.ID, at time.Time, scope string) token.Fact {
	f := token.Fact{TokenID: id, SecretID: h.show(id).Current.ID, Bucket: at.Truncate(day), Until: at.Truncate(day).Add(day), First: at}
	for _, s := range scopes {
		if s.Name == scope {
			f.Scope = s
		}
	}
	return f
}

// use is a request that was forwarded just now.
func (h *house) use(id token.ID, scope string) {
	h.t.Helper()
	h.observe(h.used(id, h.clock.Now(), scope))
}

func (h *house) pass() lifecycle.Report {
	h.t.Helper()
	r, err := h.Pass(ctx)
	require.NoError(h.t, err)
	return r
}

func (h *house) deliver() {
	h.t.Helper()
	_, err := h.outbox.Deliver(ctx, h.store, func(*tokenstore.Notice) bool { return !h.mailDown })
	require.NoError(h.t, err)
}

// tick lets time pass, and then does all that is done all the time.
func (h *house) tick(d time.Duration) lifecycle.Report {
	h.t.Helper()
	h.clock.add(d)
	if !h.nodeAway {
		h.observe()
	}
	first := h.pass()
	h.deliver()
	second := h.pass()
	for kind, n := range first.Done {
		second.Done[kind] += n
	}
	return second
}

// until lets days pass, each with its passes, up to a day after the start.
func (h *house) until(d int) {
	h.t.Helper()
	for h.clock.Now().Before(h.start.Add(time.Duration(d) * day)) {
		h.tick(day)
	}
}

func (h *house) today() string {
	return fmt.Sprintf("day %g", h.clock.Now().Sub(h.start).Hours()/24)
}

func (h *house) show(id token.ID) authority.View {
	h.t.Helper()
	v, err := h.Token(ctx, kim, id)
	require.NoError(h.t, err)
	return v
}

func (h *house) history(id token.ID) (history tokenstore.History) {
	h.t.Helper()
	storetest.MustRead(h.t, h.store, func(tx *tokenstore.Tx) (err error) {
		history, err = tx.History(id)
		return err
	})
	return history
}

// told lists the events that each recipient was told of, oldest first, without
// those that were called off before they were sent.
func (h *house) told(id token.ID) (events []token.Event) {
	h.t.Helper()
	for _, n := range h.notices(id) {
		if n.Recipient == h.outbox.Recipients[0] && n.State != tokenstore.NoticeCancelled {
			events = append(events, n.Event)
		}
	}
	return events
}

func (h *house) notices(id token.ID) (list []tokenstore.Notice) {
	h.t.Helper()
	storetest.MustRead(h.t, h.store, func(tx *tokenstore.Tx) error {
		newest, _, err := tx.Notices(tokenstore.NoticeQuery{TokenID: id}, tokenstore.Page{Limit: tokenstore.MaxLimit})
		for i := len(newest) - 1; i >= 0; i-- {
			list = append(list, newest[i])
		}
		return err
	})
	return list
}

// entry is what the audit log says of an act of the lifecycle.
type entry struct {
	Verb   string
	Target string
	After  struct {
		Evidence *token.Evidence `json:"evidence"`
	}
}

// audited lists what the lifecycle did to a token, by the audit log.
func (h *house) audited(id token.ID) (list []entry) {
	h.t.Helper()
	storetest.MustRead(h.t, h.store, func(tx *tokenstore.Tx) error {
		entries, err := tx.AuditRange(0, 100_000)
		for _, e := range entries {
			if e.Actor.Name != "lifecycle" || e.Target != string(id) {
				continue
			}
			kept := entry{Verb: e.Verb, Target: e.Target}
			if e.After != nil {
				require.NoError(h.t, json.Unmarshal(e.After, &kept.After))
			}
			list = append(list, kept)
		}
		return err
	})
	return list
}

func (h *house) verbs(id token.ID) (verbs []string) {
	h.t.Helper()
	for _, e := range h.audited(id) {
		verbs = append(verbs, e.Verb)
	}
	return verbs
}

// chainHolds demands that the audit log is whole (I7).
func (h *house) chainHolds() {
	h.t.Helper()
	report, err := h.VerifyAudit(ctx, kim, nil)
	require.NoError(h.t, err)
	require.Empty(h.t, report.Problems)
}

// exec does to the file what no code of this project does.
func (h *house) exec(statement string) {
	h.t.Helper()
	db, err := driver.Open("file:" + h.path)
	require.NoError(h.t, err)
	_, err = db.ExecContext(ctx, statement)
	require.NoError(h.t, err)
	require.NoError(h.t, db.Close())
}

func (h *house) alarmed(kind string) bool {
	for _, a := range h.alarms {
		if a.Kind == kind {
			return true
		}
	}
	return false
}
