package token_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/token"
)

func allowList(t testing.TB, entries ...string) token.AllowList {
	t.Helper()
	list, err := token.ParseAllowList(entries, true)
	require.NoError(t, err)
	return list
}

func TestEntriesBecomeCanonicalSortedAndDisjoint(t *testing.T) {
	for name, tt := range map[string]struct{ entries, want []string }{
		"nothing":                           {nil, []string{}},
		"single addresses":                  {[]string{"192.0.2.7", "2001:db8::1"}, []string{"192.0.2.7", "2001:db8::1"}},
		"a range of one address":            {[]string{"192.0.2.7/32", "2001:db8::1/128"}, []string{"192.0.2.7", "2001:db8::1"}},
		"order":                             {[]string{"2001:db8::/32", "198.51.100.0/24", "10.0.0.1"}, []string{"10.0.0.1", "198.51.100.0/24", "2001:db8::/32"}},
		"long spellings":                    {[]string{"2001:0DB8:0000::0001", "2001:DB8:1::/48"}, []string{"2001:db8::1", "2001:db8:1::/48"}},
		"repetition":                        {[]string{"10.0.0.1", "10.0.0.1/32", "::ffff:10.0.0.1", "10.0.0.1"}, []string{"10.0.0.1"}},
		"inside another, before and after":  {[]string{"10.1.2.3", "10.0.0.0/8", "10.1.0.0/16", "11.0.0.0/8"}, []string{"10.0.0.0/8", "11.0.0.0/8"}},
		"neighbours stay as they were":      {[]string{"10.0.0.0/9", "10.128.0.0/9"}, []string{"10.0.0.0/9", "10.128.0.0/9"}},
		"A7: mapped address":                {[]string{"::ffff:10.0.0.1", "::ffff:a00:2"}, []string{"10.0.0.1", "10.0.0.2"}},
		"A7: mapped range":                  {[]string{"::ffff:10.0.0.0/104", "::ffff:192.0.2.1/128"}, []string{"10.0.0.0/8", "192.0.2.1"}},
		"A9: IPv4 inside IPv6 stays IPv6":   {[]string{"64:ff9b::a00:1", "2002:a00:1::/48", "::10.0.0.1"}, []string{"::a00:1", "64:ff9b::a00:1", "2002:a00:1::/48"}},
		"unspecified addresses are allowed": {[]string{"0.0.0.0", "::"}, []string{"0.0.0.0", "::"}},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := token.ParseAllowList(tt.entries, false)
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(tt.want, list.Strings()))
			require.Equal(t, len(tt.want) == 0, list.Empty())
			again, err := token.ParseAllowList(list.Strings(), true)
			require.NoError(t, err)
			require.True(t, list.Equal(again))
			require.Empty(t, cmp.Diff(list, again))
		})
	}
}

func TestAnEntryThatIsNotExactIsRefusedAndTheErrorSaysHowToMendIt(t *testing.T) {
	for name, tt := range map[string]struct{ entry, problem string }{
		"A8: mapped range shorter than 96":    {"::ffff:10.0.0.0/64", "96 or more"},
		"A8: mapped range of 95":              {"::ffff:0.0.0.0/95", "96 or more"},
		"A8: mapped range of 0":               {"::ffff:10.0.0.0/0", "96 or more"},
		"A9: zone":                            {"fe80::1%eth0", "zone"},
		"A9: zone in a range":                 {"fe80::%eth0/64", "zone"},
		"A9: zone on a mapped address":        {"::ffff:10.0.0.1%lo", "zone"},
		"A10: host bits":                      {"10.0.0.5/8", "the range is 10.0.0.0/8"},
		"A10: host bits of IPv6":              {"2001:db8::1/32", "the range is 2001:db8::/32"},
		"A10: host bits of a mapped range":    {"::ffff:10.0.0.5/104", "the range is 10.0.0.0/8"},
		"A10: everything":                     {"0.0.0.0/0", "restricts nothing"},
		"A10: everything of IPv6":             {"::/0", "restricts nothing"},
		"A10: everything, mapped":             {"::ffff:0.0.0.0/96", "restricts nothing"},
		"A10: leading zero":                   {"010.0.0.1", "leading zero"},
		"A10: leading zero at the end":        {"10.0.0.01", "leading zero"},
		"A10: leading zero in the length":     {"10.0.0.0/08", "leading zero"},
		"A10: leading zero in a mapped one":   {"::ffff:010.0.0.1", "leading zero"},
		"A10: two parts":                      {"10.1", "must be"},
		"A10: one number":                     {"167772161", "must be"},
		"A10: hexadecimal":                    {"0x0a000001", "must be"},
		"A10: hexadecimal parts":              {"0xa.0.0.1", "must be"},
		"A10: hexadecimal netmask":            {"10.0.0.1/00ffffff", "must be"},
		"netmask in dots":                     {"10.0.0.0/255.0.0.0", "must be"},
		"length too large":                    {"10.0.0.0/33", "must be"},
		"length too large for IPv6":           {"2001:db8::/129", "must be"},
		"length of IPv6 on IPv4":              {"10.0.0.0/96", "must be"},
		"negative length":                     {"10.0.0.0/-1", "must be"},
		"signed length":                       {"10.0.0.0/+8", "must be"},
		"no length":                           {"10.0.0.0/", "must be"},
		"two lengths":                         {"10.0.0.0/8/8", "must be"},
		"port":                                {"10.0.0.1:443", "port"},
		"port of IPv6":                        {"[2001:db8::1]:443", "port"},
		"brackets":                            {"[2001:db8::1]", "bracket"},
		"name":                                {"localhost", "name"},
		"name with a dot":                     {"gateway.example.com", "name"},
		"name with a port, which go-sockaddr": {"localhost:80", "name"},
		"path of a socket":                    {"/var/run/x.sock", "must be"},
		"space before":                        {" 10.0.0.1", "space"},
		"space after":                         {"10.0.0.1 ", "space"},
		"line end":                            {"10.0.0.1\n", "must be"},
		"two in one":                          {"10.0.0.1,10.0.0.2", "must be"},
		"star":                                {"10.0.0.*", "must be"},
		"dash":                                {"10.0.0.1-10.0.0.9", "must be"},
		"digits of other scripts":             {"١٠.0.0.1", "must be"},
		"NUL":                                 {"10.0.0.1\x00", "must be"},
		"empty":                               {"", "must be"},
		"too long":                            {strings.Repeat("1", 1<<20), "must be"},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := token.ParseAllowList([]string{"192.0.2.1", tt.entry}, false)
			var field *token.FieldError
			require.True(t, errors.As(err, &field), "%v", err)
			require.Equal(t, "ip_allowlist[1]", field.Field)
			require.Contains(t, field.Problem, tt.problem)
			if len(tt.entry) > 4 && !strings.Contains("192.0.2.0/24 2001:db8::/32 10.0.0.0/8", tt.entry) {
				require.NotContains(t, err.Error(), tt.entry, "an error never repeats the value")
			}
			require.True(t, list.Empty())
		})
	}
}

// Why netip comes first: by itself, go-sockaddr takes more than an address, and
// for what it takes to be a name it would ask the DNS.
func TestGoSockaddrAloneIsNotStrictEnough(t *testing.T) {
	require.Equal(t, "10.0.0.1/32", token.CanonicalRange("10.0.0.1/00ffffff").String(), "a netmask cut off")
	require.Equal(t, "2001:db8::1/128", token.CanonicalRange("[2001:db8::1]").String(), "brackets")
	for _, entry := range []string{"10.0.0.1:443", "[2001:db8::1]:443", "10.1", "010.0.0.1", ""} {
		require.False(t, token.CanonicalRange(entry).IsValid(), entry)
	}
	for entry, want := range map[string]string{
		"10.0.0.5/8": "10.0.0.0/8", "::ffff:10.0.0.5": "10.0.0.5/32", "::ffff:10.0.0.0/104": "10.0.0.0/8",
		"2001:db8::5/32": "2001:db8::/32", "::": "::/128", "::1/127": "::/127",
	} {
		require.Equal(t, want, token.CanonicalRange(entry).String())
	}
}

func TestEveryAddressIsAllowedOnlyWhenThatIsAskedFor(t *testing.T) {
	for _, entries := range [][]string{
		{"0.0.0.0/0"},
		{"::/0"},
		{"10.0.0.0/8", "::/0"},
	} {
		_, err := token.ParseAllowList(entries, false)
		require.ErrorContains(t, err, "restricts nothing")
		list := allowList(t, entries...)
		require.False(t, list.Empty())
		require.True(t, list.Broad())
	}
	// A10 in pieces.
	for _, entries := range [][]string{
		{"0.0.0.0/1", "128.0.0.0/1"},
		{"128.0.0.0/2", "0.0.0.0/1", "192.0.0.0/2", "2001:db8::/32"},
		{"::/1", "8000::/1"},
		{"192.0.2.0/24", "::/2", "4000::/2", "8000::/1"},
	} {
		_, err := token.ParseAllowList(entries, false)
		var field *token.FieldError
		require.True(t, errors.As(err, &field))
		require.Equal(t, "ip_allowlist", field.Field)
		require.Contains(t, field.Problem, "together allow every address")
		list := allowList(t, entries...)
		require.Len(t, list.Strings(), len(entries))
	}
	for _, entries := range [][]string{
		{"0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/3"},
		{"0.0.0.0/2", "128.0.0.0/1"},
		{"128.0.0.0/1", "::/1"},
		{"8000::/1"},
		{"::/2", "8000::/1"},
	} {
		_, err := token.ParseAllowList(entries, false)
		require.NoError(t, err, entries)
	}
}

// Rule A11.
func TestAtMostOneThousandEntriesAreRead(t *testing.T) {
	entries := spread(token.MaxAllowList + 1)
	_, err := token.ParseAllowList(entries, true)
	var field *token.FieldError
	require.True(t, errors.As(err, &field))
	require.Equal(t, "ip_allowlist", field.Field)
	require.Contains(t, field.Problem, "1000")
	list, err := token.ParseAllowList(entries[:token.MaxAllowList], false)
	require.NoError(t, err)
	require.Len(t, list.Strings(), token.MaxAllowList)
}

func TestAnEmptyListAllowsEveryAddressAndAnyOtherOnlyItsOwn(t *testing.T) {
	unknown := netip.Addr{}
	var empty token.AllowList
	for _, addr := range []netip.Addr{unknown, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::1")} {
		require.True(t, empty.Allows(addr))
	}
	// The same list by comparison and, with entries that match nothing here, by table.
	short := []string{"192.0.2.7", "198.51.100.0/24", "2001:db8::/32", "fe80::1"}
	for name, list := range map[string]token.AllowList{"short": allowList(t, short...), "long": allowList(t, append(spread(500), short...)...)} {
		t.Run(name, func(t *testing.T) {
			for _, addr := range []string{
				"192.0.2.7", "198.51.100.0", "198.51.100.255", "2001:db8::1", "fe80::1",
				"::ffff:192.0.2.7",         // A7
				"::ffff:198.51.100.9%eth0", // A7, A9
				"fe80::1%eth0",             // A9
				"2001:db8::5%3",
			} {
				require.True(t, list.Allows(netip.MustParseAddr(addr)), addr)
			}
			for _, addr := range []string{
				"192.0.2.6", "192.0.2.8", "198.51.99.255", "198.51.101.0", "2001:db9::", "::1", "fe80::2", "0.0.0.0", "::",
				"::192.0.2.7", "64:ff9b::c000:207", "2002:c000:207::1", // A9
			} {
				require.False(t, list.Allows(netip.MustParseAddr(addr)), addr)
			}
			require.False(t, list.Allows(unknown), "A4, A6: an unknown address passes only an empty list")
		})
	}
}

func TestARangeIsBroadFromSevenAndFifteenBitsDown(t *testing.T) {
	for entry, broad := range map[string]bool{
		"10.0.0.0/8": false, "10.0.0.0/7": true, "0.0.0.0/0": true, "10.0.0.1": false,
		"2001::/16": false, "2000::/15": true, "::/0": true, "::1": false,
		"::ffff:10.0.0.0/104": false, "::ffff:10.0.0.0/103": true,
	} {
		list := allowList(t, entry)
		require.Equal(t, broad, list.Broad(), entry)
		list = allowList(t, "203.0.113.9", entry)
		require.Equal(t, broad, list.Broad(), entry)
	}
	require.False(t, new(token.AllowList).Broad())
}

func TestAnAllowListAgreesWithCheckingEveryEntry(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefixes := rapid.SliceOfN(rapid.Custom(drawPrefix), 1, 40).Draw(t, "prefixes")
		entries := make([]string, len(prefixes))
		for i, p := range prefixes {
			entries[i] = p.String()
		}
		list, err := token.ParseAllowList(entries, true)
		require.NoError(t, err)
		strings := list.Strings()
		again, err := token.ParseAllowList(strings, true)
		require.NoError(t, err)
		require.True(t, list.Equal(again))
		require.Empty(t, cmp.Diff(list, again))

		probes := []netip.Addr{{}}
		for _, p := range prefixes {
			probes = append(probes, p.Addr(), p.Addr().Prev(), p.Addr().Next())
		}
		probes = append(probes, rapid.Custom(drawPrefix).Draw(t, "probe").Addr())
		for _, probe := range probes {
			want := slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(probe) })
			require.Equal(t, want, list.Allows(probe))
			if probe.Is4() {
				require.Equal(t, want, list.Allows(netip.AddrFrom16(probe.As16())))
			}
			if probe.Is6() {
				require.Equal(t, want, list.Allows(probe.WithZone("eth0")))
			}
		}
	})
}

// drawPrefix draws from few addresses, so that ranges overlap.
func drawPrefix(t *rapid.T) netip.Prefix {
	nibble := rapid.SampledFrom([]byte{0, 1, 10, 128, 192, 255})
	if rapid.Bool().Draw(t, "v4") {
		addr := netip.AddrFrom4([4]byte{nibble.Draw(t, "a"), nibble.Draw(t, "b"), 0, nibble.Draw(t, "d")})
		return netip.PrefixFrom(addr, rapid.IntRange(0, 32).Draw(t, "bits")).Masked()
	}
	addr := netip.AddrFrom16([16]byte{0x20, nibble.Draw(t, "b"), 5: nibble.Draw(t, "c"), 15: nibble.Draw(t, "d")})
	return netip.PrefixFrom(addr, rapid.IntRange(0, 128).Draw(t, "bits")).Masked()
}

func TestMatchingAnAddressAllocatesNothing(t *testing.T) {
	for _, n := range []int{0, 1, 8, 9, 64, 1000} {
		list := allowList(t, spread(n)...)
		hit, miss, mapped := netip.MustParseAddr("10.0.0.0"), netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("::ffff:10.0.0.0%x")
		require.Zero(t, testing.AllocsPerRun(100, func() {
			if !list.Allows(hit) || !list.Allows(mapped) || list.Allows(miss) != (n == 0) {
				panic("wrong")
			}
		}), n)
	}
}

func FuzzParseAllowList(f *testing.F) {
	for _, seed := range []string{
		"10.0.0.1", "10.0.0.0/8", "10.0.0.5/8", "::ffff:10.0.0.0/104", "::ffff:10.0.0.0/64", "fe80::1%eth0", "0.0.0.0/0", "::/0",
		"010.0.0.1", "10.1", "0x0a000001", "localhost:80", "[::1]:80", "2001:db8::/32", "10.0.0.1/00ffffff", "::", "",
	} {
		f.Add(seed, "192.0.2.1")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		list, err := token.ParseAllowList([]string{a, b}, false)
		if err != nil {
			var field *token.FieldError
			require.True(t, errors.As(err, &field))
			require.True(t, list.Empty())
			return
		}
		// What is accepted reads the same to netip, and survives storing.
		require.False(t, list.Empty())
		for _, entry := range []string{a, b} {
			addr, err := netip.ParseAddr(entry)
			if err != nil {
				prefix, err := netip.ParsePrefix(entry)
				require.NoError(t, err)
				require.Equal(t, prefix.Masked(), prefix)
				addr = prefix.Addr()
			}
			require.True(t, list.Allows(addr))
		}
		again, err := token.ParseAllowList(list.Strings(), true)
		require.NoError(t, err)
		require.True(t, list.Equal(again))
		require.False(t, list.Allows(netip.Addr{}))
	})
}

// spread gives n ranges that neither touch nor contain each other.
func spread(n int) []string {
	entries := make([]string, n)
	for i := range entries {
		entries[i] = fmt.Sprintf("10.%d.%d.0/25", i/200, i%200)
	}
	return entries
}
