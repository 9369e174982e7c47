package caddymodule

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
)

// Webhook is where events about tokens, of all accounts, are sent to. It is known
// by its address. When it is no longer configured it is disabled, and keeps its
// signing secret in case it comes back.
type Webhook struct {
	// URL is where requests go: https, or http on this machine. It accepts
	// placeholders, for addresses that nobody is to know. Required.
	URL string `json:"url,omitempty"`
	// Events are those that it is told of. Default: all.
	Events []token.Event `json:"events,omitempty"`
	// Secret signs the requests: `{env.NAME}` or `{file./path}`, and there
	// `whsec_` and the base64 of 24 to 64 random bytes; a literal value is refused,
	// since Caddy shows and saves its configuration. When another one is found
	// there, the one before signs as well for a day. Default: one is made, which
	// `webhook rotate` shows.
	Secret string `json:"secret,omitempty"`
}

var errLiteralSigningSecret = errors.New("webhook: the signing secret must not stand in the configuration itself: write secret {file./run/secrets/webhook} or {env.WEBHOOK_SECRET}, or leave the line out to have one made")

// declared settles the configuration of one webhook and reads what it refers to.
// Errors do not repeat the address, which may be secret.
func (w *Webhook) declared() (authority.DeclaredWebhook, error) {
	d := authority.DeclaredWebhook{}
	if w.Secret != "" && !aReference.MatchString(w.Secret) {
		return d, errLiteralSigningSecret
	}
	var err error
	if d.URL, err = caddy.NewReplacer().ReplaceOrErr(w.URL, true, true); err != nil {
		return d, fmt.Errorf("url: %w", err) // it names the placeholder, never what stands behind it
	}
	d.URL = strings.TrimSpace(d.URL)
	config, err := w.config(d.URL)
	d.Events = config.Events
	if err != nil {
		return d, errors.New(strings.TrimPrefix(err.Error(), "webhook: "))
	}
	if w.Secret == "" {
		return d, nil
	}
	text, err := caddy.NewReplacer().ReplaceOrErr(w.Secret, true, true)
	if err != nil {
		return d, fmt.Errorf("secret: %w", err)
	}
	if d.Secret, err = notify.ParseSigningSecret(strings.TrimSpace(text)); err != nil {
		return d, fmt.Errorf("secret: %w", err)
	}
	return d, nil
}

// config is what is sent where, once that is known to be possible.
func (w *Webhook) config(url string) (notify.WebhookConfig, error) {
	c := notify.WebhookConfig{URL: url}
	for _, event := range w.Events {
		c.Events = append(c.Events, string(event))
	}
	return c, c.Validate()
}

// declaredWebhooks settles all of them.
func (a *App) declaredWebhooks() ([]authority.DeclaredWebhook, error) {
	if len(a.Webhooks) > authority.MaxWebhooks {
		return nil, fmt.Errorf("webhook: there can be %d at most", authority.MaxWebhooks)
	}
	var list []authority.DeclaredWebhook
	for i, w := range a.Webhooks {
		if w == nil {
			w = new(Webhook)
		}
		d, err := w.declared()
		if err != nil {
			return nil, fmt.Errorf("webhook number %d: %w", i+1, err)
		}
		for _, other := range list {
			if other.URL == d.URL {
				return nil, fmt.Errorf("webhook number %d: its address stands twice", i+1)
			}
		}
		list = append(list, d)
	}
	return list, nil
}

var errWebhookAllow = errors.New("webhook_allow takes addresses and ranges such as 10.0.0.0/8")

// webhookRanges are the ranges that webhooks may be in although they are not public.
func (a *App) webhookRanges() ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, text := range a.WebhookAllow {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			ip, err := netip.ParseAddr(text)
			if err != nil || ip.Zone() != "" {
				return nil, errWebhookAllow
			}
			prefix = netip.PrefixFrom(ip, ip.BitLen())
		}
		if prefix.Addr().Is4In6() {
			return nil, errWebhookAllow // it would match nothing: addresses are compared as IPv4
		}
		list = append(list, prefix.Masked())
	}
	return list, nil
}

// webhook reads `webhook URL { … }`.
func (p *optionParser) webhook() error {
	webhook := new(Webhook)
	if err := p.oneArg(&webhook.URL); err != nil {
		return err
	}
	err := p.block("webhook", map[string]func() error{
		"events": func() error { return listOf(p, &webhook.Events, token.Events(), false) },
		"secret": func() error {
			// No message here quotes a token: it may be the secret itself.
			args := p.RemainingArgs()
			if len(args) != 1 || !aReference.MatchString(args[0]) {
				return p.WrapErr(errLiteralSigningSecret)
			}
			webhook.Secret = args[0]
			return nil
		},
	})
	if err != nil {
		return err
	}
	if !strings.Contains(webhook.URL, "{") { // what placeholders stand for is seen at the start
		if _, err := webhook.config(webhook.URL); err != nil {
			return p.WrapErr(err)
		}
	}
	for _, other := range p.app.Webhooks {
		if other.URL == webhook.URL {
			return p.Err("two webhooks have the same address: merge their events into one")
		}
	}
	p.app.Webhooks = append(p.app.Webhooks, webhook)
	return nil
}

// webhookAllow reads `webhook_allow RANGE...`.
func (p *optionParser) webhookAllow() error {
	p.app.WebhookAllow = p.RemainingArgs()
	if len(p.app.WebhookAllow) == 0 {
		return p.ArgErr()
	}
	_, err := p.app.webhookRanges()
	return p.wrap(err)
}
