package authority_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
)

func TestAPolicyThatNamesARoleThatThereIsNotIsRefused(t *testing.T) {
	h := bare(t)
	p := liberal()
	p.Allow = map[string][]string{"rotate": {"owner", "own:clerk"}}
	err := h.Declare(ctx, system, authority.Declarations{Policies: []token.Policy{p}})
	require.ErrorIs(t, err, authority.ErrInvalidField)
	require.ErrorContains(t, err, `policy test: allow or view names the role "clerk"`)

	clerk := token.Role{Name: "clerk", Ceiling: token.Grant{Access: token.ReadOnly}}
	require.NoError(t, h.Declare(ctx, system, authority.Declarations{Policies: []token.Policy{p}, Roles: []token.Role{clerk}}))

	for _, name := range token.PresetNames() {
		preset, _ := token.Preset(name)
		require.NoError(t, h.Declare(ctx, system, authority.Declarations{Policies: []token.Policy{preset}}), name)
	}
}
