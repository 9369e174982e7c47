package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/mail"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// Limits of the mailbox: what is left running does not grow, and a mail of ours
// is far below them.
const (
	maxMails    = 1000
	maxMail     = 1 << 20
	maxParts    = 10
	mailTimeout = 30 * time.Second
)

// Mailbox is a mail server that keeps all mail that it takes, whoever it is for,
// and sends none of it on. It asks nobody for a password, so that it must listen
// on a loopback address only.
type Mailbox struct {
	now      func() time.Time
	server   *smtp.Server
	listener net.Listener
	done     chan struct{}

	mu      sync.Mutex
	first   int // the number of mails[0]: older ones were dropped
	mails   []Mail
	arrived chan struct{} // closed, and made anew, with each mail
}

// Mail is one mail, as its recipient reads it.
type Mail struct {
	At        time.Time // when it was taken
	To        string
	Subject   string
	MessageID string
	Text      string // its plain form
}

// OpenMailbox takes mail at a listener, which it closes in the end.
func OpenMailbox(listener net.Listener, now func() time.Time) *Mailbox {
	b := &Mailbox{now: now, listener: listener, done: make(chan struct{}), arrived: make(chan struct{})}
	b.server = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &mailSession{box: b}, nil }))
	b.server.Domain = "localhost"
	b.server.MaxMessageBytes = maxMail
	b.server.MaxRecipients = 1 // each recipient is sent a copy of its own
	b.server.ReadTimeout, b.server.WriteTimeout = mailTimeout, mailTimeout
	go func() {
		defer close(b.done)
		_ = b.server.Serve(listener) // ends by Close
	}()
	return b
}

// Close takes no more mail. It may be called twice.
func (b *Mailbox) Close() error {
	err := b.server.Close()
	// The server closes the listeners that it knows, and may not have come to know this
	// one yet.
	_ = b.listener.Close()
	<-b.done
	if errors.Is(err, smtp.ErrServerClosed) {
		return nil
	}
	return err
}

// Wait gives the mail with a number, counted from 0 in the order of arrival, as
// soon as it is there; of those that were dropped, the oldest that was not. The
// number that it gives is that of the next one.
func (b *Mailbox) Wait(ctx context.Context, number int) (m Mail, next int, err error) {
	for {
		b.mu.Lock()
		if number < b.first {
			number = b.first
		}
		if at := number - b.first; at < len(b.mails) {
			m := b.mails[at]
			b.mu.Unlock()
			return m, number + 1, nil
		}
		arrived := b.arrived
		b.mu.Unlock()
		select {
		case <-ctx.Done():
			return Mail{}, number, ctx.Err()
		case <-arrived:
		}
	}
}

func (b *Mailbox) keep(m Mail) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.mails) >= maxMails {
		b.mails, b.first = b.mails[1:], b.first+1
	}
	b.mails = append(b.mails, m)
	close(b.arrived)
	b.arrived = make(chan struct{})
}

// ServeHTTP shows all mails on one page, the newest last. It is plain text: what
// stands in a mail is never a page of its own.
func (b *Mailbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	b.mu.Lock()
	mails := append([]Mail(nil), b.mails...)
	b.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if len(mails) == 0 {
		_, _ = io.WriteString(w, "No mail has arrived yet.\n")
	}
	for i := range mails {
		_, _ = io.WriteString(w, mails[i].String()+"\n")
	}
}

// String is the mail with the head that people look at.
func (m *Mail) String() string {
	return fmt.Sprintf("Date: %s\nTo: %s\nSubject: %s\n\n%s\n", m.At.UTC().Format(time.RFC3339), m.To, m.Subject, strings.TrimSpace(m.Text))
}

// mailSession is one connection; go-smtp calls it from one goroutine.
type mailSession struct {
	box *Mailbox
	to  string
}

func (s *mailSession) Mail(string, *smtp.MailOptions) error { return nil }
func (s *mailSession) Reset()                               { s.to = "" }
func (s *mailSession) Logout() error                        { return nil }

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = to
	return nil
}

func (s *mailSession) Data(r io.Reader) error {
	m, err := readMail(r)
	if err != nil {
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "this is not a mail that can be read"}
	}
	m.At, m.To = s.box.now(), s.to
	s.box.keep(m)
	return nil
}

var (
	errNoText    = errors.New("demo: the mail has no plain text")
	errManyParts = errors.New("demo: the mail has too many parts")
)

// readMail reads a mail: its subject, and its text in plain form.
func readMail(r io.Reader) (Mail, error) {
	message, err := mail.ReadMessage(r)
	if err != nil {
		return Mail{}, err
	}
	m := Mail{MessageID: message.Header.Get("Message-Id")}
	if m.Subject, err = new(mime.WordDecoder).DecodeHeader(message.Header.Get("Subject")); err != nil {
		return Mail{}, err
	}
	// What is shown on a terminal must not be able to control it.
	m.Subject = printable(m.Subject)
	kind, params, err := mime.ParseMediaType(message.Header.Get("Content-Type"))
	if err != nil || !strings.HasPrefix(kind, "multipart/") {
		text, err := decode(message.Header.Get("Content-Transfer-Encoding"), message.Body)
		m.Text = printable(text)
		return m, err
	}
	parts := multipart.NewReader(message.Body, params["boundary"])
	for range maxParts {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return Mail{}, errNoText
		}
		if err != nil {
			return Mail{}, err
		}
		kind, _, err := mime.ParseMediaType(part.Header.Get("Content-Type"))
		if err != nil || kind != "text/plain" {
			continue
		}
		text, err := decode(part.Header.Get("Content-Transfer-Encoding"), part)
		m.Text = printable(text)
		return m, err
	}
	return Mail{}, errManyParts
}

func decode(encoding string, r io.Reader) (string, error) {
	if strings.EqualFold(encoding, "quoted-printable") {
		r = quotedprintable.NewReader(r)
	}
	text, err := io.ReadAll(io.LimitReader(r, maxMail))
	return string(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))), err
}

func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && (r < ' ' || 0x7f <= r && r < 0xa0) {
			return -1
		}
		return r
	}, text)
}
