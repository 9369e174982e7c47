package test

import (
	"bufio"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the fixture of the present schema anew")

// Each state of the schema leaves a small database in testdata: the proof that
// later programs can still open it (the schema itself is written down beside the
// adapter). The secrets in them are of no use to anybody: the keys lie beside them.

// fixture is the number of the present state. A migration that is added takes the
// next, and `go test ./test -run Fixture -update` writes it.
const fixture = "0004"

// TestAFixtureOfEachEarlierStateStillWorks opens a copy of each with the present
// program and asks the gate about every secret in it.
func TestAFixtureOfEachEarlierStateStillWorks(t *testing.T) {
	if *update {
		writeFixture(t)
	}
	fixtures, err := filepath.Glob("testdata/fixtures/*")
	require.NoError(t, err)
	require.NotEmpty(t, fixtures)
	for _, dir := range fixtures {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			upstream := httpbinUpstream(t)
			g := prepareGateway(t, plainCaddyfile, upstream)
			for _, name := range []string{"sallyport.db", "sallyport.db.key"} {
				content, err := os.ReadFile(filepath.Join(dir, name))
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(g.path(name), content, 0o600))
			}
			g.start()
			secrets, err := os.Open(filepath.Join(dir, "secrets"))
			require.NoError(t, err)
			defer func() { _ = secrets.Close() }()
			lines := bufio.NewScanner(secrets)
			n := 0
			for lines.Scan() {
				code, secret, ok := strings.Cut(lines.Text(), " ")
				require.True(t, ok)
				if code == "valid" {
					code = ""
				}
				require.Equal(t, code, g.verify(secret), "line %d", n+1)
				n++
			}
			require.Positive(t, n)
			g.command("audit", "verify")
		})
	}
}

// writeFixture makes a store with a token in each state that lasts.
func writeFixture(t *testing.T) {
	t.Helper()
	g := newGateway(t, plainCaddyfile, httpbinUpstream(t))
	account := g.account()
	user := g.command("user", "create", "--account", account, "--name", "Ann", "--role", "member", "--quiet")
	var lines []string
	note := func(code string, i issued) issued {
		lines = append(lines, code+" "+i.Secret)
		return i
	}
	note("valid", g.create("--account", account, "--access", "read_only"))
	note("valid", g.create("--account", account, "--user", user, "--access", "read_write", "--ip", "127.0.0.1", "--ip", "2001:db8::/32"))
	note("valid", g.create("--account", account, "--access", "read_only", "--fresh-only"))
	note("insufficient_scope", g.create("--account", account, "--access", "custom", "--scope", "payments:read", "--env", "sandbox"))
	rotated := note("retired_secret", g.create("--account", account, "--access", "read_only"))
	note("valid", g.issue("token", "rotate", rotated.id(), "--mode", "now", "--confirm"))
	disabled := note("disabled_token", g.create("--account", account, "--access", "read_only"))
	g.command("token", "disable", disabled.id(), "--confirm")
	revoked := note("revoked_token", g.create("--account", account, "--access", "read_only"))
	g.command("token", "revoke", revoked.id(), "--confirm")
	deleted := note("revoked_token", g.create("--account", account, "--access", "read_only"))
	g.command("token", "delete", deleted.id(), "--confirm")
	g.stop()

	dir := filepath.Join("testdata", "fixtures", fixture)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for _, name := range []string{"sallyport.db", "sallyport.db.key"} {
		content, err := os.ReadFile(g.path(name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o644))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "secrets"), []byte(strings.Join(lines, "\n")+"\n"), 0o644))
}
