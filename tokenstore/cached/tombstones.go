package cached

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/tokenstore"
)

// tombstones are the tokens and secrets that were seen to end. They are exact and
// never evicted, and outlive resyncs and epochs: a store that was restored must
// not bring a revoked token back (I3).
//
// Within one history of the store a tombstone is overcome by a later version that
// is alive, as when a token that was deleted for not being used is restored. Once
// the store was put back to an earlier state, versions are counted anew, and a
// token that came back to life passes its tombstone's version by being edited a
// few times. So from then on the tombstones that had not been overcome hold
// whatever the version says, until they have been written into the store again.
type tombstones struct {
	mu sync.Mutex // held by who raises; requests take no lock
	// versions is the highest at which each was seen to have ended.
	versions *marks
	// revived is the highest at which one of them was seen alive again. While the
	// feed's past is read it also holds what has no tombstone: it may get one yet.
	revived   atomic.Pointer[marks]
	recalling bool
	hard      atomic.Bool // they hold whatever the version
	// How the past is read: so many steps at once, and up to so many marks.
	window int64
	limit  int
}

func newTombstones() *tombstones {
	t := &tombstones{versions: newMarks(), window: recallWindow, limit: recallLimit}
	t.revived.Store(newMarks())
	return t
}

// learn takes in a change of a token or a secret.
func (t *tombstones) learn(c *tokenstore.Change) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.take(c, !t.hard.Load())
}

// take marks a change. reviving is false while a later version proves nothing.
func (t *tombstones) take(c *tokenstore.Change, reviving bool) {
	switch {
	case c.Final:
		t.versions.raise(c.Kind, c.ID, c.Version)
	case reviving && (t.recalling || t.versions.at(c.Kind, c.ID) > 0):
		t.revived.Load().raise(c.Kind, c.ID, c.Version)
	}
}

// beginRecall is called before the feed is followed, when its past is to be read too.
func (t *tombstones) beginRecall() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.recalling = true
}

// recall takes in changes of the past, in any order, of the history in which the
// tombstones were not hard.
func (t *tombstones) recall(list []tokenstore.Change) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range list {
		if c := &list[i]; c.Kind == tokenstore.TokenKind || c.Kind == tokenstore.SecretKind {
			t.take(c, true)
		}
	}
}

// endRecall drops what has got no tombstone.
func (t *tombstones) endRecall() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.recalling = false
	kept := newMarks()
	for m := range t.revived.Load().all() {
		if t.versions.at(m.kind, m.id) > 0 {
			kept.raise(m.kind, m.id, m.version.Load())
		}
	}
	t.revived.Store(kept)
}

// weight is how many marks there are.
func (t *tombstones) weight() int { return t.versions.len() + t.revived.Load().len() }

// hold says whether a tombstone refuses a record that the store shows alive at a
// version.
func (t *tombstones) hold(kind tokenstore.Kind, id string, version int64) bool {
	at := t.versions.at(kind, id)
	return at > 0 && (at >= version || t.hard.Load() && at > t.revived.Load().at(kind, id))
}

// standing gives those that were not overcome. Ones that are added meanwhile may
// be left out.
func (t *tombstones) standing() iter.Seq[tokenstore.Change] {
	return func(yield func(tokenstore.Change) bool) {
		for m := range t.versions.all() {
			version := m.version.Load()
			if version <= t.revived.Load().at(m.kind, m.id) {
				continue
			}
			if !yield(tokenstore.Change{Kind: m.kind, ID: m.id, Version: version, Final: true}) {
				return
			}
		}
	}
}

// Replacement says that the store was found in another state than it had come to:
// an earlier one, or one with a history of its own.
type Replacement struct {
	Number uint64 // counts them
	// From is where the feed was known to stand, To where it was found. Of several
	// replacements that were not settled it is from before the first to the last.
	From, To tokenstore.Position
	// EndsFrom is the first number, of those up to From, from which on this node
	// knows of every token and secret that ended.
	EndsFrom int64
}

// replacements notes the one that is not settled.
type replacements struct {
	mu      sync.Mutex
	count   uint64
	pending Replacement // Number 0: none
}

// replacedBy says whether the store at one position can not be the one that was at
// another, further on.
func replacedBy(from, to tokenstore.Position) bool {
	return from.Epoch != to.Epoch || to.Seq < from.Seq
}

// noteReplacement is called before anything of the new state is learned, and
// perhaps again for the same one.
func (s *Store) noteReplacement(from, to tokenstore.Position) {
	r := &s.replaced
	r.mu.Lock()
	defer r.mu.Unlock()
	s.known.ended.hard.Store(true)
	r.count++
	if r.pending.Number == 0 {
		r.pending.From, r.pending.EndsFrom = from, s.endsFrom.Load()
	}
	r.pending.Number, r.pending.To = r.count, to
}

// Replacement gives the replacement of the store that is not settled, if there is
// one. Until it is, tombstones hold against any version.
func (s *Store) Replacement() (Replacement, bool) {
	s.replaced.mu.Lock()
	defer s.replaced.mu.Unlock()
	return s.replaced.pending, s.replaced.pending.Number != 0
}

// Ended gives what this node knows to have ended, the tokens and secrets that the
// store must not show alive, each with the highest version known. It may be
// gone through while the store is used.
func (s *Store) Ended() iter.Seq[tokenstore.Change] { return s.known.ended.standing() }

// Reasserted says that all that Ended gave after a replacement is in the store
// again. It does nothing when the store was replaced once more since.
func (s *Store) Reasserted(number uint64) {
	s.replaced.mu.Lock()
	defer s.replaced.mu.Unlock()
	if s.replaced.pending.Number == number {
		s.replaced.pending = Replacement{}
		s.known.ended.hard.Store(false)
	}
}

const (
	// recallWindow is how many steps of the feed's past are read at once, newest first.
	recallWindow = 5_000
	// recallLimit bounds the memory for what is read of the past, at about 30 MiB.
	recallLimit = 1 << 18
)

// recall reads the past of the feed, as far as the store keeps it, for what ended
// before this node began to follow. Nothing waits for it: until the store is
// replaced, the store itself knows of those better.
func (s *Store) recall(from tokenstore.Position) {
	defer s.tasks.Done()
	defer s.known.ended.endRecall()
	var oldest int64
	upTo := from.Seq
	for upTo > 0 && s.known.ended.weight() < s.known.ended.limit {
		began, err := s.recallSome(from.Epoch, upTo, &oldest)
		switch {
		case err != nil:
			timer := time.NewTimer(s.options.Poll)
			select {
			case <-s.root.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
		case began == 0:
			return
		default:
			s.endsFrom.Store(began)
			upTo = began - 1
		}
	}
}

// recallSome reads a part of the past that ends with a number, and gives the
// number that it begins with; 0 when there is no more to be had.
func (s *Store) recallSome(epoch string, upTo int64, oldest *int64) (began int64, err error) {
	defer recovered(&err)
	ctx, cancel := context.WithTimeout(s.root, pollTimeout)
	defer cancel()
	if *oldest == 0 {
		if err := s.inner.Read(ctx, func(tx *tokenstore.Tx) (err error) {
			*oldest, err = tx.OldestStep()
			return err
		}); err != nil {
			return 0, err
		}
	}
	if *oldest == 0 || *oldest > upTo {
		return 0, nil
	}
	began = max(*oldest, upTo-s.known.ended.window+1)
	for at := (tokenstore.Position{Epoch: epoch, Seq: began - 1}); at.Seq < upTo; {
		changes, err := s.inner.Changes(ctx, at)
		if err != nil {
			return 0, err
		}
		if !changes.Complete || !inOrder(at, &changes) || changes.At == at {
			return 0, nil // it was removed meanwhile, or the store was replaced
		}
		s.known.ended.recall(changes.List)
		at = changes.At
	}
	return began, nil
}
