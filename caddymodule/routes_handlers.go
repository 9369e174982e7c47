package caddymodule

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// knownHandlers are Caddy's own, whose ways are known here. Any other may answer, go
// on, or change the request.
var knownHandlers = map[string]bool{
	gateHandler: true, "subroute": true, "invoke": true,
	"reverse_proxy": true, "intercept": true, "static_response": true, "error": true,
	"file_server": true, "metrics": true, "acme_server": true,
	"copy_response": true, "copy_response_headers": true,
	"authentication": true, "encode": true, "headers": true, "log_append": true, "map": true,
	"push": true, "request_body": true, "rewrite": true, "templates": true, "timeouts": true,
	"tracing": true, "vars": true,
}

// handler walks one handler, and says what holds behind it.
func (w *routeWalk) handler(raw json.RawMessage, p *place) (onward, error) {
	var h struct {
		Handler string `json:"handler"`
	}
	if err := json.Unmarshal(raw, &h); err != nil {
		return onward{}, routeError(p, err)
	}
	out := p.on()
	switch h.Handler {
	case gateHandler:
		words, err := gateInWords(raw)
		if err != nil {
			return onward{}, routeError(p, err)
		}
		w.gates++
		out.gates = extend(p.gates, &passedGate{known: p.known, words: words})
		return out, nil
	case "subroute":
		return w.subroute(raw, p)
	case "invoke":
		return w.invoke(raw, p)
	case "reverse_proxy":
		return w.reverseProxy(raw, p)
	case "intercept":
		return w.intercept(raw, p)
	case "static_response":
		return w.staticResponse(raw, p)
	case "file_server":
		var f struct {
			PassThru bool `json:"pass_thru"`
		}
		if err := json.Unmarshal(raw, &f); err != nil {
			return onward{}, routeError(p, err)
		}
		w.ends(p, h.Handler, "file_server")
		out.on = f.PassThru
		return out, nil
	case "metrics":
		w.ends(p, h.Handler, "metrics")
		return p.end(), nil
	case "acme_server":
		w.ends(p, h.Handler, "acme_server")
		return out, nil
	case "copy_response": // of an upstream that is listed itself
		return p.end(), nil
	case "error":
		w.refuses(p, h.Handler, "error")
		return p.end(), nil
	case "rewrite":
		if w.covered(p) {
			w.remark(p, "method or URL are changed behind the gate, which has judged what the client sent")
		}
		out.at.url = w.next()
		return out, nil
	case "headers":
		var f struct {
			Request json.RawMessage `json:"request"`
		}
		if err := json.Unmarshal(raw, &f); err != nil {
			return onward{}, routeError(p, err)
		}
		if f.Request != nil {
			out.at.rest = w.next()
			if strings.Contains(strings.ToLower(string(f.Request)), "host") {
				out.at.host, w.hostSet = w.next(), true
			}
		}
		return out, nil
	case "authentication", "map", "vars", "request_body", "copy_response_headers":
		out.at.rest = w.next()
		return out, nil
	case "encode", "log_append", "push", "templates", "timeouts", "tracing":
		return out, nil
	default:
		return w.unknown(h.Handler, raw, p)
	}
}

func (w *routeWalk) subroute(raw json.RawMessage, p *place) (onward, error) {
	var h struct {
		Routes []auditRoute `json:"routes"`
		Errors *auditErrors `json:"errors"`
	}
	if err := json.Unmarshal(raw, &h); err != nil {
		return onward{}, routeError(p, err)
	}
	out, err := w.list(h.Routes, p.below(p.path+"/routes"))
	if err != nil || h.Errors == nil {
		return out, err
	}
	// The gate that refuses may be one of these routes: it counts for nothing here, nor
	// behind, where error routes that do not answer let the request go on.
	failed := p.below(p.path + "/errors/routes")
	failed.at, failed.errors = w.changed(), true
	rescued, err := w.list(h.Errors.Routes, failed)
	if err != nil {
		return onward{}, err
	}
	if rescued.on {
		return onward{on: true, gates: p.gates, at: w.changed()}, nil
	}
	return out, nil
}

func (w *routeWalk) invoke(raw json.RawMessage, p *place) (onward, error) {
	var h struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(raw, &h); err != nil {
		return onward{}, routeError(p, err)
	}
	route := w.server.NamedRoutes[h.Name]
	if route == nil {
		w.remark(p, "there is no named route of the name that is invoked: requests fail here")
		return p.end(), nil
	}
	if slices.Contains(w.invoking, h.Name) {
		w.remark(p, "the named route invokes itself: requests that come here never end")
		return p.end(), nil
	}
	w.invoking = append(w.invoking, h.Name)
	defer func() { w.invoking = w.invoking[:len(w.invoking)-1] }()
	in := p.below("apps/http/servers/" + w.name + "/named_routes/" + h.Name)
	all, out, err := w.through(route, &in)
	if err != nil {
		return onward{}, err
	}
	if out.on {
		return out, nil
	}
	if all {
		return p.end(), nil
	}
	return p.on(), nil // those that it does not match
}

// responseRoutes are routes that run once there is a response.
type responseRoutes struct {
	Routes []auditRoute `json:"routes"`
}

func (w *routeWalk) reverseProxy(raw json.RawMessage, p *place) (onward, error) {
	var h struct {
		Upstreams []struct {
			Dial string `json:"dial"`
		} `json:"upstreams"`
		Transport struct {
			Protocol string `json:"protocol"`
		} `json:"transport"`
		Rewrite        json.RawMessage  `json:"rewrite"`
		HandleResponse []responseRoutes `json:"handle_response"`
	}
	if err := json.Unmarshal(raw, &h); err != nil {
		return onward{}, routeError(p, err)
	}
	label := "reverse_proxy"
	if h.Transport.Protocol == "fastcgi" {
		label = "php_fastcgi"
	}
	var dials []string
	for _, u := range h.Upstreams {
		dials = append(dials, u.Dial)
	}
	w.ends(p, "reverse_proxy", strings.TrimSpace(label+" "+showSome(dials)))
	if len(h.Rewrite) > 0 && w.covered(p) {
		w.remark(p, "method or URL are changed for the upstream, behind the gate, which has judged what the client sent")
	}
	// Such routes may answer, or have the request go on, as forward_auth does.
	out := onward{gates: p.gates, at: p.at}
	going := 0
	for i := range h.HandleResponse {
		in := p.below(fmt.Sprintf("%s/handle_response/%d/routes", p.path, i))
		in.at.rest = w.next()
		after, err := w.list(h.HandleResponse[i].Routes, in)
		if err != nil {
			return onward{}, err
		}
		if after.on && len(h.HandleResponse[i].Routes) > 0 {
			going++
			out = after
		}
	}
	if going > 1 {
		out = onward{on: true, gates: p.gates, at: w.changed()}
	}
	return out, nil
}

func (w *routeWalk) intercept(raw json.RawMessage, p *place) (onward, error) {
	var h struct {
		HandleResponse []responseRoutes `json:"handle_response"`
	}
	if err := json.Unmarshal(raw, &h); err != nil {
		return onward{}, routeError(p, err)
	}
	// They run once everything behind has answered, a gate's refusal included.
	for i := range h.HandleResponse {
		in := p.below(fmt.Sprintf("%s/handle_response/%d/routes", p.path, i))
		in.at = w.changed()
		if _, err := w.list(h.HandleResponse[i].Routes, in); err != nil {
			return onward{}, err
		}
	}
	return p.on(), nil
}

func (w *routeWalk) staticResponse(raw json.RawMessage, p *place) (onward, error) {
	var h struct {
		StatusCode json.RawMessage     `json:"status_code"`
		Abort      bool                `json:"abort"`
		Headers    map[string][]string `json:"headers"`
	}
	if err := json.Unmarshal(raw, &h); err != nil {
		return onward{}, routeError(p, err)
	}
	code := strings.Trim(string(h.StatusCode), `"`)
	if code == "null" {
		code = ""
	}
	status, _ := strconv.Atoi(code)
	// Without a status of its own, an answer in error routes has that of the error.
	failing := status >= 400 && status <= 599 ||
		p.errors && (code == "" || code == "{err.status_code}" || code == "{http.error.status_code}")
	label := "respond"
	switch {
	case h.Headers["Location"] != nil:
		label = "redir"
	case h.Abort:
		label = "abort"
	}
	if status > 0 {
		label += " " + code
	}
	switch {
	case h.Abort, failing:
		w.refuses(p, "static_response", label)
		return p.end(), nil
	case status == 103: // early hints, before the answer
		return p.on(), nil
	default:
		w.ends(p, "static_response", label)
		return p.end(), nil
	}
}

// unknown walks a handler that is none of Caddy's own.
func (w *routeWalk) unknown(name string, raw json.RawMessage, p *place) (onward, error) {
	label := name
	if label == "" {
		label = "a handler without a name"
	}
	before := len(w.audit.Unguarded)
	w.ends(p, name, label+" (not Caddy's own: may answer)")
	for _, e := range w.audit.Unguarded[before:] {
		e.Unknown = true
		if e.Why == "" {
			e.Why = "no gate stands before it, and nobody knows whether it answers by itself"
		}
	}
	nested, err := nestedRoutes(raw, "", 0)
	if err != nil {
		return onward{}, routeError(p, err)
	}
	for _, n := range nested {
		in := p.below(p.path + n.path)
		in.at = w.changed()
		if _, err := w.list(n.routes, in); err != nil {
			return onward{}, err
		}
	}
	return onward{on: true, gates: p.gates, at: w.changed()}, nil
}

type nestedList struct {
	path   string
	routes []auditRoute
}

// nestedRoutes finds what looks like lists of routes anywhere in a handler.
func nestedRoutes(raw json.RawMessage, path string, depth int) ([]nestedList, error) {
	if depth > maxNesting {
		return nil, errTooDeep
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) == nil {
		var all []nestedList
		for _, key := range slices.Sorted(maps.Keys(object)) {
			found, err := nestedRoutes(object[key], path+"/"+key, depth+1)
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
		return all, nil
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return nil, nil
	}
	var routes []auditRoute
	if json.Unmarshal(raw, &routes) == nil && slices.ContainsFunc(routes, func(r auditRoute) bool { return len(r.Handle) > 0 }) {
		return []nestedList{{path, routes}}, nil
	}
	var all []nestedList
	for i, item := range list {
		found, err := nestedRoutes(item, fmt.Sprintf("%s/%d", path, i), depth+1)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// gateInWords tells gates apart by what they ask.
func gateInWords(raw json.RawMessage) (string, error) {
	var g struct {
		Require     []json.RawMessage `json:"require"`
		Environment string            `json:"environment"`
		FreshOnly   bool              `json:"fresh_only"`
		CORS        []string          `json:"cors"`
	}
	if err := json.Unmarshal(raw, &g); err != nil {
		return "", err
	}
	if g.Environment == "" {
		g.Environment = "production"
	}
	words := []string{g.Environment}
	switch len(g.Require) {
	case 0:
	case 1:
		words = append(words, "1 require line")
	default:
		words = append(words, strconv.Itoa(len(g.Require))+" require lines")
	}
	if g.FreshOnly {
		words = append(words, "fresh_only")
	}
	if len(g.CORS) > 0 {
		words = append(words, "cors")
	}
	return strings.Join(words, ", "), nil
}
