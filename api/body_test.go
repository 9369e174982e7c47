package api_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/tokenstore"
)

// An edit without If-Match is refused after its body was read and before the
// authority is asked: whatever gets as far as that was accepted by the decoder.
func FuzzABodyIsAcceptedOnlyWhenEveryReaderAgreesOnIt(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"name":"n"}`, `{"name":"n","name":"m"}`, `{"Name":"n"}`, `{"name":null}`, `{"expires_at":null}`,
		`{"expires_at":"2030-01-31T00:00:00Z"}`, `{"expires_at":"0001-01-01T00:00:00Z"}`, `{"expires_at":"2030-01-31T1:00:00Z"}`, `{"expires_at":"2030-01-31T00:00:00,5Z"}`,
		`{"access":"custom","scopes":["a","b"]}`, `{"access":"none"}`, `{"scopes":[null]}`, `{"scopes":{"a":1}}`, `{"ip_allowlist":["10.0.0.1"],"allow_any_address":true}`,
		`{"allow_any_address":"true"}`, `{"name":"a` + "\xff" + `"}`, `{"name":"\ud800"}`, `{"name":"\u0000"}`, `{"\u006eame":"n"}`, `{"ſcopes":[]}`, `{"name":1e999}`,
		`[]`, `null`, `{`, `{}{}`, ` {"name" : "n" } `, `{"name":"n"}` + strings.Repeat(" ", 100), strings.Repeat("[", 1000),
	} {
		f.Add([]byte(seed))
	}
	handler, err := api.New(api.Options{
		Authority: &authority.Authority{}, // never asked
		BasePath:  base,
		Identify:  func(*http.Request) (tokenstore.Actor, error) { return tokenstore.Actor{}, nil },
	})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest(http.MethodPatch, base+"/tokens/tok_1", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		switch w.Code {
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
			return
		case http.StatusPreconditionRequired:
		default:
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		var edit api.TokenEdit
		strict := json.NewDecoder(bytes.NewReader(body))
		strict.DisallowUnknownFields()
		if err := strict.Decode(&edit); err != nil {
			t.Fatalf("accepted, but the standard library says: %v", err)
		}
		// What was read, written again, must be what was sent: nothing was
		// dropped, overwritten or taken for something else.
		again, err := json.Marshal(edit)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tree(t, body), tree(t, again)); diff != "" {
			t.Errorf("body was not read as it was sent (-sent +read):\n%s", diff)
		}
	})
}

// tree reads JSON without a schema, and leaves out what is as good as absent.
func tree(t *testing.T, data []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	if m["allow_any_address"] == false {
		delete(m, "allow_any_address")
	}
	if text, ok := m["expires_at"].(string); ok {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		m["expires_at"] = at.UTC()
	}
	return m
}

func TestNullIsRefusedWhereItMeansNothing(t *testing.T) {
	g := newGateway(t)
	account := g.account()
	p := g.refused(patch("/accounts/"+string(account.ID), `"1"`, `{"name":null,"policy":null}`), http.StatusUnprocessableEntity, "invalid_field")
	require.Equal(t, []string{"/name", "/policy"}, []string{p.Errors[0].Pointer, p.Errors[1].Pointer})
	// As shown, so taken: a token without an owner or an expiry is shown with null.
	granted[api.Issued](g, post("/tokens", `{"name":"n","account_id":"`+string(account.ID)+`","access":"read_only","user_id":null,"expires_at":null}`), http.StatusCreated)
}

func TestAnAnswerNamesEveryMistakeButNotWithoutEnd(t *testing.T) {
	g := newGateway(t)
	p := g.refused(post("/tokens", `{"name":1,"access":"all","scopes":[1]}`), http.StatusUnprocessableEntity, "invalid_field")
	want := []api.FieldProblem{
		{Pointer: "/access", Detail: "must be one of read_only, read_write, custom"},
		{Pointer: "/account_id", Detail: "is required"},
		{Pointer: "/name", Detail: "must be a string"},
		{Pointer: "/scopes/0", Detail: "must be a string"},
	}
	if diff := cmp.Diff(want, p.Errors); diff != "" {
		t.Errorf("mistakes (-want +got):\n%s", diff)
	}
	require.True(t, strings.HasPrefix(p.Detail, "access: "))

	many := `{"scopes":[` + strings.TrimSuffix(strings.Repeat("1,", 20000), ",") + `]}`
	w := g.do(post("/tokens", many))
	require.Equal(t, http.StatusUnprocessableEntity, w.Code)
	require.Less(t, w.Body.Len(), 4096)
}
