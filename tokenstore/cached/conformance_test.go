package cached_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/cached"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

func TestTheCacheOverSQLiteKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (tokenstore.Store, *tokenstore.Ring) {
		ring := storetest.Ring(t)
		return openCached(t, filepath.Join(t.TempDir(), "sallyport.db"), ring), ring
	})
}

func openCached(t *testing.T, path string, ring *tokenstore.Ring) *cached.Store {
	t.Helper()
	inner, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring})
	require.NoError(t, err)
	s := cached.New(inner, ring, cached.Options{StaleFor: time.Minute})
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.Start(t.Context()))
	return s
}

// What is kept in the file is what is served, also by another process that has
// it open.
func TestTwoNodesOverOneFile(t *testing.T) {
	ring := storetest.Ring(t)
	path := filepath.Join(t.TempDir(), "sallyport.db")
	one, two := openCached(t, path, ring), openCached(t, path, ring)
	account := storetest.Account()
	storetest.MustWrite(t, one, func(tx *tokenstore.Tx) error { return tx.InsertAccount(&account) })
	tok := storetest.Token(account.ID)
	secret := storetest.Issue(t, one, ring, &tok)
	for _, node := range []*cached.Store{one, two} {
		require.NoError(t, node.Sync(t.Context()))
		rec, err := node.Resolve(t.Context(), secret.Digest(), client)
		require.NoError(t, err)
		require.Equal(t, tok.ID, rec.Token.ID)
		_, ok := node.Peek(secret.Digest())
		require.True(t, ok)
	}
	tok.State = token.Revoked
	storetest.MustWrite(t, one, func(tx *tokenstore.Tx) error { return tx.UpdateToken(&tok) })
	rec, err := one.Resolve(t.Context(), secret.Digest(), client)
	require.NoError(t, err)
	require.Equal(t, token.Revoked, rec.Token.State, "at once where it was written")
	require.NoError(t, two.Sync(t.Context()))
	rec, err = two.Resolve(t.Context(), secret.Digest(), client)
	require.NoError(t, err)
	require.Equal(t, token.Revoked, rec.Token.State)

	// Nothing of this was memory of the process.
	three := openCached(t, path, ring)
	rec, err = three.Resolve(t.Context(), secret.Digest(), client)
	require.NoError(t, err)
	require.Equal(t, token.Revoked, rec.Token.State)
}

func TestAfterTheMasterKeyWasRotatedSecretsMoveAsTheyAreUsed(t *testing.T) {
	ring := testRing(t) // a, the first primary, and b
	s := openCached(t, filepath.Join(t.TempDir(), "sallyport.db"), ring)
	account := storetest.Account()
	storetest.MustWrite(t, s, func(tx *tokenstore.Tx) error { return tx.InsertAccount(&account) })
	tok := storetest.Token(account.ID)
	secret := storetest.Issue(t, s, ring, &tok)
	d := secret.Digest()
	rec, err := s.Resolve(t.Context(), d, client)
	require.NoError(t, err)
	require.Equal(t, "a", rec.KeyID)

	check, _ := ring.CheckValue("b")
	storetest.MustWrite(t, s, func(tx *tokenstore.Tx) error {
		return tx.PutMasterKey(tokenstore.MasterKey{ID: "b", CheckValue: check, Primary: true, AddedAt: storetest.Now()})
	})
	rec, err = s.Resolve(t.Context(), d, client)
	require.NoError(t, err)
	require.Equal(t, "b", rec.KeyID)
	under, _ := ring.Lookup("b", d)
	require.Equal(t, under, rec.Lookup)
	storetest.MustRead(t, s, func(tx *tokenstore.Tx) error {
		keys, err := tx.MasterKeys()
		for _, k := range keys {
			require.Equal(t, k.ID == "b", k.Live == 1, k.ID)
		}
		return err
	})
	_, ok := s.Peek(d)
	require.True(t, ok)
	old, _ := ring.Lookup("a", d)
	_, err = s.Lookup(t.Context(), old)
	require.ErrorIs(t, err, tokenstore.ErrNotFound)
}

// Secrets that others move to a key that this node lacks are not found here. To
// call them unknown would make their owners throw them away.
func TestWithoutThePrimaryKeyNothingIsCalledUnknown(t *testing.T) {
	all := testRing(t)
	path := filepath.Join(t.TempDir(), "sallyport.db")
	s := openCached(t, path, onlyKey(t, "a"))
	account := storetest.Account()
	storetest.MustWrite(t, s, func(tx *tokenstore.Tx) error { return tx.InsertAccount(&account) })
	tok := storetest.Token(account.ID)
	secret := storetest.Issue(t, s, all, &tok)
	_, err := s.Resolve(t.Context(), secret.Digest(), client)
	require.NoError(t, err)
	_, err = s.Resolve(t.Context(), digest(1), client)
	require.ErrorIs(t, err, tokenstore.ErrNotFound)

	inner, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: all})
	require.NoError(t, err)
	check, _ := all.CheckValue("b")
	storetest.MustWrite(t, inner, func(tx *tokenstore.Tx) error {
		return tx.PutMasterKey(tokenstore.MasterKey{ID: "b", CheckValue: check, Primary: true, AddedAt: storetest.Now()})
	})
	require.NoError(t, s.Sync(t.Context()))
	_, err = s.Resolve(t.Context(), digest(1), client)
	require.ErrorIs(t, err, tokenstore.ErrUnavailable)
	_, ok := s.Peek(secret.Digest())
	require.True(t, ok, "what is in memory serves on")

	refused := cached.New(inner, onlyKey(t, "a"), cached.Options{})
	defer refused.Close()
	require.ErrorContains(t, refused.Start(context.Background()), `"b"`)
}
