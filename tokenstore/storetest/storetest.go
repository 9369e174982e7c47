// Package storetest says in tests what the Store contract says in prose. Every
// adapter, and every Store that wraps another one, runs the whole suite; what an
// adapter does that no test here demands is that adapter's own business.
//
// It is also the kit for tests of packages that need a store with something in
// it: Account, User, Token and Secret make records with sensible values, Issue
// stores a token with a secret that works.
package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Open gives a fresh store, which no other test uses, and the ring that it was
// opened with. It closes the store when the test ends. A fresh store has the
// policy default, the roles owner, admin, member and auditor, and one of the
// ring's keys as its primary master key.
type Open func(t *testing.T) (tokenstore.Store, *tokenstore.Ring)

// Run proves the contract on a store.
func Run(t *testing.T, open Open) {
	for _, topic := range []struct {
		name  string
		tests func(suite)
	}{
		{"lookup", lookupTests},
		{"bulk", bulkTests},
		{"read", readTests},
		{"write", writeTests},
		{"version", versionTests},
		{"race", raceTests},
		{"feed", feedTests},
		{"value", valueTests},
		{"token", tokenTests},
		{"secret", secretTests},
		{"list", listTests},
		{"search", searchTests},
		{"page", pageTests},
		{"owner", ownerTests},
		{"rule", ruleTests},
		{"attempt", attemptTests},
		{"master key", masterKeyTests},
		{"node", nodeTests},
		{"activity", activityTests},
		{"duty", dutyTests},
		{"history", historyTests},
		{"rotation", rotationTests},
		{"plan", planTests},
		{"notice", noticeTests},
		{"audit", auditTests},
		{"close", closeTests},
	} {
		t.Run(topic.name, func(t *testing.T) {
			t.Parallel()
			topic.tests(suite{t, open})
		})
	}
}

// suite runs the tests of one topic.
type suite struct {
	t    *testing.T
	open Open
}

// test runs one sentence of the contract on a store of its own.
func (s suite) test(sentence string, f func(b *bench)) {
	s.t.Helper()
	s.t.Run(sentence, func(t *testing.T) {
		t.Parallel()
		// A store that hangs fails its own test and not the whole run.
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		b := &bench{T: t, ctx: ctx}
		b.store, b.ring = s.open(t)
		f(b)
	})
}

// patience is when a test gives up on a store that hangs, on a busy machine and
// under the race detector too. It says nothing about how fast a store must be.
const patience = 2 * time.Minute

// bench is what one test works on.
type bench struct {
	*testing.T
	ctx   context.Context
	store tokenstore.Store
	ring  *tokenstore.Ring
}

// attempt runs f with an audit entry beside it, and gives the error of Write.
func (b *bench) attempt(f func(tx *tokenstore.Tx) error) error {
	return b.store.Write(b.ctx, audited(f))
}

// write is attempt for changes that must succeed.
func (b *bench) write(f func(tx *tokenstore.Tx) error) {
	b.Helper()
	require.NoError(b, b.attempt(f))
}

// read runs f in a snapshot and demands success.
func (b *bench) read(f func(tx *tokenstore.Tx) error) {
	b.Helper()
	require.NoError(b, b.store.Read(b.ctx, f))
}

// get reads one value in a snapshot of its own.
func get[T any](b *bench, f func(tx *tokenstore.Tx) (T, error)) T {
	b.Helper()
	var v T
	b.read(func(tx *tokenstore.Tx) (err error) {
		v, err = f(tx)
		return err
	})
	return v
}

// getErr is the error of reading one value.
func getErr[T any](b *bench, f func(tx *tokenstore.Tx) (T, error)) error {
	b.Helper()
	return b.store.Read(b.ctx, func(tx *tokenstore.Tx) error {
		_, err := f(tx)
		return err
	})
}

func (b *bench) token(id token.ID) token.Token {
	b.Helper()
	return get(b, func(tx *tokenstore.Tx) (token.Token, error) { return tx.Token(id) })
}

func (b *bench) secrets(id token.ID) []token.SecretRecord {
	b.Helper()
	return get(b, func(tx *tokenstore.Tx) ([]token.SecretRecord, error) { return tx.Secrets(id) })
}

// account stores an account and gives it as it was stored.
func (b *bench) account(change ...func(*token.Account)) token.Account {
	b.Helper()
	a := Account()
	for _, c := range change {
		c(&a)
	}
	b.write(func(tx *tokenstore.Tx) error { return tx.InsertAccount(&a) })
	return a
}

// user stores a user of an account.
func (b *bench) user(account token.ID, change ...func(*token.User)) token.User {
	b.Helper()
	u := User(account)
	for _, c := range change {
		c(&u)
	}
	b.write(func(tx *tokenstore.Tx) error { return tx.InsertUser(&u) })
	return u
}

// issued is a token with its one secret.
type issued struct {
	token  token.Token
	record token.SecretRecord
	secret token.Secret
	lookup tokenstore.Lookup
}

// issue stores a token of an account with a current secret.
func (b *bench) issue(account token.ID, change ...func(*token.Token)) issued {
	b.Helper()
	i := issued{token: Token(account)}
	for _, c := range change {
		c(&i.token)
	}
	i.secret = newSecret(b, i.token.Environment)
	i.record = Secret(i.token.ID, i.secret)
	b.write(func(tx *tokenstore.Tx) (err error) {
		if err = tx.InsertToken(&i.token); err != nil {
			return err
		}
		i.lookup, err = InsertSecret(tx, b.ring, &i.record, i.secret)
		return err
	})
	return i
}

// primary is the ID of the store's primary master key.
func (b *bench) primary() string {
	b.Helper()
	return get(b, (*tokenstore.Tx).PrimaryKey)
}

// same compares what was stored with what came back.
func (b *bench) same(want, got any, about ...any) {
	b.Helper()
	if diff := cmp.Diff(want, got, comparing...); diff != "" {
		b.Fatalf("%s: differs (-want +got):\n%s", fmt.Sprint(about...), diff)
	}
}

// comparing treats lists without entries as equal, and looks into allow-lists.
var comparing = cmp.Options{
	cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b token.AllowList) bool { return cmp.Equal(a.Strings(), b.Strings(), cmpopts.EquateEmpty()) }),
}

// audited runs f and adds an audit entry.
func audited(f func(tx *tokenstore.Tx) error) func(tx *tokenstore.Tx) error {
	return func(tx *tokenstore.Tx) error {
		if err := f(tx); err != nil {
			return err
		}
		tx.Audit(Entry())
		return nil
	}
}
