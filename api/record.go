package api

import (
	"strings"

	"github.com/sallyport/sallyport/token"
)

// maxID is more than any ID has, in bytes.
const maxID = 64

// recordID accepts what an ID can look like. Anything else names nothing, and is
// not worth asking the store about (D3).
func recordID(text string) (token.ID, *Problem) {
	if text == "" || len(text) > maxID || strings.ContainsFunc(text, notInID) {
		return "", newProblem(codeNotFound, "")
	}
	return token.ID(text), nil
}

func notInID(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_'
}

// recordVersion reads which record is edited and which version of it was read.
func recordVersion(id, header string) (token.ID, int64, *Problem) {
	known, p := recordID(id)
	if p != nil {
		return "", 0, p
	}
	version, p := parseIfMatch(header)
	return known, version, p
}
