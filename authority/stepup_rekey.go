package authority

import (
	"context"
	"errors"

	"github.com/sallyport/sallyport/tokenstore"
)

// rekeyBatch is how many users' codes one step moves: few enough that nobody waits
// long for the store.
const rekeyBatch = 200

// RekeyCodes moves the secrets of one-time codes that are under another master key
// to the primary, as far as this node holds their key; the rest stays where it is.
func (a *Authority) RekeyCodes(ctx context.Context, by By) error {
	var primary string
	err := a.see(ctx, by, VerbRekeyOTP, anything, func(s *step) (err error) {
		primary, err = s.tx.PrimaryKey()
		return err
	})
	// A node whose ring lacks the primary leaves it to one that has it.
	if err != nil || primary == "" || !a.Ring.Has(primary) {
		return err
	}
	for _, key := range a.Ring.IDs() {
		if key == primary {
			continue
		}
		for {
			settled := true
			err := a.see(ctx, by, VerbRekeyOTP, anything, func(s *step) error {
				n, err := s.tx.OneTimeCodesUnderKey(key)
				settled = n == 0
				return err
			})
			if err != nil {
				return err
			}
			if settled {
				break
			}
			moved := 0
			err = a.change(ctx, by, VerbRekeyOTP, anything, func(s *step) (err error) {
				moved, err = s.freeCodes(key, false)
				return err
			})
			if err != nil {
				return err
			}
			if moved == 0 {
				break // what is left does not open
			}
		}
	}
	return nil
}

// freeCodes takes a batch of users' codes from under a key, to the primary. Those
// that do not open stay, or with reset are forgotten, so that their users enrol
// anew.
func (s *step) freeCodes(key string, reset bool) (moved int, err error) {
	primary, err := s.primary()
	if err != nil || primary == key {
		return 0, err
	}
	list, err := s.tx.ListOneTimeCodesUnderKey(key, "", rekeyBatch)
	if err != nil {
		return 0, err
	}
	for i := range list {
		c := &list[i]
		switch err := s.moveCodes(c, primary); {
		case err == nil:
			if err := s.tx.PutOneTimeCodes(c); err != nil {
				return moved, err
			}
			moved++
		case !errors.Is(err, tokenstore.ErrSealed):
			return moved, err
		case reset:
			if err := s.resetSealed(c); err != nil {
				return moved, err
			}
			moved++
		}
	}
	if moved == 0 {
		return 0, nil
	}
	return moved, s.auditAs(VerbRekeyOTP, target{id: key}, fields{"master_key": key}, fields{"master_key": primary, "users": moved})
}

// resetSealed forgets codes whose key is lost.
func (s *step) resetSealed(c *tokenstore.OneTimeCodes) error {
	user, err := s.tx.User(c.UserID)
	if err != nil {
		return err
	}
	if err := s.tx.DeleteOneTimeCodes(c.UserID); err != nil {
		return err
	}
	return s.auditAs(VerbResetOTP, target{id: string(c.UserID), account: user.AccountID},
		fields{"enrolled": len(c.Secret) > 0}, fields{"enrolled": false, "reason": EndMasterKeyRemoved})
}
