package test

import (
	"encoding/json"
	"io"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"
)

// mailbox is a real SMTP server that keeps what it accepts.
type mailbox struct {
	mu     sync.Mutex
	mails  []received
	refuse bool
}

type received struct{ to, subject, id, text string }

// openMailbox starts the server and gives its address.
func openMailbox(t *testing.T) (*mailbox, string) {
	t.Helper()
	box := new(mailbox)
	server := smtp.NewServer(box)
	server.Domain = "mail.example.com"
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return box, listener.Addr().String()
}

func (b *mailbox) NewSession(*smtp.Conn) (smtp.Session, error) { return &mailSession{box: b}, nil }

type mailSession struct {
	box *mailbox
	to  string
}

func (s *mailSession) Mail(string, *smtp.MailOptions) error { return nil }
func (s *mailSession) Reset()                               { s.to = "" }
func (s *mailSession) Logout() error                        { return nil }

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	if s.box.refuse {
		return &smtp.SMTPError{Code: 451, Message: "not now"}
	}
	s.to = to
	return nil
}

func (s *mailSession) Data(r io.Reader) error {
	m, err := mail.ReadMessage(r)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil {
		return err
	}
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	s.box.mails = append(s.box.mails, received{to: s.to, subject: m.Header.Get("Subject"), id: m.Header.Get("Message-Id"), text: string(body)})
	return nil
}

// about lists the mails that name a token.
func (b *mailbox) about(id string) []received {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []received
	for _, m := range b.mails {
		if strings.Contains(m.text, id) {
			list = append(list, m)
		}
	}
	return list
}

func (b *mailbox) set(refuse bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuse = refuse
}

const lifecycleCaddyfile = `{
	admin {ADMIN}
	persist_config off
	default_bind 127.0.0.1
	sallyport {
		store sqlite {DIR}/sallyport.db
		mail {MAIL} {
			tls off
			from tokens@example.com
		}
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

// M2 to M9: a token that is only read with is narrowed, one that nobody uses is
// deleted, each after a mail to the admins of the account, and one that is used
// keeps what it has. What was taken can be had back.
func TestTokensLookAfterThemselves(t *testing.T) {
	box, relay := openMailbox(t)
	g := newGateway(t, strings.Replace(lifecycleCaddyfile, "{MAIL}", relay, 1), httpbinUpstream(t))
	account := g.account()
	g.command("user", "create", "--account", account, "--name", "Ada", "--email", "ada@example.com", "--role", "admin", "--quiet")
	g.command("user", "create", "--account", account, "--name", "Max", "--email", "max@example.com", "--role", "member", "--quiet")
	readWrite := []string{"--account", account, "--access", "read_write", "--ip", "127.0.0.0/8"}
	used, half, unused := g.create(readWrite...), g.create(readWrite...), g.create("--account", account, "--access", "read_only")

	var wait sync.WaitGroup
	stop := make(chan struct{})
	defer func() { close(stop); wait.Wait() }()
	wait.Go(func() { // requests that keep tokens alive
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
			_, _, _ = g.send("GET", "/get", used.Secret)
			_, _, _ = g.send("POST", "/post", used.Secret)
			_, _, _ = g.send("GET", "/get", half.Secret)
		}
	})

	show := func(i issued) map[string]any {
		var shown map[string]any
		require.NoError(t, json.Unmarshal([]byte(g.command("token", "show", i.id(), "--output", "json")), &shown))
		if inner, ok := shown["token"].(map[string]any); ok {
			return inner
		}
		return shown
	}
	// The first pass of all only looks, for as long as the shortest window.
	eventually(t, "the half used token is narrowed", func() bool { return show(half)["access"] == "read_only" })
	g.want(http.StatusForbidden, "read_only_token", "POST", "/post", half.Secret)
	g.want(http.StatusOK, "", "GET", "/get", half.Secret)
	eventually(t, "the unused token is deleted", func() bool { return show(unused)["state"] == "deleted" })
	g.want(http.StatusUnauthorized, "revoked_token", "GET", "/get", unused.Secret)

	// M4, M5, M8, M9: each was announced before, to the admin alone, once.
	notice, told := box.about(half.id()), box.about(unused.id())
	require.GreaterOrEqual(t, len(notice), 2, "announced, and done")
	require.GreaterOrEqual(t, len(told), 2)
	ids := map[string]bool{}
	for _, m := range append(notice, told...) {
		require.Equal(t, "ada@example.com", m.to)
		require.False(t, ids[m.id], "sent twice: %s", m.subject)
		ids[m.id] = true
	}
	require.Empty(t, box.about(used.id()))
	require.Equal(t, "read_write", show(used)["access"])

	// L5, L6: what was taken can be had back.
	g.command("token", "undo-downgrade", half.id(), "--confirm")
	g.want(http.StatusOK, "", "POST", "/post", half.Secret)
	g.command("token", "restore", unused.id(), "--confirm")
	g.want(http.StatusOK, "", "GET", "/get", unused.Secret)

	// Every act is in the audit log, with its evidence, and the log holds.
	log := g.command("audit", "list", "--output", "json")
	for _, verb := range []string{"token.schedule", "token.downgrade", "token.delete_unused", "token.undo-downgrade", "token.restore"} {
		require.Contains(t, log, verb)
	}
	require.Contains(t, log, `"evidence"`)
	g.command("audit", "verify")
}

// L4: without an accepted notice nothing is taken.
func TestNothingIsTakenWhileMailIsRefused(t *testing.T) {
	box, relay := openMailbox(t)
	box.set(true)
	g := newGateway(t, strings.Replace(lifecycleCaddyfile, "{MAIL}", relay, 1), httpbinUpstream(t))
	account := g.account()
	g.command("user", "create", "--account", account, "--name", "Ada", "--email", "ada@example.com", "--role", "admin", "--quiet")
	unused := g.create("--account", account, "--access", "read_only")
	eventually(t, "its notice waits", func() bool {
		return strings.Contains(g.command("notice", "list", "--output", "json"), "deletion_notice")
	})
	type plan struct {
		Items []struct {
			Actions []struct {
				Kind     string
				WaitsFor []string `json:"waits_for"`
				Evidence struct{ From, To time.Time }
			}
		}
	}
	eventually(t, "the date has passed, and the act waits for the notice", func() bool {
		var p plan
		require.NoError(t, json.Unmarshal([]byte(g.command("lifecycle", "plan", "--output", "json")), &p))
		for _, item := range p.Items {
			for _, a := range item.Actions {
				if a.Kind == "delete_unused" && a.Evidence.To.Sub(a.Evidence.From) > 12*time.Second {
					return slices.Contains(a.WaitsFor, "notice")
				}
			}
		}
		return false
	})
	g.want(http.StatusOK, "", "GET", "/get", unused.Secret)
}
