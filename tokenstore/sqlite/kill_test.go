package sqlite_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
)

// writerChild is a process that writes to the store and says what was acknowledged.
type writerChild struct {
	cmd   *exec.Cmd
	acked chan ack
}

type ack struct {
	id      token.ID
	version int64
}

// startWriter runs a child that makes tokens named after it.
func startWriter(t *testing.T, path, ringFile, name string, count int) *writerChild {
	t.Helper()
	c := &writerChild{cmd: exec.CommandContext(t.Context(), os.Args[0]), acked: make(chan ack, 1<<16)}
	c.cmd.Env = append(os.Environ(), childVariable+"=write",
		"STORE="+path, "RING="+ringFile, "NAME="+name, "COUNT="+strconv.Itoa(count))
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	go func() {
		defer close(c.acked)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			// A line that the kill cut off acknowledges nothing.
			id, version, ok := strings.Cut(lines.Text(), " ")
			version, whole := strings.CutSuffix(version, ".")
			n, err := strconv.ParseInt(version, 10, 64)
			if ok && whole && err == nil {
				c.acked <- ack{token.ID(id), n}
			}
		}
	}()
	return c
}

// writeUntilKilled is the child: it inserts and updates tokens one by one.
func writeUntilKilled() {
	ctx := context.Background()
	check := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
	}
	f, err := os.Open(os.Getenv("RING"))
	check(err)
	ring, err := tokenstore.ParseRing(f)
	check(err)
	s, err := sqlite.Open(ctx, os.Getenv("STORE"), sqlite.Options{Ring: ring, BusyTimeout: 20 * time.Second})
	check(err)
	count, err := strconv.Atoi(os.Getenv("COUNT"))
	check(err)
	for i := range count {
		tok := token.Token{
			ID: token.ID(fmt.Sprintf("tok_%s_%06d", os.Getenv("NAME"), i)), Name: "t", AccountID: "acc_x", Environment: token.Production,
			State: token.Active, Grant: token.Grant{Access: token.ReadOnly}, CreatedAt: testTime,
		}
		check(s.Write(ctx, func(tx *tokenstore.Tx) error {
			tx.Audit(tokenstore.AuditEntry{Verb: "token.create", Target: string(tok.ID)})
			if err := tx.InsertToken(&tok); err != nil {
				return err
			}
			digest := token.Digest{}
			copy(digest[:], tok.ID)
			l, _ := ring.Lookup(ring.IDs()[0], digest)
			return tx.InsertSecret(&token.SecretRecord{ID: "sec_" + tok.ID, TokenID: tok.ID, Last4: "abcd", Status: token.Current}, l, ring.IDs()[0])
		}))
		fmt.Printf("%s %d.\n", tok.ID, tok.Version)
		check(s.Write(ctx, func(tx *tokenstore.Tx) error {
			tx.Audit(tokenstore.AuditEntry{Verb: "token.revoke", Target: string(tok.ID)})
			tok.State = token.Revoked
			return tx.UpdateToken(&tok)
		}))
		fmt.Printf("%s %d.\n", tok.ID, tok.Version)
	}
	check(s.Close())
}

// verify demands that everything acknowledged is there, and that the audit log
// and the feed tell of exactly what is there.
func verify(t *testing.T, s *sqlite.Store, ring *tokenstore.Ring, acked map[token.ID]int64) {
	t.Helper()
	require.NoError(t, s.Read(t.Context(), func(tx *tokenstore.Tx) error {
		for id, version := range acked {
			stored, err := tx.Token(id)
			require.NoError(t, err, "%s was acknowledged with version %d", id, version)
			require.GreaterOrEqual(t, stored.Version, version, id)
			require.Equal(t, stored.Version > 1, stored.State == token.Revoked, id)
			secrets, err := tx.Secrets(id)
			require.NoError(t, err)
			require.Len(t, secrets, 1)
		}
		return nil
	}))
	report, err := tokenstore.VerifyAudit(t.Context(), s, ring, nil)
	require.NoError(t, err)
	require.Empty(t, report.Problems)

	known := map[token.ID]int64{}
	at, last := tokenstore.Position{}, int64(0)
	for {
		c, err := s.Changes(t.Context(), at)
		require.NoError(t, err)
		require.True(t, c.Complete)
		if c.At == at {
			break
		}
		for _, change := range c.List {
			require.LessOrEqual(t, change.Seq, last+1, "no gap in the feed")
			last = change.Seq
			if change.Kind == tokenstore.TokenKind {
				known[token.ID(change.ID)] = change.Version
			}
		}
		at = c.At
	}
	require.Equal(t, report.Entries, at.Seq+1, "one entry for each step, and two for the first write")
	require.NoError(t, s.Read(t.Context(), func(tx *tokenstore.Tx) error {
		for id, version := range known {
			stored, err := tx.Token(id)
			require.NoError(t, err)
			require.Equal(t, version, stored.Version, "the feed's last word on %s", id)
		}
		return nil
	}))
	for id := range acked {
		require.Contains(t, known, id)
	}
}

// crashSite is a store with an account, and its ring in a file.
func crashSite(t *testing.T) (path, ringFile string, ring *tokenstore.Ring) {
	t.Helper()
	path, ring = closedStore(t)
	ringFile = filepath.Join(filepath.Dir(path), "ring")
	f, err := os.OpenFile(ringFile, os.O_WRONLY|os.O_CREATE, 0o600)
	require.NoError(t, err)
	_, err = ring.WriteTo(f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	return path, ringFile, ring
}

func TestAKillLosesNothingThatWasAcknowledged(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 20
	}
	path, ringFile, ring := crashSite(t)
	acked := map[token.ID]int64{}
	for round := range rounds {
		c := startWriter(t, path, ringFile, fmt.Sprintf("r%03d", round), 1<<20)
		if round%3 != 0 { // else while it opens the store, perhaps
			first, ok := <-c.acked
			require.True(t, ok, "the child wrote nothing")
			acked[first.id] = first.version
		}
		time.Sleep(time.Duration(rand.IntN(80_000)) * time.Microsecond) // any instant will do
		require.NoError(t, c.cmd.Process.Kill())
		for a := range c.acked {
			acked[a.id] = a.version
		}
		require.Error(t, c.cmd.Wait())
		if round%5 != 0 && round != rounds-1 {
			continue // the next child finds the file as the kill left it
		}
		s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring})
		require.NoError(t, err)
		verify(t, s, ring, acked)
		require.NoError(t, s.Close())
	}
	t.Logf("%d tokens acknowledged in %d rounds", len(acked), rounds)
}

func TestTwoProcessesWriteSideBySide(t *testing.T) {
	path, ringFile, ring := crashSite(t)
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring, BusyTimeout: 20 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	const count = 50
	children := []*writerChild{
		startWriter(t, path, ringFile, "a", count),
		startWriter(t, path, ringFile, "b", count),
	}
	acked := map[token.ID]int64{}
	var wg sync.WaitGroup
	wg.Go(func() { // a reader follows the feed meanwhile
		at := tokenstore.Position{}
		for at.Seq < 4*count {
			c, err := s.Changes(t.Context(), at)
			if err != nil || !c.Complete {
				t.Errorf("feed: %v, complete %v", err, c.Complete)
				return
			}
			at = c.At
		}
	})
	for i := range count {
		tok := token.Token{
			ID: token.ID(fmt.Sprintf("tok_p_%06d", i)), AccountID: "acc_x", Environment: token.Production, State: token.Active,
			Grant: token.Grant{Access: token.ReadOnly},
		}
		require.NoError(t, s.Write(t.Context(), func(tx *tokenstore.Tx) error {
			tx.Audit(tokenstore.AuditEntry{Verb: "token.create", Target: string(tok.ID)})
			return tx.InsertToken(&tok)
		}))
	}
	for _, c := range children {
		for a := range c.acked {
			acked[a.id] = a.version
		}
		require.NoError(t, c.cmd.Wait())
	}
	wg.Wait()
	require.Len(t, acked, 2*count)
	verify(t, s, ring, acked)
}

func TestManyProcessesMakeANewStoreTogether(t *testing.T) {
	path, ring := filepath.Join(t.TempDir(), "new.db"), newRing(t)
	var wg sync.WaitGroup
	stores := make([]*sqlite.Store, 8)
	for i := range stores {
		wg.Go(func() {
			var err error
			if stores[i], err = sqlite.Open(t.Context(), path, sqlite.Options{Ring: ring}); err != nil {
				t.Errorf("open: %v", err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	positions := map[tokenstore.Position]bool{}
	for _, s := range stores {
		c, err := s.Changes(t.Context(), tokenstore.Position{})
		require.NoError(t, err)
		positions[c.At] = true
		require.NoError(t, s.Close())
	}
	require.Len(t, positions, 1, "one epoch, one first master key")
}
