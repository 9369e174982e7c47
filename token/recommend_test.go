package token_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
)

var (
	invoices = token.Scope{Name: "invoices:read", Nature: token.Read}
	pay      = token.Scope{Name: "payments:write", Nature: token.Write}
)

func declaredScopes(name string) (token.Scope, bool) {
	for _, s := range []token.Scope{invoices, pay} {
		if s.Name == name {
			return s, true
		}
	}
	return token.Scope{}, false
}

func TestTheNarrowestThatPermitsWhatWasUsed(t *testing.T) {
	all, reader := token.Grant{Access: token.ReadWrite}, token.Grant{Access: token.ReadOnly}
	custom := func(names ...string) token.Grant { return token.Grant{Access: token.Custom, Scopes: names} }
	var many []token.Scope
	for i := range token.MaxScopes + 1 {
		many = append(many, token.Scope{Name: fmt.Sprintf("s%03d", i), Nature: token.Read})
	}
	manyKnown := func(name string) (token.Scope, bool) { return token.Scope{Name: name, Nature: token.Read}, true }
	for name, c := range map[string]struct {
		held   token.Grant
		used   []token.Scope
		nature func(string) (token.Scope, bool)
		want   token.Grant
	}{
		"nothing":                              {held: all},
		"reading, where no scopes are":         {held: all, used: []token.Scope{token.ReadScope}, want: reader},
		"reading, by one that may only read":   {held: reader, used: []token.Scope{token.ReadScope}, want: reader},
		"reading, by a custom token":           {held: custom("payments:write", "read"), used: []token.Scope{token.ReadScope}, want: custom("read")},
		"a scope":                              {held: all, used: []token.Scope{invoices}, want: custom("invoices:read")},
		"a scope, and reading":                 {held: all, used: []token.Scope{token.ReadScope, invoices}, want: custom("invoices:read", "read")},
		"a scope that writes, twice":           {held: all, used: []token.Scope{pay, invoices, pay}, want: custom("invoices:read", "payments:write")},
		"writing":                              {held: all, used: []token.Scope{token.WriteScope}, want: custom("write")},
		"reading and writing":                  {held: all, used: []token.Scope{token.WriteScope, token.ReadScope}, want: custom("read", "write")},
		"what it may not do any more":          {held: reader, used: []token.Scope{pay}},
		"among it what it may not any more":    {held: reader, used: []token.Scope{pay, token.ReadScope}, want: reader},
		"a custom token that used all":         {held: custom("invoices:read"), used: []token.Scope{invoices}, want: custom("invoices:read")},
		"more than fit, for reading":           {held: all, used: many, nature: manyKnown, want: reader},
		"more than fit, of unknown nature":     {held: all, used: many, want: all},
		"more than fit, and writing":           {held: all, used: append([]token.Scope{pay}, many...), nature: manyKnown, want: all},
		"more than fit, when it may only read": {held: reader, used: many, want: reader},
	} {
		t.Run(name, func(t *testing.T) {
			if c.nature == nil {
				c.nature = declaredScopes
			}
			require.Equal(t, c.want, token.Narrowest(&c.held, c.used, c.nature))
		})
	}
}

// Whatever was used, what is recommended permits it, is something, and permits
// nothing that the token may not do.
func TestARecommendationNeverShutsOutWhatWasUsed(t *testing.T) {
	scopes := []token.Scope{token.ReadScope, token.WriteScope, invoices, pay, {Name: "gone", Nature: token.Read}, {Name: "odd", Nature: token.Write}}
	for seed := range uint64(5000) {
		r := rand.New(rand.NewPCG(seed, 3))
		held := token.Grant{Access: []token.Access{token.ReadOnly, token.ReadWrite, token.Custom}[r.IntN(3)]}
		if held.Access == token.Custom {
			held.Scopes = [][]string{{"gone", "read"}, {"invoices:read"}, {"odd", "payments:write", "write"}}[r.IntN(3)]
		}
		var used []token.Scope
		any := false
		for range r.IntN(5) {
			s := scopes[r.IntN(len(scopes))]
			used = append(used, s)
			any = any || held.Holds(s)
		}
		got := token.Narrowest(&held, used, declaredScopes)
		require.Equal(t, any, got.Access != 0, "seed %d", seed)
		require.True(t, got.Access != token.Custom || len(got.Scopes) > 0, "seed %d", seed)
		for _, s := range scopes {
			if got.Holds(s) {
				require.True(t, held.Holds(s), "seed %d: %s", seed, s.Name)
			}
		}
		for _, s := range used {
			require.Equal(t, held.Holds(s), got.Holds(s), "seed %d: %s", seed, s.Name)
		}
	}
}

func TestAddressesAreJoinedAsLittleAsCanBe(t *testing.T) {
	for name, c := range map[string]struct{ in, want []string }{
		"none":                    {nil, []string{}},
		"each by itself":          {[]string{"2001:db8::/64", "192.0.2.7"}, []string{"192.0.2.7", "2001:db8::/64"}},
		"twice":                   {[]string{"192.0.2.7", "192.0.2.7"}, []string{"192.0.2.7"}},
		"two halves":              {[]string{"192.0.2.7", "192.0.2.6"}, []string{"192.0.2.6/31"}},
		"neighbours, no halves":   {[]string{"192.0.2.7", "192.0.2.8"}, []string{"192.0.2.7", "192.0.2.8"}},
		"halves of halves":        {[]string{"192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.7"}, []string{"192.0.2.4/30"}},
		"halves of a network":     {[]string{"2001:db8:0:1::/64", "2001:db8::/64"}, []string{"2001:db8::/63"}},
		"the first and last ever": {[]string{"0.0.0.0", "255.255.255.255"}, []string{"0.0.0.0", "255.255.255.255"}},
	} {
		got, ok := token.JoinAddresses(c.in)
		require.True(t, ok, name)
		require.Equal(t, c.want, got, name)
	}
	_, ok := token.JoinAddresses([]string{"somewhere"})
	require.False(t, ok)
}

func TestJoinedAddressesFitAndHoldAllThatCame(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 5))
		spread := uint32(1) << (12 + r.IntN(20))
		var in []string
		var all []netip.Addr
		for range 1 + r.IntN(4000) {
			n := 0x0a000000 + r.Uint32N(spread)
			a := netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
			if r.IntN(3) == 0 {
				a = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 4: byte(n >> 24), 5: byte(n >> 16), 6: byte(n >> 8), 7: byte(n)})
				in = append(in, netip.PrefixFrom(a, 64).String())
			} else {
				in = append(in, a.String())
			}
			all = append(all, a)
		}
		entries, ok := token.JoinAddresses(in)
		if !ok {
			continue // spread too far
		}
		require.LessOrEqual(t, len(entries), token.MaxAllowList)
		list, err := token.ParseAllowList(entries, false)
		require.NoError(t, err, "seed %d", seed)
		require.Equal(t, entries, list.Strings(), "seed %d: in the form in which it is stored", seed)
		require.False(t, list.Broad())
		for _, a := range all {
			require.True(t, list.Allows(a), "seed %d: %s", seed, a)
		}
	}
}
