package storecopy_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/internal/catalogue"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
	"github.com/sallyport/sallyport/tokenstore/storecopy"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// Whoever adds a table by a migration finds this test: a table that is not on the
// list would be left behind.
func TestEveryTableOfTheSchemaIsCopied(t *testing.T) {
	tables := func(p place) (found []catalogue.Table) {
		s := p.lend(t, nil)
		raw(t, s, false, func(conn db.DBTX) (err error) {
			found, _, err = s.Catalogue(t.Context(), conn)
			return err
		})
		return found
	}
	embedded, server := tables(sqlitePlace(t)), tables(postgresPlace(t, ""))
	want := storecopy.Tables()
	slices.Sort(want)
	for kind, found := range map[string][]catalogue.Table{"sqlite": embedded, "postgres": server} {
		var got []string
		for _, table := range found {
			got = append(got, table.Name)
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: the list in tables.go and the migrations differ (-list +schema):\n%s", kind, diff)
		}
	}
	require.NoError(t, storecopy.Agree(embedded, server))
}

// D21: the copy has everything, says so in its log, and is nobody's old history.
func TestACopyHoldsAllThatTheSourceHolds(t *testing.T) {
	for _, way := range []struct {
		name       string
		parameters string
	}{{"extended protocol", ""}, {"simple protocol", "&default_query_exec_mode=simple_protocol"}} {
		t.Run(way.name, func(t *testing.T) {
			there := fill(t, sqlitePlace(t))
			want := content(t, there.lend(t, nil))
			for _, name := range storecopy.Tables() {
				require.NotEmpty(t, want[name], "%s has rows, so that the test proves something", name)
			}

			server := there
			server.place = postgresPlace(t, way.parameters)
			report := there.copyTo(t, server.place, there.options())
			served(t, there, server, want, report)

			want = content(t, server.lend(t, nil)) // it was written to since
			back := server
			back.place = sqlitePlace(t)
			report = server.copyTo(t, back.place, there.options())
			served(t, server, back, want, report)
		})
	}
}

// served opens a copy as a gateway does and compares it with what it should hold.
func served(t *testing.T, from, to filled, want map[string][]string, report storecopy.Report) {
	t.Helper()
	before, err := from.lend(t, nil).Changes(t.Context(), tokenstore.Position{})
	require.NoError(t, err)
	s := to.serve(t, to.ring)
	if diff := cmp.Diff(want, content(t, s)); diff != "" {
		t.Errorf("the copy differs (-want +got):\n%s", diff)
	}
	record, err := s.Lookup(t.Context(), to.lookup)
	require.NoError(t, err)
	require.Equal(t, to.tokens[len(to.tokens)-1], record.Token.ID)

	changes, err := s.Changes(t.Context(), before.At)
	require.NoError(t, err)
	require.False(t, changes.Complete, "who followed the source starts anew")
	require.NotEqual(t, before.At.Epoch, changes.At.Epoch)
	require.Equal(t, before.At.Seq, changes.At.Seq)

	audit, err := tokenstore.VerifyAudit(t.Context(), s, to.ring, nil)
	require.NoError(t, err)
	require.Empty(t, audit.Problems)
	raw(t, s, false, func(conn db.DBTX) error {
		var target, actor string
		err := conn.QueryRow(t.Context(), "SELECT target, actor_name FROM audit WHERE verb = $1 ORDER BY seq DESC LIMIT 1", storecopy.Verb).Scan(&target, &actor)
		require.Equal(t, []string{report.Epoch, "teller"}, []string{target, actor})
		return err
	})
	for _, table := range report.Tables {
		require.Positive(t, table.Rows, table.Table)
		require.Len(t, table.SHA256, 64)
	}
	// And it can be written to.
	storetest.MustWrite(t, s, func(tx *tokenstore.Tx) error {
		tok, err := tx.Token(to.tokens[0])
		if err != nil {
			return err
		}
		return tx.UpdateToken(&tok)
	})
}

var errFault = errors.New("the disk is gone")

// fault lets a number of commits pass and fails the one after them.
type fault struct {
	db.DBTX
	left *int
}

func (f fault) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if sql == "COMMIT" {
		if *f.left == 0 {
			return pgconn.CommandTag{}, errFault
		}
		*f.left--
	}
	return f.DBTX.Exec(ctx, sql, args...)
}

// F37: wherever it is interrupted it goes on, and nobody serves what is there meanwhile.
func TestACopyThatIsInterruptedAtEachBatchIsResumed(t *testing.T) {
	for name, target := range map[string]func(testing.TB) place{
		"to sqlite":   sqlitePlace,
		"to postgres": func(t testing.TB) place { return postgresPlace(t, "") },
	} {
		t.Run(name, func(t *testing.T) {
			there := fill(t, sqlitePlace(t))
			want := content(t, there.lend(t, nil))
			copied := there
			copied.place = target(t)
			from := there.lend(t, there.ring)
			left := 0
			to, err := copied.open(t, there.ring, true, func(d db.DBTX) db.DBTX { return fault{d, &left} })
			require.NoError(t, err)
			for interruptions := 0; ; interruptions++ {
				require.Less(t, interruptions, 500)
				// One commit to take the copy over, and one for a batch.
				left = min(2, interruptions)
				report, err := storecopy.Run(t.Context(), from, to, there.options())
				if err == nil {
					require.Greater(t, interruptions, 30)
					served(t, there, copied, want, report)
					return
				}
				require.ErrorIs(t, err, errFault)
				if interruptions%20 == 1 {
					_, err = copied.open(t, there.ring, false, nil)
					require.ErrorContains(t, err, "store copy", "a part is not served")
					_, err = copied.open(t, nil, false, nil)
					require.ErrorContains(t, err, "store copy", "nor read")
				}
			}
		})
	}
}

func TestACopyIsRefused(t *testing.T) {
	t.Run("while gateways use the source", func(t *testing.T) {
		there := fill(t, sqlitePlace(t))
		s := there.lend(t, there.ring)
		require.NoError(t, s.Write(t.Context(), func(tx *tokenstore.Tx) error {
			return tx.PutNode(tokenstore.Node{ID: "node_busy", SeenAt: time.Now()})
		}))
		_, err := there.try(t, sqlitePlace(t), there.options())
		require.ErrorIs(t, err, storecopy.ErrSource)
		require.ErrorContains(t, err, "node_busy")
		o := there.options()
		o.Now = func() time.Time { return time.Now().Add(time.Minute) }
		there.copyTo(t, sqlitePlace(t), o)
	})
	t.Run("into a store in use", func(t *testing.T) {
		there, other := fill(t, sqlitePlace(t)), fill(t, postgresPlace(t, ""))
		want := content(t, other.lend(t, nil))
		_, err := there.try(t, other.place, there.options())
		require.ErrorIs(t, err, storecopy.ErrTarget)
		require.ErrorContains(t, err, "in use")
		require.Equal(t, want, content(t, other.serve(t, other.ring)), "it is as it was")
	})
	t.Run("into a database with rows", func(t *testing.T) {
		there, to := fill(t, sqlitePlace(t)), sqlitePlace(t)
		exec(t, to.lend(t, there.ring), "INSERT INTO scopes (name, nature, managed_by) VALUES ('a', 'read', '')")
		_, err := there.try(t, to, there.options())
		require.ErrorIs(t, err, storecopy.ErrTarget)
		require.ErrorContains(t, err, "scopes has 1 rows")
	})
	t.Run("into itself", func(t *testing.T) {
		there := fill(t, sqlitePlace(t))
		_, err := there.try(t, there.place, there.options())
		require.ErrorIs(t, err, storecopy.ErrTarget)
	})
	t.Run("of a store that was never used", func(t *testing.T) {
		there := filled{place: sqlitePlace(t), ring: storetest.Ring(t)}
		_, err := there.try(t, sqlitePlace(t), there.options())
		require.ErrorIs(t, err, storecopy.ErrSource)
	})
	t.Run("with other master keys", func(t *testing.T) {
		there := fill(t, sqlitePlace(t))
		there.ring = storetest.Ring(t)
		_, err := there.try(t, sqlitePlace(t), there.options())
		require.ErrorIs(t, err, storecopy.ErrSource)
		require.ErrorContains(t, err, "primary")
	})
	t.Run("of a log that was edited", func(t *testing.T) {
		there := fill(t, sqlitePlace(t))
		exec(t, there.lend(t, there.ring), "UPDATE audit SET target = 'x' WHERE seq = 2")
		_, err := there.try(t, sqlitePlace(t), there.options())
		require.ErrorIs(t, err, storecopy.ErrSource)
		require.ErrorContains(t, err, "entry 2")
	})
	t.Run("of an unfinished copy", func(t *testing.T) {
		there, half := fill(t, sqlitePlace(t)), sqlitePlace(t)
		interrupt(t, there, half)
		middle := there
		middle.place = half
		_, err := middle.try(t, sqlitePlace(t), there.options())
		require.ErrorIs(t, err, storecopy.ErrSource)
		require.ErrorContains(t, err, "store copy")
	})
	t.Run("into an unfinished copy of another store", func(t *testing.T) {
		there, other, half := fill(t, sqlitePlace(t)), fill(t, sqlitePlace(t)), sqlitePlace(t)
		interrupt(t, there, half)
		_, err := other.try(t, half, other.options())
		require.ErrorIs(t, err, storecopy.ErrTarget)
		there.copyTo(t, half, there.options())
	})
}

// interrupt leaves a copy in the middle of the tokens.
func interrupt(t *testing.T, from filled, to place) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	o := from.options()
	o.Step = func(s storecopy.Step) {
		if s.Table == "tokens" && s.Done > 0 {
			cancel()
		}
	}
	target := to.lend(t, from.ring)
	_, err := storecopy.Run(ctx, from.lend(t, from.ring), target, o)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, target.Close())
}

func TestACopyStartsOverWhenTheSourceHasChangedSince(t *testing.T) {
	there, half := fill(t, sqlitePlace(t)), postgresPlace(t, "")
	interrupt(t, there, half)
	s := there.serve(t, there.ring)
	storetest.MustWrite(t, s, func(tx *tokenstore.Tx) error {
		tok, err := tx.Token(there.tokens[0]) // copied already
		if err != nil {
			return err
		}
		tok.Name = "another"
		return tx.UpdateToken(&tok)
	})
	want := content(t, s)
	require.NoError(t, s.Close())
	o := there.options()
	var notes []string
	o.Note = func(text string) { notes = append(notes, text) }
	there.copyTo(t, half, o)
	require.Equal(t, []string{"The source has changed since the copy was begun: starting over."}, notes)
	require.Equal(t, want, content(t, half.serve(t, there.ring)))
}

// A revocation that is made while the copy runs must not be lost.
func TestAChangeOfTheSourceDuringTheCopyIsNoticed(t *testing.T) {
	for _, checking := range []bool{false, true} {
		there, to := fill(t, sqlitePlace(t)), sqlitePlace(t)
		s := there.serve(t, there.ring)
		var once sync.Once
		o := there.options()
		o.Step = func(step storecopy.Step) {
			if step.Checking == checking && step.Table == "webhooks" {
				once.Do(func() {
					storetest.MustWrite(t, s, func(tx *tokenstore.Tx) error {
						tok, err := tx.Token(there.tokens[0])
						if err != nil {
							return err
						}
						return tx.UpdateToken(&tok)
					})
				})
			}
		}
		_, err := there.try(t, to, o)
		require.ErrorIs(t, err, storecopy.ErrSource)
		require.ErrorContains(t, err, "changed while")
		_, err = to.open(t, there.ring, false, nil)
		require.ErrorContains(t, err, "store copy", "it is not served")
		there.copyTo(t, to, there.options())
	}
}

// What steps no number is compared all the same.
func TestARowThatDiffersIsFound(t *testing.T) {
	for _, c := range []struct{ name, statement, want string }{
		{"changed", "UPDATE tokens SET access = 'read_only' WHERE id = $1", "tokens, row id=%: access"},
		{"blob", "UPDATE webhooks SET secret = (SELECT w.secret FROM webhooks w WHERE w.id = 'x2 ☃') WHERE id = 'x1 ☃' OR id = $1", "webhooks, row id=x1 ☃: secret"},
		{"gone", "DELETE FROM token_scopes WHERE token_id = $1 AND scope = 'x:read'", "lacks the row scope=x:read, token_id=%"},
		{"added", "INSERT INTO token_scopes (scope, token_id) VALUES ('z', $1)", "has the row scope=z, token_id=% in the copy only"},
		{"idempotency key", "UPDATE attempts SET created_at = 99 WHERE key = 'x1 ☃' OR key = $1", "attempts, row actor=x1 ☃, route=x1 ☃, key=…: created_at"},
		{"report", "UPDATE nodes SET seen_at = 99 WHERE id = 'x1 ☃' OR id = $1", "nodes, row id=x1 ☃: seen_at"},
		{"head", "UPDATE head SET audit_at = 5 WHERE one = 1 OR audit_key = $1", "the head's audit_at"},
		{"log", "UPDATE audit SET target = 'x' WHERE seq = 2 OR target = $1", "audit, row seq=2: target"},
	} {
		places := map[string]place{"sqlite": sqlitePlace(t)}
		if c.name == "blob" || c.name == "gone" {
			places["postgres"] = postgresPlace(t, "")
		}
		for name, to := range places {
			t.Run(c.name+" in "+name, func(t *testing.T) {
				there := fill(t, sqlitePlace(t))
				tamper := to.lend(t, there.ring)
				var once sync.Once
				o := there.options()
				o.Step = func(step storecopy.Step) {
					if step.Checking {
						once.Do(func() { exec(t, tamper, c.statement, string(there.tokens[3])) })
					}
				}
				// The comparison of the first table has begun when this happens, and
				// what it sees is from before: so a first attempt is ended there.
				ctx, cancel := context.WithCancel(t.Context())
				first := o
				first.Step = func(step storecopy.Step) {
					o.Step(step)
					if step.Checking {
						cancel()
					}
				}
				_, err := storecopy.Run(ctx, there.lend(t, there.ring), to.lend(t, there.ring), first)
				require.ErrorIs(t, err, context.Canceled)

				_, err = there.try(t, to, there.options())
				require.ErrorIs(t, err, storecopy.ErrDiffers)
				require.ErrorContains(t, err, strings.ReplaceAll(c.want, "%", string(there.tokens[3])))
				_, err = to.open(t, there.ring, false, nil)
				require.ErrorContains(t, err, "store copy", "it is not served")

				// The same command mends it.
				o = there.options()
				var notes []string
				o.Note = func(text string) { notes = append(notes, text) }
				there.copyTo(t, to, o)
				require.Equal(t, []string{"The copy before was found to differ from the source: starting over."}, notes)
				require.Equal(t, content(t, there.lend(t, nil)), content(t, to.serve(t, there.ring)))
			})
		}
	}
}

func TestOfTwoCopiesIntoOneDatabaseTheLaterGoesOn(t *testing.T) {
	there, to := fill(t, sqlitePlace(t)), sqlitePlace(t)
	var once sync.Once
	o := there.options()
	o.Step = func(s storecopy.Step) {
		if s.Table == "users" {
			once.Do(func() { there.copyTo(t, to, there.options()) })
		}
	}
	_, err := there.try(t, to, o)
	require.Error(t, err)
	require.Equal(t, content(t, there.lend(t, nil)), content(t, to.serve(t, there.ring)))
}
