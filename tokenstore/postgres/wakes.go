package postgres

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// channel is where nodes tell each other to look at the feed.
const channel = "sallyport"

const (
	// heartbeat is how often a listener proves to itself that it hears anything: a
	// connection that a firewall has forgotten looks alive for ever. silence is
	// how long it waits for that.
	heartbeat = 2 * time.Second
	silence   = 2 * time.Second
	// Making the connection again waits between these, doubling.
	backoffMin = 100 * time.Millisecond
	backoffMax = 5 * time.Second
)

// wakes tells other nodes that something changed, and hears them. It is only
// ever a hint: the feed misses nothing, and is polled anyway.
type wakes struct {
	config    *pgx.ConnConfig
	notify    func(ctx context.Context, channel string) error
	self      string // the channel of our own heartbeats
	signals   chan struct{}
	telling   chan struct{}
	returned  <-chan struct{} // the server is back: listen again at once
	listening atomic.Bool

	cancel context.CancelFunc // of listening
	tasks  sync.WaitGroup
}

func startWakes(config *pgx.ConnConfig, notify func(context.Context, string) error, returned <-chan struct{}) *wakes {
	config = config.Copy()
	config.OnNotification = nil // pgx keeps them, and hear takes them
	ctx, cancel := context.WithCancel(context.Background())
	w := &wakes{
		config: config, notify: notify, cancel: cancel, returned: returned,
		// A channel of its own: of many nodes each hears only itself.
		self:    channel + "_" + strings.ToLower(rand.Text()),
		signals: make(chan struct{}, 1), telling: make(chan struct{}, 1),
	}
	w.tasks.Go(w.tellAll)
	w.tasks.Go(func() { w.listenAlways(ctx) })
	return w
}

// close is called once, when nobody tells any more. What was told before still
// goes out: a command that revokes a token ends right after that.
func (w *wakes) close() {
	w.cancel()
	close(w.telling)
	w.tasks.Wait()
}

// tell has the others told soon; calls that come meanwhile are one.
func (w *wakes) tell() {
	select {
	case w.telling <- struct{}{}:
	default:
	}
}

func (w *wakes) tellAll() {
	for range w.telling {
		w.try(context.Background(), channel)
	}
}

// try is best effort: who misses it finds the change by polling.
func (w *wakes) try(ctx context.Context, channel string) {
	limited, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	_ = w.notify(limited, channel)
}

// listenAlways makes the listening connection again whenever it is lost.
func (w *wakes) listenAlways(ctx context.Context) {
	for wait := backoffMin; ; wait = min(2*wait, backoffMax) {
		heard := w.listen(ctx)
		w.listening.Store(false)
		if heard {
			wait = backoffMin
		}
		timer := time.NewTimer(jittered(wait))
		select {
		case <-ctx.Done():
		case <-w.returned:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// listen hears until the connection is lost or silent. heard says whether
// anything ever came over it.
func (w *wakes) listen(ctx context.Context) (heard bool) {
	connecting, cancel := context.WithTimeout(ctx, reach(w.config))
	defer cancel()
	conn, err := pgx.ConnectConfig(connecting, w.config)
	if err != nil {
		return false
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
		defer cancel()
		_ = conn.Close(closing)
	}()
	if _, err := conn.Exec(connecting, "LISTEN "+channel+"; LISTEN "+w.self); err != nil {
		return false
	}
	for ; ; heard = true {
		// Over another connection: a pooler would give us our own words back on this
		// one, and nobody else's.
		w.try(ctx, w.self)
		if !w.hear(ctx, conn, silence, true) {
			return heard
		}
		if !heard {
			// What was committed before the LISTEN took hold was not heard.
			w.signal()
		}
		w.listening.Store(true)
		if !w.hear(ctx, conn, heartbeat, false) {
			return true
		}
	}
}

// hear takes in notifications until our own heartbeat comes, or for a time. It is
// false when the connection is of no use any more.
func (w *wakes) hear(ctx context.Context, conn *pgx.Conn, d time.Duration, untilSelf bool) bool {
	limited, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for {
		n, err := conn.WaitForNotification(limited)
		if err != nil {
			// Waiting in vain for others is how it goes; waiting in vain for
			// ourselves means that nothing arrives.
			return !untilSelf && ctx.Err() == nil && limited.Err() != nil && !conn.IsClosed()
		}
		switch n.Channel {
		case channel:
			w.signal()
		case w.self:
			if untilSelf {
				return true
			}
		}
	}
}

func (w *wakes) signal() {
	select {
	case w.signals <- struct{}{}:
	default:
	}
}
