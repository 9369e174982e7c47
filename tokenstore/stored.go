package tokenstore

import (
	"encoding"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/sallyport/sallyport/token"
)

// How values stand in columns, the same in every database.

// storedTime is microseconds since 1970; 0 is no time.
func storedTime(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func loadTime(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

func storedFlag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// storedEnum is the value's one spelling. A value without one is not stored.
func storedEnum[T fmt.Stringer, P interface {
	*T
	encoding.TextUnmarshaler
}](v T) (string, error) {
	text := v.String()
	var back T
	if err := P(&back).UnmarshalText([]byte(text)); err != nil {
		return "", err
	}
	return text, nil
}

// storedWords holds scopes and allow-list entries, none of which has a space.
func storedWords(words []string) string { return strings.Join(words, " ") }

func loadWords(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, " ")
}

func storedTexts(texts []string) (string, error) {
	if len(texts) == 0 {
		return "[]", nil
	}
	out, err := json.Marshal(texts)
	return string(out), err
}

func loadTexts(text string) ([]string, error) {
	if text == "[]" {
		return nil, nil
	}
	var texts []string
	err := json.Unmarshal([]byte(text), &texts)
	return texts, err
}

func storedID(id token.ID) *string {
	if id == "" {
		return nil
	}
	s := string(id)
	return &s
}

func loadID(id *string) token.ID {
	if id == nil {
		return ""
	}
	return token.ID(*id)
}

func loadAllowList(text string) (token.AllowList, error) {
	if text == "" {
		return token.AllowList{}, nil
	}
	// Whether a list that allows everyone may be is judged when it is written.
	return token.ParseAllowList(loadWords(text), true)
}

func loadGrant(access, scopes string) (token.Grant, error) {
	g := token.Grant{Scopes: loadWords(scopes)}
	err := g.Access.UnmarshalText([]byte(access))
	return g, err
}

// foldName is a name as searches compare it: letters in any case are equal.
func foldName(name string) string {
	return norm.NFC.String(cases.Fold().String(norm.NFC.String(name)))
}
