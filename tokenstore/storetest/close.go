package storetest

import (
	"sync"
	"sync/atomic"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore"
)

func closeTests(s suite) {
	s.test("may be called twice, and by several at once", func(b *bench) {
		b.race(8, func(int) {
			if err := b.store.Close(); err != nil {
				b.Errorf("close: %v", err)
			}
		})
		require.NoError(b, b.store.Close())
	})

	s.test("makes every later call an error", func(b *bench) {
		i := b.issue(b.account().ID)
		require.NoError(b, b.store.Close())
		for name, call := range map[string]func() error{
			"Lookup":  func() error { _, err := b.store.Lookup(b.ctx, i.lookup); return err },
			"Read":    func() error { return b.store.Read(b.ctx, func(*tokenstore.Tx) error { return nil }) },
			"Write":   func() error { return b.store.Write(b.ctx, func(*tokenstore.Tx) error { return nil }) },
			"Changes": func() error { _, err := b.store.Changes(b.ctx, tokenstore.Position{}); return err },
		} {
			err := call()
			require.Error(b, err, name)
			require.NotErrorIs(b, err, tokenstore.ErrNotFound, "a closed store knows nothing of the secret")
			require.NoError(b, b.ctx.Err(), "%s waited for the context to end", name)
		}
	})

	s.test("waits for the calls that are running, which end as if it had not been called", func(b *bench) {
		account := b.account()
		entered, release := make(chan struct{}, 2), make(chan struct{})
		var over atomic.Int32
		var wg sync.WaitGroup
		wg.Go(func() {
			err := b.store.Write(b.ctx, audited(func(tx *tokenstore.Tx) error {
				entered <- struct{}{}
				<-release
				a := Account()
				defer over.Add(1)
				return tx.InsertAccount(&a)
			}))
			if err != nil {
				b.Errorf("write: %v", err)
			}
		})
		wg.Go(func() {
			err := b.store.Read(b.ctx, func(tx *tokenstore.Tx) error {
				entered <- struct{}{}
				<-release
				_, err := tx.Account(account.ID)
				over.Add(1)
				return err
			})
			if err != nil {
				b.Errorf("read: %v", err)
			}
		})
		<-entered
		<-entered
		closing := make(chan struct{})
		wg.Go(func() {
			close(closing)
			if err := b.store.Close(); err != nil {
				b.Errorf("close: %v", err)
			}
			if over.Load() != 2 {
				b.Error("Close returned while calls were running")
			}
		})
		<-closing
		close(release)
		wg.Wait()
		require.Error(b, b.store.Read(b.ctx, func(*tokenstore.Tx) error { return nil }))
	})
}
