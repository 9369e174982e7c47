package test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/mccutchen/go-httpbin/v2/httpbin"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// httpbinUpstream is an API that knows nothing of us.
func httpbinUpstream(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(httpbin.New(httpbin.WithMaxBodySize(1<<30), httpbin.WithMaxDuration(time.Hour)))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

const httpbinCaddyfile = `{
	admin {ADMIN}
	persist_config off
	default_bind 127.0.0.1
	sallyport {
		store sqlite {DIR}/sallyport.db
		scopes {
			anything:write
		}
	}
}
http://{ADDR} {
	sallyport {
		require anything:write POST PUT PATCH DELETE /anything/*
	}
	reverse_proxy {UPSTREAM}
}
`

// curl runs the real curl and returns the body and the status.
func curl(t *testing.T, args ...string) (body, status string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), ceiling)
	defer cancel()
	out, err := exec.CommandContext(ctx, "curl", append([]string{"-sS", "-w", "\n%{http_code}"}, args...)...).Output()
	require.NoError(t, err)
	at := strings.LastIndexByte(string(out), '\n')
	return string(out[:at]), string(out[at+1:])
}

func TestCurlInFrontOfAnAPIThatKnowsNothingOfUs(t *testing.T) {
	g := newGateway(t, httpbinCaddyfile, httpbinUpstream(t))
	account := g.account()
	reader := g.create("--account", account, "--access", "read_only")
	writer := g.create("--account", account, "--access", "read_write", "--ip", "127.0.0.1")
	custom := g.create("--account", account, "--access", "custom", "--scope", "anything:write", "--ip", "127.0.0.1")
	elsewhere := g.create("--account", account, "--access", "read_write", "--ip", "192.0.2.0/24")

	t.Run("no credential is 401, and the challenge names no error (RFC 6750 section 3.1)", func(t *testing.T) {
		body, code := curl(t, "-D", "-", g.url("/get"))
		require.Equal(t, "401", code)
		require.Contains(t, strings.ToLower(body), "www-authenticate: bearer realm=")
		require.NotContains(t, body, "error=")
		require.Contains(t, body, `"missing_token"`)
	})
	t.Run("a good token gets the upstream's answer, which names the token and never holds the secret", func(t *testing.T) {
		body, code := curl(t, "-H", "Authorization: Bearer "+reader.Secret, "-H", "Sallyport-Token-Id: forged",
			"-H", "Connection: Sallyport-Token-Id", g.url("/headers"))
		require.Equal(t, "200", code)
		var seen struct{ Headers map[string][]string }
		require.NoError(t, json.Unmarshal([]byte(body), &seen))
		require.Equal(t, []string{reader.id()}, seen.Headers["Sallyport-Token-Id"])
		require.Equal(t, []string{account}, seen.Headers["Sallyport-Account-Id"])
		require.Equal(t, []string{"read_only"}, seen.Headers["Sallyport-Access"])
		require.Equal(t, []string{"production"}, seen.Headers["Sallyport-Environment"])
		require.NotContains(t, body, reader.Secret)
		require.NotContains(t, seen.Headers, "Authorization")
	})
	t.Run("read only may not write", func(t *testing.T) {
		body, code := curl(t, "-X", "POST", "-H", "Authorization: Bearer "+reader.Secret, g.url("/post"))
		require.Equal(t, "403", code)
		require.Contains(t, body, "read_only_token")
	})
	t.Run("read and write may", func(t *testing.T) {
		_, code := curl(t, "-X", "POST", "-d", "x=1", "-H", "Authorization: Bearer "+writer.Secret, g.url("/post"))
		require.Equal(t, "200", code)
	})
	t.Run("custom may do what it lists", func(t *testing.T) {
		_, code := curl(t, "-X", "POST", "-H", "Authorization: Bearer "+custom.Secret, g.url("/anything/x"))
		require.Equal(t, "200", code)
		body, code := curl(t, "-H", "Authorization: Bearer "+custom.Secret, g.url("/get"))
		require.Equal(t, "403", code)
		require.Contains(t, body, "insufficient_scope")
	})
	t.Run("another address may not", func(t *testing.T) {
		body, code := curl(t, "-H", "Authorization: Bearer "+elsewhere.Secret, g.url("/get"))
		require.Equal(t, "403", code)
		require.Contains(t, body, "ip_not_allowed")
	})
	t.Run("an unknown secret and a malformed one are 401", func(t *testing.T) {
		gone := g.create("--account", account, "--access", "read_only")
		body, code := curl(t, "-H", "Authorization: Bearer "+gone.Secret[:len(gone.Secret)-1], g.url("/get"))
		require.Equal(t, "401", code)
		require.Contains(t, body, "malformed_token")
	})
	t.Run("a large body goes through whole", func(t *testing.T) {
		large := filepath.Join(t.TempDir(), "large")
		require.NoError(t, os.WriteFile(large, bytes.Repeat([]byte("x"), 4<<20), 0o600))
		_, code := curl(t, "-X", "POST", "-H", "Authorization: Bearer "+writer.Secret, "-H", "Content-Type: application/octet-stream",
			"--data-binary", "@"+large, "-o", "/dev/null", g.url("/post"))
		require.Equal(t, "200", code)
	})
}

func TestAWebSocketIsCutWhenItsTokenIsRevoked(t *testing.T) {
	g := newGateway(t, httpbinCaddyfile, httpbinUpstream(t))
	writer := g.create("--account", g.account(), "--access", "read_write", "--ip", "127.0.0.1")
	ctx, cancel := context.WithTimeout(context.Background(), ceiling)
	defer cancel()

	conn, _, err := websocket.Dial(ctx, "ws://"+g.addr+"/websocket/echo", &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + writer.Secret}},
	})
	require.NoError(t, err)
	defer func() { _ = conn.CloseNow() }()
	require.NoError(t, conn.Write(ctx, websocket.MessageText, []byte("hello")))
	_, echo, err := conn.Read(ctx)
	require.NoError(t, err)
	require.Equal(t, "hello", string(echo))

	g.command("token", "revoke", writer.id(), "--confirm")
	_, _, err = conn.Read(ctx)
	require.Error(t, err)
	require.NoError(t, ctx.Err(), "the connection was cut, not given up on")
}

func TestServerSentEventsEndWhenTheTokenIsDisabled(t *testing.T) {
	g := newGateway(t, httpbinCaddyfile, httpbinUpstream(t))
	reader := g.create("--account", g.account(), "--access", "read_only")
	ctx, cancel := context.WithTimeout(context.Background(), ceiling)
	defer cancel()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url("/sse?count=90&duration=10m"), nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+reader.Secret)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	events := bufio.NewScanner(resp.Body)
	require.True(t, events.Scan(), "the first event comes at once, not when the stream ends")

	g.command("token", "disable", reader.id(), "--confirm")
	for events.Scan() {
	}
	require.NoError(t, ctx.Err(), "the stream was cut long before its own end")
}

const grpcCaddyfile = `{
	admin {ADMIN}
	persist_config off
	default_bind 127.0.0.1
	servers {
		protocols h1 h2c
	}
	sallyport {
		store sqlite {DIR}/sallyport.db
	}
}
http://{ADDR} {
	sallyport
	reverse_proxy h2c://{UPSTREAM}
}
`

func TestAGRPCClientThroughH2C(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)

	g := newGateway(t, grpcCaddyfile, l.Addr().String())
	account := g.account()
	writer := g.create("--account", account, "--access", "read_write", "--ip", "127.0.0.1")
	reader := g.create("--account", account, "--access", "read_only")

	conn, err := grpc.NewClient("passthrough:///"+g.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	client := healthpb.NewHealthClient(conn)
	ctx, cancel := context.WithTimeout(context.Background(), ceiling)
	defer cancel()
	with := func(secret string) context.Context {
		return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+secret)
	}

	_, err = client.Check(ctx, &healthpb.HealthCheckRequest{})
	require.Equal(t, codes.Unauthenticated, status.Code(err), "no credential: %v", err)
	_, err = client.Check(with(reader.Secret), &healthpb.HealthCheckRequest{})
	require.Equal(t, codes.PermissionDenied, status.Code(err), "a call needs write unless something says otherwise: %v", err)
	answer, err := client.Check(with(writer.Secret), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, answer.GetStatus())

	stream, err := client.Watch(with(writer.Secret), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.NoError(t, err)
	g.command("token", "revoke", writer.id(), "--confirm")
	_, err = stream.Recv()
	require.Error(t, err, "the stream ends with its token")
	require.NoError(t, ctx.Err())
	_, err = client.Check(with(writer.Secret), &healthpb.HealthCheckRequest{})
	require.Equal(t, codes.Unauthenticated, status.Code(err))
}

func TestAChangeHoldsOnTheNextRequest(t *testing.T) {
	g := newGateway(t, plainCaddyfile, httpbinUpstream(t))
	account := g.account()
	const path = "/v1/payments"

	t.Run("revoked", func(t *testing.T) {
		token := g.create("--account", account, "--access", "read_only")
		g.want(404, "", "GET", path, token.Secret) // httpbin has no such page: the request went through
		g.command("token", "revoke", token.id(), "--confirm")
		g.want(401, "revoked_token", "GET", path, token.Secret)
	})
	t.Run("disabled, and enabled again", func(t *testing.T) {
		token := g.create("--account", account, "--access", "read_only")
		g.want(404, "", "GET", path, token.Secret)
		g.command("token", "disable", token.id(), "--confirm")
		g.want(401, "disabled_token", "GET", path, token.Secret)
		g.command("token", "enable", token.id(), "--confirm")
		g.want(404, "", "GET", path, token.Secret)
	})
	t.Run("narrowed to other addresses", func(t *testing.T) {
		token := g.create("--account", account, "--access", "read_only")
		g.want(404, "", "GET", path, token.Secret)
		g.command("token", "edit", token.id(), "--ip", "192.0.2.1")
		g.want(403, "ip_not_allowed", "GET", path, token.Secret)
	})
	t.Run("expired", func(t *testing.T) {
		token := g.create("--account", account, "--access", "read_only", "--duration", "2s")
		eventually(t, "the token expires", func() bool {
			status, code := g.do("GET", path, token.Secret)
			return status == 401 && code == "expired_token"
		})
	})
	t.Run("its account disabled", func(t *testing.T) {
		other := g.account()
		token := g.create("--account", other, "--access", "read_only")
		g.want(404, "", "GET", path, token.Secret)
		g.command("account", "disable", other)
		g.want(403, "account_disabled", "GET", path, token.Secret)
	})
	t.Run("its user's role lowered (O10)", func(t *testing.T) {
		user := g.command("user", "create", "--account", account, "--name", "Ann", "--role", "admin", "--quiet")
		token := g.create("--account", account, "--user", user, "--access", "read_write", "--ip", "127.0.0.1")
		g.want(404, "", "POST", path, token.Secret)
		g.command("user", "edit", user, "--role", "auditor")
		g.want(403, "insufficient_scope", "POST", path, token.Secret)
		g.want(404, "", "GET", path, token.Secret)
	})
	t.Run("rotated", func(t *testing.T) {
		token := g.create("--account", account, "--access", "read_only")
		next := g.issue("token", "rotate", token.id(), "--mode", "timed", "--grace", "1h", "--confirm")
		require.Equal(t, token.id(), next.id(), "S6: the same token")
		g.want(404, "", "GET", path, token.Secret)
		g.want(404, "", "GET", path, next.Secret)
	})
	t.Run("all of it still after a restart", func(t *testing.T) {
		token := g.create("--account", account, "--access", "read_only")
		gone := g.create("--account", account, "--access", "read_only")
		g.command("token", "delete", gone.id(), "--confirm")
		g.stop()
		g.start()
		g.want(404, "", "GET", path, token.Secret)
		g.want(401, "revoked_token", "GET", path, gone.Secret)
	})
}

func TestARevocationHoldsThroughReloadsUnderLoad(t *testing.T) {
	g := newGateway(t, plainCaddyfile, httpbinUpstream(t))
	account := g.account()
	kept := g.create("--account", account, "--access", "read_only")
	gone := g.create("--account", account, "--access", "read_only")
	g.want(404, "", "GET", "/v1/payments", gone.Secret)

	stop := make(chan struct{})
	failed := make(chan string, 8)
	revoked := make(chan struct{})
	for range 4 {
		go func() {
			for {
				select {
				case <-stop:
					failed <- ""
					return
				default:
				}
				status, code, err := g.send("GET", "/v1/payments", kept.Secret)
				if errors.Is(err, syscall.ECONNRESET) {
					// A connection that waited to be accepted by the listener that Caddy
					// was closing (docs/operations.md): no request was lost in it.
					continue
				}
				if err != nil || status != 404 {
					failed <- fmt.Sprintf("a good request failed: %d %s %v", status, code, err)
					return
				}
				select {
				case <-revoked:
					if status, code, err := g.send("GET", "/v1/payments", gone.Secret); err == nil && status != 401 && status != 429 {
						failed <- fmt.Sprintf("a revoked token passed: %d %s", status, code)
						return
					}
				default:
				}
			}
		}()
	}
	reloads := 10
	for i := range reloads {
		ctx, cancel := context.WithTimeout(context.Background(), ceiling)
		cmd := exec.CommandContext(ctx, binary, "reload", "--force", "--config", g.path("Caddyfile"), "--adapter", "caddyfile", "--address", g.admin)
		cmd.Env = g.env()
		out, err := cmd.CombinedOutput()
		cancel()
		require.NoError(t, err, string(out))
		if i == reloads/2 {
			g.command("token", "revoke", gone.id(), "--confirm")
			close(revoked)
		}
	}
	close(stop)
	for range 4 {
		select {
		case why := <-failed:
			require.Empty(t, why)
		case <-time.After(ceiling):
			t.Fatal("a client hangs")
		}
	}
}
