package caddymodule

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// F38: a retry and the first use of what it replaces meet in the store; whoever
// comes second learns of the first.
func TestAFirstUseLearnsThatARetryWasFirst(t *testing.T) {
	ring := storetest.Ring(t)
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"), sqlite.Options{Ring: ring})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	account := storetest.Account()
	issued := storetest.Token(account.ID)
	storetest.MustWrite(t, store, func(tx *tokenstore.Tx) error { return tx.InsertAccount(&account) })
	storetest.Issue(t, store, ring, &issued)
	var record token.SecretRecord
	storetest.MustRead(t, store, func(tx *tokenstore.Tx) error {
		all, err := tx.Secrets(issued.ID)
		record = all[0]
		return err
	})

	retired, err := writeFirstUse(t.Context(), store, &record, time.Now())
	require.NoError(t, err)
	require.False(t, retired)

	storetest.MustWrite(t, store, func(tx *tokenstore.Tx) error {
		now, err := tx.Token(issued.ID)
		require.NoError(t, err)
		require.NoError(t, tx.UpdateToken(&now))
		replaced := record
		replaced.Status = token.Retired
		return tx.UpdateSecret(&replaced)
	})
	retired, err = writeFirstUse(t.Context(), store, &record, time.Now())
	require.NoError(t, err)
	require.True(t, retired)
}
