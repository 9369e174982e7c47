package demo_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/internal/demo"
)

func serve(t *testing.T) *httptest.Server {
	t.Helper()
	clock := func() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }
	server := httptest.NewServer(demo.New(clock, time.Millisecond))
	t.Cleanup(server.Close)
	return server
}

func do(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text)
}

func TestRecordsAreListedCreatedShownAndDeleted(t *testing.T) {
	server := serve(t)
	status, body := do(t, "GET", server.URL+"/v1/payments", "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "amount_cents")

	status, body = do(t, "POST", server.URL+"/v1/payments", `{"amount_cents": 7}`)
	require.Equal(t, http.StatusCreated, status)
	require.Contains(t, body, `"id": "payment_000005"`)

	status, _ = do(t, "GET", server.URL+"/v1/payments/payment_000005", "")
	require.Equal(t, http.StatusOK, status)
	status, _ = do(t, "DELETE", server.URL+"/v1/payments/payment_000005", "")
	require.Equal(t, http.StatusNoContent, status)
	status, _ = do(t, "GET", server.URL+"/v1/payments/payment_000005", "")
	require.Equal(t, http.StatusNotFound, status)
}

func TestBadInputIsRefusedAndACollectionDoesNotGrowWithoutBound(t *testing.T) {
	server := serve(t)
	for _, body := range []string{"", "null", "[1]", "{"} {
		status, _ := do(t, "POST", server.URL+"/v1/accounts", body)
		require.Equal(t, http.StatusBadRequest, status, body)
	}
	status, _ := do(t, "POST", server.URL+"/v1/accounts", `{"a":"`+strings.Repeat("x", 70<<10)+`"}`)
	require.Equal(t, http.StatusRequestEntityTooLarge, status)

	for range 998 {
		status, _ := do(t, "POST", server.URL+"/v1/accounts", `{}`)
		require.Equal(t, http.StatusCreated, status)
	}
	status, _ = do(t, "POST", server.URL+"/v1/accounts", `{}`)
	require.Equal(t, http.StatusInsufficientStorage, status)
}

func TestWhoamiShowsTheIdentityAndNeverACredential(t *testing.T) {
	server := serve(t)
	req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/v1/whoami", nil)
	require.NoError(t, err)
	req.Header.Set("Sallyport-Token-Id", "tok_1")
	req.Header.Set("Authorization", "Bearer marker")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Contains(t, string(text), `"Sallyport-Token-Id": "tok_1"`)
	require.Contains(t, string(text), `"credential_arrived": true`)
	require.NotContains(t, string(text), "marker")
}

func TestEventsComeOneAfterTheOther(t *testing.T) {
	server := serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", server.URL+"/v1/events", nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	lines := bufio.NewScanner(resp.Body)
	var ids []string
	for len(ids) < 3 && lines.Scan() {
		if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			ids = append(ids, id)
		}
	}
	require.Equal(t, []string{"1", "2", "3"}, ids)
}

func TestTheWebSocketEchoes(t *testing.T) {
	server := serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, server.URL+"/v1/echo", nil)
	require.NoError(t, err)
	defer conn.CloseNow()
	require.NoError(t, conn.Write(ctx, websocket.MessageText, []byte("hello")))
	_, got, err := conn.Read(ctx)
	require.NoError(t, err)
	require.Equal(t, "hello", string(got))
}
