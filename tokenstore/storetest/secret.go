package storetest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// addSecret stores a further secret of a token.
func (b *bench) addSecret(id token.ID, change func(*token.SecretRecord)) (token.SecretRecord, tokenstore.Lookup) {
	b.Helper()
	secret := newSecret(b, token.Production)
	record := Secret(id, secret)
	change(&record)
	var l tokenstore.Lookup
	b.write(func(tx *tokenstore.Tx) error {
		t, err := tx.Token(id)
		if err != nil {
			return err
		}
		if err := tx.UpdateToken(&t); err != nil {
			return err
		}
		l, err = InsertSecret(tx, b.ring, &record, secret)
		return err
	})
	return record, l
}

func secretTests(s suite) {
	s.test("of a token are listed newest first, whatever their status", func(b *bench) {
		i := b.issue(b.account().ID)
		want := []token.SecretRecord{i.record}
		for _, status := range []token.SecretStatus{token.Retired, token.Previous, token.Current} {
			record, _ := b.addSecret(i.token.ID, func(s *token.SecretRecord) {
				s.Status, s.ExpiresAt, s.RetryUntil, s.FirstUsed = status, Now().Add(time.Hour), Now().Add(time.Minute), Now()
			})
			want = append([]token.SecretRecord{record}, want...)
		}
		b.same(want, b.secrets(i.token.ID))
	})

	s.test("of a token that is not there are none", func(b *bench) {
		require.Empty(b, b.secrets(ID("tok")))
	})

	s.test("take a change of status, expiry, retry window and first use", func(b *bench) {
		i := b.issue(b.account().ID)
		record := b.updateSecret(i.record, func(s *token.SecretRecord) {
			s.Status, s.ExpiresAt, s.RetryUntil, s.FirstUsed = token.Previous, Now().Add(time.Hour), Now().Add(time.Minute), Now()
		})
		b.same([]token.SecretRecord{record}, b.secrets(i.token.ID))
		record = b.updateSecret(record, func(s *token.SecretRecord) {
			s.Status, s.ExpiresAt, s.RetryUntil, s.FirstUsed = token.Current, time.Time{}, time.Time{}, time.Time{}
		})
		b.same([]token.SecretRecord{record}, b.secrets(i.token.ID))
	})

	s.test("change only in a transaction that wrote their token", func(b *bench) {
		account := b.account()
		i, other := b.issue(account.ID), b.issue(account.ID)
		before := b.snapshot()
		secret := newSecret(b, token.Production)
		require.Error(b, b.attempt(func(tx *tokenstore.Tx) error {
			t := other.token
			require.NoError(b, tx.UpdateToken(&t), "another token does not count")
			record := Secret(i.token.ID, secret)
			_, err := InsertSecret(tx, b.ring, &record, secret)
			return err
		}))
		require.Error(b, b.attempt(func(tx *tokenstore.Tx) error {
			record := i.record
			record.Status = token.Retired
			return tx.UpdateSecret(&record)
		}))
		b.same(before, b.snapshot())
	})

	s.test("are not moved to another token", func(b *bench) {
		account := b.account()
		i, other := b.issue(account.ID), b.issue(account.ID)
		require.ErrorIs(b, b.attempt(func(tx *tokenstore.Tx) error {
			t := other.token
			require.NoError(b, tx.UpdateToken(&t))
			record := i.record
			record.TokenID = other.token.ID
			return tx.UpdateSecret(&record)
		}), tokenstore.ErrNotFound)
		b.same([]token.SecretRecord{i.record}, b.secrets(i.token.ID))
	})

	s.test("that are not there can not be changed", func(b *bench) {
		i := b.issue(b.account().ID)
		require.ErrorIs(b, b.attempt(func(tx *tokenstore.Tx) error {
			t := i.token
			require.NoError(b, tx.UpdateToken(&t))
			record := i.record
			record.ID = ID("sec")
			return tx.UpdateSecret(&record)
		}), tokenstore.ErrNotFound)
	})

	s.test("conflict when their ID or their lookup value is taken, also by a retired one", func(b *bench) {
		account := b.account()
		i := b.issue(account.ID)
		b.updateSecret(i.record, func(s *token.SecretRecord) { s.Status = token.Retired })
		b.updateToken(b.token(i.token.ID), func(t *token.Token) { t.State = token.Deleted })
		another := newSecret(b, token.Production)
		for name, c := range map[string]struct {
			id     token.ID
			secret token.Secret
		}{
			"the ID":           {i.record.ID, another},
			"the lookup value": {ID("sec"), i.secret},
		} {
			require.ErrorIs(b, b.attempt(func(tx *tokenstore.Tx) error {
				t := Token(account.ID)
				require.NoError(b, tx.InsertToken(&t))
				record := Secret(t.ID, c.secret)
				record.ID = c.id
				_, err := InsertSecret(tx, b.ring, &record, c.secret)
				return err
			}), tokenstore.ErrConflict, name)
		}
	})

	s.test("are stored under a master key that the store knows", func(b *bench) {
		account := b.account()
		require.ErrorIs(b, b.attempt(func(tx *tokenstore.Tx) error {
			t := Token(account.ID)
			require.NoError(b, tx.InsertToken(&t))
			record := Secret(t.ID, newSecret(b, token.Production))
			return tx.InsertSecret(&record, tokenstore.Lookup{1}, "k-unknown")
		}), tokenstore.ErrNotFound)
	})

	s.test("are refused with a status that has no name", func(b *bench) {
		account := b.account()
		for _, status := range []token.SecretStatus{0, 9} {
			require.Error(b, b.attempt(func(tx *tokenstore.Tx) error {
				t := Token(account.ID)
				require.NoError(b, tx.InsertToken(&t))
				secret := newSecret(b, token.Production)
				record := Secret(t.ID, secret)
				record.Status = status
				_, err := InsertSecret(tx, b.ring, &record, secret)
				return err
			}))
		}
	})

	s.test("are marked as used once: what is set stays", func(b *bench) {
		i := b.issue(b.account().ID)
		used := Now().Add(time.Hour)
		for _, at := range []time.Time{used, used.Add(-time.Minute), used.Add(time.Minute)} {
			require.NoError(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error { return tx.MarkUsed(i.record.ID, at) }))
			require.True(b, b.secrets(i.token.ID)[0].FirstUsed.Equal(used))
		}
	})

	s.test("that are not there are not marked", func(b *bench) {
		require.ErrorIs(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error {
			return tx.MarkUsed(ID("sec"), Now())
		}), tokenstore.ErrNotFound)
	})
}
