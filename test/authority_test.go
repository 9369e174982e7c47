package test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/require"
)

const authorityCaddyfile = `{
	admin {ADMIN}
	persist_config off
	default_bind 127.0.0.1
	sallyport {
		store sqlite {DIR}/sallyport.db
		policy default {
			allow rotate owner
			step_up rotate
			require_ip_allowlist never
		}
	}
}
http://{ADDR} {
	sallyport {
		require read GET /anything/north* {
			business_unit north
		}
	}
	reverse_proxy {UPSTREAM}
}
`

// T2 to T8, R3, R10, O10 to O12, with the program as people run it: an operator
// rotates for an owner who gives a code of a real authenticator app, and for nobody
// else; business units and the token option bind from the next request on.
func TestAnOperatorActsForAVerifiedOwner(t *testing.T) {
	g := newGateway(t, authorityCaddyfile, httpbinUpstream(t))
	account := g.account()
	user := func(role string, flags ...string) string {
		return g.command(append([]string{"user", "create", "--account", account, "--name", role, "--role", role, "--quiet"}, flags...)...)
	}
	owner, admin, member := user("owner"), user("admin"), user("member", "--unit", "south")
	first := g.create("--account", account, "--user", member, "--access", "read_only")
	rotate := func(flags ...string) error {
		_, err := g.try(append([]string{"token", "rotate", first.id(), "--mode", "now", "--quiet"}, flags...)...)
		return err
	}
	require.ErrorContains(t, rotate("--requested-by", member), "owners and admins", "T4")
	require.ErrorContains(t, rotate("--requested-by", admin), "forbidden", "R3: only an owner rotates")
	require.ErrorContains(t, rotate("--requested-by", owner), "step_up_required", "R10")

	var begun struct {
		Secret string `json:"secret"`
		QR     []byte `json:"qr_png"`
	}
	require.NoError(t, json.Unmarshal([]byte(g.command("user", "enrol-otp", owner, "--output", "json")), &begun))
	require.Equal(t, "\x89PNG", string(begun.QR[:4]))
	code := func(periods int) string {
		text, err := totp.GenerateCode(begun.Secret, time.Now().Add(time.Duration(periods)*30*time.Second))
		require.NoError(t, err)
		return text
	}
	recovery := strings.Fields(g.command("user", "confirm-otp", owner, code(0)))
	require.Len(t, recovery, 10)
	wrong := "000000"
	for _, right := range []string{code(-1), code(0), code(1), code(2)} {
		if wrong == right {
			wrong = "999999"
		}
	}
	require.ErrorContains(t, rotate("--requested-by", owner, "--otp", wrong), "invalid_otp")
	// The next period's: the present one's was the first code.
	next := code(1)
	require.NoError(t, rotate("--requested-by", owner, "--otp", next))
	require.ErrorContains(t, rotate("--requested-by", owner, "--otp", next), "code_used")
	require.NoError(t, rotate("--requested-by", owner, "--otp", recovery[0]))
	require.ErrorContains(t, rotate("--requested-by", owner, "--otp", recovery[0]), "invalid_otp")
	second := g.issue("token", "rotate", first.id(), "--mode", "now")
	g.want(http.StatusUnauthorized, "retired_secret", "GET", "/get", first.Secret)
	g.want(http.StatusOK, "", "GET", "/get", second.Secret)

	var log struct {
		Items []struct {
			Actor       struct{ Kind string }
			RequestedBy *string `json:"requested_by"`
			Verb        string
		}
	}
	require.NoError(t, json.Unmarshal([]byte(g.command("audit", "list", "--output", "json", "--limit", "200")), &log))
	requested, failed := 0, 0
	for _, e := range log.Items {
		require.NotEqual(t, "user", e.Actor.Kind, "it is the operator who acts")
		if e.Verb == "token.rotate" && e.RequestedBy != nil {
			require.Equal(t, owner, *e.RequestedBy)
			requested++
		}
		if e.Verb == "user.fail-otp" {
			failed++
		}
	}
	require.Equal(t, 2, requested)
	require.Equal(t, 2, failed, "the wrong code, and the recovery code that was gone")

	// O10: business units, live.
	g.want(http.StatusForbidden, "insufficient_scope", "GET", "/anything/north/1", second.Secret)
	g.command("user", "edit", member, "--unit", "south", "--unit", "north")
	g.want(http.StatusOK, "", "GET", "/anything/north/1", second.Secret)
	owned := g.create("--account", account, "--access", "read_only")
	g.want(http.StatusForbidden, "insufficient_scope", "GET", "/anything/north/1", owned.Secret)

	// O11, O12: the option, off and on again.
	for _, c := range []struct{ off, on []string }{
		{[]string{"account", "edit", account, "--tokens", "off"}, []string{"account", "edit", account, "--tokens", "on"}},
		{[]string{"user", "edit", member, "--tokens", "off"}, []string{"user", "edit", member, "--tokens", "on"}},
		{[]string{"role", "edit", "member", "--tokens", "off"}, []string{"role", "edit", "member", "--tokens", "on"}},
	} {
		g.command(c.off...)
		status, problem := g.do("GET", "/get", second.Secret)
		require.Equal(t, http.StatusForbidden, status)
		require.Contains(t, []string{"account_disabled", "user_disabled"}, problem)
		_, err := g.try("token", "create", "--name", "x", "--account", account, "--user", member, "--quiet")
		require.ErrorContains(t, err, "switched off")
		g.command(c.on...)
		g.want(http.StatusOK, "", "GET", "/get", second.Secret)
	}

	// T7: further roles; a role's ceiling binds from the next request on.
	g.command("role", "create", "clerk", "--access", "custom", "--scope", "write")
	g.command("user", "edit", member, "--role", "clerk")
	g.want(http.StatusForbidden, "insufficient_scope", "GET", "/get", second.Secret)
	_, err := g.try("role", "delete", "clerk")
	require.ErrorContains(t, err, "invalid_state")
	g.command("user", "edit", member, "--role", "member")
	g.command("role", "delete", "clerk")
	g.want(http.StatusOK, "", "GET", "/get", second.Secret)
}
