package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// WebhookConfig is one webhook, as it is declared or asked for.
type WebhookConfig struct {
	URL    string
	Events []string // empty: all
}

const maxWebhookURL = 2048

// Validate says what is wrong, if anything is, without repeating a value: an
// address may hold what only its owner knows.
func (c *WebhookConfig) Validate() error {
	if err := checkWebhookURL(c.URL); err != nil {
		return err
	}
	for i, e := range c.Events {
		if !slices.Contains(token.Events(), token.Event(e)) {
			return fmt.Errorf("webhook: there is no event such as number %d of the list; the events are in docs/notices.md", i+1)
		}
		if slices.Contains(c.Events[:i], e) {
			return fmt.Errorf("webhook: number %d of the events is there twice", i+1)
		}
	}
	return nil
}

func checkWebhookURL(text string) error {
	if len(text) > maxWebhookURL {
		return fmt.Errorf("webhook: the address is longer than %d characters", maxWebhookURL)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return errors.New("webhook: must be an address such as https://example.com/hooks")
	case u.User != nil:
		return errors.New("webhook: the address must not hold a user or a password: requests are signed instead")
	case u.Fragment != "" || strings.Contains(text, "#"):
		return errors.New("webhook: the address must not have a fragment (#)")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	default:
		return errors.New("webhook: must be https; plain http is for this machine only (localhost, 127.0.0.1, ::1)")
	}
}

// Webhooks carries copies to webhooks, in the form of Standard Webhooks. Its fields
// are set once, before use.
type Webhooks struct {
	Store tokenstore.Store
	Ring  *tokenstore.Ring
	Now   func() time.Time
	// Allow are the ranges that webhooks may be in although they are not public.
	// One that the configuration declares may be on this machine besides.
	Allow []netip.Prefix
	// RootCAs are trusted to name receivers; nil: those of the system.
	RootCAs *x509.CertPool
	// Timeout bounds one request; default 10 seconds.
	Timeout time.Duration
}

const defaultWebhookTimeout = 10 * time.Second

// Carry makes one request.
func (h *Webhooks) Carry(ctx context.Context, n *tokenstore.Notice) Outcome {
	var hook tokenstore.Webhook
	err := h.Store.Read(ctx, func(tx *tokenstore.Tx) (err error) {
		hook, err = tx.Webhook(token.ID(n.Recipient))
		return err
	})
	switch {
	case errors.Is(err, tokenstore.ErrNotFound):
		return Outcome{Gone: true, Problem: "the webhook was removed"}
	case err != nil:
		return Outcome{Problem: "the store did not answer"}
	case hook.Disabled:
		return Outcome{Problem: "the webhook is disabled"}
	}
	body, err := payload(n)
	if err != nil {
		return Outcome{Problem: err.Error()}
	}
	outcome, _ := h.post(ctx, &hook, n.ID, body)
	return outcome
}

// TestEvent is the type of the event that Test sends. Nothing else sends it, so
// that no receiver takes a test for something that happened.
const TestEvent = "webhook_test"

// Test sends an event that means nothing to a webhook, disabled ones included,
// once and now. status is what was answered; 0: nothing.
func (h *Webhooks) Test(ctx context.Context, hook *tokenstore.Webhook, id token.ID) (o Outcome, status int) {
	type data struct {
		NoticeID  token.ID `json:"notice_id"`
		WebhookID token.ID `json:"webhook_id"`
	}
	body, err := json.Marshal(struct {
		Type      string    `json:"type"`
		Timestamp time.Time `json:"timestamp"`
		Data      data      `json:"data"`
	}{TestEvent, h.Now().UTC().Truncate(time.Second), data{id, hook.ID}})
	if err != nil {
		return Outcome{Problem: err.Error()}, 0
	}
	return h.post(ctx, hook, id, body)
}

// post makes one request of a body.
func (h *Webhooks) post(ctx context.Context, hook *tokenstore.Webhook, id token.ID, body []byte) (o Outcome, status int) {
	if err := checkWebhookURL(hook.URL); err != nil {
		return Outcome{Problem: err.Error()}, 0
	}
	ctx, cancel := context.WithTimeout(ctx, orDefault(h.Timeout, defaultWebhookTimeout))
	defer cancel()
	request, err := h.request(ctx, id, hook, body)
	if err != nil {
		return Outcome{Problem: err.Error()}, 0
	}
	client := h.client(hook)
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	if err != nil {
		return Outcome{Down: true, Problem: requestProblem(err)}, 0
	}
	// What it says is nobody's business but its own; it is not even read.
	_ = response.Body.Close()
	switch code := response.StatusCode; {
	case code >= 200 && code < 300:
		return Outcome{Accepted: true}, code
	case code >= 300 && code < 400:
		return Outcome{Down: true, Problem: fmt.Sprintf("the webhook answered %d: redirects are not followed, correct its address", code)}, code
	default:
		// What is wrong with one request may be right with the next.
		return Outcome{Down: code == http.StatusTooManyRequests || code >= 500, Problem: fmt.Sprintf("the webhook answered %d", code)}, code
	}
}

// payload is the body. Every attempt sends the same bytes.
func payload(n *tokenstore.Notice) ([]byte, error) {
	type data struct {
		NoticeID  token.ID `json:"notice_id"`
		AccountID token.ID `json:"account_id"`
		TokenID   token.ID `json:"token_id"`
		PlanID    token.ID `json:"plan_id,omitempty"`
		Facts
	}
	v := struct {
		Type      token.Event `json:"type"`
		Timestamp time.Time   `json:"timestamp"`
		Data      data        `json:"data"`
	}{n.Event, n.CreatedAt.UTC(), data{NoticeID: n.ID, AccountID: n.AccountID, TokenID: n.TokenID, PlanID: n.PlanID}}
	if len(n.Facts) > 0 {
		if err := json.Unmarshal(n.Facts, &v.Data.Facts); err != nil {
			return nil, errors.New("what the notice tells can not be read")
		}
	}
	return json.Marshal(v)
}

func (h *Webhooks) request(ctx context.Context, id token.ID, hook *tokenstore.Webhook, body []byte) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, hook.URL, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the webhook's address can not be used")
	}
	now := h.Now()
	keys, err := signingKeys(h.Ring, hook, now)
	if err != nil {
		return nil, errors.New("the webhook's signing secret does not open: is its master key in the ring? Rotating it makes a new one")
	}
	signatures := make([]string, len(keys))
	for i, key := range keys {
		signer, err := standardwebhooks.NewWebhookRaw(key)
		if err != nil {
			return nil, errors.New("the webhook's signing secret can not be used")
		}
		if signatures[i], err = signer.Sign(string(id), now, body); err != nil {
			return nil, errors.New("the webhook's signing secret can not be used")
		}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "Sallyport")
	request.Header.Set(standardwebhooks.HeaderWebhookID, string(id))
	request.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	// A receiver accepts whichever of them it has the secret for (R7).
	request.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	return request, nil
}

// client makes connections for one webhook only: whether an address is allowed is
// asked for each when it is dialled, after names were resolved, so that no answer
// of a name server leads inside (D24).
func (h *Webhooks) client(hook *tokenstore.Webhook) *http.Client {
	local := mayBeLocal(hook)
	timeout := orDefault(h.Timeout, defaultWebhookTimeout)
	dialer := &net.Dialer{Timeout: timeout, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return errPrivate
		}
		return h.check(at.Addr(), local)
	}}
	return &http.Client{
		Transport: &http.Transport{
			// No proxy: it would dial for us, past the check.
			DialContext: dialer.DialContext, ForceAttemptHTTP2: true, DisableKeepAlives: true,
			TLSClientConfig:     &tls.Config{RootCAs: h.RootCAs, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: timeout, ResponseHeaderTimeout: timeout, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// mayBeLocal says whether a webhook may lead to this machine: one that the
// configuration declares to be there. Whoever writes the configuration decides
// what runs here; whoever reaches the API does not.
func mayBeLocal(hook *tokenstore.Webhook) bool {
	u, err := url.Parse(hook.URL)
	return err == nil && hook.ManagedBy != "" && isLoopback(u.Hostname())
}

// CheckReach refuses a webhook whose address says by itself that no request to it
// would be sent. What a name leads to is known only when it is dialled.
func (h *Webhooks) CheckReach(hook *tokenstore.Webhook) error {
	u, err := url.Parse(hook.URL)
	if err != nil {
		return errors.New("webhook: must be an address such as https://example.com/hooks")
	}
	host := u.Hostname()
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil && !isLoopback(host):
		return nil
	case err != nil:
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if h.check(ip, mayBeLocal(hook)) != nil {
		return errors.New("webhook: this address is not public: name its range in webhook_allow in the configuration, or, if it is on this machine, declare the webhook there")
	}
	return nil
}

var errPrivate = errors.New("the webhook's name leads to an address that is not public: webhook_allow in the configuration allows its range")

// notPublic are ranges that netip has no word for, but that are not the internet,
// or carry addresses of other ranges inside.
var notPublic = func() []netip.Prefix {
	var list []netip.Prefix
	for _, text := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "240.0.0.0/4", "::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2001:db8::/32",
		"2002::/16", "fec0::/10",
	} {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}()

func (h *Webhooks) check(ip netip.Addr, local bool) error {
	ip = ip.Unmap().WithZone("")
	if local && ip.IsLoopback() || within(h.Allow, ip) {
		return nil
	}
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.IsLoopback() || within(notPublic, ip) {
		return errPrivate
	}
	return nil
}

func within(list []netip.Prefix, ip netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// requestProblem puts an error into words without the address, whose path or query
// may be a secret of the receiver's.
func requestProblem(err error) string {
	var timeout net.Error
	var unknown *net.DNSError
	var badCert *tls.CertificateVerificationError
	switch {
	case errors.Is(err, errPrivate):
		return errPrivate.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "the webhook took too long"
	case errors.As(err, &unknown):
		return "the webhook's name is not known"
	case errors.As(err, &badCert):
		return "the webhook's certificate is not trusted"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the webhook does not accept connections"
	default:
		return "the connection to the webhook failed"
	}
}
