package authority

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Edit is what edit asks for; nil leaves a field as it is.
type Edit struct {
	Name      *string
	Access    *token.Access
	Scopes    *[]string
	AllowList *[]string
	AllowAny  bool
	ExpiresAt *time.Time // zero time: no expiry
	FreshOnly *bool
	Confirm   bool
}

// EditToken changes fields that the policy lets people edit. version is the one
// that was read (If-Match); it must be the present one.
//
// A field that is given the value it has is not edited, so that a client may
// send back all that it read. The token must satisfy the policy's allow-list
// rule afterwards, whichever field was edited.
//
// FreshOnly is not among the fields that a policy can open or close: it does not
// change what a token may do, and whoever fears for a token must be able to set
// it. Who may edit decides about both directions.
func (a *Authority) EditToken(ctx context.Context, by By, id token.ID, version int64, e Edit) (View, error) {
	var allowed token.AllowList
	if e.Name != nil {
		name, err := nameIn("name", *e.Name)
		if err != nil {
			return View{}, err
		}
		e.Name = &name
	}
	if e.AllowList != nil {
		var err error
		if allowed, err = token.ParseAllowList(*e.AllowList, e.AllowAny); err != nil {
			return View{}, asInvalid(err)
		}
	}
	var (
		h held
		v View
	)
	find := func(s *step) (target, error) { return s.hold(id, &h) }
	err := a.change(ctx, by, VerbEditToken, find, func(s *step) error {
		if err := checkVersion(version, h.token.Version); err != nil {
			return err
		}
		known, err := s.declared()
		if err != nil {
			return err
		}
		edited, err := e.apply(h.token, allowed, &h.policy, known, s.now)
		if err != nil {
			return err
		}
		before, after, err := differing(tokenFields(&h.token), tokenFields(&edited))
		if err != nil {
			return err
		}
		if err := checkEditable(after, &h.token, &edited, &h.policy, s.now); err != nil {
			return err
		}
		if len(after) == 0 {
			v = h.view(s.now)
			return nil
		}
		if err := checkAllowListRule(&edited, &h.policy, known); err != nil {
			return err
		}
		if h.token.StateAt(&h.policy, s.now) == token.Expired {
			// Its secrets are about to be valid again.
			if err := s.checkCaps(&h, h.working(s.now)); err != nil {
				return err
			}
		}
		if err := confirm(&h.policy, s.verb, e.Confirm, "The token is about to change, for everyone who uses it."); err != nil {
			return err
		}
		level := !edited.Grant.Equal(&h.token.Grant)
		told := factsOfEdit(&h.token, &edited, after)
		h.token = edited
		if err := s.save(&h); err != nil {
			return err
		}
		if level {
			if err := s.markHistory(id, func(h *tokenstore.History) { h.LevelSince = s.now }); err != nil {
				return err
			}
		}
		v = h.view(s.now)
		if err := s.tell(&h, token.EventEdited, told); err != nil {
			return err
		}
		return s.audit(before, after)
	})
	if err != nil {
		return View{}, err
	}
	return v, nil
}

// apply gives the token as it would be after the edit. The name and the
// allow-list were judged before, which needs no store.
func (e *Edit) apply(t token.Token, allowed token.AllowList, p *token.Policy, known scopeFinder, now time.Time) (token.Token, error) {
	if e.Name != nil {
		t.Name = *e.Name
	}
	if e.AllowList != nil {
		t.AllowList = allowed
	}
	if e.ExpiresAt != nil && !e.ExpiresAt.UTC().Truncate(time.Microsecond).Equal(t.ExpiresAt) {
		var err error
		if t.ExpiresAt, err = expiryIn(*e.ExpiresAt, p, t.LifetimeFrom, now); err != nil {
			return t, err
		}
	}
	if e.FreshOnly != nil {
		t.FreshOnly = *e.FreshOnly
	}
	if e.Access == nil && e.Scopes == nil {
		return t, nil
	}
	access, scopes := t.Grant.Access, t.Grant.Scopes
	if e.Access != nil && *e.Access != access {
		// Leaving custom leaves its scopes behind.
		access, scopes = *e.Access, nil
	}
	if e.Scopes != nil {
		scopes = *e.Scopes
	}
	if access == t.Grant.Access && sameScopes(scopes, t.Grant.Scopes) {
		// Not judged anew: a scope that is no longer declared may stand.
		return t, nil
	}
	var err error
	t.Grant, err = token.NewGrant(access, scopes, known)
	return t, asInvalid(err)
}

// factsOfEdit is what people are told of an edit: what was changed, and what the
// token may do if that was. Addresses of an allow-list are nothing for a mail.
func factsOfEdit(was, edited *token.Token, changed fields) notify.Facts {
	f := notify.Facts{Changed: slices.Sorted(maps.Keys(changed))}
	if edited.Name != was.Name {
		f.WasNamed = was.Name
	}
	if !edited.Grant.Equal(&was.Grant) {
		f.Access, f.Scopes = edited.Grant.Access.String(), edited.Grant.Scopes
	}
	return f
}

// sameScopes says whether a list that was asked for is the sorted one of a grant.
func sameScopes(asked, held []string) bool {
	return slices.Equal(slices.Compact(slices.Sorted(slices.Values(asked))), held)
}

// checkEditable refuses an edit that the policy or the token's state does not
// allow. changed holds the fields that would change.
func checkEditable(changed fields, was, edited *token.Token, p *token.Policy, now time.Time) error {
	switch was.StateAt(p, now) {
	case token.Active, token.Disabled:
	case token.Expired:
		// What has expired is changed only to live again, with all else that is
		// changed on the way.
		if edited.StateAt(p, now) == token.Expired && len(changed) > 0 {
			return refuse(ErrInvalidState, "the token has expired: an edit must give it a later expires_at, or create a new token")
		}
	default:
		return refuse(ErrInvalidState, finalDetail(was.State))
	}
	for _, field := range []token.Field{
		token.FieldName, token.FieldAccess, token.FieldScopes, token.FieldAllowList, token.FieldExpiresAt,
	} {
		if _, ok := changed[string(field)]; !ok || slices.Contains(p.Editable, field) {
			continue
		}
		if field == token.FieldScopes && edited.Grant.Access != token.Custom {
			continue // part of leaving custom, which is an edit of access
		}
		return &Error{Code: ErrForbidden.Code, Field: string(field), Detail: fmt.Sprintf(
			"the account's policy does not let %s be changed after creation (its knob editable): create a new token in its place", field)}
	}
	return nil
}
