package usage

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"

	"github.com/sallyport/sallyport/token"
)

// A segment is a header and records, each behind its length and a checksum. The
// checksum of a record starts from that of the header and the record's place, so
// that a record of another segment, or of another place, is none.
//
//	header:  magic [8], version u16, length u16, CRC u32, then length bytes
//	record:  length u32, CRC u32, kind u8, then length-1 bytes
//
// All integers are big-endian. Times are nanoseconds of Unix time, 0 for none.
const (
	magic         = "sallyact"
	formatVersion = 1
	preambleSize  = 16
	frameSize     = 8
	// maxRecord is more than any fact takes: what is longer is damage.
	maxRecord = 2048
	maxHeader = 1024
)

type kind uint8

const (
	factRecord kind = iota + 1
	gapRecord
	endRecord // the segment ends here on purpose: another one follows
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	errDamaged  = errors.New("damaged")
	errTooLong  = errors.New("an ID is too long for the journal")
	errVersion  = errors.New("written by another version")
	errNoHeader = errors.New("no header of a journal")
)

// header says whose segment it is.
type header struct {
	node      string
	run       token.ID
	boot      string
	startedAt time.Time // of the run
	number    uint32    // of the segment within its run, from 1
	synced    bool      // every record was synced before anybody relied on it
}

func (h *header) encode() []byte {
	b := make([]byte, preambleSize, 256)
	copy(b, magic)
	binary.BigEndian.PutUint16(b[8:], formatVersion)
	b = appendText(b, h.node)
	b = appendText(b, string(h.run))
	b = appendText(b, h.boot)
	b = appendTime(b, h.startedAt)
	b = binary.BigEndian.AppendUint32(b, h.number)
	b = appendBool(b, h.synced)
	binary.BigEndian.PutUint16(b[10:], uint16(len(b)-preambleSize))
	binary.BigEndian.PutUint32(b[12:], headerSum(b))
	return b
}

func headerSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:12], castagnoli), castagnoli, b[preambleSize:])
}

// decodeHeader reads the header at the start of a segment. size is its length and
// salt what the checksums of the records start from.
func decodeHeader(b []byte) (h header, size int, salt uint32, err error) {
	if len(b) < preambleSize || string(b[:8]) != magic {
		return h, 0, 0, errNoHeader
	}
	if binary.BigEndian.Uint16(b[8:]) != formatVersion {
		return h, 0, 0, errVersion
	}
	size = preambleSize + int(binary.BigEndian.Uint16(b[10:]))
	salt = binary.BigEndian.Uint32(b[12:])
	if size > maxHeader || size > len(b) || headerSum(b[:size]) != salt {
		return h, 0, 0, errDamaged
	}
	r := reader{b: b[preambleSize:size]}
	h.node = r.text()
	h.run = token.ID(r.text())
	h.boot = r.text()
	h.startedAt = r.time()
	h.number = r.uint32()
	h.synced = r.bool()
	if !r.ended() {
		return header{}, 0, 0, errDamaged
	}
	return h, size, salt, nil
}

// record is one entry of a segment: one of its fields is set, as kind says.
type record struct {
	kind kind
	fact token.Fact
	gap  token.Gap // its Node is that of the header
}

func appendRecord(b []byte, r *record, salt uint32, offset int64) ([]byte, error) {
	start := len(b)
	b = append(b, make([]byte, frameSize)...)
	b = append(b, byte(r.kind))
	switch r.kind {
	case factRecord:
		f := &r.fact
		b = appendText(b, string(f.TokenID))
		b = appendText(b, string(f.SecretID))
		b = appendText(b, f.Scope.Name)
		b = append(b, byte(f.Scope.Nature))
		b = appendTime(b, f.Bucket)
		b = appendTime(b, f.Until)
		b = appendTime(b, f.First)
	case gapRecord:
		b = appendTime(b, r.gap.From)
		b = appendTime(b, r.gap.To)
		b = appendBool(b, r.gap.Blind)
		b = appendText(b, r.gap.Reason)
	case endRecord:
	}
	body := b[start+frameSize:]
	if len(body) > maxRecord {
		return b[:start], errTooLong
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(body)))
	binary.BigEndian.PutUint32(b[start+4:], recordSum(b[start:start+4], body, salt, offset))
	return b, nil
}

func recordSum(length, body []byte, salt uint32, offset int64) uint32 {
	var place [8]byte
	binary.BigEndian.PutUint64(place[:], uint64(offset))
	sum := crc32.Update(salt, castagnoli, place[:])
	sum = crc32.Update(sum, castagnoli, length)
	return crc32.Update(sum, castagnoli, body)
}

// decodeRecord reads the record at the start of b, which lies at an offset of its
// segment. size 0 without an error means that b ends before the record does.
func decodeRecord(b []byte, salt uint32, offset int64) (r record, size int, err error) {
	if len(b) < 4 {
		return r, 0, nil
	}
	length := binary.BigEndian.Uint32(b)
	if length == 0 || length > maxRecord {
		return r, 0, errDamaged
	}
	size = frameSize + int(length)
	if len(b) < size {
		return r, 0, nil
	}
	body := b[frameSize:size]
	if recordSum(b[:4], body, salt, offset) != binary.BigEndian.Uint32(b[4:]) {
		return r, 0, errDamaged
	}
	in := reader{b: body[1:]}
	r.kind = kind(body[0])
	switch r.kind {
	case factRecord:
		r.fact.TokenID = token.ID(in.text())
		r.fact.SecretID = token.ID(in.text())
		r.fact.Scope.Name = in.text()
		r.fact.Scope.Nature = token.Nature(in.byte())
		r.fact.Bucket = in.time()
		r.fact.Until = in.time()
		r.fact.First = in.time()
	case gapRecord:
		r.gap.From = in.time()
		r.gap.To = in.time()
		r.gap.Blind = in.bool()
		r.gap.Reason = in.text()
	case endRecord:
	default:
		return record{}, 0, errDamaged
	}
	if !in.ended() {
		return record{}, 0, errDamaged
	}
	return r, size, nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.BigEndian.AppendUint64(b, 0)
	}
	return binary.BigEndian.AppendUint64(b, uint64(t.UnixNano()))
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// reader takes values off bytes whose checksum was right. bad stays set once
// something was missing.
type reader struct {
	b   []byte
	bad bool
}

var zeros [8]byte

func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.bad = true
		r.b = nil
		return zeros[:min(n, len(zeros))]
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) text() string {
	n, size := binary.Uvarint(r.b)
	if size <= 0 || n > uint64(len(r.b)-size) {
		r.bad = true
		r.b = nil
		return ""
	}
	r.b = r.b[size:]
	return string(r.take(int(n)))
}

func (r *reader) time() time.Time {
	n := int64(r.uint64())
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func (r *reader) uint64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }
func (r *reader) uint32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) byte() byte     { return r.take(1)[0] }
func (r *reader) bool() bool     { return r.byte() != 0 }
func (r *reader) ended() bool    { return !r.bad && len(r.b) == 0 }
