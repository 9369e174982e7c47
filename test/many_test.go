package test

import (
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/test/bulk"
)

// TestAChangeHoldsOnTheNextRequestWithManyTokensCached fills the cache with 10,000
// tokens (SALLYPORT_ROUNDS takes another number; 1000000 is the full run), then
// changes some of them and asks for each at once.
func TestAChangeHoldsOnTheNextRequestWithManyTokensCached(t *testing.T) {
	n := rounds(t, 10_000)
	g := prepareGateway(t, plainCaddyfile, httpbinUpstream(t))
	list := g.path("secrets")
	require.NoError(t, bulk.Fill(t.Context(), g.path("sallyport.db"), list, n))
	text, err := os.ReadFile(list)
	require.NoError(t, err)
	secrets := strings.Fields(string(text))
	require.Len(t, secrets, n)
	g.start()

	var wg sync.WaitGroup
	work := make(chan string)
	for range 16 {
		wg.Go(func() {
			for secret := range work {
				if status, code, err := g.send("GET", "/v1/payments", secret); err != nil || status != 404 {
					t.Errorf("a good token got %d %s %v", status, code, err)
				}
			}
		})
	}
	for _, secret := range secrets {
		work <- secret
	}
	close(work)
	wg.Wait()
	require.False(t, t.Failed())

	for i := range 20 {
		secret := secrets[i*(n/20)]
		id := g.idOf(secret)
		switch i % 2 {
		case 0:
			g.command("token", "revoke", id, "--confirm")
			require.Equal(t, "revoked_token", g.denied(secret))
		case 1:
			g.command("token", "disable", id)
			require.Equal(t, "disabled_token", g.denied(secret))
		}
	}
}

// denied asks the gate and returns the code of its refusal. Refusals have a
// budget for each address; a spent one is no pass either, and verify tells.
func (g *gateway) denied(secret string) string {
	g.t.Helper()
	status, code := g.do("GET", "/v1/payments", secret)
	if status == 429 {
		return g.verify(secret)
	}
	require.Equal(g.t, 401, status)
	return code
}

// idOf finds the token of a secret, as a security person would who was sent one.
func (g *gateway) idOf(secret string) string {
	g.t.Helper()
	var answer struct {
		Token struct{ ID string }
	}
	g.ask("/tokens/verify", map[string]any{"secret": secret, "ip": "127.0.0.1"}, &answer)
	require.NotEmpty(g.t, answer.Token.ID)
	return answer.Token.ID
}
