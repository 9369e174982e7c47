package storetest

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

func (b *bench) masterKey(id string) tokenstore.MasterKey {
	b.Helper()
	for _, k := range get(b, (*tokenstore.Tx).MasterKeys) {
		if k.ID == id {
			return k
		}
	}
	b.Fatalf("the store does not know master key %s", id)
	return tokenstore.MasterKey{}
}

// primaries are the keys that are named primary.
func primaries(keys []tokenstore.MasterKey) (ids []string) {
	for _, k := range keys {
		if k.Primary {
			ids = append(ids, k.ID)
		}
	}
	return ids
}

func masterKeyTests(s suite) {
	s.test("of a new store is one of the ring's, as the primary", func(b *bench) {
		keys := get(b, (*tokenstore.Tx).MasterKeys)
		require.NoError(b, b.ring.CheckAgainst(keys))
		ids := primaries(keys)
		require.Equal(b, []string{b.primary()}, ids)
		require.True(b, b.ring.Has(ids[0]))
		check, _ := b.ring.CheckValue(ids[0])
		require.Equal(b, check, b.masterKey(ids[0]).CheckValue)
	})

	s.test("is put, replaced and listed by ID", func(b *bench) {
		primary := b.primary()
		for _, id := range []string{"zz", "aa"} {
			b.write(func(tx *tokenstore.Tx) error { return tx.PutMasterKey(masterKey(id)) })
		}
		k := masterKey("zz")
		k.CheckValue, k.AddedAt = "44556677", Now().Add(time.Hour)
		b.write(func(tx *tokenstore.Tx) error { return tx.PutMasterKey(k) })
		keys := get(b, (*tokenstore.Tx).MasterKeys)
		b.same([]tokenstore.MasterKey{masterKey("aa"), b.masterKey(primary), k}, keys)
		require.Equal(b, []string{primary}, primaries(keys))
	})

	s.test("is the only primary when it is put so, and stays it when it is put again", func(b *bench) {
		primary := b.masterKey(b.primary())
		// Taken back in the same transaction: the ring could not seal under it.
		b.write(func(tx *tokenstore.Tx) error {
			k := masterKey("k-other")
			k.Primary = true
			if err := tx.PutMasterKey(k); err != nil {
				return err
			}
			keys, err := tx.MasterKeys()
			require.Equal(b, []string{"k-other"}, primaries(keys))
			if err != nil {
				return err
			}
			k.Primary = false
			if err := tx.PutMasterKey(k); err != nil {
				return err
			}
			keys, err = tx.MasterKeys()
			require.Equal(b, []string{"k-other"}, primaries(keys), "one is named in its place, never none")
			if err != nil {
				return err
			}
			return tx.PutMasterKey(primary)
		})
		require.Equal(b, []string{primary.ID}, primaries(get(b, (*tokenstore.Tx).MasterKeys)))
	})

	s.test("counts the webhooks under it, and is not deleted while there are any", func(b *bench) {
		b.write(func(tx *tokenstore.Tx) error { return tx.PutMasterKey(masterKey("k-hooks")) })
		w := tokenstore.Webhook{ID: "whk_key", URL: "https://example.com/key", KeyID: "k-hooks", Secret: []byte("sealed"), CreatedAt: Now(), UpdatedAt: Now()}
		b.write(func(tx *tokenstore.Tx) error { return tx.InsertWebhook(&w) })
		require.EqualValues(b, 1, b.masterKey("k-hooks").Webhooks)
		require.Zero(b, b.masterKey("k-hooks").Live)
		remove := func(tx *tokenstore.Tx) error { return tx.DeleteMasterKey("k-hooks") }
		require.ErrorIs(b, b.attempt(remove), tokenstore.ErrConflict)
		b.write(func(tx *tokenstore.Tx) error {
			w.KeyID = b.ring.IDs()[0]
			return tx.UpdateWebhook(&w)
		})
		require.Zero(b, b.masterKey("k-hooks").Webhooks)
		b.write(remove)
	})

	s.test("counts the secrets in use under it, and all others", func(b *bench) {
		account := b.account()
		key := b.primary()
		live, retired := int64(0), int64(0)
		expect := func(about string, dLive, dRetired int64) {
			b.Helper()
			live, retired = live+dLive, retired+dRetired
			k := b.masterKey(key)
			require.Equal(b, [2]int64{live, retired}, [2]int64{k.Live, k.Retired}, about)
		}
		expect("a new store", 0, 0)
		i := b.issue(account.ID)
		expect("an active token", 1, 0)
		b.issue(account.ID, func(t *token.Token) { t.State = token.Disabled })
		expect("a disabled token", 1, 0)
		b.issue(account.ID, func(t *token.Token) { t.State = token.Revoked })
		expect("a token that was stored revoked", 0, 1)
		previous, _ := b.addSecret(i.token.ID, func(s *token.SecretRecord) { s.Status = token.Previous })
		expect("a previous secret", 1, 0)
		b.addSecret(i.token.ID, func(s *token.SecretRecord) { s.Status = token.Retired })
		expect("a retired secret", 0, 1)
		b.updateSecret(previous, func(s *token.SecretRecord) { s.Status = token.Retired })
		expect("a secret that was retired", -1, 1)
		for _, state := range []token.State{token.Disabled, token.Active} {
			b.updateToken(b.token(i.token.ID), func(t *token.Token) { t.State = state })
			expect("a token disabled and enabled", 0, 0)
		}
		for _, state := range []token.State{token.Revoked, token.Deleted} {
			b.updateToken(b.token(i.token.ID), func(t *token.Token) { t.State = state })
			expect("a token that ended", []int64{-1, 0}[state-token.Revoked], []int64{1, 0}[state-token.Revoked])
		}
		b.updateToken(b.token(i.token.ID), func(t *token.Token) { t.State = token.Active })
		expect("a token restored, with its one valid secret", 1, -1)
	})

	s.test("names the tokens that would end with it", func(b *bench) {
		account := b.account()
		var want []token.Token
		for n := range 7 {
			i := b.issue(account.ID, func(t *token.Token) {
				t.State = []token.State{token.Active, token.Disabled, token.Revoked, token.Deleted}[n%4]
			})
			if n%4 < 2 {
				want = append([]token.Token{i.token}, want...)
			}
		}
		// One token with two secrets is one token; one with retired secrets only is none.
		b.addSecret(want[0].ID, func(s *token.SecretRecord) { s.Status = token.Previous })
		want[0] = b.token(want[0].ID)
		gone := b.issue(account.ID)
		b.updateSecret(gone.record, func(s *token.SecretRecord) { s.Status = token.Retired })
		b.read(func(tx *tokenstore.Tx) error {
			tokens, next, err := tx.TokensUnderKey(b.ring.IDs()[0], tokenstore.Page{})
			require.Empty(b, next)
			b.same(want, tokens)
			return err
		})
		b.read(func(tx *tokenstore.Tx) error {
			tokens, _, err := tx.TokensUnderKey("k-unknown", tokenstore.Page{})
			require.Empty(b, tokens)
			return err
		})
	})

	s.test("is deleted when nothing in use is under it, and not before", func(b *bench) {
		account := b.account()
		primary := b.primary()
		b.write(func(tx *tokenstore.Tx) error { return tx.PutMasterKey(masterKey("k-other")) })
		i := b.issue(account.ID)
		require.NoError(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error {
			return tx.Rekey(i.record.ID, i.lookup, tokenstore.Lookup{1}, "k-other")
		}))
		remove := func(id string) error {
			return b.attempt(func(tx *tokenstore.Tx) error { return tx.DeleteMasterKey(id) })
		}
		require.ErrorIs(b, remove("k-unknown"), tokenstore.ErrNotFound)
		require.ErrorIs(b, remove(primary), tokenstore.ErrConflict)
		require.ErrorIs(b, remove("k-other"), tokenstore.ErrConflict)
		b.updateToken(i.token, func(t *token.Token) { t.State = token.Revoked })
		require.NoError(b, remove("k-other"))
		require.Len(b, get(b, (*tokenstore.Tx).MasterKeys), 1)
		require.Equal(b, token.Revoked, b.token(i.token.ID).State, "the tombstone stays")
	})

	s.test("takes over a secret, whose old lookup value is nothing from then on", func(b *bench) {
		account := b.account()
		b.write(func(tx *tokenstore.Tx) error { return tx.PutMasterKey(masterKey("k-other")) })
		i, other := b.issue(account.ID), b.issue(account.ID)
		position, head := b.position(), b.auditHead()
		to := tokenstore.Lookup{1, 31: 1}
		rekey := func(from, to tokenstore.Lookup, key string) error {
			return b.store.Write(b.ctx, func(tx *tokenstore.Tx) error { return tx.Rekey(i.record.ID, from, to, key) })
		}
		require.ErrorIs(b, rekey(other.lookup, to, "k-other"), tokenstore.ErrNotFound, "it is not under that value")
		require.ErrorIs(b, rekey(i.lookup, other.lookup, "k-other"), tokenstore.ErrConflict, "the value is another's")
		require.ErrorIs(b, rekey(i.lookup, to, "k-unknown"), tokenstore.ErrNotFound)
		require.Equal(b, b.primary(), b.lookup(i.lookup).KeyID)

		require.NoError(b, rekey(i.lookup, to, "k-other"))
		rec := b.lookup(to)
		require.Equal(b, "k-other", rec.KeyID)
		require.Equal(b, to, rec.Lookup)
		b.same(i.token, rec.Token, "no version")
		b.same(i.record, rec.Secret)
		require.Equal(b, position, b.position(), "no change")
		require.Equal(b, head, b.auditHead())
		_, err := b.store.Lookup(b.ctx, i.lookup)
		require.ErrorIs(b, err, tokenstore.ErrNotFound)

		require.ErrorIs(b, rekey(i.lookup, tokenstore.Lookup{2}, "k-other"), tokenstore.ErrNotFound, "another node was first")
		require.NoError(b, rekey(to, i.lookup, b.primary()))
		b.same(i.token, b.lookup(i.lookup).Token)
	})

	s.test("is told for each secret of a token, whatever its status", func(b *bench) {
		account := b.account()
		b.write(func(tx *tokenstore.Tx) error { return tx.PutMasterKey(masterKey("k-other")) })
		i := b.issue(account.ID)
		b.issue(account.ID)
		retired, l := b.addSecret(i.token.ID, func(s *token.SecretRecord) { s.Status = token.Retired })
		require.NoError(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error {
			return tx.Rekey(retired.ID, l, tokenstore.Lookup{1}, "k-other")
		}))
		keys := func(id token.ID) map[token.ID]string {
			return get(b, func(tx *tokenstore.Tx) (map[token.ID]string, error) { return tx.SecretKeys(id) })
		}
		b.same(map[token.ID]string{i.record.ID: b.primary(), retired.ID: "k-other"}, keys(i.token.ID))
		require.Empty(b, keys(ID("tok")))
	})

	s.test("takes over a secret once, whoever tries", func(b *bench) {
		b.write(func(tx *tokenstore.Tx) error { return tx.PutMasterKey(masterKey("k-other")) })
		i := b.issue(b.account().ID)
		won := make(chan tokenstore.Lookup, 16)
		b.race(16, func(n int) {
			to := tokenstore.Lookup{1, byte(n)}
			err := b.store.Write(b.ctx, func(tx *tokenstore.Tx) error { return tx.Rekey(i.record.ID, i.lookup, to, "k-other") })
			if err == nil {
				won <- to
			}
		})
		require.Len(b, won, 1)
		require.Equal(b, i.token.ID, b.lookup(<-won).Token.ID)
	})

	s.test("can be one of very many", func(b *bench) {
		b.write(func(tx *tokenstore.Tx) error {
			for n := range tokenstore.MaxRingKeys {
				if err := tx.PutMasterKey(masterKey(fmt.Sprintf("k-%02d", n))); err != nil {
					return err
				}
			}
			return nil
		})
		require.Len(b, get(b, (*tokenstore.Tx).MasterKeys), tokenstore.MaxRingKeys+1)
	})
}
