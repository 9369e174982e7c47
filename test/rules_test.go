package test

import (
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// ruleRow is a row of docs/rules.md: a rule, and the places that show it.
type ruleRow struct {
	rule   string
	places []string
}

// waitsForConsole stands in the place of a place.
const waitsForConsole = "console"

var (
	ruleLine   = regexp.MustCompile(`(?m)^\| ([TOSMR]\d+) \| (.*) \|$`)
	citation   = regexp.MustCompile(`\b([TOSMR])([1-9]\d?)\b(?: to ([TOSMR])?([1-9]\d?)\b)?`)
	rulesTitle = "## What waits for the web console"
)

// readRules parses the page: the rules, and those that wait for the console.
func readRules(t *testing.T, page string) (rows []ruleRow, waiting []string) {
	t.Helper()
	rules, rest, found := strings.Cut(page, rulesTitle)
	require.True(t, found, "the page says what waits for the console")
	for _, m := range ruleLine.FindAllStringSubmatch(rules, -1) {
		_, places, found := strings.Cut(m[2], " | ")
		require.True(t, found, "%s has three columns", m[1])
		require.False(t, slices.ContainsFunc(rows, func(r ruleRow) bool { return r.rule == m[1] }), "%s has two rows", m[1])
		rows = append(rows, ruleRow{rule: m[1], places: strings.Split(strings.ReplaceAll(places, "`", ""), ", ")})
	}
	for _, m := range ruleLine.FindAllStringSubmatch(rest, -1) {
		waiting = append(waiting, m[1])
	}
	return rows, waiting
}

// cited lists the numbers in a text, those between the ends of a range too.
func cited(text string) map[string]bool {
	numbers := map[string]bool{}
	for _, m := range citation.FindAllStringSubmatch(text, -1) {
		first, _ := strconv.Atoi(m[2])
		last := first
		if m[4] != "" && (m[3] == "" || m[3] == m[1]) {
			last, _ = strconv.Atoi(m[4])
		}
		for n := first; n <= last; n++ {
			numbers[m[1]+strconv.Itoa(n)] = true
		}
		numbers[m[1]+m[2]] = true
	}
	return numbers
}

// namedOutright lists the ends of ranges and the single numbers of a text: a range may
// stride over numbers that do not exist.
func namedOutright(text string) (numbers []string) {
	for _, m := range citation.FindAllStringSubmatch(text, -1) {
		numbers = append(numbers, m[1]+m[2])
		if m[4] != "" && m[3] == m[1] {
			numbers = append(numbers, m[3]+m[4])
		}
	}
	return numbers
}

// shownIn reads what can show a rule: for each story its text, and for each test its
// comment and its code, of whichever packages have one of that name. words is what
// comments and strings of each test file say.
func shownIn(t *testing.T) (places, words map[string]string) {
	t.Helper()
	places, words = map[string]string{}, map[string]string{}
	stories, err := filepath.Glob(storiesDir + "/*.txtar")
	require.NoError(t, err)
	for _, path := range stories {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		places[filepath.Base(path)] = string(text)
	}
	require.NoError(t, filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != ".." && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir // .git, .tools
		case d.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, source, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Test") {
				continue
			}
			from := f.Pos()
			if f.Doc != nil {
				from = f.Doc.Pos()
			}
			places[f.Name.Name] += string(source[files.Position(from).Offset:files.Position(f.End()).Offset])
		}
		words[path] = wordsOf(source)
		return nil
	}))
	return places, words
}

// wordsOf is the comments and strings of a Go file.
func wordsOf(source []byte) string {
	var b strings.Builder
	var s scanner.Scanner
	s.Init(token.NewFileSet().AddFile("", -1, len(source)), source, nil, scanner.ScanComments)
	for {
		_, kind, text := s.Scan()
		if kind == token.EOF {
			return b.String()
		}
		if kind == token.COMMENT || kind == token.STRING {
			b.WriteString(text + "\n")
		}
	}
}

// otherNumbers is how far other lists of the project go whose numbers begin with a
// letter that rules begin with: of hostile requests, and of what is promised.
var otherNumbers = map[byte]int{'M': 6, 'S': 22}

// missing says what is wrong with the rules, the places that are said to show them,
// and the numbers that tests and stories cite.
func missing(rows []ruleRow, waiting []string, places, words map[string]string) (wrong []string) {
	known := map[string]bool{}
	for _, row := range rows {
		known[row.rule] = true
		for _, place := range row.places {
			text, found := places[place]
			switch {
			case place == waitsForConsole && slices.Contains(waiting, row.rule):
			case place == waitsForConsole:
				wrong = append(wrong, row.rule+" waits for the console and is not in the list of what does")
			case !found:
				wrong = append(wrong, row.rule+" is said to be shown by "+place+", and there is no such story or test")
			case !cited(text)[row.rule]:
				wrong = append(wrong, row.rule+" is said to be shown by "+place+", which does not cite it")
			}
		}
	}
	for _, rule := range waiting {
		if !known[rule] {
			wrong = append(wrong, rule+" waits for the console, and there is no such rule")
		}
	}
	for place, text := range places {
		if strings.HasSuffix(place, ".txtar") {
			for _, number := range namedOutright(text) {
				if !known[number] {
					wrong = append(wrong, place+" cites "+number+", and there is no such rule")
				}
			}
		}
	}
	for path, text := range words {
		for _, number := range namedOutright(text) {
			if n, _ := strconv.Atoi(number[1:]); !known[number] && n > otherNumbers[number[0]] {
				wrong = append(wrong, path+" cites "+number+", and there is no such rule")
			}
		}
	}
	slices.Sort(wrong)
	return slices.Compact(wrong)
}

func TestEveryRuleIsShown(t *testing.T) {
	page, err := os.ReadFile("../docs/rules.md")
	require.NoError(t, err)
	rows, waiting := readRules(t, string(page))
	// The page holds them all: a rule that is taken off it is no longer looked for.
	perVendor := map[byte]int{}
	for _, row := range rows {
		perVendor[row.rule[0]]++
	}
	require.Equal(t, map[byte]int{'T': 18, 'O': 22, 'S': 13, 'M': 16, 'R': 18}, perVendor)
	places, words := shownIn(t)
	require.Empty(t, missing(rows, waiting, places, words))
}

func TestARuleThatIsNotShownIsFound(t *testing.T) {
	// The letter apart from the number, so that this file does not cite them.
	rule := func(n int) string { return "T" + strconv.Itoa(n) }
	page := "| " + rule(1) + " | a | `a.txtar`, `TestB` |\n| " + rule(2) + " | b | console |\n" + rulesTitle + "\n"
	rows, waiting := readRules(t, page)
	require.Equal(t, []ruleRow{{rule(1), []string{"a.txtar", "TestB"}}, {rule(2), []string{"console"}}}, rows)
	require.Equal(t, []string{
		rule(1) + " is said to be shown by TestB, and there is no such story or test",
		rule(1) + " is said to be shown by a.txtar, which does not cite it",
		rule(2) + " waits for the console and is not in the list of what does",
		"a.txtar cites " + rule(77) + ", and there is no such rule",
		"b_test.go cites " + rule(78) + ", and there is no such rule",
	}, missing(rows, waiting, map[string]string{"a.txtar": rule(77)}, map[string]string{"b_test.go": rule(78)}))
	require.Empty(t, missing(rows, []string{rule(2)}, map[string]string{
		"a.txtar": "# " + rule(1) + " to " + rule(2), "TestB": "// " + rule(1) + ".",
	}, nil))
}
