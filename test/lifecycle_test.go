package test

import (
	"encoding/json"
	"io"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/mail"
	"net/url"
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

type received struct {
	at                    time.Time // before the server said that it had it
	to, subject, id, text string
}

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
	s.box.mails = append(s.box.mails, received{at: time.Now(), to: s.to, subject: m.Header.Get("Subject"), id: m.Header.Get("Message-Id"), text: string(body)})
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

// saying lists the mails to one reader that name a token and have some words in
// their subject.
func (b *mailbox) saying(to, id, words string) []received {
	var list []received
	for _, m := range b.about(id) {
		if m.to == to && strings.Contains(m.subject, words) {
			list = append(list, m)
		}
	}
	return list
}

// The subjects of what people are told.
const (
	willNarrow   = "will lose permissions"
	narrowed     = "lost permissions that it did not use"
	notNarrowed  = "keeps its permissions"
	willDelete   = "will be deleted on"
	wasDeleted   = "was deleted"
	notDeleted   = "will not be deleted"
	willExpire   = "expires on"
	hasExpired   = "has expired"
	adasAddress  = "ada@example.com"
	evesAddress  = "eve@example.com"
	maxesAddress = "max@example.com"
)

// arrived waits for a mail, and gives the first of its kind.
func (b *mailbox) arrived(t *testing.T, to, id, words string) received {
	t.Helper()
	var list []received
	eventually(t, "mail to "+to+": "+words, func() bool {
		list = b.saying(to, id, words)
		return len(list) > 0
	})
	return list[0]
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
		{POLICY}
	}
}
http://{ADDR} {
	sallyport {
		# Callers go on with tokens that have ended.
		failure_limit off
	}
	reverse_proxy {UPSTREAM}
}
`

// lookingAfter starts a gateway with a policy, an account and its people: two
// admins, and a member who is no admin.
func lookingAfter(t *testing.T, relay, policy string) (g *gateway, account, member string) {
	t.Helper()
	g = newGateway(t, strings.NewReplacer("{MAIL}", relay, "{POLICY}", policy).Replace(lifecycleCaddyfile), httpbinUpstream(t))
	account = g.account()
	user := func(name, email, role string) string {
		return g.command("user", "create", "--account", account, "--name", name, "--email", email, "--role", role, "--quiet")
	}
	user("Ada", adasAddress, "admin")
	user("Eve", evesAddress, "owner")
	return g, account, user("Max", maxesAddress, "member")
}

const quickPolicy = `policy default {
			preset mercury
			downgrade_unused 8s
			delete_unused 12s
			notice 3s
			restore_window 10m
		}`

// quickNotice is the notice of quickPolicy.
const quickNotice = 3 * time.Second

// patientPolicy gives notice at once, and so long before the act that a test has
// all its time to answer it.
const patientPolicy = `policy default {
			preset mercury
			downgrade_unused 62s
			delete_unused 63s
			notice 60s
			restore_window 10m
		}`

// caller sends requests with one token until the test ends, and remembers them.
type caller struct {
	mu   sync.Mutex
	sent []sentRequest
}

// sentRequest is one request: it met the gate between two times.
type sentRequest struct {
	method    string
	from, to  time.Time
	status    int
	code      string
	unheardOf bool // nobody answered
}

// keepCalling begins to send one request after the other. Each token has a caller
// of its own, so that none waits for another's.
func (g *gateway) keepCalling(secret string, methods ...string) *caller {
	g.t.Helper()
	c := new(caller)
	var wait sync.WaitGroup
	stop := make(chan struct{})
	g.t.Cleanup(func() { close(stop); wait.Wait() })
	wait.Go(func() {
		for {
			for _, method := range methods {
				r := sentRequest{method: method, from: time.Now()}
				var err error
				r.status, r.code, err = g.send(method, "/"+strings.ToLower(method), secret)
				r.to, r.unheardOf = time.Now(), err != nil
				c.mu.Lock()
				c.sent = append(c.sent, r)
				c.mu.Unlock()
			}
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	return c
}

func (c *caller) requests() []sentRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.sent)
}

// last is the newest answer to a method.
func (c *caller) last(method string) sentRequest {
	list := c.requests()
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].method == method && !list[i].unheardOf {
			return list[i]
		}
	}
	return sentRequest{}
}

// show is a token as people see it.
func (g *gateway) show(i issued) map[string]any {
	g.t.Helper()
	var shown map[string]any
	require.NoError(g.t, json.Unmarshal([]byte(g.command("token", "show", i.id(), "--output", "json")), &shown))
	if inner, ok := shown["token"].(map[string]any); ok {
		return inner
	}
	return shown
}

// logged is an entry of the audit log about a token.
type logged struct {
	At    time.Time
	Verb  string
	After struct {
		Evidence *struct {
			From, To, Through time.Time
			Notice            struct{ Accepted time.Time }
		}
	}
}

// history reads what the audit log holds about a token.
func (g *gateway) history(i issued) (entries []logged) {
	g.t.Helper()
	for cursor := ""; ; {
		resp, err := http.Get(g.adminURL("/audit?limit=200&target=" + i.id() + cursor))
		require.NoError(g.t, err)
		var page struct {
			Items      []logged
			NextCursor string `json:"next_cursor"`
		}
		err = json.NewDecoder(resp.Body).Decode(&page)
		_ = resp.Body.Close()
		require.NoError(g.t, err)
		require.Equal(g.t, http.StatusOK, resp.StatusCode)
		entries = append(entries, page.Items...)
		if page.NextCursor == "" {
			return entries
		}
		cursor = "&cursor=" + url.QueryEscape(page.NextCursor)
	}
}

// find gives the entry of a verb.
func find(t *testing.T, entries []logged, verb string) logged {
	t.Helper()
	for _, e := range entries {
		if e.Verb == verb {
			return e
		}
	}
	t.Fatalf("there is no %s in the audit log", verb)
	return logged{}
}

// M2 to M9: a token that is only read with is narrowed, one that nobody uses is
// deleted, each after a mail to the admins of the account, and one that is used
// keeps what it has. What was taken can be had back.
func TestTokensLookAfterThemselves(t *testing.T) {
	box, relay := openMailbox(t)
	g, account, _ := lookingAfter(t, relay, quickPolicy)
	readWrite := []string{"--account", account, "--access", "read_write", "--ip", "127.0.0.0/8"}
	// Each is used from its creation on: a command can take longer than a notice.
	used := g.create(readWrite...)
	usedCalls := g.keepCalling(used.Secret, "GET", "POST")
	half := g.create(readWrite...)
	g.keepCalling(half.Secret, "GET")
	unused := g.create("--account", account, "--access", "read_only")

	// M2, M3: what it did not use is taken. The first pass of all only looks, for as
	// long as the shortest window.
	eventually(t, "the half used token is narrowed", func() bool { return g.show(half)["access"] == "read_only" })
	g.want(http.StatusForbidden, "read_only_token", "POST", "/post", half.Secret)
	g.want(http.StatusOK, "", "GET", "/get", half.Secret)
	// M6: what nobody uses is deleted.
	eventually(t, "the unused token is deleted", func() bool { return g.show(unused)["state"] == "deleted" })
	g.want(http.StatusUnauthorized, "revoked_token", "GET", "/get", unused.Secret)

	// M4, M5, M8, M9, L4: each was announced before, so long as the policy says, to
	// every admin of the account and to nobody else, once; and then told.
	for _, c := range []struct {
		token               issued
		verb, notice, after string
	}{
		{half, "token.downgrade", willNarrow, narrowed},
		{unused, "token.delete_unused", willDelete, wasDeleted},
	} {
		act := find(t, g.history(c.token), c.verb)
		for _, admin := range []string{adasAddress, evesAddress} {
			announced := box.arrived(t, admin, c.token.id(), c.notice)
			require.False(t, announced.at.After(act.At.Add(-quickNotice)), "%s: told at %s, done at %s", c.verb, announced.at, act.At)
			box.arrived(t, admin, c.token.id(), c.after)
		}
		require.False(t, act.After.Evidence.Notice.Accepted.After(act.At.Add(-quickNotice)), c.verb)
		ids := map[string]bool{}
		for _, m := range box.about(c.token.id()) {
			if strings.Contains(m.subject, "created") {
				continue // that is whoever the policy names
			}
			require.NotEqual(t, maxesAddress, m.to, m.subject)
			require.False(t, ids[m.id], "sent twice: %s", m.subject)
			ids[m.id] = true
		}
	}

	// M7: what is used keeps all that it has. If the caller was held up for as long
	// as that takes, on a machine that is busy, notice is given all the same, and
	// called off again.
	require.Equal(t, "read_write", g.show(used)["access"])
	require.Equal(t, "active", g.show(used)["state"])
	for _, n := range [][2]string{{willNarrow, notNarrowed}, {willDelete, notDeleted}} {
		eventually(t, "what was announced of a used token is called off", func() bool {
			off := len(box.saying(adasAddress, used.id(), n[1]))
			return len(box.saying(adasAddress, used.id(), n[0])) <= off
		})
	}
	// I1, L4: whatever was announced, no answered request speaks against it.
	for _, e := range g.history(used) {
		require.NotContains(t, []string{"token.downgrade", "token.delete_unused"}, e.Verb)
		if e.After.Evidence == nil || e.After.Evidence.From.IsZero() {
			continue
		}
		for _, r := range usedCalls.requests() {
			require.False(t, r.method == "POST" && r.status == http.StatusOK &&
				r.from.After(e.After.Evidence.From) && r.to.Before(e.After.Evidence.Through),
				"%s says unused from %s, known through %s; used between %s and %s", e.Verb, e.After.Evidence.From, e.After.Evidence.Through, r.from, r.to)
		}
	}

	// L5, L6: what was taken can be had back. Callers are there at once, so that
	// nothing is taken again, however long a command takes.
	again := g.keepCalling(half.Secret, "POST")
	g.command("token", "undo-downgrade", half.id(), "--confirm")
	eventually(t, "it writes again", func() bool { return again.last("POST").status == http.StatusOK })
	again = g.keepCalling(unused.Secret, "GET")
	g.command("token", "restore", unused.id(), "--confirm")
	eventually(t, "it reads again", func() bool { return again.last("GET").status == http.StatusOK })

	// Every act is in the audit log, with its evidence, and the log holds.
	for _, verb := range []string{"token.schedule", "token.downgrade", "token.undo-downgrade"} {
		find(t, g.history(half), verb)
	}
	for _, verb := range []string{"token.schedule", "token.delete_unused", "token.restore"} {
		find(t, g.history(unused), verb)
	}
	g.command("audit", "verify")
}

// M7, L4: use after the notice calls it off, and whoever was warned is told. Any
// request is use, also one that is refused for its scope; a permission is used only
// by a request that goes through.
func TestALateRequestCallsOffWhatWasAnnounced(t *testing.T) {
	box, relay := openMailbox(t)
	g, account, _ := lookingAfter(t, relay, patientPolicy)
	reader := g.create("--account", account, "--access", "read_only")
	writer := g.create("--account", account, "--access", "read_write", "--ip", "127.0.0.0/8")
	g.keepCalling(writer.Secret, "GET") // so that there is nothing to delete, only to narrow
	for _, admin := range []string{adasAddress, evesAddress} {
		box.arrived(t, admin, reader.id(), willDelete)
		box.arrived(t, admin, writer.id(), willNarrow)
	}
	g.want(http.StatusForbidden, "read_only_token", "POST", "/post", reader.Secret)
	g.want(http.StatusOK, "", "POST", "/post", writer.Secret)
	for _, admin := range []string{adasAddress, evesAddress} {
		box.arrived(t, admin, reader.id(), notDeleted)
		box.arrived(t, admin, writer.id(), notNarrowed)
	}
	require.Empty(t, box.saying(adasAddress, reader.id(), willNarrow), "there is nothing to narrow")
	require.Equal(t, "active", g.show(reader)["state"])
	require.Equal(t, "read_write", g.show(writer)["access"])
}

// ownPolicy is the preset with a life of seconds. The other policy rules nobody: a
// short window makes short the time for which a new gateway takes nothing away.
const ownPolicy = `policy default {
			preset own
			max_lifetime 40s
			expiry_warnings 38s 1s
		}
		policy quick {
			delete_unused 6s
			downgrade_unused never
			notice 2s
		}`

// O4, O5, O6: a token ends with its life, used or not; its user is warned in time,
// by mail, and told; it is deleted at once, for good; and there is no access from
// that moment on.
func TestAnOwnTokenEndsWithItsLifeUsedOrNot(t *testing.T) {
	box, relay := openMailbox(t)
	g, account, member := lookingAfter(t, relay, ownPolicy)
	kim := g.command("user", "create", "--account", account, "--name", "Kim", "--email", "kim@example.com", "--role", "member", "--quiet")
	used := g.create("--account", account, "--user", member, "--access", "read_only")
	calls := g.keepCalling(used.Secret, "GET")
	unused := g.create("--account", account, "--user", kim, "--access", "read_only")

	for _, c := range []struct {
		token issued
		email string
	}{{used, maxesAddress}, {unused, "kim@example.com"}} {
		expires, err := time.Parse(time.RFC3339, c.token.Token["expires_at"].(string))
		require.NoError(t, err)

		warning := box.arrived(t, c.email, c.token.id(), willExpire) // O6
		require.True(t, warning.at.Before(expires), "warned at %s of %s", warning.at, expires)
		require.Contains(t, warning.text, "Replace it before then")
		require.Empty(t, box.saying(adasAddress, c.token.id(), willExpire), "the user alone is warned")
	}
	expires, err := time.Parse(time.RFC3339, used.Token["expires_at"].(string))
	require.NoError(t, err)
	time.Sleep(time.Until(expires)) // until a known moment, not for something to happen
	for _, c := range []struct {
		token issued
		email string
	}{{used, maxesAddress}, {unused, "kim@example.com"}} {
		box.arrived(t, c.email, c.token.id(), hasExpired) // O5
		// O4: at once, and not after some grace; used or not, and for good.
		eventually(t, "the expired token is deleted", func() bool { return g.show(c.token)["state"] == "deleted" })
		g.want(http.StatusUnauthorized, "revoked_token", "GET", "/get", c.token.Secret)
		_, err := g.try("token", "restore", c.token.id(), "--confirm", "--duration", "30s")
		require.Error(t, err, "nobody has it back")
	}
	// O5: until its end it served, and from that moment on it did not.
	before, after := 0, 0
	for _, r := range calls.requests() {
		switch {
		case r.unheardOf:
		case r.to.Before(expires):
			before++
			require.Equal(t, http.StatusOK, r.status, r.code)
		case r.from.After(expires):
			after++
			require.Equal(t, http.StatusUnauthorized, r.status)
			require.Contains(t, []string{"expired_token", "revoked_token"}, r.code)
		}
	}
	require.Positive(t, before)
	require.Positive(t, after)
}

// L4: without an accepted notice nothing is taken.
func TestNothingIsTakenWhileMailIsRefused(t *testing.T) {
	box, relay := openMailbox(t)
	box.set(true)
	g, account, _ := lookingAfter(t, relay, quickPolicy)
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
				if a.Kind == "delete_unused" && a.Evidence.To.Sub(a.Evidence.From) > 15*time.Second {
					return slices.Contains(a.WaitsFor, "notice")
				}
			}
		}
		return false
	})
	g.want(http.StatusOK, "", "GET", "/get", unused.Secret)
}
