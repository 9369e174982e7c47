// Package pgtest starts real Postgres servers for tests: on loopback only, each
// in a folder of its own, ended with the test. As root they run as the user
// postgres, since Postgres refuses root.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// ceiling is how long a server may take to start or stop.
const ceiling = 60 * time.Second

// Server is one running Postgres cluster.
type Server struct {
	t    testing.TB
	bin  string
	dir  string // data directory
	port int
	// databases numbers the databases made so far.
	databases atomic.Int64
}

// Start makes a cluster and starts it. settings are lines of postgresql.conf.
// Without Postgres on the machine it fails the test and says what to install.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	s := &Server{t: t, bin: binaries(t), dir: filepath.Join(folder(t), "data"), port: freePort(t)}
	s.must("initdb", "--pgdata", s.dir, "--username", "postgres", "--auth", "trust", "--no-sync", "--encoding", "UTF8", "--no-locale")
	s.certify()
	s.write("pg_hba.conf", accessRules, os.O_TRUNC)
	s.configure(settings...)
	s.guard()
	s.Run()
	t.Cleanup(func() { s.Stop("immediate") })
	return s
}

// guard ends the server when the test process dies without its cleanups, as it
// does when a test panics or takes too long.
func (s *Server) guard() {
	s.t.Helper()
	guard := exec.Command("/bin/sh", "-c", `cat; kill -QUIT $(head -n 1 "$1/data/postmaster.pid") && sleep 1; rm -rf "$1"`, "guard", filepath.Dir(s.dir))
	alive, err := guard.StdinPipe() // which ends with this process
	if err == nil {
		guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // no signal meant for us is for it
		err = guard.Start()
	}
	if err != nil {
		s.t.Fatalf("pgtest: %v", err)
	}
	s.t.Cleanup(func() {
		_ = guard.Process.Kill()
		_ = guard.Wait()
		_ = alive.Close()
	})
}

// Standby makes a streaming standby of the server and starts it.
func (s *Server) Standby(settings ...string) *Server {
	s.t.Helper()
	standby := &Server{t: s.t, bin: s.bin, dir: filepath.Join(folder(s.t), "data"), port: freePort(s.t)}
	s.must("pg_basebackup", "--pgdata", standby.dir, "--write-recovery-conf", "--checkpoint", "fast", "--no-sync",
		"--dbname", s.URL("postgres"))
	standby.configure(settings...)
	standby.guard()
	standby.Run()
	s.t.Cleanup(func() { standby.Stop("immediate") })
	return standby
}

// Promote makes a standby take writes.
func (s *Server) Promote() {
	s.t.Helper()
	s.must("pg_ctl", "promote", "--pgdata", s.dir, "--wait")
}

// Run starts the server and waits until it takes connections.
func (s *Server) Run() {
	s.t.Helper()
	s.must("pg_ctl", "start", "--pgdata", s.dir, "--wait", "--timeout", strconv.Itoa(int(ceiling.Seconds())), "--log", filepath.Join(filepath.Dir(s.dir), "log"))
}

// Stop ends the server in pg_ctl's mode "smart", "fast" or "immediate"; stopping
// one that is stopped does nothing.
func (s *Server) Stop(mode string) {
	if _, err := os.Stat(filepath.Join(s.dir, "postmaster.pid")); err != nil {
		return
	}
	s.Thaw()
	if _, err := s.command("pg_ctl", "stop", "--pgdata", s.dir, "--mode", mode, "--wait"); err != nil {
		s.t.Log(err)
	}
}

// Kill ends the postmaster and all its children without a word.
func (s *Server) Kill() {
	s.t.Helper()
	for _, pid := range s.processes() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	for end := time.Now().Add(ceiling); len(s.processes()) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatal("pgtest: the server does not die")
		}
	}
	_ = os.Remove(filepath.Join(s.dir, "postmaster.pid"))
}

// Freeze stops all processes of the server where they stand; Thaw lets them go on.
func (s *Server) Freeze() { s.signal(syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (s *Server) Thaw() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	for _, pid := range s.processes() {
		_ = syscall.Kill(pid, sig)
	}
}

// Addr is the server's address on loopback.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// URL is a connection string for a database.
func (s *Server) URL(database string) string {
	return URL(s.Addr(), database)
}

// URL is a connection string for a database behind an address, a proxy's for example.
func URL(addr, database string) string {
	return fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable", addr, database)
}

// Database makes an empty database and returns its connection string.
func (s *Server) Database() string {
	s.t.Helper()
	name := fmt.Sprintf("test%d", s.databases.Add(1))
	s.Exec("postgres", "CREATE DATABASE "+name)
	return s.URL(name)
}

// Exec runs statements in a database.
func (s *Server) Exec(database, statement string) {
	s.t.Helper()
	if err := s.exec(database, statement); err != nil {
		s.t.Fatalf("pgtest: %s: %v", statement, err)
	}
}

// accessRules let everyone in without a password, but for the role guarded.
const accessRules = `
host all         guarded all scram-sha-256
host all         all     all trust
host replication all     all trust
`

func (s *Server) configure(settings ...string) {
	s.t.Helper()
	lines := append([]string{
		"",
		"port = " + strconv.Itoa(s.port),
		"listen_addresses = '127.0.0.1'",
		"unix_socket_directories = ''",
		"fsync = off", // what survives a loss of power is Postgres's own business
		"full_page_writes = off",
		"ssl = on",
		"max_connections = 60",
		"shared_buffers = 64MB",
		"wal_level = replica",
	}, settings...)
	s.write("postgresql.conf", strings.Join(lines, "\n")+"\n", os.O_APPEND)
}

// write puts text into one of the files that initdb made, so that the server may
// read it.
func (s *Server) write(name, text string, how int) {
	s.t.Helper()
	f, err := os.OpenFile(filepath.Join(s.dir, name), how|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		s.t.Fatalf("pgtest: %v", err)
	}
}

// processes lists the postmaster and its children.
func (s *Server) processes() []int {
	text, err := os.ReadFile(filepath.Join(s.dir, "postmaster.pid"))
	if err != nil {
		return nil
	}
	first, _, _ := strings.Cut(string(text), "\n")
	postmaster, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || syscall.Kill(postmaster, 0) != nil {
		return nil
	}
	out, _ := exec.Command("pgrep", "-P", first).Output()
	pids := []int{postmaster}
	for line := range strings.FieldsSeq(string(out)) {
		if pid, err := strconv.Atoi(line); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (s *Server) must(name string, args ...string) {
	s.t.Helper()
	if out, err := s.command(name, args...); err != nil {
		s.t.Fatalf("pgtest: %v\n%s", err, out)
	}
}

// command runs one of Postgres's programs, as the user postgres when we are root.
func (s *Server) command(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), ceiling)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, name), args...)
	if err := asPostgres(cmd); err != nil {
		return "", err
	}
	cmd.Dir = filepath.Dir(s.dir)
	// A server that pg_ctl leaves behind keeps its output; a pipe would never end.
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", name, err, out.String())
	}
	return out.String(), err
}

// binaries finds Postgres's programs: Debian keeps them out of the PATH.
func binaries(t testing.TB) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1])
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		t.Fatal("pgtest: Postgres is not installed: install it (Debian: apt-get install postgresql)")
	}
	return filepath.Dir(path)
}

// folder makes a folder that the user postgres can use, with parents that it can
// walk through, which t.TempDir's are not.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sallyport-pg-*")
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := giveToPostgres(dir); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return dir
}

// giveToPostgres lets the user that servers run as own a file.
func giveToPostgres(path string) error {
	uid, gid, err := postgresUser()
	if err != nil || uid < 0 {
		return err
	}
	return os.Chown(path, uid, gid)
}

// asPostgres lets a program run as that user.
func asPostgres(cmd *exec.Cmd) error {
	uid, gid, err := postgresUser()
	if err == nil && uid >= 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	return err
}

// postgresUser is the user that servers run as when we are root; uid is negative
// when we are somebody else, who runs them as himself.
func postgresUser() (uid, gid int, err error) {
	if os.Getuid() != 0 {
		return -1, -1, nil
	}
	who, err := user.Lookup("postgres")
	if err != nil {
		return 0, 0, errors.New("there is no user postgres to run the server as: install Postgres (Debian: apt-get install postgresql)")
	}
	uid, errUID := strconv.Atoi(who.Uid)
	gid, errGID := strconv.Atoi(who.Gid)
	return uid, gid, errors.Join(errUID, errGID)
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}
