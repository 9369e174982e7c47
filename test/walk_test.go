package test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
)

// walkCeiling is for a page of commands, one after the other.
const walkCeiling = 3 * time.Minute

// The way from the embedded store to three gateways is run as it stands on the
// page that operators follow; only the ports are those that are free here.
func TestTheWayToThreeGatewaysIsAsThePageSays(t *testing.T) {
	for _, program := range []string{"bash", "curl", "pg_dump", "pg_restore"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is missing", program)
		}
	}
	page, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(page), "tried on one machine\n")
	require.True(t, found, "the section is on the page")
	_, rest, _ = strings.Cut(rest, "```sh\n")
	script, _, found := strings.Cut(rest, "\n```")
	require.True(t, found)
	script = strings.ReplaceAll(script, "808", freeTen(t))

	dir := t.TempDir()
	require.NoError(t, os.Symlink(binary, filepath.Join(dir, "sallyport")))
	work := filepath.Join(dir, "w") // short: socket paths have a limit
	require.NoError(t, os.Mkdir(work, 0o700))
	out, err := os.Create(filepath.Join(dir, "out"))
	require.NoError(t, err)
	defer func() { require.NoError(t, out.Close()) }()
	cmd := exec.CommandContext(t.Context(), "bash", "-eu", "-c", script)
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "PWD="+work, "HOME="+dir, "XDG_DATA_HOME="+dir,
		"XDG_CONFIG_HOME="+dir, "DATABASE_URL="+pgtest.Start(t).Database())
	// A file and no pipe: the gateways that it starts would hold a pipe open.
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, cmd.Start())
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err = <-ended:
	case <-time.After(walkCeiling):
		err = os.ErrDeadlineExceeded
	}
	said, readErr := os.ReadFile(out.Name())
	require.NoError(t, readErr)
	require.NoError(t, err, "%s", said)
	answers := strings.Join(regexp.MustCompile(`(?m)^\d{3}$`).FindAllString(string(said), -1), " ")
	require.Equal(t, "200 200 200 200 401 401 401 401 401 401", answers, "%s", said)
	require.Regexp(t, `token\.reassert +tok_`, string(said))
	require.Regexp(t, `valid +yes`, string(said))
}

// freeTen gives the first digits of ten ports that nobody listens on.
func freeTen(t *testing.T) string {
	t.Helper()
search:
	for tens := 2100; tens < 3200; tens++ {
		for port := range 4 {
			l, err := net.Listen("tcp", "localhost:"+strconv.Itoa(10*tens+port))
			if err != nil {
				continue search
			}
			require.NoError(t, l.Close())
		}
		return strconv.Itoa(tens)
	}
	t.Fatal("no free ports")
	return ""
}
