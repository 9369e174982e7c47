package storetest

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

func historyTests(s suite) {
	history := tokenstore.History{
		History: token.History{
			Observed: Now(), LevelSince: Now().Add(time.Hour), ExemptUntil: Now().Add(2 * time.Hour),
			DowngradedAt: Now().Add(3 * time.Hour), UndoUntil: Now().Add(4 * time.Hour),
			Before: token.Grant{Access: token.Custom, Scopes: []string{"a", "b"}},
		},
		ExemptReason: "used once a year",
		Scheduled:    token.DeleteUnused, ScheduledAt: Now().Add(5 * time.Hour), PurgedAt: Now().Add(6 * time.Hour),
	}
	get1 := func(b *bench, id token.ID) tokenstore.History {
		b.Helper()
		return get(b, func(tx *tokenstore.Tx) (tokenstore.History, error) { return tx.History(id) })
	}

	s.test("a token without a history has an empty one", func(b *bench) {
		require.Equal(b, tokenstore.History{}, get1(b, b.issue(b.account().ID).token.ID))
	})

	s.test("is stored and replaced with its token", func(b *bench) {
		t := b.issue(b.account().ID).token
		for _, h := range []tokenstore.History{history, {}, history} {
			b.write(func(tx *tokenstore.Tx) error {
				if err := tx.UpdateToken(&t); err != nil {
					return err
				}
				return tx.PutHistory(t.ID, h)
			})
			b.same(h, get1(b, t.ID))
		}
	})

	s.test("does not change without its token", func(b *bench) {
		t := b.issue(b.account().ID).token
		require.Error(b, b.attempt(func(tx *tokenstore.Tx) error { return tx.PutHistory(t.ID, history) }))
		require.Equal(b, tokenstore.History{}, get1(b, t.ID))
	})
}

func planTests(s suite) {
	notice := func(id string, kind token.ActionKind, hours int) token.Notice {
		return token.Notice{ID: token.ID(id), Kind: kind, Due: Now().Add(time.Duration(hours) * time.Hour), Created: Now(), Scopes: []string{"a", "b"}}
	}
	plans := func(b *bench, id token.ID) []tokenstore.Plan {
		b.Helper()
		return get(b, func(tx *tokenstore.Tx) ([]tokenstore.Plan, error) { return tx.Plans(id) })
	}
	write := func(b *bench, f func(tx *tokenstore.Tx) error) {
		b.Helper()
		require.NoError(b, b.store.Write(b.ctx, f))
	}

	s.test("plans stand until they end, and then do not change any more", func(b *bench) {
		t := b.issue(b.account().ID).token
		first := tokenstore.Plan{TokenID: t.ID, Notice: notice("pln_1", token.NoticeDeletion, 24)}
		second := tokenstore.Plan{TokenID: t.ID, Notice: notice("pln_2", token.NoticeDowngrade, 48)}
		write(b, func(tx *tokenstore.Tx) error {
			require.NoError(b, tx.InsertPlan(first))
			return tx.InsertPlan(second)
		})
		b.same([]tokenstore.Plan{second, first}, plans(b, t.ID))
		second.Accepted, second.Due, second.Scopes = Now().Add(time.Minute), Now().Add(72*time.Hour), []string{"a"}
		first.EndedAt, first.Outcome = Now().Add(time.Hour), "used"
		write(b, func(tx *tokenstore.Tx) error {
			require.NoError(b, tx.UpdatePlan(first))
			return tx.UpdatePlan(second)
		})
		first.Voided = true
		b.same([]tokenstore.Plan{second, first}, plans(b, t.ID))
		b.same(second, get(b, func(tx *tokenstore.Tx) (tokenstore.Plan, error) { return tx.Plan("pln_2") }))
		require.ErrorIs(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error { return tx.UpdatePlan(first) }), tokenstore.ErrNotFound)
		require.ErrorIs(b, getErr(b, func(tx *tokenstore.Tx) (tokenstore.Plan, error) { return tx.Plan("pln_x") }), tokenstore.ErrNotFound)
	})

	s.test("acts are open until they are closed, and are counted", func(b *bench) {
		t := b.issue(b.account().ID).token
		act := tokenstore.Act{
			ID: "act_1", TokenID: t.ID, Kind: token.Downgrade, At: Now(), Open: true, Version: 3,
			Before:   token.Grant{Access: token.Custom, Scopes: []string{"a", "b"}},
			Evidence: token.Evidence{From: Now().Add(-time.Hour), To: Now(), Used: []string{"a"}, Notice: notice("pln_1", token.NoticeDowngrade, 0)},
		}
		purge := tokenstore.Act{ID: "act_2", TokenID: t.ID, Kind: token.Purge, At: Now(), Open: true, Before: token.Grant{Access: token.ReadOnly}}
		write(b, func(tx *tokenstore.Tx) error {
			require.NoError(b, tx.InsertAct(act))
			return tx.InsertAct(purge)
		})
		open := func(after token.ID) []tokenstore.Act {
			b.Helper()
			return get(b, func(tx *tokenstore.Tx) ([]tokenstore.Act, error) { return tx.OpenActs(after, 10) })
		}
		b.same([]tokenstore.Act{act, purge}, open(""))
		b.same([]tokenstore.Act{purge}, open("act_1"))
		b.same([]tokenstore.Act{purge, act}, get(b, func(tx *tokenstore.Tx) ([]tokenstore.Act, error) { return tx.OpenActsOf(t.ID) }))
		capped := func(after time.Time) int {
			b.Helper()
			return get(b, func(tx *tokenstore.Tx) (int, error) { return tx.CappedActs(after) })
		}
		require.Equal(b, 1, capped(Now().Add(-time.Second)))
		require.Equal(b, 0, capped(Now()))
		write(b, func(tx *tokenstore.Tx) error { return tx.CloseAct("act_1") })
		b.same([]tokenstore.Act{purge}, open(""))
		require.ErrorIs(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error { return tx.CloseAct("act_1") }), tokenstore.ErrNotFound)
		require.Equal(b, 1, capped(Now().Add(-time.Second)), "what was undone was done")
	})

	s.test("live tokens are counted", func(b *bench) {
		account := b.account().ID
		require.Zero(b, get(b, (*tokenstore.Tx).LiveTokens))
		b.issue(account)
		b.issue(account, func(t *token.Token) { t.State = token.Disabled })
		b.issue(account, func(t *token.Token) { t.State = token.Revoked })
		require.Equal(b, 2, get(b, (*tokenstore.Tx).LiveTokens))
	})

	s.test("subjects hold all that a plan follows from, page by page", func(b *bench) {
		account := b.account(func(a *token.Account) { a.EnabledAt = Now().Add(time.Minute) })
		user := b.user(account.ID, func(u *token.User) { u.EnabledAt = Now().Add(time.Hour) })
		var all []issued
		for range 5 {
			all = append(all, b.issue(account.ID))
		}
		owned := b.issue(account.ID, func(t *token.Token) { t.UserID = user.ID })
		purged := b.issue(account.ID, func(t *token.Token) { t.State, t.EndedAt = token.Deleted, Now() })
		b.write(func(tx *tokenstore.Tx) error {
			require.NoError(b, tx.UpdateToken(&purged.token))
			require.NoError(b, tx.PutHistory(purged.token.ID, tokenstore.History{PurgedAt: Now()}))
			require.NoError(b, tx.UpdateToken(&owned.token))
			require.NoError(b, tx.PutHistory(owned.token.ID, tokenstore.History{ExemptReason: "why", History: token.History{LevelSince: Now()}}))
			require.NoError(b, tx.BeginRun(token.Run{ID: "run_a", Node: "a", StartedAt: Now()}))
			require.NoError(b, tx.PutActivity(token.Activity{Run: "run_a", Seq: 1, Covered: Now(), Facts: []token.Fact{
				{TokenID: owned.token.ID, SecretID: owned.record.ID, Scope: token.ReadScope, First: Now(), Until: Now().Add(time.Hour)},
			}}))
			return tx.InsertPlan(tokenstore.Plan{TokenID: owned.token.ID, Notice: notice("pln_1", token.NoticeDeletion, 1)})
		})
		var got []tokenstore.Subject
		for after := token.ID(""); ; {
			page := get(b, func(tx *tokenstore.Tx) ([]tokenstore.Subject, error) { return tx.Subjects(after, 4) })
			if len(page) == 0 {
				break
			}
			got = append(got, page...)
			after = page[len(page)-1].Token.ID
		}
		require.Len(b, got, 6)
		for i, want := range append(all, owned) {
			require.Equal(b, want.token.ID, got[i].Token.ID)
			require.NoError(b, got[i].Check())
		}
		last := got[5]
		require.Equal(b, user.ID, last.User.ID)
		b.same(Now().Add(time.Hour), last.Subject.History.Observed, "the user was enabled last")
		b.same(Now().Add(time.Minute), got[0].Subject.History.Observed, "the account was enabled after the token was created")
		b.same(token.Use{Last: Now().Add(time.Hour), Scopes: []token.ScopeUse{{Scope: token.ReadScope, Last: Now().Add(time.Hour)}}}, last.Use)
		b.same([]token.Notice{notice("pln_1", token.NoticeDeletion, 1)}, last.Notices)
		require.Equal(b, "why", last.History.ExemptReason)
		one := get(b, func(tx *tokenstore.Tx) (tokenstore.Subject, error) { return tx.Subject(owned.token.ID) })
		b.same(last.Use, one.Use)
		b.same(last.Plans, one.Plans)
		b.same(*last.Token, *one.Token)
		require.ErrorIs(b, getErr(b, func(tx *tokenstore.Tx) (tokenstore.Subject, error) { return tx.Subject(purged.token.ID) }), tokenstore.ErrNotFound)
		require.ErrorIs(b, getErr(b, func(tx *tokenstore.Tx) (tokenstore.Subject, error) { return tx.Subject("tok_x") }), tokenstore.ErrNotFound)
	})

	s.test("a subject shows its previous secret and when that was last used", func(b *bench) {
		i := b.issue(b.account().ID)
		second := newSecret(b, i.token.Environment)
		record := Secret(i.token.ID, second)
		b.write(func(tx *tokenstore.Tx) error {
			require.NoError(b, tx.UpdateToken(&i.token))
			i.record.Status, i.record.ExpiresAt = token.Previous, Now().Add(time.Hour)
			require.NoError(b, tx.UpdateSecret(&i.record))
			_, err := InsertSecret(tx, b.ring, &record, second)
			require.NoError(b, err)
			require.NoError(b, tx.BeginRun(token.Run{ID: "run_a", Node: "a", StartedAt: Now()}))
			return tx.PutActivity(token.Activity{Run: "run_a", Seq: 1, Covered: Now(), Facts: []token.Fact{
				{TokenID: i.token.ID, SecretID: i.record.ID, First: Now(), Until: Now().Add(time.Minute)},
				{TokenID: i.token.ID, SecretID: record.ID, First: Now(), Until: Now().Add(time.Hour)},
			}})
		})
		one := get(b, func(tx *tokenstore.Tx) (tokenstore.Subject, error) { return tx.Subject(i.token.ID) })
		b.same([]token.SecretRecord{i.record, record}, one.Secrets)
		b.same(Now().Add(time.Minute), one.Use.Previous)
		b.same(Now().Add(time.Hour), one.Use.Last)
	})
}

func noticeTests(s suite) {
	message := func(n int) tokenstore.Notice {
		return tokenstore.Notice{
			ID: token.ID(fmt.Sprintf("ntc_%02d", n)), Same: fmt.Sprintf("same %d", n), Event: token.EventRevoked, AccountID: "acc_a", TokenID: "tok_a",
			PlanID: "pln_a", Channel: "mail", Recipient: "a@example.com", Facts: json.RawMessage(`{"a":1}`), Urgency: n % tokenstore.Urgencies,
			CreatedAt: Now(), NextAt: Now().Add(time.Duration(n) * time.Minute), State: tokenstore.NoticeWaiting,
		}
	}
	put := func(b *bench, list ...tokenstore.Notice) {
		b.Helper()
		require.NoError(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error {
			for _, n := range list {
				stored, err := tx.InsertNotice(n)
				if err != nil || !stored {
					return fmt.Errorf("stored %t: %w", stored, err)
				}
			}
			return nil
		}))
	}
	claim := func(b *bench, who string, now time.Time, limit int) (list []tokenstore.Notice) {
		b.Helper()
		require.NoError(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) (err error) {
			list, err = tx.ClaimNotices(who, now, now.Add(time.Hour), limit)
			return err
		}))
		return list
	}
	one := func(b *bench, id token.ID) tokenstore.Notice {
		b.Helper()
		return get(b, func(tx *tokenstore.Tx) (tokenstore.Notice, error) { return tx.Notice(id) })
	}
	settle := func(b *bench, n tokenstore.Notice) error {
		return b.store.Write(b.ctx, func(tx *tokenstore.Tx) error { return tx.SettleNotice(n) })
	}

	s.test("the same message is stored once", func(b *bench) {
		n := message(0)
		put(b, n)
		b.same(n, one(b, n.ID))
		again := n
		again.ID = "ntc_99"
		require.NoError(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error {
			stored, err := tx.InsertNotice(again)
			require.False(b, stored)
			return err
		}))
		require.ErrorIs(b, getErr(b, func(tx *tokenstore.Tx) (tokenstore.Notice, error) { return tx.Notice(again.ID) }), tokenstore.ErrNotFound)
	})

	s.test("messages that are due are claimed by one, the urgent first", func(b *bench) {
		due := func(now time.Time) bool {
			return get(b, func(tx *tokenstore.Tx) (bool, error) { return tx.NoticesDue(now) })
		}
		require.False(b, due(Now()))
		put(b, message(5), message(3), message(1), message(0), message(4), message(59))
		require.False(b, due(Now().Add(-time.Microsecond)))
		require.True(b, due(Now()))
		now := Now().Add(10 * time.Minute)
		var ids []token.ID
		for _, n := range claim(b, "a", now, 4) {
			ids = append(ids, n.ID)
			require.Equal(b, "a", n.Claim)
			require.Equal(b, 1, n.Attempts)
			b.same(n, one(b, n.ID))
		}
		require.Equal(b, []token.ID{"ntc_00", "ntc_03", "ntc_01", "ntc_04"}, ids)
		require.Len(b, claim(b, "b", now, 10), 1)
		require.Empty(b, claim(b, "b", now, 10))
		// Whoever never came back is given up.
		later := claim(b, "b", now.Add(2*time.Hour), 10)
		require.Len(b, later, 6)
		require.Equal(b, 2, one(b, "ntc_00").Attempts)
	})

	s.test("what became of an attempt is settled by whoever holds the claim", func(b *bench) {
		put(b, message(0))
		n := claim(b, "a", Now(), 1)[0]
		n.State, n.NextAt, n.Problem, n.RefusedFrom = tokenstore.NoticeWaiting, Now().Add(2*time.Hour), "no such mailbox", Now()
		other := n
		other.Claim = "b"
		require.ErrorIs(b, settle(b, other), tokenstore.ErrNotFound)
		require.NoError(b, settle(b, n))
		n.Claim = ""
		b.same(n, one(b, n.ID))
		n = claim(b, "c", Now().Add(3*time.Hour), 1)[0]
		n.State, n.Problem, n.RefusedFrom, n.DoneAt = tokenstore.NoticeAccepted, "", time.Time{}, Now().Add(3*time.Hour)
		require.NoError(b, settle(b, n))
		require.ErrorIs(b, settle(b, n), tokenstore.ErrNotFound, "it is done")
		require.Empty(b, claim(b, "c", Now().Add(30*time.Hour), 1))
	})

	s.test("those of a plan are listed, and cancelled as far as they were not sent", func(b *bench) {
		other := message(2)
		other.PlanID = ""
		put(b, message(0), message(1), other)
		sent := claim(b, "a", Now(), 1)[0]
		sent.State, sent.DoneAt = tokenstore.NoticeAccepted, Now()
		require.NoError(b, settle(b, sent))
		require.NoError(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error { return tx.CancelNotices("pln_a", Now().Add(time.Hour)) }))
		list := get(b, func(tx *tokenstore.Tx) ([]tokenstore.Notice, error) { return tx.NoticesOfPlan("pln_a") })
		require.Len(b, list, 2)
		require.Equal(b, tokenstore.NoticeAccepted, list[0].State)
		require.Equal(b, tokenstore.NoticeCancelled, list[1].State)
		require.Equal(b, tokenstore.NoticeWaiting, one(b, other.ID).State)
		require.Empty(b, get(b, func(tx *tokenstore.Tx) ([]tokenstore.Notice, error) { return tx.NoticesOfPlan("") }))
		counts := get(b, (*tokenstore.Tx).NoticeCounts)
		b.same(tokenstore.NoticeCounts{Waiting: Now(), States: map[tokenstore.NoticeState]int{
			tokenstore.NoticeAccepted: 1, tokenstore.NoticeCancelled: 1, tokenstore.NoticeWaiting: 1,
		}}, counts)
	})

	s.test("those that are done are removed once they are old, unless their plan stands", func(b *bench) {
		holder := b.issue(b.account().ID).token.ID
		plan := func(id token.ID, ended time.Time) {
			b.Helper()
			p := tokenstore.Plan{TokenID: holder, Notice: token.Notice{ID: id, Kind: token.DeleteUnused, Due: Now(), Created: Now()}}
			require.NoError(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error {
				if err := tx.InsertPlan(p); err != nil || ended.IsZero() {
					return err
				}
				p.EndedAt, p.Outcome = ended, "done"
				return tx.UpdatePlan(p)
			}))
		}
		plan("pln_stands", time.Time{})
		plan("pln_ended", Now())
		old, done := Now().Add(-100*24*time.Hour), map[int]tokenstore.NoticeState{
			0: tokenstore.NoticeAccepted, 1: tokenstore.NoticeFailed, 2: tokenstore.NoticeCancelled, 4: tokenstore.NoticeAccepted,
			5: tokenstore.NoticeAccepted, 6: tokenstore.NoticeAccepted, 7: tokenstore.NoticeAccepted,
		}
		for n := range 9 {
			m := message(n)
			m.PlanID, m.CreatedAt = "", old
			switch n {
			case 4:
				m.PlanID = "pln_stands"
			case 5:
				m.PlanID = "pln_ended"
			case 7, 8:
				m.CreatedAt = Now()
			}
			put(b, m)
		}
		for _, n := range claim(b, "a", Now().Add(time.Hour), 9) {
			for i, state := range done {
				if n.ID != message(i).ID {
					continue
				}
				if n.State, n.DoneAt = state, old.Add(time.Hour); i == 6 {
					n.DoneAt = Now() // it took long
				}
				require.NoError(b, settle(b, n))
			}
		}
		prune := func(limit int) (removed int) {
			b.Helper()
			for after := token.ID(""); ; {
				require.NoError(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error {
					n, next, err := tx.PruneNotices(after, Now().Add(-90*24*time.Hour), limit)
					removed += n
					after = next
					return err
				}))
				if after == "" {
					return removed
				}
			}
		}
		left := func() (ids []token.ID) {
			b.Helper()
			b.read(func(tx *tokenstore.Tx) error {
				list, _, err := tx.Notices(tokenstore.NoticeQuery{}, tokenstore.Page{})
				for _, n := range list {
					ids = append(ids, n.ID)
				}
				return err
			})
			return ids
		}
		require.Equal(b, 4, prune(2))
		require.Equal(b, []token.ID{"ntc_08", "ntc_07", "ntc_06", "ntc_04", "ntc_03"}, left())
		require.Zero(b, prune(100))
		require.NoError(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error {
			p, err := tx.Plan("pln_stands")
			if err != nil {
				return err
			}
			p.EndedAt, p.Outcome = Now(), "done"
			return tx.UpdatePlan(p)
		}))
		require.Equal(b, 1, prune(100), "its plan has ended")
	})

	s.test("are listed by account, token and state, newest first, in pages", func(b *bench) {
		elsewhere := message(7)
		elsewhere.AccountID, elsewhere.TokenID = "acc_b", "tok_b"
		put(b, message(0), message(1), message(2), elsewhere)
		list := func(q tokenstore.NoticeQuery, p tokenstore.Page) (ids []token.ID, next string) {
			b.Helper()
			b.read(func(tx *tokenstore.Tx) error {
				page, n, err := tx.Notices(q, p)
				for _, n := range page {
					ids = append(ids, n.ID)
				}
				next = n
				return err
			})
			return ids, next
		}
		ids, next := list(tokenstore.NoticeQuery{}, tokenstore.Page{Limit: 3})
		require.Equal(b, []token.ID{"ntc_07", "ntc_02", "ntc_01"}, ids)
		ids, next = list(tokenstore.NoticeQuery{}, tokenstore.Page{Limit: 3, Cursor: next})
		require.Equal(b, []token.ID{"ntc_00"}, ids)
		require.Empty(b, next)
		ids, _ = list(tokenstore.NoticeQuery{AccountID: "acc_b", TokenID: "tok_b", State: tokenstore.NoticeWaiting}, tokenstore.Page{})
		require.Equal(b, []token.ID{"ntc_07"}, ids)
		ids, _ = list(tokenstore.NoticeQuery{State: tokenstore.NoticeFailed}, tokenstore.Page{})
		require.Empty(b, ids)
	})

	s.test("webhooks are stored, changed by version, and deleted", func(b *bench) {
		w := tokenstore.Webhook{
			ID: "whk_a", URL: "https://example.com/a", KeyID: b.primary(), Secret: []byte{1, 2}, CreatedAt: Now(), UpdatedAt: Now(),
		}
		b.write(func(tx *tokenstore.Tx) error { return tx.InsertWebhook(&w) })
		hooks := func() []tokenstore.Webhook { b.Helper(); return get(b, (*tokenstore.Tx).Webhooks) }
		b.same([]tokenstore.Webhook{w}, hooks())
		same := w
		same.ID = "whk_b"
		require.ErrorIs(b, b.attempt(func(tx *tokenstore.Tx) error { return tx.InsertWebhook(&same) }), tokenstore.ErrConflict)
		old := w
		w.Events, w.Disabled, w.Previous, w.PreviousUntil = []string{"token_revoked"}, true, []byte{3}, Now().Add(time.Hour)
		b.write(func(tx *tokenstore.Tx) error { return tx.UpdateWebhook(&w) })
		b.same([]tokenstore.Webhook{w}, hooks())
		require.ErrorIs(b, b.attempt(func(tx *tokenstore.Tx) error { return tx.UpdateWebhook(&old) }), tokenstore.ErrConflict)
		stranger := w
		stranger.KeyID = "absent"
		require.ErrorIs(b, b.attempt(func(tx *tokenstore.Tx) error { return tx.UpdateWebhook(&stranger) }), tokenstore.ErrNotFound)
		require.Equal(b, 1, get(b, func(tx *tokenstore.Tx) (int, error) { return tx.WebhooksUnderKey(w.KeyID) }))
		b.write(func(tx *tokenstore.Tx) error { return tx.DeleteWebhook("whk_a") })
		require.Empty(b, hooks())
		require.ErrorIs(b, b.attempt(func(tx *tokenstore.Tx) error { return tx.DeleteWebhook("whk_a") }), tokenstore.ErrNotFound)
	})
}
