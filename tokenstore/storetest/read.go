package storetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

var errOfTest = errors.New("storetest: what f returned")

func readTests(s suite) {
	s.test("returns f's error as it is", func(b *bench) {
		require.Same(b, errOfTest, b.store.Read(b.ctx, func(*tokenstore.Tx) error { return errOfTest }))
	})

	s.test("sees one state, whatever is committed meanwhile", func(b *bench) {
		account := b.account()
		i := b.issue(account.ID)
		look := func(tx *tokenstore.Tx) (state string, err error) {
			t, err := tx.Token(i.token.ID)
			if err != nil {
				return "", err
			}
			a, err := tx.Account(account.ID)
			if err != nil {
				return "", err
			}
			page, err := tx.Tokens(tokenstore.TokenQuery{Now: Now()})
			if err != nil {
				return "", err
			}
			secrets, err := tx.Secrets(i.token.ID)
			if err != nil {
				return "", err
			}
			head, err := tx.AuditHead()
			return fmt.Sprint(t.Name, a.Name, len(page.Tokens), len(secrets), head.Seq), err
		}
		b.read(func(tx *tokenstore.Tx) error {
			before, err := look(tx)
			if err != nil {
				return err
			}
			written := make(chan error, 1)
			secret := newSecret(b, token.Production)
			go func() {
				written <- b.store.Write(b.ctx, audited(func(tx *tokenstore.Tx) error {
					t, a, more := i.token, account, Token(account.ID)
					t.Name, a.Name = "renamed", "renamed"
					record := Secret(t.ID, secret)
					if err := errors.Join(tx.UpdateToken(&t), tx.UpdateAccount(&a), tx.InsertToken(&more)); err != nil {
						return err
					}
					_, err := InsertSecret(tx, b.ring, &record, secret)
					return err
				}))
			}()
			// A writer does not wait for readers.
			require.NoError(b, <-written)
			after, err := look(tx)
			require.Equal(b, before, after)
			return err
		})
		b.read(func(tx *tokenstore.Tx) error {
			after, err := look(tx)
			require.Contains(b, after, "renamed")
			return err
		})
	})

	s.test("refuses every write, and leaves no trace of it", func(b *bench) {
		account := b.account()
		user := b.user(account.ID)
		i := b.issue(account.ID)
		before := b.snapshot()
		for name, write := range everyWrite(b, account, user, i) {
			err := b.store.Read(b.ctx, func(tx *tokenstore.Tx) error {
				err := write(tx)
				require.Error(b, err, name)
				return err
			})
			require.Error(b, err, name)
		}
		require.Error(b, b.store.Read(b.ctx, func(tx *tokenstore.Tx) error { tx.Audit(Entry()); return nil }))
		b.same(before, b.snapshot())
	})

	s.test("can be used after a panic in f", func(b *bench) {
		account := b.account()
		for range 20 { // more than there are connections
			require.PanicsWithValue(b, "of f", func() {
				_ = b.store.Read(b.ctx, func(tx *tokenstore.Tx) error {
					_, err := tx.Account(account.ID)
					require.NoError(b, err)
					panic("of f")
				})
			})
		}
		b.same(account, get(b, func(tx *tokenstore.Tx) (token.Account, error) { return tx.Account(account.ID) }))
	})

	s.test("ends with the context", func(b *bench) {
		account := b.account()
		ctx, cancel := context.WithCancel(b.ctx)
		cancel()
		err := b.store.Read(ctx, func(tx *tokenstore.Tx) error {
			_, err := tx.Account(account.ID)
			return err
		})
		require.ErrorIs(b, err, context.Canceled)

		ctx, cancel = context.WithDeadline(b.ctx, Now().AddDate(-20, 0, 0))
		defer cancel()
		err = b.store.Read(ctx, func(tx *tokenstore.Tx) error {
			_, err := tx.Account(account.ID)
			return err
		})
		require.ErrorIs(b, err, context.DeadlineExceeded)
	})

	s.test("ends when the context ends in f", func(b *bench) {
		account := b.account()
		ctx, cancel := context.WithCancel(b.ctx)
		err := b.store.Read(ctx, func(tx *tokenstore.Tx) error {
			require.NoError(b, tx.Context().Err())
			cancel()
			require.ErrorIs(b, tx.Context().Err(), context.Canceled)
			_, err := tx.Account(account.ID)
			return err
		})
		require.ErrorIs(b, err, context.Canceled)
	})

	s.test("gives a transaction that is of no use afterwards", func(b *bench) {
		account := b.account()
		var escaped *tokenstore.Tx
		b.read(func(tx *tokenstore.Tx) error { escaped = tx; return nil })
		_, err := escaped.Account(account.ID)
		require.Error(b, err)
		_, err = escaped.Tokens(tokenstore.TokenQuery{})
		require.Error(b, err)
	})

	s.test("finds nothing where nothing is", func(b *bench) {
		for name, read := range map[string]func(tx *tokenstore.Tx) error{
			"token":   func(tx *tokenstore.Tx) error { _, err := tx.Token(ID("tok")); return err },
			"account": func(tx *tokenstore.Tx) error { _, err := tx.Account(ID("acc")); return err },
			"user":    func(tx *tokenstore.Tx) error { _, err := tx.User(ID("usr")); return err },
			"role":    func(tx *tokenstore.Tx) error { _, err := tx.Role("nobody"); return err },
			"policy":  func(tx *tokenstore.Tx) error { _, err := tx.Policy("none"); return err },
			"attempt": func(tx *tokenstore.Tx) error { _, err := tx.Attempt("a", "b", "c"); return err },
		} {
			require.ErrorIs(b, b.store.Read(b.ctx, read), tokenstore.ErrNotFound, name)
		}
	})

	s.test("goes on after an answer that is not found", func(b *bench) {
		account := b.account()
		b.read(func(tx *tokenstore.Tx) error {
			_, err := tx.Token(ID("tok"))
			require.ErrorIs(b, err, tokenstore.ErrNotFound)
			got, err := tx.Account(account.ID)
			b.same(account, got)
			return err
		})
	})
}

// everyWrite is one call of each method that writes. An account, a user and a
// token with a secret are there.
func everyWrite(b *bench, account token.Account, user token.User, i issued) map[string]func(tx *tokenstore.Tx) error {
	another := newSecret(b, token.Production)
	return map[string]func(tx *tokenstore.Tx) error{
		"InsertAccount": func(tx *tokenstore.Tx) error { a := Account(); return tx.InsertAccount(&a) },
		"UpdateAccount": func(tx *tokenstore.Tx) error { a := account; a.Name = "x"; return tx.UpdateAccount(&a) },
		"InsertUser":    func(tx *tokenstore.Tx) error { u := User(account.ID); return tx.InsertUser(&u) },
		"UpdateUser":    func(tx *tokenstore.Tx) error { u := user; u.Name = "x"; return tx.UpdateUser(&u) },
		"InsertToken":   func(tx *tokenstore.Tx) error { t := Token(account.ID); return tx.InsertToken(&t) },
		"UpdateToken":   func(tx *tokenstore.Tx) error { t := i.token; t.Name = "x"; return tx.UpdateToken(&t) },
		"InsertSecret": func(tx *tokenstore.Tx) error {
			t := Token(account.ID)
			if err := tx.InsertToken(&t); err != nil {
				return err
			}
			s := Secret(t.ID, another)
			_, err := InsertSecret(tx, b.ring, &s, another)
			return err
		},
		"UpdateSecret": func(tx *tokenstore.Tx) error {
			t, s := i.token, i.record
			if err := tx.UpdateToken(&t); err != nil {
				return err
			}
			s.Status = token.Retired
			return tx.UpdateSecret(&s)
		},
		"PutRole":         func(tx *tokenstore.Tx) error { return tx.PutRole(&token.Role{Name: "porter", Ceiling: i.token.Grant}) },
		"PutPolicy":       func(tx *tokenstore.Tx) error { p := strictPolicy(); return tx.PutPolicy(&p) },
		"PutScope":        func(tx *tokenstore.Tx) error { return tx.PutScope(declared("gate:open", token.Write)) },
		"DeleteScope":     func(tx *tokenstore.Tx) error { return tx.DeleteScope("gate:open") },
		"PutMasterKey":    func(tx *tokenstore.Tx) error { return tx.PutMasterKey(masterKey("k-other")) },
		"DeleteMasterKey": func(tx *tokenstore.Tx) error { return tx.DeleteMasterKey("k-other") },
		"MarkUsed":        func(tx *tokenstore.Tx) error { return tx.MarkUsed(i.record.ID, Now()) },
		"Rekey": func(tx *tokenstore.Tx) error {
			return tx.Rekey(i.record.ID, i.lookup, tokenstore.Lookup{1}, b.ring.IDs()[0])
		},
		"PutRotation": func(tx *tokenstore.Tx) error {
			t := i.token
			if err := tx.UpdateToken(&t); err != nil {
				return err
			}
			return tx.PutRotation(t.ID, token.Rotation{PreviousID: i.record.ID, Mode: token.RotateTimed, StartedAt: Now()})
		},
		"PutAttempt": func(tx *tokenstore.Tx) error { return tx.PutAttempt(attempt("k")) },
		"PutNode":    func(tx *tokenstore.Tx) error { return tx.PutNode(node("n")) },
		"DeleteNode": func(tx *tokenstore.Tx) error { return tx.DeleteNode("n") },
	}
}

func declared(name string, nature token.Nature) tokenstore.DeclaredScope {
	return tokenstore.DeclaredScope{Scope: token.Scope{Name: name, Nature: nature}, ManagedBy: "hash"}
}

func masterKey(id string) tokenstore.MasterKey {
	return tokenstore.MasterKey{ID: id, CheckValue: "00112233", AddedAt: Now()}
}

func node(id string) tokenstore.Node {
	return tokenstore.Node{ID: id, StartedAt: Now(), SeenAt: Now().Add(time.Second), Keys: map[string]string{"k1": "00112233"}}
}

func attempt(key string) tokenstore.Attempt {
	return tokenstore.Attempt{
		Actor: "operator", Route: "POST /tokens", Key: key, BodyHash: [32]byte{1, 31: 2},
		TokenID: "tok_1", SecretID: "sec_1", CreatedAt: Now(),
	}
}

// contents is the whole store, as far as a Tx shows it.
type contents struct {
	Accounts   []token.Account
	Users      []token.User
	Tokens     []token.Token
	Secrets    map[token.ID][]token.SecretRecord
	Roles      []token.Role
	Policies   []token.Policy
	Scopes     []tokenstore.DeclaredScope
	MasterKeys []tokenstore.MasterKey
	Nodes      []tokenstore.Node
	Attempt    bool
	Head       tokenstore.AuditHead
	Position   tokenstore.Position
}

// snapshot reads everything, to see that nothing changed. It expects few records.
func (b *bench) snapshot() contents {
	b.Helper()
	var c contents
	b.read(func(tx *tokenstore.Tx) error {
		c = contents{Secrets: map[token.ID][]token.SecretRecord{}}
		var errs []error
		note := func(err error) { errs = append(errs, err) }
		var err error
		c.Accounts, _, err = tx.Accounts(tokenstore.Page{})
		note(err)
		c.Users, _, err = tx.Users("", tokenstore.Page{})
		note(err)
		page, err := tx.Tokens(tokenstore.TokenQuery{
			States: []token.State{token.Active, token.Disabled, token.Expired, token.Revoked, token.Deleted}, Now: Now(),
		})
		note(err)
		for _, row := range page.Tokens {
			c.Tokens = append(c.Tokens, row.Token)
			c.Secrets[row.Token.ID], err = tx.Secrets(row.Token.ID)
			note(err)
		}
		c.Roles, err = tx.Roles()
		note(err)
		c.Policies, err = tx.Policies()
		note(err)
		c.Scopes, err = tx.Scopes()
		note(err)
		c.MasterKeys, err = tx.MasterKeys()
		note(err)
		c.Nodes, err = tx.Nodes()
		note(err)
		_, err = tx.Attempt("operator", "POST /tokens", "k")
		c.Attempt = err == nil
		c.Head, err = tx.AuditHead()
		note(err)
		return errors.Join(errs...)
	})
	c.Position = b.position()
	return c
}
