package notify_test

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

func encoded(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }

func TestASigningSecretHasOneSpelling(t *testing.T) {
	for _, size := range []int{24, 25, 32, 64} {
		text := "whsec_" + encoded(size)
		secret, err := notify.ParseSigningSecret(text)
		require.NoError(t, err)
		require.Equal(t, text, secret.Reveal())
		require.NotContains(t, fmt.Sprintf("%v %+v %#v %s %q %x", secret, secret, secret, secret, secret, secret), encoded(size)[:8])
	}
	for _, text := range []string{
		"", "whsec_", encoded(32), "WHSEC_" + encoded(32), "whsec_" + encoded(23), "whsec_" + encoded(65), "whsec_" + encoded(32) + "\n",
		"whsec_" + encoded(24)[:16] + "\n" + encoded(24)[16:], " whsec_" + encoded(32), "whsec_" + strings.TrimRight(encoded(25), "="),
		"whsec_" + base64.URLEncoding.EncodeToString([]byte(strings.Repeat("\xff", 32))),
	} {
		secret, err := notify.ParseSigningSecret(text)
		require.Error(t, err, "%d bytes", len(text))
		require.True(t, secret.IsZero())
		if len(text) > 20 {
			require.NotContains(t, err.Error(), text)
		}
	}
}

func FuzzParseSigningSecret(f *testing.F) {
	f.Add("whsec_" + encoded(32))
	f.Add("whsec_" + encoded(24)[:31] + "=")
	f.Add("whsec_AAAA\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		secret, err := notify.ParseSigningSecret(text)
		require.Equal(t, err != nil, secret.IsZero())
		if err == nil {
			require.Equal(t, text, secret.Reveal())
		}
	})
}

func TestASecretThatIsAdoptedTakesOverAsAfterARotation(t *testing.T) {
	h := newHouse(t)
	s, key, now := h.signer(), h.ring.IDs()[0], h.Now()
	one, err := notify.ParseSigningSecret("whsec_" + encoded(32))
	require.NoError(t, err)
	two, err := notify.ParseSigningSecret("whsec_" + encoded(24))
	require.NoError(t, err)
	w := tokenstore.Webhook{ID: storetest.ID("whk")}
	require.Error(t, s.Adopt(&w, key, notify.SigningSecret{}, 0, now))
	require.NoError(t, s.Adopt(&w, key, one, time.Hour, now))
	require.False(t, notify.Rotating(&w, now), "there was none before")
	require.True(t, s.Holds(&w, one))
	require.False(t, s.Holds(&w, notify.SigningSecret{}))

	require.NoError(t, s.Adopt(&w, key, two, time.Hour, now))
	require.True(t, s.Holds(&w, two))
	require.True(t, notify.Rotating(&w, now.Add(time.Hour-1)))
	require.False(t, notify.Rotating(&w, now.Add(time.Hour)))
	before := w
	require.NoError(t, s.Adopt(&w, key, two, time.Hour, now.Add(time.Minute)))
	require.Equal(t, before, w)
	require.NoError(t, s.Adopt(&w, key, one, time.Hour, now.Add(time.Minute)))
	require.True(t, s.Holds(&w, one))
	require.False(t, notify.Rotating(&w, now.Add(time.Minute)), "to go back ends what was begun")

	// A row of another webhook is none of this one's: it neither opens nor is in the way.
	w.ID = storetest.ID("whk")
	require.False(t, s.Holds(&w, one))
	_, err = s.Rekey(&w, "another")
	require.ErrorIs(t, err, notify.ErrSealed)
	_, err = s.Rotate(&w, key, time.Hour, now)
	require.ErrorIs(t, err, notify.ErrSealed)
	require.NoError(t, s.Adopt(&w, key, one, time.Hour, now))
	require.True(t, s.Holds(&w, one))

	lost := tokenstore.Webhook{ID: w.ID, KeyID: "gone"}
	moved, err := s.Rekey(&lost, key)
	require.NoError(t, err)
	require.True(t, moved, "one without a secret keeps no key from being removed")
	require.Equal(t, key, lost.KeyID)
}

// D24: what an address says by itself is judged before anything is sent to it.
func TestAnAddressThatIsNotPublicIsRefusedBeforehand(t *testing.T) {
	h := &notify.Webhooks{Allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}
	for address, fine := range map[string][2]bool{ // created, declared
		"https://example.com/":          {true, true},
		"https://8.8.8.8/":              {true, true},
		"https://10.1.2.3/":             {true, true},
		"https://10.2.2.3/":             {false, false},
		"https://192.168.1.1/":          {false, false},
		"https://169.254.169.254/":      {false, false},
		"https://[fd00::1]/":            {false, false},
		"https://[::ffff:127.0.0.1]/":   {false, true},
		"http://localhost/":             {false, true},
		"http://LOCALHOST.:8080/":       {false, true},
		"http://127.0.0.2/":             {false, true},
		"http://[::1]:80/":              {false, true},
		"https://[64:ff9b::10.0.0.1]/":  {false, false},
		"https://[fe80::1%25eth0]:443/": {false, false},
	} {
		require.Equal(t, fine[0], h.CheckReach(&tokenstore.Webhook{URL: address}) == nil, address)
		require.Equal(t, fine[1], h.CheckReach(&tokenstore.Webhook{URL: address, ManagedBy: "x"}) == nil, address)
	}
}

// L4: a webhook that is not told of what needs notice is no way to give it.
func TestAWebhookOfOtherEventsIsNoChannel(t *testing.T) {
	h := newHouse(t)
	o := &notify.Notifier{NewID: newID}
	channel := func() (ok bool) {
		storetest.MustRead(t, h.store, func(tx *tokenstore.Tx) (err error) {
			ok, err = o.Channel(tx)
			return err
		})
		return ok
	}
	hook := h.hook("https://example.com/hook", func(w *tokenstore.Webhook) { w.Events = []string{"token_created"} })
	require.False(t, channel())
	h.write(func(tx *tokenstore.Tx) error {
		hook.Events = append(hook.Events, "deletion_notice")
		return tx.UpdateWebhook(&hook)
	})
	require.True(t, channel())
}
