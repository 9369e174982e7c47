package demo_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/smtp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/internal/demo"
)

func openMailbox(t *testing.T) (*demo.Mailbox, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	box := demo.OpenMailbox(listener, func() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) })
	t.Cleanup(func() { require.NoError(t, box.Close()) })
	return box, listener.Addr().String()
}

func send(t *testing.T, address, mail string) error {
	t.Helper()
	return smtp.SendMail(address, nil, "tokens@example.com", []string{"ada@example.com"}, []byte(strings.ReplaceAll(mail, "\n", "\r\n")))
}

const inTwoForms = `From: tokens@example.com
To: ada@example.com
Subject: =?utf-8?q?Token_=E2=82=AC?=
Message-ID: <ntc_1@example.com>
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary=b

--b
Content-Type: text/html; charset=utf-8

<p>no</p>
--b
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

It costs 1=E2=82=AC, and a line that is =
long.
--b--
`

func TestAMailIsKeptAsItsRecipientReadsIt(t *testing.T) {
	box, address := openMailbox(t)
	require.NoError(t, send(t, address, inTwoForms))
	m, next, err := box.Wait(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, 1, next)
	require.Equal(t, "ada@example.com", m.To)
	require.Equal(t, "Token €", m.Subject)
	require.Equal(t, "<ntc_1@example.com>", m.MessageID)
	require.Equal(t, "It costs 1€, and a line that is long.", strings.TrimSpace(m.Text))

	answer := httptest.NewRecorder()
	box.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/", nil))
	require.Equal(t, "Date: 2026-11-22T12:00:00Z\nTo: ada@example.com\nSubject: Token €\n\nIt costs 1€, and a line that is long.\n\n", answer.Body.String())
	require.Equal(t, "text/plain; charset=utf-8", answer.Header().Get("Content-Type"))
}

func TestAMailCannotControlTheTerminal(t *testing.T) {
	box, address := openMailbox(t)
	require.NoError(t, send(t, address, "Subject: =?utf-8?q?a=1B[2Jb?=\n\nc\x1b[2Jd\n"))
	m, _, err := box.Wait(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, "a[2Jb", m.Subject)
	require.Equal(t, "c[2Jd", strings.TrimSpace(m.Text))
}

func TestWhoWaitsForMailGetsItWhenItComes(t *testing.T) {
	box, address := openMailbox(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	got := make(chan demo.Mail)
	go func() {
		for n := range 2 {
			m, _, _ := box.Wait(ctx, n)
			got <- m
		}
	}()
	for n := range 2 {
		require.NoError(t, send(t, address, fmt.Sprintf("Subject: number %d\n\n.\n", n)))
		require.Equal(t, fmt.Sprintf("number %d", n), (<-got).Subject)
	}
	cancel()
	_, _, err := box.Wait(ctx, 2)
	require.ErrorIs(t, err, context.Canceled)
}

func TestWhatIsNoMailIsRefused(t *testing.T) {
	box, address := openMailbox(t)
	require.ErrorContains(t, send(t, address, "no header\n"), "554")
	require.ErrorContains(t, send(t, address, "Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b--\n"), "554")
	require.NoError(t, box.Close())
	require.NoError(t, box.Close(), "twice")
}

func FuzzMail(f *testing.F) {
	f.Add(inTwoForms)
	f.Add("Subject: x\n\ntext\n")
	f.Add("Content-Type: multipart/mixed\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := demo.ReadMail(strings.NewReader(text))
		if err == nil && strings.ContainsAny(m.Subject+m.Text, "\x1b\x00\x07") {
			t.Fatalf("%q", m)
		}
	})
}
