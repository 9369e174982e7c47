package api_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"
	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// documented is one row of the table in docs/security.md.
type documented struct {
	users []string // as the page lists them
	// allow: they are those of the policy's knob, and step_up can name the verb.
	allow bool
	scope string
	self  bool
}

const (
	operatorsOnly = "operators only"
	everyone      = "everyone"
)

// readPermissions reads the table that people are given. What the routes do is
// compared with the page and not with the code that made it.
func readPermissions(t *testing.T) map[string]documented {
	t.Helper()
	page, err := os.ReadFile("../docs/security.md")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(page), "<!-- permissions: ")
	require.True(t, ok)
	text, _, ok := strings.Cut(rest, "<!-- /permissions -->")
	require.True(t, ok)
	rows := map[string]documented{}
	for _, line := range strings.Split(text, "\n") {
		verb, rest, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "` |")
		if !ok || !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(rest, "|")
		require.Len(t, cells, 4, line)
		users := strings.TrimSpace(cells[0])
		for _, knob := range []string{" (`allow`)", " (`view`)"} {
			users = strings.TrimSuffix(users, knob)
		}
		rows[verb] = documented{
			users: strings.Split(users, ", "),
			allow: strings.Contains(cells[0], "(`allow`)"),
			scope: strings.Trim(cells[1], " `"),
			self:  strings.TrimSpace(cells[2]) == "yes",
		}
	}
	require.Greater(t, len(rows), 60, "the table is not read whole")
	return rows
}

// lets says whether the users' column has a role, for what is their own or not.
func (d *documented) lets(role string, own bool) bool {
	return slices.Contains(d.users, everyone) || slices.Contains(d.users, role) ||
		own && (slices.Contains(d.users, role+" on their own") || slices.Contains(d.users, "everyone on their own"))
}

func (d *documented) operatorsOnly() bool { return slices.Equal(d.users, []string{operatorsOnly}) }

// Where a target is, seen from who asks.
const (
	atOwn    = "own"
	atOthers = "other's"
	atItself = "itself"
	atAway   = "elsewhere" // in another account
)

// permissionActor is somebody who asks.
type permissionActor struct {
	name string
	kind tokenstore.ActorKind
	role string // of the user who asks, or of the token's; empty: no user
	// behalf: an operator asks in the user's name.
	behalf   bool
	disabled bool
	away     bool
	scopes   []string // of a token
}

var managementScopes = []string{"sallyport:tokens:read", "sallyport:tokens:write", "sallyport:users:read", "sallyport:audit:read"}

func permissionActors() []permissionActor {
	actors := []permissionActor{{name: "operator", kind: tokenstore.OperatorActor}}
	for _, role := range []string{"owner", "admin", "member", "auditor"} {
		actors = append(actors,
			permissionActor{name: "operator for " + role, kind: tokenstore.OperatorActor, role: role, behalf: true},
			permissionActor{name: role, kind: tokenstore.UserActor, role: role})
	}
	actors = append(actors,
		permissionActor{name: "disabled owner", kind: tokenstore.UserActor, role: "owner", disabled: true},
		permissionActor{name: "operator for disabled owner", kind: tokenstore.OperatorActor, role: "owner", behalf: true, disabled: true},
		permissionActor{name: "owner elsewhere", kind: tokenstore.UserActor, role: "owner", away: true},
		permissionActor{name: "operator for owner elsewhere", kind: tokenstore.OperatorActor, role: "owner", behalf: true, away: true},
		permissionActor{name: "stranger", kind: "stranger"},
		permissionActor{name: "plain token", kind: tokenstore.TokenActor},
		permissionActor{name: "manager of member", kind: tokenstore.TokenActor, role: "member", scopes: managementScopes},
		permissionActor{name: "manager of owner", kind: tokenstore.TokenActor, role: "owner", scopes: managementScopes},
		permissionActor{name: "manager elsewhere", kind: tokenstore.TokenActor, away: true, scopes: managementScopes})
	for _, scope := range managementScopes {
		actors = append(actors, permissionActor{name: "with " + scope, kind: tokenstore.TokenActor, scopes: []string{scope}})
	}
	return actors
}

// targets lists where the targets of a case are that make a difference to an actor.
func (k *permissionActor) targets(c *permissionCase) []string {
	switch {
	case k.away:
		return []string{atAway}
	case k.kind == tokenstore.TokenActor && k.scopes == nil && c.token:
		return []string{atItself, atOthers}
	case k.role != "" && c.owned && !k.disabled:
		return []string{atOwn, atOthers}
	default:
		return []string{atOthers}
	}
}

// may is what the page says of a verb: nothing of it looks at how the code
// decides.
func (k *permissionActor) may(d *documented, c *permissionCase, at string) bool {
	switch {
	case k.kind == tokenstore.OperatorActor && !k.behalf:
		return true
	case k.kind == "stranger", k.disabled:
		return false
	case k.behalf && k.role != "owner" && k.role != "admin": // T4
		return false
	case k.kind == tokenstore.TokenActor && at == atItself && d.self:
		return true
	case k.kind == tokenstore.TokenActor && (d.scope == "" || !slices.Contains(k.scopes, d.scope)):
		return false
	case at == atAway && !c.shared:
		return false
	case k.kind == tokenstore.TokenActor && k.role == "":
		return true
	default:
		return d.lets(k.role, at == atOwn)
	}
}

// expected is what the page says that an actor gets; empty: what was asked for.
func (k *permissionActor) expected(t *testing.T, table map[string]documented, c *permissionCase, at string) string {
	t.Helper()
	for _, verb := range c.verbs {
		d, ok := table[verb]
		require.True(t, ok, "%s: docs/security.md has no row for %s", c, verb)
		if verb == "policy.assign" && k.behalf {
			continue // an operator assigns it, for whomever they act
		}
		if k.may(&d, c, at) {
			continue
		}
		// D3: what is in another account is not there, for those who may do that at
		// all in their own.
		if at == atAway && c.record && !d.operatorsOnly() && (k.may(&d, c, atOthers) || k.may(&d, c, atOwn)) {
			return "404 not_found"
		}
		return "403 forbidden"
	}
	if c.neverOwn && at == atOwn && (k.kind != tokenstore.OperatorActor || k.behalf) {
		return "403 forbidden"
	}
	return ""
}

// permissionCase is one thing that a route does. A route that does several has
// several.
type permissionCase struct {
	operation string
	as        string // which of several
	verbs     []string
	// token: it is about one token. owned: it makes a difference whose it is.
	token, owned bool
	// record: a record of an account is named in the path.
	record bool
	// shared: it is about no account in particular.
	shared bool
	// neverOwn: nobody does it to themselves, whatever their role.
	neverOwn bool
	// alters: the account or its users are others afterwards.
	alters bool
	// route is the method and path, from the document.
	route   string
	request func(*permissionScene) asked
}

func (c *permissionCase) String() string {
	name := c.operation
	if c.as != "" {
		name += " (" + c.as + ")"
	}
	return name
}

// onToken is a case about one token.
func onToken(operation, verb string, request func(*permissionScene) asked) permissionCase {
	return permissionCase{operation: operation, verbs: []string{verb}, token: true, owned: true, record: true, request: request}
}

// onUser is a case about one user, who is another one afterwards.
func onUser(operation, as string, request func(*permissionScene) asked, verbs ...string) permissionCase {
	return permissionCase{operation: operation, as: as, verbs: verbs, owned: true, record: true, alters: true, request: request}
}

// onAccount is a case about the account itself.
func onAccount(operation, as string, request func(*permissionScene) asked, verbs ...string) permissionCase {
	return permissionCase{operation: operation, as: as, verbs: verbs, record: true, alters: true, request: request}
}

// within is a case about an account's records together.
func within(operation, verb string, request func(*permissionScene) asked) permissionCase {
	return permissionCase{operation: operation, verbs: []string{verb}, request: request}
}

// ofAll is a case about the gateway as a whole.
func ofAll(operation, verb string, request func(*permissionScene) asked) permissionCase {
	return permissionCase{operation: operation, verbs: []string{verb}, request: request}
}

func remove(path string) asked { return asked{method: http.MethodDelete, path: path} }

func version(v int64) string { return fmt.Sprintf("%q", fmt.Sprint(v)) }

// permissionCases has each route of the document, with the verbs that it is.
func permissionCases() []permissionCase {
	cases := slices.Concat(tokenCases(), accountCases(), gatewayCases())
	for _, verb := range []string{"show", "list"} {
		c := permissionCase{operation: "showRole", verbs: []string{"role.show"}, shared: true, request: func(*permissionScene) asked { return get("/roles/member") }}
		if verb == "list" {
			c.operation, c.verbs, c.request = "listRoles", []string{"role.list"}, func(*permissionScene) asked { return get("/roles") }
		}
		cases = append(cases, c)
	}
	return append(cases, permissionCase{operation: "listScopes", verbs: []string{"scope.list"}, shared: true, request: func(*permissionScene) asked { return get("/scopes") }})
}

func tokenCases() []permissionCase {
	owned := func(c permissionCase) permissionCase { c.owned = true; return c }
	at := func(method, suffix, body string, prepare func(*permissionScene, token.ID)) func(*permissionScene) asked {
		return func(s *permissionScene) asked {
			id := s.token().Token.ID
			if prepare != nil {
				prepare(s, id)
			}
			return asked{method: method, path: "/tokens/" + string(id) + suffix, body: body}
		}
	}
	rotated := func(s *permissionScene, id token.ID) {
		_, err := s.client().RotateToken(s.t.Context(), id, "", api.Rotation{Mode: token.RotateUntilConfirmed})
		require.NoError(s.t, err)
	}
	soon := func() string { return start.Add(24 * time.Hour).Format(time.RFC3339) }
	exemption := fmt.Sprintf(`{"reason":"yearly closing","until":%q}`, start.Add(90*24*time.Hour).Format(time.RFC3339))
	withLast4 := onToken("rotateToken", "token.rotate", func(s *permissionScene) asked {
		other := s.token() // to be given up, of the same user
		return post("/tokens/"+string(s.token().Token.ID)+"/rotate", fmt.Sprintf(`{"mode":"now","revoke_last4":%q,"confirm":true}`, *other.Token.Last4))
	})
	withLast4.as, withLast4.verbs, withLast4.token = "revoke_last4", []string{"token.rotate", "token.revoke"}, false
	createIn := func(more func(*permissionScene) string) func(*permissionScene) asked {
		return func(s *permissionScene) asked {
			return post("/tokens", fmt.Sprintf(`{"name":"new","account_id":%q,"user_id":%q,"access":"custom","scopes":["read"]%s}`, s.account, s.user(), more(s)))
		}
	}
	createWithLast4 := owned(within("createToken", "token.create", createIn(func(s *permissionScene) string {
		return fmt.Sprintf(`,"revoke_last4":%q,"confirm":true`, *s.token().Token.Last4)
	})))
	createWithLast4.as, createWithLast4.verbs = "revoke_last4", []string{"token.create", "token.revoke"}
	return []permissionCase{
		owned(within("createToken", "token.create", createIn(func(*permissionScene) string { return "" }))),
		createWithLast4,
		onToken("editToken", "token.edit", func(s *permissionScene) asked {
			issued := s.token()
			return patch("/tokens/"+string(issued.Token.ID), version(issued.Token.Version), `{"name":"renamed"}`)
		}),
		onToken("rotateToken", "token.rotate", at(http.MethodPost, "/rotate", `{"mode":"now"}`, nil)),
		withLast4,
		onToken("rollBackRotation", "token.rollback", at(http.MethodPost, "/rotation/rollback", "", rotated)),
		onToken("confirmRotation", "token.confirm", at(http.MethodPost, "/rotation/confirm", "", rotated)),
		onToken("extendRotation", "token.extend", at(http.MethodPost, "/rotation/extend", fmt.Sprintf(`{"previous_secret_expires_at":%q}`, soon()), rotated)),
		onToken("enableToken", "token.enable", at(http.MethodPost, "/enable", "", func(s *permissionScene, id token.ID) {
			_, err := s.client().DisableToken(s.t.Context(), id, true)
			require.NoError(s.t, err)
		})),
		onToken("disableToken", "token.disable", at(http.MethodPost, "/disable", "", nil)),
		onToken("revokeToken", "token.revoke", at(http.MethodPost, "/revoke", `{"confirm":true}`, nil)),
		onToken("deleteToken", "token.delete", at(http.MethodDelete, "?confirm=true", "", nil)),
		onToken("restoreToken", "token.restore", at(http.MethodPost, "/restore", "", func(s *permissionScene, id token.ID) {
			s.keep(id, authority.Keeping{Verb: authority.VerbDeleteUnused, End: token.EndUnused})
		})),
		onToken("undoDowngrade", "token.undo-downgrade", at(http.MethodPost, "/undo-downgrade", "", func(s *permissionScene, id token.ID) {
			was := s.grant("read", paymentsRead.Name)
			s.keep(id, authority.Keeping{Verb: authority.VerbDowngradeToken, Grant: ptr(s.grant("read")), History: func(h *tokenstore.History) {
				now := s.clock()
				h.DowngradedAt, h.LevelSince, h.UndoUntil, h.Before = now, now, now.Add(24*time.Hour), was
			}})
		})),
		onToken("exemptToken", "token.exempt", at(http.MethodPut, "/exemption", exemption, nil)),
		onToken("endExemption", "token.exempt", at(http.MethodDelete, "/exemption", "", func(s *permissionScene, id token.ID) {
			_, err := s.client().ExemptToken(s.t.Context(), id, api.Exemption{Reason: "yearly closing", Until: s.clock().Add(24 * time.Hour)})
			require.NoError(s.t, err)
		})),
		onToken("showToken", "token.show", at(http.MethodGet, "", "", nil)),
		onToken("tokenUsage", "token.usage", at(http.MethodGet, "/usage", "", nil)),
		onToken("recommendToken", "token.recommend", at(http.MethodGet, "/recommendation", "", nil)),
		onToken("showRotation", "token.rotation", at(http.MethodGet, "/rotation", "", nil)),
		owned(within("listTokens", "token.list", func(s *permissionScene) asked {
			return get("/tokens?account_id=" + string(s.account) + "&user_id=" + string(s.user()))
		})),
		{operation: "listTokens", as: "all of the account", verbs: []string{"token.list"}, request: func(s *permissionScene) asked {
			return get("/tokens?account_id=" + string(s.account))
		}},
		within("planLifecycle", "lifecycle.plan", func(s *permissionScene) asked {
			return get("/lifecycle/plan?account_id=" + string(s.account))
		}),
		{operation: "planLifecycle", as: "by another policy", verbs: []string{"lifecycle.plan", "policy.list"}, request: func(s *permissionScene) asked {
			return get("/lifecycle/plan?policy=default&account_id=" + string(s.account))
		}},
		ofAll("verifyToken", "token.verify", func(s *permissionScene) asked {
			return post("/tokens/verify", fmt.Sprintf(`{"secret":%q}`, s.token().Secret.Reveal()))
		}),
		ofAll("introspect", "token.verify", func(s *permissionScene) asked {
			return post("/introspect", "token="+s.token().Secret.Reveal()).with("Content-Type", "application/x-www-form-urlencoded")
		}),
		ofAll("reportLeaks", "token.leak", func(s *permissionScene) asked {
			return post("/leaks", fmt.Sprintf(`[{"token":%q}]`, s.token().Secret.Reveal()))
		}),
	}
}

func accountCases() []permissionCase {
	// Over HTTP a verb can be several of the table: all have to be allowed.
	const edit, switchIt = "account.edit", "account.switch"
	editAccount := func(body string) func(*permissionScene) asked {
		return func(s *permissionScene) asked {
			now, err := s.client().Account(s.t.Context(), s.account)
			require.NoError(s.t, err)
			return patch("/accounts/"+string(s.account), version(now.Version), body)
		}
	}
	editUser := func(body string) func(*permissionScene) asked {
		return func(s *permissionScene) asked {
			now, err := s.client().User(s.t.Context(), s.user())
			require.NoError(s.t, err)
			return patch("/users/"+string(s.user()), version(now.Version), body)
		}
	}
	userAt := func(method, suffix string) func(*permissionScene) asked {
		return func(s *permissionScene) asked {
			return asked{method: method, path: "/users/" + string(s.user()) + suffix}
		}
	}
	assign := onUser("editUser", "role", editUser(`{"role":"auditor"}`), "user.edit", "user.assign")
	assign.neverOwn = true
	units := onUser("editUser", "business units", editUser(`{"business_units":["billing"]}`), "user.edit", "user.assign")
	units.neverOwn = true
	// Only somebody else can be enabled: a disabled user asks for nothing.
	enable := onUser("enableUser", "", func(s *permissionScene) asked {
		_, err := s.client().DisableUser(s.t.Context(), s.user())
		require.NoError(s.t, err)
		return post("/users/"+string(s.user())+"/enable", "")
	}, "user.show", "user.edit", "user.switch")
	enable.owned = false
	// What changes nothing is no answer to whoever may not do it either.
	again := onUser("enableUser", "again", userAt(http.MethodPost, "/enable"), "user.show", "user.edit", "user.switch")
	accountAt := func(suffix string) func(*permissionScene) asked {
		return func(s *permissionScene) asked { return post("/accounts/"+string(s.account)+suffix, "") }
	}
	return []permissionCase{
		ofAll("createAccount", "account.create", func(*permissionScene) asked { return post("/accounts", `{"name":"New"}`) }),
		ofAll("listAccounts", "account.list", func(*permissionScene) asked { return get("/accounts") }),
		onAccount("showAccount", "", func(s *permissionScene) asked { return get("/accounts/" + string(s.account)) }, "account.show"),
		onAccount("editAccount", "name", editAccount(`{"name":"Renamed"}`), edit),
		onAccount("editAccount", "tokens_off", editAccount(`{"tokens_off":true}`), edit, switchIt),
		onAccount("editAccount", "policy", func(s *permissionScene) asked {
			return editAccount(fmt.Sprintf(`{"policy":%q}`, s.policy()))(s)
		}, edit, "policy.assign"),
		onAccount("disableAccount", "", accountAt("/disable"), "account.show", edit, switchIt),
		onAccount("enableAccount", "", func(s *permissionScene) asked {
			_, err := s.client().DisableAccount(s.t.Context(), s.account)
			require.NoError(s.t, err)
			return accountAt("/enable")(s)
		}, "account.show", edit, switchIt),
		onAccount("enableAccount", "again", accountAt("/enable"), "account.show", edit, switchIt),
		within("createUser", "user.create", func(s *permissionScene) asked {
			return post("/users", fmt.Sprintf(`{"account_id":%q,"name":"New","role":"member"}`, s.account))
		}),
		within("listUsers", "user.list", func(s *permissionScene) asked { return get("/users?account_id=" + string(s.account)) }),
		onUser("showUser", "", userAt(http.MethodGet, ""), "user.show"),
		onUser("editUser", "name", editUser(`{"name":"Renamed"}`), "user.edit"),
		assign,
		units,
		onUser("editUser", "tokens_off", editUser(`{"tokens_off":true}`), "user.edit", "user.switch"),
		onUser("disableUser", "", userAt(http.MethodPost, "/disable"), "user.show", "user.edit", "user.switch"),
		enable,
		again,
		onUser("showOTP", "", userAt(http.MethodGet, "/otp"), "user.show-otp"),
		onUser("enrolOTP", "", userAt(http.MethodPost, "/otp"), "user.enrol-otp"),
		onUser("confirmOTP", "", func(s *permissionScene) asked {
			begun, err := s.client().EnrolOTP(s.t.Context(), s.user())
			require.NoError(s.t, err)
			return post("/users/"+string(s.user())+"/otp/confirm", fmt.Sprintf(`{"otp":%q}`, s.code(begun.Secret)))
		}, "user.confirm-otp"),
		onUser("resetOTP", "", userAt(http.MethodDelete, "/otp"), "user.reset-otp"),
		within("listAudit", "audit.list", func(s *permissionScene) asked { return get("/audit?account_id=" + string(s.account)) }),
		within("listNotices", "notice.list", func(s *permissionScene) asked { return get("/notices?account_id=" + string(s.account)) }),
	}
}

func gatewayCases() []permissionCase {
	hook := func(method, suffix, body string, rotated bool) func(*permissionScene) asked {
		return func(s *permissionScene) asked {
			id := s.webhook()
			if rotated {
				_, err := s.client().RotateWebhook(s.t.Context(), id, api.WebhookRotation{GracePeriodSeconds: ptr(int64(3600))})
				require.NoError(s.t, err)
			}
			return asked{method: method, path: "/webhooks/" + string(id) + suffix, body: body}
		}
	}
	return []permissionCase{
		ofAll("createRole", "role.create", func(s *permissionScene) asked {
			return post("/roles", fmt.Sprintf(`{"name":%q,"access":"read_only"}`, s.name("r")))
		}),
		ofAll("editRole", "role.edit", func(s *permissionScene) asked { return patch("/roles/"+s.role(), `"1"`, `{"tokens_off":true}`) }),
		ofAll("deleteRole", "role.delete", func(s *permissionScene) asked { return remove("/roles/" + s.role()) }),
		ofAll("listPolicies", "policy.list", func(*permissionScene) asked { return get("/policies") }),
		ofAll("showPolicy", "policy.show", func(*permissionScene) asked { return get("/policies/default") }),
		ofAll("createPolicy", "policy.create", func(s *permissionScene) asked { return post("/policies", fmt.Sprintf(`{"name":%q}`, s.name("p"))) }),
		ofAll("editPolicy", "policy.edit", func(s *permissionScene) asked {
			return patch("/policies/"+s.policy(), `"1"`, `{"max_secrets_per_user":3}`)
		}),
		ofAll("deletePolicy", "policy.delete", func(s *permissionScene) asked { return remove("/policies/" + s.policy()) }),
		{operation: "previewPolicy", verbs: []string{"lifecycle.plan", "policy.show"}, request: func(s *permissionScene) asked {
			return post("/policies/default/preview", fmt.Sprintf(`{"account_id":%q}`, s.account))
		}},
		ofAll("verifyAudit", "audit.verify", func(*permissionScene) asked { return post("/audit/verify", "") }),
		ofAll("listWebhooks", "webhook.list", func(*permissionScene) asked { return get("/webhooks") }),
		ofAll("showWebhook", "webhook.show", hook(http.MethodGet, "", "", false)),
		ofAll("createWebhook", "webhook.create", func(s *permissionScene) asked {
			return post("/webhooks", fmt.Sprintf(`{"url":%q}`, "http://127.0.0.1:1/"+s.name("w")))
		}),
		ofAll("editWebhook", "webhook.edit", func(s *permissionScene) asked {
			return patch("/webhooks/"+string(s.webhook()), `"1"`, `{"disabled":true}`)
		}),
		ofAll("rotateWebhook", "webhook.rotate", hook(http.MethodPost, "/rotate", "", false)),
		ofAll("confirmWebhook", "webhook.confirm", hook(http.MethodPost, "/confirm", "", true)),
		ofAll("rollBackWebhook", "webhook.rollback", hook(http.MethodPost, "/rollback", "", true)),
		ofAll("testWebhook", "webhook.test", hook(http.MethodPost, "/test", "", false)),
		ofAll("deleteWebhook", "webhook.delete", hook(http.MethodDelete, "", "", false)),
		{operation: "applyLifecycle", verbs: []string{"lifecycle.apply", "lifecycle.coverage"}, request: func(*permissionScene) asked { return post("/lifecycle/apply", "") }},
		ofAll("showCoverage", "lifecycle.coverage", func(*permissionScene) asked { return get("/lifecycle/coverage") }),
		ofAll("listNodes", "node.list", func(*permissionScene) asked { return get("/nodes") }),
		ofAll("retireNode", "node.retire", func(s *permissionScene) asked {
			id := s.name("node")
			require.NoError(s.t, s.store.Write(s.t.Context(), func(tx *tokenstore.Tx) error {
				return tx.PutNode(tokenstore.Node{ID: id, StartedAt: s.clock().Add(-90 * 24 * time.Hour), SeenAt: s.clock().Add(-60 * 24 * time.Hour)})
			}))
			return post("/nodes/"+id+"/retire", `{"accept_gap":true,"confirm":true}`)
		}),
	}
}

// permissionScene is a gateway with an account and somebody who asks.
type permissionScene struct {
	*gateway
	actor   permissionActor
	account token.ID // of the target
	me      token.ID // the user who asks
	asking  token.ID // the token that asks
	other   token.ID // another user of the account
	stale   bool     // the account and who asks are not what they were

	at     string
	record string // the ID of the user or token that it is about
}

var paymentsRead = token.Scope{Name: "payments:read", Nature: token.Read}

// permissionGateway is one that does all that there are routes for.
func permissionGateway(t *testing.T) *gateway {
	t.Helper()
	g := attended(t)
	require.NoError(t, g.declareScopes(paymentsRead))
	g.authority.Webhooks = &notify.Webhooks{Store: g.store, Ring: g.authority.Ring, Now: g.clock, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	return g
}

// settle makes an account anew, with who asks.
func (s *permissionScene) settle() {
	s.t.Helper()
	s.account = s.gateway.account().ID
	home := s.account
	if s.actor.away {
		home = s.gateway.account().ID
	}
	s.me, s.asking, s.other = "", "", s.newUser(s.account, "member")
	if s.actor.role != "" {
		s.me = s.newUser(home, s.actor.role)
	}
	if s.actor.kind == tokenstore.TokenActor {
		// It holds what the targets do, so that nothing but the table is in its way.
		s.asking = s.newToken(home, s.me, append([]string{paymentsRead.Name, "read"}, s.actor.scopes...)...).Token.ID
	}
	if s.actor.disabled {
		_, err := s.client().DisableUser(s.t.Context(), s.me)
		require.NoError(s.t, err)
	}
}

func (s *permissionScene) newUser(account token.ID, role string) token.ID {
	s.t.Helper()
	u, err := s.client().CreateUser(s.t.Context(), api.NewUser{AccountID: account, Name: "Somebody", Role: role})
	require.NoError(s.t, err)
	return u.ID
}

func (s *permissionScene) newToken(account, user token.ID, scopes ...string) api.Issued {
	s.t.Helper()
	i, err := s.client().CreateToken(s.t.Context(), "", api.NewToken{Name: "export", AccountID: account, UserID: user, Access: token.Custom, Scopes: scopes, IPAllowlist: []string{"192.0.2.0/24"}})
	require.NoError(s.t, err)
	return i
}

// user is whom the case is about, or whose token.
func (s *permissionScene) user() token.ID {
	if s.at == atOwn {
		s.record = string(s.me)
		return s.me
	}
	s.record = string(s.other)
	return s.other
}

// token is the one that the case is about: new, unless it is the one that asks.
func (s *permissionScene) token() api.Issued {
	s.t.Helper()
	if s.at == atItself {
		v, err := s.client().Token(s.t.Context(), s.asking)
		require.NoError(s.t, err)
		s.record = string(s.asking)
		return api.Issued{Token: v}
	}
	i := s.newToken(s.account, s.user(), "read")
	s.record = string(i.Token.ID)
	return i
}

func (s *permissionScene) grant(scopes ...string) token.Grant {
	s.t.Helper()
	g, err := token.NewGrant(token.Custom, scopes, func(name string) (token.Scope, bool) {
		return paymentsRead, name == paymentsRead.Name
	})
	require.NoError(s.t, err)
	return g
}

// keep does what the lifecycle does.
func (s *permissionScene) keep(id token.ID, k authority.Keeping) {
	s.t.Helper()
	by := authority.By{Actor: tokenstore.Actor{Kind: tokenstore.SystemActor, Name: "lifecycle", Verified: true}}
	require.NoError(s.t, s.authority.Keep(s.t.Context(), by, id, func(*tokenstore.Tx, *tokenstore.Subject) ([]authority.Keeping, error) {
		return []authority.Keeping{k}, nil
	}))
}

func (s *permissionScene) name(prefix string) string {
	id, err := s.newID(prefix)
	require.NoError(s.t, err)
	return string(id)
}

func (s *permissionScene) policy() string {
	s.t.Helper()
	p, err := s.client().CreatePolicy(s.t.Context(), api.NewPolicy{Name: s.name("p")})
	require.NoError(s.t, err)
	return p.Name
}

func (s *permissionScene) role() string {
	s.t.Helper()
	r, err := s.client().CreateRole(s.t.Context(), api.NewRole{Name: s.name("r"), Access: token.ReadOnly})
	require.NoError(s.t, err)
	return r.Name
}

// webhook makes the only one: there can not be many.
func (s *permissionScene) webhook() token.ID {
	s.t.Helper()
	all, err := s.client().Webhooks(s.t.Context())
	require.NoError(s.t, err)
	for i := range all {
		_, err := s.client().DeleteWebhook(s.t.Context(), all[i].ID)
		require.NoError(s.t, err)
	}
	w, err := s.client().CreateWebhook(s.t.Context(), api.NewWebhook{URL: "http://127.0.0.1:1/" + s.name("w")})
	require.NoError(s.t, err)
	return w.Webhook.ID
}

func (s *permissionScene) code(secret string) string {
	s.t.Helper()
	code, err := totp.GenerateCode(secret, s.clock())
	require.NoError(s.t, err)
	return code
}

// head is the end of the audit log.
func (s *permissionScene) head() (head tokenstore.AuditHead) {
	s.t.Helper()
	require.NoError(s.t, s.store.Read(s.t.Context(), func(tx *tokenstore.Tx) (err error) {
		head, err = tx.AuditHead()
		return err
	}))
	return head
}

// ask sends a request as who asks, and says in a line what came of it.
func (s *permissionScene) ask(a asked) (outcome, detail string) {
	s.t.Helper()
	actor := tokenstore.Actor{Kind: s.actor.kind, Name: "ada", Verified: true, Address: "127.0.0.1"}
	switch {
	case s.actor.behalf:
		a = a.with(api.RequestedByHeader, string(s.me))
	case s.actor.kind == tokenstore.UserActor:
		actor.Name = string(s.me)
	case s.actor.kind == tokenstore.TokenActor:
		actor.Name = string(s.asking)
	}
	operator := s.identify
	s.identify = func(*http.Request) (tokenstore.Actor, error) { return actor, nil }
	defer func() { s.identify = operator }()
	w := s.do(a)
	if w.Code < 400 {
		return fmt.Sprint(w.Code), ""
	}
	p := problemOf(s.t, w)
	return fmt.Sprintf("%d %s", p.Status, p.Code), p.Detail
}

// try carries a case out and compares with what the page says.
func (s *permissionScene) try(t *testing.T, c *permissionCase, at, want string) string {
	t.Helper()
	if s.stale {
		s.settle()
	}
	s.stale = c.alters || at == atItself
	s.at, s.record = at, ""
	a := c.request(s)
	before := s.head()
	got, detail := s.ask(a)
	about := fmt.Sprintf("%s by %s on %s: %s", c, s.actor.name, at, detail)
	if want == "" {
		if !strings.HasPrefix(got, "2") {
			t.Errorf("%s\ngot %s; docs/security.md allows it", about, got)
		}
		return got
	}
	if got != want {
		t.Errorf("%s\ngot %s; by docs/security.md it is %s", about, got, want)
	}
	if now := s.head(); now != before {
		t.Errorf("%s\nit was refused, and yet something changed", about)
	}
	// D3: it can not be told from what is nowhere.
	if at == atAway && c.record {
		require.NotEmpty(t, s.record+string(s.account))
		id := s.record
		if !strings.Contains(a.path, id) || id == "" {
			id = string(s.account)
		}
		require.Contains(t, a.path, id, about)
		prefix, _, _ := strings.Cut(id, "_")
		a.path = strings.Replace(a.path, id, prefix+"_"+strings.Repeat("9", 26), 1)
		nowhere, why := s.ask(a)
		if nowhere != got || why != detail {
			t.Errorf("%s\ngot %s, but for what is nowhere %s: %s", about, got, nowhere, why)
		}
	}
	return got
}

// T2 to T8, D2, D3: each route of the document, for everyone who can ask, does what
// the table of docs/security.md says, and changes nothing when it says no. The
// golden file is what the reviewer of a change reads.
func TestThePermissionOfEveryRouteForEveryActor(t *testing.T) {
	table, cases, actors := readPermissions(t), permissionCases(), permissionActors()
	routesOf(t, cases)
	results := make([][][]permissionResult, len(actors)) // by actor and case
	t.Run("actors", func(t *testing.T) {
		const gateways = 3 // to make one takes longer than an actor does
		for n := range gateways {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				g := permissionGateway(t)
				for i := n; i < len(actors); i += gateways {
					results[i] = walk(t, g, &actors[i], table, cases)
				}
			})
		}
	})
	var b strings.Builder
	for j := range cases {
		fmt.Fprintf(&b, "%s, %s: %s\n", cases[j].route, &cases[j], strings.Join(cases[j].verbs, " and "))
		who := map[string][]string{}
		for i := range actors {
			on := map[string][]string{}
			for _, r := range results[i][j] {
				on[r.outcome] = append(on[r.outcome], r.at)
			}
			for outcome, targets := range on {
				name := actors[i].name
				if len(on) > 1 {
					name += " on " + targets[0]
				}
				who[outcome] = append(who[outcome], name)
			}
		}
		for _, outcome := range slices.Sorted(maps.Keys(who)) {
			fmt.Fprintf(&b, "  %s: %s\n", outcome, strings.Join(who[outcome], ", "))
		}
	}
	const path = "testdata/permissions.txt"
	if *update && !t.Failed() {
		require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("%s differs; if that is meant: go test ./api -run Permission -update (-golden +now)\n%s", path, diff)
	}
}

// permissionResult is what came of a case on one target.
type permissionResult struct{ at, outcome string }

// walk has an actor try all cases.
func walk(t *testing.T, g *gateway, k *permissionActor, table map[string]documented, cases []permissionCase) [][]permissionResult {
	t.Helper()
	s := &permissionScene{gateway: g, actor: *k, stale: true}
	results := make([][]permissionResult, len(cases))
	for j := range cases {
		for _, at := range k.targets(&cases[j]) {
			want := k.expected(t, table, &cases[j], at)
			results[j] = append(results[j], permissionResult{at, s.try(t, &cases[j], at, want)})
		}
	}
	return results
}

// anonymousRoutes ask nobody who they are.
var anonymousRoutes = []string{"health"}

// routesOf names the route of each case, and fails for an operation of the
// document that has no case, and for a case that is of none.
func routesOf(t *testing.T, cases []permissionCase) {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(newGateway(t).document)
	require.NoError(t, err)
	routes, about := map[string]string{}, map[string][]string{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			routes[op.OperationID] = method + " " + path
		}
	}
	for i := range cases {
		c := &cases[i]
		route, ok := routes[c.operation]
		require.True(t, ok, "there is no operation %s", c.operation)
		c.route = route
		about[c.operation] = append(about[c.operation], c.verbs...)
	}
	for operation, route := range routes {
		if slices.Contains(anonymousRoutes, operation) {
			continue
		}
		if len(about[operation]) == 0 {
			t.Errorf("%s (%s) has no case here: say which verbs of docs/security.md it is", operation, route)
		}
	}
}

// What is in the table but no route does is done from the command line, where there
// is the configuration or the master keys.
func TestEveryVerbOfThePermissionTableHasARouteOrIsLocal(t *testing.T) {
	local := regexp.MustCompile(`^(master_key\..*|config\.declare)$`)
	var routed []string
	for _, c := range permissionCases() {
		routed = append(routed, c.verbs...)
	}
	for verb := range readPermissions(t) {
		if slices.Contains(routed, verb) == local.MatchString(verb) {
			t.Errorf("%s: no route does it, or one does what is local", verb)
		}
	}
}

// stepUpScene is an account under a policy that wants a code for every verb that it
// can want one for.
func stepUpScene(t *testing.T, k permissionActor) *permissionScene {
	t.Helper()
	g := permissionGateway(t)
	p := token.DefaultPolicy()
	p.StepUp = token.PolicyVerbs()
	require.NoError(t, g.declare(authority.Declarations{Policies: []token.Policy{p}, Scopes: []token.Scope{paymentsRead}}))
	s := &permissionScene{gateway: g, actor: k}
	s.settle()
	return s
}

// enrol gives the user who asks an authenticator app, and returns its secret.
func (s *permissionScene) enrol() string {
	s.t.Helper()
	begun, err := s.client().EnrolOTP(s.t.Context(), s.me)
	require.NoError(s.t, err)
	_, err = s.client().ConfirmOTP(s.t.Context(), s.me, s.code(begun.Secret))
	require.NoError(s.t, err)
	s.wait(time.Minute) // so that the first code is over
	return begun.Secret
}

// wrongCode is none that is right around now.
func (s *permissionScene) wrongCode(secret string) string {
	s.t.Helper()
	var right []string
	for _, d := range []time.Duration{-30 * time.Second, 0, 30 * time.Second} {
		code, err := totp.GenerateCode(secret, s.clock().Add(d))
		require.NoError(s.t, err)
		right = append(right, code)
	}
	for i := 0; ; i++ {
		if code := fmt.Sprintf("%06d", i); !slices.Contains(right, code) {
			return code
		}
	}
}

// stepUpCases are the cases that the policy of a stepUpScene wants a code for, and
// those besides that change no account.
func stepUpCases(table map[string]documented) (with, without []permissionCase) {
	for _, c := range permissionCases() {
		switch {
		case table[c.verbs[0]].allow:
			with = append(with, c)
		case !c.alters:
			without = append(without, c)
		}
	}
	return with, without
}

// R10, R17, D9, D10: each route whose verb the policy's step_up names takes a code of
// the user who asks, or in whose name an operator does: none, a wrong one and a used
// one are refused, each by name, and a right one is used up by what it was given for.
func TestEveryRouteThatStepUpNamesTakesAOneTimeCode(t *testing.T) {
	table := readPermissions(t)
	with, without := stepUpCases(table)
	var verbs []string
	for _, c := range with {
		for _, verb := range c.verbs {
			_, name, _ := strings.Cut(verb, ".")
			verbs = append(verbs, name)
		}
	}
	require.Subset(t, verbs, token.PolicyVerbs(), "every verb that step_up can name has a route")
	for _, k := range []permissionActor{
		{name: "owner", kind: tokenstore.UserActor, role: "owner"},
		{name: "operator for owner", kind: tokenstore.OperatorActor, role: "owner", behalf: true},
	} {
		t.Run(k.name, func(t *testing.T) {
			s := stepUpScene(t, k)
			// Whoever has no codes can not step up.
			s.at = atOthers
			for i := range with {
				s.refusedWithout(&with[i], "", "403 step_up_required")
			}
			secret := s.enrol()
			for i := range with {
				c := &with[i]
				s.refusedWithout(c, "", "403 step_up_required")
				s.refusedWithout(c, s.wrongCode(secret), "401 invalid_otp")
				code := s.code(secret)
				got, detail := s.ask(c.request(s).with(api.OTPHeader, code))
				require.Regexp(t, "^2", got, "%s: %s", c, detail)
				s.refusedWithout(c, code, "401 code_used")
				s.wait(20 * time.Minute) // past the window in which wrong codes are counted
			}
			for i := range without {
				c := &without[i]
				if k.expected(t, table, c, atOthers) != "" {
					continue
				}
				got, detail := s.ask(c.request(s))
				require.Regexp(t, "^2", got, "%s takes no code: %s", c, detail)
			}
		})
	}
}

// refusedWithout sends the request of a case with a code that does not do, which
// changes nothing; a wrong code is counted.
func (s *permissionScene) refusedWithout(c *permissionCase, code, want string) {
	s.t.Helper()
	a := c.request(s)
	if code != "" {
		a = a.with(api.OTPHeader, code)
	}
	before := s.head()
	got, detail := s.ask(a)
	require.Equal(s.t, want, got, "%s by %s: %s", c, s.actor.name, detail)
	entries := s.head().Seq - before.Seq
	if want == "401 invalid_otp" {
		entries--
	}
	require.Zero(s.t, entries, "%s by %s was refused, and yet something changed", c, s.actor.name)
}

// D10: an operator in their own name gives no code, and a token has none to give, not
// even for itself, whatever comes along.
func TestStepUpBindsNoOperatorInTheirOwnNameAndShutsTokensOut(t *testing.T) {
	table := readPermissions(t)
	with, _ := stepUpCases(table)
	t.Run("operator", func(t *testing.T) {
		s := stepUpScene(t, permissionActor{name: "operator", kind: tokenstore.OperatorActor})
		s.at = atOthers
		for i := range with {
			got, detail := s.ask(with[i].request(s))
			require.Regexp(t, "^2", got, "%s: %s", &with[i], detail)
		}
	})
	for _, k := range []permissionActor{
		{name: "manager of owner", kind: tokenstore.TokenActor, role: "owner", scopes: managementScopes},
		{name: "manager of the account", kind: tokenstore.TokenActor, scopes: managementScopes},
		{name: "plain token", kind: tokenstore.TokenActor},
	} {
		t.Run(k.name, func(t *testing.T) {
			s := stepUpScene(t, k)
			code := "000000"
			if k.role != "" {
				code = s.code(s.enrol())
			}
			for i := range with {
				c := &with[i]
				at := k.targets(c)[0]
				if k.expected(t, table, c, at) != "" {
					continue // it is refused anyway
				}
				s.at = at
				s.refusedWithout(c, "", "403 step_up_required")
				s.refusedWithout(c, code, "403 step_up_required")
			}
		})
	}
}
