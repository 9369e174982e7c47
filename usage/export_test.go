package usage

import (
	"bytes"
	"unsafe"

	"github.com/sallyport/sallyport/token"
)

// For tests.
const (
	MaxKinds = maxKinds
	CellSize = unsafe.Sizeof(cell{})
)

var (
	ClampBucket = clampBucket
	FullSegment = fullSegment
	FullMark    = func() []byte {
		m := mark{turn: 3, run: "run_1", boot: "b", first: 1, segment: 2, offset: 99}
		return m.encode()
	}
	DecodeMark = func(b []byte) (run token.ID, ok bool) { m, ok := decodeMark(b); return m.run, ok }
)

type bytesFile struct{ *bytes.Reader }

func (f bytesFile) WriteAt([]byte, int64) (int, error) { return 0, errDamaged }
func (f bytesFile) Sync() error                        { return nil }
func (f bytesFile) Size() (int64, error)               { return f.Reader.Size(), nil }
func (f bytesFile) Close() error                       { return nil }

// Measure reads a segment: how far it is good, and what is in it.
func Measure(b []byte) (length int64, facts []token.Fact, gaps []token.Gap, err error) {
	e, err := measure(bytesFile{bytes.NewReader(b)})
	if err != nil {
		return 0, nil, nil, err
	}
	c := cursor{file: bytes.NewReader(b), at: e.start, end: e.length, salt: e.salt}
	for {
		r, err := c.next()
		if err != nil {
			return 0, nil, nil, err
		}
		if r == nil {
			return e.length, facts, gaps, nil
		}
		switch r.kind {
		case factRecord:
			facts = append(facts, r.fact)
		case gapRecord:
			gaps = append(gaps, r.gap)
		case endRecord:
		}
	}
}

func fullSegment(facts []token.Fact, gaps []token.Gap) []byte {
	h := header{node: "node-1", run: "run_1", boot: "boot", number: 1}
	b := h.encode()
	_, _, salt, err := decodeHeader(b)
	if err != nil {
		panic(err)
	}
	for _, r := range append(entries(gaps, facts), record{kind: endRecord}) {
		if b, err = appendRecord(b, &r, salt, int64(len(b))); err != nil {
			panic(err)
		}
	}
	return b
}
