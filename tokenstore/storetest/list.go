package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// list walks all pages of a query in one snapshot.
func (b *bench) list(q tokenstore.TokenQuery) []tokenstore.TokenRow {
	b.Helper()
	return get(b, func(tx *tokenstore.Tx) ([]tokenstore.TokenRow, error) { return b.listIn(tx, q) })
}

// listIn walks all pages of a query. A page may be short while there is more.
func (b *bench) listIn(tx *tokenstore.Tx, q tokenstore.TokenQuery) (rows []tokenstore.TokenRow, err error) {
	b.Helper()
	for range 10_000 {
		page, err := tx.Tokens(q)
		if err != nil {
			return nil, err
		}
		if q.Limit > 0 {
			require.LessOrEqual(b, len(page.Tokens), q.Limit)
		}
		rows = append(rows, page.Tokens...)
		if page.Next == "" {
			return rows, nil
		}
		q.Cursor = page.Next
	}
	b.Fatal("the list has no end")
	return nil, nil
}

func idsOf(rows []tokenstore.TokenRow) []token.ID {
	out := make([]token.ID, len(rows))
	for i, r := range rows {
		out[i] = r.Token.ID
	}
	return out
}

func listTests(s suite) {
	s.test("shows tokens newest first, each with its valid secrets, the current before the previous", func(b *bench) {
		account := b.account()
		i := b.issue(account.ID)
		previous := b.updateSecret(i.record, func(s *token.SecretRecord) {
			s.Status, s.ExpiresAt = token.Previous, Now().Add(time.Hour)
		})
		current, _ := b.addSecret(i.token.ID, func(*token.SecretRecord) {})
		b.addSecret(i.token.ID, func(s *token.SecretRecord) { s.Status = token.Retired })
		b.addSecret(i.token.ID, func(s *token.SecretRecord) { s.Status, s.ExpiresAt = token.Previous, Now() }) // just ended
		j := b.issue(account.ID)
		b.same([]tokenstore.TokenRow{
			{Token: j.token, Secrets: []token.SecretRecord{j.record}},
			{Token: b.token(i.token.ID), Secrets: []token.SecretRecord{current, previous}},
		}, b.list(tokenstore.TokenQuery{Now: Now()}))
	})

	s.test("of an empty store is empty", func(b *bench) {
		page := get(b, func(tx *tokenstore.Tx) (tokenstore.TokenPage, error) {
			return tx.Tokens(tokenstore.TokenQuery{Now: Now()})
		})
		require.Empty(b, page.Tokens)
		require.Empty(b, page.Next)
	})

	s.test("leaves deleted tokens out unless they are asked for", func(b *bench) {
		account := b.account()
		var ids []token.ID
		for _, state := range []token.State{token.Active, token.Disabled, token.Revoked, token.Deleted} {
			ids = append(ids, b.issue(account.ID, func(t *token.Token) { t.State = state }).token.ID)
		}
		require.Equal(b, []token.ID{ids[2], ids[1], ids[0]}, idsOf(b.list(tokenstore.TokenQuery{Now: Now()})))
		for n, state := range []token.State{token.Active, token.Disabled, token.Revoked, token.Deleted} {
			require.Equal(b, ids[n:n+1], idsOf(b.list(tokenstore.TokenQuery{Now: Now(), States: []token.State{state}})), state)
		}
		require.Equal(b, []token.ID{ids[3], ids[0]},
			idsOf(b.list(tokenstore.TokenQuery{Now: Now(), States: []token.State{token.Active, token.Deleted}})))
	})

	s.test("judges expiry at the time asked about, to the moment", func(b *bench) {
		policy := strictPolicy()
		policy.MaxLifetime = 2 * time.Hour
		b.write(func(tx *tokenstore.Tx) error { return tx.PutPolicy(&policy) })
		limited := b.account(func(a *token.Account) { a.Policy = policy.Name })
		end := Now().Add(time.Hour)
		own := b.issue(b.account().ID, func(t *token.Token) { t.ExpiresAt = end }).token.ID
		byPolicy := b.issue(limited.ID, func(t *token.Token) { t.LifetimeFrom = end.Add(-2 * time.Hour) }).token.ID
		both := b.issue(limited.ID, func(t *token.Token) {
			t.State, t.ExpiresAt, t.LifetimeFrom = token.Disabled, end, end
		}).token.ID
		never := b.issue(b.account().ID).token.ID

		active := tokenstore.TokenQuery{States: []token.State{token.Active, token.Disabled}}
		expired := tokenstore.TokenQuery{States: []token.State{token.Expired}}
		for _, c := range []struct {
			now             time.Time
			active, expired []token.ID
		}{
			{end.Add(-time.Microsecond), []token.ID{never, both, byPolicy, own}, []token.ID{}},
			{end, []token.ID{never}, []token.ID{both, byPolicy, own}},
		} {
			active.Now, expired.Now = c.now, c.now
			require.Equal(b, c.active, idsOf(b.list(active)))
			require.Equal(b, c.expired, idsOf(b.list(expired)))
		}

		before := tokenstore.TokenQuery{Now: Now(), ExpiresBefore: end}
		require.Empty(b, b.list(before), "at the moment is not before it")
		before.ExpiresBefore = end.Add(time.Microsecond)
		require.Equal(b, []token.ID{both, byPolicy, own}, idsOf(b.list(before)))
	})

	s.test("finds what was not used since a time, to the moment (S2)", func(b *bench) {
		account := b.account()
		since := Now().Add(time.Hour)
		made := func(at time.Time, uses ...time.Time) token.ID {
			b.Helper()
			i := b.issue(account.ID, func(t *token.Token) { t.CreatedAt = at })
			require.NoError(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error {
				if err := tx.BeginRun(token.Run{ID: "run_a", Node: "node", StartedAt: Now()}); err != nil {
					return err
				}
				a := token.Activity{Run: "run_a"}
				for _, use := range uses {
					a.Facts = append(a.Facts, token.Fact{
						TokenID: i.token.ID, SecretID: i.record.ID, First: use, Until: use.Add(24 * time.Hour),
						Scope: []token.Scope{{}, token.ReadScope}[len(a.Facts)%2],
					})
				}
				return tx.PutActivity(a)
			}))
			return i.token.ID
		}
		never := made(Now())
		before := made(Now(), since.Add(-time.Microsecond))
		made(Now(), since)
		made(Now(), Now(), since.Add(time.Hour)) // one scope not since, the other one
		made(since)
		q := tokenstore.TokenQuery{Now: Now(), LastUsedBefore: since}
		require.Equal(b, []token.ID{before, never}, idsOf(b.list(q)))
		q.Limit = 1
		require.Equal(b, []token.ID{before, never}, idsOf(b.list(q)), "in pages")
	})

	s.test("follows every filter, alone and with others, as the model says", func(b *bench) {
		seed := rand.Uint64()
		b.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 0))
		m := fillModel(b, r, 100)
		b.read(func(tx *tokenstore.Tx) error {
			for range 120 {
				q := m.query(r)
				got, err := b.listIn(tx, q)
				if err != nil {
					return err
				}
				b.same(m.answer(q), got, fmt.Sprintf("%+v", q))
			}
			return nil
		})
	})
}

// model is a store in memory, as slow and as plain as can be.
type model struct {
	policies map[token.ID]token.Policy // of accounts
	rows     []tokenstore.TokenRow     // with all secrets, newest first
	accounts []token.Account
	users    []token.User
	used     map[token.ID]time.Time // last
}

var modelNames = []string{
	"export", "Export", "EXPORTS", "ex", "éxport", "e\u0301xport", "ÉXPORT", "straße", "STRASSE", "100%", "100_", "a'b", `a"b`, `a\b`, "日本", "日本語", "zz", "\U0010FFFF!",
}

func fillModel(b *bench, r *rand.Rand, tokens int) *model {
	m := &model{policies: map[token.ID]token.Policy{}, used: map[token.ID]time.Time{}}
	for n, lifetime := range []time.Duration{0, 0, time.Hour, 24 * time.Hour} {
		p := strictPolicy()
		p.Name, p.MaxLifetime = fmt.Sprintf("policy-%d", n), lifetime
		b.write(func(tx *tokenstore.Tx) error { return tx.PutPolicy(&p) })
		a := b.account(func(a *token.Account) { a.Policy = p.Name })
		m.accounts, m.policies[a.ID] = append(m.accounts, a), p
		m.users = append(m.users, b.user(a.ID), b.user(a.ID))
	}
	moments := func() time.Time { return Now().Add(time.Duration(r.IntN(9)-4) * 30 * time.Minute) }
	b.write(func(tx *tokenstore.Tx) error {
		m.rows = nil
		if err := tx.BeginRun(token.Run{ID: "run_model", Node: "node", StartedAt: Now()}); err != nil {
			return err
		}
		for range tokens {
			n := r.IntN(len(m.accounts))
			t := Token(m.accounts[n].ID)
			t.Name = modelNames[r.IntN(len(modelNames))]
			t.State = []token.State{token.Active, token.Active, token.Disabled, token.Revoked, token.Deleted}[r.IntN(5)]
			if r.IntN(2) == 0 {
				t.UserID = m.users[2*n+r.IntN(2)].ID
			}
			if r.IntN(2) == 0 {
				t.ExpiresAt = moments()
			}
			t.LifetimeFrom, t.CreatedAt = moments(), moments()
			t.FreshOnly = r.IntN(2) == 0
			if r.IntN(2) == 0 {
				t.Grant = token.Grant{Access: token.Custom, Scopes: [][]string{{"a:read"}, {"a:read", "b:write"}, {"b:write"}, {"a:readx"}}[r.IntN(4)]}
			}
			if err := tx.InsertToken(&t); err != nil {
				return err
			}
			row := tokenstore.TokenRow{Token: t}
			for _, status := range []token.SecretStatus{token.Current, token.Previous, token.Retired}[:1+r.IntN(3)] {
				secret := newSecret(b, token.Production)
				s := Secret(t.ID, secret)
				s.Last4 = []string{"abcd", "ABCD", "zz", secret.Last4()}[r.IntN(4)]
				if s.Status = status; status == token.Previous && r.IntN(2) == 0 {
					s.ExpiresAt = moments()
				}
				if _, err := InsertSecret(tx, b.ring, &s, secret); err != nil {
					return err
				}
				row.Secrets = append(row.Secrets, s)
				if r.IntN(2) == 0 {
					continue
				}
				at := moments()
				if at.After(m.used[t.ID]) {
					m.used[t.ID] = at
				}
				fact := token.Fact{TokenID: t.ID, SecretID: s.ID, First: at, Until: at.Add(time.Minute)}
				if err := tx.PutActivity(token.Activity{Run: "run_model", Facts: []token.Fact{fact}}); err != nil {
					return err
				}
			}
			m.rows = slices.Insert(m.rows, 0, row)
		}
		return nil
	})
	return m
}

func (m *model) query(r *rand.Rand) tokenstore.TokenQuery {
	q := tokenstore.TokenQuery{
		Now:   Now().Add(time.Duration(r.IntN(5)-2) * 30 * time.Minute),
		Limit: []int{2, 7, 50, 200}[r.IntN(4)],
	}
	often := func() bool { return r.IntN(3) == 0 }
	if often() {
		q.AccountID = m.accounts[r.IntN(len(m.accounts))].ID
	}
	if often() {
		q.UserID = m.users[r.IntN(len(m.users))].ID
	}
	if often() {
		all := []token.State{token.Active, token.Disabled, token.Expired, token.Revoked, token.Deleted}
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		q.States = all[:1+r.IntN(len(all))]
	}
	if often() {
		q.Scope = []string{"a:read", "b:write", "c", "a"}[r.IntN(4)]
	}
	if often() {
		q.ExpiresBefore = Now().Add(time.Duration(r.IntN(9)-4)*30*time.Minute + time.Duration(r.IntN(3)-1)*time.Microsecond)
	}
	if often() {
		q.LastUsedBefore = Now().Add(time.Duration(r.IntN(9)-4)*30*time.Minute + time.Duration(r.IntN(3)-1)*time.Microsecond)
	}
	if often() {
		name := []rune(modelNames[r.IntN(len(modelNames))])
		q.Search = []string{
			string(name), string(name[:1+r.IntN(len(name))]), strings.ToUpper(string(name)), "abcd", "ABCD", "aBcD",
			string(m.rows[r.IntN(len(m.rows))].Token.ID), m.rows[r.IntN(len(m.rows))].Secrets[0].Last4,
		}[r.IntN(8)]
	}
	return q
}

func (m *model) answer(q tokenstore.TokenQuery) []tokenstore.TokenRow {
	var out []tokenstore.TokenRow
	for _, row := range m.rows {
		t, p := row.Token, m.policies[row.Token.AccountID]
		valid := tokenstore.TokenRow{Token: t}
		for _, s := range row.Secrets { // current, then previous, as they were made
			if s.ValidAt(q.Now) {
				valid.Secrets = append(valid.Secrets, s)
			}
		}
		state := t.StateAt(&p, q.Now)
		end := t.ExpiryUnder(&p)
		switch {
		case q.AccountID != "" && t.AccountID != q.AccountID,
			q.UserID != "" && t.UserID != q.UserID,
			len(q.States) == 0 && state == token.Deleted,
			len(q.States) > 0 && !slices.Contains(q.States, state),
			q.Scope != "" && !slices.Contains(t.Grant.Scopes, q.Scope),
			!q.ExpiresBefore.IsZero() && (end.IsZero() || !end.Before(q.ExpiresBefore)),
			!q.LastUsedBefore.IsZero() && (!t.CreatedAt.Before(q.LastUsedBefore) || !m.used[t.ID].Before(q.LastUsedBefore)),
			q.Search != "" && !found(valid, q.Search):
		default:
			out = append(out, valid)
		}
	}
	return out
}

func found(row tokenstore.TokenRow, search string) bool {
	return string(row.Token.ID) == search || strings.HasPrefix(anyCase(row.Token.Name), anyCase(search)) ||
		slices.ContainsFunc(row.Secrets, func(s token.SecretRecord) bool { return len(search) == 4 && s.Last4 == search })
}

func anyCase(s string) string { return norm.NFC.String(cases.Fold().String(norm.NFC.String(s))) }
