package caddymodule_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheExampleCaddyfileRunsAsItStands(t *testing.T) {
	dir, gate, admin := t.TempDir(), freeAddress(t), freeAddress(t)
	example, err := filepath.Abs("../Caddyfile.example")
	require.NoError(t, err)
	env := append(homeless(dir), "PORT="+port(gate), "API_PORT="+port(freeAddress(t)), "CADDY_ADMIN="+admin)
	p := launch(t, env, dir, "run", "--config", example)
	url := "http://localhost:" + port(gate) + "/v1/payments"
	p.waitFor(t, "the gateway is up", func() bool {
		status, _ := fetch(t, "GET", "http://"+admin+"/sallyport/v1/roles", "", "")
		return status == 200
	})

	command := func(args ...string) string {
		cmd := exec.Command(sallyport(t), append(args, "--address", admin, "--quiet")...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
		out, err := cmd.Output()
		require.NoError(t, err, "%v", args)
		return strings.TrimSpace(string(out))
	}
	account := command("account", "create", "--name", "Example Ltd")
	secret := command("token", "create", "--account", account, "--name", "reports", "--access", "read_only")

	status, body := fetch(t, "GET", url, "", "")
	require.Equal(t, 401, status)
	require.Contains(t, body, "missing_token")
	status, body = fetch(t, "GET", url, secret, "")
	require.Equal(t, 200, status)
	require.Contains(t, body, "Hello from the stand-in")
	require.Contains(t, body, "(read_only)")
	status, body = fetch(t, "POST", url, secret, "{}")
	require.Equal(t, 403, status)
	require.Contains(t, body, "read_only_token")

	status, body = fetch(t, "GET", "http://127.0.0.1:"+port(gate)+"/v1/payments", secret, "")
	require.Equal(t, 404, status, "a host that no site names")
	require.Contains(t, body, "unknown_host")

	require.Zero(t, p.interrupt(t))
	require.FileExists(t, filepath.Join(dir, "data", "caddy", "sallyport.db"))
	require.FileExists(t, filepath.Join(dir, "data", "caddy", "sallyport.db.key"))
}

func TestTheSixLineCaddyfileOfTheReadmeIsEnough(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if os.IsNotExist(err) {
		t.Skip("the README is not written yet")
	}
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(readme), "```caddyfile\n")
	require.True(t, found, "the README shows a Caddyfile")
	text, _, found := strings.Cut(rest, "```")
	require.True(t, found)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(text), 0o600))
	cmd := exec.Command(sallyport(t), "validate", "--config", "Caddyfile")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), homeless(dir)...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoFileExists(t, filepath.Join(dir, "data", "caddy", "sallyport.db"), "validating writes no store")
}
