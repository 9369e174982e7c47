package storetest

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// pager is a list that pages: one page of IDs, newest first.
type pager func(tx *tokenstore.Tx, p tokenstore.Page) (ids []string, next string, err error)

// pagers are all lists that page. Each shows the records that fill makes.
func pagers(b *bench, account token.ID) map[string]pager {
	primary := b.primary()
	return map[string]pager{
		"tokens": func(tx *tokenstore.Tx, p tokenstore.Page) (ids []string, next string, err error) {
			page, err := tx.Tokens(tokenstore.TokenQuery{AccountID: account, Now: Now(), Cursor: p.Cursor, Limit: p.Limit})
			for _, row := range page.Tokens {
				ids = append(ids, string(row.Token.ID))
			}
			return ids, page.Next, err
		},
		"tokens by name": func(tx *tokenstore.Tx, p tokenstore.Page) (ids []string, next string, err error) {
			page, err := tx.Tokens(tokenstore.TokenQuery{Search: "NIGHTLY", Now: Now(), Cursor: p.Cursor, Limit: p.Limit})
			for _, row := range page.Tokens {
				ids = append(ids, string(row.Token.ID))
			}
			return ids, page.Next, err
		},
		"accounts": func(tx *tokenstore.Tx, p tokenstore.Page) (ids []string, next string, err error) {
			accounts, next, err := tx.Accounts(p)
			for _, a := range accounts {
				ids = append(ids, string(a.ID))
			}
			return ids, next, err
		},
		"users": func(tx *tokenstore.Tx, p tokenstore.Page) (ids []string, next string, err error) {
			users, next, err := tx.Users("", p)
			for _, u := range users {
				ids = append(ids, string(u.ID))
			}
			return ids, next, err
		},
		"users of an account": func(tx *tokenstore.Tx, p tokenstore.Page) (ids []string, next string, err error) {
			users, next, err := tx.Users(account, p)
			for _, u := range users {
				ids = append(ids, string(u.ID))
			}
			return ids, next, err
		},
		"tokens under a key": func(tx *tokenstore.Tx, p tokenstore.Page) (ids []string, next string, err error) {
			tokens, next, err := tx.TokensUnderKey(primary, p)
			for _, t := range tokens {
				ids = append(ids, string(t.ID))
			}
			return ids, next, err
		},
		"audit entries": func(tx *tokenstore.Tx, p tokenstore.Page) (ids []string, next string, err error) {
			entries, next, err := tx.AuditEntries(tokenstore.AuditQuery{Target: "test", Page: p})
			for _, e := range entries {
				ids = append(ids, fmt.Sprint(e.Seq))
			}
			return ids, next, err
		},
	}
}

// fill makes records for all pagers, and gives the account that they are of.
func fill(b *bench, n int) token.ID {
	account := b.account()
	b.more(account.ID, n)
	return account.ID
}

// more adds records that stand before those that are there.
func (b *bench) more(account token.ID, n int) {
	b.Helper()
	b.write(func(tx *tokenstore.Tx) error {
		for range n {
			a, u, t := Account(), User(account), Token(account)
			secret := newSecret(b, t.Environment)
			record := Secret(t.ID, secret)
			if err := errors.Join(tx.InsertAccount(&a), tx.InsertUser(&u), tx.InsertToken(&t)); err != nil {
				return err
			}
			if _, err := InsertSecret(tx, b.ring, &record, secret); err != nil {
				return err
			}
			tx.Audit(Entry())
		}
		return nil
	})
}

// walk reads all pages. between runs after each but the last.
func (b *bench) walk(list pager, limit int, between func()) []string {
	b.Helper()
	var all []string
	p := tokenstore.Page{Limit: limit}
	for range 10_000 {
		var ids []string
		var next string
		b.read(func(tx *tokenstore.Tx) (err error) {
			ids, next, err = list(tx, p)
			return err
		})
		if limit > 0 {
			require.LessOrEqual(b, len(ids), limit)
		}
		all = append(all, ids...)
		if next == "" {
			return all
		}
		p.Cursor = next
		between()
	}
	b.Fatal("the list has no end")
	return nil
}

func pageTests(s suite) {
	s.test("show every record once, newest first, whatever the limit", func(b *bench) {
		const n = 12
		account := fill(b, n)
		for name, list := range pagers(b, account) {
			whole := b.walk(list, tokenstore.MaxLimit, func() {})
			require.GreaterOrEqual(b, len(whole), n, name)
			seen := slices.Clone(whole)
			slices.Sort(seen)
			require.Len(b, slices.Compact(seen), len(whole), "%s: every one once", name)
			for _, limit := range []int{1, 2, 5, n - 1, n, n + 1} {
				require.Equal(b, whole, b.walk(list, limit, func() {}), "%s by %d", name, limit)
			}
		}
	})

	s.test("show what was there all the time exactly once, while records come and go in between", func(b *bench) {
		account := fill(b, 12)
		for name, list := range pagers(b, account) {
			whole := b.walk(list, tokenstore.MaxLimit, func() {})
			got := b.walk(list, 3, func() { b.more(account, 1) })
			require.Equal(b, whole, got, "%s: newer ones do not push those along that are still to come", name)
		}

		// Records that leave the list: tokens that are deleted.
		list := pagers(b, account)["tokens"]
		whole := b.walk(list, tokenstore.MaxLimit, func() {})
		left := map[string]bool{}
		got := b.walk(list, 3, func() {
			for _, at := range []int{1, len(whole) - 1 - len(left)} { // one that was shown, one that is to come
				if id := whole[at]; !left[id] {
					left[id] = true
					b.updateToken(b.token(token.ID(id)), func(t *token.Token) { t.State = token.Deleted })
				}
			}
		})
		seen := map[string]int{}
		for _, id := range got {
			seen[id]++
			require.Equal(b, 1, seen[id])
		}
		for _, id := range whole {
			if !left[id] {
				require.Equal(b, 1, seen[id], "one that stayed")
			}
		}
	})

	s.test("have a limit of their own unless one is asked for, and one that nobody passes", func(b *bench) {
		account := fill(b, tokenstore.MaxLimit+3)
		for name, list := range pagers(b, account) {
			for _, limit := range []int{0, -1, math.MinInt} {
				b.read(func(tx *tokenstore.Tx) error {
					ids, next, err := list(tx, tokenstore.Page{Limit: limit})
					require.Len(b, ids, tokenstore.DefaultLimit, name)
					require.NotEmpty(b, next, name)
					return err
				})
			}
			b.read(func(tx *tokenstore.Tx) error {
				ids, next, err := list(tx, tokenstore.Page{Limit: math.MaxInt})
				require.Len(b, ids, tokenstore.MaxLimit, name)
				require.NotEmpty(b, next, name)
				return err
			})
		}
	})

	s.test("take no cursor but their own", func(b *bench) {
		account := fill(b, 3)
		lists := pagers(b, account)
		cursors := map[string]string{}
		for name, list := range lists {
			b.read(func(tx *tokenstore.Tx) (err error) {
				_, cursors[name], err = list(tx, tokenstore.Page{Limit: 1})
				require.NotEmpty(b, cursors[name], name)
				return err
			})
		}
		refused := func(name, cursor, about string) {
			b.Helper()
			err := b.store.Read(b.ctx, func(tx *tokenstore.Tx) error {
				ids, _, err := lists[name](tx, tokenstore.Page{Cursor: cursor})
				require.Empty(b, ids)
				return err
			})
			require.ErrorIs(b, err, tokenstore.ErrBadCursor, "%s with %s", name, about)
			require.NotContains(b, err.Error(), cursor, "an error repeats nothing")
		}
		for name := range lists {
			own := cursors[name]
			for other, cursor := range cursors {
				if other != name {
					refused(name, cursor, "the cursor of "+other)
				}
			}
			for about, cursor := range map[string]string{
				"a word":           "next",
				"a number":         "1",
				"what is no text":  "\x00\xff",
				"base64 of a word": base64.RawURLEncoding.EncodeToString([]byte("a word")),
				"base64 of JSON":   base64.RawURLEncoding.EncodeToString([]byte(`{"id":"tok_1"}`)),
				"half of its own":  own[:len(own)/2],
				"its own and more": own + "A",
				"its own in space": " " + own,
				"its own, twice":   own + own,
				"a long text":      strings.Repeat("A", 1<<20),
			} {
				refused(name, cursor, about)
			}
		}
	})

	s.test("take a cursor with the filters that it was made with only", func(b *bench) {
		account := fill(b, 3)
		var next string
		b.read(func(tx *tokenstore.Tx) error {
			page, err := tx.Tokens(tokenstore.TokenQuery{AccountID: account, Limit: 1, Now: Now()})
			next = page.Next
			return err
		})
		for name, q := range map[string]tokenstore.TokenQuery{
			"no filter":       {},
			"another account": {AccountID: ID("acc")},
			"one filter more": {AccountID: account, Search: "nightly"},
		} {
			q.Cursor, q.Now = next, Now()
			require.ErrorIs(b, b.store.Read(b.ctx, func(tx *tokenstore.Tx) error {
				_, err := tx.Tokens(q)
				return err
			}), tokenstore.ErrBadCursor, name)
		}
		b.read(func(tx *tokenstore.Tx) error { // later, and by another limit: the same list
			page, err := tx.Tokens(tokenstore.TokenQuery{AccountID: account, Limit: 2, Now: Now().AddDate(1, 0, 0), Cursor: next})
			require.Len(b, page.Tokens, 2)
			return err
		})
	})
}
