package api_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

func (g *gateway) declare(d authority.Declarations) error {
	by := authority.By{Actor: tokenstore.Actor{Kind: tokenstore.SystemActor, Name: "configuration", Verified: true}}
	return g.authority.Declare(g.t.Context(), by, d)
}

func (g *gateway) declarePolicy(change func(*token.Policy)) error {
	p := token.DefaultPolicy()
	change(&p)
	return g.declare(authority.Declarations{Policies: []token.Policy{p}})
}

func (g *gateway) declareScopes(scopes ...token.Scope) error {
	return g.declare(authority.Declarations{Scopes: scopes})
}

func TestAccountsAreCreatedEditedAndSwitched(t *testing.T) {
	g := newGateway(t)
	created, header := granted[api.Account](g, post("/accounts", `{"name":"Example Ltd"}`), http.StatusCreated)
	want := api.Account{ID: created.ID, Name: "Example Ltd", Policy: "default", State: "active", CreatedAt: start, UpdatedAt: start, Version: 1}
	if diff := cmp.Diff(want, created); diff != "" {
		t.Errorf("created account (-want +got):\n%s", diff)
	}
	require.Equal(t, `"1"`, header.Get("ETag"))

	path := "/accounts/" + string(created.ID)
	edited, _ := granted[api.Account](g, patch(path, `"1"`, `{"name":"Renamed"}`), http.StatusOK)
	require.Equal(t, "Renamed", edited.Name)
	g.refused(patch(path, `"1"`, `{"name":"late"}`), http.StatusPreconditionFailed, "version_mismatch")
	g.refused(patch(path, `"2"`, `{"policy":"no-such"}`), http.StatusUnprocessableEntity, "invalid_field")
	for range 2 {
		off, _ := granted[api.Account](g, post(path+"/disable", ""), http.StatusOK)
		require.Equal(t, "disabled", off.State)
		require.EqualValues(t, 3, off.Version)
	}
	on, _ := granted[api.Account](g, post(path+"/enable", "{}"), http.StatusOK)
	require.Equal(t, "active", on.State)
	shown, _ := granted[api.Account](g, get(path), http.StatusOK)
	require.Equal(t, on, shown)
	list, _ := granted[api.Page[api.Account]](g, get("/accounts?limit=1"), http.StatusOK)
	require.Equal(t, []api.Account{on}, list.Items)
}

func TestUsersAreCreatedEditedAndSwitched(t *testing.T) {
	g := newGateway(t)
	c := g.client()
	account := g.account()
	created, err := c.CreateUser(t.Context(), api.NewUser{AccountID: account.ID, Name: "Ada", Email: "ada@example.com", Role: "member", BusinessUnits: []string{"billing"}})
	require.NoError(t, err)
	want := api.User{
		ID: created.ID, AccountID: account.ID, Name: "Ada", Email: "ada@example.com", Role: "member",
		BusinessUnits: []string{"billing"}, State: "active", CreatedAt: start, UpdatedAt: start, Version: 1,
	}
	if diff := cmp.Diff(want, created); diff != "" {
		t.Errorf("created user (-want +got):\n%s", diff)
	}
	edited, err := c.EditUser(t.Context(), created.ID, 1, api.UserEdit{Role: ptr("auditor"), BusinessUnits: ptr([]string{})})
	require.NoError(t, err)
	require.Equal(t, "auditor", edited.Role)
	require.Empty(t, edited.BusinessUnits)
	off, err := c.DisableUser(t.Context(), created.ID)
	require.NoError(t, err)
	require.Equal(t, "disabled", off.State)
	on, err := c.EnableUser(t.Context(), created.ID)
	require.NoError(t, err)
	shown, err := c.User(t.Context(), created.ID)
	require.NoError(t, err)
	require.Equal(t, on, shown)

	var names []string
	for u, err := range c.Users(t.Context(), account.ID) {
		require.NoError(t, err)
		names = append(names, u.Name)
	}
	require.Equal(t, []string{"Ada"}, names)
	p := g.refused(post("/users", `{"account_id":"`+string(account.ID)+`","name":"Bo","role":"member","business_units":["ok","a b"]}`), http.StatusUnprocessableEntity, "invalid_field")
	require.Equal(t, "/business_units/1", p.Errors[0].Pointer)
	g.do(get("/users/" + string(created.ID)))
	g.do(get("/users"))
}

func TestASwitchIsNotLostToAnEditThatComesBetween(t *testing.T) {
	g := newGateway(t)
	c := g.client()
	account := g.account()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			now, err := c.Account(t.Context(), account.ID)
			if err == nil {
				_, _ = c.EditAccount(t.Context(), account.ID, now.Version, api.AccountEdit{Name: ptr("n" + now.UpdatedAt.String())})
			}
		})
	}
	_, err := c.DisableAccount(t.Context(), account.ID)
	require.NoError(t, err)
	wg.Wait()
	now, err := c.Account(t.Context(), account.ID)
	require.NoError(t, err)
	require.Equal(t, "disabled", now.State)
}

func TestWhatIsDeclaredIsListed(t *testing.T) {
	g := newGateway(t)
	limit := 90 * 24 * time.Hour
	policy := token.DefaultPolicy()
	policy.Name, policy.MaxLifetime = "strict", limit
	require.NoError(t, g.declare(authority.Declarations{
		Policies: []token.Policy{policy},
		Scopes:   []token.Scope{{Name: "payments:read", Nature: token.Read}},
	}))
	for _, path := range []string{"/roles", "/policies", "/scopes", "/nodes"} {
		g.do(get(path)) // against the document
	}
	c := g.client()
	scopes, err := c.Scopes(t.Context())
	require.NoError(t, err)
	require.Equal(t, []api.Scope{
		{Name: "read", Nature: token.Read, BuiltIn: true},
		{Name: "write", Nature: token.Write, BuiltIn: true},
		{Name: "sallyport:tokens:read", Nature: token.Read, BuiltIn: true},
		{Name: "sallyport:tokens:write", Nature: token.Write, BuiltIn: true},
		{Name: "sallyport:users:read", Nature: token.Read, BuiltIn: true},
		{Name: "sallyport:audit:read", Nature: token.Read, BuiltIn: true},
		{Name: "payments:read", Nature: token.Read, ManagedByConfig: true},
	}, scopes)
	policies, err := c.Policies(t.Context())
	require.NoError(t, err)
	found := map[string]api.Policy{}
	for _, p := range policies {
		found[p.Name] = p
	}
	require.Nil(t, found["default"].MaxLifetimeSeconds)
	require.False(t, found["default"].ManagedByConfig)
	require.EqualValues(t, 86400, found["default"].GraceDefaultSeconds)
	require.Equal(t, ptr(int64(limit/time.Second)), found["strict"].MaxLifetimeSeconds)
	require.True(t, found["strict"].ManagedByConfig)
	roles, err := c.Roles(t.Context())
	require.NoError(t, err)
	require.Len(t, roles, 4)
}

func TestNodesAreListedWithTheIDsOfTheirKeysOnly(t *testing.T) {
	g := newGateway(t)
	nodes, err := g.client().Nodes(t.Context())
	require.NoError(t, err)
	require.Empty(t, nodes)
	require.NoError(t, g.store.Write(t.Context(), func(tx *tokenstore.Tx) error {
		return tx.PutNode(tokenstore.Node{ID: "node-1", StartedAt: start, SeenAt: start.Add(time.Second), Keys: map[string]string{"k2": "check-2", "k1": "check-1"}})
	}))
	w := g.do(get("/nodes"))
	require.JSONEq(t, `{"items":[{"id":"node-1","state":"running","started_at":"2026-11-22T12:00:00Z","seen_at":"2026-11-22T12:00:01Z","master_key_ids":["k1","k2"],"covered_through":null,"last_contact":null,"serves_until":null,"lost_runs":0}]}`, w.Body.String())
}

func TestATokenOfAUserNamesTheUser(t *testing.T) {
	g := newGateway(t)
	c := g.client()
	account := g.account()
	user, err := c.CreateUser(t.Context(), api.NewUser{AccountID: account.ID, Name: "Ada", Role: "member"})
	require.NoError(t, err)
	issued, err := c.CreateToken(t.Context(), "", api.NewToken{Name: "export", AccountID: account.ID, UserID: user.ID, Access: token.ReadOnly})
	require.NoError(t, err)
	require.Equal(t, &user.ID, issued.Token.UserID)
	for item, err := range c.Tokens(t.Context(), api.TokenFilter{UserID: user.ID}) {
		require.NoError(t, err)
		require.Equal(t, issued.Token, item)
	}
}

func TestAccountsAreWalkedPageByPage(t *testing.T) {
	g := newGateway(t)
	c := g.client()
	var want, got []token.ID
	for range 3 {
		want = append([]token.ID{g.account().ID}, want...)
	}
	for a, err := range c.Accounts(t.Context()) {
		require.NoError(t, err)
		got = append(got, a.ID)
	}
	require.Equal(t, want, got)
	first, err := c.AccountPage(t.Context(), "", 2)
	require.NoError(t, err)
	require.NotEmpty(t, first.NextCursor)
	second, err := c.AccountPage(t.Context(), first.NextCursor, 2)
	require.NoError(t, err)
	require.Equal(t, want[2], second.Items[0].ID)
	_, err = c.DisableAccount(t.Context(), want[0])
	require.NoError(t, err)
	on, err := c.EnableAccount(t.Context(), want[0])
	require.NoError(t, err)
	require.Equal(t, "active", on.State)
}

func TestTheAuditLogNamesWhoAskedAndUnderWhichRequest(t *testing.T) {
	g := newGateway(t)
	c := g.client()
	c.Operator = "ada"
	account, err := c.CreateAccount(t.Context(), api.NewAccount{Name: "Example Ltd"})
	require.NoError(t, err)
	w := g.do(post("/accounts/"+string(account.ID)+"/disable", ""))

	var entries []api.AuditEntry
	for e, err := range c.Audit(t.Context(), api.AuditFilter{Target: string(account.ID), Limit: 1}) {
		require.NoError(t, err)
		entries = append(entries, e)
	}
	require.Len(t, entries, 2)
	require.Equal(t, "account.edit", entries[0].Verb)
	require.Equal(t, w.Header().Get("X-Request-Id"), entries[0].RequestID)
	require.Equal(t, "account.create", entries[1].Verb)
	require.Equal(t, api.Actor{Kind: "operator", Name: "ada", Address: "127.0.0.1"}, entries[1].Actor)
	require.Equal(t, account.ID, *entries[1].AccountID)
	require.Contains(t, string(entries[1].After), "Example Ltd")

	one, _ := granted[api.Page[api.AuditEntry]](g, get("/audit?verb=account.edit&account_id="+string(account.ID)+"&after=2026-11-22T11:00:00Z&before=2026-11-22T13:00:00Z"), http.StatusOK)
	require.Len(t, one.Items, 1)
	none, _ := granted[api.Page[api.AuditEntry]](g, get("/audit?after=2026-11-22T13:00:00Z"), http.StatusOK)
	require.Empty(t, none.Items)
}

func TestTheAuditChainIsCheckedAgainstAnEarlierHead(t *testing.T) {
	g := newGateway(t)
	c := g.client()
	g.account()
	before, err := c.VerifyAudit(t.Context(), nil)
	require.NoError(t, err)
	require.True(t, before.Valid)
	require.NotNil(t, before.Head.At)
	g.account()
	after, err := c.VerifyAudit(t.Context(), &before.Head)
	require.NoError(t, err)
	require.True(t, after.Valid)
	require.Equal(t, before.Entries+1, after.Entries)

	forged := before.Head
	forged.Hash = forged.MAC
	found, err := c.VerifyAudit(t.Context(), &forged)
	require.NoError(t, err)
	require.False(t, found.Valid)
	require.NotEmpty(t, found.Problems)
	g.do(post("/audit/verify", ""))
	p := g.refused(post("/audit/verify", `{"earlier_head":{"seq":1,"at":null,"key_id":"k","hash":"zz","mac":"zz","extra":1}}`), http.StatusUnprocessableEntity, "invalid_field")
	require.Equal(t, "/earlier_head/extra", p.Errors[0].Pointer)
}

func TestHealthIsAnAnswerAlsoWhenItIsBad(t *testing.T) {
	g := newGateway(t)
	h, err := g.client().Health(t.Context())
	require.NoError(t, err)
	require.Equal(t, api.Health{Status: "ready", Checks: []api.Check{}}, h)

	degraded := api.Check{Name: "clock", Status: api.Degraded}
	g.health = api.HealthOf(api.Check{Name: "feed", Status: api.Ready}, degraded, api.Check{Name: "mail", Status: api.Ready})
	h, err = g.client().Health(t.Context())
	require.NoError(t, err)
	require.Equal(t, api.Degraded, h.Status)
	require.Equal(t, http.StatusOK, g.do(get("/health")).Code, "it still does what it promises")

	g.health = api.HealthOf(api.Check{Name: "store", Status: api.NotReady, Detail: "can not be reached"}, degraded)
	w := g.do(get("/health"))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	h, err = g.client().Health(t.Context())
	require.NoError(t, err)
	require.Equal(t, api.NotReady, h.Status)
}

func TestAPolicyIsShownWithEveryRuleThatIsInForce(t *testing.T) {
	g := newGateway(t)
	own, ok := token.Preset("own")
	require.True(t, ok)
	own.Allow["rotate"] = []string{}
	require.NoError(t, g.declare(authority.Declarations{Policies: []token.Policy{own}}))
	g.do(get("/policies")) // against the document
	policies, err := g.client().Policies(t.Context())
	require.NoError(t, err)
	found := map[string]api.Policy{}
	for _, p := range policies {
		found[p.Name] = p
		require.Len(t, p.Allow, len(token.PolicyVerbs()), p.Name)
		require.Len(t, p.Notify, len(token.Events()), p.Name)
	}
	byDefault := found["default"]
	require.Nil(t, byDefault.MaxSecretsPerAccount)
	require.Nil(t, byDefault.MaxSecretsPerUser)
	require.Equal(t, ptr(int64(45*86400)), byDefault.DeleteUnusedSeconds)
	require.Equal(t, []int64{30 * 86400, 7 * 86400, 86400}, byDefault.ExpiryWarningsSeconds)
	require.EqualValues(t, 7*86400, byDefault.NoticeSeconds)
	require.True(t, byDefault.DowngradeUndo)
	require.Equal(t, []token.Class{token.ClassAdmins}, byDefault.Notify[token.EventDeletionNotice])

	require.Equal(t, ptr(1), found["own"].MaxSecretsPerUser)
	require.Equal(t, ptr(int64(180*86400)), found["own"].MaxLifetimeSeconds)
	require.Nil(t, found["own"].DeleteUnusedSeconds, "null: never")
	require.Equal(t, []string{}, found["own"].Allow["rotate"], "nobody, and not the default")
	require.Equal(t, []string{"own:owner", "own:admin", "own:member"}, found["own"].Allow["create"])
	require.Equal(t, []token.Class{token.ClassUser}, found["own"].Notify[token.EventRevoked])
}

func TestAtACapTheProblemListsWhatCanBeGivenUp(t *testing.T) {
	// T10, T16
	g := newGateway(t)
	require.NoError(t, g.declarePolicy(func(p *token.Policy) { p.MaxSecretsPerAccount = 1 }))
	c := g.client()
	account := g.account()
	asked := api.NewToken{Name: "export", AccountID: account.ID, Access: token.ReadOnly}
	issued, err := c.CreateToken(t.Context(), "", asked)
	require.NoError(t, err)
	_, err = c.CreateToken(t.Context(), "", asked)
	var problem *api.Problem
	require.ErrorAs(t, err, &problem)
	require.Equal(t, "token_limit_reached", problem.Code)
	require.Equal(t, 409, problem.Status)
	require.Len(t, problem.Candidates, 1)
	candidate := problem.Candidates[0]
	require.Equal(t, issued.Token.ID, candidate.TokenID)
	require.NotEmpty(t, candidate.SecretID)
	require.Equal(t, *issued.Token.Last4, candidate.Last4)
	require.Equal(t, "export", candidate.Name)
}
