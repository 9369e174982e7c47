package api

import (
	"strconv"
	"strings"
)

// etag is a record's version as HTTP writes it.
func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// parseIfMatch reads the version that an edit is based on. "*" is refused: it
// would be an edit based on nothing.
func parseIfMatch(header string) (int64, *Problem) {
	header = strings.TrimSpace(header)
	if header == "" || header == "*" {
		return 0, newProblem(codeIfMatchRequired, "Read the record and send its ETag as If-Match, so that nobody's change is lost.")
	}
	digits, open := strings.CutPrefix(header, `"`)
	digits, closed := strings.CutSuffix(digits, `"`)
	version, err := strconv.ParseInt(digits, 10, 64)
	// Only the very text of an ETag matches: no sign, no leading zero, no weak tag.
	if !open || !closed || err != nil || etag(version) != header {
		return 0, newProblem(codeVersionMismatch, `If-Match is no version of this record. It takes the ETag of a response, such as "3" with its quotes.`)
	}
	return version, nil
}
