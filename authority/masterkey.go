package authority

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// NodeLiveFor is how long after its last report a node counts as running. It is
// several reports long, so that one that is slow is not taken for gone.
const NodeLiveFor = 30 * time.Second

// EnsureKeys makes the store know all of the ring's keys, so that any of them can
// become the primary. It fails when the ring cannot serve the store: a key in use
// is missing, or its bytes differ. It writes nothing when nothing is new. (The
// primary of a new store is named by its adapter, when it is opened.)
func (a *Authority) EnsureKeys(ctx context.Context, by By) error {
	var settled bool
	err := a.see(ctx, by, VerbAddMasterKey, anything, func(s *step) error {
		missing, err := s.missingKeys()
		settled = len(missing) == 0
		return err
	})
	if err != nil || settled {
		return err
	}
	return a.change(ctx, by, VerbAddMasterKey, anything, func(s *step) error {
		missing, err := s.missingKeys()
		if err != nil {
			return err
		}
		for _, key := range missing {
			if err := s.tx.PutMasterKey(key); err != nil {
				return err
			}
			if err := s.auditAs(s.verb, target{id: key.ID}, nil, fields{"check_value": key.CheckValue}); err != nil {
				return err
			}
		}
		return nil
	})
}

// missingKeys are the ring's keys that the store is to know and does not.
func (s *step) missingKeys() ([]tokenstore.MasterKey, error) {
	known, err := s.tx.MasterKeys()
	if err != nil {
		return nil, err
	}
	if err := s.a.Ring.CheckAgainst(known); err != nil {
		return nil, err
	}
	var missing []tokenstore.MasterKey
	for _, id := range s.a.Ring.IDs() {
		if slices.ContainsFunc(known, func(k tokenstore.MasterKey) bool { return k.ID == id }) {
			continue
		}
		check, _ := s.a.Ring.CheckValue(id)
		missing = append(missing, tokenstore.MasterKey{ID: id, CheckValue: check, AddedAt: s.now})
	}
	return missing, nil
}

// MasterKeys counts what is under each key, and tells which keys the nodes hold.
func (a *Authority) MasterKeys(ctx context.Context, by By) ([]tokenstore.MasterKey, []tokenstore.Node, error) {
	var (
		keys  []tokenstore.MasterKey
		nodes []tokenstore.Node
	)
	err := a.see(ctx, by, VerbShowMasterKeys, anything, func(s *step) (err error) {
		if keys, err = s.tx.MasterKeys(); err != nil {
			return err
		}
		nodes, err = s.tx.Nodes()
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return keys, nodes, nil
}

// findKey reads what the store knows of a master key.
func (s *step) findKey(id string, key *tokenstore.MasterKey) (target, error) {
	t := target{id: id}
	keys, err := s.tx.MasterKeys()
	if err != nil {
		return t, err
	}
	i := slices.IndexFunc(keys, func(k tokenstore.MasterKey) bool { return k.ID == id })
	if i < 0 {
		return t, refuse(ErrNotFound, "the store knows no such master key: add its line to the master key file of every node, and restart or reload them")
	}
	*key = keys[i]
	return t, nil
}

// RotateMasterKey makes another key the primary: new lookup values are made with
// it, and what is used moves under it; the signing secrets of webhooks, which are
// few, move at once. Every node that is running must hold the
// key, since one that does not would not find the tokens that are issued from
// now on. The audit entry is sealed under the new primary, so that it vouches for
// all before it once the old key is gone.
func (a *Authority) RotateMasterKey(ctx context.Context, by By, id string) error {
	var key tokenstore.MasterKey
	find := func(s *step) (target, error) { return s.findKey(id, &key) }
	err := a.change(ctx, by, VerbRotateMasterKey, find, func(s *step) error {
		if key.Primary {
			// Asking again moves what could not be moved the first time.
			return s.rekeyWebhooks(id)
		}
		if check, ok := a.Ring.CheckValue(id); !ok || check != key.CheckValue {
			return refuse(ErrInvalidState, "this node's master key file lacks the key, or holds other bytes under its ID")
		}
		nodes, err := s.tx.Nodes()
		if err != nil {
			return err
		}
		if lacking := nodesLacking(nodes, key, s.now); len(lacking) > 0 {
			return refuse(ErrInvalidState, "these running nodes do not hold the key yet: "+strings.Join(lacking, ", ")+
				". Add its line to their master key files and reload them; `node list` shows what they hold")
		}
		was, err := s.tx.PrimaryKey()
		if err != nil {
			return err
		}
		key.Primary = true
		if err := s.tx.PutMasterKey(key); err != nil {
			return err
		}
		if err := s.audit(fields{"primary": was}, fields{"primary": id}); err != nil {
			return err
		}
		return s.rekeyWebhooks(id)
	})
	if err != nil {
		return err
	}
	// Of these there may be many, so that they move in steps of their own.
	return a.RekeyCodes(ctx, by)
}

// nodesLacking names the running nodes that do not hold a key as the store knows it.
func nodesLacking(nodes []tokenstore.Node, key tokenstore.MasterKey, now time.Time) []string {
	var lacking []string
	for _, node := range nodes {
		if now.Sub(node.SeenAt) <= NodeLiveFor && node.Keys[key.ID] != key.CheckValue {
			lacking = append(lacking, node.ID)
		}
	}
	return lacking
}

// removeBatch is how many tokens one step of a removal ends, each with an audit
// entry: few enough that nobody waits long for the store.
const removeBatch = 100

// RemoveMasterKey forgets a key that is not the primary, and with it every
// secret under it: nothing can find them any more.
//
// While tokens in use have secrets under it, it is refused without force, and
// the newest of the tokens that it would touch come with the refusal. With force
// a token is revoked when no other secret of it works; else only the secret is
// retired, and a token that lost its current one can be rotated at once. The same
// goes for webhooks: with force those whose signing secrets open move to the
// primary, and the others lose theirs and are disabled. What was ended is returned,
// also when a later step fails; asking again goes on from there.
func (a *Authority) RemoveMasterKey(ctx context.Context, by By, id string, force bool) (KeyLoss, error) {
	var lost KeyLoss
	for {
		batch, more, err := a.removeSome(ctx, by, id, force)
		lost.Tokens = append(lost.Tokens, batch.Tokens...)
		lost.Webhooks = append(lost.Webhooks, batch.Webhooks...)
		if err != nil || !more {
			return lost, err
		}
	}
}

// KeyLoss is what the removal of a master key ended, or with a refusal would end.
type KeyLoss struct {
	Tokens   []token.Token // that were revoked; with a refusal those that it touches
	Webhooks []Webhook     // that lost their signing secrets
}

// removeSome is one transaction of a removal. more is false once the key is gone.
func (a *Authority) removeSome(ctx context.Context, by By, id string, force bool) (lost KeyLoss, more bool, err error) {
	var key tokenstore.MasterKey
	find := func(s *step) (target, error) { return s.findKey(id, &key) }
	err = a.change(ctx, by, VerbRemoveMasterKey, find, func(s *step) (err error) {
		lost, more = KeyLoss{}, false
		switch {
		case key.Primary:
			return refuse(ErrInvalidState, "the key is the primary: make another one the primary first (`master-key rotate`)")
		case key.Live == 0 && key.Webhooks == 0 && key.Codes == 0:
			if err := s.tx.DeleteMasterKey(id); err != nil {
				return err
			}
			return s.audit(fields{"check_value": key.CheckValue, "lost_alerts": key.Retired}, nil)
		case force && key.Codes > 0:
			more = true
			_, err = s.freeCodes(id, true)
			return err
		case force && key.Webhooks > 0:
			more = true
			lost.Webhooks, err = s.freeWebhooks(id)
			return err
		case force:
			more = true
			lost.Tokens, err = s.endUnderKey(id)
			return err
		}
		return s.refuseRemoval(&key, &lost)
	})
	if err != nil && !errors.Is(err, ErrConfirmationRequired) {
		return KeyLoss{}, false, err
	}
	return lost, more, err
}

// refuseRemoval says what is under a key, and gives it.
func (s *step) refuseRemoval(key *tokenstore.MasterKey, lost *KeyLoss) (err error) {
	var reasons []string
	if key.Live > 0 {
		if lost.Tokens, _, err = s.tx.TokensUnderKey(key.ID, tokenstore.Page{Limit: tokenstore.MaxLimit}); err != nil {
			return err
		}
		reasons = append(reasons, fmt.Sprintf(
			"%d secrets in use are under the key and would stop working. Each moves to the primary when it is next used: wait, or rotate its token, or use force", key.Live))
	}
	if key.Webhooks > 0 {
		if lost.Webhooks, err = s.webhooksUnder(key.ID); err != nil {
			return err
		}
		reasons = append(reasons, fmt.Sprintf(
			"the signing secrets of %d webhooks are under the key. A running gateway that holds the key moves them to the primary within minutes, and `master-key rotate` with the primary's ID at once; rotate the signing secrets of what stays (`webhook rotate ID --grace 0`), or use force, which disables webhooks whose secrets can not be moved", key.Webhooks))
	}
	if key.Codes > 0 {
		reasons = append(reasons, fmt.Sprintf(
			"the one-time codes of %d users are under the key. `master-key rotate` with the primary's ID moves them where this node holds the key; with force, those that can not be moved are reset, and their users enrol anew", key.Codes))
	}
	return refuse(ErrConfirmationRequired, strings.Join(reasons, "; and "))
}

// endUnderKey ends what works only by a key: one batch of tokens, of which it
// gives those that it revoked.
func (s *step) endUnderKey(keyID string) ([]token.Token, error) {
	tokens, _, err := s.tx.TokensUnderKey(keyID, tokenstore.Page{Limit: removeBatch})
	if err != nil {
		return nil, err
	}
	var ended []token.Token
	for _, t := range tokens {
		var h held
		if _, err := s.hold(t.ID, &h); err != nil {
			return nil, err
		}
		revoked, err := s.endSecrets(&h, keyID)
		if err != nil {
			return nil, err
		}
		if revoked {
			ended = append(ended, h.token)
		}
	}
	return ended, nil
}

// endSecrets revokes a token that has no working secret but those under a key,
// or else retires those.
func (s *step) endSecrets(h *held, keyID string) (revoked bool, err error) {
	keys, err := s.tx.SecretKeys(h.token.ID)
	if err != nil {
		return false, err
	}
	var lost []*token.SecretRecord
	works := false
	for i := range h.secrets {
		switch secret := &h.secrets[i]; {
		case secret.Status == token.Retired:
		case keys[secret.ID] == keyID:
			lost = append(lost, secret)
		case secret.ValidAt(s.now):
			works = true
		}
	}
	if !works {
		return true, s.setState(h, VerbRevokeToken, token.Revoked)
	}
	before, after := fields{}, fields{}
	for _, secret := range lost {
		before[string(secret.ID)] = secret.Status
		after[string(secret.ID)] = token.Retired
	}
	if err := s.save(h); err != nil {
		return false, err
	}
	for _, secret := range lost {
		if err := s.retire(secret); err != nil {
			return false, err
		}
		if err := s.tell(h, token.EventSecretRevoked, notify.Facts{Last4: secret.Last4, Reason: notify.ReasonMasterKeyRemoved}); err != nil {
			return false, err
		}
	}
	about := target{id: string(h.token.ID), account: h.token.AccountID}
	return false, s.auditAs(s.verb, about, fields{"secrets": before}, fields{"secrets": after})
}
