package token

import (
	"cmp"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxPathLength bounds a `require` path, in bytes.
const maxPathLength = 2048

// CheckPath says what is wrong with the path of a `require` line, if anything
// is, and how to mend it.
//
// A path begins with "/" and is compared as text, letter case and a slash at the
// end included, with the decoded path of the request. `{name}` stands for one
// segment that is not empty; `*` for any text within its segment, or, as the
// last character, for any rest, slashes included: /v1/payments* covers
// /v1/payments and all that begins so.
func CheckPath(path string) error {
	_, err := parsePath(path)
	return err
}

// segmentKind is a segment's place in the order that Routes documents.
type segmentKind uint8

const (
	kindLiteral segmentKind = iota
	kindGlob                // text and `*`, one segment
	kindParam
	kindTextRest // text, and `*` for any rest
	kindStar     // a bare `*`, one segment
	kindRest     // a bare `*` for any rest
)

// segment is the part of a path between two slashes.
type segment struct {
	kind segmentKind
	// parts is the text before, between and after each `*`. The last one of a
	// segment that takes any rest is empty.
	parts []string
}

func parsePath(path string) ([]segment, error) {
	switch {
	case path == "" || path[0] != '/':
		return nil, errors.New("a path begins with /: write /* to cover every path")
	case len(path) > maxPathLength:
		return nil, errors.New("the path is longer than 2048 bytes: shorten it with *")
	case !utf8.ValidString(path):
		return nil, errors.New("the path is not valid UTF-8: write characters as they are, not encoded")
	case strings.ContainsFunc(path, unicode.IsControl):
		return nil, errors.New("the path has a control character, which no gate lets through: remove it")
	case strings.ContainsAny(path, `?#`):
		return nil, errors.New("a path has no query and no fragment: end it before ? or #")
	case strings.Contains(path, `\`):
		return nil, errors.New(`the path has a \, which no gate lets through: write /`)
	case hasEscape(path):
		return nil, errors.New("the path is compared with the decoded one: write the character in place of %…, or * for what stays encoded")
	case strings.Contains(path, "**"):
		return nil, errors.New("the path has ** in it: one * does, and takes any rest when it is the last character")
	}
	texts := strings.Split(path[1:], "/")
	segments := make([]segment, len(texts))
	for i, text := range texts {
		last := i == len(texts)-1
		switch {
		case text == "" && !last:
			return nil, errors.New("the path has // in it, which is refused unless a gate allows it: write one /, or * for what can be empty")
		case text == "." || text == "..":
			return nil, errors.New("the path has a segment . or .., which no gate lets through: write the path that it stands for")
		}
		if strings.ContainsAny(text, "{}") {
			if !isParam(text) {
				return nil, errors.New("{name} stands for a whole segment: put slashes around it, or use * for a part of a segment")
			}
			segments[i] = segment{kind: kindParam}
			continue
		}
		segments[i] = newSegment(strings.Split(text, "*"), last && strings.HasSuffix(text, "*"))
	}
	return segments, nil
}

// hasEscape finds percent-encoding; a lone % is a character like any other.
func hasEscape(path string) bool {
	for i := 0; i+2 < len(path); i++ {
		if path[i] == '%' && isHex(path[i+1]) && isHex(path[i+2]) {
			return true
		}
	}
	return false
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'F' || 'a' <= c && c <= 'f'
}

func isParam(text string) bool {
	return len(text) > 2 && text[0] == '{' && text[len(text)-1] == '}' && !strings.ContainsAny(text[1:len(text)-1], "{}*")
}

func newSegment(parts []string, rest bool) segment {
	s := segment{parts: parts}
	switch text := s.weight() > 0; {
	case len(parts) == 1:
		s.kind = kindLiteral
	case rest && text:
		s.kind = kindTextRest
	case rest:
		s.kind = kindRest
	case text:
		s.kind = kindGlob
	default:
		s.kind = kindStar
	}
	return s
}

// text is that of a literal segment.
func (s segment) text() string { return s.parts[0] }

// weight is how much text a segment demands.
func (s segment) weight() int {
	n := 0
	for _, part := range s.parts {
		n += len(part)
	}
	return n
}

func (s segment) same(other segment) bool {
	return s.kind == other.kind && strings.Join(s.parts, "*") == strings.Join(other.parts, "*")
}

// compare puts the more specific segment first. Segments that compare equal are
// alike but for their letters: all literals do, for they never match the same.
func (s segment) compare(other segment) int {
	if c := cmp.Compare(s.kind, other.kind); c != 0 || s.kind == kindLiteral {
		return c
	}
	if c := cmp.Compare(other.weight(), s.weight()); c != 0 {
		return c
	}
	if c := cmp.Compare(len(s.parts), len(other.parts)); c != 0 {
		return c
	}
	for i := range s.parts {
		if c := cmp.Compare(len(other.parts[i]), len(s.parts[i])); c != 0 {
			return c
		}
	}
	return 0
}

// matches says whether a segment with `*` takes a text. One that takes any rest
// is asked about the segment in which its last `*` stands.
func (s segment) matches(text string) bool {
	first, last := s.parts[0], s.parts[len(s.parts)-1]
	if !strings.HasPrefix(text, first) {
		return false
	}
	text = text[len(first):]
	if !strings.HasSuffix(text, last) {
		return false
	}
	text = text[:len(text)-len(last)]
	for _, part := range s.parts[1 : len(s.parts)-1] {
		at := strings.Index(text, part)
		if at < 0 {
			return false
		}
		text = text[at+len(part):]
	}
	return true
}

// reachOf gives the same text for paths that are equally specific and that both
// match some path: what a `*` leaves room for always fits beside other text.
func reachOf(segments []segment) string {
	var b strings.Builder
	for _, s := range segments {
		b.WriteByte('/')
		switch s.kind {
		case kindParam:
			b.WriteByte('{')
		case kindLiteral:
			b.WriteString(s.text())
		default:
			b.WriteString(s.parts[0] + "*" + s.parts[len(s.parts)-1])
		}
	}
	return b.String()
}
