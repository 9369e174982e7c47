package api

import (
	"bytes"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/tokenstore"
)

func readDocs(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../docs/api.md")
	require.NoError(t, err)
	return string(page)
}

func TestTheDocsNameEveryCodeWithItsStatus(t *testing.T) {
	want := map[string]int{}
	for code, m := range problems {
		want[code] = m.status
	}
	got := map[string]int{}
	for _, row := range regexp.MustCompile("(?m)^\\| ([0-9]{3}) \\| `([a-z0-9_]+)` \\|").FindAllStringSubmatch(readDocs(t), -1) {
		got[row[2]], _ = strconv.Atoi(row[1])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/api.md and the table of problems differ (-table +docs):\n%s", diff)
	}
}

func TestTheDocsNameEveryRouteAndEveryField(t *testing.T) {
	made, err := New(Options{
		Authority: &authority.Authority{}, BasePath: "/x",
		Identify: func(*http.Request) (tokenstore.Actor, error) { return tokenstore.Actor{}, nil },
	})
	require.NoError(t, err)
	doc := made.(*handler).api.OpenAPI()
	page := readDocs(t)
	_, routes, found := strings.Cut(page, "## Routes")
	require.True(t, found)
	for path, item := range doc.Paths {
		for verb, op := range map[string]bool{"GET": item.Get != nil, "POST": item.Post != nil, "PUT": item.Put != nil, "PATCH": item.Patch != nil, "DELETE": item.Delete != nil} {
			if !op {
				continue
			}
			named := false
			for line := range strings.Lines(routes) {
				tail := path[strings.LastIndex(path, "/"):]
				whole := strings.Contains(line, path+"`")
				short := strings.Contains(line, "`…"+tail+"`") && strings.Contains(line, strings.TrimSuffix(path, tail))
				listed := strings.Count(path, "/") == 1 && strings.Contains(line, "`"+path+"`")
				named = named || (whole || short || listed) && strings.Contains(line, "`"+verb)
			}
			require.True(t, named, "docs/api.md does not name %s %s", verb, path)
		}
	}
	for _, schema := range []string{"NewToken", "TokenEdit", "Rotation", "Confirmation", "Question", "NewAccount", "AccountEdit", "NewUser", "UserEdit", "AuditCheck", "Token", "Restoring", "Exemption", "Retirement"} {
		for field := range doc.Components.Schemas.Map()[schema].Properties {
			require.Regexp(t, "[`{ \n]"+field+"[`}, \n.]", routes, "docs/api.md does not name %s of %s", field, schema)
		}
	}
}

// examples are the shell lines of the page, as one script.
func examples(t *testing.T) []byte {
	t.Helper()
	var script bytes.Buffer
	script.WriteString("set -eu\n")
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(readDocs(t), -1) {
		script.WriteString(block[1])
	}
	require.Contains(t, script.String(), "curl")
	return script.Bytes()
}
