package pgtest

import (
	"fmt"
	"os"
	"sync"
	"testing"
)

var shared struct {
	once   sync.Once
	server *Server
	owner  processTB
}

// Shared is one server for all tests of a process that do it no harm. The
// package's TestMain must end with os.Exit(pgtest.Run(m)).
func Shared(t testing.TB) *Server {
	t.Helper()
	shared.once.Do(func() { shared.server = Start(&shared.owner, "max_connections = 500") })
	if shared.server == nil {
		t.Fatal("pgtest: the shared server did not start")
	}
	return shared.server
}

// Run runs the tests and ends the shared server.
func Run(m *testing.M) int {
	code := m.Run()
	shared.owner.end()
	return code
}

// processTB is what a server that outlives each single test belongs to.
type processTB struct {
	testing.TB
	cleanups []func()
}

func (*processTB) Helper() {}

func (p *processTB) Cleanup(f func()) { p.cleanups = append(p.cleanups, f) }

func (*processTB) Log(args ...any) { fmt.Fprintln(os.Stderr, args...) }

func (*processTB) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

func (*processTB) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (p *processTB) end() {
	for i := len(p.cleanups) - 1; i >= 0; i-- {
		p.cleanups[i]()
	}
}
