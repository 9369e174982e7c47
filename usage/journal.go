package usage

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/token"
)

// ErrClosed is returned for a use after Close.
var ErrClosed = errors.New("usage: the recorder is closed")

// ErrUnrecorded is returned, when recording is required, for a use that could not
// be written down.
var ErrUnrecorded = errors.New("usage: the use could not be recorded")

// group is what one write carries: everybody who waits for it waits together.
type group struct {
	done chan struct{}
	err  error // set before done is closed
}

func newGroup() *group { return &group{done: make(chan struct{})} }

// gapState is time in which the journal was not written.
type gapState struct {
	since  time.Time
	reason string
	firm   bool // reported; otherwise nothing was lost if the disk comes back soon
}

// position is a place in the segments of a run.
type position struct {
	segment uint32
	offset  int64
}

// journal is the journal of one run. Three goroutines serve it: the writer alone
// writes segments; the syncer makes them durable, so that a slow sync does not hold
// up a write; the keeper, which touches no disk, notices when either hangs.
type journal struct {
	o     *Options
	boot  Boot
	run   token.Run
	files Files

	mu sync.Mutex
	// queue waits to be written, flight is being written, unwritten is what could not
	// be. Together they are what the store must get from memory.
	queue, flight, unwritten []token.Fact
	group                    *group
	carried                  []token.Gap      // found at the start, not written yet
	final                    map[uint32]int64 // how far segments that are no longer written are good
	mending                  bool             // unwritten is being written
	floor                    time.Time        // see snapshot
	at                       position         // everything before it is written and may be read
	broken                   bool             // no segment can be written
	gap                      *gapState
	busySince                time.Duration // uptime when the writer's call of the disk began
	busyFrom                 time.Time
	busy                     bool
	late                     bool // a request gave up waiting
	witnessed                bool // see witness.go
	dirty                    []*segment
	syncErr                  error
	closed                   bool
	generation               int // of unwritten

	// Only the writer touches these.
	current  *segment
	number   uint32
	attached bool
	unlock   func() error

	markMu   sync.Mutex
	markFile File
	marked   mark

	wake, syncWake chan struct{}
	hurry          chan struct{} // for the drain: something is in memory only
	stop           chan struct{}
	stopSync       chan struct{}
	stopKeeper     chan struct{}
	writing        chan struct{} // closed when the writer has ended
	working        sync.WaitGroup
}

// openJournal takes the directory, judges what earlier runs left there and begins
// a journal of its own. The findings' orphans are to be handed over by the drain.
func openJournal(o *Options) (*journal, *findings, error) {
	now := o.Now().UTC()
	j := &journal{
		o: o, boot: o.Boot(), files: o.Files, group: newGroup(),
		run:  token.Run{Node: o.Node, ID: o.Run, StartedAt: now},
		wake: make(chan struct{}, 1), syncWake: make(chan struct{}, 1),
		stop: make(chan struct{}), stopSync: make(chan struct{}), stopKeeper: make(chan struct{}),
		writing: make(chan struct{}), hurry: make(chan struct{}, 1), final: make(map[uint32]int64),
	}
	found, err := j.attach(now)
	if err != nil {
		if !o.Degraded || errors.Is(err, ErrLocked) {
			return nil, nil, errors.Join(j.explain(err), j.release())
		}
		if found == nil {
			found = &findings{}
		}
		j.gap = &gapState{since: now, reason: reasonFailed, firm: true}
		j.broken = true
		o.Alarm(Alarm{Kind: JournalFailed, Since: now, Err: j.explain(err)})
	}
	if len(found.damage) > 0 {
		o.Alarm(Alarm{Kind: JournalDamaged, Since: now, Err: errors.Join(found.damage...)})
	}
	j.working.Add(2)
	go j.write()
	go j.syncLoop()
	go j.keep()
	return j, found, nil
}

// explain says what an operator can do about an error at the start.
func (j *journal) explain(err error) error {
	if errors.Is(err, ErrLocked) {
		return fmt.Errorf("usage: the journal in %s belongs to another running process: give each gateway a directory of its own, or stop the other one: %w", j.o.Dir, err)
	}
	return fmt.Errorf("usage: the journal in %s cannot be written, and without it uses could be lost: make the directory, on a disk that can be written, and give it to the user that the gateway runs as: %w", j.o.Dir, err)
}

// attach does everything up to the first segment. The order matters: gaps are on
// the disk before the damage that they stand for is put aside.
func (j *journal) attach(now time.Time) (*findings, error) {
	if err := j.files.MkdirAll(j.o.Dir); err != nil {
		return nil, err
	}
	if j.unlock == nil {
		unlock, err := j.files.Lock(filepath.Join(j.o.Dir, lockName))
		if err != nil {
			return nil, err
		}
		j.unlock = unlock
	}
	found, err := survey(j.files, j.o, j.boot, now)
	if err != nil {
		return nil, err
	}
	for _, o := range found.orphans {
		if o.run.ID == j.o.Run {
			return nil, errors.New("the ID of the run was used before")
		}
	}
	j.carried = found.gaps
	if err := j.begin(now, found.gaps, nil); err != nil {
		return found, err
	}
	if err := found.putAside(j.files, j.o.Dir); err != nil {
		found.damage = append(found.damage, fmt.Errorf("put aside: %w", err))
	}
	j.attached = true
	return found, nil
}

// release gives back what attach took, for a start that failed.
func (j *journal) release() error {
	var errs []error
	if j.current != nil {
		errs = append(errs, j.current.file.Close())
	}
	if j.markFile != nil {
		errs = append(errs, j.markFile.Close())
	}
	if j.unlock != nil {
		errs = append(errs, j.unlock())
	}
	return errors.Join(errs...)
}

// begin makes a new segment that holds gaps and facts and is synced: from here on
// nothing depends on the segments before it.
func (j *journal) begin(now time.Time, gaps []token.Gap, facts []token.Fact) error {
	if err := j.openMark(now); err != nil {
		return err
	}
	s, err := j.create(entries(gaps, facts))
	if err != nil {
		return err
	}
	err = errors.Join(s.file.Sync(), j.files.SyncDir(j.o.Dir))
	if err == nil {
		err = j.note(true, func(m *mark) {
			m.segment, m.offset = s.number, s.length
			m.alive, m.syncedAt = now, now
			m.gapSince = time.Time{}
		})
	}
	if err != nil {
		return errors.Join(err, s.file.Close())
	}
	j.current = s
	j.mu.Lock()
	j.carried = nil
	j.at = position{s.number, s.length}
	j.mu.Unlock()
	return nil
}

func entries(gaps []token.Gap, facts []token.Fact) []record {
	all := make([]record, 0, len(gaps)+len(facts))
	for _, g := range gaps {
		all = append(all, record{kind: gapRecord, gap: g})
	}
	for _, f := range facts {
		all = append(all, record{kind: factRecord, fact: f})
	}
	return all
}

// create makes the next segment. A number whose making failed is not used again.
func (j *journal) create(first []record) (*segment, error) {
	j.number++
	return newSegment(j.files, j.o.Dir, header{
		node: j.o.Node, run: j.run.ID, boot: j.boot.ID, startedAt: j.run.StartedAt,
		number: j.number, synced: j.o.Sync,
	}, first)
}

// openMark makes the mark before the first segment of the run.
func (j *journal) openMark(now time.Time) error {
	j.markMu.Lock()
	open := j.markFile != nil
	j.markMu.Unlock()
	if open {
		return nil
	}
	path := filepath.Join(j.o.Dir, markName(j.run.ID))
	// One that an attempt before could not finish is in the way.
	if err := j.files.Remove(path); err != nil && !isMissing(err) {
		return err
	}
	f, err := j.files.Create(path)
	if err != nil {
		return err
	}
	m := mark{turn: 1, run: j.run.ID, boot: j.boot.ID, first: 1, alive: now}
	if _, err := f.WriteAt(make([]byte, markSize), 0); err != nil {
		return errors.Join(err, f.Close(), j.files.Remove(path))
	}
	if _, err := f.WriteAt(m.encode(), m.place()); err != nil {
		return errors.Join(err, f.Close(), j.files.Remove(path))
	}
	j.markMu.Lock()
	j.markFile, j.marked = f, m
	j.markMu.Unlock()
	return nil
}

// note changes the mark.
func (j *journal) note(durable bool, change func(*mark)) error {
	j.markMu.Lock()
	defer j.markMu.Unlock()
	if j.markFile == nil {
		return nil
	}
	m := j.marked
	m.turn++
	change(&m)
	if _, err := j.markFile.WriteAt(m.encode(), m.place()); err != nil {
		return err
	}
	j.marked = m
	if durable {
		return j.markFile.Sync()
	}
	return nil
}

// append writes a fact down and returns when that is done. In a journal that does
// not answer it returns in time all the same, and a gap is open instead. The group
// is what others who come with the same fact can wait for.
func (j *journal) append(f token.Fact, joined func(*group)) error {
	if len(f.TokenID)+len(f.SecretID)+len(f.Scope.Name) > maxRecord/2 {
		return errTooLong
	}
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return ErrClosed
	}
	if j.broken && j.o.Required {
		j.mu.Unlock()
		return ErrUnrecorded
	}
	// Whoever comes after the drain has looked counts as coming after the moment that
	// the drain then declares covered.
	if f.First.Before(j.floor) {
		f.First = j.floor
		if !f.First.Before(f.Until) {
			f.Until = f.First.Add(time.Nanosecond)
		}
	}
	if len(j.queue)+len(j.flight)+len(j.unwritten) >= j.o.MaxUnwritten {
		j.openGap(f.First, reasonFailed)
		j.mu.Unlock()
		return j.verdict()
	}
	if j.broken {
		j.unwritten = append(j.unwritten, f)
		j.mu.Unlock()
		return nil
	}
	g := j.group
	j.queue = append(j.queue, f)
	late := j.late
	j.mu.Unlock()
	joined(g)
	nudge(j.wake)
	if late && !j.o.Required {
		return nil // the disk hangs: waiting for it again helps nobody
	}
	return j.wait(g)
}

// wait waits for a group as long as a request may.
func (j *journal) wait(g *group) error {
	step := patience / patienceSteps
	if j.o.Sync {
		step = syncPatience / patienceSteps
	}
	timer := time.NewTimer(step)
	defer timer.Stop()
	for steps := 1; ; {
		select {
		case <-g.done:
			if g.err != nil {
				return j.verdict()
			}
			return nil
		case <-timer.C:
		}
		// A machine that is short of processors holds up the writer and this timer
		// alike. In steps the wait lasts as long as the process could have run.
		if steps == patienceSteps {
			break
		}
		steps++
		timer.Reset(step)
	}
	j.mu.Lock()
	select {
	case <-g.done:
		j.mu.Unlock()
		if g.err != nil {
			return j.verdict()
		}
		return nil
	default:
	}
	if j.gap == nil {
		since := j.o.Now().UTC()
		if j.busy {
			since = j.busyFrom
		}
		j.gap = &gapState{since: since, reason: reasonHung}
	}
	j.late = true
	j.testify(j.gap.since)
	j.mu.Unlock()
	// The store can still be told, in case the process does not outlive the disk.
	nudge(j.hurry)
	return j.verdict()
}

func (j *journal) verdict() error {
	if j.o.Required {
		return ErrUnrecorded
	}
	return nil
}

// openGap is called with mu held.
func (j *journal) openGap(since time.Time, reason string) {
	if j.gap == nil {
		j.gap = &gapState{since: since, reason: reason}
	}
	if since.Before(j.gap.since) {
		j.gap.since = since
	}
	j.gap.reason = reason
	j.gap.firm = true
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// write is the writer.
func (j *journal) write() {
	defer close(j.writing)
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	var retry <-chan time.Time
	for {
		j.mu.Lock()
		broken := j.broken
		j.mu.Unlock()
		if broken && retry == nil {
			retry = time.After(j.o.Retry)
		}
		select {
		case <-j.wake:
			j.turn()
		case <-beat.C:
			j.beat()
		case <-retry:
			retry = nil
			j.mend()
		case <-j.stop:
			j.turn()
			return
		}
	}
}

// enter and leave stand around everything that touches the disk.
func (j *journal) enter() {
	up, now := j.o.Uptime(), j.o.Now().UTC()
	j.mu.Lock()
	j.busy, j.busySince, j.busyFrom = true, up, now
	j.mu.Unlock()
}

// leave ends a call of the disk that went well, and with it a gap that was reported
// because the disk hung.
func (j *journal) leave() {
	j.mu.Lock()
	j.busy = false
	over := j.gap != nil && j.gap.firm && !j.broken
	j.mu.Unlock()
	if over {
		j.closeGap()
	}
}

// caughtUp ends a gap that was only feared: everything that requests did not wait
// for has been written. Called with mu held, and nothing in the queue.
func (j *journal) caughtUp() {
	if j.broken || j.gap != nil && j.gap.firm {
		return
	}
	j.gap, j.late = nil, false
	j.dismiss()
}

// closeGap writes down a gap that was reported, and what could not be written
// during it; with that the gap is over. After an error of the disk this needs a new
// segment, after a hang the current one is as good as it was.
func (j *journal) closeGap() {
	j.mu.Lock()
	g, facts := *j.gap, j.unwritten
	gaps := append([]token.Gap(nil), j.carried...)
	j.mending = true
	j.mu.Unlock()
	now := j.o.Now().UTC()
	if !now.After(g.since) {
		now = g.since.Add(time.Nanosecond)
	}
	gaps = append(gaps, token.Gap{From: g.since, To: now, Blind: true, Node: j.o.Node, Reason: g.reason})
	var err error
	if j.current == nil {
		err = j.begin(now, gaps, facts)
	} else {
		err = j.extend(now, gaps, facts)
	}
	j.mu.Lock()
	j.mending = false
	if err != nil {
		j.mu.Unlock()
		j.fail(err, g.since)
		return
	}
	// What came meanwhile is written next.
	rest := j.unwritten[len(facts):]
	j.queue = append(rest[:len(rest):len(rest)], j.queue...)
	j.unwritten = nil
	j.generation++
	j.gap, j.broken, j.busy, j.late = nil, false, false, false
	if len(j.queue) == 0 {
		j.dismiss()
	}
	j.mu.Unlock()
	nudge(j.wake)
	j.o.Alarm(Alarm{Kind: JournalRecovered, Since: g.since})
}

// extend adds gaps and facts to the current segment.
func (j *journal) extend(now time.Time, gaps []token.Gap, facts []token.Fact) error {
	s := j.current
	err := s.append(entries(gaps, facts))
	if err == nil && j.o.Sync {
		err = s.file.Sync()
	}
	if err == nil {
		err = j.note(false, func(m *mark) {
			m.segment, m.offset, m.alive, m.gapSince = s.number, s.length, now, time.Time{}
		})
	}
	if err == nil {
		j.wrote(s)
	}
	return err
}

// wrote makes what was written readable, and lets it be synced.
func (j *journal) wrote(s *segment) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.at = position{s.number, s.length}
	if j.o.Sync {
		return
	}
	if len(j.dirty) == 0 || j.dirty[len(j.dirty)-1] != s {
		j.dirty = append(j.dirty, s)
	}
	nudge(j.syncWake)
}

// fail gives a segment up. It is not written again: after an error nobody knows
// what is in it.
func (j *journal) fail(err error, since time.Time) {
	if j.current != nil {
		j.abandon(j.current)
		j.current = nil
	}
	j.mu.Lock()
	was := j.broken
	j.openGap(since, reasonFailed)
	since = j.gap.since
	j.broken, j.busy, j.late = true, false, false
	j.testify(since)
	j.mu.Unlock()
	if was {
		return
	}
	// Should the process die now, the mark may be all that tells of the gap. It can
	// be written on a full disk. If it cannot, the store is told from memory.
	_ = j.note(false, func(m *mark) { m.gapSince = since })
	j.o.Alarm(Alarm{Kind: JournalFailed, Since: since, Err: err})
	nudge(j.hurry)
}

// abandon closes a segment that no one will write or sync again. What was written
// before stays readable.
func (j *journal) abandon(s *segment) {
	s.abandoned.Store(true)
	j.mu.Lock()
	if j.at.segment == s.number {
		j.final[s.number] = j.at.offset
	}
	j.dirty = slices.DeleteFunc(j.dirty, func(d *segment) bool { return d == s })
	j.mu.Unlock()
	_ = s.file.Close() // it is given up
}

// turn writes what waits.
func (j *journal) turn() {
	j.mu.Lock()
	syncErr := j.syncErr
	j.syncErr = nil
	j.mu.Unlock()
	if syncErr != nil && j.current != nil {
		j.markMu.Lock()
		since := j.marked.syncedAt
		j.markMu.Unlock()
		j.fail(syncErr, since)
		j.mend()
	}
	for {
		j.mu.Lock()
		if len(j.queue) == 0 {
			j.caughtUp()
			j.mu.Unlock()
			return
		}
		g := j.group
		j.group = newGroup()
		j.flight, j.queue = j.queue, nil
		facts, broken := j.flight, j.broken
		j.mu.Unlock()
		var err error
		if broken || j.current == nil {
			err = ErrUnrecorded
		} else {
			err = j.put(facts)
		}
		j.mu.Lock()
		j.flight = nil
		if err != nil {
			j.unwritten = append(j.unwritten, facts...)
		}
		j.mu.Unlock()
		g.err = err
		close(g.done)
		if err == nil {
			j.rotate()
		}
	}
}

// put writes facts to the segment, syncs if it must, and moves the mark. Only then
// may anybody rely on them.
func (j *journal) put(facts []token.Fact) error {
	j.enter()
	s := j.current
	now := j.o.Now().UTC()
	err := s.append(entries(nil, facts))
	if err == nil && j.o.Sync {
		err = s.file.Sync()
	}
	if err == nil {
		err = j.note(false, func(m *mark) {
			m.segment, m.offset, m.alive = s.number, s.length, now
			if j.o.Sync {
				m.syncedAt = now
			}
		})
	}
	if err != nil {
		j.fail(err, earliest(facts, now))
		return err
	}
	j.wrote(s)
	j.leave()
	return nil
}

func earliest(facts []token.Fact, t time.Time) time.Time {
	for i := range facts {
		if facts[i].First.Before(t) {
			t = facts[i].First
		}
	}
	return t
}

// rotate closes a segment that has its size and begins the next.
func (j *journal) rotate() {
	s := j.current
	if s == nil || s.length < j.o.SegmentSize {
		return
	}
	j.enter()
	now := j.o.Now().UTC()
	err := s.end()
	var next *segment
	if err == nil {
		next, err = j.create(nil)
	}
	if err == nil && j.o.Sync {
		err = errors.Join(s.file.Sync(), next.file.Sync(), j.files.SyncDir(j.o.Dir))
	}
	if err == nil {
		err = j.note(false, func(m *mark) { m.segment, m.offset, m.alive = next.number, next.length, now })
	}
	if err != nil {
		if next != nil {
			_ = next.file.Close() // never used
		}
		j.fail(err, now)
		return
	}
	j.wrote(s) // once more, so that whoever syncs it closes it
	j.mu.Lock()
	j.final[s.number] = s.length
	j.mu.Unlock()
	j.current = next
	j.wrote(next)
	if j.o.Sync {
		_ = s.file.Close() // it is whole and synced
	}
	j.leave()
}

// beat notes that the process lives.
func (j *journal) beat() {
	if j.current == nil {
		return
	}
	j.enter()
	now := j.o.Now().UTC()
	if err := j.note(false, func(m *mark) { m.alive = now }); err != nil {
		j.fail(err, now)
		return
	}
	j.leave()
	nudge(j.syncWake)
}

// mend tries to write again.
func (j *journal) mend() {
	j.mu.Lock()
	broken := j.broken
	j.mu.Unlock()
	if !broken {
		return
	}
	if !j.attached {
		if err := j.reattach(); err != nil {
			return
		}
	}
	j.closeGap()
}

// reattach takes a directory that could not be used at the start. What earlier runs
// left in it waits for the next start.
func (j *journal) reattach() error {
	if err := j.files.MkdirAll(j.o.Dir); err != nil {
		return err
	}
	if j.unlock == nil {
		unlock, err := j.files.Lock(filepath.Join(j.o.Dir, lockName))
		if err != nil {
			return err
		}
		j.unlock = unlock
	}
	j.attached = true
	return nil
}

// syncLoop is the syncer.
func (j *journal) syncLoop() {
	defer j.working.Done()
	for {
		select {
		case <-j.syncWake:
		case <-j.stopSync:
			j.syncDirty()
			return
		}
		if !j.o.Sync {
			// What is written in the meantime goes along.
			select {
			case <-time.After(j.o.SyncInterval):
			case <-j.stopSync:
			}
		}
		j.syncDirty()
	}
}

// syncDirty makes durable what was written before it was called.
func (j *journal) syncDirty() {
	now := j.o.Now().UTC()
	j.mu.Lock()
	dirty := j.dirty
	j.dirty = nil
	newest := j.at.segment
	j.mu.Unlock()
	var err error
	for i, s := range dirty {
		if failed := s.file.Sync(); err == nil && failed != nil && !s.abandoned.Load() {
			err = failed
		}
		if s.number < newest || i < len(dirty)-1 {
			_ = s.file.Close() // nobody writes it any more
		}
	}
	if err == nil && len(dirty) > 0 {
		err = j.files.SyncDir(j.o.Dir)
	}
	if err == nil {
		err = j.note(true, func(m *mark) { m.syncedAt = now })
	}
	if err != nil {
		j.mu.Lock()
		j.syncErr = err
		j.mu.Unlock()
		nudge(j.wake)
	}
}

// keep is the keeper.
func (j *journal) keep() {
	defer j.working.Done()
	tick := time.NewTicker(max(j.o.Watchdog/5, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-j.stopKeeper:
			return
		}
		up := j.o.Uptime()
		j.mu.Lock()
		hangs := j.busy && up-j.busySince > j.o.Watchdog && (j.gap == nil || !j.gap.firm)
		since := j.busyFrom
		if hangs {
			j.late = true
			j.openGap(since, reasonHung)
		}
		j.mu.Unlock()
		if hangs {
			j.o.Alarm(Alarm{Kind: JournalHangs, Since: since})
			nudge(j.hurry)
		}
	}
}

// snapshot is what the drain needs to know to hand everything over that was
// recorded before now.
type snapshot struct {
	at         position
	memory     []token.Fact // not in the journal yet
	unwritten  int          // of them, those that could not be written
	generation int
	gaps       []token.Gap // open ones, as far as they have come
}

// snapshot takes stock. Facts that come later count as later than now: see append.
func (j *journal) snapshot(now time.Time) snapshot {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.floor = now
	s := snapshot{at: j.at, unwritten: len(j.unwritten), generation: j.generation}
	s.memory = append(s.memory, j.unwritten...)
	s.memory = append(s.memory, j.flight...)
	s.memory = append(s.memory, j.queue...)
	if j.gap != nil && j.gap.firm {
		to := now
		if !to.After(j.gap.since) {
			to = j.gap.since.Add(time.Nanosecond)
		}
		s.gaps = append(s.gaps, token.Gap{From: j.gap.since, To: to, Blind: true, Node: j.o.Node, Reason: j.gap.reason})
	}
	s.gaps = append(s.gaps, j.carried...)
	return s
}

// told drops facts from memory that the store has and the journal could not take.
func (j *journal) told(s *snapshot) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.mending && s.generation == j.generation && s.unwritten <= len(j.unwritten) {
		j.unwritten = append([]token.Fact(nil), j.unwritten[s.unwritten:]...)
		j.generation++
	}
}

// discard removes segments whose records have all been handed over.
func (j *journal) discard(from, before uint32) error {
	if from >= before {
		return nil
	}
	if err := j.note(false, func(m *mark) { m.first = max(m.first, before) }); err != nil {
		return err
	}
	j.mu.Lock()
	for n := from; n < before; n++ {
		delete(j.final, n)
	}
	j.mu.Unlock()
	var errs []error
	for n := from; n < before; n++ {
		err := j.files.Remove(filepath.Join(j.o.Dir, segmentName(j.run.ID, n)))
		if err != nil && !isMissing(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// seal stops taking facts: every later one is refused.
func (j *journal) seal() {
	j.mu.Lock()
	j.closed = true
	j.mu.Unlock()
}

// close ends the goroutines. done says that everything was handed over, so that
// the files can go.
func (j *journal) close(stoppedAt time.Time, done bool) error {
	j.seal()
	finished := make(chan error, 1)
	close(j.stopKeeper)
	go func() { finished <- j.finish(stoppedAt, done) }()
	timer := time.NewTimer(closePatience)
	defer timer.Stop()
	select {
	case err := <-finished:
		return err
	case <-timer.C:
		return fmt.Errorf("usage: the disk of the journal in %s does not answer: what it has will be handed over at the next start", j.o.Dir)
	}
}

func (j *journal) finish(stoppedAt time.Time, done bool) error {
	close(j.stop)
	<-j.writing
	close(j.stopSync)
	j.working.Wait()
	j.mu.Lock()
	clean := j.gap == nil && j.syncErr == nil && len(j.unwritten) == 0
	if clean || done {
		j.dismiss()
	}
	j.mu.Unlock()
	var errs []error
	if clean {
		errs = append(errs, j.note(true, func(m *mark) { m.stopped = stoppedAt }))
	}
	if j.current != nil {
		errs = append(errs, j.current.file.Close())
	}
	if j.markFile != nil {
		errs = append(errs, j.markFile.Close())
	}
	if done && j.attached {
		errs = append(errs, j.removeRun(j.run.ID))
	}
	if j.unlock != nil {
		errs = append(errs, j.unlock())
	}
	return errors.Join(errs...)
}

// removeRun removes the files of a run that was handed over. Its mark is renamed
// first: from then on segments that are missing are missing on purpose.
func (j *journal) removeRun(id token.ID) error {
	path := filepath.Join(j.o.Dir, string(id))
	if err := j.files.Rename(path+markSuffix, path+doneSuffix); err != nil && !isMissing(err) {
		return err
	}
	names, err := j.files.List(j.o.Dir)
	if err != nil {
		return err
	}
	return removeDone(j.files, j.o.Dir, id, names)
}

// removeDone removes what is left of a run that was handed over.
func removeDone(files Files, dir string, id token.ID, names []string) error {
	for _, name := range names {
		if run, _, ok := splitName(name); ok && run == id {
			if err := files.Remove(filepath.Join(dir, name)); err != nil && !isMissing(err) {
				return err
			}
		}
	}
	err := files.Remove(filepath.Join(dir, string(id)+doneSuffix))
	if isMissing(err) {
		return nil
	}
	return err
}
