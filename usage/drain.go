package usage

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/sallyport/sallyport/token"
)

// drain hands over what the journal and the counters hold, in passes. After a pass
// that succeeds everything recorded before it began is in the store.
type drain struct {
	r *Recorder
	j *journal
	o *Options

	// Only a pass touches these; pass is held for it.
	pass     sync.Mutex
	begun    bool
	seq      uint64
	pending  *token.Activity // was given to the sink, which may or may not have taken it
	from     position
	covered  time.Time
	gaps     []token.Gap // found, and not handed over yet
	orphans  []orphan
	lastSent time.Duration // uptime
	counted  time.Duration
	clock    clockWatch

	mu      sync.Mutex
	wants   uint64        // number of the last flush that was asked for
	done    uint64        // number of the last flush that was served
	served  chan struct{} // closed and replaced when a pass ends
	err     error
	state   Stats
	dropped int64

	flushes chan struct{}
	stop    chan struct{}
	cancel  context.CancelFunc
	working sync.WaitGroup
}

func newDrain(r *Recorder, orphans []orphan) *drain {
	d := &drain{
		r: r, j: r.journal, o: &r.o, orphans: orphans,
		from: position{segment: 1}, served: make(chan struct{}),
		flushes: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	d.clock.look(d.o.Now(), d.o.Uptime())
	d.counted = d.o.Uptime()
	d.state.Orphans = len(orphans)
	return d
}

// startUp makes the run known, if the sink answers, and starts the passes.
func (d *drain) startUp(ctx context.Context) error {
	d.pass.Lock()
	err := d.begin(ctx)
	d.pass.Unlock()
	background, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	d.working.Add(1)
	go d.loop(background)
	return err
}

func (d *drain) begin(ctx context.Context) error {
	if d.begun {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, sinkTimeout)
	defer cancel()
	if err := d.o.Sink.Begin(ctx, d.j.run); err != nil {
		return fmt.Errorf("usage: make the run known: %w", err)
	}
	d.begun = true
	return nil
}

// loop makes a pass at every interval, and at once when a flush wants one or when
// something is in memory only.
func (d *drain) loop(ctx context.Context) {
	defer d.working.Done()
	failures := 0
	var failedFor time.Duration
	for {
		timer := time.NewTimer(d.pause(failures))
		select {
		case <-timer.C:
		case <-d.flushes:
		case <-d.j.hurry:
		case <-d.stop:
			timer.Stop()
			return
		}
		timer.Stop()
		err := d.turn(ctx)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err != nil && failures == 0:
			failures, failedFor = 1, d.o.Uptime()
			d.o.Alarm(Alarm{Kind: StoreBehind, Since: d.o.Now().UTC(), Err: err})
		case err != nil:
			failures++
		case failures > 0:
			since := d.o.Now().UTC().Add(failedFor - d.o.Uptime())
			d.o.Alarm(Alarm{Kind: StoreCaughtUp, Since: since})
			failures = 0
		}
		if failures > 0 {
			// However many flushes are asked for, a store that is down is not hammered.
			select {
			case <-time.After(min(100*time.Millisecond, d.o.Interval)):
			case <-d.stop:
				return
			}
		}
	}
}

// pause is the time until the next pass.
func (d *drain) pause(failures int) time.Duration {
	p := min(d.o.Interval, max(d.r.now.Load().length/4, 25*time.Millisecond))
	if failures > 0 {
		p = min(d.o.Interval<<min(failures, 10), maxRetryDelay)
		p = p/2 + time.Duration(d.o.Rand()*float64(p)/2)
	}
	return p
}

// turn makes one pass and tells those who wait for it.
func (d *drain) turn(ctx context.Context) error {
	d.mu.Lock()
	serving := d.wants
	flushing := d.wants > d.done
	d.mu.Unlock()
	d.pass.Lock()
	err := d.handOver(ctx, flushing)
	covered, orphans := d.covered, len(d.orphans)
	d.pass.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
	if err == nil {
		d.done = max(d.done, serving)
	}
	d.state.Covered, d.state.Orphans, d.state.Err = covered, orphans, err
	close(d.served)
	d.served = make(chan struct{})
	return err
}

// flush asks for a pass that begins after now, and waits for one that succeeds.
func (d *drain) flush(ctx context.Context) error {
	d.mu.Lock()
	d.wants++
	want := d.wants
	d.mu.Unlock()
	for {
		d.mu.Lock()
		done, served, err := d.done >= want, d.served, d.err
		d.mu.Unlock()
		if done {
			return nil
		}
		nudge(d.flushes)
		select {
		case <-served:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("usage: flush: %w", ctx.Err()), err)
		case <-d.stop:
			return ErrClosed
		}
	}
}

// handOver is one pass.
func (d *drain) handOver(ctx context.Context, everything bool) error {
	d.r.rebucket()
	now, up := d.o.Now().UTC(), d.o.Uptime()
	if gap, set := d.clock.look(now, up); set {
		gap.Node = d.o.Node
		d.gaps = append(d.gaps, gap)
		d.covered = time.Time{} // what was covered was told by another clock
		d.o.Alarm(Alarm{Kind: ClockSet, Since: gap.From})
	}
	if now.Before(d.covered) {
		now = d.covered
	}
	if err := d.begin(ctx); err != nil {
		return err
	}
	// A batch whose fate is not known goes again as it was: its number keeps its
	// counts from being added twice.
	if d.pending != nil {
		if err := d.commit(ctx, d.pending); err != nil {
			return err
		}
	}
	s := d.j.snapshot(now)
	if err := d.tellFacts(ctx, &s, now, up, everything); err != nil {
		return err
	}
	if everything || up-d.counted >= d.countInterval() {
		if err := d.tellCounts(ctx); err != nil {
			return err
		}
		d.counted = up
	}
	for len(d.orphans) > 0 {
		if err := d.tellOrphan(ctx, &d.orphans[0]); err != nil {
			return err
		}
		d.orphans = d.orphans[1:]
	}
	if lost := d.r.dropped.Load(); lost > d.dropped {
		d.dropped = lost
		d.o.Alarm(Alarm{Kind: CountsDropped, Since: now})
	}
	return nil
}

func (d *drain) countInterval() time.Duration {
	return min(d.o.CountInterval, max(d.r.now.Load().length, d.o.Interval))
}

// tellFacts hands over what the journal holds up to the snapshot, what is not in
// it yet, and gaps; the last batch carries the watermark.
func (d *drain) tellFacts(ctx context.Context, s *snapshot, now time.Time, up time.Duration, everything bool) error {
	b := d.batch()
	reach, err := d.readOwn(ctx, &b, s.at)
	if err != nil {
		return err
	}
	seen := facts{into: &b}
	for _, f := range s.memory {
		seen.add(f)
		if len(b.Facts) >= d.o.BatchSize {
			if err := d.send(ctx, &b); err != nil {
				return err
			}
			seen = facts{into: &b}
		}
	}
	b.Gaps = append(b.Gaps, s.gaps...)
	b.Gaps = append(b.Gaps, d.gaps...)
	unseen, ended := d.r.unseen.gaps(now)
	b.Gaps = append(b.Gaps, unseen...)
	if len(b.Facts)+len(b.Gaps) > 0 || everything || d.covered.IsZero() || up-d.lastSent >= min(watermarkInterval, 6*d.pause(0)) {
		b.Covered = now
		if err := d.send(ctx, &b); err != nil {
			return err
		}
		d.covered = now
		d.lastSent = up
	}
	d.gaps = nil
	d.r.unseen.told(ended)
	d.j.told(s)
	if reach.segment > d.from.segment {
		// Not to remove them is no harm: they are told again, at the latest after a
		// restart.
		_ = d.j.discard(d.from.segment, reach.segment)
	}
	d.from = reach
	return nil
}

// facts puts facts into a batch, each once.
type facts struct {
	into *token.Activity
	seen map[token.Fact]struct{}
}

func (s *facts) add(f token.Fact) {
	if s.seen == nil {
		s.seen = make(map[token.Fact]struct{})
	}
	if _, ok := s.seen[f]; ok {
		return
	}
	s.seen[f] = struct{}{}
	s.into.Facts = append(s.into.Facts, f)
}

func (d *drain) batch() token.Activity { return token.Activity{Run: d.j.run.ID} }

// send commits a batch without counts and makes room for the next.
func (d *drain) send(ctx context.Context, b *token.Activity) error {
	if err := d.commit(ctx, b); err != nil {
		return err
	}
	*b = token.Activity{Run: b.Run}
	return nil
}

func (d *drain) commit(ctx context.Context, b *token.Activity) error {
	ctx, cancel := context.WithTimeout(ctx, sinkTimeout)
	defer cancel()
	if err := d.o.Sink.Commit(ctx, *b); err != nil {
		return fmt.Errorf("usage: hand over: %w", err)
	}
	if b == d.pending {
		d.pending = nil
	}
	return nil
}

// readOwn reads what was written since the last pass, up to a place.
func (d *drain) readOwn(ctx context.Context, b *token.Activity, to position) (position, error) {
	at := d.from
	for at.segment <= to.segment && to.segment > 0 {
		end := to.offset
		if at.segment < to.segment {
			d.j.mu.Lock()
			end = d.j.final[at.segment]
			d.j.mu.Unlock()
		}
		if end > at.offset {
			e := extent{name: segmentName(d.j.run.ID, at.segment), start: at.offset, length: end}
			if err := d.tell(ctx, b, &e); err != nil {
				if !isDamage(err) && !isMissing(err) {
					return at, err
				}
				// It was written and cannot be read again. Nobody knows what was in it.
				since := d.covered
				if since.IsZero() {
					since = d.j.run.StartedAt
				}
				b.Gaps = append(b.Gaps, d.blind(since))
				d.o.Alarm(Alarm{Kind: JournalDamaged, Since: since, Err: fmt.Errorf("%s: %w", e.name, err)})
			}
		}
		if at.segment == to.segment {
			return position{at.segment, end}, nil
		}
		at = position{segment: at.segment + 1}
	}
	return at, nil
}

// blind is the gap that stands for records that can no longer be read.
func (d *drain) blind(since time.Time) token.Gap {
	now := d.o.Now().UTC()
	if !now.After(since) {
		now = since.Add(time.Nanosecond)
	}
	return token.Gap{From: since, To: now, Blind: true, Node: d.o.Node, Reason: reasonDamaged}
}

// tell reads the records of a segment into batches and sends those that are full.
func (d *drain) tell(ctx context.Context, b *token.Activity, e *extent) error {
	f, err := d.o.Files.Open(filepath.Join(d.o.Dir, e.name))
	if err != nil {
		return err
	}
	err = d.tellFrom(ctx, b, e, f)
	return errors.Join(err, f.Close())
}

func (d *drain) tellFrom(ctx context.Context, b *token.Activity, e *extent, f File) error {
	if e.salt == 0 {
		head := make([]byte, min(e.length, maxHeader))
		if err := readFull(f, head, 0); err != nil {
			return err
		}
		_, n, salt, err := decodeHeader(head)
		if err != nil {
			return err
		}
		e.salt, e.start = salt, max(e.start, int64(n))
	}
	c := cursor{file: f, at: e.start, end: e.length, salt: e.salt}
	seen := facts{into: b}
	for {
		r, err := c.next()
		if err != nil || r == nil {
			return err
		}
		switch r.kind {
		case factRecord:
			seen.add(r.fact)
		case gapRecord:
			r.gap.Node = d.o.Node
			b.Gaps = append(b.Gaps, r.gap)
		case endRecord:
		}
		if len(b.Facts)+len(b.Gaps) >= d.o.BatchSize {
			if err := d.send(ctx, b); err != nil {
				return err
			}
			seen = facts{into: b}
		}
	}
}

// tellCounts hands over what was counted since the last time.
func (d *drain) tellCounts(ctx context.Context) error {
	return d.r.takeCounts(d.o.BatchSize, func(counts []token.Count) error {
		d.seq++
		d.pending = &token.Activity{Run: d.j.run.ID, Seq: d.seq, Counts: counts}
		return d.commit(ctx, d.pending)
	})
}

// tellOrphan hands over what an earlier run left, in its name, and ends it.
func (d *drain) tellOrphan(ctx context.Context, o *orphan) error {
	begin, cancel := context.WithTimeout(ctx, sinkTimeout)
	defer cancel()
	if err := d.o.Sink.Begin(begin, token.Run{Node: o.run.Node, ID: o.run.ID, StartedAt: o.run.StartedAt}); err != nil {
		return fmt.Errorf("usage: make an earlier run known: %w", err)
	}
	b := token.Activity{Run: o.run.ID}
	for i := range o.segments {
		e := o.segments[i]
		err := d.tell(ctx, &b, &e)
		switch {
		case err == nil:
		case isDamage(err) || isMissing(err):
			b.Gaps = append(b.Gaps, d.blind(o.run.StartedAt))
			d.o.Alarm(Alarm{Kind: JournalDamaged, Since: o.run.StartedAt, Err: fmt.Errorf("%s: %w", e.name, err)})
		default:
			// It could be read a moment ago. It is tried again rather than passed over.
			return fmt.Errorf("usage: read what an earlier run left: %w", err)
		}
	}
	b.Covered = o.run.StoppedAt
	if err := d.send(ctx, &b); err != nil {
		return err
	}
	end, cancel := context.WithTimeout(ctx, sinkTimeout)
	defer cancel()
	if err := d.o.Sink.End(end, o.run.ID, o.run.StoppedAt); err != nil {
		return fmt.Errorf("usage: end an earlier run: %w", err)
	}
	// What stays is told again at the next start, which does no harm.
	_ = d.j.removeRun(o.run.ID)
	return nil
}

// close makes a last pass and ends the run. It can be called once.
func (d *drain) close(ctx context.Context, stoppedAt time.Time) error {
	close(d.stop)
	if d.cancel != nil {
		// A pass under way may finish as long as the context allows.
		release := context.AfterFunc(ctx, d.cancel)
		d.working.Wait()
		release()
		d.cancel()
	}
	d.mu.Lock()
	d.wants++ // with its counts
	d.mu.Unlock()
	if err := d.turn(ctx); err != nil {
		return err
	}
	end, cancel := context.WithTimeout(ctx, sinkTimeout)
	defer cancel()
	if err := d.o.Sink.End(end, d.j.run.ID, stoppedAt); err != nil {
		return fmt.Errorf("usage: end the run: %w", err)
	}
	return nil
}

func (d *drain) describe(s *Stats) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s.Covered, s.Orphans, s.Err = d.state.Covered, d.state.Orphans, d.state.Err
}
