package authority

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// maxFilter is the longest text that anything can be found by: the name of a scope.
const maxFilter = token.MaxScopeLength

// checkFilter refuses a text that nothing stored can match and that a database
// may not accept at all.
func checkFilter(field, text string) error {
	if utf8.RuneCountInString(text) > maxFilter || !plain(text) {
		return invalid(field, fmt.Sprintf("must be at most %d characters, without control or format characters", maxFilter))
	}
	return nil
}

// badCursor blames the caller for a cursor that the store never gave out.
func badCursor(err error) error {
	if errors.Is(err, tokenstore.ErrBadCursor) {
		return invalid("cursor", "is not one of this list's: leave it out to begin at the start")
	}
	return err
}
