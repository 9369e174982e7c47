package api

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// scrub turns an error that huma made into a Problem. huma's own hold the value
// that was wrong, and sometimes a parser's message that quotes it; of those,
// only the place and a known sort of mistake go on.
func scrub(e huma.StatusError) *Problem {
	model, ok := e.(*huma.ErrorModel)
	if !ok {
		return newProblem(codeOfStatus(e.GetStatus()), "")
	}
	if code := codeOfStatus(model.Status); code != codeInvalidField {
		return newProblem(code, "")
	}
	var fields []FieldProblem
	for _, d := range model.Errors[:min(len(model.Errors), maxFieldProblems)] {
		fields = append(fields, scrubDetail(d))
	}
	if len(fields) == 0 {
		return newProblem(codeInvalidRequest, "")
	}
	return fieldProblem(fields...)
}

func codeOfStatus(status int) string {
	switch status {
	case http.StatusUnprocessableEntity:
		return codeInvalidField
	case http.StatusRequestEntityTooLarge:
		return codeBodyTooLarge
	case http.StatusUnsupportedMediaType:
		return codeUnsupportedMediaType
	default:
		if status >= 500 {
			return codeInternalError
		}
		return codeInvalidRequest
	}
}

// The sorts of mistakes that huma finds, by the beginning of its message, and
// what we say instead. A %s takes what the message says about the schema. What
// is not here is reported without a reason: it may quote a value.
var mistakes = []struct {
	message *regexp.Regexp
	says    string
}{
	{regexp.MustCompile(`^expected string$`), "must be a string"},
	{regexp.MustCompile(`^(?:expected|invalid) boolean$`), "must be true or false"},
	{regexp.MustCompile(`^(?:expected|invalid) integer$`), "must be a whole number"},
	{regexp.MustCompile(`^expected array$`), "must be a list"},
	{regexp.MustCompile(`^expected object$`), "must be an object"},
	{regexp.MustCompile(`^expected string to be RFC 3339 date-time$`), "must be a time in RFC 3339 form, such as 2030-01-31T00:00:00Z"},
	{regexp.MustCompile(`^expected value to be one of "([a-z_, ]*)"$`), "must be one of %s"},
	{regexp.MustCompile(`^expected number >= ([0-9]+)$`), "must be at least %s"},
	{regexp.MustCompile(`^expected number <= ([0-9.e+]+)$`), "must be at most %s"},
	{regexp.MustCompile(`^expected length <= ([0-9]+)$`), "must have at most %s characters"},
	{regexp.MustCompile(`^expected array length <= ([0-9]+)$`), "must have at most %s entries"},
	{regexp.MustCompile(`^expected string to match pattern `), "does not have the form that the OpenAPI document describes"},
	{regexp.MustCompile(`^unknown query parameter$`), "is not a parameter of this route"},
	{regexp.MustCompile(`^unexpected property$`), unknownField},
	{regexp.MustCompile(`^required .* parameter is missing$`), "is required"},
}

const unknownField = "is not a field of this request"

var missing = regexp.MustCompile(`^expected required property ([a-z0-9_]+) to be present$`)

func scrubDetail(d *huma.ErrorDetail) FieldProblem {
	if d == nil {
		return FieldProblem{Detail: "is not valid"}
	}
	f := fieldAt(d.Location)
	if m := missing.FindStringSubmatch(d.Message); m != nil {
		f.Pointer = pointer(f.Pointer, m[1])
		f.Detail = "is required"
		return f
	}
	f.Detail = "is not valid"
	for _, known := range mistakes {
		if m := known.message.FindStringSubmatch(d.Message); m != nil {
			f.Detail = known.says
			if len(m) > 1 {
				f.Detail = fmt.Sprintf(known.says, inFull(m[1]))
			}
			break
		}
	}
	return f
}

// inFull writes a number of a schema out: huma says 3.1536e+08.
func inFull(text string) string {
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		return strconv.FormatFloat(n, 'f', -1, 64)
	}
	return text
}

var index = regexp.MustCompile(`\[([0-9]+)\]`)

// fieldAt reads huma's location: "body.scopes[3]", "query.limit".
func fieldAt(location string) FieldProblem {
	where, rest, _ := strings.Cut(location, ".")
	switch where {
	case "query":
		return FieldProblem{Parameter: plainName(rest)}
	case "header":
		return FieldProblem{Header: plainName(rest)}
	case "body":
		p := ""
		if rest != "" {
			for member := range strings.SplitSeq(index.ReplaceAllString(rest, ".$1"), ".") {
				p = pointer(p, plainName(member))
			}
		}
		return FieldProblem{Pointer: p}
	default:
		return FieldProblem{}
	}
}

var plain = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,39}$|^[0-9]{1,6}$`)

// plainName gives a field's or a parameter's name back, so that a caller sees
// which of theirs is not known. A name that could be a secret put in the wrong
// place is not repeated: no secret of ours is as short as a name may be.
func plainName(name string) string {
	if plain.MatchString(name) {
		return name
	}
	return "(name not repeated)"
}
