package caddymodule_test

import (
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/caddymodule"
)

// O10: business units stand in the block of a require line.
func TestARequireLineNamesBusinessUnits(t *testing.T) {
	read := func(text string) (*caddymodule.Gate, error) {
		gate := new(caddymodule.Gate)
		return gate, gate.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text))
	}
	gate, err := read(`sallyport {
		require read GET /north* {
			business_unit north
			business_unit far-north south
		}
		require write /
		environment any
	}`)
	require.NoError(t, err)
	require.Len(t, gate.Require, 2)
	require.Equal(t, []string{"north", "far-north", "south"}, gate.Require[0].Units)
	require.Empty(t, gate.Require[1].Units)
	for text, want := range map[string]string{
		"sallyport {\n require read / {\n business_unit\n }\n }":         "at least one name",
		"sallyport {\n require read / {\n unit north\n }\n }":            "knows business_unit",
		"sallyport {\n require read / {\n business_unit \"a b\"\n }\n }": "business_units[0]",
		"sallyport {\n environment any {\n business_unit north\n }\n }":  "takes no block",
	} {
		_, err := read(text)
		require.ErrorContains(t, err, want)
	}
}
