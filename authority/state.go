package authority

import (
	"context"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Why a token ended, as its record says for ever. What a person ended is never
// restored, so the reasons of people and those of the lifecycle are kept apart.
const (
	EndRevoked          = "revoked_by_person"
	EndDeleted          = "deleted_by_person"
	EndMasterKeyRemoved = "master_key_removed"
)

// EnableToken, DisableToken, RevokeToken and DeleteToken change the state.
// Repeating one that has happened changes nothing and is no error.
//
// None of them touches the token's secrets: the state is judged before them, and
// stops both of a rotation under way at once.
func (a *Authority) EnableToken(ctx context.Context, by By, id token.ID, confirm bool) (View, error) {
	return a.setState(ctx, by, VerbEnableToken, id, confirm)
}

// DisableToken stops a token until it is enabled again.
func (a *Authority) DisableToken(ctx context.Context, by By, id token.ID, confirm bool) (View, error) {
	return a.setState(ctx, by, VerbDisableToken, id, confirm)
}

// RevokeToken stops a token for good; it stays in the lists.
func (a *Authority) RevokeToken(ctx context.Context, by By, id token.ID, confirm bool) (View, error) {
	return a.setState(ctx, by, VerbRevokeToken, id, confirm)
}

// DeleteToken stops a token for good and takes it out of the lists. A tombstone
// stays, so that a use of its secrets can still be noticed.
func (a *Authority) DeleteToken(ctx context.Context, by By, id token.ID, confirm bool) (View, error) {
	return a.setState(ctx, by, VerbDeleteToken, id, confirm)
}

// warnings say what a confirmation is asked for.
var warnings = map[Verb]string{
	VerbEnableToken:  "The token's secrets are about to work again.",
	VerbDisableToken: "Every request with this token is refused until it is enabled again.",
	VerbRevokeToken:  "Every request with this token is refused for good: revoking cannot be undone.",
	VerbDeleteToken:  "Every request with this token is refused for good: a token that a person deleted cannot be restored.",
}

func (a *Authority) setState(ctx context.Context, by By, v Verb, id token.ID, confirmed bool) (View, error) {
	var (
		h   held
		out View
	)
	find := func(s *step) (target, error) { return s.hold(id, &h) }
	err := a.change(ctx, by, v, find, func(s *step) error {
		next, err := nextState(v, h.token.State, h.token.StateAt(&h.policy, s.now))
		if err != nil {
			return err
		}
		if next == h.token.State {
			out = h.view(s.now)
			return nil
		}
		if err := confirm(&h.policy, v, confirmed, warnings[v]); err != nil {
			return err
		}
		if err := s.setState(&h, v, next); err != nil {
			return err
		}
		out = h.view(s.now)
		return nil
	})
	if err != nil {
		return View{}, err
	}
	return out, nil
}

// setState writes a new state and its audit entry, and has people told.
func (s *step) setState(h *held, v Verb, next token.State) error {
	was := tokenFields(&h.token)
	h.token.State = next
	switch next {
	case token.Revoked:
		h.token.EndedAt, h.token.EndReason = s.now, EndRevoked
		if s.verb == VerbRemoveMasterKey {
			h.token.EndReason = EndMasterKeyRemoved
		}
	case token.Deleted:
		h.token.EndedAt, h.token.EndReason = s.now, EndDeleted
	default:
	}
	if err := s.save(h); err != nil {
		return err
	}
	if v == VerbEnableToken {
		// A token that could not be used was not unused.
		if err := s.markHistory(h.token.ID, func(h *tokenstore.History) { h.Observed = s.now }); err != nil {
			return err
		}
	}
	before, after, err := differing(was, tokenFields(&h.token))
	if err != nil {
		return err
	}
	var f notify.Facts
	if h.token.EndReason == EndMasterKeyRemoved {
		f.Reason = notify.ReasonMasterKeyRemoved
	}
	if err := s.tell(h, stateEvents[v], f); err != nil {
		return err
	}
	return s.auditAs(v, target{id: string(h.token.ID), account: h.token.AccountID}, before, after)
}

// stateEvents are what people are told when a verb has changed the state.
var stateEvents = map[Verb]token.Event{
	VerbEnableToken:  token.EventEnabled,
	VerbDisableToken: token.EventDisabled,
	VerbRevokeToken:  token.EventRevoked,
	VerbDeleteToken:  token.EventDeleted,
}

// nextState is the state that a verb leads to, from the stored one and the one
// that people see, which can be expired. The stored state means that there is
// nothing to do.
func nextState(v Verb, stored, seen token.State) (token.State, error) {
	switch v {
	case VerbEnableToken:
		switch seen {
		case token.Active, token.Disabled:
			return token.Active, nil
		case token.Expired:
			return 0, refuse(ErrInvalidState, "the token has expired: give it a later expires_at, where its policy lets that be edited, or create a new token")
		default:
		}
	case VerbDisableToken:
		// An expired one too: a later edit of expires_at must not bring it back.
		if seen != token.Revoked && seen != token.Deleted {
			return token.Disabled, nil
		}
	case VerbRevokeToken:
		if seen != token.Deleted {
			return token.Revoked, nil
		}
	case VerbDeleteToken:
		return token.Deleted, nil
	default:
	}
	return 0, refuse(ErrInvalidState, finalDetail(stored))
}

// finalDetail says why a token that ended cannot be changed.
func finalDetail(state token.State) string {
	return "the token is " + state.String() + ", which is final: create a new one"
}
