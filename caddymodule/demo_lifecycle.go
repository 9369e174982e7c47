package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/internal/demo"
	"github.com/sallyport/sallyport/token"
)

// The windows of a life in a minute. Between a notice and its act there is time
// enough for the late request also on a machine that is slow.
const (
	lifeDowngrade = 24 * time.Second
	lifeDelete    = 32 * time.Second
	lifeNotice    = 16 * time.Second
	// lifeLimit is when a story that does not come to its end is given up.
	lifeLimit = 5 * time.Minute
	// lifePace is how often a token that is in use is used.
	lifePace = 400 * time.Millisecond
)

// openMailbox takes the mail, and shows it where only this machine reaches it.
func (d *demonstration) openMailbox(context.Context) error {
	listener, err := listenHere()
	if err != nil {
		return fmt.Errorf("the mailbox: %w", err)
	}
	d.relay = listener.Addr().String()
	d.mailbox = demo.OpenMailbox(listener, time.Now)
	d.undo = append(d.undo, d.mailbox.Close)
	if d.mailPage, err = d.serve(d.mailbox); err != nil {
		return fmt.Errorf("the page of the mailbox: %w", err)
	}
	return nil
}

// lifePolicy is what the Caddyfile says besides when there is a mailbox.
func (d *demonstration) lifePolicy() string {
	if d.mailbox == nil {
		return ""
	}
	return fmt.Sprintf(`		# A mailbox that the demo opens.
		mail %s {
			tls off
			from tokens@example.com
		}
		# Seconds instead of days: the preset says 45d, 45d and 7d.
		policy default {
			preset mercury
			downgrade_unused %s
			delete_unused %s
			notice %s
			restore_window 1h
		}
`, d.relay, lifeDowngrade, lifeDelete, lifeNotice)
}

// life is the story of a few tokens while it happens. What is told follows what
// happens, mail by mail, and not the clock.
type life struct {
	*demonstration
	out     io.Writer
	started time.Time
	api     *http.Client // of the API's consumers

	parts []*part
	next  int // the number of the next mail

	traffic sync.WaitGroup
	// background runs something until the demo ends.
	background func(func(context.Context))

	mu      sync.Mutex
	refused error // the first that was refused of what must pass
	served  int
}

// part is a token's part in the story.
type part struct {
	name    string
	ask     api.NewToken
	begin   func(context.Context, *part) error
	hear    func(context.Context, *part, token.Event) error
	issued  api.Issued
	outcome string // what came of it; empty: it has not come yet
	waits   string // for what
	tries   int
}

// live tells the story to its end.
func (d *demonstration) live(ctx context.Context, out io.Writer) error {
	l := &life{demonstration: d, out: out, started: time.Now()}
	l.api = &http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second}
	defer l.api.CloseIdleConnections()
	l.parts = l.cast()
	for _, p := range l.parts {
		p.ask.Name = p.name
	}
	if _, err := io.WriteString(out, l.prologue()); err != nil {
		return err
	}
	err := l.tell(ctx)
	if ctx.Err() != nil { // Ctrl-C ends the demo at any time
		fmt.Fprintln(out)
		return nil
	}
	return err
}

func (l *life) tell(ctx context.Context) error {
	running, stop := context.WithCancel(ctx)
	defer l.traffic.Wait()
	defer stop()
	l.background = func(f func(context.Context)) { l.traffic.Go(func() { f(running) }) }
	if err := l.play(running); err != nil {
		return err
	}
	if _, err := io.WriteString(l.out, l.epilogue()); err != nil || !l.options.keep {
		return err
	}
	for {
		if err := l.listen(running); err != nil {
			return err
		}
	}
}

// play goes on until something came of every part.
func (l *life) play(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, lifeLimit)
	defer cancel()
	for _, p := range l.parts {
		var err error
		if p.issued, err = l.issue(limited, p.ask); err != nil {
			return err
		}
		if err := p.begin(limited, p); err != nil {
			return err
		}
	}
	for {
		waits := l.waits()
		if len(waits) == 0 {
			return l.conclude(limited)
		}
		err := l.listen(limited)
		if errors.Is(limited.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("the demo waited %s in vain for: %s. The log may say why; --keep leaves it behind, in the folder of --dir", lifeLimit, strings.Join(waits, "; "))
		}
		if err != nil {
			return err
		}
	}
}

// waits lists what has not come to pass.
func (l *life) waits() (list []string) {
	for _, p := range l.parts {
		if p.outcome == "" && p.waits != "" {
			list = append(list, p.name+": "+p.waits)
		}
	}
	return list
}

// listen waits for one mail, tells of it, and lets the token's part go on.
func (l *life) listen(ctx context.Context) error {
	m, next, err := l.mailbox.Wait(ctx, l.next)
	if err != nil {
		return err
	}
	l.next = next
	for _, p := range l.parts {
		if id := string(p.issued.Token.ID); strings.Contains(m.Text, id) {
			l.say("mail", p.name, "to %s: %s", m.To, m.Subject)
			l.show(&m)
			event, err := l.eventOf(ctx, p.issued.Token.ID, &m)
			if err != nil {
				return err
			}
			return p.hear(ctx, p, event)
		}
	}
	l.say("mail", "-", "to %s: %s", m.To, m.Subject)
	l.show(&m)
	return nil
}

// eventOf finds the notice that a mail is a copy of, by the ID that both have.
func (l *life) eventOf(ctx context.Context, id token.ID, m *demo.Mail) (token.Event, error) {
	for n, err := range l.client.Notices(ctx, api.NoticeFilter{TokenID: id}) {
		if err != nil {
			return "", err
		}
		if strings.HasPrefix(m.MessageID, "<"+string(n.ID)+"@") {
			return n.Event, nil
		}
	}
	return "", errors.New("a mail came that is in no list of notices")
}

// say tells of one thing, with its moment.
func (l *life) say(who, about, format string, args ...any) {
	fmt.Fprintf(l.out, "%6.1f s  %-8s  %-10s  %s\n", time.Since(l.started).Seconds(), who, about, fmt.Sprintf(format, args...))
}

func (l *life) show(m *demo.Mail) {
	if !l.options.mails {
		return
	}
	for line := range strings.Lines(m.String()) {
		fmt.Fprint(l.out, "          | ", line)
	}
}

func (l *life) prologue() string {
	kept := "removed in the end"
	if l.options.keep {
		kept = "left behind"
	}
	return fmt.Sprintf(`A life in a minute: five tokens, and a policy that counts seconds instead of days.

  %-3s  without using a permission, and the token loses it
  %-3s  without any use, and the token is deleted
  %-3s  before either of them, its people are told by mail

  Gate       http://%s, in front of a sample API
  Admin API  http://%s%s
  Mailbox    http://%s/ shows every mail in full
  Folder     %s
             %s; the configuration, the database and the log are in it

`, lifeDowngrade, lifeDelete, lifeNotice, l.gate, l.admin, adminBase, l.mailPage, l.dir, kept)
}

func (l *life) epilogue() string {
	var text strings.Builder
	text.WriteString("\nWhat came of them:\n\n")
	for _, p := range l.parts {
		fmt.Fprintf(&text, "  %-10s  %s\n", p.name, p.outcome)
	}
	if l.options.keep {
		fmt.Fprintf(&text, `
It goes on. Look at it from another terminal:

    %[1]s lifecycle plan --address %[2]s
    %[1]s notice list --address %[2]s
    %[1]s audit list --address %[2]s

Ctrl-C ends the demo.

`, l.options.program, l.admin)
	}
	return text.String()
}
