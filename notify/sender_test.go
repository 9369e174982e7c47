package notify_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

func TestMailIsSentOnceOverTLSWithALogin(t *testing.T) {
	for name, mode := range map[string]notify.TLSMode{"starttls": notify.TLSStart, "by default": "", "implicit": notify.TLSImplicit} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.user("kim@example.com", "owner")
			r := newRelay(t)
			if mode == notify.TLSImplicit {
				r = newImplicitRelay(t)
			}
			h.tell(h.message(token.EventCreated))
			s := h.sender(r.mailer(t, func(c *notify.MailConfig) { c.TLS = mode }))
			require.Equal(t, 1, h.pass(s))
			require.Zero(t, h.pass(s))
			h.advance(30 * 24 * time.Hour)
			require.Zero(t, h.pass(s))
			mails := r.got()
			require.Len(t, mails, 1)
			require.Equal(t, "kim@example.com", mails[0].to)
			require.Equal(t, "tokens@example.com", mails[0].from)
			require.True(t, mails[0].secure)
			require.Equal(t, 1, r.logins)
			n := h.notices()[0]
			require.Equal(t, tokenstore.NoticeAccepted, n.State)
			require.Equal(t, fmt.Sprintf("<%s@example.com>", n.ID), mails[0].message(t).Header.Get("Message-Id"))
		})
	}
}

// F31: whatever goes wrong at whichever verb, the message arrives, normally once,
// at most twice, and then under one Message-ID.
func TestAFaultAtAnyVerbLosesNoMessage(t *testing.T) {
	verbs := []string{"EHLO", "AUTH", "MAIL", "RCPT", "DATA", "end of DATA", "answer", "QUIT"}
	faults := map[string]error{"4xx": temporary, "5xx": forGood, "drop": errDrop}
	for _, verb := range verbs {
		for name, fault := range faults {
			if verb == "answer" && name != "drop" {
				continue // the relay took it, so that it would lie
			}
			t.Run(verb+" "+name, func(t *testing.T) {
				h := newHouse(t)
				h.user("kim@example.com", "owner")
				r := newRelay(t)
				r.fault(verb, fault)
				h.tell(h.message(token.EventRotated))
				s := h.sender(r.mailer(t))
				require.Equal(t, 1, h.pass(s))
				if verb != "QUIT" {
					n := h.notices()[0]
					require.Equal(t, tokenstore.NoticeWaiting, n.State)
					require.NotEmpty(t, n.Problem)
					require.NotContains(t, n.Problem, relayLogin[1])
					about := name == "5xx" && (verb == "RCPT" || verb == "DATA" || verb == "end of DATA")
					require.Equal(t, about, !n.RefusedFrom.IsZero(), "only a refusal of this recipient counts as one")
					h.advance(time.Minute)
					require.Equal(t, 1, h.pass(s))
				}
				require.Equal(t, tokenstore.NoticeAccepted, h.notices()[0].State)
				mails := r.got()
				if verb == "answer" {
					require.Len(t, mails, 2)
					require.Equal(t, mails[0].message(t).Header.Get("Message-Id"), mails[1].message(t).Header.Get("Message-Id"))
					require.Equal(t, string(mails[0].data), string(mails[1].data), "the very same message")
				} else {
					require.Len(t, mails, 1)
				}
			})
		}
	}
}

// dying is a store that fails from some write on: a process that was killed.
type dying struct {
	tokenstore.Store
	writes atomic.Int32
	last   int32
}

var errKilled = errors.New("killed")

func (d *dying) Write(ctx context.Context, f func(*tokenstore.Tx) error) error {
	if d.writes.Add(1) > d.last {
		return errKilled
	}
	return d.Store.Write(ctx, f)
}

func TestACrashBetweenAcceptanceAndItsRecordSendsTheSameMessageTwice(t *testing.T) {
	h := newHouse(t)
	h.user("kim@example.com", "owner")
	r := newRelay(t)
	h.tell(h.message(token.EventRotated))
	killed := h.sender(r.mailer(t))
	killed.Store = &dying{Store: h.store, last: 1} // the claim is the last that it writes
	_, err := killed.SendDue(t.Context())
	require.ErrorIs(t, err, errKilled)
	require.Len(t, r.got(), 1)

	s := h.sender(r.mailer(t))
	require.Zero(t, h.pass(s), "the claim holds until its time is over")
	h.advance(15 * time.Minute)
	require.Equal(t, 1, h.pass(s))
	mails := r.got()
	require.Len(t, mails, 2)
	require.Equal(t, mails[0].message(t).Header.Get("Message-Id"), mails[1].message(t).Header.Get("Message-Id"))
	h.advance(24 * time.Hour)
	require.Zero(t, h.pass(s))
}

func TestTwoSendersAtOnceSendEachMessageOnce(t *testing.T) {
	h := newHouse(t)
	const messages = 40
	h.user("kim@example.com", "owner")
	for i := range messages {
		m := h.message(token.EventRotated)
		m.Version = int64(i)
		h.tell(m)
	}
	var mu sync.Mutex
	sent := map[token.ID]int{}
	count := carrier(func(n *tokenstore.Notice) notify.Outcome {
		mu.Lock()
		defer mu.Unlock()
		sent[n.ID]++
		return notify.Outcome{Accepted: true}
	})
	var group sync.WaitGroup
	for range 2 {
		s := h.sender(count)
		s.Workers = 3
		group.Go(func() {
			_, err := s.SendDue(t.Context())
			if err != nil && !errors.Is(err, tokenstore.ErrConflict) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	h.pass(h.sender(count))
	require.Len(t, sent, messages)
	for id, n := range sent {
		require.Equal(t, 1, n, id)
	}
}

// F32: a message about security does not wait behind a queue of others, and the
// rate is kept.
func TestUrgentMessagesOvertakeAQueueAndTheRateHolds(t *testing.T) {
	h := newHouse(t)
	h.user("kim@example.com", "owner")
	for i := range 60 {
		m := h.message(token.EventEdited)
		m.Version = int64(i)
		h.tell(m)
		h.advance(time.Second)
	}
	var order []token.Event
	s := h.sender(carrier(func(n *tokenstore.Notice) notify.Outcome {
		order = append(order, n.Event)
		return notify.Outcome{Accepted: true}
	}))
	s.PerMinute = 60
	require.Equal(t, 10, h.pass(s), "a sixth of a minute's at once")
	require.Zero(t, h.pass(s))
	h.tell(h.message(token.EventRevoked))
	h.advance(time.Second)
	require.Equal(t, 1, h.pass(s))
	require.Equal(t, token.EventRevoked, order[len(order)-1])
	total := 11
	for range 30 {
		h.advance(time.Second)
		total += h.pass(s)
	}
	require.Equal(t, 41, total)
}

func TestRetriesBackOffForDaysAndEndWithAnAlarm(t *testing.T) {
	h := newHouse(t)
	h.user("kim@example.com", "owner")
	h.tell(h.message(token.EventRotated))
	began := h.Now()
	var waits []time.Duration
	s := h.sender(carrier(func(*tokenstore.Notice) notify.Outcome { return notify.Outcome{Problem: "not today"} }))
	for h.notices()[0].State == tokenstore.NoticeWaiting {
		require.Equal(t, 1, h.pass(s))
		n := h.notices()[0]
		wait := n.NextAt.Sub(h.Now())
		waits = append(waits, wait)
		h.advance(wait)
	}
	require.Equal(t, []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute}, waits[:4])
	require.Equal(t, 4*time.Hour, waits[len(waits)-2])
	n := h.notices()[0]
	require.Equal(t, tokenstore.NoticeFailed, n.State)
	require.Equal(t, "not today", n.Problem)
	require.GreaterOrEqual(t, n.DoneAt.Sub(began), 7*24*time.Hour)
	require.Less(t, n.DoneAt.Sub(began), 7*24*time.Hour+5*time.Hour)
	require.Len(t, h.alarms, 1)
	require.Contains(t, h.alarms[0], "given up")
}

func TestANoticeThatAnActionWaitsForIsNeverGivenUp(t *testing.T) {
	h := newHouse(t)
	h.user("kim@example.com", "owner")
	m := h.message(token.EventDeletionNotice)
	m.PlanID = "pln_1"
	h.tell(m)
	s := h.sender(carrier(func(*tokenstore.Notice) notify.Outcome { return notify.Outcome{Problem: "not today"} }))
	for range 100 {
		require.Equal(t, 1, h.pass(s))
		h.advance(4 * time.Hour)
	}
	require.Equal(t, tokenstore.NoticeWaiting, h.notices()[0].State)
	require.NotEmpty(t, h.alarms)
	h.pass(h.sender(carrier(func(*tokenstore.Notice) notify.Outcome { return notify.Outcome{Accepted: true} })))
	require.Equal(t, tokenstore.NoticeAccepted, h.notices()[0].State)
}

func TestARelayThatIsDownIsNotTriedWithEachMessage(t *testing.T) {
	h := newHouse(t)
	h.user("kim@example.com", "owner")
	for i := range 20 {
		m := h.message(token.EventRotated)
		m.Version = int64(i)
		h.tell(m)
	}
	tried, down := 0, true
	s := h.sender(carrier(func(*tokenstore.Notice) notify.Outcome {
		tried++
		return notify.Outcome{Accepted: !down, Down: down, Problem: "refused"}
	}))
	require.Equal(t, 20, h.pass(s))
	require.Equal(t, 1, tried)
	down = false
	for range 5 {
		h.advance(time.Minute)
		h.pass(s)
	}
	require.Equal(t, 21, tried)
	for _, n := range h.notices() {
		require.Equal(t, tokenstore.NoticeAccepted, n.State)
	}
}

// F31: one byte a second must not hold a worker for ever.
func TestASlowRelayIsGivenUpWithinABound(t *testing.T) {
	h := newHouse(t)
	h.user("kim@example.com", "owner")
	h.tell(h.message(token.EventRotated))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for i := 0; ; i++ { // a greeting that never ends
					if _, err := conn.Write([]byte{"220-wait\r\n"[i%10]}); err != nil {
						return
					}
					time.Sleep(10 * time.Millisecond)
				}
			}()
		}
	}()
	m, err := notify.NewMailer(notify.MailConfig{Relay: listener.Addr().String(), From: "tokens@example.com", Timeout: 300 * time.Millisecond})
	require.NoError(t, err)
	began := time.Now()
	require.Equal(t, 1, h.pass(h.sender(m)))
	require.Less(t, time.Since(began), 30*time.Second)
	n := h.notices()[0]
	require.Equal(t, tokenstore.NoticeWaiting, n.State)
	require.Contains(t, n.Problem, "too long")
}

func TestCloseBreaksOffWhatIsUnderWayAndItIsSentAgain(t *testing.T) {
	h := newHouse(t)
	h.user("kim@example.com", "owner")
	r := newRelay(t)
	arrived := make(chan struct{}, 1)
	release := make(chan struct{})
	r.always = func(verb, _ string) error {
		if verb == "RCPT" {
			arrived <- struct{}{}
			<-release
			return temporary
		}
		return nil
	}
	s := h.sender(r.mailer(t))
	s.Poll = time.Hour
	s.Start()
	s.Start()
	h.tell(h.message(token.EventRotated))
	s.Kick()
	<-arrived
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	close(release)
	n := h.notices()[0]
	require.Equal(t, tokenstore.NoticeWaiting, n.State)
	require.Empty(t, n.Claim, "whoever comes next need not wait for the claim to end")
	r.mu.Lock()
	r.always = nil
	r.mu.Unlock()
	require.Equal(t, 1, h.pass(h.sender(r.mailer(t))))
	require.Len(t, r.got(), 1)
}

func TestASenderThatNeverStartedCanBeClosed(t *testing.T) {
	s := &notify.Sender{}
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
}

func TestATLSFailureSendsNothing(t *testing.T) {
	for name, make := range map[string]func(t *testing.T) *notify.Mailer{
		"a relay without STARTTLS": func(t *testing.T) *notify.Mailer {
			return newRelay(t, func(s *smtp.Server) { s.TLSConfig = nil; s.AllowInsecureAuth = true }).mailer(t)
		},
		"a certificate of nobody that is trusted": func(t *testing.T) *notify.Mailer {
			return newRelay(t).mailer(t, func(c *notify.MailConfig) { c.RootCAs = nil })
		},
		"plain text where TLS is due": func(t *testing.T) *notify.Mailer {
			return newRelay(t).mailer(t, func(c *notify.MailConfig) { c.TLS = notify.TLSImplicit })
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.user("kim@example.com", "owner")
			h.tell(h.message(token.EventRotated))
			m := make(t)
			require.Equal(t, 1, h.pass(h.sender(m)))
			n := h.notices()[0]
			require.Equal(t, tokenstore.NoticeWaiting, n.State)
			require.True(t, strings.HasPrefix(n.Problem, "connecting to the relay: "), n.Problem)
		})
	}
}

func TestAPasswordThatTheRelayRepeatsIsNotStored(t *testing.T) {
	h := newHouse(t)
	h.user("kim@example.com", "owner")
	h.tell(h.message(token.EventRotated))
	r := newRelay(t)
	m := r.mailer(t, func(c *notify.MailConfig) { c.Password = "wrong-pony" })
	require.Equal(t, 1, h.pass(h.sender(m)))
	n := h.notices()[0]
	require.Contains(t, n.Problem, "535")
	require.NotContains(t, n.Problem, "wrong-pony")
}

func TestMailWithoutTLSGoesToThisMachine(t *testing.T) {
	h := newHouse(t)
	h.user("kim@example.com", "owner")
	h.tell(h.message(token.EventRotated))
	r := newRelay(t, func(s *smtp.Server) { s.TLSConfig = nil; s.AllowInsecureAuth = true })
	require.Equal(t, 1, h.pass(h.sender(r.mailer(t, func(c *notify.MailConfig) { c.TLS = notify.TLSOff }))))
	require.Len(t, r.got(), 1)
}

// What was called off while it was on its way may have arrived.
func TestANoticeThatIsCalledOffUnderWayMayBeKnown(t *testing.T) {
	h := newHouse(t)
	h.user("kim@example.com", "owner")
	m := h.message(token.EventDeletionNotice)
	m.PlanID = "pln_1"
	h.tell(m)
	s := h.sender(carrier(func(*tokenstore.Notice) notify.Outcome {
		h.write(func(tx *tokenstore.Tx) error { return tx.CancelNotices("pln_1", h.Now()) })
		return notify.Outcome{Accepted: true}
	}))
	require.Equal(t, 1, h.pass(s))
	n := h.notices()[0]
	require.Equal(t, tokenstore.NoticeCancelled, n.State)
	require.True(t, n.MayBeKnown())
}
