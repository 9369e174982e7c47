package authority

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// The verbs about webhooks. They belong to no account, so that only those who
// run the gateway may carry them out.
const (
	VerbCreateWebhook   Verb = "webhook.create"
	VerbListWebhooks    Verb = "webhook.list"
	VerbShowWebhook     Verb = "webhook.show"
	VerbEditWebhook     Verb = "webhook.edit"
	VerbDeleteWebhook   Verb = "webhook.delete"
	VerbRotateWebhook   Verb = "webhook.rotate"
	VerbRollBackWebhook Verb = "webhook.rollback"
	VerbConfirmWebhook  Verb = "webhook.confirm"
	VerbTestWebhook     Verb = "webhook.test"

	// What becomes of one because of a configuration, or of a master key.
	VerbDeclareWebhook Verb = "webhook.declare"
	VerbReleaseWebhook Verb = "webhook.release"
	VerbRekeyWebhook   Verb = "webhook.rekey"
	VerbDisableWebhook Verb = "webhook.disable"
)

// MaxWebhooks is how many webhooks there can be before no more are created, and
// how many a configuration can declare. Each event makes a copy for each of them
// in the transaction of the change.
const MaxWebhooks = 50

// DefaultSigningGrace is how long the previous signing secret of a webhook signs
// unless asked otherwise.
const DefaultSigningGrace = 24 * time.Hour

// Webhook is a webhook without its secrets.
type Webhook struct {
	ID       token.ID
	URL      string
	Events   []string // empty: all
	Disabled bool
	// Managed says that the configuration owns its address and its events, and
	// SecretManaged that it owns its signing secret too.
	Managed, SecretManaged bool
	// HasSecret is false once its signing secret was lost with a master key.
	HasSecret bool
	// PreviousUntil is when the signing secret before a rotation stops signing;
	// zero: none is under way.
	PreviousUntil        time.Time
	CreatedAt, UpdatedAt time.Time
	Version              int64
}

func viewWebhook(w *tokenstore.Webhook, now time.Time) Webhook {
	v := Webhook{
		ID: w.ID, URL: w.URL, Events: slices.Clone(w.Events), Disabled: w.Disabled,
		Managed: w.ManagedBy != "", SecretManaged: ownsSecret(w.ManagedBy), HasSecret: len(w.Secret) > 0,
		CreatedAt: w.CreatedAt, UpdatedAt: w.UpdatedAt, Version: w.Version,
	}
	if notify.Rotating(w, now) {
		v.PreviousUntil = w.PreviousUntil
	}
	return v
}

// NewWebhook is what creating a webhook asks for; no events means all.
type NewWebhook struct {
	URL      string
	Events   []string
	Disabled bool
}

// EditWebhook is a change of a webhook; nil leaves a field as it is.
type EditWebhook struct {
	URL      *string
	Events   *[]string
	Disabled *bool
}

// IssuedWebhook is a webhook with the signing secret that it just got.
type IssuedWebhook struct {
	Webhook Webhook
	Secret  notify.SigningSecret
}

func (a *Authority) signer() *notify.Signer {
	return &notify.Signer{Ring: a.Ring, Random: a.Random}
}

// CreateWebhook makes a webhook and its signing secret. There is one for each
// address, so that asking twice makes no second.
func (a *Authority) CreateWebhook(ctx context.Context, by By, n NewWebhook) (IssuedWebhook, error) {
	var out IssuedWebhook
	err := a.change(ctx, by, VerbCreateWebhook, anything, func(s *step) error {
		out = IssuedWebhook{}
		hooks, err := s.tx.Webhooks()
		if err != nil {
			return err
		}
		if len(hooks) >= MaxWebhooks {
			return refuse(ErrInvalidState, fmt.Sprintf("there are %d webhooks, and no more are created: delete one that is not needed", len(hooks)))
		}
		id, err := a.NewID("whk")
		if err != nil {
			return err
		}
		w := tokenstore.Webhook{ID: id, URL: n.URL, Events: slices.Clone(n.Events), Disabled: n.Disabled, CreatedAt: s.now, UpdatedAt: s.now}
		if err := s.checkWebhook(&w, hooks); err != nil {
			return err
		}
		key, err := s.primary()
		if err != nil {
			return err
		}
		if out.Secret, err = a.signer().Create(&w, key); err != nil {
			return err
		}
		if err := s.tx.InsertWebhook(&w); err != nil {
			return err
		}
		out.Webhook = viewWebhook(&w, s.now)
		s.target = target{id: string(id)}
		return s.audit(nil, webhookFields(&w))
	})
	if err != nil {
		return IssuedWebhook{}, err
	}
	return out, nil
}

// checkWebhook judges what people choose of a webhook, among those that there are.
func (s *step) checkWebhook(w *tokenstore.Webhook, all []tokenstore.Webhook) error {
	if err := checkWebhookConfig(w.URL, w.Events); err != nil {
		return err
	}
	if s.a.Webhooks != nil {
		if err := s.a.Webhooks.CheckReach(w); err != nil {
			return invalid("url", problemOf(err))
		}
	}
	if slices.ContainsFunc(all, func(o tokenstore.Webhook) bool { return o.ID != w.ID && o.URL == w.URL }) {
		return invalid("url", "there is a webhook with this address already: edit that one (`webhook list`)")
	}
	return nil
}

func checkWebhookConfig(address string, events []string) error {
	if err := (&notify.WebhookConfig{URL: address}).Validate(); err != nil {
		return invalid("url", problemOf(err))
	}
	if err := (&notify.WebhookConfig{URL: address, Events: events}).Validate(); err != nil {
		return invalid("events", problemOf(err))
	}
	return nil
}

// problemOf leaves out what the field's name says already.
func problemOf(err error) string { return strings.TrimPrefix(err.Error(), "webhook: ") }

func (s *step) findWebhook(id token.ID, w *tokenstore.Webhook) (target, error) {
	t := target{id: string(id)}
	if !checkID(id) {
		return t, refuse(ErrNotFound, "there is no such webhook")
	}
	var err error
	*w, err = s.tx.Webhook(id)
	return t, found(err, "webhook")
}

// changeWebhook carries out a verb that changes one webhook. do changes the value;
// storing it and the audit entry come after. It stores nothing, and leaves no entry,
// when do says that nothing changed.
func (a *Authority) changeWebhook(ctx context.Context, by By, v Verb, id token.ID, do func(s *step, w *tokenstore.Webhook) (before, after fields, err error)) (Webhook, error) {
	var w tokenstore.Webhook
	var view Webhook
	find := func(s *step) (target, error) { return s.findWebhook(id, &w) }
	err := a.change(ctx, by, v, find, func(s *step) error {
		before, after, err := do(s, &w)
		if err != nil {
			return err
		}
		if len(before) > 0 || len(after) > 0 {
			w.UpdatedAt = s.now
			if err := s.tx.UpdateWebhook(&w); err != nil {
				return err
			}
			if err := s.audit(before, after); err != nil {
				return err
			}
		}
		view = viewWebhook(&w, s.now)
		return nil
	})
	if err != nil {
		return Webhook{}, err
	}
	return view, nil
}

// EditWebhook changes a webhook. version is the one that was read (If-Match). One
// that the configuration owns can be disabled and enabled, and no more.
func (a *Authority) EditWebhook(ctx context.Context, by By, id token.ID, version int64, e EditWebhook) (Webhook, error) {
	return a.changeWebhook(ctx, by, VerbEditWebhook, id, func(s *step, w *tokenstore.Webhook) (fields, fields, error) {
		if err := checkVersion(version, w.Version); err != nil {
			return nil, nil, err
		}
		was := webhookFields(w)
		set(&w.URL, e.URL)
		if e.Events != nil {
			w.Events = slices.Clone(*e.Events)
		}
		set(&w.Disabled, e.Disabled)
		before, after, err := differing(was, webhookFields(w))
		if err != nil || len(after) == 0 {
			return nil, nil, err
		}
		_, place := after["url"]
		_, events := after["events"]
		if w.ManagedBy != "" && (place || events) {
			return nil, nil, refuse(ErrManagedByConfig, "the configuration declares the address and the events of this webhook: change them there")
		}
		if place || events || !w.Disabled {
			hooks, err := s.tx.Webhooks()
			if err != nil {
				return nil, nil, err
			}
			if err := s.checkWebhook(w, hooks); err != nil {
				return nil, nil, err
			}
		}
		if !w.Disabled && len(w.Secret) == 0 {
			return nil, nil, refuse(ErrInvalidState, "the webhook lost its signing secret with a master key: give it a new one first (`webhook rotate`)")
		}
		return before, after, nil
	})
}

// DeleteWebhook removes a webhook. What waits to be sent to it is cancelled.
func (a *Authority) DeleteWebhook(ctx context.Context, by By, id token.ID) (Webhook, error) {
	var w tokenstore.Webhook
	var view Webhook
	find := func(s *step) (target, error) { return s.findWebhook(id, &w) }
	err := a.change(ctx, by, VerbDeleteWebhook, find, func(s *step) error {
		if w.ManagedBy != "" {
			return refuse(ErrManagedByConfig, "the configuration declares this webhook: take its line out there first")
		}
		if err := s.tx.DeleteWebhook(id); err != nil {
			return err
		}
		view = viewWebhook(&w, s.now)
		return s.audit(webhookFields(&w), nil)
	})
	if err != nil {
		return Webhook{}, err
	}
	return view, nil
}

// RotateWebhook gives a webhook a new signing secret. The one before signs as well
// for a grace period (R7), nil for a day.
func (a *Authority) RotateWebhook(ctx context.Context, by By, id token.ID, grace *time.Duration) (IssuedWebhook, error) {
	length := DefaultSigningGrace
	if grace != nil {
		length = *grace
	}
	if length < 0 || length > notify.MaxSigningGrace {
		return IssuedWebhook{}, invalid("grace_period_seconds", fmt.Sprintf("must be 0 to %d (90 days)", int64(notify.MaxSigningGrace/time.Second)))
	}
	var secret notify.SigningSecret
	view, err := a.changeWebhook(ctx, by, VerbRotateWebhook, id, func(s *step, w *tokenstore.Webhook) (fields, fields, error) {
		if err := refuseOwnedSecret(w); err != nil {
			return nil, nil, err
		}
		key, err := s.primary()
		if err != nil {
			return nil, nil, err
		}
		switch secret, err = a.signer().Rotate(w, key, length.Truncate(time.Microsecond), s.now); {
		case errors.Is(err, notify.ErrRotating):
			return nil, nil, refuse(ErrRotationInProgress, "the previous signing secret signs until "+w.PreviousUntil.Format(time.RFC3339)+
				": confirm the rotation under way to end it now, or roll it back")
		case errors.Is(err, notify.ErrSealed):
			return nil, nil, refuse(ErrInvalidState, "the present signing secret does not open, since its master key is missing or it is damaged: put the key's line back, or rotate with a grace period of 0 and give the receiver the new secret at once")
		case err != nil:
			return nil, nil, err
		}
		return nil, fields{"previous_secret_expires_at": stamp(w.PreviousUntil)}, nil
	})
	if err != nil {
		return IssuedWebhook{}, err
	}
	return IssuedWebhook{Webhook: view, Secret: secret}, nil
}

func refuseOwnedSecret(w *tokenstore.Webhook) error {
	if ownsSecret(w.ManagedBy) {
		return refuse(ErrManagedByConfig, "the configuration names the signing secret of this webhook: put another one there and reload, and the present one signs as well for a day")
	}
	return nil
}

// RollBackWebhook ends a rotation in favour of the signing secret before it: the
// new one is gone.
func (a *Authority) RollBackWebhook(ctx context.Context, by By, id token.ID) (Webhook, error) {
	return a.changeWebhook(ctx, by, VerbRollBackWebhook, id, func(s *step, w *tokenstore.Webhook) (fields, fields, error) {
		if err := refuseOwnedSecret(w); err != nil {
			return nil, nil, err
		}
		return s.endRotation(w, a.signer().RollBack)
	})
}

// ConfirmWebhook ends a rotation in favour of the new signing secret: the one
// before signs no more.
func (a *Authority) ConfirmWebhook(ctx context.Context, by By, id token.ID) (Webhook, error) {
	return a.changeWebhook(ctx, by, VerbConfirmWebhook, id, func(s *step, w *tokenstore.Webhook) (fields, fields, error) {
		return s.endRotation(w, a.signer().EndPrevious)
	})
}

func (s *step) endRotation(w *tokenstore.Webhook, end func(*tokenstore.Webhook, time.Time) error) (fields, fields, error) {
	before := fields{"previous_secret_expires_at": stamp(w.PreviousUntil)}
	switch err := end(w, s.now); {
	case errors.Is(err, notify.ErrNoRotation):
		return nil, nil, refuse(ErrInvalidState, "no rotation of the signing secret is under way: it has ended, or there was none")
	case err != nil:
		return nil, nil, err
	}
	return before, fields{"previous_secret_expires_at": nil}, nil
}

// Webhook shows one webhook.
func (a *Authority) Webhook(ctx context.Context, by By, id token.ID) (Webhook, error) {
	var w tokenstore.Webhook
	var view Webhook
	find := func(s *step) (target, error) { return s.findWebhook(id, &w) }
	err := a.see(ctx, by, VerbShowWebhook, find, func(s *step) error {
		view = viewWebhook(&w, s.now)
		return nil
	})
	if err != nil {
		return Webhook{}, err
	}
	return view, nil
}

// AllWebhooks lists the webhooks, the newest first. They are few.
func (a *Authority) AllWebhooks(ctx context.Context, by By) ([]Webhook, error) {
	var views []Webhook
	err := a.see(ctx, by, VerbListWebhooks, anything, func(s *step) error {
		hooks, err := s.tx.Webhooks()
		if err != nil {
			return err
		}
		views = make([]Webhook, 0, len(hooks))
		for i := range slices.Backward(hooks) {
			views = append(views, viewWebhook(&hooks[i], s.now))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return views, nil
}

// WebhookTest is what came back when a webhook was tried out.
type WebhookTest struct {
	ID       token.ID // the webhook-id that was sent
	Accepted bool
	Status   int    // that was answered; 0: nothing was
	Problem  string // in words; empty when it was accepted
}

// TestWebhook sends a webhook an event that means nothing, once and now, and says
// what came back. The request is made after the transaction, which must not wait
// for somebody else's machine.
func (a *Authority) TestWebhook(ctx context.Context, by By, id token.ID) (WebhookTest, error) {
	var w tokenstore.Webhook
	find := func(s *step) (target, error) { return s.findWebhook(id, &w) }
	err := a.see(ctx, by, VerbTestWebhook, find, func(*step) error {
		if len(w.Secret) == 0 {
			return refuse(ErrInvalidState, "the webhook lost its signing secret with a master key: give it a new one first (`webhook rotate`)")
		}
		return nil
	})
	if err != nil {
		return WebhookTest{}, err
	}
	if a.Webhooks == nil {
		return WebhookTest{}, errors.New("test a webhook: nothing sends to webhooks here")
	}
	test, err := a.NewID("tst")
	if err != nil {
		return WebhookTest{}, err
	}
	outcome, status := a.Webhooks.Test(ctx, &w, test)
	return WebhookTest{ID: test, Accepted: outcome.Accepted, Status: status, Problem: outcome.Problem}, nil
}

// webhookFields tell the whole address from another without repeating it: its path
// or query may be what its owner keeps others out by, and audit entries stay.
func webhookFields(w *tokenstore.Webhook) fields {
	return fields{"url": shownURL(w.URL), "events": list(w.Events), "disabled": w.Disabled, "managed_by": w.ManagedBy}
}

func shownURL(address string) string {
	u, err := url.Parse(address)
	if err != nil { // none that was stored
		return "(not an address)"
	}
	sum := sha256.Sum256([]byte(address))
	return u.Scheme + "://" + u.Host + "/… (sha256 " + hex.EncodeToString(sum[:8]) + ")"
}

// webhooksUnder lists the webhooks whose secrets are under a master key.
func (s *step) webhooksUnder(key string) ([]Webhook, error) {
	hooks, err := s.tx.Webhooks()
	if err != nil {
		return nil, err
	}
	var views []Webhook
	for i := range hooks {
		if hooks[i].KeyID == key {
			views = append(views, viewWebhook(&hooks[i], s.now))
		}
	}
	return views, nil
}

// RekeyWebhooks moves signing secrets that are under another master key to the
// primary, as far as this node's ring opens them. It writes nothing when there is
// nothing to move, and is meant to be called again and again.
func (a *Authority) RekeyWebhooks(ctx context.Context, by By) error {
	var settled bool
	err := a.see(ctx, by, VerbRekeyWebhook, anything, func(s *step) error {
		// A node whose ring lacks the primary leaves it to one that has it.
		key, err := s.tx.PrimaryKey()
		if err != nil {
			return err
		}
		settled = true
		if key == "" || !a.Ring.Has(key) {
			return nil
		}
		hooks, err := s.tx.Webhooks()
		for i := range hooks {
			settled = settled && (hooks[i].KeyID == key || !a.opens(&hooks[i], key))
		}
		return err
	})
	if err != nil || settled {
		return err
	}
	return a.change(ctx, by, VerbRekeyWebhook, anything, func(s *step) error {
		key, err := s.primary()
		if err != nil {
			return err
		}
		return s.rekeyWebhooks(key)
	})
}

// opens says whether a webhook's secrets can be moved to a key.
func (a *Authority) opens(w *tokenstore.Webhook, key string) bool {
	_, err := a.signer().Rekey(ptrTo(*w), key)
	return err == nil
}

func ptrTo[T any](v T) *T { return &v }

// rekeyWebhooks moves to a key what opens; the rest stays where it is.
func (s *step) rekeyWebhooks(key string) error {
	hooks, err := s.tx.Webhooks()
	if err != nil {
		return err
	}
	for i := range hooks {
		if _, err := s.rekeyWebhook(&hooks[i], key); err != nil {
			return err
		}
	}
	return nil
}

// rekeyWebhook moves the secrets of one webhook; stays is true when they do not open.
func (s *step) rekeyWebhook(w *tokenstore.Webhook, key string) (stays bool, err error) {
	was := w.KeyID
	moved, err := s.a.signer().Rekey(w, key)
	switch {
	case errors.Is(err, notify.ErrSealed):
		return true, nil
	case err != nil || !moved:
		return false, err
	}
	if err := s.tx.UpdateWebhook(w); err != nil {
		return false, err
	}
	return false, s.auditAs(VerbRekeyWebhook, target{id: string(w.ID)}, fields{"master_key": was}, fields{"master_key": key})
}

// freeWebhooks takes every webhook from under a master key: to the primary, or, when
// its secrets do not open, to no secret at all, disabled. It gives the latter.
func (s *step) freeWebhooks(key string) ([]Webhook, error) {
	to, err := s.primary()
	if err != nil {
		return nil, err
	}
	hooks, err := s.tx.Webhooks()
	if err != nil {
		return nil, err
	}
	var lost []Webhook
	for i := range hooks {
		w := &hooks[i]
		if w.KeyID != key {
			continue
		}
		stays, err := s.rekeyWebhook(w, to)
		if err != nil {
			return nil, err
		}
		if !stays {
			continue
		}
		before := fields{"master_key": w.KeyID, "disabled": w.Disabled}
		w.KeyID, w.Secret, w.Previous, w.PreviousUntil = to, []byte{}, nil, time.Time{}
		w.Disabled, w.UpdatedAt = true, s.now
		if err := s.tx.UpdateWebhook(w); err != nil {
			return nil, err
		}
		if err := s.auditAs(VerbDisableWebhook, target{id: string(w.ID)}, before, fields{"master_key": nil, "disabled": true}); err != nil {
			return nil, err
		}
		lost = append(lost, viewWebhook(w, s.now))
	}
	return lost, nil
}
