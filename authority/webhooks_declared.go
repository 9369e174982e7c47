package authority

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/tokenstore"
)

// DeclaredWebhook is a webhook that a configuration owns: its address and its
// events, and its signing secret when it names one.
type DeclaredWebhook struct {
	URL    string
	Events []string // empty: all
	// Secret is what the configuration wants requests signed with; zero: one that
	// is made here, and that people rotate.
	Secret notify.SigningSecret
}

// ownedSecret ends the hash of a declaration that names the signing secret too. The
// secret itself is in no hash.
const ownedSecret = "+secret"

func ownsSecret(managedBy string) bool { return strings.HasSuffix(managedBy, ownedSecret) }

// hash identifies the declaration.
func (d *DeclaredWebhook) hash() (string, error) {
	hash, err := hashOf(fields{"url": d.URL, "events": list(d.Events)})
	if err == nil && !d.Secret.IsZero() {
		hash += ownedSecret
	}
	return hash, err
}

func checkDeclaredWebhooks(declared []DeclaredWebhook) error {
	if len(declared) > MaxWebhooks {
		return invalid("webhooks", fmt.Sprintf("there can be %d at most", MaxWebhooks))
	}
	for i := range declared {
		d := &declared[i]
		record := fmt.Sprintf("webhook number %d", i+1) // an address may be what keeps others out
		if err := checkWebhookConfig(d.URL, d.Events); err != nil {
			return within(record, err)
		}
		if slices.ContainsFunc(declared[:i], func(o DeclaredWebhook) bool { return o.URL == d.URL }) {
			return invalid(record, "its address is declared twice: remove one of the declarations")
		}
	}
	return nil
}

// planWebhooks compares the declared webhooks with the stored ones, by address. One
// that people made is taken over with its signing secret.
//
// One that is no longer declared is released and disabled: nothing says any more that
// it should be told of anything. It is not deleted, because its receiver holds the
// signing secret, and a line that was mistyped, or a configuration that did not get
// to run, must not cost that.
func (s *step) planWebhooks(d *Declarations) ([]planned, error) {
	stored, err := s.tx.Webhooks()
	if err != nil {
		return nil, err
	}
	var plan []planned
	for i := range d.Webhooks {
		declared := &d.Webhooks[i]
		hash, err := declared.hash()
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(stored, func(w tokenstore.Webhook) bool { return w.URL == declared.URL })
		if at < 0 {
			p, err := s.newDeclared(declared, hash)
			if err != nil {
				return nil, err
			}
			plan = append(plan, p)
			continue
		}
		if p, changed := s.takeOver(&stored[at], declared, hash); changed {
			plan = append(plan, p)
		}
	}
	for i := range stored {
		if old := stored[i]; old.ManagedBy != "" && !slices.ContainsFunc(d.Webhooks, func(w DeclaredWebhook) bool { return w.URL == old.URL }) {
			plan = append(plan, s.releaseWebhook(old))
		}
	}
	return plan, nil
}

func (s *step) newDeclared(declared *DeclaredWebhook, hash string) (planned, error) {
	id, err := s.a.NewID("whk")
	if err != nil {
		return planned{}, err
	}
	w := tokenstore.Webhook{
		ID: id, URL: declared.URL, Events: slices.Clone(declared.Events), ManagedBy: hash, CreatedAt: s.now, UpdatedAt: s.now,
	}
	p := planned{verb: VerbDeclareWebhook, name: string(id), after: webhookFields(&w)}
	p.write = func(tx *tokenstore.Tx) error {
		key, err := s.primary()
		if err != nil {
			return err
		}
		if declared.Secret.IsZero() {
			_, err = s.a.signer().Create(&w, key)
		} else {
			err = s.a.signer().Adopt(&w, key, declared.Secret, 0, s.now)
		}
		if err != nil {
			return err
		}
		return tx.InsertWebhook(&w)
	}
	return p, nil
}

// takeOver makes a stored webhook as it is declared. Whether it is disabled is no
// part of a declaration, and stays as people set it; but one that nobody owned, or
// that had lost its signing secret and gets one now, is told again.
func (s *step) takeOver(old *tokenstore.Webhook, declared *DeclaredWebhook, hash string) (p planned, changed bool) {
	newSecret := !declared.Secret.IsZero() && !s.a.signer().Holds(old, declared.Secret)
	if old.ManagedBy == hash && slices.Equal(old.Events, declared.Events) && !newSecret {
		return planned{}, false
	}
	w := *old
	w.Events, w.ManagedBy, w.UpdatedAt = slices.Clone(declared.Events), hash, s.now
	hasSecret := len(old.Secret) > 0
	if old.ManagedBy == "" && hasSecret || !hasSecret && newSecret {
		w.Disabled = false
	}
	p = planned{verb: VerbDeclareWebhook, name: string(old.ID), before: webhookFields(old), after: webhookFields(&w)}
	if newSecret {
		p.before["signing_secret"], p.after["signing_secret"] = "previous", "from the configuration"
	}
	p.write = func(tx *tokenstore.Tx) error {
		if newSecret {
			key, err := s.primary()
			if err != nil {
				return err
			}
			// Receivers that have not switched yet go on verifying for a while (R7).
			if err := s.a.signer().Adopt(&w, key, declared.Secret, DefaultSigningGrace, s.now); err != nil {
				return err
			}
		}
		return tx.UpdateWebhook(&w)
	}
	return p, true
}

func (s *step) releaseWebhook(old tokenstore.Webhook) planned {
	w := old
	w.ManagedBy, w.Disabled, w.UpdatedAt = "", true, s.now
	return planned{
		verb: VerbReleaseWebhook, name: string(old.ID), before: webhookFields(&old), after: webhookFields(&w),
		write: func(tx *tokenstore.Tx) error { return tx.UpdateWebhook(&w) },
	}
}
