package storetest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// versioned is a kind of record with a version, as its tests need it. Each
// function works on a record of its own making.
type versioned struct {
	insert func(tx *tokenstore.Tx) (version int64, err error)
	update func(tx *tokenstore.Tx, version int64) (stepped int64, err error)
	stored func(tx *tokenstore.Tx) (version int64, err error)
}

func versionedKinds(b *bench) map[string]versioned {
	account := b.account()
	a, u, t := Account(), User(account.ID), Token(account.ID)
	return map[string]versioned{
		"account": {
			insert: func(tx *tokenstore.Tx) (int64, error) { v := a; err := tx.InsertAccount(&v); return v.Version, err },
			update: func(tx *tokenstore.Tx, version int64) (int64, error) {
				v := a
				v.Version = version
				err := tx.UpdateAccount(&v)
				return v.Version, err
			},
			stored: func(tx *tokenstore.Tx) (int64, error) { v, err := tx.Account(a.ID); return v.Version, err },
		},
		"user": {
			insert: func(tx *tokenstore.Tx) (int64, error) { v := u; err := tx.InsertUser(&v); return v.Version, err },
			update: func(tx *tokenstore.Tx, version int64) (int64, error) {
				v := u
				v.Version = version
				err := tx.UpdateUser(&v)
				return v.Version, err
			},
			stored: func(tx *tokenstore.Tx) (int64, error) { v, err := tx.User(u.ID); return v.Version, err },
		},
		"token": {
			insert: func(tx *tokenstore.Tx) (int64, error) { v := t; err := tx.InsertToken(&v); return v.Version, err },
			update: func(tx *tokenstore.Tx, version int64) (int64, error) {
				v := t
				v.Version = version
				err := tx.UpdateToken(&v)
				return v.Version, err
			},
			stored: func(tx *tokenstore.Tx) (int64, error) { v, err := tx.Token(t.ID); return v.Version, err },
		},
	}
}

func versionTests(s suite) {
	s.test("starts at 1 and grows by one with every update, which sets it in the value", func(b *bench) {
		for kind, v := range versionedKinds(b) {
			b.write(func(tx *tokenstore.Tx) error {
				version, err := v.insert(tx)
				require.EqualValues(b, 1, version, kind)
				return err
			})
			for want := int64(2); want < 5; want++ {
				b.write(func(tx *tokenstore.Tx) error {
					version, err := v.update(tx, want-1)
					require.Equal(b, want, version, kind)
					return err
				})
				require.Equal(b, want, get(b, v.stored), kind)
			}
		}
	})

	s.test("grows with each of two updates in one transaction", func(b *bench) {
		for kind, v := range versionedKinds(b) {
			b.write(func(tx *tokenstore.Tx) error {
				version, err := v.insert(tx)
				require.NoError(b, err, kind)
				for range 2 {
					version, err = v.update(tx, version)
					require.NoError(b, err, kind)
				}
				require.EqualValues(b, 3, version, kind)
				return nil
			})
			require.EqualValues(b, 3, get(b, v.stored), kind)
		}
	})

	s.test("conflicts when it differs from the stored one, and leaves value and record alone", func(b *bench) {
		for kind, v := range versionedKinds(b) {
			b.write(func(tx *tokenstore.Tx) error { _, err := v.insert(tx); return err })
			b.write(func(tx *tokenstore.Tx) error { _, err := v.update(tx, 1); return err })
			for _, version := range []int64{-1, 0, 1, 3} {
				err := b.attempt(func(tx *tokenstore.Tx) error {
					left, err := v.update(tx, version)
					require.Equal(b, version, left, kind)
					return err
				})
				require.ErrorIs(b, err, tokenstore.ErrConflict, kind)
			}
			require.EqualValues(b, 2, get(b, v.stored), kind)
		}
	})

	s.test("is not found when the record is not there", func(b *bench) {
		for kind, v := range versionedKinds(b) {
			err := b.attempt(func(tx *tokenstore.Tx) error { _, err := v.update(tx, 1); return err })
			require.ErrorIs(b, err, tokenstore.ErrNotFound, kind)
		}
	})

	s.test("conflicts when a new record's ID is taken", func(b *bench) {
		for kind, v := range versionedKinds(b) {
			b.write(func(tx *tokenstore.Tx) error { _, err := v.insert(tx); return err })
			b.write(func(tx *tokenstore.Tx) error { _, err := v.update(tx, 1); return err })
			err := b.attempt(func(tx *tokenstore.Tx) error { _, err := v.insert(tx); return err })
			require.ErrorIs(b, err, tokenstore.ErrConflict, kind)
			require.EqualValues(b, 2, get(b, v.stored), kind)
		}
	})

	s.test("of roles and policies starts at 1 and grows whenever they are put", func(b *bench) {
		for want := int64(1); want < 4; want++ {
			b.write(func(tx *tokenstore.Tx) error {
				r := token.Role{Name: "porter", Ceiling: token.Grant{Access: token.ReadOnly}}
				require.NoError(b, tx.PutRole(&r))
				require.Equal(b, want, r.Version)
				p := strictPolicy()
				require.NoError(b, tx.PutPolicy(&p))
				require.Equal(b, want, p.Version)
				return nil
			})
			require.Equal(b, want, b.role("porter").Version)
			require.Equal(b, want, b.policy("strict").Version)
		}
	})

	s.test("of a token is not moved by a use of its secret", func(b *bench) {
		i := b.issue(b.account().ID)
		require.NoError(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error {
			return tx.MarkUsed(i.record.ID, Now().Add(time.Minute))
		}))
		require.Equal(b, i.token.Version, b.token(i.token.ID).Version)
	})
}
