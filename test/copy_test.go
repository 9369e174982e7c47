package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
)

// copyCommand is `store copy` over the Caddyfile of a gateway.
func (g *gateway) copyCommand(args ...string) *exec.Cmd {
	cmd := exec.Command(binary, append([]string{"store", "copy", "--config", g.path("Caddyfile"), "--adapter", "caddyfile"}, args...)...)
	cmd.Env, cmd.Dir = g.env(), g.dir
	return cmd
}

// copyStore runs it to its end and returns what it said. A busy machine may keep
// the database from answering in time, which proves nothing: then it is run again.
func (g *gateway) copyStore(args ...string) (stdout, stderr string, err error) {
	for end := time.Now().Add(ceiling); ; {
		cmd := g.copyCommand(args...)
		var out, said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &said
		err = cmd.Run()
		if err == nil || !strings.Contains(said.String(), "tokenstore: unavailable") || time.Now().After(end) {
			return out.String(), said.String(), err
		}
	}
}

// killCopy ends it without a word as soon as it has said something.
func (g *gateway) killCopy(at string, args ...string) {
	g.t.Helper()
	cmd := g.copyCommand(args...)
	stderr, err := cmd.StderrPipe()
	require.NoError(g.t, err)
	require.NoError(g.t, cmd.Start())
	var said strings.Builder
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), at) {
			break
		}
	}
	require.Contains(g.t, said.String(), at)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// F37, D21: from the embedded store to Postgres and back, killed on the way. Every
// secret is what it was, and nothing is served before all of it is there.
func TestAStoreMovesToPostgresAndBack(t *testing.T) {
	const there = "postgres:{env.DATABASE_URL}"
	server := pgtest.Start(t)
	env := []string{"DATABASE_URL=" + server.Database()}
	upstream := httpbinUpstream(t)
	g := prepareGateway(t, plainCaddyfile, upstream)
	g.extraEnv = env
	g.start()
	account := g.account()
	valid := g.create("--account", account, "--access", "read_only")
	revoked := g.create("--account", account, "--access", "read_only")
	g.command("token", "revoke", revoked.id(), "--confirm")
	rotated := g.create("--account", account, "--access", "read_only")
	next := g.issue("token", "rotate", rotated.id(), "--mode", "now", "--confirm")
	judged := func(g *gateway) {
		t.Helper()
		g.want(200, "", "GET", "/get", valid.Secret)
		g.want(200, "", "GET", "/get", next.Secret)
		g.want(401, "revoked_token", "GET", "/get", revoked.Secret)
		g.want(401, "retired_secret", "GET", "/get", rotated.Secret)
		g.command("audit", "verify")
	}
	judged(g)

	_, said, err := g.copyStore("--to", there)
	require.Error(t, err, "a running gateway could revoke a token meanwhile")
	require.Contains(t, said, "node_")
	g.stop()

	_, said, err = g.copyStore("--to", "postgres:postgres://user:hunter2@127.0.0.1/x")
	require.Error(t, err)
	require.NotContains(t, said, "hunter2")
	for _, args := range [][]string{{}, {"--to", there, "--from", there}, {"--to", "mysql:x"}, {"--from", "sqlite:" + g.path("none.db")}, {"--to", "sqlite:" + g.path("sallyport.db")}} {
		_, _, err = g.copyStore(args...)
		require.Error(t, err, args)
	}

	for _, at := range []string{"copy policies", "copy tokens", "copy audit", "compare secrets"} {
		g.killCopy(at, "--to", there)
	}
	key, err := os.ReadFile(g.path("sallyport.db.key"))
	require.NoError(t, err)
	moved := prepareGateway(t, fleetCaddyfile, upstream)
	moved.extraEnv = env
	require.NoError(t, os.WriteFile(moved.path("master.key"), key, 0o600))
	half := exec.Command(binary, "token", "list", "--offline", "--config", moved.path("Caddyfile"), "--adapter", "caddyfile")
	half.Env, half.Dir = moved.env(), moved.dir
	out, err := half.CombinedOutput()
	require.Error(t, err, "a part of a store is not served")
	require.Contains(t, string(out), "store copy")

	out2, said, err := g.copyStore("--to", there)
	require.NoError(t, err, said)
	require.Contains(t, said, "Going on")
	require.Contains(t, said, "compare tokens: 3 rows")
	require.Regexp(t, `(?m)^tokens +3 +yes$`, out2)
	_, said, err = g.copyStore("--to", there)
	require.Error(t, err, "it is a store in use now")
	require.Contains(t, said, "in use")

	moved.start()
	judged(moved)
	late := moved.create("--account", account, "--access", "read_only")
	moved.stop()

	// Back, with the configuration that names Postgres, into a new file.
	out2, said, err = moved.copyStore("--to", "sqlite:"+g.path("back.db"), "--output", "json", "--quiet")
	require.NoError(t, err, said)
	require.Empty(t, said)
	var summary struct {
		Verified bool
		Tables   []struct{ Table, SHA256 string }
	}
	require.NoError(t, json.Unmarshal([]byte(out2), &summary))
	require.True(t, summary.Verified)
	require.NotEmpty(t, summary.Tables)
	back := prepareGateway(t, plainCaddyfile, upstream)
	content, err := os.ReadFile(g.path("back.db"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(back.path("sallyport.db"), content, 0o600))
	require.NoError(t, os.WriteFile(back.path("sallyport.db.key"), key, 0o600))
	back.start()
	judged(back)
	back.want(200, "", "GET", "/get", late.Secret)
}
