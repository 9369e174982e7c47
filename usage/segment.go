package usage

import (
	"errors"
	"path/filepath"
	"sync/atomic"
)

// segment is one that is being written. Only the writer changes it.
type segment struct {
	header
	file   File
	start  int64
	length int64
	salt   uint32
	buffer []byte
	// abandoned: it was closed after an error, and what a sync says no longer matters.
	abandoned atomic.Bool
}

// newSegment makes the file and writes what comes first.
func newSegment(files Files, dir string, h header, first []record) (*segment, error) {
	f, err := files.Create(filepath.Join(dir, segmentName(h.run, h.number)))
	if err != nil {
		return nil, err
	}
	b := h.encode()
	_, n, salt, err := decodeHeader(b)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s := &segment{header: h, file: f, start: int64(n), salt: salt, buffer: b}
	for i := range first {
		if s.buffer, err = appendRecord(s.buffer, &first[i], salt, int64(len(s.buffer))); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	if _, err := f.WriteAt(s.buffer, 0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s.length = int64(len(s.buffer))
	return s, nil
}

// append writes records with one call. After an error the segment must not be
// written again: nobody knows what stands at its end.
func (s *segment) append(records []record) error {
	s.buffer = s.buffer[:0]
	for i := range records {
		var err error
		if s.buffer, err = appendRecord(s.buffer, &records[i], s.salt, s.length+int64(len(s.buffer))); err != nil {
			return err
		}
	}
	return s.flush()
}

// end writes the record that says that nothing is missing after it.
func (s *segment) end() error {
	return s.append([]record{{kind: endRecord}})
}

func (s *segment) flush() error {
	if _, err := s.file.WriteAt(s.buffer, s.length); err != nil {
		return err
	}
	s.length += int64(len(s.buffer))
	return nil
}
