package caddymodule

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"reflect"

	"github.com/caddyserver/caddy/v2"
)

// Whoever reaches Caddy's admin endpoint is an operator, so it must not be
// reachable from other machines, unless a client certificate says who asks.
// That is held at two points: the start looks at the address in the
// configuration, and every request at the listener that it came through.

// checkAdminEndpoint stops a configuration whose plain admin endpoint is
// reachable from elsewhere.
func checkAdminEndpoint(ctx caddy.Context) error {
	listen, enabled, known := adminListen(ctx)
	if !known || !enabled {
		return nil // requests are looked at all the same
	}
	address, err := parseAdminAddress(listen)
	if err != nil {
		return nil // Caddy itself tells what is wrong with it
	}
	if isPrivateEndpoint(address) {
		return nil
	}
	return fmt.Errorf("the admin endpoint would listen on an address that other machines reach, and whoever reaches it may issue tokens: " +
		"write `admin localhost:2019` or `admin unix//run/sallyport/admin.sock` in the global options; " +
		"for administration from elsewhere use Caddy's remote administration (`remote` under `admin` in the JSON configuration), which asks for client certificates")
}

// adminListen finds the address of the plain admin endpoint in a configuration
// that is being provisioned. Caddy gives modules no way to ask for it, so it is
// read, and only read, by reflection. known is false when a later Caddy lays
// its context out in another way.
func adminListen(ctx caddy.Context) (listen string, enabled, known bool) {
	config := reflect.ValueOf(ctx).FieldByName("cfg")
	if config.Kind() != reflect.Pointer || config.Type() != reflect.TypeFor[*caddy.Config]() || config.IsNil() {
		return "", false, false
	}
	admin := config.Elem().FieldByName("Admin")
	if admin.Kind() != reflect.Pointer || admin.Type() != reflect.TypeFor[*caddy.AdminConfig]() {
		return "", false, false
	}
	if admin.IsNil() {
		return caddy.DefaultAdminListen, true, true
	}
	if admin.Elem().FieldByName("Disabled").Bool() {
		return "", false, true
	}
	listen = admin.Elem().FieldByName("Listen").String()
	if listen == "" {
		listen = caddy.DefaultAdminListen
	}
	return listen, true, true
}

func parseAdminAddress(listen string) (caddy.NetworkAddress, error) {
	listen, err := caddy.NewReplacer().ReplaceOrErr(listen, true, true)
	if err != nil {
		return caddy.NetworkAddress{}, err
	}
	return caddy.ParseNetworkAddress(listen)
}

// isPrivateEndpoint says whether an endpoint's address is one that only this
// machine reaches. A file descriptor says nothing about where it listens; its
// requests do.
func isPrivateEndpoint(address caddy.NetworkAddress) bool {
	if address.IsUnixNetwork() || address.IsFdNetwork() || address.Host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(address.Host)
	return err == nil && ip.Unmap().IsLoopback()
}

// cameOverPrivateEndpoint says whether a request reached this process in a way
// that only this machine has. It asks twice: the listener's configured address,
// since a wildcard address also takes requests over loopback, for which Caddy
// then does not check the Host header (a page in a browser could send them by DNS
// rebinding); and the connection's own address, since a name or a file descriptor
// may stand for any.
func cameOverPrivateEndpoint(r *http.Request) bool {
	server, ok := r.Context().Value(http.ServerContextKey).(*http.Server)
	if !ok {
		return false
	}
	configured, err := caddy.ParseNetworkAddress(server.Addr)
	if err != nil || !isPrivateEndpoint(configured) {
		return false
	}
	switch local := r.Context().Value(http.LocalAddrContextKey).(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		return local.AddrPort().Addr().Unmap().IsLoopback()
	default:
		return false
	}
}
