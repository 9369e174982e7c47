package caddymodule

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestExactlyOneCredentialCounts(t *testing.T) {
	for name, c := range map[string]struct {
		h    http.Header
		want int
	}{
		"none":                           {http.Header{}, 0},
		"an empty one presents nothing":  {http.Header{"Authorization": {""}, "X-Api-Key": {""}}, 0},
		"Authorization":                  {http.Header{"Authorization": {"Bearer a"}}, 1},
		"a header that is named":         {http.Header{"X-Api-Key": {"a"}}, 1},
		"one that is not named":          {http.Header{"X-Token": {"a"}}, 0},
		"one beside an empty one":        {http.Header{"Authorization": {""}, "X-Api-Key": {"a"}}, 1},
		"C1 two Authorization":           {http.Header{"Authorization": {"Bearer a", "Bearer a"}}, 2},
		"C1 two schemes":                 {http.Header{"Authorization": {"Bearer a", "Basic b"}}, 2},
		"C1 two headers":                 {http.Header{"Authorization": {"Bearer a"}, "X-Api-Key": {"a"}}, 2},
		"C1 another scheme and a header": {http.Header{"Authorization": {"Basic b"}, "X-Api-Key": {"a"}}, 2},
		"C1 two values of a header":      {http.Header{"X-Api-Key": {"a", "a"}}, 2},
		"B3 another spelling is none":    {http.Header{"x_api_key": {"a"}, "authorization": {"Bearer a"}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			taken, _ := someRules.strip(c.h, false)
			require.Equal(t, c.want, taken.count)
		})
	}
}

func TestTheBearerSchemeIsReadStrictly(t *testing.T) {
	for value, want := range map[string]string{
		"Bearer abc": "abc", "bearer abc": "abc", "BEARER abc": "abc", "bEaReR abc": "abc",
	} {
		text, ok := bearerText(value)
		require.True(t, ok, "C3: %q", value)
		require.Equal(t, want, text)
	}
	for _, value := range []string{
		"Basic dG9rOng=", "Bearer", "Bearer\tabc", "Bearerabc", " Bearer abc", "Token abc", "Bearer:abc", "Digest abc", "abc", "",
	} {
		_, ok := bearerText(value)
		require.False(t, ok, "C2, C3: %q", value)
	}
}

func TestAQueryParameterIsTakenOut(t *testing.T) {
	for name, c := range map[string]struct {
		raw, rest string
		values    []string
	}{
		"alone":                        {"key=a", "", []string{"a"}},
		"first":                        {"key=a&b=c", "b=c", []string{"a"}},
		"last":                         {"b=c&key=a", "b=c", []string{"a"}},
		"between":                      {"b=%63&key=a&&d", "b=%63&&d", []string{"a"}},
		"C1 twice":                     {"key=a&b&key=c", "b", []string{"a", "c"}},
		"under an encoded name":        {"%6bey=a&b", "b", []string{"a"}},
		"with an encoded value":        {"key=%61", "", []string{"a"}},
		"with a broken value":          {"key=%6", "", []string{"%6"}},
		"without a value":              {"key&b", "b", []string{""}},
		"not there":                    {"b=key&KEY=a&keys=c&%6", "b=key&KEY=a&keys=c&%6", nil},
		"nothing there":                {"", "", nil},
		"the rest stays byte for byte": {"a=+%2B;b&key=x&c=%zz&d=é", "a=+%2B;b&c=%zz&d=é", []string{"x"}},
	} {
		t.Run(name, func(t *testing.T) {
			rest, values := takeQuery(c.raw, "key")
			require.Equal(t, c.rest, rest)
			require.Equal(t, c.values, values)
		})
	}
}

func FuzzBearerText(f *testing.F) {
	for _, value := range []string{"Bearer a", "bearer  a", "Basic a", "Bearer", "Bearer \x00", "BEARER\ta", "Bearer a, Bearer b", "é"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		text, ok := bearerText(value)
		scheme, rest, found := strings.Cut(value, " ")
		require.Equal(t, found && strings.EqualFold(scheme, "bearer") && len(scheme) == len("bearer"), ok)
		if ok {
			require.Equal(t, rest, text)
		}
	})
}

func FuzzTakeQuery(f *testing.F) {
	for _, raw := range []string{"", "key=a", "a&key=b&c", "%6bey=a", "key", "&&", "key=%6", "a;key=b", "k%65y=1&key=2"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		rest, values := takeQuery(raw, "key")
		if len(values) == 0 {
			require.Equal(t, raw, rest)
		}
		// Nobody who reads queries as Go does finds the parameter in what is left.
		left, _ := url.ParseQuery(rest)
		require.NotContains(t, left, "key")
		// And nothing else is lost.
		before, _ := url.ParseQuery(raw)
		delete(before, "key")
		require.Equal(t, before, left)
	})
}
