package usage

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/sallyport/sallyport/token"
)

// A mark stands beside the segments of a run and says how far they reach. A record
// counts as written once the mark says so, hence a segment that is shorter than its
// mark has lost something, and one that is longer only what nobody relied on.
//
// It is overwritten in place, which works on a full disk too, in two slots by turns:
// one of them is whole, whatever happens in between.
type mark struct {
	turn    uint64
	run     token.ID
	boot    string
	first   uint32 // lowest segment that has not been handed over
	segment uint32 // the one being written; 0: none yet
	offset  int64  // its length
	// syncedAt: everything written before it survives a loss of power.
	syncedAt time.Time
	alive    time.Time // when the process last said that it lives
	gapSince time.Time // of a gap that was open
	stopped  time.Time // of a clean stop
}

const (
	markSlot = 512 // a sector
	markSize = 2 * markSlot
)

func (m *mark) encode() []byte {
	b := make([]byte, 6, markSlot)
	b = binary.BigEndian.AppendUint64(b, m.turn)
	b = appendText(b, string(m.run))
	b = appendText(b, m.boot)
	b = binary.BigEndian.AppendUint32(b, m.first)
	b = binary.BigEndian.AppendUint32(b, m.segment)
	b = binary.BigEndian.AppendUint64(b, uint64(m.offset))
	b = appendTime(b, m.syncedAt)
	b = appendTime(b, m.alive)
	b = appendTime(b, m.gapSince)
	b = appendTime(b, m.stopped)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return b[:markSlot] // overwrites what a longer one left
}

// place is where a mark is written, so that the one before it stays.
func (m *mark) place() int64 { return int64(m.turn%2) * markSlot }

func decodeSlot(b []byte) (m mark, ok bool) {
	if len(b) < 6 {
		return m, false
	}
	n := int(binary.BigEndian.Uint16(b[4:]))
	if n < 6 || n > len(b) || crc32.Checksum(b[4:n], castagnoli) != binary.BigEndian.Uint32(b) {
		return m, false
	}
	r := reader{b: b[6:n]}
	m.turn = r.uint64()
	m.run = token.ID(r.text())
	m.boot = r.text()
	m.first = r.uint32()
	m.segment = r.uint32()
	m.offset = int64(r.uint64())
	m.syncedAt = r.time()
	m.alive = r.time()
	m.gapSince = r.time()
	m.stopped = r.time()
	return m, r.ended()
}

// decodeMark gives the later of the slots that are whole.
func decodeMark(b []byte) (mark, bool) {
	first, ok := decodeSlot(b[:min(len(b), markSlot)])
	if len(b) <= markSlot {
		return first, ok
	}
	second, ok2 := decodeSlot(b[markSlot:min(len(b), markSize)])
	if ok2 && (!ok || second.turn > first.turn) {
		return second, true
	}
	return first, ok
}
