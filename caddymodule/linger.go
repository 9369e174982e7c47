package caddymodule

import (
	"context"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

const (
	// lingerQuiet is how long there must be no request before a runtime that no
	// configuration uses is closed: a request that had reached an old handler
	// when the reload ended may come to its gate a little later.
	lingerQuiet = time.Second
	// lingerLimit bounds the wait. Requests that last longer are ended then.
	lingerLimit = 30 * time.Second
	// lingerPoll is how often it is looked.
	lingerPoll = 50 * time.Millisecond
)

// lingering owns the runtimes that no configuration uses any more, until the
// last requests in them are answered.
var lingering = newLingerers()

func init() {
	caddy.OnExit(func(context.Context) { lingering.finish() })
}

type lingerers struct {
	mu      sync.Mutex
	waiting sync.WaitGroup
	// hurry is closed to have all that linger now close at once.
	hurry chan struct{}
}

func newLingerers() *lingerers { return &lingerers{hurry: make(chan struct{})} }

func (l *lingerers) add(r *runtime) {
	l.mu.Lock()
	defer l.mu.Unlock()
	hurry := l.hurry
	l.waiting.Go(func() {
		r.drain(hurry)
		if err := r.close(); err != nil {
			caddy.Log().Named("sallyport").Error("closing a store that is no longer used", zap.Error(err))
		}
	})
}

// finish closes what lingers and waits for it.
func (l *lingerers) finish() {
	l.mu.Lock()
	close(l.hurry)
	l.hurry = make(chan struct{})
	l.mu.Unlock()
	l.waiting.Wait()
}

// drain waits until the runtime has been without requests for a while.
func (r *runtime) drain(hurry <-chan struct{}) {
	limit := time.NewTimer(lingerLimit)
	defer limit.Stop()
	poll := time.NewTicker(lingerPoll)
	defer poll.Stop()
	busy := time.Now()
	for {
		select {
		case <-hurry:
			return
		case <-limit.C:
			return
		case now := <-poll.C:
			if len(r.streams.snapshot(nil)) > 0 {
				busy = now
			}
			if now.Sub(busy) >= lingerQuiet {
				return
			}
		}
	}
}
