package storetest

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// Memory is a directory that needs no disk, where there is one, for tests that are
// not about what a disk does: waiting for it takes most of their time.
func Memory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "sallyport-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}
