package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/tokenstore"
)

// requestLimit bounds one request to the gateway, the longest of which walks the
// whole audit log.
const requestLimit = 5 * time.Minute

// connection is a client with what has to be closed after it.
type connection struct {
	client *api.Client
	close  func() error
}

// connect reaches the gateway, or opens the store in its stead.
func (in *invocation) connect(ctx context.Context) (connection, error) {
	if in.offline {
		store, err := in.openStore(ctx, mustExist)
		if err != nil {
			return connection{}, err
		}
		client, err := store.client()
		if err != nil {
			return connection{}, errors.Join(err, store.Close())
		}
		client.Operator = in.operatorName()
		in.inName(client)
		return connection{client: client, close: store.Close}, nil
	}
	address, err := in.adminAddress()
	if err != nil {
		return connection{}, err
	}
	base, hc, err := adminClient(address)
	if err != nil {
		return connection{}, err
	}
	client, err := api.NewClient(base, hc)
	if err != nil {
		return connection{}, err
	}
	client.Operator = in.operatorName()
	in.inName(client)
	return connection{client: client, close: func() error { hc.CloseIdleConnections(); return nil }}, nil
}

// operatorName is what the caller goes by: a claim, and marked as one.
func (in *invocation) operatorName() string {
	if in.operator != "" {
		return in.operator
	}
	if who, err := user.Current(); err == nil {
		return who.Username
	}
	return ""
}

// adminAddress finds the admin endpoint as Caddy's own commands do.
func (in *invocation) adminAddress() (string, error) {
	if in.address != "" {
		return in.address, nil
	}
	config, err := in.loadConfig()
	if err != nil {
		return "", err
	}
	return caddycmd.DetermineAdminAPIAddress("", config, in.configFile(), in.adapter)
}

// configFile is the file that is read: the one that was named, or the Caddyfile
// beside us if there is one.
func (in *invocation) configFile() string {
	if in.config != "" {
		return in.config
	}
	if _, err := os.Stat("Caddyfile"); err == nil {
		return "Caddyfile"
	}
	return ""
}

// loadConfig reads and adapts the configuration; nil when there is none.
func (in *invocation) loadConfig() ([]byte, error) {
	file := in.configFile()
	if file == "" {
		return nil, nil
	}
	// Caddy logs its steps, which are not what these commands are about.
	caddy.BufferedLog()
	config, _, _, err := caddycmd.LoadConfig(file, in.adapter)
	if err != nil {
		if in.config == "" {
			return nil, fmt.Errorf("%w; to leave the Caddyfile of this directory out, give --address or another --config", err)
		}
		return nil, err
	}
	return config, nil
}

var errAdminAddress = errors.New("the address of the admin endpoint is neither host:port nor unix/path")

// adminClient makes an HTTP client for an admin endpoint, which may be a Unix
// socket, and the base of the API's URLs there.
func adminClient(address string) (base string, hc *http.Client, err error) {
	parsed, err := parseAdminAddress(address)
	if err != nil || parsed.PortRangeSize() > 1 {
		return "", nil, errAdminAddress
	}
	network, dial, origin := parsed.Network, parsed.JoinHostPort(0), ""
	switch {
	case parsed.IsUnixNetwork():
		// The path may carry the socket's permissions: unix//run/admin.sock|0660
		dial, _, _ = strings.Cut(parsed.Host, "|")
		network, base = "unix", "http://127.0.0.1"
	case parsed.IsFdNetwork():
		return "", nil, errors.New("the admin endpoint is a file descriptor of the gateway: give --address with the address of its socket")
	case parsed.StartPort == 0 || strings.ContainsAny(parsed.Host, " /?#@"):
		return "", nil, errAdminAddress
	default:
		base = "http://" + dial
		origin = base
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, dial)
			if err != nil {
				return nil, &unreachableError{address: address, err: err}
			}
			return conn, nil
		},
	}
	return base + adminBase, &http.Client{Transport: originTransport{inner: transport, origin: origin}, Timeout: requestLimit}, nil
}

// originTransport names the endpoint itself as the origin, which Caddy may be
// configured to insist on.
type originTransport struct {
	inner  *http.Transport
	origin string
}

func (t originTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.origin != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Origin", t.origin)
	}
	return t.inner.RoundTrip(r)
}

func (t originTransport) CloseIdleConnections() { t.inner.CloseIdleConnections() }

// unreachableError says that no gateway answers at an address.
type unreachableError struct {
	address string
	err     error
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("no gateway answers at %s: start it, or give --address or --config with its admin endpoint, or --offline to work on the store itself (%v)", e.address, e.err)
}

func (e *unreachableError) Unwrap() error { return e.err }

// store is the store itself, opened by a command.
type store struct {
	tokenstore.Store
	authority *authority.Authority
	by        authority.By
	place     string
}

// Whether opening the store may make it.
const (
	mustExist = false
	mayCreate = true
)

// openStore opens the store that the configuration names, beside a gateway or
// without one.
func (in *invocation) openStore(ctx context.Context, create bool) (*store, error) {
	app, err := in.configuredApp()
	if err != nil {
		return nil, err
	}
	caddyContext, cancel := caddy.NewContext(caddy.Context{Context: ctx})
	defer cancel()
	if err := app.configure(caddyContext); err != nil {
		return nil, err
	}
	exists, err := app.driver.Exists()
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%w: run this as the user that the gateway runs as", err)
	}
	if err != nil {
		return nil, err
	}
	if !exists && !create {
		return nil, fmt.Errorf("there is no store at %s yet: start the gateway once or run the command migrate; if the store is elsewhere, give --config with the gateway's configuration, and run this as the user that the gateway runs as", app.driver.Identity())
	}
	if err := app.keys.settle(); err != nil {
		return nil, err
	}
	if app.keys.warning != "" {
		in.say("Warning: %s", app.keys.warning)
	}
	opened, err := app.driver.Open(ctx, app.keys.ring)
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	s := &store{
		Store:     opened,
		authority: newAuthority(opened, app.keys.ring, app.SecretPrefixes, app.teller()),
		by:        authority.By{Actor: tokenstore.Actor{Kind: tokenstore.OperatorActor, Name: in.operatorName()}},
		place:     app.driver.Identity(),
	}
	s.authority.Webhooks = &notify.Webhooks{Store: opened, Ring: app.keys.ring, Now: time.Now, Allow: app.allowed}
	if err := s.checkKeys(ctx, app.keys.ring, create); err != nil {
		return nil, errors.Join(fmt.Errorf("master keys: %w", err), opened.Close())
	}
	return s, nil
}

// checkKeys sees to it that the keys fit the store. Only a new store learns keys
// by it: one that was removed while its line is still in the file must stay so.
func (s *store) checkKeys(ctx context.Context, ring *tokenstore.Ring, create bool) error {
	if create {
		return s.authority.EnsureKeys(ctx, bySystem)
	}
	return s.Read(ctx, func(tx *tokenstore.Tx) error {
		known, err := tx.MasterKeys()
		if err != nil {
			return err
		}
		return ring.CheckAgainst(known)
	})
}

// configuredApp is the app of the configuration, or the default one.
func (in *invocation) configuredApp() (*App, error) {
	config, err := in.loadConfig()
	if err != nil || config == nil {
		return new(App), err
	}
	var parts struct {
		Apps struct {
			Sallyport json.RawMessage `json:"sallyport"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(config, &parts); err != nil {
		return nil, fmt.Errorf("%s: %w", in.configFile(), err)
	}
	app := new(App)
	if parts.Apps.Sallyport == nil {
		return app, nil
	}
	if err := caddy.StrictUnmarshalJSON(parts.Apps.Sallyport, app); err != nil {
		return nil, fmt.Errorf("%s: %w", in.configFile(), err)
	}
	return app, nil
}

// client serves the management API from the store, in this process.
func (s *store) client() (*api.Client, error) {
	handler, err := newAdminAPI(s.authority, nil, nil, nil)
	if err != nil {
		return nil, err
	}
	return api.NewHandlerClient(handler, adminBase), nil
}
