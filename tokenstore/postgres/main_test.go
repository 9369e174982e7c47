package postgres_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
)

// Some tests need another process: the test binary runs itself with this
// variable set to what the process is to do.
const childVariable = "SALLYPORT_POSTGRES_TEST_CHILD"

func TestMain(m *testing.M) {
	switch role := os.Getenv(childVariable); role {
	case "":
		// Tests of what hangs and what is cut off wait, most of the time.
		flag.Parse()
		check(flag.Set("test.parallel", "8"))
		os.Exit(pgtest.Run(m))
	case "write":
		writeUntilKilled()
	case "hold":
		holdHead()
	default:
		fmt.Fprintln(os.Stderr, "no such child:", role)
		os.Exit(2)
	}
}
