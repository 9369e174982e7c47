package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestTheDocumentIsValidAndChangesOnlyOnPurpose(t *testing.T) {
	g := newGateway(t)
	w := g.do(get("/openapi.json"))
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))

	doc, err := openapi3.NewLoader().LoadFromData(w.Body.Bytes())
	require.NoError(t, err)
	require.NoError(t, doc.Validate(t.Context()))
	require.Equal(t, "3.1.0", doc.OpenAPI)
	require.Equal(t, base, doc.Servers[0].URL)

	var indented bytes.Buffer
	require.NoError(t, json.Indent(&indented, w.Body.Bytes(), "", "\t"))
	indented.WriteByte('\n')
	golden := filepath.Join("testdata", "openapi.json")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(golden, indented.Bytes(), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	if diff := cmp.Diff(string(want), indented.String()); diff != "" {
		t.Errorf("the document changed; if that is meant, run `go test ./api -update` (-golden +now):\n%s", diff)
	}
}

func TestTheDocumentHasNoExampleThatLooksLikeASecret(t *testing.T) {
	g := newGateway(t)
	require.NotRegexp(t, regexp.MustCompile(token.Pattern), string(g.document))
}

func TestEveryRouteIsDescribed(t *testing.T) {
	g := newGateway(t)
	doc, err := openapi3.NewLoader().LoadFromData(g.document)
	require.NoError(t, err)
	for name, s := range doc.Components.Schemas {
		require.NotContains(t, []string{"ErrorModel", "ErrorDetail"}, name, "huma's own errors are never sent")
		if s.Value.Type.Is("object") {
			for field, p := range s.Value.Properties {
				described := p.Value.Description != "" || p.Ref != "" || field == "items"
				require.True(t, described, "%s.%s has no description", name, field)
			}
		}
	}
	for _, o := range g.operations() {
		require.NotEmpty(t, o.id)
		require.NotEmpty(t, o.Summary, o.id)
		require.NotEmpty(t, o.Tags, o.id)
		for status, r := range o.Responses.Map() {
			require.NotEmpty(t, *r.Value.Description, "%s %s", o.id, status)
			require.Contains(t, r.Value.Headers, "X-Request-Id", "%s %s", o.id, status)
		}
		if o.takesBody() {
			closed := o.schema().AdditionalProperties.Has
			require.True(t, closed != nil && !*closed, "%s accepts unknown fields", o.id)
		}
	}
}

func TestTheDocumentNamesWhereTheAPIIsMounted(t *testing.T) {
	for mounted, server := range map[string]string{"": "/", "/api/v1": "/api/v1"} {
		h, err := api.New(api.Options{
			Authority: &authority.Authority{}, BasePath: mounted,
			Identify: func(*http.Request) (tokenstore.Actor, error) { return tokenstore.Actor{}, nil },
		})
		require.NoError(t, err)
		data, err := api.NewHandlerClient(h, mounted).OpenAPI(t.Context())
		require.NoError(t, err)
		doc, err := openapi3.NewLoader().LoadFromData(data)
		require.NoError(t, err)
		require.Equal(t, server, doc.Servers[0].URL)
	}
}
