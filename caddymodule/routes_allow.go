package caddymodule

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
)

// allowance is what an operator says is meant to be public.
type allowance struct {
	text string

	handler    string // another's handler, in front of the gates
	errors     bool   // the line is about error routes, and only about them
	host, path string // empty: any
}

// parseAllowance reads HOST/PATH, errors:HOST/PATH or handler:NAME.
func parseAllowance(text string) (allowance, error) {
	a := allowance{text: text}
	if name, found := strings.CutPrefix(text, "handler:"); found {
		if name == "" || knownHandlers[name] {
			return a, fmt.Errorf("allow %q: handler: takes the name of a handler that is not Caddy's own; the routes of those are allowed by HOST/PATH", text)
		}
		a.handler = name
		return a, nil
	}
	rest, found := strings.CutPrefix(text, "errors:")
	a.errors = found
	host, path, found := strings.Cut(rest, "/")
	if !found {
		return a, fmt.Errorf("allow %q: write HOST/PATH, such as example.com/health, example.com/public/* or */* for everything", text)
	}
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		return a, fmt.Errorf("allow %q: leave the scheme and the port out: HOST/PATH, such as example.com/health", text)
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if host != "*" {
		a.host = strings.ToLower(host)
	}
	if path != "*" {
		a.path = "/" + strings.ToLower(path)
	}
	return a, nil
}

// parseAllowances reads a file: `allow PATTERN…` on each line, and comments.
func parseAllowances(r io.Reader, name string) ([]allowance, error) {
	var list []allowance
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		if words[0] != "allow" || len(words) == 1 {
			return nil, fmt.Errorf("%s:%d: a line is `allow HOST/PATH…`", name, n)
		}
		for _, word := range words[1:] {
			a, err := parseAllowance(word)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", name, n, err)
			}
			list = append(list, a)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return list, nil
}

func (a *allowance) covers(host, path string) bool {
	return (a.host == "" || host != "" && hostWithin(host, a.host)) && (a.path == "" || path != "" && pathWithin(path, a.path))
}

// allowed says which of the patterns cover all requests that reach a route; nil when
// some request is covered by none.
func (e *routeEntry) allowed(list []allowance) []int {
	if e.Unknown {
		if i := slices.IndexFunc(list, func(a allowance) bool { return a.handler == e.module }); i >= 0 {
			return []int{i}
		}
	}
	// Each of the conditions around a route holds: it is enough when one of them is covered.
	for _, hosts := range append(e.hosts, []string{""}) {
		for _, paths := range append(e.paths, []string{""}) {
			if used := e.pairsAllowed(hosts, paths, list); used != nil {
				return used
			}
		}
	}
	return nil
}

func (e *routeEntry) pairsAllowed(hosts, paths []string, list []allowance) []int {
	used := []int{}
	for _, host := range hosts {
		for _, path := range paths {
			i := slices.IndexFunc(list, func(a allowance) bool {
				return a.handler == "" && a.errors == e.ErrorRoutes && a.covers(host, path)
			})
			if i < 0 {
				return nil
			}
			if !slices.Contains(used, i) {
				used = append(used, i)
			}
		}
	}
	return used
}
