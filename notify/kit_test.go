package notify_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/mail"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// house is a store with one account that has a token.
type house struct {
	testing.TB
	*clock
	store    tokenstore.Store
	ring     *tokenstore.Ring
	account  token.Account
	token    token.Token
	last4    string
	notifier *notify.Notifier

	mu     sync.Mutex
	alarms []string
}

func newID(prefix string) (token.ID, error) { return storetest.ID(prefix), nil }

func newHouse(t testing.TB) *house {
	t.Helper()
	h := &house{TB: t, clock: &clock{now: storetest.Now()}, ring: storetest.Ring(t)}
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"), sqlite.Options{Ring: h.ring, Now: h.Now})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	h.store = store
	h.account = storetest.Account()
	h.write(func(tx *tokenstore.Tx) error { return tx.InsertAccount(&h.account) })
	h.token = storetest.Token(h.account.ID)
	h.last4 = storetest.Issue(t, store, h.ring, &h.token).Last4()
	h.notifier = &notify.Notifier{NewID: newID, Mail: true}
	return h
}

func (h *house) write(f func(tx *tokenstore.Tx) error) {
	h.Helper()
	storetest.MustWrite(h, h.store, f)
}

func (h *house) user(email, role string, change ...func(*token.User)) token.User {
	h.Helper()
	u := storetest.User(h.account.ID)
	u.Email, u.Role = email, role
	for _, f := range change {
		f(&u)
	}
	h.write(func(tx *tokenstore.Tx) error { return tx.InsertUser(&u) })
	return u
}

func (h *house) message(e token.Event) notify.Message {
	return notify.Message{Event: e, AccountID: h.account.ID, TokenID: h.token.ID, Version: 1, Facts: notify.Facts{At: h.Now()}}
}

func (h *house) tell(m notify.Message) {
	h.Helper()
	h.write(func(tx *tokenstore.Tx) error { return h.notifier.Tell(tx, m) })
}

func (h *house) notices() (list []tokenstore.Notice) {
	h.Helper()
	storetest.MustRead(h, h.store, func(tx *tokenstore.Tx) (err error) {
		list, _, err = tx.Notices(tokenstore.NoticeQuery{}, tokenstore.Page{Limit: 200})
		return err
	})
	slices.Reverse(list)
	return list
}

func (h *house) sender(m notify.Carrier) *notify.Sender {
	return &notify.Sender{
		Store: h.store, Mail: m, NewID: newID, Now: h.Now, Chance: func() float64 { return 0 }, Workers: 1,
		Alarm: func(text string, _ token.ID) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.alarms = append(h.alarms, text)
		},
	}
}

func (h *house) pass(s *notify.Sender) int {
	h.Helper()
	n, err := s.SendDue(h.Context())
	require.NoError(h, err)
	return n
}

// authority is a CA and a certificate of it for this machine.
func authority(t testing.TB) (*x509.CertPool, *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// relay is a real SMTP server with a script: what it does at the next verbs.
type relay struct {
	address string
	roots   *x509.CertPool

	mu     sync.Mutex
	mails  []received
	faults map[string]error // by verb, each once; errDrop: the connection ends
	always func(verb, arg string) error
	logins int
}

type received struct {
	from, to string
	data     []byte
	secure   bool
}

func (r *received) message(t testing.TB) *mail.Message {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(r.data))
	require.NoError(t, err)
	return m
}

var (
	errDrop    = errors.New("drop the connection")
	temporary  = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "not now"}
	forGood    = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	relayLogin = [2]string{"tokens", "correct-horse-battery"}
)

func newRelay(t testing.TB, change ...func(*smtp.Server)) *relay {
	t.Helper()
	r := &relay{faults: map[string]error{}}
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		s := &session{relay: r, conn: c}
		return s, s.at("EHLO", "")
	}))
	server.Domain = "localhost"
	server.ErrorLog = log.New(io.Discard, "", 0)
	r.roots, server.TLSConfig = authority(t)
	for _, f := range change {
		f(server)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r.address = listener.Addr().String()
	if server.Network == "implicit" {
		listener = tls.NewListener(listener, server.TLSConfig)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return r
}

func (r *relay) config() notify.MailConfig {
	return notify.MailConfig{
		Relay: r.address, Username: relayLogin[0], Password: relayLogin[1], From: "tokens@example.com",
		RootCAs: r.roots, Timeout: 20 * time.Second, Hello: "gateway.example.com",
	}
}

func (r *relay) mailer(t testing.TB, change ...func(*notify.MailConfig)) *notify.Mailer {
	t.Helper()
	c := r.config()
	for _, f := range change {
		f(&c)
	}
	m, err := notify.NewMailer(c)
	require.NoError(t, err)
	return m
}

func (r *relay) got() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.mails)
}

func (r *relay) fault(verb string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults[verb] = err
}

type session struct {
	*relay
	conn     *smtp.Conn
	from, to string
}

// at is asked at every verb what to do.
func (s *session) at(verb, arg string) error {
	s.mu.Lock()
	err := s.faults[verb]
	delete(s.faults, verb)
	always := s.always
	s.mu.Unlock()
	if err == nil && always != nil {
		err = always(verb, arg)
	}
	if errors.Is(err, errDrop) {
		_ = s.conn.Conn().Close()
	}
	return err
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, username, password string) error {
		if err := s.at("AUTH", ""); err != nil {
			return err
		}
		if [2]string{username, password} != relayLogin {
			return &smtp.SMTPError{Code: 535, Message: "not with " + password}
		}
		s.mu.Lock()
		s.logins++
		s.mu.Unlock()
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.from = from
	return s.at("MAIL", from)
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = to
	return s.at("RCPT", to)
}

func (s *session) Data(r io.Reader) error {
	if err := s.at("DATA", ""); err != nil {
		return err
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := s.at("end of DATA", ""); err != nil {
		return err
	}
	_, secure := s.conn.TLSConnectionState()
	s.mu.Lock()
	s.mails = append(s.mails, received{from: s.from, to: s.to, data: data, secure: secure})
	s.mu.Unlock()
	return s.at("answer", "") // accepted, but a drop here is never heard of
}

func (s *session) Reset() {}

func (s *session) Logout() error {
	if s.to == "" {
		return nil // STARTTLS ends the session before it
	}
	return s.at("QUIT", "")
}

// carrier is a Carrier that answers as told, for what needs no relay.
type carrier func(n *tokenstore.Notice) notify.Outcome

func (c carrier) Carry(_ context.Context, n *tokenstore.Notice) notify.Outcome { return c(n) }

// newImplicitRelay speaks TLS from the first byte.
func newImplicitRelay(t testing.TB) *relay {
	t.Helper()
	return newRelay(t, func(s *smtp.Server) { s.Network = "implicit" })
}
