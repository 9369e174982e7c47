package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// The channels of a notice.
const (
	ChannelMail    = "mail"
	ChannelWebhook = "webhook"
)

// Notifier writes messages to the outbox. Its fields are set once, before use.
type Notifier struct {
	// NewID makes an ID with a prefix that was never used.
	NewID func(prefix string) (token.ID, error)
	// Mail says that there is a relay: without one no copies are written for it,
	// so that none pile up.
	Mail bool
}

// Tell writes one copy of a message for each recipient, in the transaction of what
// it tells of. To tell the same twice tells it once. The time is the store's.
func (o *Notifier) Tell(tx *tokenstore.Tx, m Message) error {
	if err := m.check(); err != nil {
		return err
	}
	if err := complete(tx, &m); err != nil {
		return err
	}
	facts, err := json.Marshal(m.Facts)
	if err != nil {
		return fmt.Errorf("write down a notice of %s: %w", m.Event, err)
	}
	told, err := o.copies(tx, &m, facts)
	if err != nil || told > 0 || !waitedFor(m.Event) {
		return err
	}
	// Something waits for this notice, so that it must not be lost for want of a
	// recipient today: it stays until there is one.
	return o.put(tx, &m, facts, ChannelMail, nobody, nobody)
}

// nobody stands for the recipients that there are none of yet.
const nobody = ""

// copies writes one copy for each recipient that there is now, and gives how many
// that is, those written before included.
func (o *Notifier) copies(tx *tokenstore.Tx, m *Message, facts json.RawMessage) (n int, err error) {
	if o.Mail {
		addresses, err := recipients(tx, m)
		if err != nil {
			return 0, err
		}
		for _, address := range addresses {
			if err := o.put(tx, m, facts, ChannelMail, address, sameMailbox(address)); err != nil {
				return 0, err
			}
			n++
		}
	}
	hooks, err := tx.Webhooks()
	if err != nil {
		return 0, err
	}
	for i := range hooks {
		if !takes(&hooks[i], m.Event) {
			continue
		}
		if err := o.put(tx, m, facts, ChannelWebhook, string(hooks[i].ID), string(hooks[i].ID)); err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

func (o *Notifier) put(tx *tokenstore.Tx, m *Message, facts json.RawMessage, channel, recipient, key string) error {
	now, err := tx.Time()
	if err != nil {
		return err
	}
	id, err := o.NewID("ntc")
	if err != nil {
		return err
	}
	_, err = tx.InsertNotice(tokenstore.Notice{
		ID: id, Same: m.same(channel, key), Event: m.Event, AccountID: m.AccountID, TokenID: m.TokenID, PlanID: m.PlanID,
		Channel: channel, Recipient: recipient, Facts: facts, Urgency: urgency(m.Event), CreatedAt: now, NextAt: now,
	})
	return err
}

// Channel says whether there is any way to give notice: mail, or a webhook that is
// told of what needs notice. One that wants other events only would have actions
// announced to nobody.
func (o *Notifier) Channel(tx *tokenstore.Tx) (bool, error) {
	if o.Mail {
		return true, nil
	}
	hooks, err := tx.Webhooks()
	return slices.ContainsFunc(hooks, func(w tokenstore.Webhook) bool {
		return slices.ContainsFunc(token.Events(), func(e token.Event) bool { return waitedFor(e) && takes(&w, e) })
	}), err
}

// Accepted says whether the notice of a plan counts as given (L4).
func (o *Notifier) Accepted(tx *tokenstore.Tx, plan token.ID, now time.Time) (Verdict, error) {
	copies, err := tx.NoticesOfPlan(plan)
	if err != nil {
		return Verdict{}, err
	}
	return Judge(copies, now), nil
}

// takes says whether a webhook is told of an event.
func takes(w *tokenstore.Webhook, e token.Event) bool {
	return !w.Disabled && (len(w.Events) == 0 || slices.Contains(w.Events, string(e)))
}

// maxLast4 is what may be known of a secret: a caller that gives more than that
// has mistaken the secret for its hint.
const maxLast4 = 4

func (m *Message) check() error {
	switch {
	case !slices.Contains(token.Events(), m.Event):
		return fmt.Errorf("notify: %q is no event", m.Event)
	case m.AccountID == "" || m.TokenID == "":
		return fmt.Errorf("notify: a message of %s names no account or no token", m.Event)
	case len(m.Facts.Last4) > maxLast4:
		return fmt.Errorf("notify: a message of %s has more than the last %d characters of a secret", m.Event, maxLast4)
	}
	return nil
}

// same is what makes two copies the same one.
func (m *Message) same(channel, recipient string) string {
	subject := string(m.PlanID)
	if subject == "" {
		subject = fmt.Sprintf("%s %d", m.TokenID, m.Version)
	}
	if m.Distinct != "" {
		subject += " " + m.Distinct
	}
	return strings.Join([]string{string(m.Event), subject, channel, recipient}, "|")
}

// complete adds what people know the token by, where the caller left it out.
func complete(tx *tokenstore.Tx, m *Message) error {
	if m.Facts.TokenName == "" {
		switch t, err := tx.Token(m.TokenID); {
		case err == nil:
			m.Facts.TokenName = t.Name
		case !errors.Is(err, tokenstore.ErrNotFound):
			return err
		}
	}
	if m.Facts.Last4 != "" {
		return nil
	}
	secrets, err := tx.Secrets(m.TokenID)
	if err != nil {
		return err
	}
	for i := range secrets {
		if secrets[i].Status == token.Current && len(secrets[i].Last4) <= maxLast4 {
			m.Facts.Last4 = secrets[i].Last4
		}
	}
	return nil
}

// urgency of an event; lower goes first. Somebody may have to act at once on a
// change to a secret that they did not make, and must not wait behind a thousand
// notices of what happens in a week (F32).
func urgency(e token.Event) int {
	switch e {
	case token.EventCreated, token.EventRotated, token.EventRolledBack, token.EventSecretRevoked, token.EventDisabled,
		token.EventRevoked, token.EventDeleted, token.EventRetiredSecretUsed:
		return 0
	default:
		if e.Lifecycle() {
			return 1
		}
		return 2
	}
}
