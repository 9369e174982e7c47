package authority_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

func (h *house) rotateFor(id token.ID, r authority.Rotation) (authority.Issued, error) {
	return h.RotateToken(ctx, kim, id, r)
}

func (h *house) state(id token.ID) token.State {
	h.t.Helper()
	v, err := h.Token(ctx, kim, id)
	require.NoError(h.t, err)
	return v.State
}

// verbs lists the audit entries of one request, the first first.
func (h *house) verbs(requestID string) []string {
	h.t.Helper()
	entries, _, err := h.AuditEntries(ctx, kim, tokenstore.AuditQuery{})
	require.NoError(h.t, err)
	var list []string
	for i := range entries {
		if entries[i].RequestID == requestID {
			list = append([]string{entries[i].Verb}, list...)
		}
	}
	return list
}

func TestAtTheCapOneSecretIsGivenUpForTheNext(t *testing.T) {
	// T10, T16, T17, T18: named by its last 4 characters, revoked first.
	h := build(t, capped(3, 0))
	first, second, third := h.create(), h.create(), h.create()
	by := kim
	by.RequestID = "req-room"
	n := h.newToken()
	n.RevokeLast4 = first.Secret.Last4()
	issued, err := h.CreateToken(ctx, by, n)
	require.NoError(t, err)
	require.Equal(t, token.Revoked, h.state(first.Token.Token.ID), "it had no other secret")
	require.Equal(t, token.Active, h.state(second.Token.Token.ID))
	require.Equal(t, []string{"token.revoke", "token.create"}, h.verbs("req-room"), "T16: first the one, then the other")

	issued, err = h.rotateFor(issued.Token.Token.ID, authority.Rotation{Mode: token.RotateTimed, RevokeLast4: third.Secret.Last4()})
	require.NoError(t, err)
	require.NotNil(t, issued.Token.Previous, "there was room for an overlap")
	require.Equal(t, token.Revoked, h.state(third.Token.Token.ID))
	h.unchanged(authority.ErrTokenLimitReached, func() error { return h.tryCreate() })
}

func TestNamingTheSecretThatIsRotatedEndsItAtOnce(t *testing.T) {
	// T17, also where the policy has no mode now (T15 binds only below the cap)
	h := build(t, capped(1, 0), func(p *token.Policy) { p.RotationModes = []token.RotationMode{token.RotateUntilConfirmed} })
	issued := h.create()
	id := issued.Token.Token.ID
	h.unchanged(authority.ErrTokenLimitReached, func() error { return h.rotateError(id, "") })
	h.unchanged(authority.ErrInvalidField, func() error {
		_, err := h.rotateFor(id, authority.Rotation{Mode: token.RotateUntilConfirmed, RevokeLast4: issued.Secret.Last4()})
		return err
	})
	h.unchanged(authority.ErrInvalidField, func() error { return h.rotateError(id, token.RotateNow) }) // which the policy has not
	next, err := h.rotateFor(id, authority.Rotation{RevokeLast4: issued.Secret.Last4()})
	require.NoError(t, err)
	require.Nil(t, next.Token.Previous)
	require.Equal(t, id, next.Token.Token.ID, "S6")
	require.NotEqual(t, issued.Token.Current.ID, next.Token.Current.ID)
}

func TestNamingThePreviousSecretEndsTheRotationUnderWay(t *testing.T) {
	h := build(t, capped(2, 0))
	first := h.create()
	id := first.Token.Token.ID
	second, err := h.rotateFor(id, authority.Rotation{Mode: token.RotateUntilConfirmed})
	require.NoError(t, err)
	require.ErrorIs(t, h.rotateError(id, token.RotateTimed), authority.ErrRotationInProgress)
	third, err := h.rotateFor(id, authority.Rotation{Mode: token.RotateUntilConfirmed, RevokeLast4: first.Secret.Last4()})
	require.NoError(t, err)
	require.Equal(t, second.Token.Current.ID, third.Token.Previous.ID)
	require.ErrorIs(t, func() error {
		_, err := h.rotateFor(id, authority.Rotation{RevokeLast4: third.Secret.Last4()})
		return err
	}(), authority.ErrRotationInProgress, "naming the newest one leaves the rotation as it is")
}

func TestATokenThatGivesUpOneOfTwoSecretsGoesOnWithTheOther(t *testing.T) {
	h := build(t)
	old := h.create()
	id := old.Token.Token.ID
	fresh, err := h.rotateFor(id, authority.Rotation{Mode: token.RotateTimed})
	require.NoError(t, err)
	n := h.newToken()
	n.RevokeLast4 = fresh.Secret.Last4()
	_, err = h.CreateToken(ctx, kim, n)
	require.NoError(t, err)
	v, err := h.Token(ctx, kim, id)
	require.NoError(t, err)
	require.Equal(t, token.Active, v.State)
	require.Equal(t, old.Token.Current.ID, v.Current.ID, "as after a roll-back")
	require.Nil(t, v.Previous)
	require.True(t, v.Current.ExpiresAt.IsZero(), "R14: its timer is gone")
}

func TestASecretThatCanNotBeNamedIsNotGivenUp(t *testing.T) {
	h := build(t, func(p *token.Policy) { p.Confirm = []string{"revoke"} })
	first := h.create()
	another, err := h.CreateAccount(ctx, kim, authority.NewAccount{Name: "Other", Policy: "test"})
	require.NoError(t, err)
	try := func(last4 string, account token.ID, confirm bool) func() error {
		return func() error {
			n := h.newToken()
			n.RevokeLast4, n.AccountID, n.Confirm = last4, account, confirm
			_, err := h.CreateToken(ctx, kim, n)
			return err
		}
	}
	last4 := first.Secret.Last4()
	h.unchanged(authority.ErrInvalidField, try("!!!!", h.account.ID, true))
	h.unchanged(authority.ErrInvalidField, try("abc", h.account.ID, true))
	h.unchanged(authority.ErrInvalidField, try(last4, another.ID, true))
	refusal := h.unchanged(authority.ErrConfirmationRequired, try(last4, h.account.ID, false))
	require.Contains(t, refusal.Detail, "its token is revoked for good", "what is about to happen is said")
	require.NoError(t, try(last4, h.account.ID, true)())
	h.unchanged(authority.ErrInvalidField, try(last4, h.account.ID, true))
}

func TestTwoSecretsThatEndAlikeAreToldApartByPeople(t *testing.T) {
	h := build(t)
	one := h.create()
	two := h.create().Token.Token
	require.NoError(t, h.Store.Write(ctx, func(tx *tokenstore.Tx) error {
		key, err := tx.PrimaryKey()
		if err != nil {
			return err
		}
		tx.Audit(tokenstore.AuditEntry{At: h.clock.Now(), Actor: kim.Actor, Verb: "test"})
		twin := token.SecretRecord{
			ID: storetest.ID("sec"), TokenID: two.ID, Last4: one.Secret.Last4(), Status: token.Previous, CreatedAt: h.clock.Now(),
		}
		if err := tx.UpdateToken(&two); err != nil {
			return err
		}
		return tx.InsertSecret(&twin, tokenstore.Lookup{1}, key)
	}))
	n := h.newToken()
	n.RevokeLast4 = one.Secret.Last4()
	refusal := h.unchanged(authority.ErrAmbiguousLast4, func() error {
		_, err := h.CreateToken(ctx, kim, n)
		return err
	})
	require.Len(t, refusal.Candidates, 2)
	require.NotEqual(t, refusal.Candidates[0].TokenID, refusal.Candidates[1].TokenID)
}
