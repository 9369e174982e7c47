package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// rounds is how often a long test repeats: a short count in make test, more with
// SALLYPORT_ROUNDS.
func rounds(t *testing.T, short int) int {
	t.Helper()
	if s := os.Getenv("SALLYPORT_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err)
		return n
	}
	return short
}

// TestKillNineLosesNoAcknowledgedChange kills the program at random moments while
// a client changes tokens, and then asks the program, started again, about
// everything that it had acknowledged.
func TestKillNineLosesNoAcknowledgedChange(t *testing.T) {
	const seed = 20261122
	random := rand.New(rand.NewPCG(seed, 0))
	g := newGateway(t, plainCaddyfile, httpbinUpstream(t))
	account := g.account()
	n := rounds(t, 10)
	acknowledged := 0
	for round := range n {
		valid := map[string]string{} // secret to token ID: must work
		dead := map[string]string{}  // secret to the code that it must get
		started := make(chan struct{})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			close(started)
			for i := 0; ; i++ {
				created, ok := g.post("/tokens", map[string]any{"name": fmt.Sprintf("r%d-%d", round, i), "account_id": account, "access": "read_only"})
				if !ok {
					return
				}
				id := created.id()
				valid[created.Secret] = id
				acknowledged++
				switch i % 3 {
				case 0:
					// From here on the outcome is open until it is acknowledged.
					delete(valid, created.Secret)
					if _, ok := g.post("/tokens/"+id+"/revoke", map[string]any{"confirm": true}); !ok {
						return
					}
					dead[created.Secret] = "revoked_token"
					acknowledged++
				case 1:
					delete(valid, created.Secret)
					rotated, ok := g.post("/tokens/"+id+"/rotate", map[string]any{"mode": "now", "confirm": true})
					if !ok {
						return
					}
					dead[created.Secret] = "retired_secret"
					valid[rotated.Secret] = id
					acknowledged++
				}
			}
		}()
		<-started
		time.Sleep(time.Duration(random.IntN(400)) * time.Millisecond) // the random moment
		g.kill()
		<-ended
		g.start()
		for secret, id := range valid {
			status, code := g.do("GET", "/v1/payments", secret)
			require.Equal(t, 404, status, "seed %d round %d: %s was acknowledged and must work: %s", seed, round, id, code)
		}
		for secret, want := range dead {
			// Failures have a budget for each address, so verify asks instead of the gate.
			require.Equal(t, want, g.verify(secret), "seed %d round %d", seed, round)
		}
	}
	g.command("audit", "verify")
	t.Logf("%d kills, %d acknowledged changes, none lost", n, acknowledged)
}

// post calls the management API; ok is false unless it was acknowledged.
func (g *gateway) post(path string, body any) (answer issued, ok bool) {
	text, err := json.Marshal(body)
	if err != nil {
		return issued{}, false
	}
	resp, err := http.Post(g.adminURL(path), "application/json", bytes.NewReader(text))
	if err != nil {
		return issued{}, false
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode/100 != 2 || json.NewDecoder(resp.Body).Decode(&answer) != nil {
		return issued{}, false
	}
	return answer, true
}

// verify asks the management API what the gate would say; "" means valid.
func (g *gateway) verify(secret string) string {
	g.t.Helper()
	var answer struct {
		Valid bool
		Code  string
	}
	g.ask("/tokens/verify", map[string]any{"secret": secret, "ip": "127.0.0.1", "method": "GET", "path": "/"}, &answer)
	require.Equal(g.t, answer.Valid, answer.Code == "")
	return answer.Code
}

// ask posts to the management API and requires an answer.
func (g *gateway) ask(path string, body, answer any) {
	g.t.Helper()
	text, err := json.Marshal(body)
	require.NoError(g.t, err)
	resp, err := http.Post(g.adminURL(path), "application/json", bytes.NewReader(text))
	require.NoError(g.t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(g.t, http.StatusOK, resp.StatusCode, path)
	require.NoError(g.t, json.NewDecoder(resp.Body).Decode(answer))
}
