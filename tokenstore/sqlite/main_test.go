package sqlite_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/sallyport/sallyport/tokenstore/sqlite"
)

// Some tests need another process: the test binary runs itself with this
// variable set to what the process is to do.
const childVariable = "SALLYPORT_SQLITE_TEST_CHILD"

func TestMain(m *testing.M) {
	switch role := os.Getenv(childVariable); role {
	case "":
		os.Exit(m.Run())
	case "open":
		openOnly()
	case "write":
		writeUntilKilled()
	default:
		fmt.Fprintln(os.Stderr, "no such child:", role)
		os.Exit(2)
	}
}

// openOnly prints why the store can not be opened.
func openOnly() {
	s, err := sqlite.Open(context.Background(), os.Getenv("STORE"), sqlite.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("opened", s.Close())
}

// sequential skips what has many rows and one goroutine: the race detector finds
// nothing in it and takes minutes.
func sequential(t *testing.T) {
	t.Helper()
	if raceDetector {
		t.Skip("nothing here is concurrent")
	}
}
