package test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const rotationCaddyfile = `{
	admin {ADMIN}
	persist_config off
	default_bind 127.0.0.1
	sallyport {
		store sqlite {DIR}/sallyport.db
		mail {MAIL} {
			tls off
			from tokens@example.com
		}
		policy default {
			delete_unused never
			downgrade_unused never
			confirm rollback
		}
	}
}
http://{ADDR} {
	sallyport
	reverse_proxy {UPSTREAM}
}
`

// rotationState is what token rotation shows, as far as these tests look at it.
type rotationState struct {
	InProgress        bool   `json:"in_progress"`
	Mode              string `json:"mode"`
	SecretID          string `json:"secret_id"`
	FirstUsedAt       string `json:"first_used_at"`
	PreviousID        string `json:"previous_secret_id"`
	PreviousEnds      string `json:"previous_secret_expires_at"`
	PreviousUsed      string `json:"previous_last_used_at"`
	WaitsFor          string `json:"waits_for"`
	PreviousAddresses []struct {
		Address  string
		Requests int
	} `json:"previous_addresses"`
}

func (g *gateway) rotation(id string) (r rotationState) {
	g.t.Helper()
	require.NoError(g.t, json.Unmarshal([]byte(g.command("token", "rotation", id, "--output", "json")), &r))
	return r
}

// told is the header that tells a caller about the rotation.
func (g *gateway) toldOfRotation(secret string) string {
	g.t.Helper()
	req, err := http.NewRequest(http.MethodGet, g.url("/get"), nil)
	require.NoError(g.t, err)
	req.Header.Set("Authorization", "Bearer "+secret)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(g.t, err)
	require.NoError(g.t, resp.Body.Close())
	require.Equal(g.t, http.StatusOK, resp.StatusCode)
	return resp.Header.Get("Sallyport-Rotation")
}

func newRotations(t *testing.T) (g *gateway, box *mailbox, create func() issued) {
	box, relay := openMailbox(t)
	g = newGateway(t, strings.Replace(rotationCaddyfile, "{MAIL}", relay, 1), httpbinUpstream(t))
	account := g.account()
	g.command("user", "create", "--account", account, "--name", "Ada", "--email", "ada@example.com", "--role", "owner", "--quiet")
	return g, box, func() issued { return g.create("--account", account, "--access", "read_only") }
}

// works demands that each secret passes the gate.
func (g *gateway) works(secrets ...string) {
	g.t.Helper()
	for _, secret := range secrets {
		g.want(http.StatusOK, "", "GET", "/get", secret)
	}
}

// S6, S9: with mode now the old secret stops at once, and nothing brings it back.
func TestRotatingNow(t *testing.T) {
	g, _, create := newRotations(t)
	first := create()
	second := g.issue("token", "rotate", first.id(), "--mode", "now")
	require.Equal(t, first.id(), second.id(), "S6: the same token")
	g.works(second.Secret)
	g.want(http.StatusUnauthorized, "retired_secret", "GET", "/get", first.Secret)
	require.False(t, g.rotation(first.id()).InProgress)
	_, err := g.try("token", "rollback", first.id(), "--confirm")
	require.ErrorContains(t, err, "no_rotation")
	require.Empty(t, g.toldOfRotation(second.Secret))
}

// R5, R12, R14, R16 to R20: a timed rotation tells the callers when it ends, is moved,
// and is rolled back.
func TestRotatingWithAGracePeriod(t *testing.T) {
	g, box, create := newRotations(t)
	first := create()
	id := first.id()
	g.works(first.Secret)
	second := g.issue("token", "rotate", id, "--mode", "timed", "--grace", "1h")
	g.works(first.Secret, second.Secret)
	r := g.rotation(id)
	require.Equal(t, "timed", r.Mode)
	ends, err := time.Parse(time.RFC3339Nano, r.PreviousEnds)
	require.NoError(t, err)
	require.Equal(t, "previous; expires="+ends.UTC().Format(time.RFC3339), g.toldOfRotation(first.Secret))
	require.Empty(t, g.toldOfRotation(second.Secret))
	_, err = g.try("token", "rotate", id)
	require.ErrorContains(t, err, "rotation_in_progress")
	require.ErrorContains(t, err, "token confirm")

	g.command("token", "extend", id, "--duration", "30d", "--previous", r.PreviousID) // R20: an operator goes beyond 7d
	extended, err := time.Parse(time.RFC3339Nano, g.rotation(id).PreviousEnds)
	require.NoError(t, err)
	require.Greater(t, extended.Sub(ends), 20*24*time.Hour)
	eventually(t, "callers learn of the new end", func() bool {
		return g.toldOfRotation(first.Secret) == "previous; expires="+extended.UTC().Format(time.RFC3339)
	})

	_, err = g.try("token", "rollback", id)
	require.ErrorContains(t, err, "stops working at once", "R17: a warning in words")
	for range 2 { // the second as after an answer that was lost
		g.command("token", "rollback", id, "--confirm", "--previous", r.PreviousID)
	}
	g.want(http.StatusUnauthorized, "retired_secret", "GET", "/get", second.Secret) // R18
	require.Empty(t, g.toldOfRotation(first.Secret), "R14: its timer is gone")
	require.False(t, g.rotation(id).InProgress)

	// A grace period ends by itself, on the gate's own clock.
	third := g.issue("token", "rotate", id, "--mode", "timed", "--grace", "2s")
	eventually(t, "the grace period ends", func() bool {
		status, code := g.do("GET", "/get", first.Secret)
		return status == http.StatusUnauthorized && code == "retired_secret"
	})
	g.works(third.Secret)

	// R12, R19: the owner has a mail of each, with the end of the previous secret.
	eventually(t, "the mails arrive", func() bool {
		var rotated, rolledBack bool
		for _, m := range box.about(id) {
			rotated = rotated || strings.Contains(m.text, ends.UTC().Format("2 January 2006, 15:04:05 UTC"))
			rolledBack = rolledBack || strings.Contains(m.subject, "rolled back")
		}
		return rotated && rolledBack
	})
}

// T11, T12, T15: both work until a person confirms, who sees beforehand who has not
// switched.
func TestRotatingUntilConfirmed(t *testing.T) {
	g, _, create := newRotations(t)
	first := create()
	id := first.id()
	second := g.issue("token", "rotate", id, "--mode", "until_confirmed")
	require.Equal(t, "previous; expires=unconfirmed", g.toldOfRotation(first.Secret))
	g.works(first.Secret, second.Secret)
	eventually(t, "it shows who still uses the previous secret", func() bool {
		r := g.rotation(id)
		return r.WaitsFor == "confirmation" && r.PreviousEnds == "" && r.FirstUsedAt != "" && r.PreviousUsed != ""
	})
	table := g.command("token", "rotation", id)
	for _, word := range []string{"until_confirmed", "works until the rotation is confirmed", g.rotation(id).PreviousID} {
		require.Contains(t, table, word)
	}
	previous := g.rotation(id).PreviousID
	for range 2 {
		g.command("token", "confirm", id, "--previous", previous)
	}
	g.want(http.StatusUnauthorized, "retired_secret", "GET", "/get", first.Secret)
	g.works(second.Secret)
	_, err := g.try("token", "confirm", id)
	require.ErrorContains(t, err, "no_rotation")
	g.command("audit", "verify")
}

// The grace period begins when the new secret is first used, and not before.
func TestRotatingOnFirstUse(t *testing.T) {
	g, _, create := newRotations(t)
	first := create()
	id := first.id()
	second := g.issue("token", "rotate", id, "--mode", "on_first_use", "--grace", "1s")
	require.Equal(t, "first_use", g.rotation(id).WaitsFor)
	require.Equal(t, "previous; expires=unconfirmed", g.toldOfRotation(first.Secret))
	g.works(second.Secret) // the first use
	eventually(t, "the previous secret ends by itself", func() bool {
		status, code := g.do("GET", "/get", first.Secret)
		return status == http.StatusUnauthorized && code == "retired_secret"
	})
	g.works(second.Secret)
	require.False(t, g.rotation(id).InProgress)
	log := g.command("audit", "list", "--output", "json")
	require.Contains(t, log, "token.start_grace")
	require.Contains(t, log, `"first_used_at"`)
	g.command("audit", "verify")
}

// S6, S10, T11, T15: whoever follows docs/rotation.md step by step gives busy programs
// a new secret without one failed request.
func TestABusyTokenIsRotatedWithoutAFailedRequest(t *testing.T) {
	g, _, create := newRotations(t)
	old := create()
	const programs = 4
	var (
		secrets [programs]atomic.Value // what each program has been given
		sent    [programs]atomic.Int64 // with the secret that it has now
		failed  atomic.Int64
		wait    sync.WaitGroup
	)
	stop := make(chan struct{})
	for i := range programs {
		secrets[i].Store(old.Secret)
		wait.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				status, _, err := g.send("GET", "/get", secrets[i].Load().(string))
				if err != nil || status != http.StatusOK {
					failed.Add(1)
				}
				sent[i].Add(1)
			}
		})
	}
	defer func() { close(stop); wait.Wait() }()
	busy := func() { // every program has made requests since
		for i := range programs {
			from := sent[i].Load()
			eventually(t, "it goes on", func() bool { return sent[i].Load() > from+3 })
		}
	}
	busy()
	fresh := g.issue("token", "rotate", old.id(), "--mode", "until_confirmed")
	busy()
	for i := range programs {
		secrets[i].Store(fresh.Secret)
		busy()
	}
	require.Empty(t, g.toldOfRotation(fresh.Secret), "who is told nothing has been switched over")
	g.command("token", "confirm", old.id())
	busy()
	require.Zero(t, failed.Load())
	g.want(http.StatusUnauthorized, "retired_secret", "GET", "/get", old.Secret)
	g.works(fresh.Secret)
}
