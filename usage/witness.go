package usage

import (
	"encoding/binary"
	"path/filepath"
	"time"

	"github.com/sallyport/sallyport/token"
)

// A witness is a file outside of the journal's disk, in memory that outlives the
// process but not the machine. It is made before a request goes on that the journal
// has not taken, and removed when the journal has: should the process be killed in
// between, it is all that tells of the gap.

func witnessPath(dir string, run token.ID) string {
	return filepath.Join(dir, "sallyport-"+string(run)+".late")
}

// testify makes the witness. Called with mu held, so that it cannot be removed
// while somebody still needs it. Where there is no place for one, a process that is
// killed while its disk hangs may lose what it had not told the store.
func (j *journal) testify(since time.Time) {
	if j.witnessed || j.o.WitnessDir == "" {
		return
	}
	j.witnessed = true
	f, err := j.files.Create(witnessPath(j.o.WitnessDir, j.run.ID))
	if err != nil {
		return
	}
	b := binary.BigEndian.AppendUint64(nil, uint64(since.UnixNano()))
	_, _ = f.WriteAt(b, 0) // that it is there says enough
	_ = f.Close()          // in memory
}

// dismiss removes the witness. Called with mu held.
func (j *journal) dismiss() {
	if j.witnessed {
		_ = j.files.Remove(witnessPath(j.o.WitnessDir, j.run.ID)) // one too many costs a gap, no use
		j.witnessed = false
	}
}

// witness says since when an earlier run had let requests go on unrecorded.
func (s *surveyor) witness(run token.ID) (since time.Time, found bool) {
	if s.witnesses == "" {
		return time.Time{}, false
	}
	path := witnessPath(s.witnesses, run)
	b, err := readWhole(s.files, path, 8)
	if isMissing(err) {
		return time.Time{}, false
	}
	s.found.heard = append(s.found.heard, path)
	if err != nil || len(b) < 8 {
		return time.Time{}, true
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(b))).UTC(), true
}
