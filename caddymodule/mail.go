package caddymodule

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport/sallyport/notify"
)

// Mail is the relay that takes mail about tokens. Without one no mail is written,
// and what needs notice (the narrowing and deleting of unused tokens) is not done
// unless there is a webhook.
type Mail struct {
	// Relay is its host, with or without a port. Required. Default port: 587, or 465
	// with `tls` `implicit`.
	Relay string `json:"relay,omitempty"`
	// TLS is `starttls`, `implicit` or, for a relay on this machine only, `off`.
	// Default: `starttls`, without which nothing is sent.
	TLS string `json:"tls,omitempty"`
	// Username to log in with. It accepts placeholders. Default: none.
	Username string `json:"username,omitempty"`
	// Password to log in with: `{env.NAME}` or `{file./path}`; a literal value is
	// refused, since Caddy shows and saves its configuration. Default: none.
	Password string `json:"password,omitempty"`
	// From is the sender's address. Required.
	From string `json:"from,omitempty"`
	// Templates is a directory of templates that replace the built-in ones. Default: none.
	Templates string `json:"templates,omitempty"`
	// BaseURL is the one link in a mail. Default: none.
	BaseURL string `json:"base_url,omitempty"`
	// PerMinute is how many messages are sent in a minute at most. Default: 600.
	PerMinute int `json:"per_minute,omitempty"`
}

var errLiteralPassword = errors.New("mail: the password must not stand in the configuration itself: write password {env.SMTP_PASSWORD} or {file./run/secrets/smtp}")

// mailer settles the configuration and reads what it refers to.
func (m *Mail) mailer() (*notify.Mailer, error) {
	if m.Password != "" && !aReference.MatchString(m.Password) {
		return nil, errLiteralPassword
	}
	c := notify.MailConfig{TLS: notify.TLSMode(m.TLS), From: m.From, PerMinute: m.PerMinute}
	for _, value := range []struct {
		what, text string
		into       *string
	}{
		{"relay", m.Relay, &c.Relay},
		{"username", m.Username, &c.Username},
		{"password", m.Password, &c.Password},
		{"templates", m.Templates, &c.Templates},
		{"base_url", m.BaseURL, &c.BaseURL},
	} {
		if value.text == "" {
			continue
		}
		text, err := caddy.NewReplacer().ReplaceOrErr(value.text, true, true)
		if err != nil {
			// It names the placeholder, never what stands behind it.
			return nil, fmt.Errorf("mail: %s: %w", value.what, err)
		}
		*value.into = text
	}
	return notify.NewMailer(c)
}

// mail reads `mail RELAY { … }`.
func (p *optionParser) mail() error {
	mail := new(Mail)
	if err := p.oneArg(&mail.Relay); err != nil {
		return err
	}
	line := func(into *string) func() error { return func() error { return p.oneArg(into) } }
	err := p.block("mail", map[string]func() error{
		"tls":       line(&mail.TLS),
		"username":  line(&mail.Username),
		"password":  line(&mail.Password),
		"from":      line(&mail.From),
		"templates": line(&mail.Templates),
		"base_url":  line(&mail.BaseURL),
		"per_minute": func() error {
			var value string
			if err := p.oneArg(&value); err != nil {
				return err
			}
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 || n > notify.MaxPerMinute {
				return p.Errf("per_minute takes a number from 1 to %d", notify.MaxPerMinute)
			}
			mail.PerMinute = n
			return nil
		},
	})
	if err != nil {
		return err
	}
	if mail.Password != "" && !aReference.MatchString(mail.Password) {
		return p.WrapErr(errLiteralPassword)
	}
	if mail.From == "" {
		return p.Err("mail needs a sender: add a line such as from tokens@example.com")
	}
	p.app.Mail = mail
	return nil
}
