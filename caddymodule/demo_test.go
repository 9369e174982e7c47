package caddymodule_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// pasted is a command that the demo prints, with the answer that it promises.
type pasted struct{ command, status, code string }

var promise = regexp.MustCompile(`(?m)^    (.+)\n    -> (\d+)(?: (\w+))?$`)

func TestEveryCommandThatTheDemoPrintsAnswersAsPrinted(t *testing.T) {
	dir := t.TempDir()
	temp := filepath.Join(dir, "temp")
	require.NoError(t, os.Mkdir(temp, 0o700))
	p := launch(t, append(homeless(dir), "TMPDIR="+temp), dir, "demo", "--listen", freeAddress(t), "--admin", freeAddress(t))
	p.waitFor(t, "the demo is up", func() bool { return strings.Contains(p.output.String(), "Ctrl-C ends the demo") })

	var commands []pasted
	for _, match := range promise.FindAllStringSubmatch(p.output.String(), -1) {
		commands = append(commands, pasted{match[1], match[2], match[3]})
	}
	require.Greater(t, len(commands), 15)

	// One shell for all, as in a terminal: a later command uses what an earlier
	// one kept.
	var script strings.Builder
	for i, c := range commands {
		fmt.Fprintf(&script, "%s >%[2]d.out 2>&1\n", paste(c.command), i)
	}
	shell := exec.Command("sh", "-c", script.String())
	shell.Dir = t.TempDir()
	require.NoError(t, shell.Run())
	shown := map[string]bool{}
	for i, c := range commands {
		out, err := os.ReadFile(filepath.Join(shell.Dir, fmt.Sprintf("%d.out", i)))
		require.NoError(t, err)
		status := regexp.MustCompile(`(?m)^HTTP/1\.1 (\d+)`).FindStringSubmatch(string(out))
		require.NotNil(t, status, "%s\n%s", c.command, out)
		require.Equal(t, c.status, status[1], "%s\n%s", c.command, out)
		if c.code != "" {
			require.Contains(t, string(out), `"code":"`+c.code+`"`, c.command)
		}
		shown[c.status+" "+c.code] = true
	}
	for _, want := range []string{"200 ", "201 ", "101 ", "401 missing_token", "401 unknown_token", "403 read_only_token", "403 insufficient_scope", "403 ip_not_allowed", "404 unknown_host", "401 revoked_token"} {
		require.Contains(t, shown, want, "the demo shows it")
	}

	require.Zero(t, p.interrupt(t))
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	require.Empty(t, left, "Ctrl-C leaves nothing behind")
	require.NoDirExists(t, filepath.Join(dir, "data"))
}

// paste has the output of the whole line redirected, an assignment's included.
func paste(command string) string { return "{ " + command + "\n}" }

func TestTheDemoKeepsItsFolderWhenAskedAndShowsTheSecretsNowhereElse(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "kept folder")
	p := launch(t, homeless(dir), dir, "demo", "--keep", "--dir", folder, "--listen", freeAddress(t), "--admin", freeAddress(t))
	p.waitFor(t, "the demo is up", func() bool { return strings.Contains(p.output.String(), "Ctrl-C ends the demo") })
	secrets := regexp.MustCompile(`sp_live_\w{49}`).FindAllString(p.output.String(), -1)
	require.NotEmpty(t, secrets)
	require.Zero(t, p.interrupt(t))

	require.FileExists(t, filepath.Join(folder, "Caddyfile"))
	require.NoError(t, filepath.Walk(folder, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, secret := range secrets {
			require.NotContains(t, string(content), secret, path)
		}
		return nil
	}))

	cmd := exec.Command(sallyport(t), "token", "list", "--offline", "--config", filepath.Join(folder, "Caddyfile"), "--quiet")
	cmd.Env = append(os.Environ(), homeless(dir)...)
	out, err := cmd.Output()
	require.NoError(t, err)
	require.Len(t, strings.Fields(string(out)), 3, "the kept database is whole")
}

func TestTheDemoRefusesWhatWouldHarm(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "precious"), nil, 0o600))
	taken := freeAddress(t)
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"a folder with something in it":      {[]string{"--dir", dir}, "not empty"},
		"an address that others reach":       {[]string{"--listen", "0.0.0.0:" + port(taken)}, "this machine only"},
		"an admin endpoint for others":       {[]string{"--admin", ":2019"}, "this machine only"},
		"something that is not an address":   {[]string{"--listen", "8080"}, "takes an address"},
		"an argument that it does not know":  {[]string{"now"}, "unknown command"},
		"mails, where none are sent":         {[]string{"--mails"}, "needs --lifecycle"},
		"an option that no demo of ours has": {[]string{"--domain", "x"}, "unknown flag"},
	} {
		t.Run(name, func(t *testing.T) {
			p := launch(t, homeless(t.TempDir()), t.TempDir(), append([]string{"demo"}, c.args...)...)
			require.Equal(t, 1, p.exitCode(t))
			require.Contains(t, p.output.String(), c.says)
			require.FileExists(t, filepath.Join(dir, "precious"))
		})
	}
}
