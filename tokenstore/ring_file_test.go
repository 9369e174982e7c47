package tokenstore_test

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore"
)

func TestAMissingKeyFileIsMadeOnceAndReadFromThenOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	_, err := tokenstore.LoadRing(path, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, path)
	require.NoFileExists(t, path)

	made, err := tokenstore.LoadRing(path, rand.Reader)
	require.NoError(t, err)
	require.True(t, made.Created)
	require.Empty(t, made.Warning)

	info, err := os.Stat(path)
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	}

	for _, random := range []bool{false, true} {
		read, err := tokenstore.LoadRing(path, nil)
		if random {
			read, err = tokenstore.LoadRing(path, rand.Reader)
		}
		require.NoError(t, err)
		require.False(t, read.Created)
		sameRing(t, made.Ring, read.Ring)
	}

	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing but the key file is left")
}

func TestProcessesThatStartTogetherEndUpWithOneKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	rings := make([]tokenstore.RingFile, 8)
	var wg sync.WaitGroup
	for i := range rings {
		wg.Go(func() {
			var err error
			if rings[i], err = tokenstore.LoadRing(path, rand.Reader); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	created := 0
	for _, r := range rings {
		sameRing(t, rings[0].Ring, r.Ring)
		if r.Created {
			created++
		}
	}
	require.Equal(t, 1, created)
}

func TestAKeyFileThatOthersCanWriteIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes say nothing there")
	}
	path := filepath.Join(t.TempDir(), "master.key")
	_, err := tokenstore.LoadRing(path, rand.Reader)
	require.NoError(t, err)
	for mode, verdict := range map[fs.FileMode]string{
		0o600: "fine", 0o400: "fine", 0o440: "fine", 0o640: "fine",
		0o444: "warning", 0o644: "warning", 0o604: "warning",
		0o660: "refused", 0o620: "refused", 0o602: "refused", 0o666: "refused",
	} {
		require.NoError(t, os.Chmod(path, mode))
		file, err := tokenstore.LoadRing(path, nil)
		switch verdict {
		case "refused":
			require.ErrorContains(t, err, "chmod 600 "+path, "mode %o", mode)
			require.Nil(t, file.Ring)
		case "warning":
			require.NoError(t, err, "mode %o", mode)
			require.Contains(t, file.Warning, "chmod 600 "+path, "mode %o", mode)
		default:
			require.NoError(t, err, "mode %o", mode)
			require.Empty(t, file.Warning, "mode %o", mode)
		}
	}
}

func TestAKeyFileIsNeverReplacedOrLeftHalfWritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "master.key")

	broken := errors.New("no randomness")
	_, err := tokenstore.LoadRing(path, iotest.ErrReader(broken))
	require.ErrorIs(t, err, broken)
	require.NoFileExists(t, path)

	require.NoError(t, os.WriteFile(path, []byte("k1:damaged\n"), 0o600))
	_, err = tokenstore.LoadRing(path, rand.Reader)
	require.ErrorContains(t, err, path)
	require.ErrorContains(t, err, "line 1")
	require.NotContains(t, err.Error(), "damaged")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "k1:damaged\n", string(text))

	_, err = tokenstore.LoadRing(filepath.Join(dir, "missing", "master.key"), rand.Reader)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = tokenstore.LoadRing(dir, rand.Reader)
	require.Error(t, err, "a directory")
}
