package postgres_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// epochs are the audit entries with which epochs began.
func epochs(t *testing.T, s tokenstore.Store) (list []tokenstore.AuditEntry) {
	t.Helper()
	storetest.MustRead(t, s, func(tx *tokenstore.Tx) error {
		all, err := tx.AuditRange(0, 10_000)
		for _, e := range all {
			if e.Verb == "store.epoch" {
				list = append(list, e)
			}
		}
		return err
	})
	return list
}

func position(t *testing.T, s tokenstore.Store) tokenstore.Position {
	t.Helper()
	c, err := s.Changes(t.Context(), tokenstore.Position{Epoch: "none"})
	require.NoError(t, err)
	return c.At
}

func revoke(t *testing.T, s tokenstore.Store, id token.ID) {
	t.Helper()
	storetest.MustWrite(t, s, func(tx *tokenstore.Tx) error {
		tok, err := tx.Token(id)
		if err != nil {
			return err
		}
		tok.State = token.Revoked
		return tx.UpdateToken(&tok)
	})
}

// F49, D21: a backup is restored under running nodes, and the store has gone on
// past where it was before any node looks. They notice; one new epoch begins, and
// the log says so.
func TestABackupRestoredUnderRunningNodesIsNoticed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		mode   string
		writes int
	}{
		"it went on":                         {"", 20},
		"it went on, in the simple protocol": {simple, 20},
		"it stands where the backup was":     {"", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := pgtest.Shared(t)
			database(t)
			url, ring := migrated.Copy(t), storetest.Ring(t)
			nodes := make([]*postgres.Store, 3)
			for i := range nodes {
				nodes[i] = open(t, url+tc.mode, postgres.Options{Ring: ring})
			}
			tok, l := issue(t, nodes[0], ring)
			backup := server.Dump(t, url)
			for range 3 {
				require.NoError(t, touch(nodes[0], tok.ID))
			}
			revoke(t, nodes[0], tok.ID)
			known := position(t, nodes[0])
			for _, node := range nodes {
				require.Equal(t, known, position(t, node))
				require.NoError(t, second(node.Lookup(t.Context(), l)))
			}

			server.Restore(t, backup, url)
			for range tc.writes { // by one that does not look at the feed
				require.NoError(t, touch(nodes[2], tok.ID))
			}
			rec, err := nodes[0].Lookup(t.Context(), l)
			require.NoError(t, err)
			require.Equal(t, token.Active, rec.Token.State, "it came back to life")

			var wg sync.WaitGroup
			answers := make([]tokenstore.Changes, len(nodes))
			for i, node := range nodes {
				wg.Go(func() {
					var err error
					if answers[i], err = node.Changes(context.Background(), known); err != nil {
						t.Errorf("node %d: %v", i, err)
					}
				})
			}
			wg.Wait()
			for i, node := range nodes {
				require.False(t, answers[i].Complete, i)
				require.NotEqual(t, known.Epoch, answers[i].At.Epoch)
				require.Equal(t, answers[0].At.Epoch, answers[i].At.Epoch)
				c, err := node.Changes(t.Context(), answers[i].At)
				require.NoError(t, err)
				require.True(t, c.Complete, "from there it goes on")
			}
			list := epochs(t, nodes[0])
			require.Len(t, list, 2)
			require.Equal(t, tokenstore.SystemActor, list[1].Actor.Kind)
			require.Equal(t, answers[0].At.Epoch, list[1].Target)
			require.Contains(t, string(list[1].After), "restored")
			report, err := tokenstore.VerifyAudit(t.Context(), nodes[1], ring, nil)
			require.NoError(t, err)
			require.Empty(t, report.Problems)
		})
	}
}

// The same at the very number where the nodes were, and in tables that are the
// same as before.
func TestAnotherHistoryWithTheSameNumbersIsNoticed(t *testing.T) {
	t.Parallel()
	url, ring := database(t), storetest.Ring(t)
	node, other := open(t, url, postgres.Options{Ring: ring}), open(t, url, postgres.Options{Ring: ring})
	tok, _ := issue(t, node, ring)
	run(t, url, `CREATE SCHEMA backup; CREATE TABLE backup.head AS TABLE head; CREATE TABLE backup.audit AS TABLE audit;
		CREATE TABLE backup.changes AS TABLE changes; CREATE TABLE backup.tokens AS TABLE tokens`)
	require.NoError(t, touch(node, tok.ID))
	known := position(t, node)
	run(t, url, `BEGIN; SET LOCAL session_replication_role = replica;
		DELETE FROM head; INSERT INTO head TABLE backup.head; DELETE FROM audit; INSERT INTO audit TABLE backup.audit;
		DELETE FROM changes; INSERT INTO changes TABLE backup.changes; DELETE FROM tokens; INSERT INTO tokens TABLE backup.tokens;
		DROP SCHEMA backup CASCADE; COMMIT`)
	require.NoError(t, touch(other, tok.ID))
	c, err := node.Changes(t.Context(), known)
	require.NoError(t, err)
	require.False(t, c.Complete)
	require.Equal(t, known.Seq, c.At.Seq)
	require.NotEqual(t, known.Epoch, c.At.Epoch)
	sound(t, node, ring)
}

// F49: no node was running when the backup was restored, so that none remembers
// anything. Whoever opens the store first begins the epoch.
func TestARestoredDatabaseBeginsANewEpoch(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	database(t)
	url, ring := migrated.Copy(t), storetest.Ring(t)
	visit := func(url string) (at tokenstore.Position, began []tokenstore.AuditEntry) {
		s, err := postgres.Open(t.Context(), url, postgres.Options{Ring: ring})
		require.NoError(t, err)
		at, began = position(t, s), epochs(t, s)
		sound(t, s, ring)
		require.NoError(t, s.Close())
		return at, began
	}
	first, began := visit(url)
	require.Len(t, began, 1)
	var fields struct {
		Reason string
		Server struct{ System, Timeline, Database, Table string }
	}
	require.NoError(t, json.Unmarshal(began[0].After, &fields))
	for _, known := range []string{fields.Reason, fields.Server.System, fields.Server.Timeline, fields.Server.Database, fields.Server.Table} {
		require.NotEmpty(t, known)
	}
	again, began := visit(url)
	require.Equal(t, first, again)
	require.Len(t, began, 1, "it is the same database")

	backup := server.Dump(t, url)
	server.Restore(t, backup, url)
	inPlace, began := visit(url)
	require.NotEqual(t, first.Epoch, inPlace.Epoch)
	require.Len(t, began, 2)

	elsewhere := server.Database()
	server.Restore(t, backup, elsewhere)
	moved, began := visit(elsewhere)
	require.NotEqual(t, first.Epoch, moved.Epoch)
	require.NotEqual(t, inPlace.Epoch, moved.Epoch)
	require.Len(t, began, 2)
	stays, began := visit(elsewhere)
	require.Equal(t, moved, stays)
	require.Len(t, began, 2)
}

// A role without any rights but those on rows sees the same database as others
// do: no epoch begins because another role looks.
func TestEveryRoleSeesTheSameDatabase(t *testing.T) {
	t.Parallel()
	database(t)
	url, ring := migrated.Copy(t), storetest.Ring(t)
	for _, as := range []string{"postgres", rowsOnly(t, url), "postgres"} {
		s := open(t, strings.Replace(url, "postgres@", as+"@", 1), postgres.Options{Ring: ring})
		require.Len(t, epochs(t, s), 1, as)
	}
}
