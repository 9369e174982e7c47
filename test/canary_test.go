package test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const canaryCaddyfile = `{
	admin {ADMIN}
	default_bind 127.0.0.1
	debug
	log default {
		output file {DIR}/caddy.log
		level DEBUG
	}
	metrics
	sallyport {
		store sqlite {DIR}/sallyport.db
	}
}
http://{ADDR} {
	log {
		output file {DIR}/access.log
		format filter {
			request>headers>X-Api-Key delete
		}
	}
	sallyport {
		credential_header X-Api-Key
	}
	reverse_proxy {UPSTREAM}
}
`

// TestASecretIsFoundNowhereButInTheResponseThatIssuedIt passes secrets through
// everything and then looks for them in everything (C19, S13, I6).
func TestASecretIsFoundNowhereButInTheResponseThatIssuedIt(t *testing.T) {
	g := newGateway(t, canaryCaddyfile, httpbinUpstream(t))
	account := g.account()
	var secrets []string
	issue := func(i issued) issued {
		secrets = append(secrets, i.Secret)
		return i
	}
	reader := issue(g.create("--account", account, "--access", "read_only"))
	writer := issue(g.create("--account", account, "--access", "read_write", "--ip", "127.0.0.1"))
	rotated := issue(g.issue("token", "rotate", reader.id(), "--mode", "timed", "--grace", "1h", "--confirm"))
	g.command("token", "rotate", writer.id(), "--mode", "now", "--confirm", "--output", "json")
	revoked := issue(g.create("--account", account, "--access", "read_only"))
	g.command("token", "revoke", revoked.id(), "--confirm")

	for _, secret := range secrets {
		for _, header := range []http.Header{
			{"Authorization": {"Bearer " + secret}},
			{"Authorization": {"bearer " + secret}},
			{"X-Api-Key": {secret}},
			{"Authorization": {"Bearer " + secret, "Bearer " + secret}},
			{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(secret+":x"))}},
			{"Authorization": {"Bearer " + secret + "x"}},
			{"Authorization": {"Bearer  " + secret}},
			{"X-Api-Key": {secret}, "Authorization": {"Bearer " + secret}},
			{"Authorization": {"Bearer " + secret}, "Connection": {"upgrade"}, "Upgrade": {"h2c"}},
		} {
			for _, path := range []string{"/get", "/status/500", "/a/../b", "/x%2fy"} {
				req, err := http.NewRequest("POST", g.url(path), strings.NewReader("{}"))
				require.NoError(t, err)
				req.Header = header.Clone()
				resp, err := http.DefaultClient.Do(req)
				require.NoError(t, err)
				body, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				_ = resp.Body.Close()
				requireNoSecret(t, secrets, "the answer to "+path, body)
				for name, values := range resp.Header {
					requireNoSecret(t, secrets, name, []byte(strings.Join(values, "\n")))
				}
			}
		}
		g.verify(secret)
		// Wrong bodies that hold a secret in every place that a careless client could put one.
		for _, body := range []string{
			`{"name":"` + secret + `","account_id":"` + secret + `","access":"` + secret + `"}`,
			`{"` + secret + `":1}`, `{"name":` + secret, `{"ip_allowlist":["` + secret + `"]}`, secret,
		} {
			resp, err := http.Post(g.adminURL("/tokens"), "application/json", strings.NewReader(body))
			require.NoError(t, err)
			answer, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			_ = resp.Body.Close()
			require.GreaterOrEqual(t, resp.StatusCode, 400)
			requireNoSecret(t, secrets, "the problem", answer)
		}
	}
	_ = rotated

	for _, page := range []string{
		"/sallyport/v1/tokens", "/sallyport/v1/tokens/" + reader.id(), "/sallyport/v1/audit", "/sallyport/v1/openapi.json",
		"/metrics", "/config/", "/debug/vars", "/debug/pprof/goroutine?debug=2", "/debug/pprof/cmdline",
	} {
		u := url.URL{Scheme: "http", Host: g.admin}
		resp, err := http.Get(u.String() + page)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		_ = resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode, page)
		requireNoSecret(t, secrets, page, body)
	}
	searchFiles := func(when string) {
		files := 0
		require.NoError(t, filepath.WalkDir(g.dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files++
			requireNoSecret(t, secrets, when+": "+filepath.Base(path), content)
			return nil
		}))
		require.Greater(t, files, 4, "the database, its log, the key and two logs are there to be searched")
	}
	searchFiles("running")
	requireNoSecret(t, secrets, "stderr", []byte(g.log.String()))
	g.stop()
	searchFiles("stopped")
}

// requireNoSecret fails when a secret, its random part, or an encoding of it
// stands in the content. It does not print the content.
func requireNoSecret(t *testing.T, secrets []string, where string, content []byte) {
	t.Helper()
	for i, secret := range secrets {
		random := secret[strings.LastIndexByte(secret, '_')+1:][:43]
		for how, needle := range map[string]string{
			"as it is": random, "in hex": hex.EncodeToString([]byte(secret)), "in base64": base64.StdEncoding.EncodeToString([]byte(secret))[:40],
		} {
			if bytes.Contains(content, []byte(needle)) {
				t.Errorf("secret %d stands %s in %s", i, how, where)
			}
		}
	}
}
