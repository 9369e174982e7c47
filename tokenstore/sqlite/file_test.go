package sqlite_test

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ncruces/go-sqlite3/driver"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
)

// rawPool opens the file past the store.
func rawPool(t testing.TB, path string) *sql.DB {
	t.Helper()
	pool, err := driver.Open("file:" + path + "?_pragma=busy_timeout(10000)")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	return pool
}

// closedStore makes a file with a few records in it.
func closedStore(t testing.TB) (path string, ring *tokenstore.Ring) {
	t.Helper()
	path, ring = filepath.Join(t.TempDir(), "s.db"), newRing(t)
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring})
	require.NoError(t, err)
	require.NoError(t, s.Write(t.Context(), changeAll(ring)))
	require.NoError(t, s.Close())
	return path, ring
}

// refused demands that the file is not opened, that the error names it and says
// what to do, and that the file is left as it is.
func refused(t *testing.T, path string, mends ...string) {
	t.Helper()
	before, readErr := os.ReadFile(path)
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: newRing(t)})
	if err == nil {
		require.NoError(t, s.Close())
	}
	require.Error(t, err)
	require.ErrorContains(t, err, path)
	for _, mend := range mends {
		require.ErrorContains(t, err, mend)
	}
	if readErr == nil {
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, before, after, "what was refused is not touched")
	}
}

func TestRefusesADirectory(t *testing.T) {
	refused(t, t.TempDir(), "is a directory", "name a file in it")
}

func TestRefusesAPathWithoutDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	refused(t, filepath.Join(dir, "s.db"), "mkdir -p -m 700 "+dir)
	require.NoDirExists(t, dir)
}

func TestRefusesAPathBelowAFile(t *testing.T) {
	path, _ := closedStore(t)
	refused(t, filepath.Join(path, "s.db"), "name a file in a directory")
}

func TestRefusesAFileThatIsNoDatabase(t *testing.T) {
	for name, content := range map[string]string{
		"text":  strings.Repeat("sallyport { store sqlite }\n", 1000),
		"short": "x",
		"zeros": strings.Repeat("\x00", 8192),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.db")
			require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
			refused(t, path, "no Sallyport database", "name another file")
		})
	}
}

func TestRefusesADeviceFile(t *testing.T) {
	refused(t, os.DevNull, "no regular file")
}

func TestRefusesTheDatabaseOfSomethingElse(t *testing.T) {
	for name, setup := range map[string]string{
		"unmarked": "CREATE TABLE notes (text TEXT)",
		"marked":   "PRAGMA application_id = 77; CREATE TABLE tokens (id TEXT)",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.db")
			pool := rawPool(t, path)
			_, err := pool.ExecContext(t.Context(), setup)
			require.NoError(t, err)
			require.NoError(t, pool.Close())
			refused(t, path, "no Sallyport database", "name another file")
		})
	}
}

func TestRefusesASchemaOfALaterRelease(t *testing.T) {
	path, _ := closedStore(t)
	pool := rawPool(t, path)
	_, err := pool.ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)")
	require.NoError(t, err)
	require.NoError(t, pool.Close())
	refused(t, path, "version 9999", "upgrade Sallyport", "restore a backup")
}

func TestTakesAnEmptyFileAsNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: newRing(t)})
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

func TestTakesAFileThatWasMadeAndNotFilled(t *testing.T) {
	// As a process leaves it that is killed before the first migration.
	path := filepath.Join(t.TempDir(), "s.db")
	pool := rawPool(t, path)
	_, err := pool.ExecContext(t.Context(), "PRAGMA journal_mode = wal")
	require.NoError(t, err)
	require.NoError(t, pool.Close())
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: newRing(t)})
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

func TestTakesPathsWithSpecialCharacters(t *testing.T) {
	for _, name := range []string{"a b.db", "a?b.db", "a#b.db", "a%20b.db", "ä&=+.db", "file:x.db"} {
		path := filepath.Join(t.TempDir(), name)
		s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: newRing(t)})
		require.NoError(t, err, name)
		require.NoError(t, s.Close())
		require.FileExists(t, path)
	}
}

func TestTakesARelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	s, err := sqlite.Open(t.Context(), "s.db", sqlite.Options{Ring: newRing(t)})
	require.NoError(t, err)
	t.Chdir(t.TempDir())
	require.NoError(t, s.Write(t.Context(), func(tx *tokenstore.Tx) error { return tx.PutNode(tokenstore.Node{ID: "n"}) }))
	require.NoError(t, s.Close())
}

// F23: dd over a page. Every page counts, whatever is in it.
func TestRefusesAFileWithAPageOverwritten(t *testing.T) {
	path, _ := closedStore(t)
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	const page = 4096
	require.Zero(t, len(good)%page)
	random := rand.New(rand.NewPCG(5, 6))
	for at := 0; at < len(good); at += page {
		t.Run(fmt.Sprintf("page %d", at/page+1), func(t *testing.T) {
			damaged := append([]byte(nil), good...)
			for i := range page {
				damaged[at+i] = byte(random.Uint32())
			}
			path := filepath.Join(t.TempDir(), "s.db")
			require.NoError(t, os.WriteFile(path, damaged, 0o600))
			refused(t, path, "restore a backup")
		})
	}
}

func TestRefusesAFileThatWasCutShort(t *testing.T) {
	path, _ := closedStore(t)
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, size := range []int{50, 4000, 4096, len(good) / 2, len(good) - 4096} {
		t.Run(fmt.Sprintf("%d of %d bytes", size, len(good)), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.db")
			require.NoError(t, os.WriteFile(path, good[:size], 0o600))
			refused(t, path, "restore a backup")
		})
	}
}

// damageLeaves overwrites pages here and there, but none that is read at the start.
func damageLeaves(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	require.NoError(t, err)
	require.Greater(t, len(content), 16<<20, "large, as the store takes it")
	const page = 4096
	for at := 100 * page; at < len(content); at += 50 * page {
		for i := range page {
			content[at+i] = byte(i * 7)
		}
	}
	require.NoError(t, os.WriteFile(to, content, 0o600))
}

func TestALargeFileIsCheckedWhenItWasNotClosed(t *testing.T) {
	sequential(t)
	path, ring := closedStore(t)
	fill(t, path, 25_000)
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.Write(t.Context(), func(tx *tokenstore.Tx) error { return tx.PutNode(tokenstore.Node{ID: "n"}) }))

	// As a kill leaves it, with a log beside it.
	killed := filepath.Join(t.TempDir(), "killed.db")
	damageLeaves(t, path, killed)
	log, err := os.ReadFile(path + "-wal")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(killed+"-wal", log, 0o600))
	s2, err := sqlite.Open(t.Context(), killed, sqlite.Options{Ring: ring})
	if err == nil {
		_ = s2.Close()
	}
	require.ErrorContains(t, err, "restore a backup")

	// While it is in use, others do not check it again.
	s3, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring})
	require.NoError(t, err)
	require.NoError(t, s3.Close())

	// Closed, it is opened at once; what is damaged is noticed when it is read.
	require.NoError(t, s.Close())
	closed := filepath.Join(t.TempDir(), "closed.db")
	damageLeaves(t, path, closed)
	s4, err := sqlite.Open(t.Context(), closed, sqlite.Options{Ring: ring})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s4.Close() })
	var failed error
	for i := 0; i < 25_000 && failed == nil; i++ {
		if _, err := s4.Lookup(t.Context(), filledLookup(i)); err != nil {
			failed = err
		}
		if err := s4.Read(t.Context(), func(tx *tokenstore.Tx) error { return second(tx.Token(filledToken(i))) }); err != nil {
			failed = err
		}
	}
	require.ErrorIs(t, failed, tokenstore.ErrUnavailable)
	require.ErrorContains(t, failed, "restore")
}

// A flipped bit inside a value is nothing that SQLite can see. Whatever is hit,
// the answer is an error that says what to do, or a store that still answers.
func TestSurvivesFlippedBits(t *testing.T) {
	sequential(t)
	path, ring := closedStore(t)
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	rounds := 300
	if testing.Short() {
		rounds = 50
	}
	random := rand.New(rand.NewPCG(7, 8))
	refusals := 0
	for range rounds {
		damaged := append([]byte(nil), good...)
		for range 1 + random.IntN(4) {
			damaged[random.IntN(len(damaged))] ^= 1 << random.IntN(8)
		}
		path := filepath.Join(t.TempDir(), "s.db")
		require.NoError(t, os.WriteFile(path, damaged, 0o600))
		s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring})
		if err != nil {
			refusals++
			require.ErrorContains(t, err, path)
			continue
		}
		_, _ = s.Lookup(t.Context(), tokenstore.Lookup{2})
		_ = s.Read(t.Context(), func(tx *tokenstore.Tx) error {
			_, _ = tx.Tokens(tokenstore.TokenQuery{})
			_, _, _ = tx.AuditEntries(tokenstore.AuditQuery{})
			return nil
		})
		_, _ = tokenstore.VerifyAudit(t.Context(), s, ring, nil)
		_ = s.Close()
	}
	t.Logf("%d of %d were refused", refusals, rounds)
	require.Positive(t, refusals)
}

func TestNoticesThatItsFileWasTakenAway(t *testing.T) {
	for name, take := range map[string]func(t *testing.T, path string){
		"deleted": func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) },
		"moved":   func(t *testing.T, path string) { require.NoError(t, os.Rename(path, path+".old")) },
		"replaced": func(t *testing.T, path string) {
			other, _ := closedStore(t)
			require.NoError(t, os.Rename(other, path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path, ring := closedStore(t)
			s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring})
			require.NoError(t, err)
			t.Cleanup(func() { _ = s.Close() })
			take(t, path)
			put := func(tx *tokenstore.Tx) error { return tx.PutNode(tokenstore.Node{ID: "n"}) }
			err = s.Write(t.Context(), put)
			require.ErrorIs(t, err, tokenstore.ErrUnavailable)
			require.ErrorContains(t, err, path)
			// The feed stops as well, so that nodes do not trust what they know for ever.
			_, err = s.Changes(t.Context(), tokenstore.Position{})
			require.ErrorIs(t, err, tokenstore.ErrUnavailable)
			if name == "moved" {
				require.NoError(t, os.Rename(path+".old", path))
				require.NoError(t, s.Write(t.Context(), put))
			}
		})
	}
}
