package storetest

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// changeAll changes a bit of everything, so that what is left of an aborted
// transaction is noticed wherever it is.
func changeAll(b *bench, account token.Account, user token.User, i issued) func(tx *tokenstore.Tx) error {
	writes := everyWrite(b, account, user, i)
	return func(tx *tokenstore.Tx) error {
		for _, name := range []string{
			"InsertAccount", "UpdateAccount", "InsertUser", "UpdateUser", "InsertSecret", "UpdateSecret",
			"PutRole", "PutPolicy", "PutScope", "PutMasterKey", "MarkUsed", "PutAttempt", "PutNode",
		} {
			if err := writes[name](tx); err != nil {
				return err
			}
		}
		tx.Audit(Entry())
		return nil
	}
}

func writeTests(s suite) {
	// aborted runs a transaction that must leave nothing behind.
	aborted := func(b *bench, run func(change func(tx *tokenstore.Tx) error)) {
		account := b.account()
		user := b.user(account.ID)
		i := b.issue(account.ID)
		before := b.snapshot()
		run(changeAll(b, account, user, i))
		b.same(before, b.snapshot())
		// The same changes go through afterwards: nothing is held, nothing is taken.
		require.NoError(b, b.store.Write(b.ctx, changeAll(b, account, user, i)))
		require.Equal(b, before.Position.Seq+1, b.position().Seq, "an aborted transaction takes no number")
	}

	s.test("makes everything visible together", func(b *bench) {
		account := b.account()
		user := b.user(account.ID)
		i := b.issue(account.ID)
		before := b.snapshot()
		require.NoError(b, b.store.Write(b.ctx, changeAll(b, account, user, i)))
		after := b.snapshot()
		require.Len(b, after.Accounts, len(before.Accounts)+1)
		require.Len(b, after.Users, len(before.Users)+1)
		require.Len(b, after.Tokens, len(before.Tokens)+1)
		require.Len(b, after.Roles, len(before.Roles)+1)
		require.Len(b, after.Policies, len(before.Policies)+1)
		require.Len(b, after.Scopes, len(before.Scopes)+1)
		require.Len(b, after.MasterKeys, len(before.MasterKeys)+1)
		require.Len(b, after.Nodes, len(before.Nodes)+1)
		require.True(b, after.Attempt)
		require.Equal(b, token.Retired, after.Secrets[i.token.ID][0].Status)
		require.Equal(b, before.Head.Seq+1, after.Head.Seq)
		require.Equal(b, before.Position.Seq+1, after.Position.Seq)
	})

	s.test("returns f's error as it is, and nothing of f is visible", func(b *bench) {
		aborted(b, func(change func(tx *tokenstore.Tx) error) {
			require.Same(b, errOfTest, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error {
				require.NoError(b, change(tx))
				return errOfTest
			}))
		})
	})

	s.test("passes a panic of f on, and nothing of f is visible", func(b *bench) {
		aborted(b, func(change func(tx *tokenstore.Tx) error) {
			require.PanicsWithValue(b, "of f", func() {
				_ = b.store.Write(b.ctx, func(tx *tokenstore.Tx) error {
					require.NoError(b, change(tx))
					panic("of f")
				})
			})
		})
	})

	s.test("gives up when the context ends in f, and nothing of f is visible", func(b *bench) {
		aborted(b, func(change func(tx *tokenstore.Tx) error) {
			ctx, cancel := context.WithCancel(b.ctx)
			require.ErrorIs(b, b.store.Write(ctx, func(tx *tokenstore.Tx) error {
				require.NoError(b, change(tx))
				cancel()
				return nil
			}), context.Canceled)
		})
	})

	s.test("does nothing when the context has ended", func(b *bench) {
		aborted(b, func(change func(tx *tokenstore.Tx) error) {
			ctx, cancel := context.WithCancel(b.ctx)
			cancel()
			require.ErrorIs(b, b.store.Write(ctx, change), context.Canceled)
		})
	})

	s.test("commits nothing once a statement has failed, even if f goes on", func(b *bench) {
		aborted(b, func(change func(tx *tokenstore.Tx) error) {
			require.ErrorIs(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error {
				require.NoError(b, change(tx))
				lost := Token(ID("acc")) // of an account that is not there
				require.ErrorIs(b, tx.InsertToken(&lost), tokenstore.ErrNotFound)
				return nil
			}), tokenstore.ErrNotFound)
		})
	})

	s.test("refuses changes without an audit entry, each kind of them", func(b *bench) {
		account := b.account()
		user := b.user(account.ID)
		i := b.issue(account.ID)
		b.write(func(tx *tokenstore.Tx) error { return tx.PutScope(declared("gate:open", token.Write)) })
		b.write(func(tx *tokenstore.Tx) error { return tx.PutMasterKey(masterKey("k-other")) })
		writes := everyWrite(b, account, user, i)
		for _, name := range []string{
			"InsertAccount", "UpdateAccount", "InsertUser", "UpdateUser", "InsertToken", "UpdateToken",
			"InsertSecret", "UpdateSecret", "PutRole", "PutPolicy", "PutScope", "DeleteScope", "PutMasterKey", "DeleteMasterKey",
		} {
			before := b.snapshot()
			require.ErrorIs(b, b.store.Write(b.ctx, writes[name]), tokenstore.ErrUnaudited, name)
			b.same(before, b.snapshot(), name)
			require.NoError(b, b.attempt(writes[name]), name)
			if name == "UpdateToken" || name == "UpdateSecret" {
				i.token.Version++ // those that follow update it too
				writes = everyWrite(b, account, user, i)
			}
		}
	})

	s.test("takes facts that are no changes without an audit entry, and the feed does not move", func(b *bench) {
		account := b.account()
		user := b.user(account.ID)
		i := b.issue(account.ID)
		position, head := b.position(), b.auditHead()
		writes := everyWrite(b, account, user, i)
		for _, name := range []string{"MarkUsed", "PutAttempt", "PutNode", "DeleteNode", "Rekey"} {
			write := writes[name]
			if name == "DeleteNode" {
				write = func(tx *tokenstore.Tx) error {
					if err := tx.PutNode(node("n")); err != nil {
						return err
					}
					return tx.DeleteNode("n")
				}
			}
			require.NoError(b, b.store.Write(b.ctx, write), name)
		}
		b.same(i.token, b.token(i.token.ID), "no version")
		b.same(position, b.position(), "no step of the feed")
		b.same(head, b.auditHead(), "no audit entry")
	})

	s.test("takes an audit entry without changes", func(b *bench) {
		head, position := b.auditHead(), b.position()
		b.write(func(*tokenstore.Tx) error { return nil })
		require.Equal(b, head.Seq+1, b.auditHead().Seq)
		require.Equal(b, position, b.position(), "the feed is about changes")
	})

	s.test("takes a transaction without changes", func(b *bench) {
		before := b.snapshot()
		require.NoError(b, b.store.Write(b.ctx, func(*tokenstore.Tx) error { return nil }))
		b.same(before, b.snapshot())
	})

	s.test("sees its own changes", func(b *bench) {
		account := b.account()
		b.write(func(tx *tokenstore.Tx) error {
			t := Token(account.ID)
			require.NoError(b, tx.InsertToken(&t))
			secret := newSecret(b, token.Production)
			record := Secret(t.ID, secret)
			_, err := InsertSecret(tx, b.ring, &record, secret)
			require.NoError(b, err)
			got, err := tx.Token(t.ID)
			require.NoError(b, err)
			b.same(t, got)
			page, err := tx.Tokens(tokenstore.TokenQuery{AccountID: account.ID, Now: Now()})
			require.NoError(b, err)
			b.same([]tokenstore.TokenRow{{Token: t, Secrets: []token.SecretRecord{record}}}, page.Tokens)

			t.Name = "renamed"
			require.NoError(b, tx.UpdateToken(&t))
			got, err = tx.Token(t.ID)
			require.NoError(b, err)
			b.same(t, got)
			return nil
		})
	})

	s.test("ends with the context while another writer is at work", func(b *bench) {
		entered, release := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		var once sync.Once
		wg.Go(func() {
			err := b.store.Write(b.ctx, audited(func(tx *tokenstore.Tx) error {
				a := Account()
				err := tx.InsertAccount(&a)
				once.Do(func() { close(entered) })
				<-release
				return err
			}))
			if err != nil {
				b.Errorf("the writer that was first: %v", err)
			}
		})
		<-entered
		// Long enough to be in the middle of it, or anywhere else: the answer is the same.
		ctx, cancel := context.WithTimeout(b.ctx, 50*time.Millisecond)
		defer cancel()
		err := b.store.Write(ctx, audited(func(tx *tokenstore.Tx) error {
			a := Account()
			return tx.InsertAccount(&a)
		}))
		if err != nil { // an adapter may let both write at once
			require.ErrorIs(b, err, context.DeadlineExceeded)
		}
		require.NoError(b, b.ctx.Err(), "it waited for the other")
		close(release)
		wg.Wait()
	})

	s.test("gives a transaction that is of no use afterwards", func(b *bench) {
		before := b.account()
		var escaped *tokenstore.Tx
		b.write(func(tx *tokenstore.Tx) error { escaped = tx; return nil })
		head := b.auditHead()
		a := Account()
		require.Error(b, escaped.InsertAccount(&a))
		_, err := escaped.Account(before.ID)
		require.Error(b, err)
		escaped.Audit(Entry())
		b.same(head, b.auditHead())
	})

	s.test("runs one transaction after the other, as far as anyone can tell", func(b *bench) {
		// Each reads both and writes one: of two at once, one must see the other's
		// write, else both have written what only one of them may.
		account := b.account()
		x, y := b.issue(account.ID), b.issue(account.ID)
		disable := func(id token.ID) error {
			return b.store.Write(b.ctx, audited(func(tx *tokenstore.Tx) error {
				first, err := tx.Token(x.token.ID)
				if err != nil {
					return err
				}
				second, err := tx.Token(y.token.ID)
				if err != nil {
					return err
				}
				if first.State == token.Disabled || second.State == token.Disabled {
					return errOfTest // one of them stays enabled
				}
				mine := first
				if id == second.ID {
					mine = second
				}
				mine.State = token.Disabled
				return tx.UpdateToken(&mine)
			}))
		}
		for range 20 {
			var wg sync.WaitGroup
			var disabled atomic.Int32
			for _, id := range []token.ID{x.token.ID, y.token.ID} {
				wg.Go(func() {
					if disable(id) == nil {
						disabled.Add(1)
					}
				})
			}
			wg.Wait()
			require.EqualValues(b, 1, disabled.Load())
			for _, id := range []token.ID{x.token.ID, y.token.ID} {
				if t := b.token(id); t.State == token.Disabled {
					b.updateToken(t, func(t *token.Token) { t.State = token.Active })
				}
			}
		}
	})
}
