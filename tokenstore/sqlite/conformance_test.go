package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

func TestTheStoreKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (tokenstore.Store, *tokenstore.Ring) {
		ring := storetest.Ring(t)
		store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "sallyport.db"), sqlite.Options{Ring: ring})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, store.Close()) })
		return store, ring
	})
}
