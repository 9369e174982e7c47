package storetest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

func tokenTests(s suite) {
	s.test("comes back with every field that it was stored with", func(b *bench) {
		account := b.account()
		user := b.user(account.ID)
		for name, change := range map[string]func(*token.Token){
			"plain":          func(*token.Token) {},
			"full":           fullToken,
			"of a user":      func(t *token.Token) { t.UserID = user.ID },
			"read only":      func(t *token.Token) { t.Grant.Access = token.ReadOnly },
			"fresh only":     func(t *token.Token) { t.FreshOnly = true },
			"in sandbox":     func(t *token.Token) { t.Environment = token.Sandbox },
			"born ended":     func(t *token.Token) { t.State, t.EndedAt, t.EndReason = token.Deleted, Now(), "imported so" },
			"with scopes":    func(t *token.Token) { t.Grant = manyScopes() },
			"with addresses": func(t *token.Token) { t.AllowList = manyAddresses() },
			"open to all": func(t *token.Token) {
				var err error
				t.AllowList, err = token.ParseAllowList([]string{"0.0.0.0/0", "::/0"}, true)
				require.NoError(b, err)
			},
		} {
			i := b.issue(account.ID, change)
			b.same(i.token, b.token(i.token.ID), name)
			b.same(i.token, b.lookup(i.lookup).Token, name)
		}
	})

	s.test("takes a change of everything that may change", func(b *bench) {
		i := b.issue(b.account().ID, func(t *token.Token) { t.Environment = token.Sandbox })
		t := b.updateToken(i.token, func(t *token.Token) {
			fullToken(t)
			t.State, t.EndedAt, t.EndReason = token.Revoked, Now().Add(time.Hour), "leaked"
		})
		b.same(t, b.token(t.ID))
		t = b.updateToken(t, func(t *token.Token) {
			t.Name, t.Grant, t.AllowList = "plain again", token.Grant{Access: token.ReadOnly}, token.AllowList{}
			t.ExpiresAt, t.EndedAt, t.EndReason, t.State = time.Time{}, time.Time{}, "", token.Active
			t.FreshOnly = false
		})
		b.same(t, b.token(t.ID))
	})

	s.test("keeps its account, its user, its environment and its creation", func(b *bench) {
		account, other := b.account(), b.account()
		user := b.user(account.ID)
		i := b.issue(account.ID, func(t *token.Token) { t.UserID = user.ID })
		for name, change := range map[string]func(*token.Token){
			"account":     func(t *token.Token) { t.AccountID = other.ID },
			"user":        func(t *token.Token) { t.UserID = "" },
			"environment": func(t *token.Token) { t.Environment = token.Sandbox },
			"creation":    func(t *token.Token) { t.CreatedAt = Now().Add(time.Hour) },
		} {
			t := i.token
			change(&t)
			require.Error(b, b.attempt(func(tx *tokenstore.Tx) error { return tx.UpdateToken(&t) }), name)
			b.same(i.token, b.token(i.token.ID), name)
		}
	})

	s.test("belongs to an account that is there, and to a user of that account", func(b *bench) {
		account, other := b.account(), b.account()
		user := b.user(other.ID)
		for name, change := range map[string]func(*token.Token){
			"no such account":         func(t *token.Token) { t.AccountID = ID("acc") },
			"no account":              func(t *token.Token) { t.AccountID = "" },
			"no such user":            func(t *token.Token) { t.UserID = ID("usr") },
			"user of another account": func(t *token.Token) { t.UserID = user.ID },
		} {
			t := Token(account.ID)
			change(&t)
			err := b.attempt(func(tx *tokenstore.Tx) error { return tx.InsertToken(&t) })
			require.ErrorIs(b, err, tokenstore.ErrNotFound, name)
			require.ErrorIs(b, getErr(b, func(tx *tokenstore.Tx) (token.Token, error) { return tx.Token(t.ID) }), tokenstore.ErrNotFound)
		}
	})

	s.test("is refused with a value that has no name", func(b *bench) {
		i := b.issue(b.account().ID)
		for name, change := range map[string]func(*token.Token){
			"no access":      func(t *token.Token) { t.Grant.Access = 0 },
			"access 9":       func(t *token.Token) { t.Grant.Access = 9 },
			"no environment": func(t *token.Token) { t.Environment = 0 },
			"no state":       func(t *token.Token) { t.State = 0 },
			"state 9":        func(t *token.Token) { t.State = 9 },
			"expired, which is judged and not stored": func(t *token.Token) { t.State = token.Expired },
		} {
			t := Token(i.token.AccountID)
			change(&t)
			require.Error(b, b.attempt(func(tx *tokenstore.Tx) error { return tx.InsertToken(&t) }), name)
			t = i.token
			change(&t)
			require.Error(b, b.attempt(func(tx *tokenstore.Tx) error { return tx.UpdateToken(&t) }), name)
		}
		b.same(i.token, b.token(i.token.ID))
	})
}

// manyScopes is as many as a token may have, as long as they may be.
func manyScopes() token.Grant {
	g := token.Grant{Access: token.Custom}
	for n := range token.MaxScopes {
		name := make([]byte, token.MaxScopeLength)
		for i := range name {
			name[i] = '!'
		}
		copy(name, []byte{byte('0' + n/100), byte('0' + n/10%10), byte('0' + n%10)})
		g.Scopes = append(g.Scopes, string(name))
	}
	return g
}

// manyAddresses is as many as a token may have.
func manyAddresses() token.AllowList {
	entries := make([]string, token.MaxAllowList)
	for n := range entries {
		// Every other address, so that none can be joined.
		entries[n] = "2001:db8:" + hexWord(n*2) + "::1"
	}
	l, err := token.ParseAllowList(entries, false)
	if err != nil {
		panic(err)
	}
	return l
}

func hexWord(n int) string {
	const digits = "0123456789abcdef"
	return string([]byte{'1', digits[n>>8&15], digits[n>>4&15], digits[n&15]})
}
