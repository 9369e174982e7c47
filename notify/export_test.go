package notify

import "net/netip"

// Reachable says whether a webhook that nobody declared may be at an address.
func Reachable(ip netip.Addr) bool { return (&Webhooks{}).check(ip, false) == nil }
