// Package bulk fills a store with many tokens, straight through the store and not
// through the verbs, for benchmarks and for tests at scale.
package bulk

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"

	"go.jetify.com/typeid"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
)

// batch is how many tokens one transaction holds.
const batch = 10_000

// Fill makes an SQLite store with its key file beside it, one account and n
// tokens that may read and write from 127.0.0.1, and writes their secrets to a
// file, one a line.
func Fill(ctx context.Context, database, secrets string, n int) (err error) {
	ring, err := tokenstore.LoadRing(database+".key", rand.Reader)
	if err != nil {
		return err
	}
	store, err := sqlite.Open(ctx, database, sqlite.Options{Ring: ring.Ring})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	out, err := os.OpenFile(secrets, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	lines := bufio.NewWriter(out)

	err = Into(ctx, store, ring.Ring, n, func(_ token.ID, secret token.Secret) error {
		_, err := fmt.Fprintln(lines, secret.Reveal())
		return err
	})
	if err != nil {
		return err
	}
	return lines.Flush()
}

// Into puts an account and n such tokens into any store. Each is told of when it
// is committed.
func Into(ctx context.Context, store tokenstore.Store, ring *tokenstore.Ring, n int, told func(token.ID, token.Secret) error) error {
	keyID := ring.IDs()[0]
	check, _ := ring.CheckValue(keyID)
	now := time.Now().UTC().Truncate(time.Microsecond)
	account := token.Account{ID: newID("acc"), Name: "Bulk", Policy: "default", CreatedAt: now, UpdatedAt: now}
	allow, err := token.ParseAllowList([]string{"127.0.0.1"}, false)
	if err != nil {
		return err
	}
	entry := tokenstore.AuditEntry{
		At: now, Verb: "bulk.fill", Target: string(account.ID), AccountID: account.ID,
		Actor: tokenstore.Actor{Kind: tokenstore.SystemActor, Name: "bulk"},
	}
	err = store.Write(ctx, func(tx *tokenstore.Tx) error {
		tx.Audit(entry)
		key := tokenstore.MasterKey{ID: keyID, CheckValue: check, Primary: true, AddedAt: now}
		return errors.Join(tx.PutMasterKey(key), tx.InsertAccount(&account))
	})
	if err != nil {
		return err
	}
	type made struct {
		id     token.ID
		secret token.Secret
	}
	for done := 0; done < n; done += batch {
		tokens := make([]made, 0, batch)
		err := store.Write(ctx, func(tx *tokenstore.Tx) error {
			tokens = tokens[:0]
			tx.Audit(entry)
			for i := done; i < min(done+batch, n); i++ {
				id, secret, err := insert(tx, ring, keyID, account.ID, allow, now, i)
				if err != nil {
					return err
				}
				tokens = append(tokens, made{id, secret})
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, t := range tokens {
			if err := told(t.id, t.secret); err != nil {
				return err
			}
		}
	}
	return nil
}

func insert(tx *tokenstore.Tx, ring *tokenstore.Ring, keyID string, account token.ID, allow token.AllowList, now time.Time, i int) (token.ID, token.Secret, error) {
	secret, err := token.NewSecret(rand.Reader, token.DefaultPrefix, token.Production)
	if err != nil {
		return "", token.Secret{}, err
	}
	t := token.Token{
		ID: newID("tok"), Name: fmt.Sprintf("bulk-%07d", i), AccountID: account,
		Grant: token.Grant{Access: token.ReadWrite}, AllowList: allow,
		Environment: token.Production, State: token.Active,
		CreatedAt: now, UpdatedAt: now, LifetimeFrom: now,
	}
	if err := tx.InsertToken(&t); err != nil {
		return "", token.Secret{}, err
	}
	lookup, ok := ring.Lookup(keyID, secret.Digest())
	if !ok {
		return "", token.Secret{}, errors.New("the ring lacks its own key")
	}
	record := token.SecretRecord{ID: newID("sec"), TokenID: t.ID, Last4: secret.Last4(), Status: token.Current, CreatedAt: now}
	return t.ID, secret, tx.InsertSecret(&record, lookup, keyID)
}

func newID(prefix string) token.ID {
	return token.ID(typeid.Must(typeid.WithPrefix(prefix)).String())
}
