package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A gate guards what stands behind it, and a Caddyfile has many places that do not:
// error routes, matchers, blocks, a second site. The audit walks a configuration as a
// request would, and lists each handler that can answer one which has passed no gate.
// When in doubt it says so: a line too many can be allowed, one too few is a way in.

const (
	// maxNesting and maxVisits bound what is walked: named routes that invoke each
	// other twice grow without end.
	maxNesting = 100
	maxVisits  = 200_000
	// gateHandler is the name of the gate among handlers.
	gateHandler = "sallyport"
)

var (
	errTooDeep = fmt.Errorf("the routes are nested more than %d deep: nobody could tell what is guarded there", maxNesting)
	errTooMany = fmt.Errorf("the routes have more than %d steps, named routes counted each time: nobody could tell what is guarded there", maxVisits)
)

// routesAudit is what a configuration lets through and where.
type routesAudit struct {
	Unguarded []*routeEntry `json:"unguarded"`
	Guarded   []*routeEntry `json:"guarded"`
	// Refusals end requests without giving anything out: `abort`, `error`, and fixed
	// answers with 4xx or 5xx.
	Refusals []*routeEntry `json:"refusals"`
	Remarks  []routeRemark `json:"remarks"`
	// Gates counts the gates on the way, those of named routes each time.
	Gates int `json:"gates"`
}

// routeEntry is one handler that ends requests, at one place.
type routeEntry struct {
	Server string   `json:"server"`
	Listen []string `json:"listen"`
	// ErrorRoutes: it answers when something else has failed.
	ErrorRoutes bool `json:"error_routes,omitempty"`
	// Hosts and Paths that it answers; empty: any.
	Hosts []string `json:"hosts,omitempty"`
	Paths []string `json:"paths,omitempty"`
	// Requests are those that come here, in words.
	Requests string `json:"requests"`
	Handler  string `json:"handler"`
	// Unknown: the handler is none of Caddy's own, and may answer or not.
	Unknown bool `json:"unknown,omitempty"`
	// Why no gate covers it, or which gates it is behind.
	Why   string   `json:"why,omitempty"`
	Gates []string `json:"gates,omitempty"`
	// AllowedBy are the patterns that make it public.
	AllowedBy  []string `json:"allowed_by,omitempty"`
	ConfigPath string   `json:"config_path"`

	module       string
	hosts, paths [][]string
}

// routeRemark is something to look at that is no way around a gate.
type routeRemark struct {
	Server     string `json:"server"`
	Remark     string `json:"remark"`
	ConfigPath string `json:"config_path"`
}

// The parts of a configuration that routing is made of.
type (
	auditConfig struct {
		Apps struct {
			HTTP *struct {
				Servers map[string]*auditServer `json:"servers"`
			} `json:"http"`
		} `json:"apps"`
	}
	auditServer struct {
		Listen      []string               `json:"listen"`
		Routes      []auditRoute           `json:"routes"`
		Errors      *auditErrors           `json:"errors,omitempty"`
		NamedRoutes map[string]*auditRoute `json:"named_routes,omitempty"`
	}
	auditErrors struct {
		Routes []auditRoute `json:"routes"`
	}
	auditRoute struct {
		Group    string                       `json:"group,omitempty"`
		Match    []map[string]json.RawMessage `json:"match,omitempty"`
		Handle   []json.RawMessage            `json:"handle,omitempty"`
		Terminal bool                         `json:"terminal,omitempty"`
	}
)

// auditRoutes looks at a whole configuration in JSON.
func auditRoutes(config []byte) (*routesAudit, error) {
	var parsed auditConfig
	if err := json.Unmarshal(config, &parsed); err != nil {
		return nil, fmt.Errorf("this is no configuration of Caddy: %w", err)
	}
	if parsed.Apps.HTTP == nil {
		return auditServers(nil)
	}
	return auditServers(parsed.Apps.HTTP.Servers)
}

func auditServers(servers map[string]*auditServer) (*routesAudit, error) {
	audit := &routesAudit{Unguarded: []*routeEntry{}, Guarded: []*routeEntry{}, Refusals: []*routeEntry{}, Remarks: []routeRemark{}}
	visits := 0
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		server := servers[name]
		if server == nil {
			continue
		}
		w := &routeWalk{audit: audit, visits: &visits, name: name, server: server, groups: map[string]int{}}
		if err := w.walk(); err != nil {
			return nil, fmt.Errorf("server %s: %w", name, err)
		}
	}
	return audit, nil
}

// routeWalk goes through one server.
type routeWalk struct {
	audit  *routesAudit
	visits *int
	name   string
	server *auditServer

	gates    int
	stage    int            // the last number that was given to a state
	hostSet  bool           // some handler may have changed the host
	groups   map[string]int // how often each was met: Caddy keeps them for the whole request
	invoking []string
}

// place is where the walk is, and what is known of the requests that come there.
type place struct {
	known  []*condition
	gates  []*passedGate
	at     stages
	path   string
	depth  int
	errors bool
}

// passedGate is a gate on the way, which all requests passed that met known.
type passedGate struct {
	known []*condition
	words string
}

// onward is what holds behind something.
type onward struct {
	on    bool // requests can go on
	gates []*passedGate
	at    stages
}

func (p *place) end() onward                { return onward{gates: p.gates, at: p.at} }
func (p *place) on() onward                 { return onward{on: true, gates: p.gates, at: p.at} }
func (p *place) below(path string) place    { q := *p; q.path, q.depth = path, p.depth+1; return q }
func (w *routeWalk) next() int              { w.stage++; return w.stage }
func extend[T any](list []T, more ...T) []T { return append(slices.Clip(list), more...) }

// changed gives new numbers to all that a handler may have changed.
func (w *routeWalk) changed() stages {
	w.hostSet = true
	return stages{url: w.next(), host: w.next(), rest: w.next()}
}

func (w *routeWalk) walk() error {
	base := "apps/http/servers/" + w.name
	before := len(w.audit.Unguarded)
	if _, err := w.list(w.server.Routes, place{path: base + "/routes"}); err != nil {
		return err
	}
	if w.server.Errors != nil {
		// Caddy puts method and URL back to what the client sent, and nothing else.
		at := stages{rest: w.next()}
		if w.hostSet {
			at.host = w.next()
		}
		if _, err := w.list(w.server.Errors.Routes, place{path: base + "/errors/routes", at: at, errors: true}); err != nil {
			return err
		}
	}
	w.audit.Gates += w.gates
	for _, e := range w.audit.Unguarded[before:] {
		switch {
		case e.Why != "":
		case e.ErrorRoutes:
			e.Why = "error routes answer the requests that a gate has refused, too"
		case w.gates == 0:
			e.Why = "this server has no gate"
		default:
			e.Why = "no gate stands before it; those of this server are behind it or in other routes"
		}
	}
	return nil
}

func (w *routeWalk) visit(p *place) error {
	*w.visits++
	switch {
	case *w.visits > maxVisits:
		return errTooMany
	case p.depth > maxNesting:
		return errTooDeep
	default:
		return nil
	}
}

// routeGroup is what is known of a group of routes, of which one runs at most.
type routeGroup struct {
	at      stages
	fresh   bool // nothing but the group itself changed requests since its start
	own     int  // how many of its routes were met in this list
	full    bool // one takes all that is left
	guarded bool // all that goes on has passed a gate
	goesOn  bool
}

// list walks routes in their order.
func (w *routeWalk) list(routes []auditRoute, p place) (onward, error) {
	groups := map[string]*routeGroup{}
	for i := range routes {
		route := &routes[i]
		in := p.below(fmt.Sprintf("%s/%d", p.path, i))
		if err := w.visit(&in); err != nil {
			return onward{}, err
		}
		g := groups[route.Group]
		if route.Group != "" && g == nil {
			g = &routeGroup{at: p.at, fresh: true, guarded: true}
			groups[route.Group] = g
		}
		if g != nil {
			if g.full {
				continue
			}
			if g.fresh {
				in.at = g.at
			}
			g.own++
		}
		all, out, err := w.through(route, &in)
		if err != nil {
			return onward{}, err
		}
		if out.on {
			p.gates = extend(p.gates, out.gates[len(in.gates):]...)
			if w.advance(&p, in.at, out.at) {
				for _, other := range groups {
					other.fresh = other.fresh && other == g
				}
			}
		}
		if g == nil {
			if all && !out.on {
				return p.end(), nil
			}
			continue
		}
		if out.on {
			g.goesOn = true
			behind := in
			behind.gates, behind.at = out.gates, out.at
			g.guarded = g.guarded && w.covered(&behind)
		}
		// A route of the group that stands elsewhere may have kept all of these from running.
		if all && g.own == w.groups[route.Group] {
			g.full = true
			if !g.goesOn {
				return p.end(), nil
			}
			if g.guarded {
				p.gates = extend(p.gates, &passedGate{known: p.known, words: "the gates of each of these blocks"})
			}
		}
	}
	return p.on(), nil
}

// through walks one route: all says that it takes every request that comes to it.
func (w *routeWalk) through(route *auditRoute, in *place) (all bool, out onward, err error) {
	if all, err = w.enter(route, in); err != nil {
		return all, out, err
	}
	out, err = w.chain(route.Handle, *in)
	out.on = out.on && !route.Terminal
	return all, out, err
}

// advance notes what requests that went through a route may have had changed.
func (w *routeWalk) advance(p *place, from, to stages) bool {
	if from == to {
		return false
	}
	if from.url != to.url {
		p.at.url = w.next()
	}
	if from.host != to.host {
		p.at.host = w.next()
	}
	if from.rest != to.rest {
		p.at.rest = w.next()
	}
	return true
}

// enter adds what a route asks. all is true when it asks nothing.
func (w *routeWalk) enter(route *auditRoute, in *place) (all bool, err error) {
	c, err := newCondition(route.Match, in.at)
	if err != nil {
		return false, fmt.Errorf("%s: %w", in.path, err)
	}
	all = c == nil
	if route.Group != "" {
		if w.groups[route.Group] > 0 {
			if c == nil {
				c = &condition{sets: []matcherSet{{}}, at: in.at}
			}
			c.others = true
		}
		w.groups[route.Group]++
	}
	if c != nil {
		in.known = extend(in.known, c)
	}
	return all, nil
}

func (w *routeWalk) chain(handlers []json.RawMessage, p place) (onward, error) {
	path := p.path + "/handle/"
	for i, raw := range handlers {
		p.path = path + strconv.Itoa(i)
		if err := w.visit(&p); err != nil {
			return onward{}, err
		}
		out, err := w.handler(raw, &p)
		if err != nil {
			return onward{}, err
		}
		p.gates, p.at = out.gates, out.at
		if !out.on {
			return p.end(), nil
		}
	}
	return p.on(), nil
}

// covered says whether every request that comes to a place has passed a gate.
func (w *routeWalk) covered(p *place) bool {
	if coveredBy(p.known, p.gates) {
		return true
	}
	for i := len(p.known) - 1; i >= 0; i-- {
		parts := p.known[i].apart()
		if len(parts) < 2 {
			continue
		}
		*w.visits += len(parts)
		if *w.visits > maxVisits {
			return false
		}
		known := slices.Clone(p.known)
		return !slices.ContainsFunc(parts, func(part *condition) bool {
			known[i] = part
			return !coveredBy(known, p.gates)
		})
	}
	return false
}

func coveredBy(known []*condition, gates []*passedGate) bool {
	return slices.ContainsFunc(gates, func(g *passedGate) bool { return len(g.missing(known)) == 0 })
}

// missing are the conditions of a gate that requests may not have met.
func (g *passedGate) missing(known []*condition) []*condition {
	var list []*condition
	for _, c := range g.known {
		if !c.holds(known) {
			list = append(list, c)
		}
	}
	return list
}

// ends lists a handler that ends requests.
func (w *routeWalk) ends(p *place, module, label string) {
	e := w.entry(p, module, label)
	if w.covered(p) {
		for _, g := range p.gates {
			if len(p.gates) == 1 || len(g.missing(p.known)) == 0 {
				e.Gates = append(e.Gates, g.words)
			} else {
				e.Gates = append(e.Gates, g.words+" (for some requests)")
			}
		}
		w.audit.Guarded = append(w.audit.Guarded, e)
		return
	}
	// Only requests that a gate excepts come here without it.
	for _, g := range p.gates {
		if c := g.exception(p.known); c != nil {
			e.describe(c)
		}
	}
	e.Why = whyUncovered(p)
	w.audit.Unguarded = append(w.audit.Unguarded, e)
}

// refuses lists a handler that ends requests and gives nothing out.
func (w *routeWalk) refuses(p *place, module, label string) {
	w.audit.Refusals = append(w.audit.Refusals, w.entry(p, module, label))
}

func (w *routeWalk) remark(p *place, text string) {
	w.audit.Remarks = append(w.audit.Remarks, routeRemark{Server: w.name, Remark: text, ConfigPath: p.path})
}

func (w *routeWalk) entry(p *place, module, label string) *routeEntry {
	e := &routeEntry{Server: w.name, Listen: w.server.Listen, ErrorRoutes: p.errors, Handler: label, ConfigPath: p.path, Requests: "all", module: module}
	if e.Listen == nil {
		e.Listen = []string{}
	}
	for _, c := range p.known {
		e.describe(c)
	}
	return e
}

// describe adds a condition. Hosts and paths count only as the client sent them.
func (e *routeEntry) describe(c *condition) {
	if words := c.words(); words != "" && e.Requests != words {
		if e.Requests == "all" {
			e.Requests = words
		} else {
			e.Requests += "; " + words
		}
	}
	if hosts := c.alternatives("host"); c.at.host == 0 && len(hosts) > 0 {
		e.Hosts, e.hosts = hosts, append(e.hosts, hosts)
	}
	if paths := c.alternatives("path"); c.at.url == 0 && len(paths) > 0 {
		e.Paths, e.paths = paths, append(e.paths, paths)
	}
}

// exception is what a gate leaves out, when that is all that keeps it from covering
// a place: `not path /health` leaves out /health.
func (g *passedGate) exception(known []*condition) *condition {
	missing := g.missing(known)
	if len(missing) != 1 || missing[0].others || len(missing[0].sets) != 1 || len(missing[0].sets[0]) != 1 {
		return nil
	}
	m := &missing[0].sets[0][0]
	if m.name != "not" || len(m.not) == 0 || !m.comparable() {
		return nil
	}
	return &condition{sets: m.not, at: missing[0].at}
}

func whyUncovered(p *place) string {
	const most = 3
	var reasons []string
	for _, g := range p.gates {
		missing := g.missing(p.known)
		if len(missing) == 0 {
			continue
		}
		if len(reasons) == most {
			reasons = append(reasons, "and so on")
			break
		}
		var words []string
		moved := false
		for _, c := range missing {
			text := c.words()
			if c.others {
				text = strings.TrimPrefix(text+", unless another block of its group comes first", ", ")
			}
			words = append(words, text)
			then := *c
			moved = moved || slices.ContainsFunc(p.known, func(k *condition) bool { then.at = k.at; return k.implies(&then) })
		}
		reason := "the gate before it is only for " + strings.Join(words, "; ")
		if moved {
			reason += ", and the request may have been changed in between"
		}
		if !slices.Contains(reasons, reason) {
			reasons = append(reasons, reason)
		}
	}
	return strings.Join(reasons, ". ")
}

// routeError names where something is that Caddy would not take either.
func routeError(p *place, err error) error {
	if errors.Is(err, errTooDeep) || errors.Is(err, errTooMany) {
		return err
	}
	return fmt.Errorf("%s: %w", p.path, err)
}
