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

// configure reads a connection string, and sets what holds for all connections.
func configure(url string) (*pgxpool.Config, error) {
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
	if c.ValidateConnect == nil {
		// Of several servers the one that takes writes is meant. A standby may lag,
		// and would answer for secrets that are long revoked.
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
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

// Between attempts to connect after one that failed.
const (
	pauseMin = 50 * time.Millisecond
	pauseMax = time.Second
)

// pause keeps a node from knocking on and on at a server that has just refused
// it: many nodes that do so keep it from starting up. While connecting fails, one
// tries now and then, and all others are told so at once. Connections that exist
// are not concerned.
type pause struct {
	now func() time.Time

	mu    sync.Mutex
	wait  time.Duration // 0: the last attempt succeeded
	until time.Time
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
	p.until = p.now().Add(connectTimeout) // unless it is known before
	return nil
}

// after is told when one was made.
func (p *pause) after(context.Context, *pgx.Conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wait = 0
	return nil
}

// failed is told when one could not be made. Several that failed together count once.
func (p *pause) failed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if p.wait != 0 && now.Before(p.until) && p.until.Sub(now) <= p.wait {
		return
	}
	p.wait = min(max(2*p.wait, pauseMin), pauseMax)
	p.until = now.Add(jittered(p.wait))
}

// jittered is between half of d and all of it, so that nodes that failed
// together do not come back together.
func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }
