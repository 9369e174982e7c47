package token

import (
	"net/netip"
	"slices"
)

// Narrowest is the least that permits what was used of a grant, as far as the grant
// still permits it; zero: nothing was. It never permits what the grant does not.
// nature tells what declared scopes let happen now.
func Narrowest(held *Grant, used []Scope, nature func(string) (Scope, bool)) Grant {
	var kept []Scope
	for _, s := range used {
		// What the token may not do any more is nothing that it needs.
		if held.Holds(s) {
			kept = append(kept, s)
		}
	}
	if len(kept) == 0 {
		return Grant{}
	}
	names := make([]string, len(kept))
	reads, plain := true, true
	for i, s := range kept {
		names[i] = s.Name
		reads = reads && !needsWrite(s, nature)
		plain = plain && s.Name == ReadScope.Name
	}
	slices.Sort(names)
	custom := Grant{Access: Custom, Scopes: slices.Compact(names)}
	level := Grant{Access: ReadOnly}
	switch {
	case held.Access == Custom:
		// A level would let it do what no scope of its own does.
		return custom
	case plain:
		// The scope read stands for what no other scope names: whoever used nothing
		// else is an ordinary reader, and would be shut out by the first scope that is
		// declared.
		return level
	case len(custom.Scopes) <= MaxScopes:
		return custom
	case reads && permits(&level, kept):
		return level
	default:
		return *held
	}
}

func permits(g *Grant, used []Scope) bool {
	return !slices.ContainsFunc(used, func(s Scope) bool { return !g.Holds(s) })
}

// The broadest ranges that addresses are joined into: anything more does not count
// as an allow-list where a policy requires one.
const (
	broadest4 = 8
	broadest6 = 16
)

// JoinAddresses gives the narrowest entries of an allow-list that hold all the
// addresses and ranges. Neighbours are joined where nothing else comes in by it; and
// further, as little as needed, while there are more than an allow-list can have.
// ok is false when there is no such list, or a text is no address.
func JoinAddresses(addresses []string) (entries []string, ok bool) {
	prefixes := make([]netip.Prefix, 0, len(addresses))
	for _, text := range addresses {
		prefix, problem := parseEntry(text)
		if problem != "" {
			return nil, false
		}
		prefixes = append(prefixes, prefix)
	}
	prefixes = joinSiblings(disjoint(prefixes))
	for cut := 1; len(prefixes) > MaxAllowList; cut++ {
		bits4, bits6 := 32-cut, 128-4*cut
		if bits4 < broadest4 {
			return nil, false
		}
		for i, p := range prefixes {
			most := max(bits6, broadest6)
			if p.Addr().Is4() {
				most = bits4
			}
			prefixes[i] = netip.PrefixFrom(p.Addr(), min(p.Bits(), most)).Masked()
		}
		prefixes = joinSiblings(disjoint(prefixes))
	}
	list := AllowList{prefixes: prefixes}
	if list.Broad() {
		return nil, false
	}
	return list.Strings(), true
}

// joinSiblings makes one range of two halves that stand side by side, as long as
// there are any. It takes sorted, disjoint ranges and gives such.
func joinSiblings(prefixes []netip.Prefix) []netip.Prefix {
	joined := prefixes[:0]
	for _, p := range prefixes {
		joined = append(joined, p)
		for len(joined) > 1 {
			left, right := joined[len(joined)-2], joined[len(joined)-1]
			if left.Bits() != right.Bits() || left.Addr().Is4() != right.Addr().Is4() {
				break
			}
			broadest := broadest6
			if left.Addr().Is4() {
				broadest = broadest4
			}
			whole := netip.PrefixFrom(left.Addr(), left.Bits()-1).Masked()
			if whole.Bits() < broadest || whole.Addr() != left.Addr() || !whole.Contains(right.Addr()) {
				break
			}
			joined = append(joined[:len(joined)-2], whole)
		}
	}
	return joined
}
