package api_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"
)

// A caller who puts a secret into the wrong field must not find it in a response,
// in a log or in an error message, whatever the field, the form that it has there,
// and the reason why the request is refused.
func TestNoRefusalRepeatsAValue(t *testing.T) {
	const mark = "sp_live_M4rk3rM4rk3rM4rk3rM4rk3rM4rk3rM4rk3rM4rk3rM4rk3rM4rk"
	g := newGateway(t)
	id := string(g.token().Token.ID)

	refuse := func(a asked) {
		t.Helper()
		w := g.do(a)
		if w.Code < 400 {
			return // what it was given it may show
		}
		require.NotContains(t, w.Body.String(), "M4rk", "%s %s", a.method, a.path)
		require.NotContains(t, fmt.Sprint(w.Header()), "M4rk", "%s %s", a.method, a.path)
		require.NotContains(t, w.Body.String(), "918273", "%s %s", a.method, a.path)
	}
	for _, o := range g.operations() {
		for _, parameter := range o.Parameters {
			switch parameter.Value.In {
			case openapi3.ParameterInQuery:
				for _, v := range []string{mark, strings.Repeat(mark, 40), "918273918273918273918273", mark + "\x00"} {
					a := o.ask(id)
					a.path += "?" + parameter.Value.Name + "=" + url.QueryEscape(v)
					refuse(a)
				}
			case openapi3.ParameterInHeader:
				for _, v := range []string{mark, strings.Repeat(mark, 40), mark + "\x01"} {
					refuse(o.ask(id).with(parameter.Value.Name, v))
				}
			case openapi3.ParameterInPath:
				refuse(o.ask(mark))
				refuse(o.ask(url.PathEscape(mark + "/\x00")))
			}
		}
		a := o.ask(id)
		refuse(asked{method: a.method, path: a.path + "?" + mark + "=" + mark, body: a.body, header: a.header})
		refuse(asked{method: a.method, path: a.path + "/" + mark, body: a.body, header: a.header})
		refuse(asked{method: mark[:7] + "M4rk", path: a.path})
		refuse(a.with("Content-Type", mark))
		for _, body := range []string{mark, `{"` + mark + `":1}`, `{"` + mark + `":1,"` + mark + `":1}`, `"` + mark + `"`, `{"a":"` + mark, `{"a":` + mark + `}`} {
			a := o.ask(id)
			a.body = body
			refuse(a)
		}
		if !o.takesBody() {
			continue
		}
		for field := range o.schema().Properties {
			for _, value := range marked(mark) {
				a := o.ask(id)
				a.body = withField(t, a.body, field, value)
				refuse(a)
			}
		}
	}
	for _, f := range g.failures {
		require.NotContains(t, fmt.Sprintf("%+v %v", f, f.Err), "M4rk")
	}
}

// marked hides the mark in every shape that JSON has.
func marked(mark string) []string {
	return []string{
		`"` + mark + `"`,
		`"` + strings.Repeat(mark, 40) + `"`,
		`"` + mark + `\u0000"`,
		`"` + mark + `\u202e"`,
		`["` + mark + `"]`,
		`["` + mark + `","` + mark + `"]`,
		`[["` + mark + `"]]`,
		`{"` + mark + `":"` + mark + `"}`,
		`{"hash":"` + mark + `","mac":1,"seq":-918273,"key_id":"` + mark + `","at":"` + mark + `"}`,
		`918273e918273`, `-918273`, `9182739182739182739182731`, `918273.5`, `true`, `null`,
		`"2030-01-31T00:00:00+918273"`, `"918273-99-99T00:00:00Z"`, `"0001-01-01T00:00:00Z"`,
		`"918273.1.1.1"`, `["918273.0.0.0/8"]`,
	}
}

// withField sets a field of a JSON object to a text that need not be valid.
func withField(t *testing.T, body, field, value string) string {
	t.Helper()
	require.True(t, strings.HasPrefix(body, "{"))
	rest := strings.TrimPrefix(body, "{")
	// The sample has the field already: what stands there makes way.
	if at := strings.Index(rest, `"`+field+`":`); at >= 0 {
		end := at + strings.IndexAny(rest[at:], ",}")
		rest = strings.Trim(rest[:at]+strings.TrimPrefix(rest[end:], ","), ",")
		rest = strings.Replace(rest, ",}", "}", 1)
	}
	if rest == "}" {
		return fmt.Sprintf(`{%q:%s}`, field, value)
	}
	return fmt.Sprintf(`{%q:%s,%s`, field, value, rest)
}

func TestTheNameOfAnUnknownFieldIsRepeatedOnlyWhenItCanBeNoSecret(t *testing.T) {
	g := newGateway(t)
	p := g.refused(post("/accounts", `{"name":"n","colour":1}`), http.StatusUnprocessableEntity, "invalid_field")
	require.Equal(t, "/colour", p.Errors[0].Pointer)
	require.Equal(t, "colour: is not a field of this request", p.Detail)
	for _, name := range []string{strings.Repeat("k", 41), "two words", "a/b", "ключ", ""} {
		p := g.refused(post("/accounts", fmt.Sprintf(`{"name":"n",%q:1}`, name)), http.StatusUnprocessableEntity, "invalid_field")
		require.Equal(t, "/(name not repeated)", p.Errors[0].Pointer)
	}
}
