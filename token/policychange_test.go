package token_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
)

func TestAChangeOfAPolicyChangesWhatItNamesAndNothingElse(t *testing.T) {
	before, _ := token.Preset("own")
	require.Empty(t, cmp.Diff(before, (&token.PolicyChange{}).Apply(before)))

	none, month, off := 0, 30*24*time.Hour, false
	change := token.PolicyChange{
		MaxSecretsPerUser: &none, DeleteUnused: &month, DowngradeUndo: &off,
		Editable: []token.Field{token.FieldName}, Confirm: []string{},
		Notify: map[token.Event][]token.Class{token.EventEdited: {token.ClassOwner}},
	}
	after := change.Apply(before)
	require.Zero(t, after.MaxSecretsPerUser)
	require.Equal(t, month, after.DeleteUnused)
	require.False(t, after.DowngradeUndo)
	require.Equal(t, []token.Field{token.FieldName}, after.Editable)
	require.Empty(t, after.Confirm, "an empty list is no verb at all")
	require.Equal(t, before.Recipients(token.EventCreated), after.Recipients(token.EventCreated), "events that it does not name stay")
	require.Equal(t, before.MaxLifetime, after.MaxLifetime)
	again, _ := token.Preset("own")
	require.Empty(t, cmp.Diff(again, before), "a policy that is in use is shared, and not written to")
}

func TestADefaultGraceFollowsItsBounds(t *testing.T) {
	hour, tenDays := time.Hour, 10*24*time.Hour
	narrowed := (&token.PolicyChange{GraceMax: &hour}).Apply(token.DefaultPolicy())
	require.Equal(t, time.Hour, narrowed.GraceDefault)
	require.NoError(t, narrowed.Validate())
	contradicts := (&token.PolicyChange{GraceDefault: &tenDays}).Apply(token.DefaultPolicy())
	require.Error(t, contradicts.Validate(), "a default that was written down is not changed, but refused")
}
