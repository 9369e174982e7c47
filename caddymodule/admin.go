package caddymodule

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/tokenstore"
)

func init() {
	caddy.RegisterModule(new(AdminAPI))
}

// adminBase is where the management API stands on Caddy's admin endpoint.
const adminBase = "/sallyport/v1"

// AdminAPI serves the management API of the active configuration under
// `/sallyport/v1` on Caddy's admin endpoint. Whoever reaches that endpoint is an
// operator; over remote administration, the client certificate says which.
type AdminAPI struct{}

// CaddyModule returns the Caddy module information.
func (*AdminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.sallyport",
		New: func() caddy.Module { return new(AdminAPI) },
	}
}

// Routes returns the routes. Each names its method: a pattern without one makes
// the mux redirect changes that lack a slash, and a redirected change is a read.
func (a *AdminAPI) Routes() []caddy.AdminRoute {
	var routes []caddy.AdminRoute
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		routes = append(routes, caddy.AdminRoute{
			Pattern: method + " " + adminBase + "/{path...}",
			Handler: caddy.AdminHandlerFunc(a.serve),
		})
	}
	return routes
}

func (a *AdminAPI) serve(w http.ResponseWriter, r *http.Request) error {
	if !isMutualTLS(r) && !cameOverPrivateEndpoint(r) {
		writeAdminProblem(w, http.StatusForbidden, "forbidden",
			"the management API answers only over a Unix socket, a loopback address, or Caddy's remote administration with client certificates; "+
				"this endpoint is none of them: change `admin` in the global options")
		return nil
	}
	// The app is looked up each time: this router may belong to a configuration
	// that failed to load after its admin endpoint had taken over.
	app, err := activeApp()
	if errors.Is(err, caddy.ErrNotConfigured) && caddy.ActiveContext().Context == nil {
		writeAdminProblem(w, http.StatusServiceUnavailable, "store_unavailable", "the gateway is starting: try again")
		return nil
	}
	if errors.Is(err, caddy.ErrNotConfigured) {
		writeAdminProblem(w, http.StatusServiceUnavailable, "not_configured",
			"the active configuration uses no sallyport: add the `sallyport` directive to a site, or `sallyport` to the global options, and reload")
		return nil
	}
	if err != nil {
		caddy.Log().Named("admin.api.sallyport").Error("could not find the active app", zap.Error(err))
		writeAdminProblem(w, http.StatusServiceUnavailable, "not_configured", "the sallyport app of the active configuration is not to be found; the log says why")
		return nil
	}
	s := app.serving.Load()
	if s == nil {
		writeAdminProblem(w, http.StatusServiceUnavailable, "store_unavailable", "the store is not open yet: try again")
		return nil
	}
	s.api.ServeHTTP(w, r)
	return nil
}

// newAdminAPI makes the API as the admin endpoint and the commands serve it. Off
// line there is no gateway whose health could be asked, and none that looks after
// tokens: keeper is nil.
func newAdminAPI(a *authority.Authority, keeper api.Lifecycle, health func(context.Context) api.Health, onError func(context.Context, api.Failure)) (http.Handler, error) {
	version, _ := caddy.Version()
	return api.New(api.Options{
		Authority: a,
		Lifecycle: keeper,
		Identify:  identifyOperator,
		BasePath:  adminBase,
		Version:   version,
		Health:    health,
		OnError:   onError,
	})
}

// identifyOperator names who asks: the subject of a verified client
// certificate, or else whoever the caller claims to be.
func identifyOperator(r *http.Request) (tokenstore.Actor, error) {
	actor := tokenstore.Actor{Kind: tokenstore.OperatorActor}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil { // a Unix socket has none
		actor.Address = peer.Addr().Unmap().String()
	}
	if isMutualTLS(r) {
		actor.Name = certificateName(r.TLS.VerifiedChains[0][0])
		actor.Verified = true
		return actor, nil
	}
	actor.Name = r.Header.Get(api.OperatorHeader)
	return actor, nil
}

// certificateName is a certificate's subject as the audit log takes it, or else
// what tells the certificate from all others.
func certificateName(c *x509.Certificate) string {
	const longest = 100 // as the audit log allows
	name := c.Subject.String()
	if name == "" || utf8.RuneCountInString(name) > longest || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Sprintf("certificate %x", sha256.Sum256(c.Raw))
	}
	return name
}

// isMutualTLS says whether the caller proved who it is. Caddy's remote
// administration has by then checked that this certificate may do this.
func isMutualTLS(r *http.Request) bool {
	return r.TLS != nil && len(r.TLS.VerifiedChains) > 0 && len(r.TLS.VerifiedChains[0]) > 0
}

// writeAdminProblem answers for an API that there is no handler for. It is a
// problem like the API's own, so that clients understand it.
func writeAdminProblem(w http.ResponseWriter, status int, code, detail string) {
	body, err := json.Marshal(map[string]any{
		"type": "urn:sallyport:problem:" + code, "title": http.StatusText(status), "status": status, "code": code, "detail": detail,
	})
	if err != nil {
		body = []byte(`{}`)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the caller left
}

var _ caddy.AdminRouter = (*AdminAPI)(nil)
