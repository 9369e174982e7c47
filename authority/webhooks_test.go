package authority_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

const hookURL = "https://hooks.example.com/in?key=confidential"

// storedHooks are the webhooks with their encrypted secrets.
func (h *house) storedHooks() (hooks []tokenstore.Webhook) {
	h.t.Helper()
	storetest.MustRead(h.t, h.Store, func(tx *tokenstore.Tx) (err error) {
		hooks, err = tx.Webhooks()
		return err
	})
	return hooks
}

func (h *house) hook(change ...func(*authority.NewWebhook)) authority.IssuedWebhook {
	h.t.Helper()
	n := authority.NewWebhook{URL: hookURL}
	for _, f := range change {
		f(&n)
	}
	issued, err := h.CreateWebhook(ctx, kim, n)
	require.NoError(h.t, err)
	return issued
}

// hooksUnchanged demands a refusal that changes neither a webhook nor anything else.
func (h *house) hooksUnchanged(want *authority.Error, f func() error) *authority.Error {
	h.t.Helper()
	before := h.storedHooks()
	refusal := h.unchanged(want, f)
	require.Empty(h.t, cmp.Diff(before, h.storedHooks()))
	return refusal
}

// receiver is a webhook's other side on this machine.
type receiver struct {
	*httptest.Server
	header http.Header
	body   []byte
	status int
}

func newReceiver(t testing.TB) *receiver {
	r := &receiver{status: http.StatusNoContent}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var body bytes.Buffer
		_, _ = body.ReadFrom(req.Body)
		r.header, r.body = req.Header, body.Bytes()
		w.WriteHeader(r.status)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) accepts(secret notify.SigningSecret) bool {
	hook, err := standardwebhooks.NewWebhook(secret.Reveal())
	return err == nil && hook.VerifyIgnoringTimestamp(r.body, r.header) == nil
}

// sending lets the house send to webhooks on this machine.
func (h *house) sending() {
	h.Webhooks = &notify.Webhooks{
		Store: h.Store, Ring: h.Ring, Now: h.clock.Now,
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
	}
}

func TestAWebhooksSecretIsIssuedOnceAndItsAddressStaysOutOfTheLog(t *testing.T) {
	h := build(t)
	head := h.head()
	issued := h.hook(func(n *authority.NewWebhook) { n.Events = []string{"token_rotated"} })
	require.NotEmpty(t, issued.Secret.Reveal())
	want := authority.Webhook{
		ID: issued.Webhook.ID, URL: hookURL, Events: []string{"token_rotated"}, HasSecret: true,
		CreatedAt: issued.Webhook.CreatedAt, UpdatedAt: issued.Webhook.CreatedAt, Version: 1,
	}
	shown, err := h.Webhook(ctx, kim, issued.Webhook.ID)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(want, shown))
	all, err := h.AllWebhooks(ctx, kim)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff([]authority.Webhook{want}, all))

	entries := h.entries(head)
	require.Len(t, entries, 1)
	require.Equal(t, "webhook.create "+string(want.ID), entries[0].Verb+" "+entries[0].Target)
	require.Contains(t, entries[0].After["url"], "https://hooks.example.com/…")
	// D24 and the log's rule: what could be a secret is in no entry.
	text := fmt.Sprint(entries)
	require.NotContains(t, text, "confidential")
	require.NotContains(t, text, issued.Secret.Reveal())
	h.chainHolds()
}

func TestAWebhookThatWouldGoWrongIsRefused(t *testing.T) {
	h := build(t)
	h.hook()
	h.sending()
	h.Webhooks.Allow = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	for address, says := range map[string]string{
		"":                                   "such as https://",
		"http://example.com/":                "must be https",
		"https://u:p@example.com/":           "user or a password",
		"https://example.com/#part":          "fragment",
		"https://example.com/" + long(2048):  "longer than",
		"ftp://example.com/":                 "must be https",
		hookURL:                              "already",
		"http://localhost:8080/":             "webhook_allow",
		"http://127.0.0.1/":                  "webhook_allow",
		"https://[::1]/":                     "webhook_allow",
		"https://169.254.169.254/latest":     "webhook_allow",
		"https://10.2.0.1/":                  "webhook_allow",
		"https://[::ffff:192.168.0.1]/hooks": "webhook_allow",
	} {
		refusal := h.hooksUnchanged(authority.ErrInvalidField, func() error {
			_, err := h.CreateWebhook(ctx, kim, authority.NewWebhook{URL: address})
			return err
		})
		require.Equal(t, "url", refusal.Field, address)
		require.Contains(t, refusal.Detail, says, address)
		require.NotContains(t, refusal.Detail, "169.254")
	}
	for _, events := range [][]string{{"token_rotted"}, {"token_rotated", "token_rotated"}} {
		refusal := h.hooksUnchanged(authority.ErrInvalidField, func() error {
			_, err := h.CreateWebhook(ctx, kim, authority.NewWebhook{URL: "https://example.com/", Events: events})
			return err
		})
		require.Equal(t, "events", refusal.Field)
		require.NotContains(t, refusal.Detail, "rotted")
	}
	h.hook(func(n *authority.NewWebhook) { n.URL = "https://10.1.2.3/" })
	for i := range authority.MaxWebhooks - 2 {
		h.hook(func(n *authority.NewWebhook) { n.URL = fmt.Sprintf("https://example.com/%d", i) })
	}
	h.hooksUnchanged(authority.ErrInvalidState, func() error {
		_, err := h.CreateWebhook(ctx, kim, authority.NewWebhook{URL: "https://example.com/more"})
		return err
	})
}

func long(n int) string { return string(bytes.Repeat([]byte("a"), n)) }

func TestAWebhookIsEditedAtTheVersionThatWasRead(t *testing.T) {
	h := build(t)
	other := h.hook(func(n *authority.NewWebhook) { n.URL = "https://example.com/other" })
	id := h.hook().Webhook.ID
	h.clock.add(time.Minute)
	head := h.head()
	edited, err := h.EditWebhook(ctx, kim, id, 1, authority.EditWebhook{Events: &[]string{"token_revoked"}, Disabled: ptr(true)})
	require.NoError(t, err)
	require.Equal(t, []string{"token_revoked"}, edited.Events)
	require.True(t, edited.Disabled)
	require.EqualValues(t, 2, edited.Version)
	require.True(t, edited.UpdatedAt.After(edited.CreatedAt))
	require.Len(t, h.entries(head), 1)
	require.Equal(t, map[string]any{"disabled": false, "events": []any{}}, h.entries(head)[0].Before)

	same, err := h.EditWebhook(ctx, kim, id, 2, authority.EditWebhook{Disabled: ptr(true)})
	require.NoError(t, err)
	require.EqualValues(t, 2, same.Version, "an edit that changes nothing leaves no trace")
	require.Len(t, h.entries(head), 1)

	h.hooksUnchanged(authority.ErrVersionMismatch, func() error {
		_, err := h.EditWebhook(ctx, kim, id, 1, authority.EditWebhook{Disabled: ptr(false)})
		return err
	})
	refusal := h.hooksUnchanged(authority.ErrInvalidField, func() error {
		_, err := h.EditWebhook(ctx, kim, id, 2, authority.EditWebhook{URL: &other.Webhook.URL})
		return err
	})
	require.Contains(t, refusal.Detail, "already")
	h.hooksUnchanged(authority.ErrNotFound, func() error { _, err := h.DeleteWebhook(ctx, kim, "whk_none"); return err })

	_, err = h.DeleteWebhook(ctx, kim, id)
	require.NoError(t, err)
	h.hooksUnchanged(authority.ErrNotFound, func() error { _, err := h.Webhook(ctx, kim, id); return err })
	require.Len(t, h.storedHooks(), 1)
	h.chainHolds()
}

// R7: both signatures while it rotates; rolled back, the old one alone; confirmed,
// the new one alone.
func TestASigningSecretRotatesAsSecretsOfTokensDo(t *testing.T) {
	h := build(t)
	h.sending()
	r := newReceiver(t)
	first := h.hook(func(n *authority.NewWebhook) { n.URL = r.URL })
	id := first.Webhook.ID
	signs := func(want ...bool) func(secrets ...notify.SigningSecret) {
		return func(secrets ...notify.SigningSecret) {
			t.Helper()
			result, err := h.TestWebhook(ctx, kim, id)
			require.NoError(t, err)
			require.True(t, result.Accepted, result.Problem)
			require.Equal(t, http.StatusNoContent, result.Status)
			for i, secret := range secrets {
				require.Equal(t, want[i], r.accepts(secret), "secret %d", i)
			}
		}
	}
	signs(true)(first.Secret)

	head := h.head()
	second, err := h.RotateWebhook(ctx, kim, id, nil)
	require.NoError(t, err)
	require.Equal(t, h.clock.Now().Add(24*time.Hour).Truncate(time.Microsecond), second.Webhook.PreviousUntil)
	signs(true, true)(first.Secret, second.Secret)
	h.hooksUnchanged(authority.ErrRotationInProgress, func() error { _, err := h.RotateWebhook(ctx, kim, id, nil); return err })

	back, err := h.RollBackWebhook(ctx, kim, id)
	require.NoError(t, err)
	require.True(t, back.PreviousUntil.IsZero())
	signs(true, false)(first.Secret, second.Secret)
	h.hooksUnchanged(authority.ErrInvalidState, func() error { _, err := h.RollBackWebhook(ctx, kim, id); return err })
	h.hooksUnchanged(authority.ErrInvalidState, func() error { _, err := h.ConfirmWebhook(ctx, kim, id); return err })

	third, err := h.RotateWebhook(ctx, kim, id, ptr(time.Hour))
	require.NoError(t, err)
	_, err = h.ConfirmWebhook(ctx, kim, id)
	require.NoError(t, err)
	signs(false, true)(first.Secret, third.Secret)

	fourth, err := h.RotateWebhook(ctx, kim, id, ptr(time.Hour))
	require.NoError(t, err)
	h.clock.add(time.Hour)
	signs(false, true)(third.Secret, fourth.Secret)
	fifth, err := h.RotateWebhook(ctx, kim, id, ptr(time.Duration(0)))
	require.NoError(t, err)
	signs(false, true)(fourth.Secret, fifth.Secret)
	for _, grace := range []time.Duration{-1, notify.MaxSigningGrace + time.Second} {
		h.hooksUnchanged(authority.ErrInvalidField, func() error { _, err := h.RotateWebhook(ctx, kim, id, &grace); return err })
	}
	var verbs []string
	for _, e := range h.entries(head) {
		verbs = append(verbs, e.Verb)
		require.NotContains(t, fmt.Sprint(e), "whsec_")
	}
	require.Equal(t, []string{"webhook.rotate", "webhook.rollback", "webhook.rotate", "webhook.confirm", "webhook.rotate", "webhook.rotate"}, verbs)
	h.chainHolds()
}

func TestATestSaysWhatCameBack(t *testing.T) {
	h := build(t)
	h.sending()
	r := newReceiver(t)
	hook := h.hook(func(n *authority.NewWebhook) { n.URL, n.Disabled = r.URL, true })
	head := h.head()
	r.status = http.StatusTeapot
	result, err := h.TestWebhook(ctx, kim, hook.Webhook.ID)
	require.NoError(t, err)
	require.Equal(t, authority.WebhookTest{ID: result.ID, Status: http.StatusTeapot, Problem: "the webhook answered 418"}, result)
	require.Equal(t, string(result.ID), r.header.Get("webhook-id"))
	require.Contains(t, string(r.body), `"type":"webhook_test"`)
	require.True(t, r.accepts(hook.Secret))

	h.Webhooks.Allow = nil
	result, err = h.TestWebhook(ctx, kim, hook.Webhook.ID)
	require.NoError(t, err)
	require.Zero(t, result.Status)
	require.Contains(t, result.Problem, "not public", "D24: a test leads nowhere inside either")
	require.Empty(t, h.entries(head), "nothing changed")
	h.Webhooks = nil
	_, err = h.TestWebhook(ctx, kim, hook.Webhook.ID)
	require.Error(t, err)
}

// Whoever is neither an operator nor the system may do nothing with webhooks, and
// is not told what exists.
func TestOnlyOperatorsMayTouchWebhooks(t *testing.T) {
	h := build(t)
	id := h.hook().Webhook.ID
	fail := func(_ any, err error) error { return err }
	for _, kind := range []tokenstore.ActorKind{"", "user", "token", "Operator"} {
		by := authority.By{Actor: tokenstore.Actor{Kind: kind, Name: "eve"}}
		for _, id := range []token.ID{id, "whk_none"} {
			for verb, f := range map[authority.Verb]func() error{
				authority.VerbCreateWebhook:   func() error { return fail(h.CreateWebhook(ctx, by, authority.NewWebhook{URL: "https://example.com/"})) },
				authority.VerbListWebhooks:    func() error { return fail(h.AllWebhooks(ctx, by)) },
				authority.VerbShowWebhook:     func() error { return fail(h.Webhook(ctx, by, id)) },
				authority.VerbEditWebhook:     func() error { return fail(h.EditWebhook(ctx, by, id, 1, authority.EditWebhook{Disabled: ptr(true)})) },
				authority.VerbDeleteWebhook:   func() error { return fail(h.DeleteWebhook(ctx, by, id)) },
				authority.VerbRotateWebhook:   func() error { return fail(h.RotateWebhook(ctx, by, id, nil)) },
				authority.VerbRollBackWebhook: func() error { return fail(h.RollBackWebhook(ctx, by, id)) },
				authority.VerbConfirmWebhook:  func() error { return fail(h.ConfirmWebhook(ctx, by, id)) },
				authority.VerbRekeyWebhook:    func() error { return h.RekeyWebhooks(ctx, by) },
			} {
				t.Run(fmt.Sprint(verb, " by ", kind), func(t *testing.T) {
					h.t = t
					h.hooksUnchanged(authority.ErrForbidden, f)
				})
			}
		}
	}
}

func declareHooks(t testing.TB, h *house, hooks ...authority.DeclaredWebhook) error {
	t.Helper()
	return h.Declare(ctx, system, authority.Declarations{Policies: []token.Policy{liberal()}, Scopes: testScopes, Webhooks: hooks})
}

func TestAConfiguredWebhookIsOwnedByTheConfiguration(t *testing.T) {
	h := build(t)
	head := h.head()
	d := authority.DeclaredWebhook{URL: hookURL, Events: []string{"token_created"}}
	require.NoError(t, declareHooks(t, h, d))
	entries := h.entries(head)
	require.Len(t, entries, 1)
	require.Equal(t, "webhook.declare", entries[0].Verb)
	require.NotContains(t, fmt.Sprint(entries), "confidential")
	before := h.storedHooks()
	require.NoError(t, declareHooks(t, h, d))
	require.Empty(t, cmp.Diff(before, h.storedHooks()), "a start that changes nothing writes nothing")
	require.Len(t, h.entries(head), 1)

	hooks, err := h.AllWebhooks(ctx, kim)
	require.NoError(t, err)
	hook := hooks[0]
	require.True(t, hook.Managed)
	require.False(t, hook.SecretManaged)
	require.Equal(t, hook.ID, token.ID(entries[0].Target))
	for _, f := range []func() error{
		func() error {
			_, err := h.EditWebhook(ctx, kim, hook.ID, hook.Version, authority.EditWebhook{URL: ptr("https://example.com/")})
			return err
		},
		func() error {
			_, err := h.EditWebhook(ctx, kim, hook.ID, hook.Version, authority.EditWebhook{Events: &[]string{}})
			return err
		},
		func() error { _, err := h.DeleteWebhook(ctx, kim, hook.ID); return err },
	} {
		h.hooksUnchanged(authority.ErrManagedByConfig, f)
	}
	// What is not the configuration's: its secret, and whether it is disabled.
	_, err = h.RotateWebhook(ctx, kim, hook.ID, nil)
	require.NoError(t, err)
	_, err = h.RollBackWebhook(ctx, kim, hook.ID)
	require.NoError(t, err)
	off, err := h.EditWebhook(ctx, kim, hook.ID, hook.Version+2, authority.EditWebhook{Disabled: ptr(true)})
	require.NoError(t, err)
	require.NoError(t, declareHooks(t, h, d))
	require.True(t, h.storedHooks()[0].Disabled, "a restart does not undo what people did")
	_, err = h.EditWebhook(ctx, kim, hook.ID, off.Version, authority.EditWebhook{Disabled: ptr(false)})
	require.NoError(t, err)

	// Its line goes: it is disabled, keeps its secret, and belongs to people.
	secret := h.storedHooks()[0].Secret
	require.NoError(t, declareHooks(t, h))
	released := h.storedHooks()[0]
	require.True(t, released.Disabled)
	require.Empty(t, released.ManagedBy)
	require.Equal(t, secret, released.Secret)
	require.NoError(t, declareHooks(t, h))
	// And comes back.
	d.Events = nil
	require.NoError(t, declareHooks(t, h, d))
	again := h.storedHooks()[0]
	require.False(t, again.Disabled)
	require.Equal(t, secret, again.Secret, "the receiver's secret outlives a line that was lost")
	require.NoError(t, declareHooks(t, h))
	_, err = h.DeleteWebhook(ctx, kim, hook.ID)
	require.NoError(t, err)
	h.chainHolds()
}

func secretOf(t testing.TB, fill byte) notify.SigningSecret {
	t.Helper()
	s, err := notify.ParseSigningSecret("whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill, 7}, 16)))
	require.NoError(t, err)
	return s
}

func TestASecretFromTheConfigurationRotatesWhenItChangesThere(t *testing.T) {
	h := build(t)
	h.sending()
	r := newReceiver(t)
	made := h.hook(func(n *authority.NewWebhook) { n.URL = r.URL })
	id := made.Webhook.ID
	one, two := secretOf(t, 1), secretOf(t, 2)
	accepts := func(want map[*notify.SigningSecret]bool) {
		t.Helper()
		result, err := h.TestWebhook(ctx, kim, id)
		require.NoError(t, err)
		require.True(t, result.Accepted, result.Problem)
		for secret, ok := range want {
			require.Equal(t, ok, r.accepts(*secret))
		}
	}
	declare := func(s notify.SigningSecret) {
		t.Helper()
		require.NoError(t, declareHooks(t, h, authority.DeclaredWebhook{URL: r.URL, Secret: s}))
	}
	declare(one)
	accepts(map[*notify.SigningSecret]bool{&made.Secret: true, &one: true}) // R7: taken over
	h.clock.add(authority.DefaultSigningGrace)
	declare(two)
	accepts(map[*notify.SigningSecret]bool{&made.Secret: false, &one: true, &two: true})
	declare(one) // the change is taken back
	accepts(map[*notify.SigningSecret]bool{&one: true, &two: false})
	head := h.head()
	declare(one)
	require.Empty(t, h.entries(head))
	shown, err := h.Webhook(ctx, kim, id)
	require.NoError(t, err)
	require.True(t, shown.SecretManaged)
	h.hooksUnchanged(authority.ErrManagedByConfig, func() error { _, err := h.RotateWebhook(ctx, kim, id, nil); return err })
	declare(two)
	h.hooksUnchanged(authority.ErrManagedByConfig, func() error { _, err := h.RollBackWebhook(ctx, kim, id); return err })
	_, err = h.ConfirmWebhook(ctx, kim, id)
	require.NoError(t, err, "the previous one can be ended early")
	declare(notify.SigningSecret{})
	accepts(map[*notify.SigningSecret]bool{&one: false, &two: true})
	_, err = h.RotateWebhook(ctx, kim, id, nil)
	require.NoError(t, err, "without the line, the secret is people's")
}

func TestDeclarationsOfWebhooksAreChecked(t *testing.T) {
	h := build(t)
	d := authority.DeclaredWebhook{URL: hookURL}
	for _, hooks := range [][]authority.DeclaredWebhook{{d, d}, {{URL: "http://example.com/secret-place"}}, {{URL: hookURL, Events: []string{"x"}}}, make([]authority.DeclaredWebhook, authority.MaxWebhooks+1)} {
		refusal := h.hooksUnchanged(authority.ErrInvalidField, func() error { return declareHooks(t, h, hooks...) })
		require.NotContains(t, refusal.Error(), "secret-place")
		require.NotContains(t, refusal.Error(), "confidential")
	}
	require.NoError(t, declareHooks(t, h, authority.DeclaredWebhook{URL: "http://localhost:1234/"}), "one on this machine may be declared")
}

func TestSigningSecretsMoveWithTheMasterKey(t *testing.T) {
	h, first, second := twoKeys(t)
	h.sending()
	r := newReceiver(t)
	hook := h.hook(func(n *authority.NewWebhook) { n.URL = r.URL })
	rotated, err := h.RotateWebhook(ctx, kim, hook.Webhook.ID, nil)
	require.NoError(t, err)
	require.EqualValues(t, 1, h.keys()[first].Webhooks)
	head := h.head()
	require.NoError(t, h.RotateMasterKey(ctx, kim, second))
	entries := h.entries(head)
	require.Len(t, entries, 2)
	require.Equal(t, "webhook.rekey "+string(hook.Webhook.ID), entries[1].Verb+" "+entries[1].Target)
	require.Equal(t, map[string]any{"master_key": first}, entries[1].Before)
	require.Zero(t, h.keys()[first].Webhooks)
	require.EqualValues(t, 1, h.keys()[second].Webhooks)
	_, err = h.RemoveMasterKey(ctx, kim, first, false)
	require.NoError(t, err)
	_, err = h.TestWebhook(ctx, kim, hook.Webhook.ID)
	require.NoError(t, err)
	require.True(t, r.accepts(hook.Secret), "R7 holds over it")
	require.True(t, r.accepts(rotated.Secret))
	h.chainHolds()
}

func TestWebhooksThatStayedUnderAKeyMoveLater(t *testing.T) {
	h, first, second := twoKeys(t)
	hook := h.hook()
	// A store that a copy or an older gateway has made the primary of.
	h.write(func(tx *tokenstore.Tx) error {
		check, _ := h.Ring.CheckValue(second)
		if err := tx.PutMasterKey(tokenstore.MasterKey{ID: second, CheckValue: check, Primary: true, AddedAt: h.clock.Now()}); err != nil {
			return err
		}
		tx.Audit(tokenstore.AuditEntry{Actor: kim.Actor, Verb: "test"})
		return nil
	})
	var would authority.KeyLoss
	refusal := h.hooksUnchanged(authority.ErrConfirmationRequired, func() (err error) {
		would, err = h.RemoveMasterKey(ctx, kim, first, false)
		return err
	})
	require.Contains(t, refusal.Detail, "1 webhooks")
	require.Equal(t, hook.Webhook.ID, would.Webhooks[0].ID)

	head := h.head()
	require.NoError(t, h.RekeyWebhooks(ctx, system))
	require.NoError(t, h.RekeyWebhooks(ctx, system))
	entries := h.entries(head)
	require.Len(t, entries, 1, "and once they have, nothing is written")
	require.Equal(t, "webhook.rekey", entries[0].Verb)
	lost, err := h.RemoveMasterKey(ctx, kim, first, false)
	require.NoError(t, err)
	require.Empty(t, lost)
}

func TestAKeyThatIsLostTakesItsSigningSecretsAlongByForceOnly(t *testing.T) {
	h, first, second := twoKeys(t)
	hook := h.hook()
	h.hook(func(n *authority.NewWebhook) { n.URL = "https://example.com/off"; n.Disabled = true })
	whole := h.Ring
	without, err := ringWithout(t, whole, first)
	require.NoError(t, err)
	h.Ring = without
	require.NoError(t, h.RotateMasterKey(ctx, kim, second), "what does not open stays where it is")
	require.NoError(t, h.RekeyWebhooks(ctx, system))
	require.EqualValues(t, 2, h.keys()[first].Webhooks)
	refusal := h.hooksUnchanged(authority.ErrInvalidState, func() error { _, err := h.RotateWebhook(ctx, kim, hook.Webhook.ID, nil); return err })
	require.Contains(t, refusal.Detail, "grace period of 0")
	h.hooksUnchanged(authority.ErrConfirmationRequired, func() error { _, err := h.RemoveMasterKey(ctx, kim, first, false); return err })

	head := h.head()
	lost, err := h.RemoveMasterKey(ctx, kim, first, true)
	require.NoError(t, err)
	require.Len(t, lost.Webhooks, 2)
	var verbs []string
	for _, e := range h.entries(head) {
		verbs = append(verbs, e.Verb)
	}
	require.Equal(t, []string{"webhook.disable", "webhook.disable", "master_key.remove"}, verbs)
	shown, err := h.Webhook(ctx, kim, hook.Webhook.ID)
	require.NoError(t, err)
	require.True(t, shown.Disabled)
	require.False(t, shown.HasSecret)
	h.hooksUnchanged(authority.ErrInvalidState, func() error {
		_, err := h.EditWebhook(ctx, kim, hook.Webhook.ID, shown.Version, authority.EditWebhook{Disabled: ptr(false)})
		return err
	})
	h.hooksUnchanged(authority.ErrInvalidState, func() error {
		h.sending()
		_, err := h.TestWebhook(ctx, kim, hook.Webhook.ID)
		return err
	})
	again, err := h.RotateWebhook(ctx, kim, hook.Webhook.ID, nil)
	require.NoError(t, err)
	require.True(t, again.Webhook.HasSecret)
	require.True(t, again.Webhook.PreviousUntil.IsZero(), "there is no previous one to sign with")
	_, err = h.EditWebhook(ctx, kim, hook.Webhook.ID, again.Webhook.Version, authority.EditWebhook{Disabled: ptr(false)})
	require.NoError(t, err)
	h.chainHolds()
}

// ringWithout is a ring of all keys but one.
func ringWithout(t testing.TB, ring *tokenstore.Ring, id string) (*tokenstore.Ring, error) {
	t.Helper()
	var file, kept bytes.Buffer
	_, err := ring.WriteTo(&file)
	require.NoError(t, err)
	for line := range bytes.Lines(file.Bytes()) {
		if !bytes.HasPrefix(line, []byte(id+":")) {
			kept.Write(line)
		}
	}
	return tokenstore.ParseRing(&kept)
}
