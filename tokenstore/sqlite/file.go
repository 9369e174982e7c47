package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	// applicationID marks the file as Sallyport's, in the header's field for it.
	applicationID = 0x53414c59 // "SALY"
	magic         = "SQLite format 3\x00"
	// quickCheckSize is the size up to which a file is checked whole at every
	// start: that takes a fraction of a second.
	quickCheckSize = 16 << 20
)

// prepareFile makes sure that the file can be used, and makes an empty one when
// there is none: its permissions are right then from the first byte on.
func prepareFile(path string) (fresh bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := createFile(path); err != nil {
			return false, err
		}
		return true, prepareSharedMemory(path)
	case errors.Is(err, fs.ErrPermission):
		return false, fmt.Errorf("%w: let the user that the gateway runs as read and write the file and its directory", err)
	case err != nil && isDir(path):
		return false, errors.New("it is a directory: name a file in it")
	case err != nil && !isDir(filepath.Dir(path)):
		return false, fmt.Errorf("%w: name a file in a directory", err)
	case err != nil:
		return false, err
	}
	fresh, err = looksFresh(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return false, err
	}
	return fresh, prepareSharedMemory(path)
}

// looksFresh refuses what is no database before SQLite sees it. A file with
// nothing in it is as good as none.
func looksFresh(f *os.File) (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, errors.New("it is no regular file: name another one")
	}
	if info.Size() == 0 {
		return true, nil
	}
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(f, head); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, err
	}
	if !bytes.Equal(head, []byte(magic)) {
		return false, errForeign
	}
	return false, nil
}

func createFile(path string) error {
	dir := filepath.Dir(path)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("its directory does not exist: mkdir -p -m 700 %s", dir)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: let the user that the gateway runs as write to the directory %s", err, dir)
	}
	if err != nil {
		return err
	}
	return f.Close()
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// prepareSharedMemory makes the file through which processes share the index of
// the write-ahead log. SQLite would make it readable for all. It also shows
// whether files can be made in the directory at all.
func prepareSharedMemory(path string) error {
	f, err := os.OpenFile(path+"-shm", os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: let the user that the gateway runs as write to the directory %s", err, filepath.Dir(path))
	}
	if err != nil {
		return err
	}
	return f.Close()
}

var (
	errForeign = errors.New("it is no Sallyport database, or its first page is destroyed: name another file, or move this one away and restore a backup")
	errDamaged = errors.New("the file is damaged: stop every process that uses it, move it away together with its -wal and -shm files, and restore a backup")
)

// inspect refuses a file that is not ours or that is damaged, before anything is
// written to it.
//
// The whole file is checked page by page when it is small, or when its last
// process did not close it: then a write-ahead log lies beside it. A large file
// that was closed is not, since that takes seconds at a million tokens: a
// damaged page is noticed when it is read. Nor is a large file that another
// process has open, as when a command is used beside the gateway.
func inspect(ctx context.Context, path string, busy time.Duration, fresh bool) error {
	if fresh {
		return nil
	}
	whole := sizeOf(path) <= quickCheckSize
	if !whole && sizeOf(path+"-wal") > 0 {
		used, err := inUse(ctx, path)
		if err != nil {
			return mendable(err)
		}
		whole = !used
	}
	pool, err := connect(path, setBusyTimeout(busy), "PRAGMA query_only = on", "PRAGMA cell_size_check = on")
	if err != nil {
		return err
	}
	err = inspectConn(ctx, pool, whole)
	return mendable(errors.Join(err, pool.Close()))
}

func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// inUse says whether another connection is open: then the file can not be had
// for this one alone.
func inUse(ctx context.Context, path string) (bool, error) {
	pool, err := connect(path, setBusyTimeout(0), "PRAGMA locking_mode = exclusive")
	if err != nil {
		return false, err
	}
	var tables int64
	err = pool.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables)
	closeErr := pool.Close()
	if isBusy(err) {
		return true, closeErr
	}
	return false, errors.Join(err, closeErr)
}

// mendable says what to do about a file that SQLite can not read.
func mendable(err error) error {
	switch {
	case isNoDatabase(err):
		return fmt.Errorf("%w (%w)", errForeign, err)
	case isDamaged(err):
		return fmt.Errorf("%w (%w)", errDamaged, err)
	default:
		return err
	}
}

func inspectConn(ctx context.Context, pool *sql.DB, whole bool) error {
	var id, tables int64
	if err := pool.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return err
	}
	if err := pool.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return err
	}
	// A file that was made and not filled, because the process was killed, is as good as new.
	if id != applicationID && (id != 0 || tables != 0) {
		return errForeign
	}
	if !whole {
		return nil
	}
	var found string
	if err := pool.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&found); err != nil {
		return err
	}
	if found != "ok" {
		return fmt.Errorf("%w (%s)", errDamaged, found)
	}
	return nil
}
