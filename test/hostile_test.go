package test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// recorder is an upstream that looks at the bytes it was sent, below any HTTP
// library's idea of them.
type recorder struct {
	addr     string
	requests chan string // request head, with trailers if there were any
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	r := &recorder{addr: l.Addr().String(), requests: make(chan string, 1<<16)}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go r.serve(conn)
		}
	}()
	return r
}

func (r *recorder) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	var seen strings.Builder
	in := bufio.NewReader(io.TeeReader(conn, &seen))
	for {
		seen.Reset()
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		head := seen.String()
		for name := range req.Trailer {
			head += "\nTrailer-Seen-" + name + ": " + strings.Join(req.Trailer[name], ",")
		}
		r.requests <- head
		if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
			return
		}
	}
}

// drain returns what arrived since the last call.
func (r *recorder) drain() []string {
	var all []string
	for {
		select {
		case head := <-r.requests:
			all = append(all, head)
		default:
			return all
		}
	}
}

// Pieces that hostile requests are put together from (threats 2.2 and 2.3).
var (
	hostileMethods = []string{"GET", "POST", "HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "FOO", "G\x01T", "PUT", "DELETE", "PATCH", "QUERY"}
	hostileTargets = []string{
		"/v1/things", "/v1/things?x=1", "/a/../b", "/a/%2e%2e/b", "/a/%2E/b", "/./a", "//a", "/a//b", "/a%2fb", "/a%2Fb", "/a\\b", "/a%5cb",
		"/a;x=1/b", "/..;/a", "/a%00b", "/a%0ab", "/a#b", "/a%23b", "/a%25%32%66b", "/a%252fb", "/%c0%ae%c0%ae/", "/\xff", "/a b", "*", "a", "",
		"http://other.test/x", "http:///x", "/%", "/%zz", "/a/%2e%2e%2fb", "/v1/%74hings", "/ADMIN", "/v1/things/", "/a%7fb", "/a\tb", "/%e2%80%ae",
	}
	hostileHeaders = []string{
		"Sallyport-Token-Id: forged", "sallyport-token-id: forged", "SALLYPORT_TOKEN_ID: forged", "Sallyport.Token.Id: forged", "Sallyport-Account-Id: forged",
		"Sallyport-Scopes: forged", "Sallyport-Anything: forged", "Connection: Sallyport-Token-Id", "Connection: close, Sallyport-Access, Authorization",
		"X-HTTP-Method-Override: DELETE-forged", "X-Method-Override: forged", "X-HTTP-Method: forged", "X-Original-URL: /forged", "X-Rewrite-URL: /forged",
		"X-Original-Url: /forged", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Uri: /forged", "Upgrade: h2c", "Connection: upgrade", "Upgrade: websocket",
		"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", "Transfer-Encoding: chunked", "Transfer-Encoding: xchunked", "Content-Length: 5", "Content-Length: 0",
		"Host: other.test", "Trailer: Sallyport-Token-Id", "TE: trailers", "Expect: 100-continue", "Authorization: Basic Zm9yZ2Vk",
		"Authorization: Bearer forged", "Cookie: a=b", "X: a\r\n folded", "Bad Header: x", "X-Nul: a\x00b", ": empty", "X-Real-IP: 192.0.2.1", "Early-Data: 1",
	}
	hostileBodies = []string{
		"", "hello", "5\r\nhello\r\n0\r\n\r\n", "0\r\nSallyport-Token-Id: forged\r\n\r\n", "5\r\nhello\r\n0\r\nSallyport_Token_Id: forged\r\nAuthorization: forged\r\n\r\n",
		"fffffffffffffffff\r\n", "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
	}
)

// TestHostileInputsGetARefusalAndNeverAServerError throws generated requests at
// the program over raw sockets: no answer is a 5xx, nothing without a good
// credential goes through, and nothing forged arrives (S10, B1 to B6, P1 to P16,
// S1 to S7, from outside).
func TestHostileInputsGetARefusalAndNeverAServerError(t *testing.T) {
	const seed = 7
	random := rand.New(rand.NewPCG(seed, 0))
	pick := func(from []string) string { return from[random.IntN(len(from))] }
	upstream := newRecorder(t)
	g := newGateway(t, strings.Replace(plainCaddyfile, "\tsallyport {\n\t\trequire", "\tsallyport {\n\t\tfailure_limit 0\n\t\trequire", 1), upstream.addr)
	good := g.create("--account", g.account(), "--access", "read_write", "--ip", "127.0.0.1")
	upstream.drain()

	n := rounds(t, 3000)
	forwarded, statuses := 0, map[string]int{}
	for i := range n {
		if t.Failed() {
			break
		}
		authorised := random.IntN(2) == 0
		var raw strings.Builder
		fmt.Fprintf(&raw, "%s %s HTTP/1.%d\r\n", pick(hostileMethods), pick(hostileTargets), min(1, random.IntN(12)))
		fmt.Fprintf(&raw, "Host: %s\r\n", g.addr)
		if authorised {
			fmt.Fprintf(&raw, "Authorization: Bearer %s\r\n", good.Secret)
		}
		for range random.IntN(4) {
			raw.WriteString(pick(hostileHeaders) + "\r\n")
		}
		raw.WriteString("\r\n" + pick(hostileBodies))

		status := exchange(t, g.addr, raw.String())
		shown := strings.ReplaceAll(raw.String(), good.Secret, "[secret]")
		// 501 and 505 are how net/http refuses an unknown transfer coding or version.
		if strings.HasPrefix(status, "5") && status != "501" && status != "505" {
			t.Errorf("seed %d input %d got %s:\n%q", seed, i, status, shown)
		}
		statuses[status]++
		for _, head := range upstream.drain() {
			forwarded++
			if !authorised {
				t.Errorf("seed %d input %d went through without a credential:\n%q\nas\n%q", seed, i, shown, head)
			}
			lower := strings.ToLower(head)
			for _, bad := range []string{"forged", "smuggled", "h2c", "authorization", "192.0.2.1"} {
				if strings.Contains(lower, bad) {
					t.Errorf("seed %d input %d sent %q upstream:\n%q\nas\n%q", seed, i, bad, shown, strings.ReplaceAll(head, good.Secret, "[secret]"))
				}
			}
			if strings.Contains(head, good.Secret) {
				t.Errorf("seed %d input %d sent the secret upstream", seed, i)
			}
			if got := strings.Count(lower, "sallyport-token-id: "); got != 1 {
				t.Errorf("seed %d input %d: %d identities arrived:\n%q", seed, i, got, head)
			}
		}
	}
	require.Positive(t, forwarded, "some of it is harmless and must get through, else nothing was tested")
	t.Logf("%d inputs, %d forwarded, answers %v", n, forwarded, statuses)
}

// exchange sends bytes and returns the first answer's status; "closed" when the
// connection ended without one.
func exchange(t *testing.T, addr, raw string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(ceiling)))
	if _, err := io.WriteString(conn, raw); err != nil {
		return "closed"
	}
	// What is no whole request gets no answer while more could come: hang up then.
	hangUp := time.AfterFunc(200*time.Millisecond, func() { _ = conn.Close() })
	defer hangUp.Stop()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "closed"
	}
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return "garbage"
	}
	return fields[1]
}
