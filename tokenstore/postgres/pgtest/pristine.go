package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Pristine is a database that was filled once, to be had any number of times.
type Pristine struct {
	server   *Server
	database string

	mu   sync.Mutex
	free []string // databases that were used and are pristine again
}

// Pristine fills a database for others to be copied from. fill must leave no
// connection open.
func (s *Server) Pristine(fill func(url string) error) *Pristine {
	s.t.Helper()
	of := s.Database()
	if err := fill(of); err != nil {
		s.t.Fatalf("pgtest: %v", err)
	}
	p := &Pristine{server: s, database: nameOf(of)}
	s.Exec(p.database, keepRows)
	return p
}

// keepRows sets the rows of all tables aside, with a function that restores them.
// It removes rows one by one, which for few is faster than to truncate.
const keepRows = `
CREATE SCHEMA pristine;
DO $$ DECLARE t text; BEGIN
	FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
		EXECUTE format('CREATE TABLE pristine.%I AS TABLE public.%I', t, t);
	END LOOP;
END $$;
CREATE FUNCTION pristine.restore() RETURNS void LANGUAGE plpgsql AS $$ DECLARE t text; BEGIN
	SET LOCAL lock_timeout = '5s';
	SET LOCAL session_replication_role = replica; -- foreign keys hold in the end
	FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'pristine' LOOP
		EXECUTE format('DELETE FROM public.%I', t);
		EXECUTE format('INSERT INTO public.%I OVERRIDING SYSTEM VALUE TABLE pristine.%I', t, t);
	END LOOP;
END $$`

// Copy makes a database that the test may do to as it likes.
func (p *Pristine) Copy(t testing.TB) (url string) {
	t.Helper()
	name := fmt.Sprintf("copy%d", p.server.databases.Add(1))
	if err := p.server.exec("postgres", "CREATE DATABASE "+name+" TEMPLATE "+p.database); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return p.server.URL(name)
}

// Lend is as Copy, but in a few milliseconds: the database is one that an earlier
// test has finished with. Tests must not change the schema, and close their
// connections before they end.
func (p *Pristine) Lend(t testing.TB) (url string) {
	t.Helper()
	p.mu.Lock()
	if n := len(p.free) - 1; n >= 0 {
		url = p.free[n]
		p.free = p.free[:n]
	}
	p.mu.Unlock()
	if url == "" {
		url = p.Copy(t)
	}
	t.Cleanup(func() {
		if err := p.server.exec(nameOf(url), "SELECT pristine.restore()"); err != nil {
			t.Logf("pgtest: a database is not used again: %v", err)
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.free = append(p.free, url)
	})
	return url
}

func nameOf(connection string) string {
	u, err := url.Parse(connection)
	if err != nil {
		return ""
	}
	return strings.TrimPrefix(u.Path, "/")
}

// exec runs statements without arguments in a database.
func (s *Server) exec(database, statements string) error {
	ctx, cancel := context.WithTimeout(context.Background(), ceiling)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL(database))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statements)
	return errors.Join(err, conn.Close(ctx))
}
