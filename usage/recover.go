package usage

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/token"
)

// Reasons of gaps.
const (
	reasonDamaged = "journal damaged"
	reasonForeign = "journal of another node or version"
	reasonPower   = "power was lost"
	reasonFailed  = "journal could not be written"
	reasonHung    = "journal disk did not answer"
	reasonClock   = "clock was set"
)

const (
	segmentSuffix = ".seg"
	markSuffix    = ".mark"
	doneSuffix    = ".done" // a mark of a run that was handed over
	badSuffix     = ".bad"
	lockName      = "lock"
)

func segmentName(run token.ID, number uint32) string {
	return fmt.Sprintf("%s-%08d%s", run, number, segmentSuffix)
}

func markName(run token.ID) string { return string(run) + markSuffix }

// splitName takes the name of a segment apart.
func splitName(name string) (run token.ID, number uint32, ok bool) {
	base, found := strings.CutSuffix(name, segmentSuffix)
	i := strings.LastIndexByte(base, '-')
	if !found || i <= 0 || len(base)-i-1 != 8 {
		return "", 0, false
	}
	n, err := strconv.ParseUint(base[i+1:], 10, 32)
	return token.ID(base[:i]), uint32(n), err == nil && n > 0
}

// extent is what is good of a segment: it ends at length.
type extent struct {
	header
	name   string
	start  int64 // of the records
	length int64
	size   int64 // of the file, quarantined rest included
	salt   uint32
	ended  bool      // by an end record
	last   time.Time // the latest first use in it
}

// orphan is what an earlier run left: to be handed over in its name.
type orphan struct {
	run      token.Run // StoppedAt is set
	segments []extent
	mark     string // name of its file; empty: there is none
}

// findings is what a directory holds when a run starts.
type findings struct {
	orphans []orphan
	gaps    []token.Gap
	// bad are names to be put aside; tails are segments whose end is to be copied
	// there. Both only after the gaps are on the disk: the next start would not find
	// the damage again.
	bad   []string
	tails []extent
	heard []string // witnesses, of which there are gaps now
	// damage says in words what was wrong, for the operator.
	damage []error
}

// survey reads a directory. It changes nothing in it, but for files of runs that
// have been handed over.
func survey(files Files, o *Options, boot Boot, now time.Time) (*findings, error) {
	dir, node := o.Dir, o.Node
	names, err := files.List(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if run, ok := strings.CutSuffix(name, doneSuffix); ok {
			if err := removeDone(files, dir, token.ID(run), names); err != nil {
				return nil, err
			}
		}
	}
	if names, err = files.List(dir); err != nil {
		return nil, err
	}
	slices.Sort(names)
	s := surveyor{files: files, dir: dir, node: node, witnesses: o.WitnessDir, boot: boot, now: now, found: &findings{}}
	runs := make(map[token.ID][]extent)
	marks := make(map[token.ID]bool)
	for _, name := range names {
		if run, ok := strings.CutSuffix(name, markSuffix); ok {
			marks[token.ID(run)] = true
			continue
		}
		run, number, ok := splitName(name)
		if !ok {
			continue // not ours
		}
		e, err := readExtent(files, filepath.Join(dir, name))
		e.name = name
		switch {
		case isDamage(err):
			e.header = header{run: run, number: number}
			e.length = -1
		case err != nil:
			return nil, err
		case e.node != node || e.run != run || e.number != number:
			s.putAside(name, time.Time{}, reasonForeign)
			continue
		}
		runs[run] = append(runs[run], e)
	}
	for run := range marks {
		if _, ok := runs[run]; !ok {
			runs[run] = nil
		}
	}
	ids := make([]token.ID, 0, len(runs))
	for id := range runs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		if err := s.run(id, runs[id], marks[id]); err != nil {
			return nil, err
		}
	}
	return s.found, nil
}

func isDamage(err error) bool {
	return errors.Is(err, errDamaged) || errors.Is(err, errVersion) || errors.Is(err, errNoHeader)
}

type surveyor struct {
	files     Files
	dir, node string
	witnesses string // their directory
	boot      Boot
	now       time.Time
	found     *findings
}

// blind reports a gap from a time, as far as it is known, until now: whenever in
// between something was lost, every window restarts after it.
func (s *surveyor) blind(from, to time.Time, reason string) {
	if from.IsZero() || !from.Before(to) {
		from = to.Add(-time.Nanosecond)
	}
	s.found.gaps = append(s.found.gaps, token.Gap{From: from, To: to, Blind: true, Node: s.node, Reason: reason})
}

func (s *surveyor) putAside(name string, from time.Time, reason string) {
	s.found.bad = append(s.found.bad, name)
	s.found.damage = append(s.found.damage, fmt.Errorf("%s: %s", name, reason))
	s.blind(from, s.now, reason)
}

// run judges what one earlier run left.
func (s *surveyor) run(id token.ID, segments []extent, hasMark bool) error {
	var m mark
	marked := false
	if hasMark {
		b, err := readWhole(s.files, filepath.Join(s.dir, markName(id)), markSize)
		if err != nil {
			return err
		}
		m, marked = decodeMark(b)
		marked = marked && m.run == id
		if len(segments) == 0 && blank(b) {
			// Whoever made it was killed before its first word was in it. A run makes its
			// segments after that, and lets nothing pass before both are on the disk.
			s.found.bad = append(s.found.bad, markName(id))
			return nil
		}
	}
	o := orphan{run: token.Run{Node: s.node, ID: id}}
	if hasMark {
		o.mark = markName(id)
	}
	lost := ""          // why something that counted may be missing
	since := m.syncedAt // from when on it may be
	last := m.alive     // when the run was last seen alive
	want := max(m.first, 1)
	if !marked {
		lost = "there is no mark of how far it was written"
		// A run is marked before its first segment is made.
		if len(segments) == 0 && !hasMark {
			return nil
		}
	}
	for i, e := range segments {
		if e.length < 0 {
			// It has no header. That is as it should be when it was being made: then
			// nothing in it was relied on.
			s.found.bad = append(s.found.bad, e.name)
			s.found.damage = append(s.found.damage, fmt.Errorf("%s: %s", e.name, reasonDamaged))
			if !marked || e.number <= m.segment {
				lost = "a segment has no header that can be read"
			}
			continue
		}
		if o.run.StartedAt.IsZero() {
			o.run.StartedAt = e.startedAt
		}
		if marked && e.number > want && e.number <= m.segment {
			lost = "a segment is missing"
		}
		want = max(want, e.number+1)
		if e.size > e.length {
			s.found.tails = append(s.found.tails, e)
			s.found.damage = append(s.found.damage, fmt.Errorf("%s: not a record at byte %d", e.name, e.length))
		}
		switch {
		case marked && e.number == m.segment && e.length < m.offset:
			lost = "a segment is shorter than it was"
		case marked && e.number < m.segment && !e.ended, !marked && i < len(segments)-1 && !e.ended:
			lost = "a segment breaks off"
		}
		if last.Before(e.last) {
			last = e.last
		}
		o.segments = append(o.segments, e)
	}
	if marked && m.segment >= want {
		lost = "a segment is missing"
	}
	if last.Before(o.run.StartedAt) {
		last = o.run.StartedAt
	}
	o.run.StoppedAt = last
	if marked && !m.stopped.IsZero() {
		o.run.StoppedAt = m.stopped
	}
	s.judge(&o, &m, marked, lost, since)
	if !o.run.StartedAt.IsZero() {
		s.found.orphans = append(s.found.orphans, o)
	} else if o.mark != "" {
		// It never began, or nothing of it is left to tell when.
		s.found.bad = append(s.found.bad, o.mark)
	}
	return nil
}

func blank(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }

// judge turns what is known about a run into gaps.
func (s *surveyor) judge(o *orphan, m *mark, marked bool, lost string, since time.Time) {
	if since.IsZero() {
		since = o.run.StartedAt
	}
	// A clock that was set back must not end a gap before what it is about.
	end := s.now
	if end.Before(o.run.StoppedAt) {
		end = o.run.StoppedAt
	}
	synced := len(o.segments) > 0 && o.segments[0].synced
	switch {
	case lost != "":
		s.found.damage = append(s.found.damage, fmt.Errorf("journal of run %s: %s", o.run.ID, lost))
		s.blind(since, end, reasonDamaged)
	case m.segment == 0 || !m.stopped.IsZero():
		// It never served, or it stopped in order and synced everything.
	case !synced && (m.boot == "" || m.boot != s.boot.ID):
		// The power failed somewhere between the last sync and this start of the
		// machine. When exactly, nobody knows.
		if s.boot.At.After(since) && s.boot.At.Before(end) {
			end = s.boot.At
		}
		s.blind(since, end, reasonPower)
	}
	// Either may tell of a gap that was open; both tell of the same.
	late, hung := s.witness(o.run.ID)
	switch {
	case marked && !m.gapSince.IsZero():
		s.blind(m.gapSince, end, reasonFailed)
	case hung && late.IsZero():
		s.blind(since, end, reasonHung)
	case hung:
		s.blind(late, end, reasonHung)
	}
}

// readExtent finds how far a segment is good.
func readExtent(files Files, path string) (extent, error) {
	f, err := files.Open(path)
	if err != nil {
		return extent{}, err
	}
	e, err := measure(f)
	return e, errors.Join(err, f.Close())
}

func measure(f File) (extent, error) {
	size, err := f.Size()
	if err != nil {
		return extent{}, err
	}
	head := make([]byte, min(size, maxHeader))
	if err := readFull(f, head, 0); err != nil {
		return extent{}, err
	}
	h, n, salt, err := decodeHeader(head)
	if err != nil {
		return extent{}, err
	}
	e := extent{header: h, start: int64(n), length: int64(n), size: size, salt: salt}
	c := cursor{file: f, at: e.start, end: size, salt: salt}
	for !e.ended {
		r, err := c.next()
		if err != nil && !errors.Is(err, errDamaged) {
			return extent{}, err
		}
		if err != nil || r == nil {
			break
		}
		e.length = c.at
		e.ended = r.kind == endRecord
		if r.fact.First.After(e.last) {
			e.last = r.fact.First
		}
	}
	return e, nil
}

func readWhole(files Files, path string, limit int64) ([]byte, error) {
	f, err := files.Open(path)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	b := make([]byte, min(size, limit))
	if err == nil {
		err = readFull(f, b, 0)
	}
	return b, errors.Join(err, f.Close())
}

// putAside moves what could not be read out of the way, for people to look at.
// Nothing depends on it: failing is reported and changes nothing.
func (f *findings) putAside(files Files, dir string) error {
	var errs []error
	for _, path := range f.heard {
		errs = append(errs, files.Remove(path))
	}
	for _, e := range f.tails {
		errs = append(errs, copyTail(files, dir, e))
	}
	for _, name := range f.bad {
		path := filepath.Join(dir, name)
		errs = append(errs, files.Rename(path, path+badSuffix))
	}
	return errors.Join(errs...)
}

// copyTail leaves the segment as it is: whoever reads it again stops at the same
// place, so there is no moment at which a crash could lose anything.
func copyTail(files Files, dir string, e extent) error {
	const most = 1 << 20 // nobody looks at more
	in, err := files.Open(filepath.Join(dir, e.name))
	if err != nil {
		return err
	}
	b := make([]byte, min(e.size-e.length, most))
	err = readFull(in, b, e.length)
	if err = errors.Join(err, in.Close()); err != nil {
		return err
	}
	path := filepath.Join(dir, e.name+badSuffix)
	if err := files.Remove(path); err != nil && !isMissing(err) {
		return err
	}
	out, err := files.Create(path)
	if err != nil {
		return err
	}
	_, err = out.WriteAt(b, 0)
	return errors.Join(err, out.Close())
}
