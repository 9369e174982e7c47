package usage

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Files is what the journal needs of a file system. Tests put one in its place
// that loses what was not synced, fails, or hangs.
type Files interface {
	// MkdirAll makes a directory that only the owner may read.
	MkdirAll(dir string) error
	// Lock takes a lock on a file that ends with the process at the latest, or
	// returns ErrLocked.
	Lock(path string) (unlock func() error, err error)
	// Create makes a new file for reading and writing; it fails when there is one.
	Create(path string) (File, error)
	// Open opens a file for reading.
	Open(path string) (File, error)
	// List names the files of a directory.
	List(dir string) ([]string, error)
	Rename(from, to string) error
	Remove(path string) error
	// SyncDir makes created, renamed and removed names survive a loss of power.
	SyncDir(dir string) error
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync makes what was written survive a loss of power. After an error nothing is
	// known about any write since the last success, whatever a second call says.
	Sync() error
	Size() (int64, error)
}

// ErrLocked is returned for a journal that another process is writing.
var ErrLocked = errors.New("another process holds the lock")

// DiskFiles is the machine's own file system.
func DiskFiles() Files { return disk{} }

type disk struct{}

func (disk) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

func (disk) Lock(path string) (func() error, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	// The file stays: removing it would let a third process lock a new one beside
	// a second that waits for the old.
	return f.Close, nil
}

func (disk) Create(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

func (disk) Open(path string) (File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

func (disk) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (disk) Rename(from, to string) error { return os.Rename(from, to) }
func (disk) Remove(path string) error     { return os.Remove(path) }

func (disk) SyncDir(dir string) error {
	f, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return err
	}
	return errors.Join(syncDir(f), f.Close())
}

type diskFile struct{ *os.File }

func (f diskFile) Sync() error { return syncData(f.File) }

func (f diskFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Boot tells one start of the machine from the next: what was written without
// being synced survives the process, but not the machine.
type Boot struct {
	ID string // empty: not known, so that every unclean end counts as a loss of power
	At time.Time
}
