package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

func newRing(t testing.TB) *tokenstore.Ring { return storetest.Ring(t) }

func TestTheContractHolds(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (tokenstore.Store, *tokenstore.Ring) {
		ring := newRing(t)
		s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"), sqlite.Options{Ring: ring})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		return s, ring
	})
}
