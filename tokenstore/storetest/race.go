package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

const racers = 64

func raceTests(s suite) {
	s.test("lets one of many updates of the same version win", func(b *bench) {
		i := b.issue(b.account().ID)
		var won atomic.Int32
		var winner atomic.Value
		b.race(racers, func(n int) {
			err := b.store.Write(b.ctx, audited(func(tx *tokenstore.Tx) error {
				t := i.token
				t.Name = fmt.Sprintf("racer %d", n)
				return tx.UpdateToken(&t)
			}))
			switch {
			case err == nil:
				won.Add(1)
				winner.Store(fmt.Sprintf("racer %d", n))
			case !errors.Is(err, tokenstore.ErrConflict):
				b.Errorf("racer %d: %v", n, err)
			}
		})
		require.EqualValues(b, 1, won.Load())
		t := b.token(i.token.ID)
		require.Equal(b, i.token.Version+1, t.Version)
		require.Equal(b, winner.Load(), t.Name)
	})

	s.test("steps the version once for each update that reads before it writes", func(b *bench) {
		i := b.issue(b.account().ID)
		from := b.position()
		var won atomic.Int64
		b.race(racers, func(n int) {
			err := b.store.Write(b.ctx, audited(func(tx *tokenstore.Tx) error {
				t, err := tx.Token(i.token.ID)
				if err != nil {
					return err
				}
				t.Name = fmt.Sprintf("racer %d", n)
				return tx.UpdateToken(&t)
			}))
			switch {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, tokenstore.ErrConflict):
				b.Errorf("racer %d: %v", n, err)
			}
		})
		require.Positive(b, won.Load())
		require.Equal(b, i.token.Version+won.Load(), b.token(i.token.ID).Version)

		changes, _ := b.follow(from)
		require.Len(b, changes, int(won.Load()))
		for n, c := range changes {
			require.Equal(b, i.token.Version+int64(n)+1, c.Version, "each version once, in order")
			require.Equal(b, from.Seq+int64(n)+1, c.Seq)
		}
	})

	s.test("gives one ID, and one lookup value, to one of many", func(b *bench) {
		account := b.account()
		t := Token(account.ID)
		secret := newSecret(b, token.Production)
		var won, conflicts atomic.Int32
		b.race(16, func(int) {
			err := b.store.Write(b.ctx, audited(func(tx *tokenstore.Tx) error {
				mine := t
				return tx.InsertToken(&mine)
			}))
			count(b, err, &won, &conflicts)
		})
		require.EqualValues(b, 1, won.Load())

		won.Store(0)
		b.race(16, func(int) {
			err := b.store.Write(b.ctx, audited(func(tx *tokenstore.Tx) error {
				mine := Token(account.ID)
				if err := tx.InsertToken(&mine); err != nil {
					return err
				}
				record := Secret(mine.ID, secret)
				_, err := InsertSecret(tx, b.ring, &record, secret)
				return err
			}))
			count(b, err, &won, &conflicts)
		})
		require.EqualValues(b, 1, won.Load())
		require.EqualValues(b, 30, conflicts.Load())
		page := get(b, func(tx *tokenstore.Tx) (tokenstore.TokenPage, error) {
			return tx.Tokens(tokenstore.TokenQuery{Now: Now()})
		})
		require.Len(b, page.Tokens, 2, "those who lost left no token behind")
	})

	s.test("reads and lookups go on while others write", func(b *bench) {
		account := b.account()
		i := b.issue(account.ID)
		secrets := make([]token.Secret, 50)
		for n := range secrets {
			secrets[n] = newSecret(b, token.Production)
		}
		done := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			defer close(done)
			for n, secret := range secrets {
				t := Token(account.ID)
				record := Secret(t.ID, secret)
				err := b.store.Write(b.ctx, audited(func(tx *tokenstore.Tx) error {
					mine := t
					if err := tx.InsertToken(&mine); err != nil {
						return err
					}
					_, err := InsertSecret(tx, b.ring, &record, secret)
					return err
				}))
				if err != nil {
					b.Errorf("write %d: %v", n, err)
					return
				}
				// What was written is there for everyone, at once.
				l, _ := b.ring.Lookup(b.ring.IDs()[0], secret.Digest())
				if rec, err := b.store.Lookup(b.ctx, l); err != nil || rec.Token.ID != t.ID {
					b.Errorf("lookup of what was just written: %v", err)
					return
				}
			}
		})
		for range 8 {
			wg.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					if _, err := b.store.Lookup(b.ctx, i.lookup); err != nil {
						b.Errorf("lookup: %v", err)
						return
					}
					err := b.store.Read(b.ctx, func(tx *tokenstore.Tx) error {
						_, err := tx.Tokens(tokenstore.TokenQuery{Now: Now()})
						return err
					})
					if err != nil {
						b.Errorf("read: %v", err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}

func count(b *bench, err error, won, conflicts *atomic.Int32) {
	switch {
	case err == nil:
		won.Add(1)
	case errors.Is(err, tokenstore.ErrConflict):
		conflicts.Add(1)
	default:
		b.Errorf("%v", err)
	}
}

// race runs f in n goroutines that start together.
func (b *bench) race(n int, f func(n int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}
