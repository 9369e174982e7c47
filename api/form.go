package api

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"unicode/utf8"
)

const formType = "application/x-www-form-urlencoded"

// admitForm checks a form, and puts it into the body as the JSON object of the same
// texts, so that all that comes after it is as for any other route.
//
// Parameters that are not known are dropped, and one that comes twice is refused: OAuth
// demands both (RFC 6749, section 3.1).
func admitForm(r *http.Request, data []byte) *Problem {
	if p := checkMediaType(r.Header, formType); p != nil {
		return p
	}
	form, p := readForm(data)
	if p != nil {
		return p
	}
	object, err := json.Marshal(form)
	if err != nil {
		return newProblem(codeInvalidRequest, formRule)
	}
	replaceBody(r, object)
	return nil
}

const formRule = "The request body is not one well-formed form in UTF-8."

// formParameters are the parameters that a form route knows.
var formParameters = []string{"token", "token_type_hint", "ip"}

// readForm reads a form that can be read in one way only.
func readForm(data []byte) (map[string]string, *Problem) {
	values, err := url.ParseQuery(string(data))
	if err != nil {
		return nil, newProblem(codeInvalidRequest, formRule) // the parser's words quote the form
	}
	form := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if len(values[name]) > 1 {
			return nil, fieldProblem(FieldProblem{Pointer: pointer("", plainName(name)), Detail: "must be given once"})
		}
		if value := values[name][0]; slices.Contains(formParameters, name) && value != "" { // empty is as if it were not there
			if !utf8.ValidString(value) {
				return nil, newProblem(codeInvalidRequest, formRule)
			}
			form[name] = value
		}
	}
	return form, nil
}
