package loss

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.jetify.com/typeid"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
)

// key is one kind of request: a secret, and an operation whose scope is known.
type key struct {
	token, secret token.ID
	bearer        string // the secret itself
	method        string
	status        int
	scope         string // that is used; empty: the token only authenticates itself
}

// ways are the tokens that there are, and what is asked with them.
var ways = []struct {
	access token.Access
	scopes []string
	asks   []key
}{
	{token.ReadWrite, nil, []key{
		{method: http.MethodGet, status: http.StatusOK, scope: "payments:read"},
		{method: http.MethodPost, status: http.StatusOK, scope: "payments:write"},
	}},
	{token.Custom, []string{"payments:read"}, []key{
		{method: http.MethodGet, status: http.StatusOK, scope: "payments:read"},
		{method: http.MethodPost, status: http.StatusForbidden},
	}},
	{token.ReadOnly, nil, []key{
		{method: http.MethodGet, status: http.StatusOK, scope: "payments:read"},
		{method: http.MethodPost, status: http.StatusForbidden},
	}},
}

// open opens the store, to fill it and to look into it beside the gateways.
func (b *bench) open(ctx context.Context) (err error) {
	ring, err := tokenstore.LoadRing(b.keyFile(), rand.Reader)
	if err != nil {
		return err
	}
	if b.o.Server == nil {
		b.store, err = sqlite.Open(ctx, b.path("sallyport.db"), sqlite.Options{Ring: ring.Ring})
	} else {
		b.url = b.o.Server.Database()
		b.store, err = postgres.Open(ctx, b.url, postgres.Options{Ring: ring.Ring})
	}
	if err != nil {
		return err
	}
	keyID := ring.Ring.IDs()[0]
	check, _ := ring.Ring.CheckValue(keyID)
	b.ring, b.keyID = ring.Ring, keyID
	now := time.Now().UTC().Truncate(time.Microsecond)
	b.account = newID("acc")
	err = b.store.Write(ctx, func(tx *tokenstore.Tx) error {
		tx.Audit(b.entry(now))
		return errors.Join(
			tx.PutMasterKey(tokenstore.MasterKey{ID: keyID, CheckValue: check, Primary: true, AddedAt: now}),
			tx.InsertAccount(&token.Account{ID: b.account, Name: "Loss", Policy: "default", CreatedAt: now, UpdatedAt: now}))
	})
	if err != nil {
		return errors.Join(err, b.store.Close())
	}
	return nil
}

func (b *bench) entry(now time.Time) tokenstore.AuditEntry {
	return tokenstore.AuditEntry{
		At: now, Verb: "bench.fill", Target: string(b.account), AccountID: b.account,
		Actor: tokenstore.Actor{Kind: tokenstore.SystemActor, Name: "bench"},
	}
}

func (b *bench) keyFile() string { return b.path("sallyport.db.key") }

// fill makes the tokens, each with two secrets that work.
func (b *bench) fill(ctx context.Context) (keys []key, err error) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	err = b.store.Write(ctx, func(tx *tokenstore.Tx) error {
		keys = keys[:0]
		tx.Audit(b.entry(now))
		for i := range b.o.Tokens {
			made, err := b.insert(tx, now, i)
			if err != nil {
				return err
			}
			keys = append(keys, made...)
		}
		return nil
	})
	return keys, err
}

func (b *bench) insert(tx *tokenstore.Tx, now time.Time, i int) (keys []key, err error) {
	way := ways[i%len(ways)]
	t := token.Token{
		ID: newID("tok"), Name: fmt.Sprintf("loss-%06d", i), AccountID: b.account,
		Grant: token.Grant{Access: way.access, Scopes: way.scopes}, Environment: token.Production, State: token.Active,
		CreatedAt: now, UpdatedAt: now, LifetimeFrom: now,
	}
	if err := tx.InsertToken(&t); err != nil {
		return nil, err
	}
	for _, status := range []token.SecretStatus{token.Previous, token.Current} {
		secret, err := token.NewSecret(rand.Reader, token.DefaultPrefix, token.Production)
		if err != nil {
			return nil, err
		}
		lookup, ok := b.ring.Lookup(b.keyID, secret.Digest())
		if !ok {
			return nil, errors.New("the ring lacks its own key")
		}
		record := token.SecretRecord{ID: newID("sec"), TokenID: t.ID, Last4: secret.Last4(), Status: status, CreatedAt: now}
		if err := tx.InsertSecret(&record, lookup, b.keyID); err != nil {
			return nil, err
		}
		for _, k := range way.asks {
			k.token, k.secret, k.bearer = t.ID, record.ID, secret.Reveal()
			keys = append(keys, k)
		}
	}
	return keys, nil
}

func newID(prefix string) token.ID {
	return token.ID(typeid.Must(typeid.WithPrefix(prefix)).String())
}
