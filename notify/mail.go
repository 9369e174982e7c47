package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"sync"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"github.com/sallyport/sallyport/tokenstore"
)

// Mailer carries copies to a relay. One connection carries one message to one
// recipient, so that what the relay says is about that one.
type Mailer struct {
	config    MailConfig
	host      string
	port      int
	templates *Templates
}

// NewMailer checks the configuration and loads the templates. It does not connect.
func NewMailer(c MailConfig) (*Mailer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	templates, err := LoadTemplates(c.Templates)
	if err != nil {
		return nil, err
	}
	if c.Timeout == 0 {
		c.Timeout = defaultMailTimeout
	}
	if c.TLS == "" {
		c.TLS = TLSStart
	}
	m := &Mailer{config: c, templates: templates}
	m.host, m.port, err = c.hostPort()
	return m, err
}

// Carry sends one message. Whatever the relay does, it returns within twice the
// timeout.
func (m *Mailer) Carry(ctx context.Context, n *tokenstore.Notice) Outcome {
	// Checked again: what is stored may be older than the check, or come from a
	// copy of another store.
	if err := CheckAddress(n.Recipient); err != nil {
		return Outcome{Refused: true, Problem: "the address " + err.Error()}
	}
	msg, err := m.compose(n)
	if err != nil {
		return Outcome{Problem: err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*m.config.Timeout)
	defer cancel()
	conn := new(ending)
	defer conn.close()
	// Deadlines are set anew on the way; this one holds whatever happens, and
	// lets Close break off what is under way.
	defer context.AfterFunc(ctx, conn.close)()
	client, err := m.connect(ctx, conn)
	if err != nil {
		return Outcome{Down: true, Problem: "connecting to the relay: " + m.greetingProblem(err)}
	}
	return m.transmit(client, n, msg)
}

// ending is a connection that can be closed from outside while others use it.
type ending struct {
	mu     sync.Mutex
	conn   net.Conn
	closed bool
}

func (e *ending) set(c net.Conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.conn = c
	if e.closed {
		_ = c.Close()
	}
}

func (e *ending) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	if e.conn != nil {
		_ = e.conn.Close()
	}
}

var errNotLoopback = errors.New("tls is off and the relay is not on this machine")

// connect dials, turns TLS on and logs in.
func (m *Mailer) connect(ctx context.Context, e *ending) (*smtp.Client, error) {
	config := &tls.Config{ServerName: m.host, RootCAs: m.config.RootCAs, MinVersion: tls.VersionTLS12}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		e.set(conn)
		switch m.config.TLS {
		case TLSImplicit:
			secure := tls.Client(conn, config)
			return secure, secure.HandshakeContext(ctx)
		case TLSOff:
			if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
				return nil, errNotLoopback
			}
		case TLSStart:
		}
		return conn, nil
	}
	options := []gomail.Option{
		gomail.WithPort(m.port), gomail.WithTimeout(m.config.Timeout), gomail.WithTLSConfig(config),
		gomail.WithDialContextFunc(dial), gomail.WithoutSMTPUTF8(), gomail.WithTLSPolicy(gomail.TLSMandatory),
	}
	switch m.config.TLS {
	case TLSImplicit:
		options = append(options, gomail.WithSSL())
	case TLSOff:
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS))
	case TLSStart:
	}
	if m.config.Hello != "" {
		options = append(options, gomail.WithHELO(m.config.Hello))
	}
	if m.config.Username != "" {
		options = append(options, gomail.WithSMTPAuthCustom(&login{config: &m.config, host: m.host}))
	}
	client, err := gomail.NewClient(m.host, options...)
	if err != nil {
		return nil, err
	}
	return client.DialToSMTPClientWithContext(ctx)
}

// login picks the way to log in that the relay offers. The password goes over TLS,
// or stays on this machine.
type login struct {
	config *MailConfig
	host   string
	chosen smtp.Auth
}

var errNoLogin = errors.New("the relay offers no way to log in that is known here (PLAIN, LOGIN)")

func (l *login) Start(server *smtp.ServerInfo) (string, []byte, error) {
	local := l.config.TLS == TLSOff
	switch {
	case slices.Contains(server.Auth, "PLAIN"):
		l.chosen = smtp.PlainAuth("", l.config.Username, l.config.Password, l.host, local)
	case slices.Contains(server.Auth, "LOGIN"):
		l.chosen = smtp.LoginAuth(l.config.Username, l.config.Password, l.host, local)
	default:
		return "", nil, errNoLogin
	}
	return l.chosen.Start(server)
}

func (l *login) Next(fromServer []byte, more bool) ([]byte, error) {
	return l.chosen.Next(fromServer, more)
}

// transmit hands over one message on a connection that is ready.
func (m *Mailer) transmit(client *smtp.Client, n *tokenstore.Notice, msg *gomail.Msg) Outcome {
	if err := client.Mail("<" + m.config.From + ">"); err != nil {
		// It refuses the sender, so it will refuse him with every message.
		return Outcome{Down: true, Problem: "MAIL: " + m.problem(err)}
	}
	if err := client.Rcpt("<" + n.Recipient + ">"); err != nil {
		return m.about("RCPT", err)
	}
	body, err := client.Data()
	if err != nil {
		return m.about("DATA", err)
	}
	if _, err := msg.WriteTo(body); err != nil {
		return Outcome{Problem: "sending the text: " + m.problem(err)}
	}
	if err := body.Close(); err != nil {
		return m.about("end of DATA", err)
	}
	// It is accepted, whatever comes after.
	_ = client.Quit()
	return Outcome{Accepted: true}
}

// about judges an answer that is about the recipient or the message.
func (m *Mailer) about(stage string, err error) Outcome {
	o := Outcome{Problem: stage + ": " + m.problem(err)}
	var answer *textproto.Error
	if errors.As(err, &answer) {
		// 421 is what a relay says that shuts down.
		o.Refused, o.Down = answer.Code >= 500 && answer.Code < 600, answer.Code == 421
	} else {
		o.Down = true
	}
	return o
}

// problem puts an error into words that may be stored and shown. The relay may
// repeat what it was told, so that the login is taken out.
func (m *Mailer) problem(err error) string {
	text := err.Error()
	var answer *textproto.Error
	var timeout net.Error
	switch {
	case errors.As(err, &answer):
		text = fmt.Sprintf("the relay answered %d %s", answer.Code, answer.Msg)
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrUnexpectedEOF):
		text = "the connection ended"
	case errors.As(err, &timeout) && timeout.Timeout():
		text = "the relay took too long"
	}
	for _, secret := range []string{m.config.Password, m.config.Username} {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "[redacted]")
		}
	}
	return text
}

// greetingProblem keeps the code only of what the relay says before there is a
// message: part of that answers the login, which it may repeat in any form.
func (m *Mailer) greetingProblem(err error) string {
	var answer *textproto.Error
	if errors.As(err, &answer) {
		return fmt.Sprintf("the relay answered %d", answer.Code)
	}
	return m.problem(err)
}

// compose makes the message. Every attempt makes the same one, its Message-ID
// included, so that a reader's program shows two of them as one.
func (m *Mailer) compose(n *tokenstore.Notice) (*gomail.Msg, error) {
	subject, text, html, err := m.templates.Render(n, m.config.BaseURL)
	if err != nil {
		return nil, err
	}
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent(), gomail.WithBoundary("part-"+string(n.ID)))
	if err := msg.From(m.config.From); err != nil {
		return nil, errors.New("the sender's address is not valid")
	}
	if err := msg.To(n.Recipient); err != nil {
		return nil, errors.New("the recipient's address is not valid")
	}
	_, domain, _ := strings.Cut(m.config.From, "@")
	msg.SetMessageIDWithValue(string(n.ID) + "@" + domain)
	msg.SetDateWithValue(n.CreatedAt.UTC())
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.Subject(subject)
	msg.SetBodyString(gomail.TypeTextPlain, text)
	msg.AddAlternativeString(gomail.TypeTextHTML, html)
	return msg, nil
}
