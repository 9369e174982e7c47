package token

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Requirement is one `require` line: a scope for the methods and the path.
type Requirement struct {
	Scope   string
	Methods []string // empty: all
	Path    string   // "/v1/payments/{id}/*"
	// Units are business units, of which the token's user must work for one;
	// empty: the line asks for none.
	Units []string
	// Source says where the line stands, for errors: "Caddyfile:12".
	Source string
}

// Routes answers which scope an operation needs. The zero value has no lines.
// It never changes and may be shared.
//
// Among the lines whose methods include the request's, the most specific path
// wins. Two paths are compared segment by segment from the left, and the first
// segment in which they differ in kind or weight decides:
//
//  1. a literal segment: /v1/latest
//  2. a segment of text around `*`, which takes one segment: /v1/*.json
//  3. {x}: /v1/{id}
//  4. text with a `*` at the path's end, which takes any rest: /v1/pay*
//  5. a bare `*` for one segment: /v1/*/refunds
//  6. a bare `*` for any rest: /v1/*
//
// Between two segments of kind 2 or of kind 4 the longer text wins, then the one
// with fewer `*`, then the one whose text stands further left. The second kind
// comes before {x}, although it has a `*`, because whatever it matches {x}
// matches too: put after {x}, such a line would never have any effect, and what
// it protects would be open to the weaker scope. So a path that matches less
// never loses to one that matches more.
//
// On equally specific paths a line that names methods beats one that names none.
type Routes struct{ root *segmentNode }

// NewRoutes compiles requirement lines. It refuses a scope that is not known,
// a path or method that is not well formed, and two lines that are equally
// specific for a common method and path but name different scopes or units; the error
// names the lines' sources and says how to mend them.
func NewRoutes(lines []Requirement, known func(name string) (Scope, bool)) (*Routes, error) {
	compiled := make([]*routeLine, len(lines))
	for i := range lines {
		line, err := compileLine(&lines[i], known)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", sourceOf(lines, i), err)
		}
		line.source = sourceOf(lines, i)
		compiled[i] = line
	}
	slices.SortStableFunc(compiled, (*routeLine).compare)
	for i, line := range compiled {
		if i > 0 {
			line.order = compiled[i-1].order
			if compiled[i-1].compare(line) != 0 {
				line.order++
			}
		}
	}
	if err := checkConflicts(compiled); err != nil {
		return nil, err
	}
	routes := &Routes{root: &segmentNode{}}
	for _, line := range compiled {
		routes.root.insert(line.segments, line)
	}
	return routes, nil
}

func sourceOf(lines []Requirement, i int) string {
	if lines[i].Source != "" {
		return lines[i].Source
	}
	return fmt.Sprintf("require line %d", i+1)
}

// Required gives the scope for a method and a decoded, unambiguous path: that
// of the most specific line, else the method's own. upgrade is set for a
// WebSocket handshake and for gRPC calls, which need write when no line matches.
//
// HEAD needs what GET needs. So does the extended CONNECT that opens a WebSocket
// over HTTP/2, which HTTP/1.1 opens with GET: the same operation must not need
// another scope over another protocol.
func (r *Routes) Required(method, path string, upgrade bool) Scope {
	scope, _ := r.Needs(method, path, upgrade)
	return scope
}

// Needs is Required with the business units of the line, of which the user must
// work for one. The list is shared and must not be changed.
func (r *Routes) Needs(method, path string, upgrade bool) (Scope, []string) {
	if method == "HEAD" || upgrade && method == "CONNECT" {
		method = "GET"
	}
	if r != nil && r.root != nil && path != "" && path[0] == '/' {
		search := routeSearch{methods: methodBit(method)}
		search.visit(r.root, path[1:])
		if search.best != nil {
			return search.best.scope, search.best.units
		}
	}
	if upgrade {
		return WriteScope, nil
	}
	return MethodScope(method), nil
}

// routeLine is one line, ready to be compared with others.
type routeLine struct {
	scope    Scope
	units    []string // sorted
	source   string
	segments []segment
	methods  methodSet
	named    bool // whether the line names its methods
	order    int  // grows as lines get less specific; equal for equal ones
}

// compare orders lines by what Routes documents, the most specific first.
func (l *routeLine) compare(other *routeLine) int {
	if c := slices.CompareFunc(l.segments, other.segments, segment.compare); c != 0 {
		return c
	}
	switch {
	case l.named == other.named:
		return 0
	case l.named:
		return -1
	default:
		return 1
	}
}

func compileLine(r *Requirement, known func(name string) (Scope, bool)) (*routeLine, error) {
	scope, ok := lookUpScope(r.Scope, known)
	if !ok {
		return nil, errors.New("the scope is not known: declare it in `scopes`, or use read or write")
	}
	if scope.Name != r.Scope || scope.Nature != Read && scope.Nature != Write {
		return nil, errors.New("the scope is declared without being of read or write nature")
	}
	line := &routeLine{scope: scope, named: len(r.Methods) > 0, methods: anyMethod}
	if line.named {
		var err error
		if line.methods, err = parseMethods(r.Methods); err != nil {
			return nil, err
		}
	}
	var err error
	if line.units, err = CheckUnits(r.Units); err != nil {
		return nil, err
	}
	line.segments, err = parsePath(r.Path)
	return line, err
}

// checkConflicts refuses equally specific lines that disagree about a request
// that both match. The lines are in order.
func checkConflicts(lines []*routeLine) error {
	// Equally specific lines have their `*` and {x} in the same places, so both
	// match a common path exactly when the text that is tied to a place is
	// equal: equal reaches, therefore, and no comparison of each with each.
	type claim struct {
		order int
		reach string
		bit   methodSet
	}
	claims := make(map[claim]*routeLine)
	for _, line := range lines {
		at := claim{order: line.order, reach: reachOf(line.segments)}
		bits := []methodSet{anyMethod}
		if line.named {
			bits = line.methods.split()
		}
		for _, bit := range bits {
			at.bit = bit
			first, taken := claims[at]
			if !taken {
				claims[at] = line
				continue
			}
			if first.scope != line.scope {
				return fmt.Errorf("%s and %s are equally specific for a method and path that both match, and name different scopes: "+
					"name the same scope, name methods that differ, or make one path more specific", first.source, line.source)
			}
			if !slices.Equal(first.units, line.units) {
				return fmt.Errorf("%s and %s are equally specific for a method and path that both match, and name different business units: "+
					"name the same ones, name methods that differ, or make one path more specific", first.source, line.source)
			}
		}
	}
	return nil
}

// segmentNode is a place in the tree of path segments.
type segmentNode struct {
	literal map[string]*segmentNode
	param   *segmentNode
	globs   []globChild

	// lines end here.
	lines []*routeLine
	// rests end in this segment with text and a `*`, by that text; restLengths
	// are the lengths of the texts, the longest first.
	rests       map[string][]*routeLine
	restLengths []int
	// globRests end in this segment with more than one `*`.
	globRests []globRest

	// best and methods bound what any line in or below the node can win.
	best    int
	methods methodSet
}

type globChild struct {
	glob segment
	node *segmentNode
}

type globRest struct {
	glob  segment
	lines []*routeLine
}

func (n *segmentNode) insert(segments []segment, line *routeLine) {
	// Lines come in order, so that the first one bounds all later ones.
	if n.methods == 0 {
		n.best = line.order
	}
	n.methods |= line.methods
	if len(segments) == 0 {
		n.lines = append(n.lines, line)
		return
	}
	head, tail := segments[0], segments[1:]
	switch head.kind {
	case kindLiteral:
		if n.literal == nil {
			n.literal = make(map[string]*segmentNode)
		}
		child := n.literal[head.text()]
		if child == nil {
			child = &segmentNode{}
			n.literal[head.text()] = child
		}
		child.insert(tail, line)
	case kindParam:
		if n.param == nil {
			n.param = &segmentNode{}
		}
		n.param.insert(tail, line)
	case kindGlob, kindStar:
		at := slices.IndexFunc(n.globs, func(c globChild) bool { return c.glob.same(head) })
		if at < 0 {
			at = len(n.globs)
			n.globs = append(n.globs, globChild{glob: head, node: &segmentNode{}})
		}
		n.globs[at].node.insert(tail, line)
	default:
		n.insertRest(head, line)
	}
}

func (n *segmentNode) insertRest(glob segment, line *routeLine) {
	if len(glob.parts) > 2 {
		at := slices.IndexFunc(n.globRests, func(r globRest) bool { return r.glob.same(glob) })
		if at < 0 {
			at = len(n.globRests)
			n.globRests = append(n.globRests, globRest{glob: glob})
		}
		n.globRests[at].lines = append(n.globRests[at].lines, line)
		return
	}
	text := glob.parts[0]
	if n.rests == nil {
		n.rests = make(map[string][]*routeLine)
	}
	n.rests[text] = append(n.rests[text], line)
	if at, found := slices.BinarySearchFunc(n.restLengths, len(text), func(a, b int) int { return cmp.Compare(b, a) }); !found {
		n.restLengths = slices.Insert(n.restLengths, at, len(text))
	}
}

// routeSearch looks for the best line for one request. A path has one division
// into segments, so that a node is visited at most once however much the lines
// overlap: the work is bounded by the size of the tree, not by the path.
type routeSearch struct {
	methods methodSet
	best    *routeLine
}

// visit judges what is left of the path, which begins with a segment.
func (s *routeSearch) visit(n *segmentNode, rest string) {
	if n.methods&s.methods == 0 || s.best != nil && s.best.order <= n.best {
		return
	}
	text, rest, more := strings.Cut(rest, "/")
	// From the most specific kind to the least, so that what is found early
	// spares the search of what cannot win any more.
	if child := n.literal[text]; child != nil {
		s.descend(child, rest, more)
	}
	for i := range n.globs {
		if n.globs[i].glob.matches(text) {
			s.descend(n.globs[i].node, rest, more)
		}
	}
	if n.param != nil && text != "" {
		s.descend(n.param, rest, more)
	}
	for i := range n.globRests {
		if n.globRests[i].glob.matches(text) {
			s.offer(n.globRests[i].lines)
		}
	}
	for _, length := range n.restLengths {
		if length <= len(text) {
			s.offer(n.rests[text[:length]])
		}
	}
}

func (s *routeSearch) descend(n *segmentNode, rest string, more bool) {
	if more {
		s.visit(n, rest)
	} else {
		s.offer(n.lines)
	}
}

// offer takes the first line for the method, if it beats the best so far. The
// lines are in order.
func (s *routeSearch) offer(lines []*routeLine) {
	for _, line := range lines {
		if s.best != nil && s.best.order <= line.order {
			return
		}
		if line.methods&s.methods != 0 {
			s.best = line
			return
		}
	}
}
