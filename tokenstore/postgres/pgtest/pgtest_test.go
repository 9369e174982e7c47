package pgtest_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
)

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
