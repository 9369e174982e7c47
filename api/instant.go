package api

import (
	"regexp"
	"time"
)

// The years that a time can lie in. Before them lies the zero time, which means
// "never" or "not set" further in; after them, what JSON and databases can not write.
const (
	firstYear = 1970
	lastYear  = 9998
)

// The standard library also takes hours of one digit, commas before fractions
// and offsets of a day and more.
var rfc3339 = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`)

// parseTime reads a time in strict RFC 3339 form, and says what is wrong otherwise.
func parseTime(text string) (t time.Time, wrong string) {
	if !rfc3339.MatchString(text) || t.UnmarshalText([]byte(text)) != nil {
		return time.Time{}, "must be a time in RFC 3339 form, such as 2030-01-31T00:00:00Z"
	}
	if t = t.UTC(); t.Year() < firstYear || t.Year() > lastYear {
		return time.Time{}, "must lie between the years 1970 and 9998"
	}
	return t, ""
}

// timeParameter reads a time from the query; absent is the zero time.
func timeParameter(name, text string) (time.Time, *Problem) {
	if text == "" {
		return time.Time{}, nil
	}
	t, wrong := parseTime(text)
	if wrong != "" {
		return time.Time{}, fieldProblem(FieldProblem{Parameter: name, Detail: wrong})
	}
	return t, nil
}
