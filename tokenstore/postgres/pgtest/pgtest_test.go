package pgtest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
)

// A test process that dies takes its server with it: the test binary runs itself,
// starts one, and is killed.
func TestAServerEndsWithItsProcess(t *testing.T) {
	if os.Getenv("SALLYPORT_PGTEST_CHILD") != "" {
		s := pgtest.Start(t)
		fmt.Printf("at %s.\n", s.Addr())
		select {}
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), "SALLYPORT_PGTEST_CHILD=1")
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	addr := ""
	for lines := bufio.NewScanner(out); addr == "" && lines.Scan(); {
		if line, ok := strings.CutPrefix(lines.Text(), "at "); ok {
			addr = strings.TrimSuffix(line, ".")
		}
	}
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.NoError(t, child.Process.Kill())
	require.Error(t, child.Wait())
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	}, 30*time.Second, 20*time.Millisecond)
}

func TestALentDatabaseIsAsItWasFilled(t *testing.T) {
	p := pgtest.Start(t).Pristine(func(url string) error {
		return execute(url, "CREATE TABLE a (n int PRIMARY KEY); CREATE TABLE b (n int REFERENCES a); INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)")
	})
	urls := map[string]int{}
	for range 3 {
		t.Run("test", func(t *testing.T) {
			url := p.Lend(t)
			urls[url]++
			require.NoError(t, execute(url, "DO $$ BEGIN ASSERT (SELECT count(*) FROM a JOIN b USING (n)) = 1; END $$; DELETE FROM b; DELETE FROM a; INSERT INTO a VALUES (7)"))
		})
	}
	require.Len(t, urls, 1, "it is the same one")
}

func execute(url, statements string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statements)
	return errors.Join(err, conn.Close(ctx))
}

func TestAServerStartsDiesAndComesBackWithItsData(t *testing.T) {
	s := pgtest.Start(t)
	url := s.Database()
	s.Exec("test1", "CREATE TABLE x AS SELECT 42 AS n")
	count := func(url string) (n int, err error) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return 0, err
		}
		defer func() { _ = conn.Close(ctx) }()
		err = conn.QueryRow(ctx, "SELECT n FROM x").Scan(&n)
		return n, err
	}
	s.Kill()
	_, err := count(url)
	require.Error(t, err)
	s.Run()
	n, err := count(url)
	require.NoError(t, err)
	require.Equal(t, 42, n)

	standby := s.Standby()
	require.Eventually(t, func() bool {
		n, err := count(standby.URL("test1"))
		return err == nil && n == 42
	}, 30*time.Second, 20*time.Millisecond)
	s.Stop("fast")
	standby.Promote()
	standby.Exec("test1", "INSERT INTO x VALUES (43)")
}
