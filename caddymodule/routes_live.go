package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// warnOfRoutes tells in the log when requests can be answered that have passed no
// gate. It never stops a start: what is public on purpose is not known here.
func (a *App) warnOfRoutes() {
	if a.gates.Load() == 0 {
		return // tokens are only managed here
	}
	app, err := a.httpApp()
	if err != nil || app == nil {
		return // without it nothing is answered
	}
	audit, err := auditRunning(app)
	const hint = "`sallyport routes --config FILE` lists them, and --allow names those that are meant to be public"
	switch {
	case err != nil:
		a.logger.Warn("it was not found out which routes can be reached without a gate; "+hint, zap.Error(err))
	case len(audit.Unguarded) > 0:
		a.logger.Warn("some routes can be reached without a gate; "+hint, zap.Int("routes", len(audit.Unguarded)), zap.Int("guarded", len(audit.Guarded)))
	}
}

// auditRunning looks at an app that Caddy has set up. Caddy forgets the JSON then, so
// that the routes are read back from what was made of them.
func auditRunning(app *caddyhttp.App) (audit *routesAudit, err error) {
	defer func() { // modules of others are asked what they are
		if r := recover(); r != nil {
			err = fmt.Errorf("a module could not be looked at: %T", r)
		}
	}()
	servers := map[string]*auditServer{}
	l := &liveRoutes{left: maxVisits}
	for name, server := range app.Servers {
		s := &auditServer{Listen: server.Listen, Routes: l.list(server.Routes, 0)}
		if server.Errors != nil {
			s.Errors = &auditErrors{Routes: l.list(server.Errors.Routes, 0)}
		}
		s.NamedRoutes = map[string]*auditRoute{}
		for name, route := range server.NamedRoutes {
			if route != nil {
				r := l.route(route, 0)
				s.NamedRoutes[name] = &r
			}
		}
		servers[name] = s
	}
	if l.err != nil {
		return nil, l.err
	}
	return auditServers(servers)
}

// liveRoutes reads routes back.
type liveRoutes struct {
	left int
	err  error
}

func (l *liveRoutes) list(routes caddyhttp.RouteList, depth int) []auditRoute {
	list := []auditRoute{}
	for i := range routes {
		switch l.left--; {
		case l.left < 0:
			l.err = errTooMany
		case depth > maxNesting:
			l.err = errTooDeep
		}
		if l.err != nil {
			return list
		}
		if redirectsToHTTPS(&routes[i]) {
			continue
		}
		list = append(list, l.route(&routes[i], depth))
	}
	return list
}

// redirectsToHTTPS tells the routes that automatic HTTPS adds: Caddy makes their
// handler itself, by value, while a configured one is a pointer.
func redirectsToHTTPS(route *caddyhttp.Route) bool {
	if len(route.Handlers) != 1 {
		return false
	}
	response, ok := route.Handlers[0].(caddyhttp.StaticResponse)
	return ok && len(response.Headers["Location"]) == 1 && strings.HasPrefix(response.Headers["Location"][0], "https://{http.request.host}")
}

func (l *liveRoutes) route(route *caddyhttp.Route, depth int) auditRoute {
	r := auditRoute{Group: route.Group, Terminal: route.Terminal, Match: l.match(route.MatcherSets)}
	for _, handler := range route.Handlers {
		r.Handle = append(r.Handle, l.handler(handler, depth+1))
	}
	return r
}

func (l *liveRoutes) match(sets caddyhttp.MatcherSets) []map[string]json.RawMessage {
	var list []map[string]json.RawMessage
	for _, set := range sets {
		modules := map[string]json.RawMessage{}
		for i, matcher := range set {
			name := moduleName(matcher)
			if not, ok := matcher.(*caddyhttp.MatchNot); ok {
				modules["not"] = l.json(l.match(not.MatcherSets))
				continue
			}
			// What others keep in their matchers is not known, nor whether they show it.
			if !understoodMatchers[name] {
				modules[fmt.Sprintf("%s (%d)", name, i)] = json.RawMessage("null")
				continue
			}
			modules[name] = l.json(matcher)
		}
		list = append(list, modules)
	}
	return list
}

func moduleName(module any) string {
	m, ok := module.(caddy.Module)
	if !ok {
		return ""
	}
	return m.CaddyModule().ID.Name()
}

// handler reads back what the audit wants to know of a handler: its name, its lists
// of routes, and of a few of Caddy's own the rest as well.
func (l *liveRoutes) handler(handler caddyhttp.MiddlewareHandler, depth int) json.RawMessage {
	name := moduleName(handler)
	fields := map[string]json.RawMessage{}
	switch name {
	case "static_response", "file_server", "headers", "invoke":
		if err := json.Unmarshal(l.json(handler), &fields); err != nil {
			l.err = errors.Join(l.err, fmt.Errorf("handler %s: %w", name, err))
		}
	}
	value := reflect.Indirect(reflect.ValueOf(handler))
	if value.Kind() == reflect.Struct {
		for i := range value.NumField() {
			field := value.Type().Field(i)
			if !field.IsExported() {
				continue
			}
			key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if key == "" || key == "-" {
				key = field.Name
			}
			switch content := value.Field(i).Interface().(type) {
			case caddyhttp.RouteList:
				fields[key] = l.json(l.list(content, depth))
			case []caddyhttp.Route:
				fields[key] = l.json(l.list(content, depth))
			case *caddyhttp.HTTPErrorConfig:
				if content != nil {
					fields[key] = l.json(auditErrors{Routes: l.list(content.Routes, depth)})
				}
			case []caddyhttp.ResponseHandler:
				responses := make([]responseRoutes, len(content))
				for i := range content {
					responses[i].Routes = l.list(content[i].Routes, depth)
				}
				fields[key] = l.json(responses)
			}
		}
	}
	fields["handler"] = l.json(name)
	return l.json(fields)
}

func (l *liveRoutes) json(value any) json.RawMessage {
	raw, err := json.Marshal(value)
	if err != nil {
		l.err = errors.Join(l.err, err)
		return json.RawMessage("null")
	}
	return raw
}
