package test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ncruces/go-sqlite3/driver"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"
)

// hookReceiver is a webhook's other side. It keeps what it gets, whatever it
// answers.
type hookReceiver struct {
	url string

	mu     sync.Mutex
	got    []hookRequest
	status int
}

type hookRequest struct {
	header http.Header
	body   []byte
	answer int
}

func openReceiver(t *testing.T) *hookReceiver {
	t.Helper()
	r := &hookReceiver{status: http.StatusNoContent}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		if err == nil {
			r.got = append(r.got, hookRequest{header: req.Header, body: body, answer: r.status})
		}
		w.WriteHeader(r.status)
	}))
	t.Cleanup(server.Close)
	r.url = server.URL + "/hooks?of=sallyport"
	return r
}

func (r *hookReceiver) answer(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

// events are the requests with an event, in the order in which they came.
func (r *hookReceiver) events(event string) []hookRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []hookRequest
	for _, q := range r.got {
		if q.event() == event {
			list = append(list, q)
		}
	}
	return list
}

func (q *hookRequest) event() string {
	var body struct{ Type string }
	_ = json.Unmarshal(q.body, &body)
	return body.Type
}

func (q *hookRequest) id() string { return q.header.Get("webhook-id") }

// verifies asks the library that receivers use, its bound on the time included.
func (q *hookRequest) verifies(t *testing.T, secret string) bool {
	t.Helper()
	hook, err := standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
	return hook.Verify(q.body, q.header) == nil
}

// hookID is the ID of the only webhook.
func (g *gateway) hookID() string {
	g.t.Helper()
	return g.command("webhook", "list", "--quiet")
}

const webhookCaddyfile = `{
	admin {ADMIN}
	persist_config off
	default_bind 127.0.0.1
	sallyport {
		store sqlite {DIR}/sallyport.db
		webhook_allow 127.0.0.0/8
	}
}
http://{ADDR} {
	sallyport
	reverse_proxy {UPSTREAM}
}
`

// R7: while a signing secret rotates a receiver with either accepts; rolled back,
// only one with the old; ended, only one with the new.
func TestASigningSecretRotatesUnderItsReceiver(t *testing.T) {
	r := openReceiver(t)
	g := newGateway(t, webhookCaddyfile, httpbinUpstream(t))
	first := g.command("webhook", "create", r.url, "--quiet")
	id := g.hookID()
	tests := 0
	accepts := func(secrets map[string]bool) {
		t.Helper()
		g.command("webhook", "test", id)
		tests++
		got := r.events("webhook_test")
		require.Len(t, got, tests)
		for secret, want := range secrets {
			require.Equal(t, want, got[tests-1].verifies(t, secret))
		}
	}
	accepts(map[string]bool{first: true})
	second := g.command("webhook", "rotate", id, "--quiet")
	accepts(map[string]bool{first: true, second: true})
	_, err := g.try("webhook", "rotate", id)
	require.ErrorContains(t, err, "rotation_in_progress")
	g.command("webhook", "rollback", id)
	accepts(map[string]bool{first: true, second: false})
	third := g.command("webhook", "rotate", id, "--grace", "7d", "--quiet")
	accepts(map[string]bool{first: true, third: true})
	g.command("webhook", "confirm", id)
	accepts(map[string]bool{first: false, third: true})
	fourth := g.command("webhook", "rotate", id, "--grace", "0", "--quiet")
	accepts(map[string]bool{third: false, fourth: true})

	r.answer(http.StatusServiceUnavailable)
	_, err = g.try("webhook", "test", id)
	require.ErrorContains(t, err, "the webhook answered 503")

	// No secret is anywhere but where it was issued.
	log := g.command("audit", "list", "--output", "json") + g.log.String() + g.command("webhook", "show", id, "--output", "json")
	for _, secret := range []string{first, second, third, fourth} {
		require.NotContains(t, log, strings.TrimPrefix(secret, "whsec_"))
	}
	for _, verb := range []string{"webhook.create", "webhook.rotate", "webhook.rollback", "webhook.confirm"} {
		require.Contains(t, log, verb)
	}
	require.NotContains(t, g.command("audit", "list", "--output", "json"), "of=sallyport")
	g.command("audit", "verify")
}

// A receiver that was down is told later, of the same under the same ID, also after
// the gateway was started anew.
func TestAReceiverThatWasDownIsToldLater(t *testing.T) {
	r := openReceiver(t)
	g := newGateway(t, webhookCaddyfile, httpbinUpstream(t))
	secret := g.command("webhook", "create", r.url, "--event", "token_created", "--quiet")
	r.answer(http.StatusServiceUnavailable)
	created := g.create("--account", g.account(), "--access", "read_only")
	eventually(t, "it was tried, and waits", func() bool {
		return strings.Contains(g.command("notice", "list", "--state", "waiting", "--output", "json"), "the webhook answered 503")
	})
	g.stop()

	// The next attempt is due in a minute, which the test does not wait for.
	db, err := driver.Open((&url.URL{Scheme: "file", Opaque: g.path("sallyport.db")}).String())
	require.NoError(t, err)
	_, err = db.Exec(`UPDATE notices SET next_at = 0 WHERE state = 'waiting'`)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	r.answer(http.StatusOK)
	g.start()
	eventually(t, "it is accepted", func() bool {
		return strings.Contains(g.command("notice", "list", "--state", "accepted", "--output", "json"), created.id())
	})
	got := r.events("token_created")
	require.GreaterOrEqual(t, len(got), 2)
	require.Equal(t, http.StatusServiceUnavailable, got[0].answer)
	for _, q := range got {
		require.Equal(t, got[0].id(), q.id())
		require.Equal(t, string(got[0].body), string(q.body))
		require.True(t, q.verifies(t, secret))
		require.Contains(t, string(q.body), created.id())
		require.NotContains(t, string(q.body), created.Secret)
	}
}

const configuredWebhookCaddyfile = `{
	admin {ADMIN}
	persist_config off
	default_bind 127.0.0.1
	sallyport {
		store sqlite {DIR}/sallyport.db
		WEBHOOK
		policy default {
			preset mercury
			downgrade_unused 6s
			delete_unused 9s
			notice 2s
			restore_window 10m
		}
	}
}
http://{ADDR} {
	sallyport
	reverse_proxy {UPSTREAM}
}
`

// L4 with a webhook alone: it is a channel, its 2xx is an accepted notice, and what
// was announced happens.
func TestAWebhookAloneIsAChannel(t *testing.T) {
	r := openReceiver(t)
	g := newGateway(t, strings.Replace(configuredWebhookCaddyfile, "WEBHOOK", "webhook "+r.url, 1), httpbinUpstream(t))
	secret := g.command("webhook", "rotate", g.hookID(), "--grace", "0", "--quiet")
	unused := g.create("--account", g.account(), "--access", "read_only")
	eventually(t, "the unused token is deleted", func() bool {
		return strings.Contains(g.command("token", "show", unused.id()), "deleted")
	})
	health, err := http.Get(g.adminURL("/health"))
	require.NoError(t, err)
	body, err := io.ReadAll(health.Body)
	require.NoError(t, err)
	require.NoError(t, health.Body.Close())
	require.NotContains(t, string(body), "neither mail nor a webhook")
	told := r.events("deletion_notice")
	require.NotEmpty(t, told, "it was announced")
	require.True(t, told[0].verifies(t, secret))
	require.Contains(t, string(told[0].body), unused.id())
	eventually(t, "what was done is told too", func() bool { return len(r.events("unused_token_deleted")) > 0 })
}

// What the configuration declares is its own; the secret that it names rotates by
// being changed there; and its line can go and come back.
func TestAConfiguredWebhookFollowsTheConfiguration(t *testing.T) {
	const one, two = "whsec_b25lIHNlY3JldCBvZiB0aHJlZSB0aGF0IGlzIG5vbmU=", "whsec_dHdvIHNlY3JldHMgb2YgdGhyZWUgdGhhdCBhcmUgbm9uZQ=="
	r := openReceiver(t)
	g := prepareGateway(t, strings.Replace(configuredWebhookCaddyfile, "WEBHOOK", "webhook "+r.url+" {\n events token_rotated\n secret {file.SECRET}\n}", 1), httpbinUpstream(t))
	file := g.path("signing")
	text, err := os.ReadFile(g.path("Caddyfile"))
	require.NoError(t, err)
	whole := strings.Replace(string(text), "SECRET", file, 1)
	begin := strings.Index(whole, "webhook ")
	end := begin + strings.Index(whole[begin:], "policy")
	without := whole[:begin] + whole[end:]
	reload := func(caddyfile, secret string) {
		t.Helper()
		require.NoError(t, os.WriteFile(g.path("Caddyfile"), []byte(caddyfile), 0o600))
		require.NoError(t, os.WriteFile(file, []byte(secret+"\n"), 0o600))
		if g.cmd == nil {
			g.start()
			return
		}
		g.command("reload", "--config", g.path("Caddyfile"), "--adapter", "caddyfile", "--force")
	}
	accepts := func(id string, secrets ...string) {
		t.Helper()
		g.command("webhook", "test", id)
		got := r.events("webhook_test")
		for _, secret := range []string{one, two} {
			require.Equal(t, slices.Contains(secrets, secret), got[len(got)-1].verifies(t, secret))
		}
	}
	reload(whole, one)
	id := g.hookID()
	accepts(id, one)
	for _, args := range [][]string{{"edit", id, "--event", "all"}, {"delete", id}, {"rotate", id}} {
		_, err := g.try(append([]string{"webhook"}, args...)...)
		require.ErrorContains(t, err, "managed_by_config")
	}
	reload(whole, two)
	accepts(id, one, two)
	reload(without, two)
	require.Contains(t, g.command("webhook", "show", id), "disabled")
	reload(whole, two)
	require.Contains(t, g.command("webhook", "show", id), "active")
	accepts(id, one, two)
	shown := g.command("webhook", "show", id, "--output", "json") + g.command("audit", "list", "--output", "json") + g.log.String()
	require.NotContains(t, shown, strings.TrimPrefix(one, "whsec_"))
	require.NotContains(t, shown, strings.TrimPrefix(two, "whsec_"))
}
