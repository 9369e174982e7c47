package tokenstore_test

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore"
)

var errAsked = errors.New("the database was asked")

// noDatabase fails every statement.
type noDatabase struct{}

func (noDatabase) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, errAsked
}
func (noDatabase) Query(context.Context, string, ...any) (pgx.Rows, error) { return nil, errAsked }
func (noDatabase) QueryRow(context.Context, string, ...any) pgx.Row        { return noRow{} }

type noRow struct{}

func (noRow) Scan(...any) error { return errAsked }

func listsWith(cursor string) map[string]error {
	tx := func() *tokenstore.Tx {
		return tokenstore.NewTx(context.Background(), tokenstore.TxOptions{DB: noDatabase{}, Explain: func(err error) error { return err }})
	}
	page := tokenstore.Page{Cursor: cursor}
	errs := map[string]error{}
	_, errs["tokens"] = tx().Tokens(tokenstore.TokenQuery{Cursor: cursor})
	_, _, errs["accounts"] = tx().Accounts(page)
	_, _, errs["users"] = tx().Users("acc_1", page)
	_, _, errs["tokens under key"] = tx().TokensUnderKey("k", page)
	_, _, errs["audit"] = tx().AuditEntries(tokenstore.AuditQuery{Page: page})
	return errs
}

func TestACursorThatIsNotOursIsRefusedBeforeTheDatabaseIsAsked(t *testing.T) {
	encode := base64.RawURLEncoding.EncodeToString
	for name, cursor := range map[string]string{
		"no base64":        "not a cursor!",
		"padded":           base64.URLEncoding.EncodeToString([]byte(`{"v":1,"l":""}`)),
		"no JSON":          encode([]byte("tok_1")),
		"another version":  encode([]byte(`{"v":2,"l":"AAAAAAAAAAA=","i":"tok_1"}`)),
		"another list":     encode([]byte(`{"v":1,"l":"AAAAAAAAAAA=","i":"tok_1"}`)),
		"more fields":      encode([]byte(`{"v":1,"l":"AAAAAAAAAAA=","i":"tok_1","x":1}`)),
		"more behind":      encode([]byte(`{"v":1,"l":"AAAAAAAAAAA=","i":"tok_1"}{}`)),
		"long beyond use":  strings.Repeat("A", 1<<20),
		"another's cursor": "eyJpZCI6MTIzfQ",
	} {
		for list, err := range listsWith(cursor) {
			require.ErrorIs(t, err, tokenstore.ErrBadCursor, "%s: %s", list, name)
			require.NotErrorIs(t, err, errAsked, "%s: %s", list, name)
		}
	}
	for list, err := range listsWith("") {
		require.ErrorIs(t, err, errAsked, list)
	}
}

func FuzzCursor(f *testing.F) {
	f.Add("")
	f.Add("eyJ2IjoxLCJsIjoiQUFBQUFBQUFBQUE9IiwiaSI6InRva18xIn0")
	f.Add(base64.RawURLEncoding.EncodeToString([]byte(`{"v":1,"l":"AAAAAAAAAAA=","s":9,"t":-1}`)))
	f.Fuzz(func(t *testing.T, cursor string) {
		for list, err := range listsWith(cursor) {
			if !errors.Is(err, tokenstore.ErrBadCursor) && !errors.Is(err, errAsked) {
				t.Errorf("%s: %v", list, err)
			}
		}
	})
}

func FuzzPrefixEnd(f *testing.F) {
	for _, p := range []string{"a", "", "\U0010FFFF", "a\U0010FFFF", "\uD7FF", "ß", "z\x00"} {
		f.Add(p, p+"a")
		f.Add(p, "b")
	}
	f.Fuzz(func(t *testing.T, prefix, text string) {
		if !utf8.ValidString(prefix) || !utf8.ValidString(text) {
			return
		}
		end := tokenstore.PrefixEnd(prefix)
		between := text >= prefix && (end == "" || text < end)
		if between != strings.HasPrefix(text, prefix) {
			t.Errorf("%q is between %q and %q: %v", text, prefix, end, between)
		}
	})
}

func TestNamesFoldToWhatPeopleTakeForTheSame(t *testing.T) {
	for _, same := range [][]string{
		{"Nightly Export", "NIGHTLY EXPORT", "nightly export"},
		{"Straße", "STRASSE", "strasse"},
		{"Türwächter", "TÜRWÄCHTER", "Tu\u0308rwa\u0308chter"},
		{"ΣΊΣΥΦΟΣ", "σίσυφος", "σίσυφοσ"},
	} {
		for _, name := range same[1:] {
			require.Equal(t, tokenstore.FoldName(same[0]), tokenstore.FoldName(name))
		}
	}
}
