package authority

import (
	"context"
	"net/netip"

	"github.com/sallyport/sallyport/token"
)

// EndRetiredUse is why a token ended whose retired secret was used.
const EndRetiredUse = "retired_secret_used"

// RetiredUse is that somebody presented a secret that works no more: its grace
// period had ended, or it was replaced. It is no guess, since nobody finds a
// secret that once was one; either a client was forgotten, or it leaked.
type RetiredUse struct {
	TokenID, SecretID token.ID
	Address           netip.Addr // it came from there; zero: not known
}

// RevokeForRetiredUse revokes the token where its policy wants that
// (revoke_on_retired_use), and says whether it did. What the gate saw may be out
// of date by now, so that everything is judged anew here: a token that ended, a
// secret that is valid and a policy that changed are left alone.
func (a *Authority) RevokeForRetiredUse(ctx context.Context, by By, use RetiredUse) (revoked bool, err error) {
	var h held
	find := func(s *step) (target, error) { return s.hold(use.TokenID, &h) }
	err = a.change(ctx, by, VerbRevokeToken, find, func(s *step) error {
		revoked = false
		if !h.policy.RevokeOnRetiredUse || h.token.State == token.Revoked || h.token.State == token.Deleted {
			return nil
		}
		var used *token.SecretRecord
		for i := range h.secrets {
			if h.secrets[i].ID == use.SecretID && !h.secrets[i].ValidAt(s.now) {
				used = &h.secrets[i]
			}
		}
		if used == nil {
			return nil
		}
		was := tokenFields(&h.token)
		h.token.State, h.token.EndedAt, h.token.EndReason = token.Revoked, s.now, EndRetiredUse
		if err := s.save(&h); err != nil {
			return err
		}
		before, after, err := differing(was, tokenFields(&h.token))
		if err != nil {
			return err
		}
		after["secret_id"], after["last4"] = used.ID, used.Last4
		if use.Address.IsValid() {
			after["address"] = use.Address.String()
		}
		revoked = true
		return s.audit(before, after)
	})
	if err != nil {
		return false, err
	}
	return revoked, nil
}
