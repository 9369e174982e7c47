package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/token"
)

func TestTheClientSpeaksOverAUnixSocket(t *testing.T) {
	g := newGateway(t)
	socket := filepath.Join(t.TempDir(), "admin.sock")
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	server := &http.Server{Handler: g.handler, ReadHeaderTimeout: time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	})
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := api.NewClient("http://localhost/sallyport/v1/", &http.Client{Transport: transport})
	require.NoError(t, err)
	theLifeOfAToken(t, c)
}

func TestTheClientSpeaksToAHandlerInThisProcess(t *testing.T) {
	theLifeOfAToken(t, newGateway(t).client())
}

// theLifeOfAToken calls every method of the client about tokens.
func theLifeOfAToken(t *testing.T, c *api.Client) {
	t.Helper()
	ctx := t.Context()
	account, err := c.CreateAccount(ctx, api.NewAccount{Name: "Example Ltd"})
	require.NoError(t, err)
	issued, err := c.CreateToken(ctx, "key-1", api.NewToken{Name: "export", AccountID: account.ID, Access: token.ReadWrite, IPAllowlist: []string{"192.0.2.0/24"}})
	require.NoError(t, err)
	id := issued.Token.ID
	again, err := c.CreateToken(ctx, "key-1", api.NewToken{Name: "export", AccountID: account.ID, Access: token.ReadWrite, IPAllowlist: []string{"192.0.2.0/24"}})
	require.NoError(t, err)
	require.True(t, again.Replayed)

	shown, err := c.Token(ctx, id)
	require.NoError(t, err)
	edited, err := c.EditToken(ctx, id, shown.Version, api.TokenEdit{Name: ptr("renamed"), IPAllowlist: &[]string{"192.0.2.7"}})
	require.NoError(t, err)
	require.Equal(t, []string{"192.0.2.7"}, edited.IPAllowlist)
	rotated, err := c.RotateToken(ctx, id, "key-2", api.Rotation{GracePeriodSeconds: ptr(int64(60))})
	require.NoError(t, err)
	require.NotNil(t, rotated.Token.PreviousSecretExpiresAt)
	v, err := c.VerifyToken(ctx, api.Question{Secret: rotated.Secret, IP: "192.0.2.7", Method: "POST"})
	require.NoError(t, err)
	require.True(t, v.Valid)
	for _, change := range []func(context.Context, token.ID, bool) (api.Token, error){c.DisableToken, c.EnableToken, c.RevokeToken, c.DeleteToken} {
		_, err := change(ctx, id, true)
		require.NoError(t, err)
	}
	_, err = c.Token(ctx, "tok_none")
	var p *api.Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, http.StatusNotFound, p.Status)
	require.Equal(t, "not_found", p.Code)
	require.ErrorIs(t, err, &api.Problem{Code: "not_found"})
	require.NotErrorIs(t, err, &api.Problem{Code: "forbidden"})
}

func TestAnIDFromACommandLineReachesNoOtherRoute(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked = append(asked, r.RequestURI) }))
	defer server.Close()
	c, err := api.NewClient(server.URL, server.Client())
	require.NoError(t, err)
	_, err = c.Token(t.Context(), "../accounts/a?b#c%2f")
	require.ErrorIs(t, err, api.ErrUnexpectedAnswer)
	_, err = c.RevokeToken(t.Context(), "a/../b", true)
	require.ErrorIs(t, err, api.ErrUnexpectedAnswer)
	require.Equal(t, []string{"/tokens/..%2Faccounts%2Fa%3Fb%23c%252f", "/tokens/a%2F..%2Fb/revoke"}, asked)
}

func TestTheClientIsNotFooledByAnotherServer(t *testing.T) {
	var answer http.HandlerFunc
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, r) }))
	defer server.Close()
	c, err := api.NewClient(server.URL, server.Client())
	require.NoError(t, err)
	says := func(status int, media, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", media)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	for name, row := range map[string]http.HandlerFunc{
		"a web page":             says(200, "text/html", "<html>"),
		"nothing":                says(204, "", ""),
		"JSON of another form":   says(200, "application/json", `{"id":["M4rk"]}`),
		"broken JSON":            says(200, "application/json", `{"id":M4rk`),
		"another program's 404":  says(404, "application/json", `{"error":"M4rk"}`),
		"a problem with no code": says(500, "application/problem+json", `{"title":"M4rk"}`),
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
		"an endless answer": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for range 40 {
				_, _ = w.Write([]byte(strings.Repeat(" ", 1<<20)))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			answer = func(w http.ResponseWriter, r *http.Request) {
				require.NotEqual(t, "/elsewhere", r.URL.Path)
				row(w, r)
			}
			_, err := c.Token(t.Context(), "tok_1")
			require.ErrorIs(t, err, api.ErrUnexpectedAnswer)
			require.NotContains(t, err.Error(), "M4rk")
		})
	}
	answer = says(200, "application/json", `{"items":[],"next_cursor":"c"}`)
	var last error
	for _, err := range c.Tokens(t.Context(), api.TokenFilter{}) {
		last = err
	}
	require.ErrorIs(t, last, api.ErrUnexpectedAnswer)
}

func TestTheClientTakesOnlyAnAddressThatItCanSpeakTo(t *testing.T) {
	for _, wrong := range []string{"", "localhost:2019", "unix//run/admin.sock", "ftp://host/", "http://", "http://user:pass@host/", "http://host/?q=1", "http://host/#f", "http://h\x00st/"} {
		_, err := api.NewClient(wrong, nil)
		require.Error(t, err, wrong)
		require.NotContains(t, err.Error(), "pass")
	}
	c, err := api.NewClient("http://127.0.0.1:1/sallyport/v1", nil)
	require.NoError(t, err)
	_, err = c.Health(t.Context())
	require.Error(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Health(ended)
	require.ErrorIs(t, err, context.Canceled)
}

func TestAHandlerThatAbortsIsABrokenAnswer(t *testing.T) {
	c := api.NewHandlerClient(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), base)
	_, err := c.Health(t.Context())
	require.Error(t, err)
	c = api.NewHandlerClient(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), base)
	_, err = c.Health(t.Context())
	require.ErrorIs(t, err, api.ErrUnexpectedAnswer)
}

func TestASecretPrintsAsRedactedWhereverItIsPrinted(t *testing.T) {
	secret := api.Secret("sp_live_marker")
	issued := api.Issued{Secret: secret}
	question := &api.Question{Secret: secret}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "secret", secret)
	for _, text := range []string{
		secret.String(), fmt.Sprint(secret), fmt.Sprintf("%v %+v %#v %s %q %x %d", secret, secret, secret, secret, secret, secret, secret),
		fmt.Sprintf("%v %+v %#v", issued, issued, issued), fmt.Sprintf("%v %+v %#v", question, question, question), log.String(), errors.New(secret.String()).Error(),
	} {
		require.NotContains(t, text, "marker")
		require.NotContains(t, text, fmt.Sprintf("%x", "marker"))
	}
	wire, err := json.Marshal(question)
	require.NoError(t, err)
	require.JSONEq(t, `{"secret":"sp_live_marker"}`, string(wire))
	require.Equal(t, "sp_live_marker", secret.Reveal())
}
