package authority

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// EndReasserted is the end of a token that had ended in a later state of the store
// than the one that was restored. Whether it had been revoked or deleted, and by
// whom, the restored store no longer says.
const EndReasserted = "ended_before_restore"

// The verbs with which a gateway writes down again what it saw to end, after the
// store was put back to an earlier state.
const (
	VerbReassertToken Verb = "token.reassert"
	VerbReassertStore Verb = "store.reassert"
)

// ReassertBatch is how many records Reassert takes at once: few enough that nobody
// waits long for the store.
const ReassertBatch = 100

// Reasserted counts what was written again.
type Reasserted struct {
	Tokens  int // that had come back to life and are revoked
	Secrets int // that worked again and are retired
}

// Add sums up.
func (r *Reasserted) Add(o Reasserted) {
	r.Tokens += o.Tokens
	r.Secrets += o.Secrets
}

// Reassert has the store end what is known to have ended: changes of tokens and
// secrets with the highest version at which each was seen to have ended. A token
// that the store shows alive is revoked, a secret that works is retired. What the
// store has never heard of, or shows ended as well, stays as it is, so that
// any number of nodes may do the same at any time; but a version that is lower than
// the one known goes above it, so that no version stands for two states.
//
// It is one transaction, for ReassertBatch changes at most, and writes nothing when
// there is nothing to write.
func (a *Authority) Reassert(ctx context.Context, by By, ended []tokenstore.Change) (done Reasserted, err error) {
	if len(ended) > ReassertBatch {
		return done, errors.New("too much to write again in one transaction")
	}
	var work []revival
	err = a.see(ctx, by, VerbReassertToken, anything, func(s *step) (err error) {
		work, err = s.revivals(ended)
		return err
	})
	if err != nil || len(work) == 0 {
		return done, err
	}
	err = a.change(ctx, by, VerbReassertToken, anything, func(s *step) error {
		done = Reasserted{}
		work, err := s.revivals(ended) // as it stands now: another node may have been first
		if err != nil {
			return err
		}
		for i := range work {
			did, err := s.reassert(&work[i])
			if err != nil {
				return err
			}
			done.Add(did)
		}
		return nil
	})
	if err != nil {
		return Reasserted{}, err
	}
	return done, nil
}

// revival is a token that the store shows in a state from before its end, or from
// before the end of some of its secrets.
type revival struct {
	id      token.ID
	version int64 // the highest that is known
	over    bool  // the token itself has ended
	secrets []token.ID
}

// revivals finds the tokens about which the store is behind what is known.
func (s *step) revivals(ended []tokenstore.Change) ([]revival, error) {
	byToken := map[token.ID]*revival{}
	about := func(id token.ID, version int64) *revival {
		r := byToken[id]
		if r == nil {
			r = &revival{id: id}
			byToken[id] = r
		}
		r.version = max(r.version, version)
		return r
	}
	for _, c := range ended {
		switch id := token.ID(c.ID); c.Kind {
		case tokenstore.TokenKind:
			t, err := s.tx.Token(id)
			switch {
			case errors.Is(err, tokenstore.ErrNotFound):
			case err != nil:
				return nil, err
			case !isOver(&t):
				about(id, c.Version).over = true
			case t.Version < c.Version:
				about(id, c.Version)
			}
		case tokenstore.SecretKind:
			secret, err := s.tx.Secret(id)
			switch {
			case errors.Is(err, tokenstore.ErrNotFound):
			case err != nil:
				return nil, err
			case secret.Status != token.Retired:
				r := about(secret.TokenID, c.Version)
				r.secrets = append(r.secrets, id)
			}
		default:
		}
	}
	found := make([]revival, 0, len(byToken))
	for _, r := range byToken {
		found = append(found, *r)
	}
	slices.SortFunc(found, func(x, y revival) int { return cmp.Compare(x.id, y.id) })
	return found, nil
}

// isOver says whether a token has ended for good.
func isOver(t *token.Token) bool { return t.State == token.Revoked || t.State == token.Deleted }

// reassert ends a token or its secrets once more.
func (s *step) reassert(r *revival) (done Reasserted, err error) {
	var h held
	about, err := s.hold(r.id, &h)
	if err != nil {
		return done, err
	}
	was := tokenFields(&h.token)
	before, after := fields{"version": h.token.Version}, fields{}
	if err := s.tx.RaiseVersion(&h.token, r.version); err != nil {
		return done, err
	}
	if r.over {
		h.token.State, h.token.EndedAt, h.token.EndReason = token.Revoked, s.now, EndReasserted
		done.Tokens = 1
	}
	if err := s.save(&h); err != nil {
		return done, err
	}
	worked, retired := fields{}, fields{}
	for i := range h.secrets {
		secret := &h.secrets[i]
		if !slices.Contains(r.secrets, secret.ID) {
			continue
		}
		worked[string(secret.ID)] = secret.Status
		// saving may have retired it already
		if secret.Status != token.Retired {
			if err := s.retire(secret); err != nil {
				return done, err
			}
			done.Secrets++
		}
		retired[string(secret.ID)] = token.Retired
	}
	old, now, err := differing(was, tokenFields(&h.token))
	if err != nil {
		return done, err
	}
	for name := range now {
		before[name], after[name] = old[name], now[name]
	}
	if len(retired) > 0 {
		before["secrets"], after["secrets"] = worked, retired
	}
	after["version"] = h.token.Version
	return done, s.auditAs(VerbReassertToken, about, before, after)
}

// Restore is a store that was put back to an earlier state, as one node saw it.
type Restore struct {
	// From is where the node knew the change feed to be, To where it found it.
	From, To tokenstore.Position
	// EndsFrom is the first number of the feed up to From from which on the node
	// knows of everything that ended.
	EndsFrom int64
	Done     Reasserted
}

// NoteRestore puts into the audit log that a node has written all that it knew to
// have ended into the restored store, and how far that knowledge goes.
func (a *Authority) NoteRestore(ctx context.Context, by By, r Restore) error {
	return a.change(ctx, by, VerbReassertStore, anything, func(s *step) error {
		s.target = target{id: r.To.Epoch}
		return s.audit(
			fields{"epoch": r.From.Epoch, "change": r.From.Seq},
			fields{
				"epoch": r.To.Epoch, "change": r.To.Seq,
				"ends_known_from": r.EndsFrom, "ends_known_to": r.From.Seq,
				"tokens_revoked": r.Done.Tokens, "secrets_retired": r.Done.Secrets,
			})
	})
}
