package api_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
)

func TestARotationUnderWayShowsBothSecretsAndHowThePreviousOneEnds(t *testing.T) {
	g := newGateway(t)
	before := g.token()
	path := "/tokens/" + string(before.Token.ID)
	none, _ := granted[api.RotationState](g, get(path+"/rotation"), http.StatusOK)
	require.False(t, none.InProgress)
	require.NotNil(t, none.SecretID)
	if diff := cmp.Diff(api.RotationState{
		TokenID: before.Token.ID, SecretID: none.SecretID, Last4: before.Token.Last4, PreviousAddresses: []api.AddressUse{},
	}, none); diff != "" {
		t.Errorf("without a rotation (-want +got):\n%s", diff)
	}

	after, _ := granted[api.Issued](g, post(path+"/rotate", `{"mode":"until_confirmed"}`), http.StatusOK)
	require.Nil(t, after.Token.PreviousSecretExpiresAt, "nothing has set an end")
	state, _ := granted[api.RotationState](g, get(path+"/rotation"), http.StatusOK)
	if diff := cmp.Diff(api.RotationState{
		TokenID: before.Token.ID, InProgress: true, Mode: "until_confirmed", WaitsFor: "confirmation", StartedAt: ptr(start),
		SecretID: state.SecretID, Last4: after.Token.Last4,
		PreviousSecretID: none.SecretID, PreviousLast4: before.Token.Last4, PreviousAddresses: []api.AddressUse{},
	}, state); diff != "" {
		t.Errorf("until confirmed (-want +got):\n%s", diff)
	}

	end := start.Add(48 * time.Hour)
	extended, _ := granted[api.Token](g, post(path+"/rotation/extend", fmt.Sprintf(`{"previous_secret_expires_at":%q}`, end.Format(time.RFC3339))), http.StatusOK)
	require.Equal(t, &end, extended.PreviousSecretExpiresAt)
	state, _ = granted[api.RotationState](g, get(path+"/rotation"), http.StatusOK)
	require.Equal(t, "timed", state.Mode)
	require.Empty(t, state.WaitsFor)
	require.Equal(t, &end, state.PreviousSecretExpiresAt)

	rolledBack, _ := granted[api.Token](g, post(path+"/rotation/rollback", ``), http.StatusOK)
	require.Equal(t, before.Token.Last4, rolledBack.Last4)

	granted[api.Issued](g, post(path+"/rotate", `{"mode":"on_first_use","grace_period_seconds":60}`), http.StatusOK)
	state, _ = granted[api.RotationState](g, get(path+"/rotation"), http.StatusOK)
	require.Equal(t, "first_use", state.WaitsFor)
	require.Equal(t, ptr(int64(60)), state.GracePeriodSeconds)
}

func TestTheVerbsOfARotationAreRefusedByName(t *testing.T) {
	g := newGateway(t)
	issued := g.token()
	path := "/tokens/" + string(issued.Token.ID)
	extend := fmt.Sprintf(`{"previous_secret_expires_at":%q}`, start.Add(time.Hour).Format(time.RFC3339))
	for verb, body := range map[string]string{"confirm": ``, "rollback": `{}`, "extend": extend} {
		p := g.refused(post(path+"/rotation/"+verb, body), http.StatusConflict, "no_rotation")
		require.NotEmpty(t, p.Detail)
		g.refused(post("/tokens/tok_unknown/rotation/"+verb, body), http.StatusNotFound, "not_found")
	}
	g.refused(get("/tokens/tok_unknown/rotation"), http.StatusNotFound, "not_found")
	granted[api.Issued](g, post(path+"/rotate", `{"mode":"until_confirmed"}`), http.StatusOK)
	state, _ := granted[api.RotationState](g, get(path+"/rotation"), http.StatusOK)

	p := g.refused(post(path+"/rotate", `{}`), http.StatusConflict, "rotation_in_progress")
	require.Contains(t, p.Detail, "confirm")
	g.refused(post(path+"/rotate", `{"mode":"until_confirmed","grace_period_seconds":1}`), http.StatusUnprocessableEntity, "invalid_field")
	g.refused(post(path+"/rotate", `{"mode":"sometime"}`), http.StatusUnprocessableEntity, "invalid_field")
	past := fmt.Sprintf(`{"previous_secret_expires_at":%q}`, start.Format(time.RFC3339))
	g.refused(post(path+"/rotation/extend", past), http.StatusUnprocessableEntity, "invalid_field")
	g.refused(post(path+"/rotation/extend", `{}`), http.StatusUnprocessableEntity, "invalid_field")
	g.refused(post(path+"/rotation/confirm", `{"grace":1}`), http.StatusUnprocessableEntity, "invalid_field")

	named := fmt.Sprintf(`{"previous_secret_id":%q}`, *state.PreviousSecretID)
	granted[api.Token](g, post(path+"/rotation/confirm", named), http.StatusOK)
	again, _ := granted[api.Token](g, post(path+"/rotation/confirm", named), http.StatusOK)
	require.Equal(t, state.Last4, again.Last4, "repeating it is no error, and changes nothing")
	g.refused(post(path+"/rotation/rollback", named), http.StatusConflict, "no_rotation")
}
