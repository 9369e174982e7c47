package pgtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Bouncer starts PgBouncer in front of the server, which hands out a connection
// for each transaction, and gives its address. Without PgBouncer on the machine
// it fails the test and says what to install.
func (s *Server) Bouncer(t testing.TB, settings ...string) (addr string) {
	t.Helper()
	binary := "/usr/sbin/pgbouncer"
	if _, err := os.Stat(binary); err != nil {
		if binary, err = exec.LookPath("pgbouncer"); err != nil {
			t.Fatal("pgtest: PgBouncer is not installed: install it (Debian: apt-get install pgbouncer)")
		}
	}
	dir, port := folder(t), freePort(t)
	config := filepath.Join(dir, "pgbouncer.ini")
	lines := append([]string{
		"[databases]",
		"* = host=127.0.0.1 user=postgres port=" + strconv.Itoa(s.port),
		"[pgbouncer]",
		"listen_addr = 127.0.0.1",
		"listen_port = " + strconv.Itoa(port),
		"unix_socket_dir =",
		"auth_type = any",
		"auth_file =",
		"pool_mode = transaction",
		"max_client_conn = 200",
		"default_pool_size = 20",
		"logfile = " + filepath.Join(dir, "log"),
	}, settings...)
	if err := os.WriteFile(config, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	cmd := exec.Command(binary, "-q", config)
	if err := asPostgres(cmd); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	addr = fmt.Sprintf("127.0.0.1:%d", port)
	for end := time.Now().Add(ceiling); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			return addr
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Fatalf("pgtest: PgBouncer does not start: %v\n%s", err, log)
		}
	}
}
