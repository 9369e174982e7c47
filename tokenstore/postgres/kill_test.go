package postgres_test

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
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// child is another process that uses the store, and says line by line what it did.
type child struct {
	cmd   *exec.Cmd
	lines chan string
}

func startChild(t *testing.T, role, url, ringFile string, more ...string) *child {
	t.Helper()
	c := &child{cmd: exec.CommandContext(t.Context(), os.Args[0]), lines: make(chan string, 1<<16)}
	c.cmd.Env = append(append(os.Environ(), childVariable+"="+role, "STORE="+url, "RING="+ringFile), more...)
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	go func() {
		defer close(c.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			// A line that the kill cut off says nothing.
			if line, whole := strings.CutSuffix(lines.Text(), "."); whole {
				c.lines <- line
			}
		}
	}()
	return c
}

func (c *child) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, c.cmd.Process.Kill())
	require.Error(t, c.cmd.Wait())
}

// childStore opens what the child was told to.
func childStore() (*postgres.Store, *tokenstore.Ring) {
	f, err := os.Open(os.Getenv("RING"))
	check(err)
	ring, err := tokenstore.ParseRing(f)
	check(err)
	s, err := postgres.Open(context.Background(), os.Getenv("STORE"), postgres.Options{Ring: ring})
	check(err)
	return s, ring
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(1)
	}
}

func writeUntilKilled() {
	s, ring := childStore()
	for i := 0; ; i++ {
		tok := token.Token{
			ID: token.ID(fmt.Sprintf("tok_%s_%06d", os.Getenv("NAME"), i)), Name: "t", AccountID: "acc_x", Environment: token.Production,
			State: token.Active, Grant: token.Grant{Access: token.ReadOnly}, CreatedAt: testTime,
		}
		check(s.Write(context.Background(), func(tx *tokenstore.Tx) error {
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
		check(s.Write(context.Background(), func(tx *tokenstore.Tx) error {
			tx.Audit(tokenstore.AuditEntry{Verb: "token.revoke", Target: string(tok.ID)})
			tok.State = token.Revoked
			return tx.UpdateToken(&tok)
		}))
		fmt.Printf("%s %d.\n", tok.ID, tok.Version)
	}
}

// holdHead stops in the middle of a transaction.
func holdHead() {
	s, _ := childStore()
	_ = s.Write(context.Background(), func(*tokenstore.Tx) error {
		fmt.Println("holding.")
		select {}
	})
}

func saveRing(t *testing.T, ring *tokenstore.Ring) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "ring")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	require.NoError(t, err)
	_, err = ring.WriteTo(f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	return path
}

// S20: a node that is killed leaves nothing half done, and loses nothing that was
// acknowledged; the others go on.
func TestAKilledNodeLeavesNothingHalfDone(t *testing.T) {
	t.Parallel()
	url, ring := database(t), storetest.Ring(t)
	s := open(t, url, postgres.Options{Ring: ring})
	require.NoError(t, s.Write(t.Context(), func(tx *tokenstore.Tx) error {
		tx.Audit(storetest.Entry())
		return tx.InsertAccount(&token.Account{ID: "acc_x", Policy: "default"})
	}))
	ringFile, acked := saveRing(t, ring), map[token.ID]int64{}
	for round := range 8 {
		c := startChild(t, "write", url, ringFile, fmt.Sprintf("NAME=r%03d", round))
		take := func(line string) {
			id, version, _ := strings.Cut(line, " ")
			n, err := strconv.ParseInt(version, 10, 64)
			require.NoError(t, err)
			acked[token.ID(id)] = n
		}
		first, ok := <-c.lines
		require.True(t, ok, "the child wrote nothing")
		take(first)
		time.Sleep(time.Duration(rand.IntN(300_000)) * time.Microsecond) // any instant will do
		c.kill(t)
		for line := range c.lines {
			take(line)
		}
	}
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
	sound(t, s, ring)
	require.NoError(t, touch(s, anyOf(acked)))
	t.Logf("%d tokens acknowledged", len(acked))
	released(t, url, s)
}

func anyOf(ids map[token.ID]int64) token.ID {
	for id := range ids {
		return id
	}
	return ""
}

// released waits until the sessions of processes that were killed are gone, so
// that the database can be used again.
func released(t *testing.T, url string, s *postgres.Store) {
	t.Helper()
	require.NoError(t, s.Close())
	conn := psql(t, url)
	becomes(t, "all sessions end", conn, ofOthers, none)
	require.NoError(t, conn.Close(t.Context()))
}

// F17: a node that stands still in the middle of a write, as a suspended virtual
// machine does, has its lock taken away, and a write that waits for it succeeds.
func TestANodeThatStandsStillLosesItsLock(t *testing.T) {
	t.Parallel()
	url, ring := database(t), storetest.Ring(t)
	s := open(t, url, postgres.Options{Ring: ring})
	tok, _ := issue(t, s, ring)
	c := startChild(t, "hold", url, saveRing(t, ring))
	require.Equal(t, "holding", <-c.lines)
	require.NoError(t, c.cmd.Process.Signal(syscall.SIGSTOP))
	require.NoError(t, bounded(t, "the write", func() error { return touch(s, tok.ID) }))
	c.kill(t)
	sound(t, s, ring)
	released(t, url, s)
}
