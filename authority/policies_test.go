package authority_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

func days(n int) *time.Duration {
	d := time.Duration(n) * 24 * time.Hour
	return &d
}

func TestAPolicyIsMadeOfAPresetChangedAndRemoved(t *testing.T) {
	h := build(t)
	p, err := h.CreatePolicy(ctx, kim, "strict", authority.EditPolicy{Preset: "mercury", Change: token.PolicyChange{DeleteUnused: days(60)}})
	require.NoError(t, err)
	require.Equal(t, "strict", p.Name)
	require.Equal(t, *days(60), p.DeleteUnused)
	require.Equal(t, []token.Class{token.ClassAdmins}, p.Recipients(token.EventDeletionNotice), "M9 comes of the preset")

	_, err = h.CreatePolicy(ctx, kim, "strict", authority.EditPolicy{})
	require.ErrorIs(t, err, authority.ErrInvalidField)
	require.ErrorContains(t, err, "there is a policy with this name")

	after, err := h.EditPolicy(ctx, kim, "strict", p.Version, authority.EditPolicy{Change: token.PolicyChange{DeleteUnused: days(90)}})
	require.NoError(t, err, "it rules nobody, so that there is nothing to confirm")
	require.Greater(t, after.Version, p.Version)
	_, err = h.EditPolicy(ctx, kim, "strict", p.Version, authority.EditPolicy{Change: token.PolicyChange{DeleteUnused: days(91)}})
	require.ErrorIs(t, err, authority.ErrVersionMismatch)
	same, err := h.EditPolicy(ctx, kim, "strict", after.Version, authority.EditPolicy{Change: token.PolicyChange{DeleteUnused: days(90)}})
	require.NoError(t, err)
	require.Equal(t, after.Version, same.Version, "what changes nothing is no change")

	gone, err := h.DeletePolicy(ctx, kim, "strict")
	require.NoError(t, err)
	_, err = h.Policy(ctx, kim, "strict")
	require.ErrorIs(t, err, authority.ErrNotFound)
	anew, err := h.CreatePolicy(ctx, kim, "strict", authority.EditPolicy{})
	require.NoError(t, err)
	require.Greater(t, anew.Version, gone.Version, "no cache takes the older one for the newer")

	entries, _, err := h.AuditEntries(ctx, kim, tokenstore.AuditQuery{Target: "strict"})
	require.NoError(t, err)
	var verbs []string
	for i := range entries {
		verbs = append([]string{entries[i].Verb}, verbs...)
	}
	require.Equal(t, []string{"policy.create", "policy.edit", "policy.delete", "policy.create"}, verbs)
}

func TestAPolicyThatRulesAccountsIsChangedOnPurpose(t *testing.T) {
	h := build(t)
	p, err := h.CreatePolicy(ctx, kim, "strict", authority.EditPolicy{})
	require.NoError(t, err)
	name := "strict"
	h.account, err = h.EditAccount(ctx, kim, h.account.ID, h.account.Version, authority.EditAccount{Policy: &name})
	require.NoError(t, err)

	change := authority.EditPolicy{Change: token.PolicyChange{MaxLifetime: days(180)}}
	_, err = h.EditPolicy(ctx, kim, "strict", p.Version, change)
	require.ErrorIs(t, err, authority.ErrConfirmationRequired)
	require.ErrorContains(t, err, "rules 1 accounts")
	change.Confirm = true
	_, err = h.EditPolicy(ctx, kim, "strict", p.Version, change)
	require.NoError(t, err)

	_, err = h.DeletePolicy(ctx, kim, "strict")
	require.ErrorIs(t, err, authority.ErrInvalidState)
	require.ErrorContains(t, err, "assign another one")
	_, err = h.DeletePolicy(ctx, kim, "default")
	require.ErrorContains(t, err, "the policy default stays")
}

func TestWhatAConfigurationDeclaresIsNotChangedByHand(t *testing.T) {
	h := build(t) // its policy is declared
	p, err := h.Policy(ctx, kim, "test")
	require.NoError(t, err)
	_, err = h.EditPolicy(ctx, kim, "test", p.Version, authority.EditPolicy{Change: token.PolicyChange{MaxLifetime: days(1)}, Confirm: true})
	require.ErrorIs(t, err, authority.ErrManagedByConfig)
	_, err = h.DeletePolicy(ctx, kim, "test")
	require.ErrorIs(t, err, authority.ErrManagedByConfig)
}

func TestRulesThatMakeNoPolicyAreRefusedByTheKnob(t *testing.T) {
	h := build(t)
	for name, tt := range map[string]struct {
		preset string
		change token.PolicyChange
		field  string
	}{
		"an unknown preset":           {preset: "none", field: "preset"},
		"a notice that never ends":    {change: token.PolicyChange{Notice: days(60)}, field: "notice"},
		"a mode that is none":         {change: token.PolicyChange{RotationModes: []token.RotationMode{"x"}}, field: "rotation_modes"},
		"a role that there is not":    {change: token.PolicyChange{View: []string{"nobody"}}, field: "policy strict"},
		"a time that is no time":      {change: token.PolicyChange{DeleteUnused: days(-1)}, field: "delete_unused"},
		"a time beyond all calendars": {change: token.PolicyChange{MaxLifetime: days(99_999)}, field: "max_lifetime"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := h.CreatePolicy(ctx, kim, "strict", authority.EditPolicy{Preset: tt.preset, Change: tt.change})
			require.ErrorIs(t, err, authority.ErrInvalidField)
			var refusal *authority.Error
			require.ErrorAs(t, err, &refusal)
			require.Equal(t, tt.field, refusal.Field)
		})
	}
	_, err := h.CreatePolicy(ctx, kim, "Strict!", authority.EditPolicy{})
	require.ErrorIs(t, err, authority.ErrInvalidField)
}
