package caddymodule_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience is how long a test waits for what must happen, before it says that it
// did not.
const patience = 30 * time.Second

var builds struct {
	sync.Mutex
	dir, program string
	err          error
}

// environment is from before any test set a home of its own, where a build would
// find none of Go's caches.
var environment = os.Environ()

func TestMain(m *testing.M) {
	code := m.Run()
	if builds.dir != "" {
		_ = os.RemoveAll(builds.dir)
	}
	os.Exit(code)
}

// sallyport builds the program, once for all tests, and gives its path.
func sallyport(t testing.TB) string {
	t.Helper()
	builds.Lock()
	defer builds.Unlock()
	if builds.program == "" && builds.err == nil {
		builds.dir, builds.err = os.MkdirTemp("", "sallyport-test-")
		program := filepath.Join(builds.dir, "sallyport")
		if builds.err == nil {
			build := exec.Command("go", "build", "-o", program, "../cmd/sallyport")
			build.Env = environment
			out, err := build.CombinedOutput()
			if err != nil {
				builds.err = fmt.Errorf("%w\n%s", err, out)
			}
		}
		builds.program = program
	}
	require.NoError(t, builds.err)
	return builds.program
}

// homeless keeps what Caddy writes of its own accord inside a test's folder.
func homeless(dir string) []string {
	return []string{"HOME=" + dir, "XDG_DATA_HOME=" + filepath.Join(dir, "data"), "XDG_CONFIG_HOME=" + filepath.Join(dir, "config")}
}

// freeAddress is an address that nothing listens on.
func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().String()
}

func port(address string) string {
	_, p, _ := net.SplitHostPort(address)
	return p
}

// process is a program that runs beside the test.
type process struct {
	*exec.Cmd
	output *lockedBuffer
	ended  chan struct{}
	err    error
}

// launch runs the program until the test ends, or until it is told to end.
func launch(t testing.TB, env []string, dir string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(sallyport(t), args...), output: new(lockedBuffer), ended: make(chan struct{})}
	p.Dir, p.Env = dir, append(os.Environ(), env...)
	p.Stdout, p.Stderr = p.output, p.output
	require.NoError(t, p.Start())
	go func() {
		defer close(p.ended)
		p.err = p.Wait()
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.ended
	})
	return p
}

// interrupt ends the program as Ctrl-C does, and gives its exit code.
func (p *process) interrupt(t testing.TB) int {
	t.Helper()
	require.NoError(t, p.Process.Signal(syscall.SIGINT))
	return p.exitCode(t)
}

func (p *process) exitCode(t testing.TB) int {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatalf("the program did not end; it said:\n%s", p.output)
	}
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		return exit.ExitCode()
	}
	require.NoError(t, p.err)
	return 0
}

// waitFor waits until the condition holds, and fails when the program ended
// before.
func (p *process) waitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	eventually(t, what+"\n", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("the program ended before %s; it said:\n%s", what, p.output)
		default:
		}
		return holds()
	})
}

// reporter is the part of testing.TB that a script has too.
type reporter interface {
	Helper()
	Context() context.Context
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	FailNow()
}

func eventually(t reporter, what string, holds func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("waited %s in vain for: %s", patience, what)
		}
	}
}

type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// fetch asks and gives the status and the body; 0 when nobody answers. It asks
// again when a connection broke: on Linux, Caddy itself closes connections that
// wait to be accepted when a reload replaces a TCP listener.
func fetch(t reporter, method, url, secret, body string) (status int, answer string) {
	t.Helper()
	for range 5 {
		if status, answer = fetchOnce(t, method, url, secret, body); status != 0 {
			break
		}
	}
	return status, answer
}

func fetchOnce(t reporter, method, url, secret, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text)
}

// command is a run of the program that leaves nothing outside the folder.
func command(t testing.TB, dir string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(sallyport(t), args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), homeless(dir)...)
	return cmd
}

// statusText is a status as scripts write it.
func statusText(status int) string { return strconv.Itoa(status) }
