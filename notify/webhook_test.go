package notify_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

func (h *house) signer() *notify.Signer { return &notify.Signer{Ring: h.ring, Random: rand.Reader} }

func (h *house) signedHook(url string, change ...func(w *tokenstore.Webhook)) (tokenstore.Webhook, notify.SigningSecret) {
	h.Helper()
	w := tokenstore.Webhook{ID: storetest.ID("whk"), URL: url, CreatedAt: h.Now(), UpdatedAt: h.Now()}
	secret, err := h.signer().Create(&w, h.ring.IDs()[0])
	require.NoError(h, err)
	for _, f := range change {
		f(&w)
	}
	h.write(func(tx *tokenstore.Tx) error { return tx.InsertWebhook(&w) })
	return w, secret
}

func (h *house) hook(url string, change ...func(w *tokenstore.Webhook)) tokenstore.Webhook {
	h.Helper()
	w, _ := h.signedHook(url, change...)
	return w
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

func (h *house) webhooks() *notify.Webhooks {
	return &notify.Webhooks{Store: h.store, Ring: h.ring, Now: h.Now, Allow: loopback}
}

// receiver keeps the requests that it gets.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
	answer   func(w http.ResponseWriter, r *http.Request)
}

func newReceiver(t testing.TB, start func(http.Handler) *httptest.Server) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = start(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		r.mu.Lock()
		r.requests, r.bodies = append(r.requests, request), append(r.bodies, string(body))
		answer := r.answer
		r.mu.Unlock()
		if answer != nil {
			answer(w, request)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.requests)
}

func verify(secret notify.SigningSecret, body string, header http.Header) error {
	w, err := standardwebhooks.NewWebhook(secret.Reveal())
	if err != nil {
		return err
	}
	return w.VerifyIgnoringTimestamp([]byte(body), header)
}

func (h *house) hookSender() *notify.Sender {
	s := h.sender(nil)
	s.Webhooks = h.webhooks()
	return s
}

func TestAWebhookGetsASignedBodyThatEveryRetryRepeats(t *testing.T) {
	h := newHouse(t)
	h.notifier.Mail = false
	r := newReceiver(t, httptest.NewServer)
	_, secret := h.signedHook(r.URL + "/hooks?of=mine")
	m := h.message(token.EventDowngradeNotice)
	m.PlanID, m.Facts.Taken, m.Facts.Due = "pln_1", []string{"payments:write"}, h.Now().Add(7*24*time.Hour)
	h.tell(m)
	r.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	s := h.hookSender()
	h.pass(s)
	n := h.notices()[0]
	require.Equal(t, tokenstore.NoticeWaiting, n.State)
	require.Equal(t, "the webhook answered 503", n.Problem)
	r.answer = nil
	h.advance(time.Minute)
	h.pass(s)
	require.Equal(t, tokenstore.NoticeAccepted, h.notices()[0].State)

	require.Equal(t, 2, r.count())
	require.Equal(t, r.bodies[0], r.bodies[1])
	for i, request := range r.requests {
		require.Equal(t, string(n.ID), request.Header.Get("webhook-id"))
		require.Equal(t, "application/json", request.Header.Get("Content-Type"))
		require.NoError(t, verify(secret, r.bodies[i], request.Header))
		require.Error(t, verify(secret, r.bodies[i]+" ", request.Header))
	}
	require.NotEqual(t, r.requests[0].Header.Get("webhook-timestamp"), r.requests[1].Header.Get("webhook-timestamp"))
	var body struct {
		Type      string
		Timestamp time.Time
		Data      map[string]any
	}
	require.NoError(t, json.Unmarshal([]byte(r.bodies[0]), &body))
	require.Equal(t, "downgrade_notice", body.Type)
	require.Equal(t, string(h.token.ID), body.Data["token_id"])
	require.Equal(t, "pln_1", body.Data["plan_id"])
	require.Equal(t, []any{"payments:write"}, body.Data["taken"])
	require.Equal(t, h.last4, body.Data["last4"])
}

// R7: while a signing secret rotates, either of the two verifies.
func TestBothSigningSecretsSignWhileTheyRotate(t *testing.T) {
	h := newHouse(t)
	h.notifier.Mail = false
	r := newReceiver(t, httptest.NewServer)
	hook, first := h.signedHook(r.URL)
	version := int64(0)
	send := func() (string, http.Header) {
		version++
		m := h.message(token.EventRotated)
		m.Version = version
		h.tell(m)
		h.pass(h.hookSender())
		return r.bodies[len(r.bodies)-1], r.requests[len(r.requests)-1].Header
	}
	update := func(f func(w *tokenstore.Webhook) error) {
		h.write(func(tx *tokenstore.Tx) (err error) {
			if hook, err = tx.Webhook(hook.ID); err != nil {
				return err
			}
			if err := f(&hook); err != nil {
				return err
			}
			return tx.UpdateWebhook(&hook)
		})
	}
	key := h.ring.IDs()[0]
	var second notify.SigningSecret
	update(func(w *tokenstore.Webhook) (err error) {
		second, err = h.signer().Rotate(w, key, time.Hour, h.Now())
		return err
	})
	_, err := h.signer().Rotate(&hook, key, time.Hour, h.Now())
	require.ErrorIs(t, err, notify.ErrRotating)
	body, header := send()
	require.NoError(t, verify(first, body, header))
	require.NoError(t, verify(second, body, header))

	h.advance(time.Hour)
	body, header = send()
	require.Error(t, verify(first, body, header), "its grace period is over")
	require.NoError(t, verify(second, body, header))
	require.ErrorIs(t, h.signer().RollBack(&hook, h.Now()), notify.ErrNoRotation)

	var third notify.SigningSecret
	update(func(w *tokenstore.Webhook) (err error) {
		third, err = h.signer().Rotate(w, key, time.Hour, h.Now())
		return err
	})
	update(func(w *tokenstore.Webhook) error { return h.signer().RollBack(w, h.Now()) })
	h.advance(24 * time.Hour)
	body, header = send()
	require.NoError(t, verify(second, body, header), "it stays, without an end")
	require.Error(t, verify(third, body, header))

	update(func(w *tokenstore.Webhook) (err error) {
		third, err = h.signer().Rotate(w, key, time.Hour, h.Now())
		return err
	})
	update(func(w *tokenstore.Webhook) error { return h.signer().EndPrevious(w, h.Now()) })
	body, header = send()
	require.Error(t, verify(second, body, header))
	require.NoError(t, verify(third, body, header))
	require.ErrorIs(t, h.signer().EndPrevious(&hook, h.Now()), notify.ErrNoRotation)

	_, err = h.signer().Rotate(&hook, key, notify.MaxSigningGrace+1, h.Now())
	require.Error(t, err)
	update(func(w *tokenstore.Webhook) (err error) {
		second, err = h.signer().Rotate(w, key, 0, h.Now())
		return err
	})
	body, header = send()
	require.Error(t, verify(third, body, header))
	require.NoError(t, verify(second, body, header))
}

func TestASigningSecretIsEncryptedForItsWebhookAndNeverPrinted(t *testing.T) {
	h := newHouse(t)
	hook, secret := h.signedHook("https://example.com/hook")
	require.True(t, strings.HasPrefix(secret.Reveal(), "whsec_"))
	text, err := json.Marshal(map[string]any{"a": secret})
	require.NoError(t, err)
	for _, shown := range []string{string(text), fmt.Sprint(secret), fmt.Sprintf("%#v %+v %s %x", secret, secret, secret, secret), secret.LogValue().String()} {
		require.NotContains(t, shown, secret.Reveal()[8:])
	}
	require.NotContains(t, string(hook.Secret), secret.Reveal()[6:])

	moved, err := h.signer().Rekey(&hook, hook.KeyID)
	require.NoError(t, err)
	require.False(t, moved)
	other := hook
	other.ID = "whk_other"
	_, err = h.signer().Rotate(&other, hook.KeyID, time.Hour, h.Now())
	require.ErrorIs(t, err, tokenstore.ErrSealed)

	two, err := tokenstore.ParseRing(strings.NewReader(ringText(t, h.ring) + ringText(t, storetest.Ring(t))))
	require.NoError(t, err)
	s := &notify.Signer{Ring: two, Random: rand.Reader}
	_, err = s.Rotate(&hook, hook.KeyID, time.Hour, h.Now())
	require.NoError(t, err)
	moved, err = s.Rekey(&hook, two.IDs()[1])
	require.NoError(t, err)
	require.True(t, moved)
	require.Equal(t, two.IDs()[1], hook.KeyID)
	for _, sealed := range [][]byte{hook.Secret, hook.Previous} {
		_, err := two.Decrypt(hook.KeyID, "webhook/"+string(hook.ID), sealed)
		require.NoError(t, err)
	}
}

func ringText(t testing.TB, ring *tokenstore.Ring) string {
	t.Helper()
	var b strings.Builder
	_, err := ring.WriteTo(&b)
	require.NoError(t, err)
	return b.String()
}

// D24: nothing inside can be reached through a webhook.
func TestAWebhookLeadsNowhereInside(t *testing.T) {
	inside := newReceiver(t, httptest.NewServer)
	port := inside.URL[strings.LastIndex(inside.URL, ":"):]
	for name, c := range map[string]struct {
		url     string
		change  func(w *tokenstore.Webhook)
		allow   []netip.Prefix
		reached bool
	}{
		"this machine":                        {url: inside.URL},
		"a name of this machine":              {url: "http://localhost" + port},
		"this machine, declared by the owner": {url: inside.URL, change: func(w *tokenstore.Webhook) { w.ManagedBy = "x" }, reached: true},
		"this machine, allowed":               {url: inside.URL, allow: loopback, reached: true},
		"plain http to elsewhere":             {url: "http://example.com" + port, allow: loopback},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.notifier.Mail = false
			change := c.change
			if change == nil {
				change = func(*tokenstore.Webhook) {}
			}
			h.hook(c.url, change)
			h.tell(h.message(token.EventRotated))
			s := h.hookSender()
			hooks := h.webhooks()
			hooks.Allow = c.allow
			s.Webhooks = hooks
			before := inside.count()
			h.pass(s)
			require.Equal(t, c.reached, inside.count() > before)
			if !c.reached {
				require.Equal(t, tokenstore.NoticeWaiting, h.notices()[0].State)
			}
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	h := newHouse(t)
	h.notifier.Mail = false
	target := newReceiver(t, httptest.NewServer)
	r := newReceiver(t, httptest.NewServer)
	r.answer = func(w http.ResponseWriter, request *http.Request) {
		http.Redirect(w, request, target.URL, http.StatusTemporaryRedirect)
	}
	h.hook(r.URL)
	h.tell(h.message(token.EventRotated))
	h.pass(h.hookSender())
	require.Zero(t, target.count())
	n := h.notices()[0]
	require.Equal(t, tokenstore.NoticeWaiting, n.State)
	require.Contains(t, n.Problem, "redirects are not followed")
}

func TestAWebhookThatHangsOrIsNotTrustedIsTriedAgain(t *testing.T) {
	const hidden = "path-that-is-a-secret"
	release := make(chan struct{})
	defer close(release)
	slow := newReceiver(t, httptest.NewServer)
	slow.answer = func(http.ResponseWriter, *http.Request) { <-release }
	unknown := newReceiver(t, httptest.NewTLSServer)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for name, c := range map[string]struct{ url, problem string }{
		"it hangs":                {slow.URL, "took too long"},
		"a certificate of nobody": {unknown.URL, "certificate is not trusted"},
		"nobody listens":          {closed.URL, "does not accept connections"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.notifier.Mail = false
			h.hook(c.url + "/" + hidden)
			h.tell(h.message(token.EventRotated))
			s := h.hookSender()
			hooks := h.webhooks()
			hooks.Timeout = 300 * time.Millisecond
			if name != "it hangs" {
				hooks.Timeout = 0
			}
			s.Webhooks = hooks
			h.pass(s)
			n := h.notices()[0]
			require.Equal(t, tokenstore.NoticeWaiting, n.State)
			require.Contains(t, n.Problem, c.problem)
			require.NotContains(t, n.Problem, hidden)
		})
	}
}

func TestCopiesOfAWebhookThatWasRemovedAreCancelled(t *testing.T) {
	h := newHouse(t)
	h.notifier.Mail = false
	hook := h.hook("https://example.com/hook")
	h.tell(h.message(token.EventRotated))
	h.write(func(tx *tokenstore.Tx) error { return tx.DeleteWebhook(hook.ID) })
	h.pass(h.hookSender())
	require.Equal(t, tokenstore.NoticeCancelled, h.notices()[0].State)
}

func TestWebhookConfig(t *testing.T) {
	for _, good := range []string{"https://example.com/hooks", "https://example.com:8443/a?b=c", "http://localhost:9000", "http://127.0.0.1/x", "http://[::1]:9/"} {
		require.NoError(t, (&notify.WebhookConfig{URL: good, Events: []string{"token_revoked"}}).Validate(), good)
	}
	const hidden = "hunter2"
	for _, bad := range []string{
		"", "example.com", "http://example.com/" + hidden, "ftp://example.com", "https://user:" + hidden + "@example.com", "https://example.com/#" + hidden,
		"http://127.0.0.1.example.com", "https:///" + hidden, "https:" + hidden, "https://example.com/" + strings.Repeat("a", 2048), "\nhttps://example.com",
	} {
		err := (&notify.WebhookConfig{URL: bad}).Validate()
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), hidden)
	}
	require.Error(t, (&notify.WebhookConfig{URL: "https://example.com", Events: []string{"nothing"}}).Validate())
	require.Error(t, (&notify.WebhookConfig{URL: "https://example.com", Events: []string{"token_revoked", "token_revoked"}}).Validate())
}

func TestOnlyPublicAddressesAreDialled(t *testing.T) {
	for _, public := range []string{"93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34"} {
		require.True(t, notify.Reachable(netip.MustParseAddr(public)), public)
	}
	for _, inside := range []string{
		"127.0.0.1", "::1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "fe80::1%eth0", "fd00::1", "0.0.0.0", "::",
		"100.64.0.1", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "::10.0.0.1", "198.18.0.1", "240.0.0.1",
	} {
		require.False(t, notify.Reachable(netip.MustParseAddr(inside)), inside)
	}
}
