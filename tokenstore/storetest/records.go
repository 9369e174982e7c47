package storetest

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.jetify.com/typeid"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Now is the time at which the records of this package are made. It has
// microseconds, so that whoever drops them is found out.
func Now() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 890_123_000, time.UTC) }

var lastID atomic.Uint64

// ID makes an ID that this process has not made before. Each is greater than
// those before it.
func ID(prefix string) token.ID {
	var raw [16]byte // a UUID of version 7: milliseconds, then what makes it unique
	binary.BigEndian.PutUint64(raw[:8], uint64(Now().UnixMilli())<<16|0x7000)
	binary.BigEndian.PutUint64(raw[8:], lastID.Add(1)|1<<63)
	id, err := typeid.FromUUIDBytesWithPrefix(prefix, raw[:])
	if err != nil {
		panic(fmt.Sprintf("storetest: ID prefix: %v", err))
	}
	return token.ID(id.String())
}

// Ring makes a ring of one fresh key.
func Ring(t testing.TB) *tokenstore.Ring {
	t.Helper()
	ring, err := tokenstore.NewRing(rand.Reader)
	require.NoError(t, err)
	return ring
}

// Account is an account under the default policy, not stored yet.
func Account() token.Account {
	return token.Account{
		ID:        ID("acc"),
		Name:      "Castle Supplies",
		Policy:    "default",
		CreatedAt: Now(),
		UpdatedAt: Now(),
	}
}

// User is a member of an account, not stored yet.
func User(account token.ID) token.User {
	return token.User{
		ID:            ID("usr"),
		AccountID:     account,
		Name:          "Ada Porter",
		Email:         "ada@example.com",
		Role:          "member",
		BusinessUnits: []string{"north", "south"},
		CreatedAt:     Now(),
		UpdatedAt:     Now(),
	}
}

// Token is an active token of an account that may read and write from
// everywhere, not stored yet.
func Token(account token.ID) token.Token {
	return token.Token{
		ID:           ID("tok"),
		Name:         "nightly export",
		AccountID:    account,
		Grant:        token.Grant{Access: token.ReadWrite},
		Environment:  token.Production,
		State:        token.Active,
		CreatedAt:    Now(),
		UpdatedAt:    Now(),
		LifetimeFrom: Now(),
	}
}

// Secret is the record of a current secret of a token, not stored yet.
func Secret(tokenID token.ID, secret token.Secret) token.SecretRecord {
	return token.SecretRecord{
		ID:        ID("sec"),
		TokenID:   tokenID,
		Last4:     secret.Last4(),
		Status:    token.Current,
		CreatedAt: Now(),
	}
}

// Entry is an audit entry for changes that a test makes.
func Entry() tokenstore.AuditEntry {
	return tokenstore.AuditEntry{
		At:     Now(),
		Actor:  tokenstore.Actor{Kind: tokenstore.OperatorActor, Name: "storetest"},
		Verb:   "test.change",
		Target: "test",
	}
}

// MustWrite runs f in a transaction that has an audit entry, and demands success.
func MustWrite(t testing.TB, s tokenstore.Store, f func(tx *tokenstore.Tx) error) {
	t.Helper()
	require.NoError(t, s.Write(context.Background(), audited(f)))
}

// MustRead runs f in a snapshot and demands success.
func MustRead(t testing.TB, s tokenstore.Store, f func(tx *tokenstore.Tx) error) {
	t.Helper()
	require.NoError(t, s.Read(context.Background(), f))
}

// Issue stores a token, whose account and user are stored already, with a
// current secret under the primary master key. It sets the token's Version.
func Issue(t testing.TB, s tokenstore.Store, ring *tokenstore.Ring, tok *token.Token) token.Secret {
	t.Helper()
	secret := newSecret(t, tok.Environment)
	record := Secret(tok.ID, secret)
	MustWrite(t, s, func(tx *tokenstore.Tx) error {
		if err := tx.InsertToken(tok); err != nil {
			return err
		}
		_, err := InsertSecret(tx, ring, &record, secret)
		return err
	})
	return secret
}

// InsertSecret stores a secret under the primary master key, in a transaction
// that wrote its token before.
func InsertSecret(tx *tokenstore.Tx, ring *tokenstore.Ring, record *token.SecretRecord, secret token.Secret) (tokenstore.Lookup, error) {
	key, err := tx.PrimaryKey()
	if err != nil {
		return tokenstore.Lookup{}, err
	}
	l, ok := ring.Lookup(key, secret.Digest())
	if !ok {
		return tokenstore.Lookup{}, fmt.Errorf("the ring lacks the primary master key %q", key)
	}
	return l, tx.InsertSecret(record, l, key)
}

func newSecret(t testing.TB, env token.Environment) token.Secret {
	t.Helper()
	secret, err := token.NewSecret(rand.Reader, token.DefaultPrefix, env)
	require.NoError(t, err)
	return secret
}
