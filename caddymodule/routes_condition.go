package caddymodule

import (
	"encoding/json"
	"maps"
	"net"
	"slices"
	"strings"
)

// A gate behind a matcher guards the requests that match, and no others. Whether a
// later route is among them is decided here, and only what is certain counts: two
// matchers are compared by what they say, and only where nothing between them may
// have changed the answer.

// mostCompared bounds the pairs that are compared of two lists, since somebody waits;
// longer ones count as different.
const mostCompared = 1 << 20

// stages number the states of a request that matchers may look at. What a handler
// may have changed gets a new number, and matchers from before and after that are
// not comparable.
type stages struct {
	url, host, rest int
}

// condition is the matchers of one route, at the point where they are asked.
type condition struct {
	sets []matcherSet // any of them
	at   stages
	// others: besides the matchers, an earlier route of the same group decides
	// whether a request that matches comes here.
	others bool
}

// matcherSet is matchers that must all match.
type matcherSet []matcher

type matcher struct {
	name string
	// list is what the value lists, for the matchers whose lists are understood.
	list []string
	// raw is the value in canonical form.
	raw string
	not []matcherSet
}

// newCondition reads the matchers of a route; nil when they let everything through.
func newCondition(match []map[string]json.RawMessage, at stages) (*condition, error) {
	sets, err := matcherSets(match, 0)
	if err != nil {
		return nil, err
	}
	for _, set := range sets {
		if len(set) == 0 {
			return nil, nil
		}
	}
	if len(sets) == 0 {
		return nil, nil
	}
	return &condition{sets: sets, at: at}, nil
}

func matcherSets(match []map[string]json.RawMessage, depth int) ([]matcherSet, error) {
	if depth > maxNesting {
		return nil, errTooDeep
	}
	sets := make([]matcherSet, 0, len(match))
	for _, modules := range match {
		set := matcherSet{}
		for _, name := range slices.Sorted(maps.Keys(modules)) {
			m, err := newMatcher(name, modules[name], depth)
			if err != nil {
				return nil, err
			}
			if name == "path" && slices.Contains(m.list, "*") {
				continue // every path
			}
			set = append(set, m)
		}
		sets = append(sets, set)
	}
	return sets, nil
}

func newMatcher(name string, value json.RawMessage, depth int) (matcher, error) {
	m := matcher{name: name}
	switch name {
	case "host", "path", "method":
		// A value of another form is none that Caddy would take.
		if err := json.Unmarshal(value, &m.list); err != nil {
			return m, err
		}
		if name != "method" {
			for i := range m.list {
				if !strings.Contains(m.list[i], "{") {
					m.list[i] = strings.ToLower(m.list[i])
				}
			}
		}
	case "not":
		var nested []map[string]json.RawMessage
		if err := json.Unmarshal(value, &nested); err != nil {
			return m, err
		}
		var err error
		if m.not, err = matcherSets(nested, depth+1); err != nil {
			return m, err
		}
	}
	var content any
	if err := json.Unmarshal(value, &content); err != nil {
		return m, err
	}
	canonical, err := json.Marshal(content)
	m.raw = string(canonical)
	return m, err
}

// understoodMatchers are those of Caddy's that always give a request the same answer.
var understoodMatchers = map[string]bool{
	"host": true, "path": true, "method": true, "path_regexp": true, "query": true,
	"header": true, "header_regexp": true, "protocol": true, "remote_ip": true, "client_ip": true,
	"vars": true, "vars_regexp": true, "expression": true,
}

// comparable says whether the matcher's answer depends on nothing but its text and
// the request: for matchers of others nobody knows, files come and go, and so does
// time.
func (m *matcher) comparable() bool {
	if m.name != "not" && !understoodMatchers[m.name] {
		return false
	}
	for _, set := range m.not {
		for i := range set {
			if !set[i].comparable() {
				return false
			}
		}
	}
	if m.name != "expression" && !strings.Contains(m.raw, "{") {
		return true
	}
	for _, volatile := range []string{"time", "now", "file", "body", "rand"} {
		if strings.Contains(m.raw, volatile) {
			return false
		}
	}
	return true
}

// undisturbed says whether the matcher sees at b what it saw at a.
func (m *matcher) undisturbed(a, b stages) bool {
	if !strings.Contains(m.raw, "{") {
		switch m.name {
		case "host":
			return a.host == b.host
		case "path", "path_regexp", "query", "method":
			return a.url == b.url
		case "remote_ip", "client_ip":
			return true
		}
	}
	return a == b
}

// within says whether everything that matches m also matches wide.
func (m *matcher) within(wide *matcher) bool {
	if m.name != wide.name || !m.comparable() || !wide.comparable() {
		return false
	}
	if m.raw == wide.raw {
		return true
	}
	switch m.name {
	case "host":
		return allWithin(m.list, wide.list, hostWithin)
	case "path":
		return allWithin(m.list, wide.list, pathWithin)
	case "method":
		return allWithin(m.list, wide.list, func(a, b string) bool { return a == b })
	default:
		return false
	}
}

func allWithin(list, wide []string, within func(a, b string) bool) bool {
	if len(list)*len(wide) > mostCompared {
		return false
	}
	for _, a := range list {
		if !slices.ContainsFunc(wide, func(b string) bool { return within(a, b) }) {
			return false
		}
	}
	return true
}

// hostWithin says whether a host, or pattern of hosts, is covered by another. A star
// stands for one whole label, as in Caddy.
func hostWithin(host, wide string) bool {
	if strings.EqualFold(host, wide) {
		return true
	}
	if strings.Contains(host+wide, "{") || !strings.Contains(wide, "*") || net.ParseIP(host) != nil {
		return false
	}
	a, b := strings.Split(host, "."), strings.Split(wide, ".")
	if len(a) != len(b) {
		return false
	}
	for i := range b {
		if b[i] != "*" && !strings.EqualFold(a[i], b[i]) {
			return false
		}
	}
	return true
}

// pathWithin says whether a pattern of paths is covered by another: the same, or a
// longer one than a prefix. Escapes and double slashes make Caddy compare other
// forms of the path, so that such patterns are covered by themselves only.
func pathWithin(path, wide string) bool {
	if path == wide {
		return true
	}
	prefix, found := strings.CutSuffix(wide, "*")
	if !found || prefix == "" || strings.ContainsAny(prefix, `*?[\`) {
		return false
	}
	for _, p := range []string{path, wide} {
		if strings.ContainsAny(p, "%{") || strings.Contains(p, "//") {
			return false
		}
	}
	if i := strings.IndexAny(path, `*?[\`); i >= 0 {
		path = path[:i]
	}
	return strings.HasPrefix(path, prefix)
}

// holds says whether a request that met all of known certainly meets c.
func (c *condition) holds(known []*condition) bool {
	if slices.Contains(known, c) {
		return true
	}
	if c.others {
		return false
	}
	for _, k := range known {
		if k.implies(c) {
			return true
		}
	}
	// Of several routes around a handler one may name the host, another the path.
	if len(c.sets) != 1 {
		return false
	}
	for i := range c.sets[0] {
		m := &c.sets[0][i]
		if !slices.ContainsFunc(known, func(k *condition) bool { return k.impliesMatcher(m, c.at) }) {
			return false
		}
	}
	return true
}

func (c *condition) implies(wide *condition) bool {
	for _, set := range c.sets {
		if !slices.ContainsFunc(wide.sets, func(w matcherSet) bool {
			for i := range w {
				if !set.implies(&w[i], c.at, wide.at) {
					return false
				}
			}
			return true
		}) {
			return false
		}
	}
	return true
}

func (c *condition) impliesMatcher(m *matcher, at stages) bool {
	for _, set := range c.sets {
		if !set.implies(m, c.at, at) {
			return false
		}
	}
	return true
}

func (s matcherSet) implies(m *matcher, at, then stages) bool {
	if m.name == "not" && s.outside(m, at, then) {
		return true
	}
	for i := range s {
		if s[i].within(m) && s[i].undisturbed(at, then) && m.undisturbed(at, then) {
			return true
		}
	}
	return false
}

// outside says whether the paths of a set are none of those that m excepts.
func (s matcherSet) outside(m *matcher, at, then stages) bool {
	i := slices.IndexFunc(s, func(k matcher) bool { return k.name == "path" })
	if i < 0 || at.url != then.url {
		return false
	}
	return !slices.ContainsFunc(m.not, func(set matcherSet) bool {
		j := slices.IndexFunc(set, func(k matcher) bool { return k.name == "path" })
		return j < 0 || len(s[i].list)*len(set[j].list) > mostCompared || slices.ContainsFunc(s[i].list, func(a string) bool {
			return slices.ContainsFunc(set[j].list, func(b string) bool { return !pathsApart(a, b) })
		})
	})
}

// pathsApart says whether no path can match both of two patterns.
func pathsApart(a, b string) bool {
	for _, p := range []string{a, b} {
		if strings.ContainsAny(p, "%{") || strings.Contains(p, "//") {
			return false
		}
	}
	// What stands before the first star is the start of whatever matches.
	i, j := strings.IndexAny(a, `*?[\`), strings.IndexAny(b, `*?[\`)
	switch {
	case i < 0 && j < 0:
		return a != b
	case i < 0:
		return !strings.HasPrefix(a, b[:j])
	case j < 0:
		return !strings.HasPrefix(b, a[:i])
	default:
		return !strings.HasPrefix(a[:i], b[:j]) && !strings.HasPrefix(b[:j], a[:i])
	}
}

// apart splits a condition into ones of a single alternative and a single path, which
// different gates may cover.
func (c *condition) apart() []*condition {
	var parts []*condition
	for _, set := range c.sets {
		i := slices.IndexFunc(set, func(m matcher) bool { return m.name == "path" && len(m.list) > 1 })
		if i < 0 {
			parts = append(parts, &condition{sets: []matcherSet{set}, at: c.at, others: c.others})
			continue
		}
		for _, path := range set[i].list {
			one := slices.Clone(set)
			raw, _ := json.Marshal([]string{path}) // a list of strings always can be
			one[i] = matcher{name: "path", list: []string{path}, raw: string(raw)}
			parts = append(parts, &condition{sets: []matcherSet{one}, at: c.at, others: c.others})
		}
	}
	return parts
}

// alternatives are all values that a matcher lets through over all alternatives; nil
// when one of them does not ask.
func (c *condition) alternatives(name string) []string {
	var all []string
	for _, set := range c.sets {
		i := slices.IndexFunc(set, func(m matcher) bool { return m.name == name })
		if i < 0 {
			return nil
		}
		all = append(all, set[i].list...)
	}
	return all
}

// words tell what a condition asks. Values that might be secrets, such as those of
// headers, are left out.
func (c *condition) words() string {
	return setsInWords(c.sets)
}

func setsInWords(sets []matcherSet) string {
	texts := make([]string, 0, len(sets))
	for _, set := range sets {
		parts := make([]string, 0, len(set))
		for i := range set {
			parts = append(parts, set[i].words())
		}
		texts = append(texts, strings.Join(parts, ", "))
	}
	return strings.Join(texts, " or ")
}

func (m *matcher) words() string {
	switch m.name {
	case "host", "path", "method":
		return m.name + " " + showSome(m.list)
	case "not":
		return "not (" + setsInWords(m.not) + ")"
	case "protocol", "remote_ip", "client_ip":
		return m.name
	case "header", "header_regexp", "query":
		var fields map[string]json.RawMessage
		if json.Unmarshal([]byte(m.raw), &fields) == nil && len(fields) > 0 {
			return m.name + " " + showSome(slices.Sorted(maps.Keys(fields)))
		}
	}
	return "matcher " + m.name
}

// showSome lists the first few.
func showSome(list []string) string {
	const most = 6
	if len(list) > most {
		list = append(slices.Clone(list[:most]), "…")
	}
	return strings.Join(list, " ")
}
