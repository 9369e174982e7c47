package loss

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/test/bench/fleet"
)

// The window of 45 s makes buckets of one; nothing is deleted by it, since there
// is nobody who could be told.
const caddyfile = `{
	admin {ADMIN}
	persist_config off
	default_bind 127.0.0.1
	log {
		level ERROR
	}
	sallyport {
		store {STORE}
		master_key {file.{KEY}}
		journal {JOURNAL} {DIR}/journal
		scopes {
			payments:read read
			payments:write
		}
		policy default {
			delete_unused 45s
			downgrade_unused never
			notice 5s
			require_ip_allowlist never
		}
	}
}
http://{ADDR} {
	sallyport {
		require payments:write POST /v1/payments
		require payments:read GET /v1/payments
	}
	reverse_proxy {UPSTREAM}
}
`

// gateway is one process after the other in the same home.
type gateway struct {
	number            int
	name, dir, binary string
	addr, admin       string
	env               []string

	cmd    *exec.Cmd
	gone   chan struct{}
	said   *bytes.Buffer // to be read when it is gone
	up     atomic.Bool
	client *http.Client
	manage *api.Client
}

func newGateway(b *bench, name, upstream string) (*gateway, error) {
	g := &gateway{number: len(b.gateways), name: name, dir: b.path("gateway" + name), binary: b.o.Binary}
	if err := os.Mkdir(g.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if g.addr, err = fleet.FreeAddress(); err != nil {
		return nil, err
	}
	if g.admin, err = fleet.FreeAddress(); err != nil {
		return nil, err
	}
	store := "sqlite " + b.path("sallyport.db")
	g.env = append(os.Environ(), "HOME="+g.dir, "XDG_DATA_HOME="+g.dir, "XDG_CONFIG_HOME="+g.dir)
	if b.o.Server != nil {
		store = "postgres {env.DATABASE_URL}"
		g.env = append(g.env, "DATABASE_URL="+b.url)
	}
	text := strings.NewReplacer("{ADMIN}", g.admin, "{ADDR}", g.addr, "{DIR}", g.dir, "{STORE}", store,
		"{KEY}", b.keyFile(), "{JOURNAL}", b.o.Journal, "{UPSTREAM}", upstream).Replace(caddyfile)
	if err := os.WriteFile(filepath.Join(g.dir, "Caddyfile"), []byte(text), 0o600); err != nil {
		return nil, err
	}
	g.client = &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}, Timeout: ceiling,
	}
	g.manage, err = api.NewClient("http://"+g.admin+"/sallyport/v1", &http.Client{Timeout: ceiling})
	return g, err
}

// launch starts the program and waits for nothing.
func (g *gateway) launch(ctx context.Context) error {
	g.said = &bytes.Buffer{}
	cmd := exec.CommandContext(ctx, g.binary, "run", "--config", filepath.Join(g.dir, "Caddyfile"), "--adapter", "caddyfile")
	cmd.Env, cmd.Dir = g.env, g.dir
	cmd.Stderr = g.said
	if err := cmd.Start(); err != nil {
		return err
	}
	gone := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(gone)
	}()
	g.cmd, g.gone = cmd, gone
	return nil
}

// start starts the program and waits until it serves.
func (g *gateway) start(ctx context.Context) error {
	if err := g.launch(ctx); err != nil {
		return err
	}
	for end := time.Now().Add(ceiling); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		select {
		case <-g.gone:
			return fmt.Errorf("gateway %s ended: %s", g.name, g.said)
		default:
		}
		if _, err := g.manage.Health(ctx); err != nil {
			continue
		}
		if conn, err := new(net.Dialer).DialContext(ctx, "tcp", g.addr); err == nil {
			_ = conn.Close()
			g.up.Store(true)
			return nil
		}
	}
	return fmt.Errorf("gateway %s is not ready", g.name)
}

// kill ends the process without a word.
func (g *gateway) kill() {
	g.up.Store(false)
	_ = g.cmd.Process.Kill()
	<-g.gone
	g.client.CloseIdleConnections()
}

// stop ends it in order.
func (g *gateway) stop() error {
	g.up.Store(false)
	if g.cmd == nil {
		return nil
	}
	_ = g.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-g.gone:
		return nil
	case <-time.After(ceiling):
		_ = g.cmd.Process.Kill()
		<-g.gone
		return errors.New("gateway " + g.name + " does not stop")
	}
}
