package authority_test

import (
	"crypto/rand"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
)

func TestVerifySaysWhatTheGateWouldSay(t *testing.T) {
	h := build(t)
	narrow := h.create(func(n *authority.NewToken) {
		n.Access, n.Scopes, n.AllowList = token.Custom, []string{"payments:read"}, []string{"192.0.2.0/24"}
	})
	reader := h.create(func(n *authority.NewToken) { n.Access = token.ReadOnly })
	stranger, err := token.NewSecret(rand.Reader, "sp", token.Production)
	require.NoError(t, err)
	inside, outside := netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("198.51.100.9")

	for name, test := range map[string]struct {
		ask   authority.Question
		code  string
		scope token.Scope
	}{
		"nothing":                    {authority.Question{}, "malformed_token", token.Scope{}},
		"a broken checksum":          {authority.Question{Secret: reader.Secret.Reveal()[:54] + "x"}, "malformed_token", token.Scope{}},
		"a secret that is too long":  {authority.Question{Secret: strings.Repeat("x", 1<<20)}, "malformed_token", token.Scope{}},
		"a secret nobody issued":     {authority.Question{Secret: stranger.Reveal()}, "unknown_token", token.Scope{}},
		"who alone":                  {authority.Question{Secret: reader.Secret.Reveal()}, "", token.Scope{}},
		"a read":                     {authority.Question{Secret: reader.Secret.Reveal(), Method: "GET"}, "", token.ReadScope},
		"a write by a reader":        {authority.Question{Secret: reader.Secret.Reveal(), Method: "POST"}, "read_only_token", token.WriteScope},
		"a scope over the method":    {authority.Question{Secret: reader.Secret.Reveal(), Method: "POST", Scope: testScopes[0]}, "", testScopes[0]},
		"from elsewhere":             {authority.Question{Secret: narrow.Secret.Reveal(), Address: outside}, "ip_not_allowed", token.Scope{}},
		"from nowhere known":         {authority.Question{Secret: narrow.Secret.Reveal()}, "ip_not_allowed", token.Scope{}},
		"from inside":                {authority.Question{Secret: narrow.Secret.Reveal(), Address: inside}, "", token.Scope{}},
		"from inside, in other form": {authority.Question{Secret: narrow.Secret.Reveal(), Address: netip.AddrFrom16(inside.As16())}, "", token.Scope{}},
		"a scope it lists":           {authority.Question{Secret: narrow.Secret.Reveal(), Address: inside, Scope: testScopes[1]}, "", testScopes[1]},
		"a scope it does not list":   {authority.Question{Secret: narrow.Secret.Reveal(), Address: inside, Scope: testScopes[2]}, "insufficient_scope", testScopes[2]},
		"a method without its scope": {authority.Question{Secret: narrow.Secret.Reveal(), Address: inside, Method: "GET"}, "insufficient_scope", token.ReadScope},
	} {
		t.Run(name, func(t *testing.T) {
			before := h.world()
			v, err := h.Verify(ctx, kim, test.ask)
			require.NoError(t, err)
			require.Equal(t, test.code, v.Code)
			require.Equal(t, test.code == "", v.Valid)
			require.Equal(t, test.scope, v.Scope)
			if test.code == "malformed_token" || test.code == "unknown_token" {
				require.Nil(t, v.Token)
			} else {
				require.Empty(t, cmp.Diff(h.show(v.Token.Token.ID), *v.Token))
			}
			require.Empty(t, cmp.Diff(before, h.world()), "being asked about is not use")
		})
	}
}

// A secret is found under whichever key of the ring it is stored.
func TestVerifyFindsSecretsUnderOlderKeys(t *testing.T) {
	h, _, second := twoKeys(t)
	old := h.create()
	require.NoError(t, h.RotateMasterKey(ctx, kim, second))
	young := h.create()
	h.clock.add(time.Second)
	require.Empty(t, h.says(old.Secret))
	require.Empty(t, h.says(young.Secret))
}
