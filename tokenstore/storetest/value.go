package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// oddTexts are texts that people type, paste and attack with. All of them are
// valid, and come back as they were.
var oddTexts = []string{
	"", " ", "  two  spaces  ", "\ttab and\nline end\r\n",
	`quote ' and " and \ and ` + "`", `'; DROP TABLE tokens; --`, `%`, `_`, `100% of_it`, `$1 ?1 :a @b`,
	"Ünïcødé", "U\u0308 decomposed", "日本語", "🏰🗝️", "\u202eright to left", "zero\u200bwidth", "\uFEFFmark", "\U0010FFFF",
	"<script>alert(1)</script>", "=1+1", strings.Repeat("长", 5000),
}

// brokenTexts are none: one database refuses them, the next takes them and gives
// back something else.
var brokenTexts = map[string]string{
	"NUL":                     "before\x00after",
	"a byte that is no UTF-8": "before\xffafter",
	"a cut character":         "日本"[:4],
	"a surrogate":             "\xed\xa0\x80",
	"an overlong form":        "\xc0\xaf",
}

// texts puts one text into every field that holds one.
func texts(b *bench, account token.Account, text string) map[string]func(tx *tokenstore.Tx) error {
	return map[string]func(tx *tokenstore.Tx) error{
		"account name": func(tx *tokenstore.Tx) error { a := Account(); a.Name = text; return tx.InsertAccount(&a) },
		"user name":    func(tx *tokenstore.Tx) error { u := User(account.ID); u.Name = text; return tx.InsertUser(&u) },
		"user email":   func(tx *tokenstore.Tx) error { u := User(account.ID); u.Email = text; return tx.InsertUser(&u) },
		"token name":   func(tx *tokenstore.Tx) error { t := Token(account.ID); t.Name = text; return tx.InsertToken(&t) },
		"end reason":   func(tx *tokenstore.Tx) error { t := Token(account.ID); t.EndReason = text; return tx.InsertToken(&t) },
		"role name": func(tx *tokenstore.Tx) error {
			return tx.PutRole(&token.Role{Name: text, Ceiling: token.Grant{Access: token.ReadOnly}})
		},
		"attempt key":   func(tx *tokenstore.Tx) error { a := attempt("k"); a.Key = text; return tx.PutAttempt(a) },
		"attempt actor": func(tx *tokenstore.Tx) error { a := attempt("k"); a.Actor = text; return tx.PutAttempt(a) },
		"node ID":       func(tx *tokenstore.Tx) error { return tx.PutNode(node(text)) },
		"audit target":  func(tx *tokenstore.Tx) error { e := Entry(); e.Target = text; tx.Audit(e); return nil },
		"audit actor":   func(tx *tokenstore.Tx) error { e := Entry(); e.Actor.Name = text; tx.Audit(e); return nil },
		"audit request": func(tx *tokenstore.Tx) error { e := Entry(); e.RequestID = text; tx.Audit(e); return nil },
		"audit before":  func(tx *tokenstore.Tx) error { e := Entry(); e.Before = []byte(text); tx.Audit(e); return nil },
	}
}

func valueTests(s suite) {
	s.test("keeps every text as it is", func(b *bench) {
		for _, text := range oddTexts {
			a := b.account(func(a *token.Account) { a.Name = text })
			u := b.user(a.ID, func(u *token.User) {
				u.Name, u.Email, u.BusinessUnits = text, text, []string{text, "", text}
			})
			i := b.issue(a.ID, func(t *token.Token) { t.Name, t.EndReason = text, text })
			at := attempt(text)
			at.Actor, at.Route = text, text
			e := Entry()
			e.Actor.Name, e.Actor.Address, e.Verb, e.Target = text, text, text, text
			e.RequestID, e.Before, e.After = text, []byte(text), []byte(text)
			n := node("node " + text)
			b.write(func(tx *tokenstore.Tx) error {
				tx.Audit(e)
				if err := tx.PutNode(n); err != nil {
					return err
				}
				return tx.PutAttempt(at)
			})

			b.same(a, get(b, func(tx *tokenstore.Tx) (token.Account, error) { return tx.Account(a.ID) }))
			b.same(u, get(b, func(tx *tokenstore.Tx) (token.User, error) { return tx.User(u.ID) }))
			b.same(i.token, b.token(i.token.ID))
			b.same(i.token, b.lookup(i.lookup).Token)
			b.same(at, get(b, func(tx *tokenstore.Tx) (tokenstore.Attempt, error) { return tx.Attempt(text, text, text) }))
			require.Contains(b, get(b, (*tokenstore.Tx).Nodes), n)
			got := b.auditEntries(tokenstore.AuditQuery{Page: tokenstore.Page{Limit: 2}})[1] // the newest is attempt's own
			b.same(e, unsealed(got))
		}
	})

	s.test("refuses texts that are no UTF-8 or hold NUL, and leaves nothing behind (D15)", func(b *bench) {
		account := b.account()
		for name, text := range brokenTexts {
			for field, write := range texts(b, account, text) {
				before := b.snapshot()
				require.Error(b, b.attempt(write), "%s in %s", name, field)
				b.same(before, b.snapshot(), name, " in ", field)
			}
		}
		for field, write := range texts(b, account, "fine") {
			require.NoError(b, b.attempt(write), field)
		}
	})

	s.test("finds nothing under such texts, and survives them", func(b *bench) {
		account := b.account()
		b.issue(account.ID)
		for name, text := range brokenTexts {
			for what, read := range map[string]func(tx *tokenstore.Tx) (int, error){
				"token":   func(tx *tokenstore.Tx) (int, error) { _, err := tx.Token(token.ID(text)); return 0, err },
				"account": func(tx *tokenstore.Tx) (int, error) { _, err := tx.Account(token.ID(text)); return 0, err },
				"policy":  func(tx *tokenstore.Tx) (int, error) { _, err := tx.Policy(text); return 0, err },
				"attempt": func(tx *tokenstore.Tx) (int, error) { _, err := tx.Attempt(text, text, text); return 0, err },
				"secrets": func(tx *tokenstore.Tx) (int, error) { s, err := tx.Secrets(token.ID(text)); return len(s), err },
				"search": func(tx *tokenstore.Tx) (int, error) {
					p, err := tx.Tokens(tokenstore.TokenQuery{Search: text, Now: Now()})
					return len(p.Tokens), err
				},
				"scope": func(tx *tokenstore.Tx) (int, error) {
					p, err := tx.Tokens(tokenstore.TokenQuery{Scope: text, Now: Now()})
					return len(p.Tokens), err
				},
				"audit target": func(tx *tokenstore.Tx) (int, error) {
					e, _, err := tx.AuditEntries(tokenstore.AuditQuery{Target: text})
					return len(e), err
				},
			} {
				var found int
				err := b.store.Read(b.ctx, func(tx *tokenstore.Tx) (err error) { found, err = read(tx); return err })
				require.Zero(b, found, "%s in %s", name, what)
				require.NotErrorIs(b, err, tokenstore.ErrUnavailable, "%s in %s: it is the caller's mistake", name, what)
			}
		}
		b.account()
	})

	s.test("keeps times to the microsecond, and no time as none", func(b *bench) {
		for _, at := range []time.Time{
			{},
			time.Date(2026, 2, 28, 23, 59, 59, 999_999_000, time.UTC),
			time.Date(2028, 2, 29, 0, 0, 0, 1_000, time.UTC),
			time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC),
			time.Date(1, 1, 1, 0, 0, 0, 1_000, time.UTC),
			time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC),
		} {
			about := fmt.Sprint(at)
			a := b.account(func(a *token.Account) { a.CreatedAt, a.UpdatedAt = at, at })
			b.same(a, get(b, func(tx *tokenstore.Tx) (token.Account, error) { return tx.Account(a.ID) }), about)
			u := b.user(a.ID, func(u *token.User) { u.CreatedAt, u.UpdatedAt = at, at })
			b.same(u, get(b, func(tx *tokenstore.Tx) (token.User, error) { return tx.User(u.ID) }), about)

			t := Token(a.ID)
			t.CreatedAt, t.UpdatedAt, t.ExpiresAt, t.LifetimeFrom, t.EndedAt = at, at, at, at, at
			secret := newSecret(b, token.Production)
			record := Secret(t.ID, secret)
			record.CreatedAt, record.ExpiresAt, record.RetryUntil, record.FirstUsed = at, at, at, at
			b.write(func(tx *tokenstore.Tx) error {
				if err := tx.InsertToken(&t); err != nil {
					return err
				}
				_, err := InsertSecret(tx, b.ring, &record, secret)
				return err
			})
			b.same(t, b.token(t.ID), about)
			b.same([]token.SecretRecord{record}, b.secrets(t.ID), about)

			k := masterKey("k-other")
			k.AddedAt = at
			n := node("n")
			n.StartedAt, n.SeenAt = at, at
			b.write(func(tx *tokenstore.Tx) error {
				if err := tx.PutNode(n); err != nil {
					return err
				}
				return tx.PutMasterKey(k)
			})
			require.Contains(b, get(b, (*tokenstore.Tx).MasterKeys), k)
			b.same([]tokenstore.Node{n}, get(b, (*tokenstore.Tx).Nodes), about)
		}
	})

	s.test("gives times in UTC, without what is less than a microsecond", func(b *bench) {
		zone := time.FixedZone("elsewhere", 3*60*60)
		a := b.account(func(a *token.Account) { a.CreatedAt = Now().In(zone).Add(999 * time.Nanosecond) })
		a.CreatedAt = Now()
		got := get(b, func(tx *tokenstore.Tx) (token.Account, error) { return tx.Account(a.ID) })
		b.same(a, got)
		require.Equal(b, time.UTC, got.CreatedAt.Location())
	})
}
