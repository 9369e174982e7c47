package storecopy_test

import (
	"os"
	"testing"

	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
)

func TestMain(m *testing.M) {
	os.Exit(pgtest.Run(m))
}
