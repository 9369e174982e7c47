package sqlite_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
)

var update = flag.Bool("update", false, "write the schema and the newest fixture in testdata anew")

// The schema lies in testdata, so that a change of it is seen in review.
func TestTheSchemaIsTheOneInTestdata(t *testing.T) {
	path, _ := closedStore(t)
	rows, err := rawPool(t, path).QueryContext(t.Context(), "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY tbl_name, type DESC, name")
	require.NoError(t, err)
	defer rows.Close()
	var dump strings.Builder
	for rows.Next() {
		var text string
		require.NoError(t, rows.Scan(&text))
		dump.WriteString(text + ";\n\n")
	}
	require.NoError(t, rows.Err())
	golden := filepath.Join("testdata", "schema.sql")
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(dump.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	if diff := cmp.Diff(string(want), dump.String()); diff != "" {
		t.Errorf("the schema differs from testdata (-want +got): go test ./tokenstore/sqlite -run Schema -update\n%s", diff)
	}
}

// fixtures are the files that releases made, each with its ring beside it. A
// file is never made anew once a release has gone out with it.
var fixtures = []string{"v1", "v2", "v3", "v4"}

func TestStoresThatEarlierReleasesMadeCanBeUsed(t *testing.T) {
	if *update {
		makeFixture(t, fixtures[len(fixtures)-1])
	}
	for _, name := range fixtures {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.db")
			content, err := os.ReadFile(filepath.Join("testdata", name+".db"))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, content, 0o600))
			ring := fixtureRing(t, name)
			s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Close()) })

			rec, err := s.Lookup(t.Context(), tokenstore.Lookup{2})
			require.NoError(t, err)
			want := token.Token{
				ID: "tok_x", Name: "x", AccountID: "acc_x", UserID: "usr_x", Environment: token.Production, State: token.Disabled,
				Grant:     token.Grant{Access: token.Custom, Scopes: []string{"x:read", "x:write"}},
				CreatedAt: testTime, LifetimeFrom: testTime, Version: 2,
				FreshOnly: name != "v1", // which could not say so yet
			}
			if diff := cmp.Diff(want, rec.Token, cmp.AllowUnexported(token.AllowList{})); diff != "" {
				t.Errorf("token differs (-want +got):\n%s", diff)
			}
			require.Equal(t, token.Previous, rec.Secret.Status)
			require.Equal(t, "member", rec.Role.Name)
			require.Equal(t, "default", rec.Policy.Name)
			require.Equal(t, token.RotationModes(), rec.Policy.RotationModes, "nobody had chosen others")
			require.Equal(t, ring.IDs()[0], rec.KeyID)

			require.NoError(t, s.Write(t.Context(), func(tx *tokenstore.Tx) error {
				tx.Audit(tokenstore.AuditEntry{Verb: "token.enable", Target: "tok_x"})
				tok, err := tx.Token("tok_x")
				if err != nil {
					return err
				}
				tok.State = token.Active
				return tx.UpdateToken(&tok)
			}))
			report, err := tokenstore.VerifyAudit(t.Context(), s, ring, nil)
			require.NoError(t, err)
			require.Empty(t, report.Problems)
			require.EqualValues(t, 4, report.Entries)
		})
	}
}

func fixtureRing(t *testing.T, name string) *tokenstore.Ring {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".ring"))
	require.NoError(t, err)
	defer f.Close()
	ring, err := tokenstore.ParseRing(f)
	require.NoError(t, err)
	return ring
}

func makeFixture(t *testing.T, name string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.db")
	ring := fixtureRing(t, name)
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{
		Ring: ring, Now: func() time.Time { return testTime }, Random: strings.NewReader("sallyport's first"),
	})
	require.NoError(t, err)
	require.NoError(t, s.Write(t.Context(), changeAll(ring)))
	require.NoError(t, s.Close())
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join("testdata", name+".db"), content, 0o644))
}
