package tokenstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// RingFile is a ring with what was noticed about the file that it came from.
type RingFile struct {
	Ring    *Ring
	Created bool
	// Warning is for the operator's log; empty when all is well.
	Warning string
}

// LoadRing reads the master key file. A file that others can write is refused,
// since whoever chooses the key can make secrets that work; one that others can
// read is a warning, because containers mount their secrets so. With random set,
// a file that is missing is made with one fresh key, readable by the owner only,
// and durable before LoadRing returns: that is for a store that is new too.
func LoadRing(path string, random io.Reader) (RingFile, error) {
	file, err := readRing(path)
	if random == nil || !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	ring, err := NewRing(random)
	if err != nil {
		return RingFile{}, err
	}
	switch err := createRing(path, ring); {
	case errors.Is(err, fs.ErrExist):
		// Another process made it meanwhile: one key for both.
		return readRing(path)
	case err != nil:
		return RingFile{}, fmt.Errorf("create the master key file: %w", err)
	}
	return RingFile{Ring: ring, Created: true}, nil
}

func readRing(path string) (RingFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return RingFile{}, fmt.Errorf("open the master key file: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return RingFile{}, fmt.Errorf("look at the master key file: %w", err)
	}
	warning, err := checkRingMode(path, info.Mode())
	if err != nil {
		return RingFile{}, err
	}
	ring, err := ParseRing(f)
	if err != nil {
		return RingFile{}, fmt.Errorf("%s: %w", path, err)
	}
	return RingFile{Ring: ring, Warning: warning}, nil
}

// checkRingMode judges a file's mode. Windows has other means, which its mode
// bits do not show.
func checkRingMode(path string, mode fs.FileMode) (warning string, err error) {
	switch perm := mode.Perm(); {
	case runtime.GOOS == "windows" || !mode.IsRegular():
		return "", nil
	case perm&0o022 != 0:
		return "", fmt.Errorf("the master key file can be written by others than its owner: chmod 600 %s", path)
	case perm&0o004 != 0:
		return fmt.Sprintf("the master key file can be read by every user of this machine: chmod 600 %s", path), nil
	}
	return "", nil
}

// createRing makes the file appear with its whole content or not at all, also
// when the process dies in between, and never over a file that is there.
func createRing(path string, ring *Ring) error {
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, ".master-key-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }()
	if err := writeRing(temp, ring); err != nil {
		return err
	}
	err = os.Link(temp.Name(), path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		// Some file systems have no hard links: dying half-way then leaves a file
		// without a key, which the next start refuses.
		err = createRingInPlace(path, ring)
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

func createRingInPlace(path string, ring *Ring) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := writeRing(f, ring); err != nil {
		_ = os.Remove(path)
		return err
	}
	return nil
}

func writeRing(f *os.File, ring *Ring) error {
	_, err := ring.WriteTo(f)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// syncDir makes a new name in a directory durable.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // directories can not be synced there, and names are journaled
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
