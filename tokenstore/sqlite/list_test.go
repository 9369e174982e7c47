package sqlite_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ncruces/go-sqlite3/driver"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
)

// The lists choose between several indexes, by how much each would find, and end
// a page early when it found little of much. Here every list is long in relation
// to what a page may look at, so that all of that happens.
const (
	listed = 3_000
	budget = 100
)

func allTokens(t *testing.T, s *sqlite.Store, q tokenstore.TokenQuery) (rows []tokenstore.TokenRow, pages int) {
	t.Helper()
	for {
		var page tokenstore.TokenPage
		require.NoError(t, s.Read(t.Context(), func(tx *tokenstore.Tx) (err error) {
			page, err = tx.Tokens(q)
			return err
		}))
		pages++
		rows = append(rows, page.Tokens...)
		if page.Next == "" {
			return rows, pages
		}
		require.Less(t, pages, listed, "the pages have no end")
		q.Cursor = page.Next
	}
}

var everyState = []token.State{token.Active, token.Disabled, token.Expired, token.Revoked, token.Deleted}

// wanted is what a query asks for, as its documentation says it.
func wanted(q *tokenstore.TokenQuery, row *tokenstore.TokenRow, p *token.Policy) bool {
	states := q.States
	if len(states) == 0 {
		states = everyState[:4]
	}
	end := row.Token.ExpiryUnder(p)
	return slices.Contains(states, row.Token.StateAt(p, q.Now)) &&
		(q.AccountID == "" || row.Token.AccountID == q.AccountID) &&
		(q.UserID == "" || row.Token.UserID == q.UserID) &&
		(q.Scope == "" || slices.Contains(row.Token.Grant.Scopes, q.Scope)) &&
		(q.ExpiresBefore.IsZero() || !end.IsZero() && end.Before(q.ExpiresBefore)) &&
		(q.LastUsedBefore.IsZero() || row.Token.CreatedAt.Before(q.LastUsedBefore)) &&
		(q.Search == "" || string(row.Token.ID) == q.Search ||
			strings.HasPrefix(strings.ToLower(row.Token.Name), strings.ToLower(q.Search)) ||
			slices.ContainsFunc(row.Secrets, func(s token.SecretRecord) bool { return s.Last4 == q.Search && s.ValidAt(q.Now) }))
}

func TestListsFindWhatTheirFiltersSayWhicheverIndexTheyTake(t *testing.T) {
	sequential(t)
	path := filepath.Join(t.TempDir(), "s.db")
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: newRing(t), ScanBudget: budget})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	fill(t, path, listed)
	policies := map[token.ID]*token.Policy{}
	limited := token.DefaultPolicy()
	limited.Name, limited.MaxLifetime = "limited", listed/2*time.Second
	unlimited := token.DefaultPolicy()
	require.NoError(t, s.Write(t.Context(), func(tx *tokenstore.Tx) error {
		tx.Audit(tokenstore.AuditEntry{Verb: "policy.assign"})
		require.NoError(t, tx.PutPolicy(&limited))
		for i := range 1000 {
			id := token.ID(fmt.Sprintf("acc_%04d", i))
			policies[id] = &unlimited
			if i%7 == 0 {
				a, err := tx.Account(id)
				require.NoError(t, err)
				a.Policy = limited.Name
				require.NoError(t, tx.UpdateAccount(&a))
				policies[id] = &limited
			}
		}
		return nil
	}))
	all, pages := allTokens(t, s, tokenstore.TokenQuery{States: everyState, Limit: tokenstore.MaxLimit})
	require.Len(t, all, listed)
	require.Equal(t, listed/tokenstore.MaxLimit, pages)

	end := fillStart.Add(listed * time.Second)
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	check := func(q tokenstore.TokenQuery) {
		t.Helper()
		var want, got []token.ID
		for i := range all {
			if wanted(&q, &all[i], policies[all[i].Token.AccountID]) {
				want = append(want, all[i].Token.ID)
			}
		}
		rows, pages := allTokens(t, s, q)
		for _, row := range rows {
			got = append(got, row.Token.ID)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%+v: differs (-want +got):\n%.2000s", q, diff)
		}
		// A page is never short without having used its budget.
		require.LessOrEqual(t, pages, len(want)/q.Limit+1+2*len(everyState)*listed/budget, "%+v", q)
	}
	for _, q := range listQueries(listed) {
		q.Limit = 200
		check(q)
	}
	for range 150 {
		q := tokenstore.TokenQuery{Now: end.Add(-time.Duration(random.IntN(listed)) * time.Second), Limit: 5 + random.IntN(196)}
		for range random.IntN(5) {
			q.States = append(q.States, everyState[random.IntN(len(everyState))])
		}
		if random.IntN(3) == 0 {
			q.AccountID = token.ID(pick("acc_0000", "acc_0003", "acc_0007", "acc_none"))
		}
		if random.IntN(4) == 0 {
			q.UserID = token.ID(pick("usr_0000", "usr_none"))
		}
		if random.IntN(3) == 0 {
			q.Scope = pick("payments:read", "odd", "rarely", "nothing")
		}
		if random.IntN(3) == 0 {
			q.Search = pick("common", "RARE", "r", "common 11", string(filledToken(random.IntN(listed))), "0007", "none", "n\x00ne", "\xff")
		}
		if random.IntN(4) == 0 {
			// None of them was ever used, so that when it was made decides.
			q.LastUsedBefore = end.Add(-time.Duration(random.IntN(2*listed)) * time.Second)
		}
		if random.IntN(4) == 0 {
			q.ExpiresBefore = end.Add(-time.Duration(random.IntN(2*listed)) * time.Second)
		}
		check(q)
	}
}

func TestAPageEndsWhenItsBudgetIsUsedAndTheNextGoesOnThere(t *testing.T) {
	sequential(t)
	path := filepath.Join(t.TempDir(), "s.db")
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: newRing(t), ScanBudget: budget})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	fill(t, path, listed)
	// A tenth of all tokens is the account's, half of them have the scope, and no
	// token is both.
	for _, states := range [][]token.State{nil, {token.Deleted}, {token.Deleted, token.Revoked}} {
		rows, pages := allTokens(t, s, tokenstore.TokenQuery{AccountID: "acc_0000", Scope: "odd", States: states})
		require.Empty(t, rows)
		require.Greater(t, pages, 1)
	}
}

func TestListsFollowTheScopesOfATokenThatIsEdited(t *testing.T) {
	path, ring := closedStore(t)
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	holds := func(scope string) bool {
		rows, _ := allTokens(t, s, tokenstore.TokenQuery{Scope: scope})
		return len(rows) == 1
	}
	require.False(t, holds("read"), "taken away when it was made")
	require.True(t, holds("x:write"))
	edit := func(access token.Access, scopes ...string) {
		require.NoError(t, s.Write(t.Context(), func(tx *tokenstore.Tx) error {
			tx.Audit(tokenstore.AuditEntry{Verb: "token.edit"})
			tok, err := tx.Token("tok_x")
			if err != nil {
				return err
			}
			tok.Grant = token.Grant{Access: access, Scopes: scopes}
			return tx.UpdateToken(&tok)
		}))
	}
	edit(token.Custom, "x:admin", "x:write")
	require.True(t, holds("x:write"))
	require.True(t, holds("x:admin"))
	require.False(t, holds("x:read"))
	edit(token.ReadOnly)
	require.False(t, holds("x:write"))
	require.False(t, holds("x:admin"))
}

func TestAuditListsFindWhatTheirFiltersSayWhicheverIndexTheyTake(t *testing.T) {
	sequential(t)
	path := filepath.Join(t.TempDir(), "s.db")
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{ScanBudget: budget}) // without a ring no entry is made
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	pool, err := driver.Open("file:" + path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	// Every 300 entries the clock is set back by more than that.
	_, err = pool.ExecContext(t.Context(), fmt.Sprintf(`WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO audit SELECT i, ?1 + (i - i / 300 * 500) * 1000000, 'operator', '', 0, '',
			CASE WHEN i %% 500 = 5 THEN 'rare' ELSE 'common' END,
			CASE WHEN i %% 5 = 0 THEN 'tok_often' ELSE 'tok_' || i END,
			CASE WHEN i %% 3 = 0 THEN 'acc_third' ELSE 'acc_' || i END,
			'', '', '', '', zeroblob(32), zeroblob(32) FROM n`, listed), fillStart.UnixMicro())
	require.NoError(t, err)

	list := func(q tokenstore.AuditQuery) (entries []tokenstore.AuditEntry) {
		t.Helper()
		for range listed {
			var page []tokenstore.AuditEntry
			var next string
			require.NoError(t, s.Read(t.Context(), func(tx *tokenstore.Tx) (err error) {
				page, next, err = tx.AuditEntries(q)
				return err
			}))
			entries = append(entries, page...)
			if next == "" {
				return entries
			}
			q.Cursor = next
		}
		t.Fatal("the pages have no end")
		return nil
	}
	all := list(tokenstore.AuditQuery{Page: tokenstore.Page{Limit: tokenstore.MaxLimit}})
	require.Len(t, all, listed)
	require.True(t, slices.IsSortedFunc(all, func(a, b tokenstore.AuditEntry) int { return int(b.Seq - a.Seq) }))

	random := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		q := tokenstore.AuditQuery{Page: tokenstore.Page{Limit: 1 + random.IntN(200)}}
		pick := func(of ...string) string { return of[random.IntN(len(of))] }
		q.Verb = pick("", "common", "common", "rare", "none")
		q.Target = pick("", "", "tok_often", "tok_often", "tok_77", "none")
		q.AccountID = token.ID(pick("", "", "acc_third", "acc_third", "acc_77", "none"))
		if random.IntN(4) == 0 {
			q.After = fillStart.Add(time.Duration(random.IntN(listed)) * time.Second)
		}
		if random.IntN(4) == 0 {
			q.Before = fillStart.Add(time.Duration(random.IntN(listed)) * time.Second)
		}
		var want []int64
		matching := slices.Clone(all)
		if !q.After.IsZero() || !q.Before.IsZero() {
			slices.SortStableFunc(matching, func(a, b tokenstore.AuditEntry) int { return b.At.Compare(a.At) })
		}
		for _, e := range matching {
			if (q.Verb == "" || e.Verb == q.Verb) && (q.Target == "" || e.Target == q.Target) && (q.AccountID == "" || e.AccountID == q.AccountID) &&
				(q.After.IsZero() || e.At.After(q.After)) && (q.Before.IsZero() || e.At.Before(q.Before)) {
				want = append(want, e.Seq)
			}
		}
		var got []int64
		for _, e := range list(q) {
			got = append(got, e.Seq)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%+v: differs (-want +got):\n%.2000s", q, diff)
		}
	}
}
