package caddymodule_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/token"
)

// A connection that breaks before it is answered is asked again: a reload of
// Caddy's closes connections that its old listener had taken (some in a hundred
// reloads, also without Sallyport). What counts is that whatever is answered is
// answered right.
func TestReloadsUnderLoadLoseNoRequestAndNoRevocation(t *testing.T) {
	g := newInProcess(t)
	g.behind = "respond ok"
	// Both tokens come from one address; the failures of one would otherwise shed
	// the other until the cache of a new runtime knows it.
	g.gateLines = "failure_limit off"
	require.NoError(t, g.load(""))
	kept, revoked := g.issue(), g.issue()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	t.Cleanup(client.CloseIdleConnections)
	var broken atomic.Int64
	ask := func(secret string) (int, error) {
		req, err := http.NewRequestWithContext(context.Background(), "GET", "http://"+g.gate+"/", nil)
		if err != nil {
			return 0, err
		}
		req.Header.Set("Authorization", "Bearer "+secret)
		for try := 1; ; try++ {
			resp, err := client.Do(req)
			if err == nil {
				return resp.StatusCode, resp.Body.Close()
			}
			broken.Add(1)
			if try == 5 {
				return 0, err
			}
		}
	}

	var over atomic.Bool // the revocation was acknowledged
	var answers, refusals atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for ctx.Err() == nil {
				status, err := ask(kept.Secret.Reveal())
				if err != nil || status != 200 {
					t.Errorf("a valid token: status %d, %v", status, err)
					return
				}
				answers.Add(1)
			}
		})
		workers.Go(func() {
			for ctx.Err() == nil {
				after := over.Load()
				status, err := ask(revoked.Secret.Reveal())
				switch {
				case err != nil, status != 200 && status != 401 && status != 429, status == 200 && after:
					t.Errorf("a token that is revoked (%v): status %d, %v", after, status, err)
					return
				case status != 200:
					refusals.Add(1)
				}
			}
		})
	}
	for i := range 24 {
		lines := fmt.Sprintf("scopes {\n s%d\n}", i)
		if i%6 == 5 {
			lines += fmt.Sprintf("\ncache_size %dMiB", 16+i) // another runtime takes over
		}
		require.NoError(t, g.load(lines))
		if i == 8 {
			revoke(t, g.client, revoked.Token.ID)
			over.Store(true)
		}
		// Each configuration answers some requests.
		before := answers.Load()
		eventually(t, "requests are answered", func() bool { return answers.Load() >= before+50 || t.Failed() })
	}
	stop()
	workers.Wait()
	require.Positive(t, refusals.Load())
	require.LessOrEqual(t, broken.Load(), int64(8*24), "at most one connection a client and reload broke")
}

func TestARequestInFlightIsFinishedThoughAReloadReplacesTheStore(t *testing.T) {
	g := newInProcess(t)
	arrived, finish := make(chan struct{}), make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-finish
		_, _ = io.WriteString(w, "finished")
	}))
	defer upstream.Close()
	g.behind = "reverse_proxy " + strings.TrimPrefix(upstream.URL, "http://")
	require.NoError(t, g.load(""))
	secret := g.issue().Secret.Reveal()
	type answer struct {
		status int
		body   string
	}
	answers := make(chan answer, 1)
	go func() {
		status, body := fetchOnce(t, "GET", "http://"+g.gate+"/", secret, "")
		answers <- answer{status, body}
	}()
	select {
	case <-arrived:
	case <-time.After(patience):
		t.Fatal("the request did not come through")
	}
	g.behind = "respond another"
	require.NoError(t, g.load("cache_size 17MiB"))
	eventually(t, "the new configuration answers", func() bool { return g.status(secret) == 200 })
	close(finish)
	require.Equal(t, answer{200, "finished"}, <-answers)
}

// revoke asks until it is answered: the admin endpoint changes with each reload.
func revoke(t *testing.T, c *api.Client, id token.ID) {
	t.Helper()
	eventually(t, "the revocation is acknowledged", func() bool {
		_, err := c.RevokeToken(t.Context(), id, true)
		var problem *api.Problem
		if errors.As(err, &problem) {
			require.NoError(t, err)
		}
		return err == nil
	})
}

func TestACommandOnTheStoreItselfIsSeenByTheGatewayBesideIt(t *testing.T) {
	g := newInProcess(t)
	require.NoError(t, g.load(""))
	issued := g.issue()
	require.Equal(t, 200, g.status(issued.Secret.Reveal()))
	config := filepath.Join(g.dir, "Caddyfile")
	require.NoError(t, os.WriteFile(config, []byte(g.caddyfile("")), 0o600))
	cmd := command(t, g.dir, "token", "revoke", string(issued.Token.ID), "--confirm", "--offline", "--config", config)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	// The change comes by the feed, which is read every half second.
	began := time.Now()
	eventually(t, "the gateway refuses it", func() bool { return g.status(issued.Secret.Reveal()) == 401 })
	t.Logf("seen %s after the command ended", time.Since(began))
}
