package pgtest

import (
	"path/filepath"
	"testing"
)

// Dump makes a backup of a database with pg_dump and gives its file.
func (s *Server) Dump(t testing.TB, url string) (path string) {
	t.Helper()
	path = filepath.Join(folder(t), "dump")
	if _, err := s.command("pg_dump", "--format", "custom", "--file", path, "--dbname", url); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return path
}

// Restore puts a backup back into a database, in one transaction, in place of
// what is there.
func (s *Server) Restore(t testing.TB, path, url string) {
	t.Helper()
	if _, err := s.command("pg_restore", "--clean", "--if-exists", "--single-transaction", "--dbname", url, path); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}
