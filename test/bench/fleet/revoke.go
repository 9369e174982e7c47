package fleet

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// deafPace is the time between revocations without notifications: a node learns
// of several with one poll then, and they are told apart by asking for the
// oldest first.
const deafPace = 25 * time.Millisecond

// Revocations is how soon they held.
type Revocations struct {
	// Asked is the times on the node that was asked to revoke, Others those on each
	// of the other nodes.
	Asked  Times
	Others [nodes]Times
	// Back counts tokens that some node accepted after it had refused them.
	Back int64
}

// event is a revocation that was acknowledged.
type event struct {
	token known
	asked int // the node that was
	at    time.Time
	seen  *sync.WaitGroup
}

// revoke revokes tokens through one node after the other, a third of all through
// each, and watches all nodes. With a pace of zero, one revocation waits for the
// one before to hold everywhere.
func (f *fleet) revoke(parent context.Context, pace time.Duration, result *Revocations) error {
	tokens := f.take(f.o.Revocations)
	if err := f.warm(parent, tokens); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	var asked [nodes]Times
	watches := make([]chan event, nodes)
	failed := make([]error, nodes)
	var watching sync.WaitGroup
	for i, n := range f.nodes {
		watches[i] = make(chan event, len(tokens))
		watching.Go(func() {
			for e := range watches[i] {
				took, err := n.refuses(ctx, e)
				e.seen.Done()
				switch {
				case err != nil:
					failed[i] = errors.Join(failed[i], err)
					cancel()
				case e.asked == i:
					asked[i] = append(asked[i], took)
				default:
					result.Others[i] = append(result.Others[i], took)
				}
			}
		})
	}
	err := f.revokeAll(ctx, tokens, pace, watches)
	for _, w := range watches {
		close(w)
	}
	watching.Wait()
	for _, times := range asked {
		result.Asked = append(result.Asked, times...)
	}
	if err := errors.Join(errors.Join(failed...), err); err != nil {
		return err
	}
	var back atomic.Int64
	err = f.each(func(n *node) error {
		for _, t := range tokens {
			status, err := n.ask(ctx, t.secret)
			if err != nil {
				return err
			}
			if status != http.StatusUnauthorized {
				back.Add(1)
			}
		}
		return nil
	})
	result.Back = back.Load()
	return err
}

func (f *fleet) revokeAll(ctx context.Context, tokens []known, pace time.Duration, watches []chan event) error {
	next := time.Now()
	for i, t := range tokens {
		through := i * nodes / len(tokens)
		if _, err := f.nodes[through].manage.RevokeToken(ctx, t.id, true); err != nil {
			return fmt.Errorf("revoke a token: %w", err)
		}
		e := event{token: t, asked: through, at: time.Now(), seen: &sync.WaitGroup{}}
		e.seen.Add(nodes)
		for _, w := range watches {
			w <- e
		}
		if pace == 0 {
			e.seen.Wait()
			continue
		}
		next = next.Add(pace)
		time.Sleep(time.Until(next))
	}
	return nil
}

// refuses asks until the answer is that the token is revoked.
func (n *node) refuses(ctx context.Context, e event) (time.Duration, error) {
	for {
		status, err := n.ask(ctx, e.token.secret)
		took := time.Since(e.at)
		switch {
		case err != nil:
			return 0, err
		case status == http.StatusUnauthorized:
			return took, nil
		case status != http.StatusOK:
			return 0, fmt.Errorf("gateway %s answers a revoked token with %d", n.name, status)
		case took > ceiling:
			return 0, fmt.Errorf("gateway %s accepts a revoked token for longer than %s", n.name, ceiling)
		}
	}
}
