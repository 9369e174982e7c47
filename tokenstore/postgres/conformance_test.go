package postgres_test

import (
	"testing"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// The suite runs in pgx's own mode and in the one that poolers understand.
func TestTheStoreKeepsTheContract(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]string{
		"with prepared statements": "",
		"in the simple protocol":   simple,
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) (tokenstore.Store, *tokenstore.Ring) {
				ring := storetest.Ring(t)
				return open(t, database(t)+mode, postgres.Options{Ring: ring}), ring
			})
		})
	}
}
