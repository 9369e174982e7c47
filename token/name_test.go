package token_test

import (
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
)

// Threat D15, all but the normal form, which is for who calls.
func TestANameShowsEverythingThatIsInIt(t *testing.T) {
	for _, name := range []string{
		"a", "Billing export", "Zürich – Büro 3", "東京　支社", "مفتاح", "é", "👍", "❤\uFE0F", "O'Brien <x> \"y\" & =1+1",
		strings.Repeat("字", 100), strings.Repeat("a", 100), "a\u0301b",
	} {
		require.NoError(t, token.CheckName(name), "%q", name)
	}
	for why, name := range map[string]string{
		"empty":                      "",
		"101 characters":             strings.Repeat("字", 101),
		"101 letters":                strings.Repeat("a", 101),
		"a megabyte":                 strings.Repeat("a", 1<<20),
		"invalid UTF-8":              "a\xff",
		"half a character":           "a\xe5\xad",
		"a surrogate in UTF-8":       "a\xed\xa0\x80",
		"NUL":                        "a\x00b",
		"line end":                   "a\nb",
		"CRLF":                       "a\r\nBcc: x",
		"tab":                        "a\tb",
		"DEL":                        "a\x7fb",
		"C1 control":                 "a\u0085b",
		"right-to-left override":     "a\u202Eb",
		"right-to-left mark":         "a\u200Fb",
		"isolate":                    "a\u2066b",
		"zero-width space":           "a\u200Bb",
		"zero-width joiner":          "👩\u200D💻",
		"byte order mark":            "a\uFEFFb",
		"soft hyphen":                "a\u00ADb",
		"word joiner":                "a\u2060b",
		"tag":                        "a\U000E0041b",
		"Hangul filler":              "\u3164",
		"grapheme joiner":            "a\u034Fb",
		"variation selector":         "a\uFE01b",
		"variation selector, far":    "a\U000E0100b",
		"line separator":             "a\u2028b",
		"paragraph separator":        "a\u2029b",
		"private use":                "a\uE000b",
		"noncharacter":               "a\uFFFFb",
		"unassigned":                 "a\U000E0080b",
		"space before":               " a",
		"space after":                "a ",
		"only a space":               " ",
		"no-break space at an end":   "a\u00A0",
		"ideographic space at start": "\u3000a",
		"combining mark first":       "\u0301a",
		"only a selector":            "\uFE0F",
	} {
		err := token.CheckName(name)
		var field *token.FieldError
		require.True(t, errors.As(err, &field), why)
		require.Equal(t, "name", field.Field)
	}
}

func FuzzCheckName(f *testing.F) {
	for _, seed := range []string{"Billing export", "a\u202Eb", "", " ", "a\x00", "👩\u200D💻", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if token.CheckName(name) != nil {
			return
		}
		require.True(t, utf8.ValidString(name))
		require.LessOrEqual(t, utf8.RuneCountInString(name), token.MaxNameLength)
		require.Equal(t, strings.TrimSpace(name), name)
		require.NotEmpty(t, name)
		for _, r := range name {
			require.False(t, unicode.In(r, unicode.C, unicode.Bidi_Control, unicode.Zl, unicode.Zp, unicode.Join_Control))
		}
	})
}
