package authority_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// Design 3.4: a stored encrypted value keeps its key from being removed, and moves
// with the rotation of the primary.
func TestOneTimeCodesMoveWithThePrimaryKey(t *testing.T) {
	h, first, second := twoKeys(t)
	h.policy(func(p *token.Policy) { p.StepUp = []string{"disable"} })
	a, b := h.enrol(h.user("owner")), h.enrol(h.user("owner"))
	issued := h.create()
	require.EqualValues(t, 2, h.keys()[first].Codes)
	require.NoError(t, h.RotateMasterKey(ctx, kim, second))
	require.Zero(t, h.keys()[first].Codes)
	require.EqualValues(t, 2, h.keys()[second].Codes)
	must(h.DisableToken(ctx, a.by(a.code(0)), issued.Token.Token.ID, true))
	must(h.EnableToken(ctx, kim, issued.Token.Token.ID, true))
	must(h.DisableToken(ctx, b.by(b.code(0)), issued.Token.Token.ID, true))
	h.chainHolds()
}

// What is under a key keeps it: a removal is refused, and with force what this node
// can not open is reset, so that its user enrols anew.
func TestAKeyWithOneTimeCodesIsNotRemoved(t *testing.T) {
	for _, holds := range []bool{true, false} {
		h, first, second := twoKeys(t)
		a := h.enrol(h.user("owner"))
		h.write(func(tx *tokenstore.Tx) error { // as a node does that knows no codes
			check, _ := h.Ring.CheckValue(second)
			tx.Audit(storetest.Entry())
			return tx.PutMasterKey(tokenstore.MasterKey{ID: second, CheckValue: check, AddedAt: h.clock.Now(), Primary: true})
		})
		_, err := h.RemoveMasterKey(ctx, kim, first, false)
		require.ErrorIs(t, err, authority.ErrConfirmationRequired)
		require.ErrorContains(t, err, "one-time codes of 1 users")
		if !holds {
			h.write(func(tx *tokenstore.Tx) error {
				c, err := tx.OneTimeCodes(a.user.ID)
				if err != nil {
					return err
				}
				c.Secret[3] ^= 1
				tx.Audit(storetest.Entry())
				return tx.PutOneTimeCodes(&c)
			})
			require.NoError(t, h.RekeyCodes(ctx, system), "what does not open stays, and ends nothing")
		}
		head := h.head()
		_, err = h.RemoveMasterKey(ctx, kim, first, true)
		require.NoError(t, err)
		status, err := h.OTP(ctx, kim, a.user.ID)
		require.NoError(t, err)
		require.Equal(t, holds, status.Enrolled)
		entries := h.entries(head)
		if holds {
			require.Equal(t, "user.rekey-otp", entries[0].Verb)
		} else {
			require.Equal(t, "user.reset-otp", entries[0].Verb)
			require.Equal(t, string(a.user.ID), entries[0].Target)
		}
	}
}

// A gateway whose keys lack the primary leaves the moving to one that has it, as it
// does with webhooks.
func TestAGatewayWithoutThePrimaryMovesNoCodes(t *testing.T) {
	h, first, _ := twoKeys(t)
	h.enrol(h.user("owner"))
	lacking := &authority.Authority{Store: h.Store, Ring: storetest.Ring(t), Prefixes: h.Prefixes, Now: h.clock.Now, Random: h.Random, NewID: h.NewID}
	require.False(t, lacking.Ring.Has(first))
	head := h.head()
	require.NoError(t, lacking.RekeyCodes(ctx, system))
	require.Equal(t, head, h.head())
}
