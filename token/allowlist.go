package token

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"
	sockaddr "github.com/hashicorp/go-sockaddr"
)

// MaxAllowList is the most entries that an allow-list can have.
const MaxAllowList = 1000

const (
	fieldAllowList = "ip_allowlist"

	// maxEntryLength is more than the longest spelling of a range, so that
	// nothing longer reaches a parser.
	maxEntryLength = 64

	// scanned is how many entries are compared one after the other. A table is
	// as fast from some five on (BenchmarkAllows), but takes memory that every
	// cached token would pay for.
	scanned = 8
)

// AllowList is the addresses that a token may be used from. The zero value has
// no entries and allows every address; ParseAllowList makes all others. It never
// changes and may be shared.
//
// An IPv6 address that carries an IPv4 address inside (NAT64, 6to4) is an IPv6
// address like any other: only the mapped form ::ffff:a.b.c.d is the same
// address in another spelling.
type AllowList struct {
	prefixes []netip.Prefix // sorted, none inside another
	table    *bart.Lite     // the same entries, when there are more than scanned
}

// ParseAllowList reads addresses and CIDR ranges. IPv4-mapped addresses become
// IPv4; host bits, zones, names, leading zeros and mapped ranges shorter than
// /96 are refused. So is whatever allows every address of IPv4 or of IPv6, as
// one /0 or in pieces, unless allowAny is set. The error is a *FieldError that
// names the entry by its position and says how to mend it.
func ParseAllowList(entries []string, allowAny bool) (AllowList, error) {
	if len(entries) > MaxAllowList {
		return AllowList{}, &FieldError{Field: fieldAllowList, Problem: fmt.Sprintf("at most %d entries: join neighbouring addresses into ranges", MaxAllowList)}
	}
	prefixes := make([]netip.Prefix, 0, len(entries))
	for i, entry := range entries {
		prefix, problem := parseEntry(entry)
		if problem == "" && prefix.Bits() == 0 && !allowAny {
			problem = problemAny
		}
		if problem != "" {
			return AllowList{}, &FieldError{Field: fmt.Sprintf("%s[%d]", fieldAllowList, i), Problem: problem}
		}
		prefixes = append(prefixes, prefix)
	}
	prefixes = disjoint(prefixes)
	if !allowAny && coversFamily(prefixes) {
		return AllowList{}, &FieldError{Field: fieldAllowList, Problem: "the entries together allow every address; " + problemAny}
	}
	if len(prefixes) == 0 {
		return AllowList{}, nil
	}
	list := AllowList{prefixes: slices.Clip(prefixes)}
	if len(prefixes) > scanned {
		list.table = new(bart.Lite)
		for _, prefix := range prefixes {
			list.table.Insert(prefix)
		}
	}
	return list, nil
}

const (
	problemAny    = "a range of every address restricts nothing: leave the list empty, or name narrower ranges"
	problemFormat = "must be an IPv4 or IPv6 address such as 192.0.2.7, or a range such as 192.0.2.0/24 or 2001:db8::/32: no name, port, bracket, space or leading zero"
	problemZone   = "must not have a zone (%…), which means something on one machine only"
	problemMapped = "an IPv4-mapped range needs a length of 96 or more: write it as an IPv4 range"
	problemUnsure = "is read differently by different programs: write it another way"
)

// parseEntry reads one entry, or says what is wrong with it. netip decides what
// is well-formed, since go-sockaddr asks the DNS about what it takes for a name,
// and cuts off what it takes for a netmask; what passes, both must read alike.
func parseEntry(entry string) (netip.Prefix, string) {
	if len(entry) > maxEntryLength {
		return netip.Prefix{}, problemFormat
	}
	if strings.Contains(entry, "%") {
		return netip.Prefix{}, problemZone
	}
	var read netip.Prefix
	if strings.Contains(entry, "/") {
		var err error
		if read, err = netip.ParsePrefix(entry); err != nil {
			return netip.Prefix{}, problemFormat
		}
	} else {
		addr, err := netip.ParseAddr(entry)
		if err != nil {
			return netip.Prefix{}, problemFormat
		}
		read = netip.PrefixFrom(addr, addr.BitLen())
	}
	if read.Addr().Is4In6() {
		if read.Bits() < 96 {
			return netip.Prefix{}, problemMapped
		}
		read = netip.PrefixFrom(read.Addr().Unmap(), read.Bits()-96)
	}
	canonical := canonicalRange(entry)
	if canonical != read.Masked() {
		return netip.Prefix{}, problemUnsure
	}
	if canonical != read {
		return netip.Prefix{}, "has host bits set; the range is " + canonical.String()
	}
	return canonical, ""
}

// canonicalRange is how go-sockaddr reads an entry, with the host bits cleared.
// It is not valid when go-sockaddr reads no address in it, or a port too.
func canonicalRange(entry string) netip.Prefix {
	parsed, err := sockaddr.NewIPAddr(entry)
	if err != nil || parsed.IPPort() != 0 {
		return netip.Prefix{}
	}
	addr, _ := netip.AddrFromSlice(*parsed.Network().NetIP())
	if parsed.Type() == sockaddr.TypeIPv4 {
		addr = addr.Unmap()
	}
	return netip.PrefixFrom(addr, parsed.Maskbits())
}

// disjoint sorts entries and drops those inside another. A range sorts directly
// before what it contains, so that one look back is enough.
func disjoint(prefixes []netip.Prefix) []netip.Prefix {
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	kept := prefixes[:0]
	for _, prefix := range prefixes {
		if n := len(kept); n > 0 && kept[n-1].Contains(prefix.Addr()) {
			continue
		}
		kept = append(kept, prefix)
	}
	return kept
}

// coversFamily says whether sorted, disjoint entries leave no address of IPv4 or
// of IPv6 out: 0.0.0.0/1 with 128.0.0.0/1 is /0 in two pieces.
func coversFamily(prefixes []netip.Prefix) bool {
	next := netip.Addr{} // the first address that a gapless run has not reached
	for _, prefix := range prefixes {
		first := prefix.Addr()
		if first.IsUnspecified() {
			next = first
		}
		if first != next {
			next = netip.Addr{}
			continue
		}
		if next = lastOf(prefix).Next(); !next.IsValid() {
			return true
		}
	}
	return false
}

func lastOf(prefix netip.Prefix) netip.Addr {
	raw := prefix.Addr().AsSlice()
	for bit := prefix.Bits(); bit < len(raw)*8; bit++ {
		raw[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(raw)
	return last
}

// Allows says whether a request from the address may pass. An unknown address
// (the zero Addr) passes only an empty list.
func (l *AllowList) Allows(addr netip.Addr) bool {
	if len(l.prefixes) == 0 {
		return true
	}
	// A mapped or zoned address is inside no range as netip and bart see it.
	addr = addr.Unmap().WithZone("")
	if l.table != nil {
		return l.table.Contains(addr)
	}
	for i := range l.prefixes {
		if l.prefixes[i].Contains(addr) {
			return true
		}
	}
	return false
}

// Empty says whether the list has no entries.
func (l *AllowList) Empty() bool { return len(l.prefixes) == 0 }

// Strings gives the entries in canonical form and order; single addresses
// stand without a length. ParseAllowList with allowAny makes the same list of
// them again, which is how a list is stored.
func (l *AllowList) Strings() []string {
	entries := make([]string, len(l.prefixes))
	for i, prefix := range l.prefixes {
		if prefix.IsSingleIP() {
			entries[i] = prefix.Addr().String()
		} else {
			entries[i] = prefix.String()
		}
	}
	return entries
}

// Broad says whether an entry is broader than /8 (IPv4) or /16 (IPv6), which
// does not satisfy a policy that requires an allow-list.
func (l *AllowList) Broad() bool {
	return slices.ContainsFunc(l.prefixes, func(prefix netip.Prefix) bool {
		if prefix.Addr().Is4() {
			return prefix.Bits() < 8
		}
		return prefix.Bits() < 16
	})
}

// Equal says whether both lists have the same entries.
//
//nolint:recvcheck // a value receiver, so that cmp finds it on values
func (l AllowList) Equal(other AllowList) bool { return slices.Equal(l.prefixes, other.prefixes) }
