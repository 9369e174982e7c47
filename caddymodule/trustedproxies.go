package caddymodule

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// checkTrustedProxies stops a configuration in which a client could choose the
// address that it is judged by. It looks at every server, since a gate may be
// reached through any of them.
func checkTrustedProxies(app *caddyhttp.App) error {
	for _, server := range app.Servers {
		if err := checkServerProxies(server); err != nil {
			return err
		}
	}
	return nil
}

// checkServerProxies looks at one server, after Caddy has set its proxies up.
func checkServerProxies(server *caddyhttp.Server) error {
	trusts, known := trustsProxies(server)
	switch {
	case trustsEverybody(server):
		return fmt.Errorf("%s: trusted_proxies covers everybody, so that each client may name the address that it is judged by: "+
			"list only the addresses of your own proxies", serverName(server))
	case server.TrustedProxiesStrict > 0:
		return nil
	case known && trusts, server.TrustedProxiesUnix:
		return fmt.Errorf("%s: trusted_proxies is set without trusted_proxies_strict, so that Caddy takes the left-most address of X-Forwarded-For, which the client wrote: "+
			"add trusted_proxies_strict beside it", serverName(server))
	default:
		return nil
	}
}

func serverName(server *caddyhttp.Server) string {
	name := "servers"
	if server.Name() != "" {
		name = "server " + server.Name()
	}
	if len(server.Listen) > 0 {
		name += " (" + strings.Join(server.Listen, ", ") + ")"
	}
	return name
}

// trustsProxies says whether a server has trusted_proxies. Caddy forgets the
// configuration once it is loaded, and shows the result to nobody, so that one
// field is looked at, and only looked at, by reflection. known is false when a
// later Caddy keeps it elsewhere.
func trustsProxies(server *caddyhttp.Server) (trusts, known bool) {
	if server.TrustedProxiesRaw != nil {
		return true, true // not loaded yet
	}
	field := reflect.ValueOf(server).Elem().FieldByName("trustedProxies")
	if field.Kind() != reflect.Interface {
		return false, false
	}
	return !field.IsNil(), true
}

// nobodysAddresses are in ranges from which no request can come. A list of
// proxies that has one of them is one that somebody made to cover everything,
// or half of it.
var nobodysAddresses = []netip.Addr{
	netip.MustParseAddr("0.1.2.3"),   // "this network": /0, and /1 from below
	netip.MustParseAddr("240.0.0.1"), // reserved: /0, and /1 from above
	netip.MustParseAddr("100::1"),    // discard-only: ::/0 and its lower half
	netip.MustParseAddr("3ffe::1"),   // given back in 2006: all of 2000::/3
	netip.MustParseAddr("c000::1"),   // never assigned: the upper half of ::/0
}

// trustsEverybody asks the server itself, whatever module its list comes from.
func trustsEverybody(server *caddyhttp.Server) bool {
	for _, addr := range nobodysAddresses {
		r := &http.Request{
			Method:     http.MethodGet,
			URL:        &url.URL{Path: "/"},
			Header:     http.Header{},
			RemoteAddr: netip.AddrPortFrom(addr, 1).String(),
		}
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, server)
		if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted {
			return true
		}
	}
	return false
}
