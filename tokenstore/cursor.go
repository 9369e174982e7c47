package tokenstore

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/sallyport/sallyport/token"
)

// ErrBadCursor: the cursor was not made by this store's lists, or belongs to
// another list or to other filters.
var ErrBadCursor = errors.New("tokenstore: not a cursor of this list")

// How many records a page has: unless asked, and at most.
const (
	DefaultLimit = 50
	MaxLimit     = 200
)

// Page asks for one page of a list, newest first. A Limit below 1 means
// DefaultLimit, one above MaxLimit means MaxLimit.
type Page struct {
	Cursor string
	Limit  int
}

const (
	cursorVersion   = 1
	maxCursorLength = 1024
)

// cursor is where a page ended. It holds positions only, no filter values: what
// it may be used with is checked by a hash.
type cursor struct {
	Version int    `json:"v"`
	List    []byte `json:"l"` // hash of the list's name and filters
	ID      string `json:"i,omitempty"`
	Seq     int64  `json:"s,omitempty"`
	At      int64  `json:"t,omitempty"`
}

func (c *cursor) encode() string {
	// A struct of texts and numbers always encodes.
	text, _ := json.Marshal(c)
	return base64.RawURLEncoding.EncodeToString(text)
}

func parseCursor(text string) (*cursor, error) {
	if len(text) > maxCursorLength {
		return nil, ErrBadCursor
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, ErrBadCursor
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	var c cursor
	if err := decoder.Decode(&c); err != nil {
		return nil, ErrBadCursor
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) || c.Version != cursorVersion {
		return nil, ErrBadCursor
	}
	return &c, nil
}

// list is one page's worth of a list: which list, from where, how many.
type list struct {
	hash  []byte
	from  *cursor // nil on the first page
	limit int
}

// openList checks that the page's cursor belongs to this list under these filters.
func openList(name string, filters any, p Page) (list, error) {
	text, err := json.Marshal([]any{name, filters})
	if err != nil {
		return list{}, fmt.Errorf("list %s: %w", name, err)
	}
	sum := sha256.Sum256(text)
	l := list{hash: sum[:8], limit: p.Limit}
	switch {
	case l.limit < 1:
		l.limit = DefaultLimit
	case l.limit > MaxLimit:
		l.limit = MaxLimit
	}
	if p.Cursor == "" {
		return l, nil
	}
	if l.from, err = parseCursor(p.Cursor); err != nil {
		return list{}, err
	}
	if !bytes.Equal(l.from.List, l.hash) {
		return list{}, ErrBadCursor
	}
	return l, nil
}

// aboveAllIDs is greater than every ID.
const aboveAllIDs = "\U0010FFFF"

// before is the ID below which the page begins.
func (l list) before() string {
	if l.from == nil {
		return aboveAllIDs
	}
	return l.from.ID
}

// fetch is one more than the page holds, to see whether there is another.
func (l list) fetch() int64 { return int64(l.limit) + 1 }

// next is the cursor of a page that begins below the position.
func (l list) next(at cursor) string {
	at.Version, at.List = cursorVersion, l.hash
	return at.encode()
}

// cutPage takes off what was fetched too many, and gives the next page's cursor.
func cutPage[T any](l list, rows []T, id func(*T) token.ID) (page []T, next string) {
	if len(rows) <= l.limit {
		return rows, ""
	}
	rows = rows[:l.limit]
	return rows, l.next(cursor{ID: string(id(&rows[l.limit-1]))})
}
