package token_test

import (
	"cmp"
	"fmt"
	"math/bits"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/token"
)

// known declares the scopes a to z of read nature, and A to Z of write nature.
func known(name string) (token.Scope, bool) {
	switch {
	case len(name) == 1 && name >= "a" && name <= "z":
		return token.Scope{Name: name, Nature: token.Read}, true
	case len(name) == 1 && name >= "A" && name <= "Z":
		return token.Scope{Name: name, Nature: token.Write}, true
	default:
		return token.Scope{}, false
	}
}

// lines reads "scope METHOD… path" lines as the Caddyfile has them.
func lines(texts ...string) []token.Requirement {
	requirements := make([]token.Requirement, len(texts))
	for i, text := range texts {
		words := strings.Fields(text)
		requirements[i] = token.Requirement{
			Scope: words[0], Methods: words[1 : len(words)-1], Path: words[len(words)-1],
			Source: fmt.Sprintf("Caddyfile:%d", i+1),
		}
	}
	return requirements
}

func routes(t testing.TB, texts ...string) *token.Routes {
	t.Helper()
	r, err := token.NewRoutes(lines(texts...), known)
	require.NoError(t, err)
	return r
}

func manyRoutes(t testing.TB, n int) *token.Routes {
	t.Helper()
	var texts []string
	for i := 0; len(texts) < n; i++ {
		texts = append(texts,
			fmt.Sprintf("A POST /v1/thing%d", i), fmt.Sprintf("b GET /v1/thing%d", i),
			fmt.Sprintf("C POST /v1/thing%d/{id}", i), fmt.Sprintf("D /v1/thing%d*", i), fmt.Sprintf("E POST /v1/thing%d/{id}/x/*", i))
	}
	return routes(t, texts[:n]...)
}

func TestAPathCoversWhatItsPiecesStandFor(t *testing.T) {
	for _, tt := range []struct {
		path   string
		yes    string
		not    string
		reason string
	}{
		{"/", "/", "/a //", "the root alone"},
		{"/v1/things", "/v1/things", "/v1/things/ /v1/thing /v1/thingsx /V1/things /v1/Things /v1 /v1/things/1", "exact, letter case and final slash included (P8, P9)"},
		{"/v1/things/", "/v1/things/", "/v1/things /v1/things/1", "a final slash counts (P9)"},
		{"/v1/{id}", "/v1/1 /v1/a.b /v1/%41 /v1/{id}", "/v1/ /v1 /v1/1/ /v1/1/2", "{x} is one segment, not empty"},
		{"/{a}/x/{b}", "/1/x/2", "/1/y/2 //x/2 /1/x/ /1/x", "{x} anywhere"},
		{"/v1/things*", "/v1/things /v1/things/ /v1/things/1/2 /v1/thingsx /v1/things//", "/v1/thing /v1/Things /v1", "a final * is any rest"},
		{"/v1/*", "/v1/ /v1/a /v1/a/b //v1/ /v1//", "/v1 /v2/a", "after a slash too"},
		{"/*", "/ /a /a/b //", "", "everything"},
		{"/v1/*/x", "/v1/a/x /v1//x", "/v1/a/b/x /v1/x /v1/a/x/", "an inner * stays in its segment"},
		{"/v1/*.json", "/v1/a.json /v1/.json /v1/a.json.json", "/v1/a.jso /v1/a/b.json /v1/a.json/", "text after an inner *"},
		{"/v1/a*b*c/d", "/v1/abc/d /v1/axbyc/d /v1/abcbc/d", "/v1/acb/d /v1/ab/c/d /v1/abc /v1/ac/d", "several *"},
		{"/a*b*b*c/d", "/abbc/d /axbxbbc/d", "/abc/d /abbd/d", "each piece of text once, from the left"},
		{"/a*a", "/aa /aba /aaa", "/a /ab", "prefix and suffix do not overlap"},
		{"/a*b*", "/ab /axb /axby/z /ab/", "/ax/yb /a /b", "only the last * crosses slashes"},
		{"/100%/x y/é;v", "/100%/x y/é;v", "/100%/x%20y/é;v", "characters as they are"},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			require.NoError(t, token.CheckPath(tt.path))
			r, err := token.NewRoutes([]token.Requirement{{Scope: "a", Path: tt.path}}, known)
			require.NoError(t, err)
			split := strings.Fields
			if strings.Contains(tt.path, " ") {
				split = func(s string) []string { return []string{s} }
			}
			for _, path := range split(tt.yes) {
				want := "a"
				if path == "//v1/" {
					want = "write" // not below /v1
				}
				require.Equal(t, want, r.Required("POST", path, false).Name, path)
			}
			for _, path := range split(tt.not) {
				require.Equal(t, "write", r.Required("POST", path, false).Name, path)
			}
		})
	}
}

func TestTheMostSpecificLineWins(t *testing.T) {
	for name, tt := range map[string]struct {
		lines []string
		want  map[string]string
	}{
		"literal before {x} before *": {
			[]string{"c /v1/*", "b /v1/{id}", "a /v1/latest"},
			map[string]string{"POST /v1/latest": "a", "POST /v1/7": "b", "POST /v1/7/x": "c", "POST /v1/": "c", "POST /v1": "write"},
		},
		"the longer *": {
			[]string{"a /*", "b /v1/*", "c /v1/pay*", "d /v1/payments*", "e /v1/payments/*"},
			map[string]string{"GET /x": "a", "GET /v1/x": "b", "GET /v1/pay": "c", "GET /v1/paymentsx": "d", "GET /v1/payments": "d", "GET /v1/payments/1": "e"},
		},
		"the leftmost difference decides": {
			[]string{"a /v1/{x}/b", "b /v1/a/{y}", "c /{v}/a/b"},
			map[string]string{"GET /v1/a/b": "b", "GET /v1/z/b": "a", "GET /v2/a/b": "c"},
		},
		"a search that went astray comes back": {
			[]string{"a /a/b/c/d", "b /a/{x}/c/e", "c /{w}/b/{y}/f", "d /a*"},
			map[string]string{"GET /a/b/c/d": "a", "GET /a/b/c/e": "b", "GET /a/b/c/f": "c", "GET /a/b/c/g": "d"},
		},
		"text with * for one segment before {x}, for any rest after it": {
			[]string{"a /f/{name}", "b /f/*.json", "c /f/re*"},
			map[string]string{"GET /f/report": "a", "GET /f/report.json": "b", "GET /f/report/x": "c"},
		},
		"text before a bare *": {
			[]string{"a /*/x", "b /pay*", "c /*"},
			map[string]string{"GET /pay/x": "b", "GET /z/x": "a", "GET /z": "c"},
		},
		"more text, then fewer *, then text further left": {
			[]string{"a /ab*/x", "b /a*/x", "c /a*b/x", "d /*a*b/x", "e /*ab/x"},
			map[string]string{"GET /ab/x": "a", "GET /axb/x": "c", "GET /ac/x": "b", "GET /zaxb/x": "d", "GET /zab/x": "e"},
		},
		"the same among those that take any rest": {
			[]string{"a /a*b*", "b /ab*", "c /a*", "d /*ab*"},
			map[string]string{"GET /ab": "b", "GET /axb/z": "a", "GET /ax": "c", "GET /xab/z": "d"},
		},
		"methods come before specificity": {
			[]string{"a GET /v1/latest", "b POST /v1/{id}", "c /v1/*"},
			map[string]string{"GET /v1/latest": "a", "POST /v1/latest": "b", "PUT /v1/latest": "c", "GET /v1/7": "c"},
		},
		"on equal paths a line that names methods": {
			[]string{"a /v1/x", "b POST PUT /v1/x", "c /v1/{id}", "d DELETE /v1/{other}"},
			map[string]string{"GET /v1/x": "a", "POST /v1/x": "b", "PUT /v1/x": "b", "DELETE /v1/x": "a", "DELETE /v1/y": "d", "POST /v1/y": "c"},
		},
		"equal lines that agree": {
			[]string{"a /v1/{x}", "a /v1/{y}", "a GET GET /v1/{z}", "a /*a*/q", "a /*b*/q"},
			map[string]string{"GET /v1/7": "a", "POST /v1/7": "a", "PUT /ab/q": "a"},
		},
		"built-in scopes": {
			[]string{"read POST /search", "write GET /export"},
			map[string]string{"POST /search": "read", "GET /export": "write", "HEAD /export": "write"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			forward := tt.lines
			backward := slices.Clone(forward)
			slices.Reverse(backward)
			for _, order := range [][]string{forward, backward} {
				r := routes(t, order...)
				for request, want := range tt.want {
					method, path, _ := strings.Cut(request, " ")
					require.Equal(t, want, r.Required(method, path, false).Name, request)
				}
			}
		})
	}
}

// Threat M2.
func TestHeadNeedsWhatGetNeeds(t *testing.T) {
	r := routes(t, "a GET /x", "b /x", "C POST HEAD GET /y")
	for path, want := range map[string]string{"/x": "a", "/y": "C", "/z": "read"} {
		require.Equal(t, want, r.Required("GET", path, false).Name)
		require.Equal(t, want, r.Required("HEAD", path, false).Name)
	}
	_, err := token.NewRoutes(lines("a HEAD /x"), known)
	require.ErrorContains(t, err, "Caddyfile:1: names HEAD without GET")
	_, err = token.NewRoutes(lines("a GET /x", "b HEAD GET /x"), known)
	require.ErrorContains(t, err, "Caddyfile:1 and Caddyfile:2")
}

func TestAnUpgradeNeedsWriteUnlessALineSaysOtherwise(t *testing.T) {
	r := routes(t, "a GET /socket", "b POST /grpc.Things/*")
	require.Equal(t, "a", r.Required("GET", "/socket", true).Name)
	require.Equal(t, "a", r.Required("CONNECT", "/socket", true).Name, "the same WebSocket over HTTP/2")
	require.Equal(t, "b", r.Required("POST", "/grpc.Things/List", true).Name)
	require.Equal(t, token.WriteScope, r.Required("GET", "/other", true))
	require.Equal(t, token.WriteScope, r.Required("CONNECT", "/other", true))
	require.Equal(t, token.ReadScope, r.Required("GET", "/other", false))
	require.Equal(t, token.WriteScope, r.Required("CONNECT", "/socket", false))
}

func TestWithoutALineTheMethodDecides(t *testing.T) {
	for name, r := range map[string]*token.Routes{"none": nil, "zero": {}, "empty": routes(t), "elsewhere": routes(t, "a /elsewhere")} {
		t.Run(name, func(t *testing.T) {
			for _, method := range []string{"GET", "HEAD", "OPTIONS", "QUERY"} {
				require.Equal(t, token.ReadScope, r.Required(method, "/x", false), method)
			}
			for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "PROPFIND", "TRACE", "get", "", "FOO"} {
				require.Equal(t, token.WriteScope, r.Required(method, "/x", false), method)
			}
			for _, path := range []string{"", "*", "x", "elsewhere"} {
				require.Equal(t, token.ReadScope, r.Required("OPTIONS", path, false), path)
			}
		})
	}
}

func TestALineWithoutMethodsCoversThemAll(t *testing.T) {
	r := routes(t, "A /x")
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "QUERY", "POST", "PROPFIND", "FOO", "get", ""} {
		require.Equal(t, token.Scope{Name: "A", Nature: token.Write}, r.Required(method, "/x", false), method)
	}
}

func TestAScopeHasTheNatureThatItWasDeclaredWith(t *testing.T) {
	r := routes(t, "a POST /search", "B GET /export")
	require.Equal(t, token.Read, r.Required("POST", "/search", false).Nature)
	require.Equal(t, token.Write, r.Required("GET", "/export", false).Nature)
}

// Threat M4.
func TestOnlyRegisteredMethodsInUpperCaseAreJudged(t *testing.T) {
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "PROPFIND", "MKCALENDAR", "ACL", "VERSION-CONTROL", "REPORT", "SEARCH"} {
		require.True(t, token.RegisteredMethod(method), method)
		_, err := token.NewRoutes(lines("a GET "+method+" /x"), known)
		require.NoError(t, err)
	}
	for _, method := range []string{"", "get", "Get", "TRACE", "CONNECT", "PRI", "*", "FOO", "GET ", " GET", "GET\x00", "GETT", "GE", strings.Repeat("A", 1<<16)} {
		require.False(t, token.RegisteredMethod(method), "%.20q", method)
		_, err := token.NewRoutes([]token.Requirement{{Scope: "a", Methods: []string{"GET", method}, Path: "/x", Source: "Caddyfile:9"}}, known)
		require.ErrorContains(t, err, "Caddyfile:9: names a method that is not a registered HTTP method")
	}
}

func TestAPathThatCouldNeverMatchOrMeansSomethingElseIsRefused(t *testing.T) {
	for path, mend := range map[string]string{
		"":                              "begins with /",
		"v1/x":                          "begins with /",
		"*":                             "write /*",
		"https://x/y":                   "begins with /",
		"/a?b=c":                        "no query",
		"/a#b":                          "no fragment",
		`/a\b`:                          "write /",
		"/a%2Fb":                        "decoded",
		"/a%20b":                        "decoded",
		"/a%2e":                         "decoded",
		"/a//b":                         "one /",
		"//":                            "one /",
		"/a/./b":                        "the path that it stands for",
		"/a/..":                         "the path that it stands for",
		"/a**":                          "one *",
		"/a/**/b":                       "one *",
		"/a{b}":                         "whole segment",
		"/{a}b":                         "whole segment",
		"/{a":                           "whole segment",
		"/a}":                           "whole segment",
		"/{}":                           "whole segment",
		"/{a}{b}":                       "whole segment",
		"/{a*}":                         "whole segment",
		"/{a}*":                         "whole segment",
		"/a\n":                          "control character",
		"/a\x00":                        "control character",
		"/a\u0085":                      "control character",
		"/\xff":                         "UTF-8",
		"/" + strings.Repeat("a", 2048): "2048",
	} {
		err := token.CheckPath(path)
		require.ErrorContains(t, err, mend, "%.20q", path)
		_, err = token.NewRoutes([]token.Requirement{{Scope: "a", Path: path}}, known)
		require.ErrorContains(t, err, "require line 1: ")
		require.ErrorContains(t, err, mend, "%.20q", path)
	}
	require.NoError(t, token.CheckPath("/"+strings.Repeat("a", 2047)))
}

func TestAnUnknownScopeIsRefusedAndSaysWhereToDeclareIt(t *testing.T) {
	for _, lookUp := range []func(string) (token.Scope, bool){known, nil} {
		_, err := token.NewRoutes(lines("read /a", "payments:write /x"), lookUp)
		require.EqualError(t, err, "Caddyfile:2: the scope is not known: declare it in `scopes`, or use read or write")
	}
	for _, wrong := range []token.Scope{{}, {Name: "a"}, {Name: "b", Nature: token.Read}, {Name: "a", Nature: 3}} {
		_, err := token.NewRoutes(lines("a /x"), func(string) (token.Scope, bool) { return wrong, true })
		require.ErrorContains(t, err, "Caddyfile:1: ")
	}
	// A declaration cannot make read harmless or write harmful: they are fixed.
	r, err := token.NewRoutes(lines("write GET /x"), func(name string) (token.Scope, bool) { return token.Scope{Name: name, Nature: token.Read}, true })
	require.NoError(t, err)
	require.Equal(t, token.WriteScope, r.Required("GET", "/x", false))
}

func TestEquallySpecificLinesThatDisagreeAreRefusedByName(t *testing.T) {
	for name, texts := range map[string][]string{
		"the same line":                 {"a /x", "b /x"},
		"the same but for names":        {"a /{x}/y", "b /{z}/y"},
		"a common method":               {"a GET POST /x", "b POST PUT /x"},
		"any rest":                      {"a /x/*", "b /x/*"},
		"text around * in other places": {"a /*aa*/x", "b /*bb*/x"},
		"rests with text in the middle": {"a /x*a*", "b /x*b*"},
		"bare * for one segment":        {"a /*/x", "b /*/x"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := token.NewRoutes(lines(append([]string{"c /unrelated", "c GET /{z}/unrelated/*"}, texts...)...), known)
			require.ErrorContains(t, err, "Caddyfile:3 and Caddyfile:4 are equally specific")
			require.ErrorContains(t, err, "make one path more specific")
		})
	}
	for name, texts := range map[string][]string{
		"other methods":         {"a GET /x", "b POST /x"},
		"named and not named":   {"a GET /x", "b /x"},
		"literals that differ":  {"a /x", "b /y"},
		"prefixes that differ":  {"a /x*z/q", "b /y*z/q"},
		"suffixes that differ":  {"a /x*z/q", "b /x*y/q"},
		"rests that differ":     {"a /x*", "b /y*"},
		"a later segment":       {"a /{x}/y", "b /{x}/z"},
		"letter case":           {"a /x", "b /X"},
		"a slash at the end":    {"a /x", "b /x/"},
		"the same scope":        {"a /x", "a /x"},
		"one more specific":     {"a /*a", "b /*ba"},
		"GET, and a nature too": {"a GET /x", "A POST /x"},
	} {
		t.Run(name, func(t *testing.T) {
			routes(t, texts...)
		})
	}
}

// referenceLine is a line as a reader of the documentation would work it out:
// a regular expression for what it matches, and a text that sorts by specificity.
type referenceLine struct {
	token.Requirement
	matches *regexp.Regexp
	weight  string
}

func reference(r token.Requirement) referenceLine {
	var expr, weight strings.Builder
	expr.WriteString(`\A(?s:`)
	segments := strings.Split(r.Path[1:], "/")
	for i, s := range segments {
		rest := i == len(segments)-1 && strings.HasSuffix(s, "*")
		expr.WriteString("/")
		if strings.HasPrefix(s, "{") {
			expr.WriteString("[^/]+")
			weight.WriteString("3/")
			continue
		}
		body := s
		if rest {
			body = s[:len(s)-1]
		}
		expr.WriteString(strings.ReplaceAll(regexp.QuoteMeta(body), `\*`, `[^/]*`))
		if rest {
			expr.WriteString(".*")
		}
		stars := strings.Count(s, "*")
		text := len(s) - stars
		kind := ""
		switch {
		case stars == 0:
			weight.WriteString("1/")
			continue
		case text > 0 && !rest:
			kind = "2"
		case text > 0:
			kind = "4"
		case !rest:
			kind = "5"
		default:
			kind = "6"
		}
		shape := strings.Map(func(c rune) rune {
			if c == '*' {
				return '~'
			}
			return '+'
		}, s)
		fmt.Fprintf(&weight, "%s:%04d:%04d:%s/", kind, 9999-text, stars, shape)
	}
	expr.WriteString(`)\z`)
	return referenceLine{Requirement: r, matches: regexp.MustCompile(expr.String()), weight: weight.String()}
}

func (l *referenceLine) covers(method string) bool {
	return len(l.Methods) == 0 || slices.Contains(l.Methods, method) || method == "HEAD" && slices.Contains(l.Methods, "GET")
}

// fullWeight has the naming of methods for its last part.
func (l *referenceLine) fullWeight() string {
	if len(l.Methods) > 0 {
		return l.weight + "0"
	}
	return l.weight + "1"
}

// referenceRequired sorts all lines that match by specificity.
func referenceRequired(lines []referenceLine, method, path string) string {
	var matching []referenceLine
	for _, l := range lines {
		if l.covers(method) && l.matches.MatchString(path) {
			matching = append(matching, l)
		}
	}
	if len(matching) == 0 {
		return token.MethodScope(method).Name
	}
	slices.SortFunc(matching, func(a, b referenceLine) int { return cmp.Compare(a.fullWeight(), b.fullWeight()) })
	return matching[0].Scope
}

// universe is every path of up to three segments that are made of few letters.
var universe = func() []string {
	words := []string{""}
	for from, length := 0, 0; length < 3; length++ {
		to := len(words)
		for _, w := range words[from:to] {
			words = append(words, w+"a", w+"b")
		}
		from = to
	}
	paths := []string{}
	for _, a := range words {
		paths = append(paths, "/"+a)
		for _, b := range words {
			paths = append(paths, "/"+a+"/"+b)
			if len(a) < 3 && len(b) < 3 {
				for _, c := range words {
					paths = append(paths, "/"+a+"/"+b+"/"+c)
				}
			}
		}
	}
	return paths
}()

var pieces = []string{"a", "b", "ab", "ba", "{x}", "{y}", "*", "a*", "*a", "*b", "a*b", "b*b", "*a*", "*b*", "a*b*"}

// everyPath is every path of one or two pieces, with each of three ends.
func everyPath() []string {
	var all []string
	for _, end := range []string{"", "/", "/*"} {
		for _, one := range pieces {
			all = append(all, "/"+one+end)
			for _, two := range pieces {
				all = append(all, "/"+one+"/"+two+end)
			}
		}
	}
	return all
}

func drawPath(t *rapid.T) string {
	segment := rapid.SampledFrom(pieces)
	segments := rapid.SliceOfN(segment, 1, 3).Draw(t, "segments")
	path := "/" + strings.Join(segments, "/")
	switch rapid.IntRange(0, 5).Draw(t, "end") {
	case 0:
		path += "/"
	case 1:
		path += "/*"
	}
	return path
}

func drawLine(t *rapid.T) token.Requirement {
	return token.Requirement{
		Scope:   rapid.SampledFrom([]string{"a", "b", "C"}).Draw(t, "scope"),
		Methods: rapid.SampledFrom([][]string{nil, {"GET"}, {"POST"}, {"GET", "POST"}, {"HEAD", "GET"}}).Draw(t, "methods"),
		Path:    drawPath(t),
	}
}

func TestRoutesAgreeWithSortingAllLinesBySpecificity(t *testing.T) {
	accepted, refused := 0, 0
	agree := func(t *rapid.T) {
		requirements := rapid.SliceOfN(rapid.Custom(drawLine), 1, 8).Draw(t, "lines")
		var all []referenceLine
		for i := range requirements {
			requirements[i].Source = fmt.Sprint("line ", i)
			all = append(all, reference(requirements[i]))
		}
		// Two lines contradict each other when some request shows it.
		conflict := false
		for i, a := range all {
			for _, b := range all[:i] {
				common := slices.ContainsFunc([]string{"GET", "POST", "PUT"}, func(m string) bool { return a.covers(m) && b.covers(m) })
				if a.Scope != b.Scope && common && a.fullWeight() == b.fullWeight() {
					conflict = conflict || slices.ContainsFunc(universe, func(p string) bool { return a.matches.MatchString(p) && b.matches.MatchString(p) })
				}
			}
		}
		r, err := token.NewRoutes(requirements, known)
		if conflict {
			refused++
			require.ErrorContains(t, err, "equally specific")
			return
		}
		require.NoError(t, err)
		accepted++
		for range 200 {
			path := rapid.SampledFrom(universe).Draw(t, "path")
			method := rapid.SampledFrom([]string{"GET", "HEAD", "POST", "PUT", "OPTIONS"}).Draw(t, "method")
			require.Equal(t, referenceRequired(all, method, path), r.Required(method, path, false).Name, "%s %s", method, path)
		}
	}
	// Lines that contradict each other are rare: one round in twenty draws none.
	for round := 0; round < 20 && (accepted == 0 || refused == 0); round++ {
		rapid.Check(t, agree)
	}
	require.NotZero(t, accepted)
	require.NotZero(t, refused)
}

func TestAPathThatMatchesLessNeverLosesToOneThatMatchesMore(t *testing.T) {
	// Letters that stand in no path make room for what * and {x} take besides.
	words := []string{"", "a", "b", "z", "ab", "ba", "za", "az", "bz", "zb", "azb", "zaz", "zbz", "bzb", "abz", "azz", "zab", "aazb", "azbz", "zza"}
	var paths []string
	for _, a := range words {
		paths = append(paths, "/"+a)
		for _, b := range words {
			paths = append(paths, "/"+a+"/"+b, "/"+a+"/"+b+"/z", "/"+a+"/"+b+"/", "/"+a+"/"+b+"/a", "/"+a+"/"+b+"/b/zaz")
		}
	}
	type candidate struct {
		path    string
		matched []uint64 // a bit for each of paths
	}
	var candidates []candidate
	for _, path := range everyPath() {
		line := reference(token.Requirement{Path: path})
		c := candidate{path, make([]uint64, len(paths)/64+1)}
		for i, p := range paths {
			if line.matches.MatchString(p) {
				c.matched[i/64] |= 1 << (i % 64)
			}
		}
		candidates = append(candidates, c)
	}
	inside := 0
	for _, narrow := range candidates {
		for _, wide := range candidates {
			witness, outside, strictly := "", false, false
			for i, n := range narrow.matched {
				w := wide.matched[i]
				if outside = n&^w != 0; outside {
					break
				}
				if n != 0 {
					witness = paths[i*64+bits.TrailingZeros64(n)]
				}
				strictly = strictly || w&^n != 0
			}
			if witness == "" || outside || !strictly {
				continue
			}
			inside++
			r, err := token.NewRoutes([]token.Requirement{{Scope: "b", Path: wide.path}, {Scope: "a", Path: narrow.path}}, known)
			require.NoError(t, err)
			require.Equal(t, "a", r.Required("GET", witness, false).Name, "%s is inside %s", narrow.path, wide.path)
		}
	}
	require.Greater(t, inside, 1000)
}

func TestFindingTheScopeAllocatesNothing(t *testing.T) {
	r := manyRoutes(t, 1000)
	deep := "/v1" + strings.Repeat("/x", 1000)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for _, path := range []string{"/v1/thing7", "/v1/thing7/42", "/v1/thing7/42/x/1/2", "/v1/thingless", "/elsewhere", "", deep} {
			for _, method := range []string{"GET", "HEAD", "POST", "FOO"} {
				r.Required(method, path, false)
			}
		}
	}))
}

func FuzzRoutes(f *testing.F) {
	for _, seed := range [][3]string{
		{"/v1/payments*", "/v1/{id}", "/v1/payments"},
		{"/a/*/b", "/a/{x}/b", "/a//b"},
		{"/*.json", "/*", "/x.json"},
		{"/*a*b*", "/{x}", "/ab/"},
		{"/a%2F", "/..", "/"},
		{"/\xff", "/{", "*"},
	} {
		f.Add(seed[0], seed[1], "GET", seed[2])
	}
	f.Fuzz(func(t *testing.T, one, two, method, path string) {
		requirements := []token.Requirement{{Scope: "a", Path: one}, {Scope: "b", Methods: []string{"GET"}, Path: two}}
		r, err := token.NewRoutes(requirements, known)
		if token.CheckPath(one) != nil || token.CheckPath(two) != nil {
			require.Error(t, err)
			return
		}
		// A line that names methods never ties with one that names none.
		require.NoError(t, err)
		if method == "HEAD" {
			method = "GET"
		}
		all := []referenceLine{reference(requirements[0]), reference(requirements[1])}
		require.Equal(t, referenceRequired(all, method, path), r.Required(method, path, false).Name)
	})
}
