package api_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
)

// T3, R10: a requester and a code go with a request, the code in a header or, where
// there is one, in the body; an Idempotency-Key is bound to neither.
func TestARequesterAndACodeGoWithTheRequest(t *testing.T) {
	g := newGateway(t)
	policy := token.DefaultPolicy()
	policy.StepUp, policy.RequireAllowList = []string{"create", "rotate"}, token.AllowListNever
	require.NoError(t, g.declare(authority.Declarations{Policies: []token.Policy{policy}}))
	account, operator := g.account(), g.client()
	owner, err := operator.CreateUser(t.Context(), api.NewUser{AccountID: account.ID, Name: "Ada", Role: "owner"})
	require.NoError(t, err)
	begun, err := operator.EnrolOTP(t.Context(), owner.ID)
	require.NoError(t, err)
	code := func() string {
		g.wait(time.Minute)
		c, err := totp.GenerateCode(begun.Secret, g.clock())
		require.NoError(t, err)
		return c
	}
	recovery, err := operator.ConfirmOTP(t.Context(), owner.ID, code())
	require.NoError(t, err)
	require.Len(t, recovery.Codes, 10)
	status, err := operator.UserOTP(t.Context(), owner.ID)
	require.NoError(t, err)
	require.Equal(t, "enrolled", status.State)

	c := g.client()
	c.RequestedBy = owner.ID
	n := api.NewToken{Name: "x", AccountID: account.ID, Access: token.ReadOnly}
	_, err = c.CreateToken(t.Context(), "", n)
	require.ErrorIs(t, err, &api.Problem{Code: "step_up_required"})
	n.OTP = code()
	first, err := c.CreateToken(t.Context(), "key-1", n)
	require.NoError(t, err)
	_, err = c.CreateToken(t.Context(), "key-1", n)
	require.ErrorIs(t, err, &api.Problem{Code: "code_used"})
	n.OTP = ""
	c.OTP = code() // in the header this time
	again, err := c.CreateToken(t.Context(), "key-1", n)
	require.NoError(t, err)
	require.True(t, again.Replayed, "a code is no part of what was asked")
	require.Equal(t, first.Token.ID, again.Token.ID)
	c.OTP = "000000"
	_, err = c.CreateToken(t.Context(), "", n)
	var p *api.Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, http.StatusUnauthorized, p.Status)
	text, err := json.Marshal(p)
	require.NoError(t, err)
	require.NotContains(t, string(text), "000000", "a refusal repeats no code")

	c.RequestedBy = "usr_nobody"
	_, err = c.Token(t.Context(), first.Token.ID)
	require.ErrorIs(t, err, &api.Problem{Code: "forbidden"})
	page, err := operator.AuditPage(t.Context(), api.AuditFilter{Verb: "token.create"})
	require.NoError(t, err)
	require.Equal(t, owner.ID, *page.Items[0].RequestedBy)
	require.NoError(t, operator.ResetOTP(t.Context(), owner.ID))
}
