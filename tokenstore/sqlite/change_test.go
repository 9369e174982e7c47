package sqlite_test

import (
	"errors"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

var testTime = time.Date(2026, 3, 4, 5, 6, 7, 890_123_000, time.UTC)

// changeAll uses every method that writes, in one transaction, on a store that
// has none of these records yet.
func changeAll(ring *tokenstore.Ring) func(tx *tokenstore.Tx) error {
	key := ring.IDs()[0]
	return func(tx *tokenstore.Tx) error {
		account := token.Account{ID: "acc_x", Name: "X", Policy: "default", CreatedAt: testTime}
		user := token.User{ID: "usr_x", AccountID: account.ID, Name: "Ada", Role: "member", CreatedAt: testTime}
		tok := token.Token{
			ID: "tok_x", Name: "x", AccountID: account.ID, UserID: user.ID, Environment: token.Production, State: token.Active,
			Grant: token.Grant{Access: token.Custom, Scopes: []string{"read", "x:read"}}, CreatedAt: testTime, LifetimeFrom: testTime,
		}
		secret := token.SecretRecord{ID: "sec_x", TokenID: tok.ID, Last4: "abcd", Status: token.Current, CreatedAt: testTime}
		tx.Audit(tokenstore.AuditEntry{Verb: "all", Target: "x", AccountID: account.ID})
		tx.Audit(tokenstore.AuditEntry{Verb: "more", Target: "x", AccountID: account.ID})
		steps := []func() error{
			func() error { return tx.InsertAccount(&account) },
			func() error { return tx.UpdateAccount(&account) },
			func() error { return tx.InsertUser(&user) },
			func() error { return tx.UpdateUser(&user) },
			func() error { return tx.InsertToken(&tok) },
			func() error { return tx.InsertSecret(&secret, tokenstore.Lookup{1}, key) },
			func() error {
				tok.Grant.Scopes = []string{"x:read", "x:write"}
				tok.State = token.Disabled
				tok.FreshOnly = true
				return tx.UpdateToken(&tok)
			},
			func() error { return tx.PutHistory(tok.ID, tokenstore.History{ExemptReason: "x"}) },
			func() error { secret.Status = token.Previous; return tx.UpdateSecret(&secret) },
			func() error { return tx.MarkUsed(secret.ID, testTime) },
			func() error { return tx.Rekey(secret.ID, tokenstore.Lookup{1}, tokenstore.Lookup{2}, key) },
			func() error {
				return tx.PutRole(&token.Role{Name: "porter", Ceiling: token.Grant{Access: token.ReadOnly}})
			},
			func() error { p := token.DefaultPolicy(); p.Name = "other"; return tx.PutPolicy(&p) },
			func() error {
				return tx.PutScope(tokenstore.DeclaredScope{Scope: token.Scope{Name: "x:read", Nature: token.Read}})
			},
			func() error { return tx.DeleteScope("x:read") },
			func() error { return tx.PutMasterKey(tokenstore.MasterKey{ID: "k-more", CheckValue: "00"}) },
			func() error { return tx.DeleteMasterKey("k-more") },
			func() error {
				return tx.PutAttempt(tokenstore.Attempt{Actor: "a", Route: "r", Key: "k", CreatedAt: testTime})
			},
			func() error { return tx.PutNode(tokenstore.Node{ID: "n", Keys: map[string]string{key: "00"}}) },
			func() error { return tx.PutNode(tokenstore.Node{ID: "m"}) },
			func() error { return tx.DeleteNode("m") },
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	}
}

// untouched says whether nothing of changeAll is visible.
func untouched(tx *tokenstore.Tx) error {
	for what, err := range map[string]error{
		"account": second(tx.Account("acc_x")),
		"user":    second(tx.User("usr_x")),
		"token":   second(tx.Token("tok_x")),
		"role":    second(tx.Role("porter")),
		"policy":  second(tx.Policy("other")),
		"attempt": second(tx.Attempt("a", "r", "k")),
	} {
		if !errors.Is(err, tokenstore.ErrNotFound) {
			return errors.New(what + " is visible")
		}
	}
	nodes, err := tx.Nodes()
	if err != nil || len(nodes) > 0 {
		return errors.Join(err, errors.New("a node is visible"))
	}
	return nil
}

func second[T any](_ T, err error) error { return err }

func auditQueries() []tokenstore.AuditQuery {
	var out []tokenstore.AuditQuery
	for i := range 16 {
		var q tokenstore.AuditQuery
		if i&1 != 0 {
			q.AccountID = "acc_x"
		}
		if i&2 != 0 {
			q.Target = "x"
		}
		if i&4 != 0 {
			q.Verb = "all"
		}
		if i&8 != 0 {
			q.After, q.Before = testTime, time.Now()
		}
		out = append(out, q)
	}
	return out
}
