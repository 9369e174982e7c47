package usage_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/token"
)

// memory is a sink that merges as its contract says, and checks what it is told.
type memory struct {
	mu      sync.Mutex
	runs    map[token.ID]*token.Run
	seq     map[token.ID]uint64
	facts   map[key]token.Fact
	counts  map[token.Count]int64 // by the count with N 0
	gaps    []token.Gap
	commits int
	rows    int // facts told, repetitions included
	broken  []string

	// fault is asked before and after each call.
	fault func(call string, done bool) error
}

type key struct {
	token, secret token.ID
	scope         string
	bucket        time.Time
}

func newMemory() *memory {
	return &memory{
		runs: map[token.ID]*token.Run{}, seq: map[token.ID]uint64{},
		facts: map[key]token.Fact{}, counts: map[token.Count]int64{},
	}
}

func (m *memory) ask(call string, done bool) error {
	m.mu.Lock()
	fault := m.fault
	m.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault(call, done)
}

func (m *memory) fail(fault func(call string, done bool) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = fault
}

func (m *memory) Begin(_ context.Context, run token.Run) error {
	if err := m.ask("begin", false); err != nil {
		return err
	}
	m.mu.Lock()
	if m.runs[run.ID] == nil {
		m.runs[run.ID] = &run
	}
	m.mu.Unlock()
	return m.ask("begin", true)
}

func (m *memory) Commit(_ context.Context, b token.Activity) error {
	if err := m.ask("commit", false); err != nil {
		return err
	}
	m.take(b)
	return m.ask("commit", true)
}

func (m *memory) take(b token.Activity) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.commits++
	m.rows += len(b.Facts)
	run := m.runs[b.Run]
	if run == nil {
		m.broken = append(m.broken, "a batch of a run that has not begun")
		return
	}
	for _, f := range b.Facts {
		if !f.First.Before(f.Until) || f.First.Before(f.Bucket) {
			m.broken = append(m.broken, "a first use outside of its bucket")
		}
		k := key{f.TokenID, f.SecretID, f.Scope.Name, f.Bucket}
		old, ok := m.facts[k]
		if !ok && !run.Covered.IsZero() && b.Seq == 0 && f.First.Before(run.Covered) && run.StoppedAt.IsZero() && m.gaps == nil {
			m.broken = append(m.broken, "a use before the watermark")
		}
		if ok {
			if old.First.Before(f.First) {
				f.First = old.First
			}
			if old.Until.After(f.Until) {
				f.Until = old.Until
			}
		}
		m.facts[k] = f
	}
	for _, g := range b.Gaps {
		if !g.From.Before(g.To) || !g.Blind || g.Reason == "" || g.Node == "" {
			m.broken = append(m.broken, "a gap that says nothing")
		}
		if !slices.Contains(m.gaps, g) {
			m.gaps = append(m.gaps, g)
		}
	}
	if len(b.Counts) > 0 && b.Seq > m.seq[b.Run] {
		m.seq[b.Run] = b.Seq
		for _, c := range b.Counts {
			n := c.N
			c.N = 0
			m.counts[c] += n
		}
	}
	if !b.Covered.IsZero() {
		run.Covered = b.Covered
	}
}

func (m *memory) End(_ context.Context, run token.ID, stoppedAt time.Time) error {
	if err := m.ask("end", false); err != nil {
		return err
	}
	m.mu.Lock()
	if r := m.runs[run]; r == nil {
		m.broken = append(m.broken, "the end of a run that has not begun")
	} else if r.StoppedAt.IsZero() {
		r.StoppedAt = stoppedAt
	}
	m.mu.Unlock()
	return m.ask("end", true)
}

func (m *memory) has(t, secret token.ID, scope string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range m.facts {
		if k.token == t && k.secret == secret && k.scope == scope {
			return true
		}
	}
	return false
}

func (m *memory) run(id token.ID) token.Run {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.runs[id]; r != nil {
		return *r
	}
	return token.Run{}
}

func (m *memory) allGaps() []token.Gap {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.gaps)
}

func (m *memory) total(match func(token.Count) bool) (n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c, v := range m.counts {
		if match(c) {
			n += v
		}
	}
	return n
}

var errAway = errors.New("the store is away")

// process is the sink as one process reaches it, until it is killed.
type process struct {
	*memory
	view view
}

func (p process) Begin(ctx context.Context, run token.Run) error {
	if !p.view.alive() {
		return errDead
	}
	return p.memory.Begin(ctx, run)
}

func (p process) Commit(ctx context.Context, b token.Activity) error {
	if !p.view.alive() {
		return errDead
	}
	return p.memory.Commit(ctx, b)
}

func (p process) End(ctx context.Context, run token.ID, stoppedAt time.Time) error {
	if !p.view.alive() {
		return errDead
	}
	return p.memory.End(ctx, run, stoppedAt)
}
