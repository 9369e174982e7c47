package usage_test

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/sallyport/sallyport/usage"
)

var errDead = errors.New("the process is dead")

// shim is a disk in memory. It can lose what was not synced, fail, and hang.
type shim struct {
	mu    sync.Mutex
	files map[string]*shimFile // as the running system sees them
	names map[string]*shimFile // as they are on the disk
	locks map[string]bool
	life  int // handles of an earlier life are dead

	// fault is asked before every operation that changes something.
	fault func(op, path string) error
	// hang holds operations up until it is closed.
	hang chan struct{}
}

type shimFile struct {
	data, durable []byte
	unsynced      []shimWrite
}

type shimWrite struct {
	at int64
	b  []byte
}

func newShim() *shim {
	return &shim{files: map[string]*shimFile{}, names: map[string]*shimFile{}, locks: map[string]bool{}}
}

// kill ends the process: what was written stays.
func (s *shim) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life++
	s.locks = map[string]bool{}
}

// cutPower also loses what was not synced: each such write as a whole, or in part,
// or not at all.
func (s *shim) cutPower(chance func(n int) int) {
	s.kill()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files = map[string]*shimFile{}
	for path, f := range s.names {
		data := slices.Clone(f.durable)
		for _, w := range f.unsynced {
			switch chance(3) {
			case 0:
				data = patch(data, w.at, w.b)
			case 1:
				data = patch(data, w.at, w.b[:chance(len(w.b)+1)])
			}
		}
		s.files[path] = &shimFile{data: data, durable: slices.Clone(data)}
		s.names[path] = s.files[path]
	}
}

func patch(data []byte, at int64, b []byte) []byte {
	if len(b) == 0 {
		return data
	}
	for int64(len(data)) < at+int64(len(b)) {
		data = append(data, 0)
	}
	copy(data[at:], b)
	return data
}

func (s *shim) enter(op, path string, life int) error {
	s.mu.Lock()
	hang, fault, dead := s.hang, s.fault, life >= 0 && life != s.life
	s.mu.Unlock()
	if dead {
		return errDead
	}
	if hang != nil && op != "read" && !strings.HasPrefix(path, "/witness") {
		<-hang
	}
	if fault != nil && !strings.HasPrefix(path, "/witness") {
		return fault(op, filepath.Base(path))
	}
	return nil
}

func (s *shim) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// view is the disk as one process sees it, until it is killed.
type view struct {
	*shim
	life int
}

func (s *shim) view() view {
	s.mu.Lock()
	defer s.mu.Unlock()
	return view{s, s.life}
}

func (s view) alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.life == s.shim.life
}

func (s view) MkdirAll(dir string) error { return s.enter("mkdir", dir, s.life) }

func (s view) Lock(path string) (func() error, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.locks[path] {
		return nil, usage.ErrLocked
	}
	s.locks[path] = true
	return func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.life == s.shim.life {
			delete(s.locks, path)
		}
		return nil
	}, nil
}

func (s view) Create(path string) (usage.File, error) {
	if err := s.enter("create", path, s.life); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files[path] != nil {
		return nil, fs.ErrExist
	}
	f := &shimFile{}
	s.files[path] = f
	return &shimHandle{s.shim, f, path, s.life}, nil
}

func (s view) Open(path string) (usage.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[path]
	if f == nil {
		return nil, fs.ErrNotExist
	}
	return &shimHandle{s.shim, f, path, s.life}, nil
}

func (s *shim) List(string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for path := range s.files {
		if filepath.Dir(path) != "/journal" {
			continue
		}
		names = append(names, filepath.Base(path))
	}
	return names, nil
}

func (s view) Rename(from, to string) error {
	if err := s.enter("rename", from, s.life); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[to] = s.files[from]
	delete(s.files, from)
	return nil
}

func (s view) Remove(path string) error {
	if err := s.enter("remove", path, s.life); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files[path] == nil {
		return fs.ErrNotExist
	}
	delete(s.files, path)
	return nil
}

func (s view) SyncDir(dir string) error {
	if err := s.enter("syncdir", dir, s.life); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names = map[string]*shimFile{}
	for path, f := range s.files {
		s.names[path] = f
	}
	return nil
}

// named lists what ends so.
func (s *shim) named(suffix string) []string {
	names, _ := s.List("")
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, suffix) })
	slices.Sort(names)
	return names
}

type shimHandle struct {
	s    *shim
	f    *shimFile
	path string
	life int
}

func (h *shimHandle) ReadAt(b []byte, at int64) (int, error) {
	if err := h.s.enter("read", h.path, h.life); err != nil {
		return 0, err
	}
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if at >= int64(len(h.f.data)) {
		return 0, io.EOF
	}
	n := copy(b, h.f.data[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (h *shimHandle) WriteAt(b []byte, at int64) (int, error) {
	if err := h.s.enter("write", h.path, h.life); err != nil {
		// A write that fails has often done half of its work.
		h.s.set(func() { h.f.data = patch(h.f.data, at, b[:len(b)/2]) })
		return len(b) / 2, err
	}
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if h.life != h.s.life {
		return 0, errDead
	}
	h.f.data = patch(h.f.data, at, b)
	h.f.unsynced = append(h.f.unsynced, shimWrite{at, slices.Clone(b)})
	return len(b), nil
}

func (h *shimHandle) Sync() error {
	if err := h.s.enter("sync", h.path, h.life); err != nil {
		// As the kernel does it: what could not be written is forgotten, and the next
		// call succeeds.
		h.s.set(func() { h.f.unsynced = nil })
		return err
	}
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if h.life != h.s.life {
		return errDead
	}
	for _, w := range h.f.unsynced {
		h.f.durable = patch(h.f.durable, w.at, w.b)
	}
	h.f.unsynced = nil
	return nil
}

func (h *shimHandle) Size() (int64, error) {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	return int64(len(h.f.data)), nil
}

func (h *shimHandle) Close() error { return nil }

func seeded(seed uint64) func(int) int { return rand.New(rand.NewPCG(seed, 1)).IntN }
