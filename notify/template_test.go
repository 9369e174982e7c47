package notify_test

import (
	"encoding/json"
	"errors"
	"flag"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// facts of an event as whoever tells of it gives them.
func facts(e token.Event) notify.Facts {
	day := 24 * time.Hour
	at := storetest.Now().Truncate(time.Second)
	f := notify.Facts{TokenName: "nightly export", Last4: "aB3d", At: at, Actor: "lifecycle"}
	if !e.Lifecycle() && e != token.EventRotationReminder {
		f.Actor, f.Address = "operator kim (unverified) on behalf of Ada Porter (usr_1)", "192.0.2.7"
	}
	unused := &token.Evidence{From: at.Add(-38 * day), To: at.Add(7 * day), LastUse: at.Add(-38 * day)}
	switch e {
	case token.EventRotated, token.EventRotationExtended, token.EventRotationReminder:
		f.PreviousExpiresAt = at.Add(day)
	case token.EventCreated:
		f.ExpiresAt = at.Add(180 * day)
	case token.EventEdited:
		f.WasNamed, f.Changed, f.Access, f.Scopes = "export", []string{"access", "ip_allowlist", "name", "scopes"}, "custom", []string{"payments:read"}
	case token.EventExempted:
		f.Due, f.Note = at.Add(90*day), "the yearly report"
	case token.EventRetiredSecretUsed:
		f.Actor = "" // nobody knows
	case token.EventExpiryWarning:
		f.ExpiresAt = at.Add(7 * day)
	case token.EventExpired:
		f.ExpiresAt = at
	case token.EventExpiredDeleted:
		f.UndoUntil = at.Add(30 * day)
	case token.EventDowngradeNotice:
		f.Due, f.Access, f.Scopes, f.Taken, f.Evidence = at.Add(7*day), "custom", []string{"payments:read"}, []string{"payments:write", "refunds:write"}, unused
		unused.Used = f.Scopes
	case token.EventDowngraded:
		f.Access, f.UndoUntil, f.Evidence = "read_only", at.Add(30*day), unused
	case token.EventDeletionNotice:
		f.Due, f.Evidence = at.Add(7*day), &token.Evidence{From: unused.From, To: unused.To}
	case token.EventUnusedDeleted:
		f.UndoUntil, f.Evidence = at.Add(30*day), unused
	case token.EventDowngradeCancelled, token.EventDeletionCancelled:
		f.Reason = token.CauseUsed.String()
	default:
	}
	return f
}

func noticeOf(t testing.TB, e token.Event, f notify.Facts) *tokenstore.Notice {
	t.Helper()
	text, err := json.Marshal(f)
	require.NoError(t, err)
	return &tokenstore.Notice{
		ID: "ntc_1", Event: e, AccountID: "acc_1", TokenID: "tok_1", Channel: notify.ChannelMail, Recipient: "kim@example.com",
		Facts: text, CreatedAt: storetest.Now(),
	}
}

// What people get, for every event. O17, O23: creation and revocation; T14: asks to
// switch; R12: when the old secret ends; M4, M8: the date and what is taken.
func TestTheMailOfEachEvent(t *testing.T) {
	templates, err := notify.LoadTemplates("")
	require.NoError(t, err)
	for _, event := range token.Events() {
		t.Run(string(event), func(t *testing.T) {
			f := facts(event)
			subject, text, html, err := templates.Render(noticeOf(t, event, f), "https://tokens.example.com")
			require.NoError(t, err)
			path := filepath.Join("testdata", "mail", string(event)+".txt")
			got := "Subject: " + subject + "\n\n" + text
			if event == token.EventDowngradeNotice {
				got += "\n----\n\n" + html // the layout is the same for all
			}
			if *update {
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
				require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(string(want), got))
			for _, part := range []string{text, html} {
				for _, must := range []string{
					"nightly export", "tok_1", "aB3d", "https://tokens.example.com", "4 March 2026, 05:06:07 UTC", f.Actor, f.Address, f.Note, f.WasNamed,
				} {
					require.Contains(t, part, must)
				}
				for _, end := range []time.Time{f.Due, f.PreviousExpiresAt, f.ExpiresAt, f.UndoUntil} {
					if !end.IsZero() {
						require.Contains(t, part, end.Format("2 January 2006, 15:04:05 UTC"))
					}
				}
				for _, scope := range f.Taken {
					require.Contains(t, part, scope)
				}
				require.NotContains(t, part, "<no value>")
			}
		})
	}
}

// D16, D17: a name is somebody's words. It is no header, no markup and no link.
func TestANameInAMailIsTextAndNothingElse(t *testing.T) {
	h := newHouse(t)
	h.user("kim@example.com", "owner")
	r := newRelay(t)
	m := h.message(token.EventCreated)
	m.Facts.TokenName = "<a href=\"https://evil.example.com/x\">\r\nBcc: eve@evil.example.com\r\n\r\nwww.evil.example.com v1.2"
	m.Facts.Actor = "mailto:eve@evil.example.com"
	m.Facts.Last4 = "\r\nX:"
	h.tell(m)
	require.Equal(t, 1, h.pass(h.sender(r.mailer(t, func(c *notify.MailConfig) { c.BaseURL = "https://tokens.example.com" }))))
	mails := r.got()
	require.Len(t, mails, 1)
	message := mails[0].message(t)
	require.Empty(t, message.Header.Get("Bcc"))
	require.Empty(t, message.Header.Get("X"))
	require.Equal(t, "<kim@example.com>", message.Header.Get("To"))
	require.Equal(t, "auto-generated", message.Header.Get("Auto-Submitted"))
	require.NotContains(t, message.Header.Get("Subject"), "evil")

	_, params, err := mime.ParseMediaType(message.Header.Get("Content-Type"))
	require.NoError(t, err)
	parts := multipart.NewReader(message.Body, params["boundary"])
	kinds := []string{}
	for {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		kinds = append(kinds, part.Header.Get("Content-Type"))
		body, err := io.ReadAll(quotedprintable.NewReader(part))
		require.NoError(t, err)
		text := strings.ReplaceAll(string(body), "https://tokens.example.com", "")
		for _, link := range []string{"://", "evil.example", "example.com", "eve@", "<a href=\"https://evil"} {
			require.NotContains(t, text, link)
		}
		require.Contains(t, text, "v1.2", "what no program takes for a link stays as it is")
	}
	require.Equal(t, []string{"text/plain; charset=UTF-8", "text/html; charset=UTF-8"}, kinds)
}

func TestAnOperatorsTemplatesReplaceOurs(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	put("token_rotated.txt.tmpl", "{{define \"subject\"}}Neu: {{.Short}}{{end}}Hallo, {{.TokenName}}: {{date .At}}. {{.What}}")
	put("token_revoked.html.tmpl", "<b>{{.TokenName}}</b>")
	put("layout.txt.tmpl", "ours: {{.What}}")
	put("README", "not a template")
	templates, err := notify.LoadTemplates(dir)
	require.NoError(t, err)
	subject, text, html, err := templates.Render(noticeOf(t, token.EventRotated, facts(token.EventRotated)), "")
	require.NoError(t, err)
	require.Equal(t, "Neu: ending in aB3d", subject)
	require.True(t, strings.HasPrefix(text, "Hallo, nightly export: 4 March 2026, 05:06:07 UTC. The API token"), text)
	require.Contains(t, html, "<!DOCTYPE html>", "a missing one falls back to ours")
	f := facts(token.EventRevoked)
	f.TokenName = "<i>"
	_, text, html, err = templates.Render(noticeOf(t, token.EventRevoked, f), "")
	require.NoError(t, err)
	require.Equal(t, "<b>&lt;i&gt;</b>", html)
	require.True(t, strings.HasPrefix(text, "ours: "))
}

func TestABrokenTemplateStopsTheStartAndNamesItsFileAndLine(t *testing.T) {
	for name, c := range map[string]struct{ file, text, want string }{
		"it does not parse":            {"token_rotated.txt.tmpl", "a\nb {{if}}\n", "token_rotated.txt.tmpl:2"},
		"HTML that does not parse":     {"token_rotated.html.tmpl", "a\n\n{{.What", "token_rotated.html.tmpl:3"},
		"a field of nobody's":          {"token_rotated.txt.tmpl", "a\n{{.Secret}}", "token_rotated.txt.tmpl:2"},
		"a field that may be nil":      {"token_rotated.txt.tmpl", "{{.Evidence.From}}", "token_rotated.txt.tmpl:1"},
		"HTML that can not be escaped": {"layout.html.tmpl", "<p>\n<a href='{{if .Do}}'{{end}}>", "layout.html.tmpl:2"},
		"an event of nobody's":         {"token_rotted.txt.tmpl", "a", "token_rotted.txt.tmpl: there is no event of that name"},
		"a kind of nobody's":           {"token_rotated.md.tmpl", "a", "token_rotated.md.tmpl: a template is named"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, c.file), []byte(c.text), 0o600))
			_, err := notify.LoadTemplates(dir)
			require.ErrorContains(t, err, c.want)
		})
	}
	_, err := notify.LoadTemplates(filepath.Join(t.TempDir(), "absent"))
	require.ErrorContains(t, err, "absent")
}

func TestMailConfig(t *testing.T) {
	good := func() notify.MailConfig {
		return notify.MailConfig{Relay: "smtp.example.com:587", Username: "tokens", Password: "hunter2", From: "tokens@example.com"}
	}
	for name, change := range map[string]func(c *notify.MailConfig){
		"as it is":        func(*notify.MailConfig) {},
		"without a port":  func(c *notify.MailConfig) { c.Relay = "smtp.example.com" },
		"an address":      func(c *notify.MailConfig) { c.Relay = "[2001:db8::1]:25" },
		"implicit TLS":    func(c *notify.MailConfig) { c.TLS = notify.TLSImplicit },
		"off to loopback": func(c *notify.MailConfig) { c.TLS, c.Relay = notify.TLSOff, "localhost:25" },
		"without a login": func(c *notify.MailConfig) { c.Username, c.Password = "", "" },
		"with a link":     func(c *notify.MailConfig) { c.BaseURL = "https://tokens.example.com/x" },
	} {
		c := good()
		change(&c)
		require.NoError(t, c.Validate(), name)
	}
	for name, change := range map[string]func(c *notify.MailConfig){
		"no relay":                  func(c *notify.MailConfig) { c.Relay = "" },
		"a relay of two words":      func(c *notify.MailConfig) { c.Relay = "smtp example" },
		"port 0":                    func(c *notify.MailConfig) { c.Relay = "smtp.example.com:0" },
		"a port beyond all":         func(c *notify.MailConfig) { c.Relay = "smtp.example.com:65536" },
		"a mode of nobody's":        func(c *notify.MailConfig) { c.TLS = "maybe" },
		"off to elsewhere":          func(c *notify.MailConfig) { c.TLS = notify.TLSOff },
		"off to a name like ours":   func(c *notify.MailConfig) { c.TLS, c.Relay = notify.TLSOff, "localhost.example.com:25" },
		"a user without a password": func(c *notify.MailConfig) { c.Password = "" },
		"a password without a user": func(c *notify.MailConfig) { c.Username = "" },
		"a password of two lines":   func(c *notify.MailConfig) { c.Password = "hunter2\nRSET" },
		"no sender":                 func(c *notify.MailConfig) { c.From = "" },
		"a sender of two lines":     func(c *notify.MailConfig) { c.From = "a@example.com\r\nBcc: hunter2" },
		"a greeting of two lines":   func(c *notify.MailConfig) { c.Hello = "a\r\nMAIL FROM:<hunter2>" },
		"a script for a link":       func(c *notify.MailConfig) { c.BaseURL = "javascript:hunter2" },
		"a link with a password":    func(c *notify.MailConfig) { c.BaseURL = "https://a:hunter2@example.com" },
		"a rate below nothing":      func(c *notify.MailConfig) { c.PerMinute = -1 },
		"a timeout of an hour":      func(c *notify.MailConfig) { c.Timeout = time.Hour },
	} {
		c := good()
		change(&c)
		err := c.Validate()
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "hunter2", name)
		_, err = notify.NewMailer(c)
		require.Error(t, err, name)
	}
}

// Where an event has several faces, each says what it is.
func TestAMailSaysWhatHappenedAndNotWhatMightHave(t *testing.T) {
	templates, err := notify.LoadTemplates("")
	require.NoError(t, err)
	at := storetest.Now().Truncate(time.Second)
	ahead := at.Add(24 * time.Hour)
	const end = "5 March 2026, 05:06:07 UTC"
	for name, c := range map[string]struct {
		event token.Event
		facts notify.Facts
		want  []string
		not   []string
	}{
		"a rotation with grace (R12, T14, O8, S10)": {
			token.EventRotated,
			notify.Facts{PreviousExpiresAt: ahead},
			[]string{"works until " + end + " and not after", "Switch every script and integration", "before " + end, "Previous secret ends: " + end},
			[]string{"at once"},
		},
		"a rotation at once (S9, S10)": {
			token.EventRotated,
			notify.Facts{PreviousExpiresAt: at},
			[]string{"stopped working at once", "Switch every script and integration", "refused already"},
			[]string{"works until"},
		},
		"a rotation until it is confirmed (T12, T14)": {
			token.EventRotated,
			notify.Facts{},
			[]string{"no date of its end", "until the switch to the new one is made or confirmed", "Switch every script and integration"},
			[]string{"at once", "Previous secret ends:"},
		},
		"a rollback (R14, R18, R19)": {
			token.EventRolledBack,
			notify.Facts{},
			[]string{"The new secret was deleted", "works again without an end of its own", "Take the new secret out of every script and integration"},
			nil,
		},
		"an extension (R20)":     {token.EventRotationExtended, notify.Facts{PreviousExpiresAt: ahead}, []string{"works until " + end}, nil},
		"a creation (O2, O8)":    {token.EventCreated, notify.Facts{}, []string{"as you would keep a password", "every script and integration"}, []string{"expires"}},
		"one that expires (O4)":  {token.EventCreated, notify.Facts{ExpiresAt: ahead}, []string{"It expires on " + end, "Token expires: " + end}, nil},
		"the end of exemption":   {token.EventExempted, notify.Facts{}, []string{"no longer exempt", "The exemption", "was ended"}, []string{"until"}},
		"a revocation":           {token.EventRevoked, notify.Facts{}, []string{"stopped working at once"}, []string{", because"}},
		"a key that was removed": {token.EventRevoked, notify.Facts{Reason: notify.ReasonMasterKeyRemoved}, []string{", because the master key"}, nil},
		"a secret of that key":   {token.EventSecretRevoked, notify.Facts{Reason: notify.ReasonMasterKeyRemoved}, []string{", because the master key"}, []string{"make room"}},
		"a cap (T16)":            {token.EventSecretRevoked, notify.Facts{Last4: "zz99"}, []string{"ending in zz99", "to make room for another one"}, []string{", because"}},
		"revoked for an old secret": {
			token.EventRevoked, notify.Facts{Reason: notify.ReasonRetiredUse}, []string{"because a secret of it was used that had ended"}, nil,
		},
		"an old secret that is only told of": {
			token.EventRetiredSecretUsed,
			notify.Facts{Address: "2001:db8::7", Last4: "zz99"},
			[]string{"ending in zz99", "at the address 2001:db8::7", "rotate the token"},
			[]string{"revoked", "Who:"},
		},
		"an old secret that ends the token": {
			token.EventRetiredSecretUsed,
			notify.Facts{Reason: notify.ReasonTokenRevoked},
			[]string{"have the token revoked", "need a new token"},
			[]string{"rotate the token", "at the address"},
		},
		"revoked for a leak": {
			token.EventRevoked,
			notify.Facts{Reason: notify.ReasonLeaked, Note: "it was found at github.com"},
			[]string{"because a secret of it was found where others can read it", "it was found at github"},
			nil,
		},
		"an old secret that was found": {
			token.EventRetiredSecretUsed,
			notify.Facts{Reason: notify.ReasonLeaked, Last4: "zz99"},
			[]string{"was found", "ending in zz99", "does not work any more", "goes on with its other secret"},
			[]string{"was used", "The request was refused", "Somebody"},
		},
		"what was wrongly deleted":          {token.EventRestored, notify.Facts{Reason: notify.ReasonLateUse}, []string{"was restored", "became known late"}, nil},
		"what could not be put back":        {token.EventRestored, notify.Facts{Reason: notify.ReasonLateUseStands}, []string{"could not be"}, []string{"was restored"}},
		"what was wrongly taken":            {token.EventDowngradeUndone, notify.Facts{Reason: notify.ReasonLateUse}, []string{"was given back", "became known late"}, nil},
		"what could not be given back":      {token.EventDowngradeUndone, notify.Facts{Reason: notify.ReasonLateUseStands}, []string{"could not be"}, []string{"has its permissions back"}},
		"a field that has no name yet here": {token.EventEdited, notify.Facts{Changed: []string{"www.example.com"}}, []string{"changed: www[.]example[.]com."}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c.facts.At = at
			subject, text, html, err := templates.Render(noticeOf(t, c.event, c.facts), "")
			require.NoError(t, err)
			for _, want := range c.want {
				require.Contains(t, subject+"\n"+text, want)
			}
			for _, not := range c.not {
				require.NotContains(t, subject+"\n"+text+html, not)
			}
		})
	}
}
