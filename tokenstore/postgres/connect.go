package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sallyport/sallyport/tokenstore"
)

// errUnreadable repeats nothing: pgx's error quotes the string, and hides the
// password only as far as the string could be parsed.
var errUnreadable = errors.New("the connection string can not be read: it has the form " +
	"postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full, with special characters percent-encoded")

// configure reads the connection string of the store itself.
func configure(url string) (*pgxpool.Config, error) {
	config, err := parse(url)
	if err != nil {
		return nil, err
	}
	if config.ConnConfig.ValidateConnect == nil {
		// Of several servers the one that takes writes is meant. A standby may lag,
		// and would answer for secrets that are long revoked.
		config.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	return config, nil
}

// parse reads a connection string, and sets what holds for all connections.
func parse(url string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errUnreadable
	}
	c := config.ConnConfig
	if err := demandEncryption(&c.Config); err != nil {
		return nil, err
	}
	if c.ConnectTimeout <= 0 || c.ConnectTimeout > connectTimeout {
		c.ConnectTimeout = connectTimeout
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "sallyport"
	}
	// Only the listener listens; a pooler may hand us what somebody else asked
	// for, which pgx would keep for ever.
	c.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) {}
	config.MinConns, config.MinIdleConns = 0, 0
	config.MaxConnIdleTime = 5 * time.Minute
	// A connection that was balanced or resolved to a server once does not stay
	// there for ever.
	config.MaxConnLifetime, config.MaxConnLifetimeJitter = 30*time.Minute, 10*time.Minute
	// The first statement finds out by itself whether the connection is lost.
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	return config, nil
}

// demandEncryption refuses a connection that falls back to plain text without
// anyone having said so, which is what drivers do by default: whoever sits
// between could switch the encryption off and answer in the database's place.
func demandEncryption(c *pgconn.Config) error {
	encrypted, plain := c.TLSConfig != nil, c.TLSConfig == nil
	local := isLocal(c.Host)
	for _, f := range c.Fallbacks {
		encrypted, plain = encrypted || f.TLSConfig != nil, plain || f.TLSConfig == nil
		local = local && isLocal(f.Host)
	}
	if local || !encrypted || !plain {
		return nil
	}
	return errors.New("the connection string leaves it open whether the connection is encrypted: " +
		"add sslmode=verify-full (and sslrootcert=FILE for a certificate authority of your own), or sslmode=disable if nobody can reach the network between")
}

func isLocal(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.HasPrefix(host, "/") || host == "localhost" || err == nil && addr.IsLoopback()
}

// reach is how long connecting may take at most: each host has its own time.
func reach(c *pgx.ConnConfig) time.Duration {
	return min(time.Duration(1+len(c.Fallbacks))*c.ConnectTimeout, openTimeout)
}

// Between attempts to connect after one that failed. A node that may connect again
// so soon is as it was within a second of the server's return.
const (
	pauseMin = 50 * time.Millisecond
	pauseMax = 500 * time.Millisecond
)

// pause keeps a node from knocking on and on at a server that has just refused
// it: many nodes that do so keep it from starting up. While connecting fails, one
// tries now and then, and all others are told so at once. Connections that exist
// are not concerned.
type pause struct {
	now func() time.Time
	// returned gets a signal when the server is back; it holds one.
	returned chan struct{}

	mu    sync.Mutex
	wait  time.Duration // 0: the last attempt succeeded
	until time.Time
	// trying is set while one tries, and nobody has heard what became of it.
	trying bool
	// made is when a connection was last made, failedAt when one last could not be,
	// and refused whether that was the server's own answer.
	made, failedAt time.Time
	refused        bool
}

func newPause(now func() time.Time) *pause {
	return &pause{now: now, returned: make(chan struct{}, 1)}
}

var errPausing = fmt.Errorf("%w: it could not be reached a moment ago", tokenstore.ErrUnavailable)

// before is asked before a connection is made.
func (p *pause) before(context.Context, *pgx.ConnConfig) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wait == 0 {
		return nil
	}
	if p.now().Before(p.until) {
		return errPausing
	}
	// Unless it is known before. An attempt that hangs, because its packets are
	// lost, does not keep the next one waiting.
	p.until, p.trying = p.now().Add(pauseMax), true
	return nil
}

// after is told when one was made.
func (p *pause) after(context.Context, *pgx.Conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made = p.now()
	p.end()
	return nil
}

// answered is told when a connection that exists got an answer to what was asked
// then. If connecting had failed on the way, and not because the server has no
// room or is about to stop, the way is open again.
func (p *pause) answered(asked time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wait != 0 && !p.refused && asked.After(p.failedAt) {
		p.end()
	}
}

// failed is told when one could not be made by somebody who began then. Several
// that failed together count once, and one that began before another was made does
// not count: it tells of the time before.
func (p *pause) failed(began time.Time, refused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if began.Before(p.made) {
		return
	}
	p.failedAt, p.refused = now, refused
	if p.wait != 0 && now.Before(p.until) && !p.trying {
		return
	}
	p.trying = false
	p.wait = min(max(2*p.wait, pauseMin), pauseMax)
	p.until = now.Add(jittered(p.wait))
}

// end lets everyone connect. The caller holds the lock.
func (p *pause) end() {
	if p.wait == 0 {
		return
	}
	p.wait, p.trying = 0, false
	select {
	case p.returned <- struct{}{}:
	default:
	}
}

// jittered is between half of d and all of it, so that nodes that failed
// together do not come back together.
func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }
