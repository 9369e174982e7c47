//go:build unix

package sqlite_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
)

func TestMakesItsFilesForItsUserOnly(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	path, ring := filepath.Join(t.TempDir(), "s.db"), newRing(t)
	for range 2 { // new, and opened again
		s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring})
		require.NoError(t, err)
		require.NoError(t, s.Write(t.Context(), func(tx *tokenstore.Tx) error { return tx.PutNode(tokenstore.Node{ID: "n"}) }))
		for _, name := range []string{path, path + "-wal", path + "-shm"} {
			info, err := os.Stat(name)
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o600), info.Mode(), name)
		}
		require.NoError(t, s.Close())
	}
	files, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, files, 1, "a closed store is one file")
}

// Root may read everything, so the store is opened by somebody else.
func TestRefusesAFileThatItMayNotUse(t *testing.T) {
	if os.Getuid() != 0 || runtime.GOOS != "linux" {
		t.Skip("needs root, to become somebody else")
	}
	for name, c := range map[string]struct {
		file, dir os.FileMode
		mend      string
	}{
		"unreadable":          {0o000, 0o777, "read and write the file"},
		"read-only":           {0o444, 0o777, "read and write the file"},
		"read-only directory": {0o666, 0o555, "write to the directory"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "sallyport")
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
			path := filepath.Join(dir, "s.db")
			s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: newRing(t)})
			require.NoError(t, err)
			require.NoError(t, s.Close())
			require.NoError(t, os.Chmod(path, c.file))
			require.NoError(t, os.Chmod(dir, c.dir))
			// A binary that somebody else may run.
			self, err := os.ReadFile("/proc/self/exe")
			require.NoError(t, err)
			binary, err := os.CreateTemp("", "sallyport-child")
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, os.Remove(binary.Name())) })
			_, err = binary.Write(self)
			require.NoError(t, err)
			require.NoError(t, binary.Chmod(0o755))
			require.NoError(t, binary.Close())
			child := exec.CommandContext(t.Context(), binary.Name())
			child.Dir = "/"
			child.Env = append(os.Environ(), childVariable+"=open", "STORE="+path)
			child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			out, err := child.CombinedOutput()
			require.NoError(t, err, string(out))
			require.Contains(t, string(out), path)
			require.Contains(t, string(out), c.mend)
		})
	}
}
