package usage

import (
	"errors"
	"io"
	"io/fs"
)

// cursor reads records one after the other up to an end.
type cursor struct {
	file io.ReaderAt
	at   int64
	end  int64
	salt uint32

	buffer []byte
	base   int64 // where the buffer begins
}

const readSize = 256 << 10

// next gives the record at the cursor and steps over it; nil at the end. A record
// that the end cuts off is errDamaged, as one that is wrong.
func (c *cursor) next() (*record, error) {
	for {
		if c.at >= c.end {
			return nil, nil
		}
		have := c.buffer[min(int64(len(c.buffer)), c.at-c.base):]
		r, size, err := decodeRecord(have, c.salt, c.at)
		if err != nil {
			return nil, err
		}
		if size > 0 {
			c.at += int64(size)
			return &r, nil
		}
		if c.at+int64(len(have)) >= c.end {
			return nil, errDamaged
		}
		b := make([]byte, min(readSize, c.end-c.at))
		if err := readFull(c.file, b, c.at); err != nil {
			return nil, err
		}
		c.buffer, c.base = b, c.at
	}
}

// readFull reads exactly b. A file that is shorter than it said is damaged.
func readFull(f io.ReaderAt, b []byte, at int64) error {
	n, err := f.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return errDamaged
	}
	return err
}

func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
