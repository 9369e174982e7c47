package token

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// MaxNameLength is the longest name of a record, in code points.
const MaxNameLength = 100

// CheckName judges the name of a token, an account or a user: what people read in
// a list, a mail or a log line must not hide anything, reorder what stands around
// it, or look empty. The error is a *FieldError.
//
// Zero-width joiners are refused with all other format characters, and with them
// the emoji that are made of several. That a name is in Unicode's normal form C
// is for the caller to check.
func CheckName(name string) error {
	if problem := nameProblem(name); problem != "" {
		return &FieldError{Field: "name", Problem: problem}
	}
	return nil
}

func nameProblem(name string) string {
	// Bounded by bytes first, so that a huge text is not walked through.
	if len(name) > MaxNameLength*utf8.UTFMax {
		return problemNameLength
	}
	if !utf8.ValidString(name) {
		return "must be valid UTF-8"
	}
	if n := utf8.RuneCountInString(name); n < 1 || n > MaxNameLength {
		return problemNameLength
	}
	first, _ := utf8.DecodeRuneInString(name)
	last, _ := utf8.DecodeLastRuneInString(name)
	if unicode.IsSpace(first) || unicode.IsSpace(last) {
		return "must not begin or end with a space"
	}
	if unicode.Is(unicode.M, first) {
		return "must not begin with a combining mark"
	}
	for _, r := range name {
		if hides(r) {
			return "must not have control, direction, joining, invisible or unassigned characters"
		}
	}
	return ""
}

var problemNameLength = fmt.Sprintf("must have 1 to %d characters", MaxNameLength)

// hides says whether a code point shows nothing of itself or moves others: all
// but letters, marks, numbers, punctuation, symbols and spaces, and of these what
// Unicode lets a reader ignore. So control and format characters (direction, zero
// width), private use and line separators are out, and code points that are not
// assigned yet, for which there is no normal form to check.
func hides(r rune) bool {
	switch {
	case r == '\uFE0E' || r == '\uFE0F':
		// They choose between text and picture for the symbol before them. The
		// other selectors can carry a hidden text of any length.
		return false
	case unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector):
		return true
	default:
		return !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Zs)
	}
}
