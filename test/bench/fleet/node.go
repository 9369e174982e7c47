package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
)

const caddyfile = `{
	admin {ADMIN}
	persist_config off
	default_bind 127.0.0.1
	log {
		level ERROR
	}
	servers {
		protocols h1 h2c
	}
	sallyport {
		store postgres {env.DATABASE_URL}
		master_key {file.{DIR}/master.key}
		stale_if_unavailable {STALE}
		policy default {
			delete_unused never
			downgrade_unused never
		}
	}
}
http://{ADDR} {
	@grpc path /grpc.*
	sallyport {
		failure_limit 0
	}
	reverse_proxy @grpc h2c://{GRPC}
	reverse_proxy {UPSTREAM}
}
`

// node is one gateway process, with a proxy of its own before the database.
type node struct {
	name, dir, addr, admin, binary string

	link   *toxiproxy.Proxy
	url    string // of the database, through the link
	up     *upstream
	cmd    *exec.Cmd
	gone   chan struct{}
	said   *bytes.Buffer // to be read when it is gone
	client *http.Client
	manage *api.Client
}

func newNode(name, dir, binary, database string, server *pgtest.Server, up *upstream, keys []byte) (*node, error) {
	n := &node{name: name, dir: dir, binary: binary, up: up}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "master.key"), keys, 0o600); err != nil {
		return nil, err
	}
	zerolog.SetGlobalLevel(zerolog.Disabled) // toxics log without being asked
	proxies := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	n.link = toxiproxy.NewProxy(proxies, name, "127.0.0.1:0", server.Addr())
	if err := n.link.Start(); err != nil {
		return nil, err
	}
	n.url = pgtest.URL(n.link.Listen, database)
	var err error
	if n.addr, err = FreeAddress(); err != nil {
		return nil, err
	}
	if n.admin, err = FreeAddress(); err != nil {
		return nil, err
	}
	n.client = &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}, Timeout: ceiling,
	}
	n.manage, err = api.NewClient("http://"+n.admin+"/sallyport/v1", &http.Client{Timeout: ceiling})
	return n, err
}

// start runs the program and waits until it is ready.
func (n *node) start(ctx context.Context, stale time.Duration) error {
	text := strings.NewReplacer("{ADMIN}", n.admin, "{ADDR}", n.addr, "{DIR}", n.dir, "{STALE}", stale.String(),
		"{GRPC}", n.up.grpcAddr, "{UPSTREAM}", n.up.addr).Replace(caddyfile)
	file := filepath.Join(n.dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	n.said = &bytes.Buffer{}
	n.cmd = exec.CommandContext(ctx, n.binary, "run", "--config", file, "--adapter", "caddyfile")
	n.cmd.Env = append(os.Environ(), "DATABASE_URL="+n.url, "HOME="+n.dir, "XDG_DATA_HOME="+n.dir, "XDG_CONFIG_HOME="+n.dir)
	n.cmd.Stderr = n.said
	if err := n.cmd.Start(); err != nil {
		n.cmd = nil
		return err
	}
	n.gone = make(chan struct{})
	go func() {
		_ = n.cmd.Wait()
		close(n.gone)
	}()
	return n.ready(ctx)
}

// ready waits until the gateway says that it is, and the gate listens.
func (n *node) ready(ctx context.Context) error {
	for end := time.Now().Add(2 * ceiling); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		select {
		case <-n.gone:
			return fmt.Errorf("gateway %s ended: %s", n.name, n.said)
		default:
		}
		h, err := n.manage.Health(ctx)
		if err != nil || h.Status != api.Ready {
			continue
		}
		if conn, err := new(net.Dialer).DialContext(ctx, "tcp", n.addr); err == nil {
			_ = conn.Close()
			return nil
		}
	}
	return fmt.Errorf("gateway %s is not ready", n.name)
}

func (n *node) stop() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Signal(os.Interrupt)
	select {
	case <-n.gone:
	case <-time.After(ceiling):
		_ = n.cmd.Process.Kill()
		<-n.gone
	}
	n.cmd = nil
	n.client.CloseIdleConnections()
}

// suspend stops the process where it stands; resume lets it go on.
func (n *node) suspend() error { return n.cmd.Process.Signal(syscall.SIGSTOP) }
func (n *node) resume() error  { return n.cmd.Process.Signal(syscall.SIGCONT) }

// ask makes one request with a secret, and gives the status.
func (n *node) ask(ctx context.Context, secret string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.addr+"/v1/things", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	resp, err := n.client.Do(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}

// poison lets a toxic into what comes from the server, or goes to it.
func (n *node) poison(name, kind, stream, attributes string) error {
	_, err := n.link.Toxics.AddToxicJson(strings.NewReader(
		`{"name":"` + name + `","type":"` + kind + `","stream":"` + stream + `","attributes":` + attributes + `}`))
	return err
}

// cut loses all traffic to the database, and closes nothing.
func (n *node) cut() error {
	return errors.Join(
		n.poison("cut-up", "timeout", "upstream", `{"timeout":0}`),
		n.poison("cut-down", "timeout", "downstream", `{"timeout":0}`))
}

// deafen loses what the listening connection hears.
func (n *node) deafen() error { return n.poison("deaf", deafness, "downstream", "{}") }

func (n *node) heal(ctx context.Context) { n.link.Toxics.ResetToxics(ctx) }
