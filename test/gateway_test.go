package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	bounds "github.com/sallyport/sallyport/test/bench/fleet"
)

// gateway is one running program with a home of its own.
type gateway struct {
	t        *testing.T
	dir      string // home, database, key, Caddyfile, logs
	addr     string // of the gate
	extraEnv []string
	admin    string // of Caddy's admin endpoint
	cmd      *exec.Cmd
	done     chan struct{}
	log      *logBuffer
}

// caddyfile is completed with the admin address, the gate's address and the home.
// Words: {ADMIN} {ADDR} {DIR} {UPSTREAM}.
const plainCaddyfile = `{
	admin {ADMIN}
	persist_config off
	default_bind 127.0.0.1
	sallyport {
		store sqlite {DIR}/sallyport.db
		scopes {
			payments:read read
			payments:write
		}
	}
}
http://{ADDR} {
	sallyport {
		require payments:write POST /v1/payments*
		require payments:read GET /v1/payments*
	}
	reverse_proxy {UPSTREAM}
}
`

// newGateway writes the Caddyfile and starts the program.
func newGateway(t *testing.T, caddyfile, upstream string) *gateway {
	t.Helper()
	g := prepareGateway(t, caddyfile, upstream)
	g.start()
	return g
}

// prepareGateway writes the Caddyfile; the caller starts the program.
func prepareGateway(t *testing.T, caddyfile, upstream string) *gateway {
	t.Helper()
	g := &gateway{t: t, dir: t.TempDir(), addr: freeAddress(t), admin: freeAddress(t), log: &logBuffer{}}
	g.configure(caddyfile, upstream)
	t.Cleanup(func() {
		g.stop()
		if t.Failed() {
			t.Logf("the program said:\n%s", g.log.tail(40))
		}
	})
	return g
}

func (g *gateway) configure(caddyfile, upstream string) {
	g.t.Helper()
	text := strings.NewReplacer("{ADMIN}", g.admin, "{ADDR}", g.addr, "{DIR}", g.dir, "{UPSTREAM}", upstream).Replace(caddyfile)
	require.NoError(g.t, os.WriteFile(g.path("Caddyfile"), []byte(text), 0o600))
}

func (g *gateway) path(name string) string { return filepath.Join(g.dir, name) }

func (g *gateway) env() []string {
	return append(append(os.Environ(), "HOME="+g.dir, "XDG_DATA_HOME="+g.path("data"), "XDG_CONFIG_HOME="+g.path("config")), g.extraEnv...)
}

// start runs the program and waits until the gate and the admin routes answer.
func (g *gateway) start() {
	g.t.Helper()
	g.cmd = exec.Command(binary, "run", "--config", g.path("Caddyfile"), "--adapter", "caddyfile")
	g.cmd.Env = g.env()
	g.cmd.Dir = g.dir
	g.cmd.Stdout, g.cmd.Stderr = g.log, g.log
	require.NoError(g.t, g.cmd.Start())
	g.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait()
		close(done)
	}(g.cmd, g.done)
	eventually(g.t, "the program is ready", func() bool {
		select {
		case <-g.done:
			g.t.Fatalf("the program ended:\n%s", g.log.String())
		default:
		}
		resp, err := http.Get(g.adminURL("/health"))
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return false
		}
		conn, err := net.Dial("tcp", g.addr)
		if err != nil {
			return false
		}
		_ = conn.Close()
		return true
	})
}

// stop asks the program to end and waits for it.
func (g *gateway) stop() { g.signal(syscall.SIGTERM) }

// kill ends the program without a word.
func (g *gateway) kill() { g.signal(syscall.SIGKILL) }

func (g *gateway) signal(s syscall.Signal) {
	if g.cmd == nil {
		return
	}
	_ = g.cmd.Process.Signal(s)
	select {
	case <-g.done:
	case <-time.After(ceiling):
		_ = g.cmd.Process.Kill()
		<-g.done
		g.t.Errorf("the program did not end within %s of %s", ceiling, s)
	}
	g.cmd = nil
}

func (g *gateway) url(path string) string      { return "http://" + g.addr + path }
func (g *gateway) adminURL(path string) string { return "http://" + g.admin + "/sallyport/v1" + path }

// command runs one of the program's commands against the running gateway, and
// returns what stood on stdout. It fails the test when the command fails.
func (g *gateway) command(args ...string) string {
	g.t.Helper()
	out, err := g.try(args...)
	require.NoError(g.t, err)
	return out
}

func (g *gateway) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), ceiling)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append(args, "--address", g.admin)...)
	cmd.Env, cmd.Dir = g.env(), g.dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSuffix(stdout.String(), "\n"), nil
}

// account makes an account and returns its ID.
func (g *gateway) account() string {
	g.t.Helper()
	return g.command("account", "create", "--name", "Example", "--quiet")
}

// issued is what create and rotate answer.
type issued struct {
	Token  map[string]any `json:"token"`
	Secret string         `json:"secret"`
}

func (i issued) id() string { return i.Token["id"].(string) }

// create issues a token with the flags given.
func (g *gateway) create(flags ...string) issued {
	g.t.Helper()
	return g.issue(append([]string{"token", "create", "--name", "test"}, flags...)...)
}

// issue runs a command that issues a secret.
func (g *gateway) issue(args ...string) issued {
	g.t.Helper()
	var i issued
	require.NoError(g.t, json.Unmarshal([]byte(g.command(append(args, "--output", "json")...)), &i))
	require.NotEmpty(g.t, i.Secret)
	return i
}

// do sends one request with a secret; an empty secret sends none.
func (g *gateway) do(method, path, secret string) (status int, code string) {
	g.t.Helper()
	status, code, err := g.send(method, path, secret)
	require.NoError(g.t, err)
	return status, code
}

func (g *gateway) send(method, path, secret string) (status int, code string, err error) {
	req, err := http.NewRequest(method, g.url(path), nil)
	if err != nil {
		return 0, "", err
	}
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", err
	}
	var problem struct{ Code string }
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") {
		err = json.Unmarshal(body, &problem)
	}
	return resp.StatusCode, problem.Code, err
}

// want sends one request and requires a status and a code.
func (g *gateway) want(status int, code, method, path, secret string) {
	g.t.Helper()
	gotStatus, gotCode := g.do(method, path, secret)
	require.Equal(g.t, [2]any{status, code}, [2]any{gotStatus, gotCode}, "%s %s", method, path)
}

// eventually polls a condition under the ceiling.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(ceiling); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within %s: %s", ceiling, what)
}

// freeAddress gives a loopback address that nobody listens on, and that no other
// test gets.
func freeAddress(t *testing.T) string {
	t.Helper()
	addr, err := bounds.FreeAddress()
	require.NoError(t, err)
	return addr
}

// tail is the last lines other than those that tell of everyday business.
func (b *logBuffer) tail(n int) string {
	var kept []string
	for line := range strings.Lines(b.String()) {
		if !strings.Contains(line, `"level":"info"`) && !strings.Contains(line, `"level":"debug"`) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept[max(0, len(kept)-n):], "")
}

// logBuffer collects what a program prints.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
