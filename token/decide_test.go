package token_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/token"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// decision is one complete set of values. Its parts are held by value, so that a
// copy can be changed without the original.
type decision struct {
	token   token.Token
	secret  token.SecretRecord
	account token.Account
	user    token.User
	role    token.Role
	policy  token.Policy
	facts   token.Facts
}

func (c *decision) wire() *decision {
	c.facts.Secret, c.facts.Account, c.facts.Policy = &c.secret, &c.account, &c.policy
	c.facts.User, c.facts.Role = &c.user, &c.role
	if c.token.UserID == "" {
		c.facts.User, c.facts.Role = nil, nil
	}
	return c
}

func (c *decision) decide(now time.Time) (token.Reason, error) {
	c.wire()
	return token.Decide(&c.token, &c.facts, now)
}

var office, elsewhere = netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("203.0.113.9")

// newCase is a token of a user that is allowed.
func newCase() *decision {
	list, err := token.ParseAllowList([]string{"192.0.2.0/24"}, false)
	if err != nil {
		panic(err)
	}
	c := &decision{
		token: token.Token{
			ID: "tok_1", AccountID: "acc_1", UserID: "usr_1", Grant: token.Grant{Access: token.ReadWrite}, AllowList: list,
			Environment: token.Production, State: token.Active, CreatedAt: noon.Add(-time.Hour), LifetimeFrom: noon.Add(-time.Hour), Version: 1,
		},
		secret:  token.SecretRecord{ID: "sec_1", TokenID: "tok_1", Status: token.Current},
		account: token.Account{ID: "acc_1", Policy: "default"},
		user:    token.User{ID: "usr_1", AccountID: "acc_1", Role: "member"},
		role:    token.Role{Name: "member", Ceiling: token.Grant{Access: token.ReadWrite}},
		policy:  token.DefaultPolicy(),
		facts:   token.Facts{Address: office, Required: token.WriteScope, Environment: token.Production},
	}
	return c.wire()
}

// narrowings are the single changes that refuse an allowed request, in the order
// in which their reasons come.
var narrowings = []struct {
	reason token.Reason
	name   string
	apply  func(*decision)
}{
	{token.RevokedToken, "the token is revoked", func(c *decision) { c.token.State = token.Revoked }},
	{token.RevokedToken, "the token is deleted", func(c *decision) { c.token.State = token.Deleted }},
	{token.RetiredSecret, "the secret is retired", func(c *decision) { c.secret.Status = token.Retired }},
	{token.RetiredSecret, "the secret's grace ends now", func(c *decision) { c.secret.Status, c.secret.ExpiresAt = token.Previous, noon }},
	{token.ExpiredToken, "the token expires now", func(c *decision) { c.token.ExpiresAt = noon }},
	{token.ExpiredToken, "the policy's lifetime ends now", func(c *decision) { c.policy.MaxLifetime = time.Hour }},
	{token.ExpiredToken, "the policy's lifetime is damaged", func(c *decision) { c.policy.MaxLifetime = -1 }},
	{token.ExpiredToken, "the token is stored as expired", func(c *decision) { c.token.State = token.Expired }},
	{token.DisabledToken, "the token is disabled", func(c *decision) { c.token.State = token.Disabled }},
	{token.AccountDisabled, "the account is disabled", func(c *decision) { c.account.Disabled = true }},
	{token.AccountTokensOff, "the account may have no tokens", func(c *decision) { c.account.TokensOff = true }},
	{token.UserDisabled, "the user is disabled", func(c *decision) { c.user.Disabled = true }},
	{token.UserTokensOff, "the user may have no tokens", func(c *decision) { c.user.TokensOff = true }},
	{token.UserTokensOff, "the role may have no tokens", func(c *decision) { c.role.TokensOff = true }},
	{token.WrongEnvironment, "the token is for the other environment", func(c *decision) { c.token.Environment = token.Sandbox }},
	{token.AddressNotAllowed, "the address is another", func(c *decision) { c.facts.Address = elsewhere }},
	{token.AddressNotAllowed, "the address is not known", func(c *decision) { c.facts.Address = netip.Addr{} }},
	{token.ReadOnlyToken, "the token is read only", func(c *decision) { c.token.Grant = token.Grant{Access: token.ReadOnly} }},
	{token.InsufficientScope, "the role is read only", func(c *decision) { c.role.Ceiling = token.Grant{Access: token.ReadOnly} }},
	{token.InsufficientScope, "the role lists other scopes", func(c *decision) {
		c.role.Ceiling = token.Grant{Access: token.Custom, Scopes: []string{"read", "x"}}
	}},
	{token.InsufficientScope, "the token lists other scopes", func(c *decision) {
		c.token.Grant = token.Grant{Access: token.Custom, Scopes: []string{"a", "read"}}
	}},
	{token.OtherBusinessUnit, "the user works for other units", func(c *decision) { c.facts.Units = []string{"elsewhere"} }},
}

func TestEveryReasonIsReachedByOneChange(t *testing.T) {
	reason, err := newCase().decide(noon)
	require.NoError(t, err)
	require.Equal(t, token.Allowed, reason)
	seen := map[token.Reason]bool{token.Allowed: true}
	for _, n := range narrowings {
		t.Run(n.name, func(t *testing.T) {
			c := newCase()
			n.apply(c)
			reason, err := c.decide(noon)
			require.NoError(t, err)
			require.Equal(t, n.reason, reason)
			seen[reason] = true
		})
	}
	for reason := token.Allowed; reason <= token.OtherBusinessUnit; reason++ {
		require.True(t, seen[reason], "%s is never given", reason)
	}
}

func TestOfTwoReasonsTheEarlierOneIsGiven(t *testing.T) {
	for i, first := range narrowings {
		for _, second := range narrowings[i+1:] {
			t.Run(first.name+", and "+second.name, func(t *testing.T) {
				c := newCase()
				first.apply(c)
				c.wire()
				// The second change must not undo the first.
				both := *c
				second.apply(&both)
				if want, got := refusal(t, c), refusal(t, &both); first.reason != second.reason && stillHolds(&both, first.name) {
					require.Equal(t, want, got)
				}
			})
		}
	}
}

func refusal(t *testing.T, c *decision) token.Reason {
	t.Helper()
	reason, err := c.decide(noon)
	require.NoError(t, err)
	require.NotEqual(t, token.Allowed, reason)
	return reason
}

// stillHolds is false for pairs that write the same field.
func stillHolds(c *decision, name string) bool {
	again := *c
	for _, n := range narrowings {
		if n.name == name {
			n.apply(&again)
		}
	}
	return fmt.Sprintf("%+v", again.token) == fmt.Sprintf("%+v", c.token) && again.secret == c.secret
}

// oracle says what Decide must answer, as a flat list in the order of the
// reasons, with the enumerations spelt out.
func oracle(c *decision) (reason token.Reason, undecidable bool) {
	valid := func(v, highest uint8) bool { return v >= 1 && v <= highest }
	if !valid(uint8(c.token.State), 5) || !valid(uint8(c.secret.Status), 3) || !valid(uint8(c.token.Environment), 2) ||
		uint8(c.facts.Environment) > 2 || !valid(uint8(c.token.Grant.Access), 3) || !valid(uint8(c.facts.Required.Nature), 2) ||
		c.token.UserID != "" && !valid(uint8(c.role.Ceiling.Access), 3) {
		return 0, true
	}
	holds := func(g token.Grant) bool {
		return g.Access == token.ReadWrite || g.Access == token.ReadOnly && c.facts.Required.Nature == token.Read ||
			g.Access == token.Custom && len(g.Scopes) == 1 && g.Scopes[0] == c.facts.Required.Name
	}
	expired := !c.token.ExpiresAt.IsZero() && !noon.Before(c.token.ExpiresAt) || c.token.State == token.Expired
	for _, rule := range []struct {
		broken bool
		reason token.Reason
	}{
		{c.token.State == token.Revoked || c.token.State == token.Deleted, token.RevokedToken},
		{c.secret.Status == token.Retired || c.secret.Status == token.Previous && c.secret.ExpiresAt.Equal(noon), token.RetiredSecret},
		{expired, token.ExpiredToken},
		{c.token.State == token.Disabled, token.DisabledToken},
		{c.account.Disabled, token.AccountDisabled},
		{c.account.TokensOff, token.AccountTokensOff},
		{c.token.UserID != "" && c.user.Disabled, token.UserDisabled},
		{c.token.UserID != "" && c.user.TokensOff, token.UserTokensOff},
		{c.facts.Environment != 0 && c.facts.Environment != c.token.Environment, token.WrongEnvironment},
		{c.facts.Address != office, token.AddressNotAllowed},
		{!holds(c.token.Grant) && c.token.Grant.Access == token.ReadOnly, token.ReadOnlyToken},
		{!holds(c.token.Grant), token.InsufficientScope},
		{c.token.UserID != "" && !holds(c.role.Ceiling), token.InsufficientScope},
		{c.facts.Units != nil, token.OtherBusinessUnit},
	} {
		if rule.broken {
			return rule.reason, false
		}
	}
	return token.Allowed, false
}

func TestDecideIsTotalOverEveryCombinationOfEnumerations(t *testing.T) {
	values := func(highest int, invalid ...int) (all []uint8) {
		for v := 1; v <= highest; v++ {
			all = append(all, uint8(v))
		}
		for _, v := range invalid {
			all = append(all, uint8(v))
		}
		return all
	}
	for name, invalid := range map[string][]int{"valid values": {}, "invalid values too": {0, 6, 255}} {
		t.Run(name, func(t *testing.T) {
			// A gate without an environment is valid, a custom grant may be empty.
			states, statuses, environments := values(5, invalid...), values(3, invalid...), values(2, invalid...)
			gates, natures := append(values(2, invalid...), 0), values(2, invalid...)
			grants := []token.Grant{{Access: token.Custom, Scopes: []string{"s"}}}
			for _, access := range values(3, invalid...) {
				grants = append(grants, token.Grant{Access: token.Access(access)})
			}
			expiries := []time.Time{{}, noon, noon.Add(time.Second)}
			graces := []time.Time{{}, noon}
			addresses := []netip.Addr{office, elsewhere, {}}
			if len(invalid) > 0 {
				// What the first run has covered need not be multiplied again.
				expiries, graces, addresses = expiries[:1], graces[:1], addresses[:1]
			}

			// left is a number in a mixed base: each dimension takes its digit.
			left := 0
			digit := func(n int) int {
				d := left % n
				left /= n
				return d
			}
			c := newCase()
			set := func(n int) bool {
				left = n
				c.token.State = token.State(states[digit(len(states))])
				c.secret.Status = token.SecretStatus(statuses[digit(len(statuses))])
				c.token.Environment = token.Environment(environments[digit(len(environments))])
				c.facts.Environment = token.Environment(gates[digit(len(gates))])
				c.token.Grant = grants[digit(len(grants))]
				c.role.Ceiling = grants[digit(len(grants))]
				c.facts.Required = token.Scope{Name: "s", Nature: token.Nature(natures[digit(len(natures))])}
				c.token.UserID = []token.ID{"", "usr_1"}[digit(2)]
				c.account.Disabled, c.user.Disabled = digit(2) == 1, digit(2) == 1
				c.account.TokensOff, c.user.TokensOff, c.facts.Units = false, false, nil
				switch digit(4) {
				case 1:
					c.account.TokensOff = true
				case 2:
					c.user.TokensOff = true
				case 3:
					c.facts.Units = []string{"elsewhere"}
				}
				c.token.ExpiresAt = expiries[digit(len(expiries))]
				c.secret.ExpiresAt = graces[digit(len(graces))]
				c.facts.Address = addresses[digit(len(addresses))]
				return left == 0
			}
			count := map[token.Reason]int{}
			undecidable := 0
			for n := 0; set(n); n++ {
				got, err := c.decide(noon)
				switch want, refuse := oracle(c); {
				case refuse:
					undecidable++
					if !errors.Is(err, token.ErrUndecidable) || got != token.Allowed {
						t.Fatalf("%v %v instead of ErrUndecidable for %+v", got, err, c)
					}
				case err != nil || got != want:
					t.Fatalf("%v %v instead of %v for %+v", got, err, want, c)
				default:
					count[got]++
				}
			}
			require.Equal(t, len(invalid) > 0, undecidable > 0)
			for reason := token.Allowed; len(invalid) == 0 && reason <= token.OtherBusinessUnit; reason++ {
				require.NotZero(t, count[reason], "%s", reason)
			}
		})
	}
}

func TestFactsThatAreMissingOrDoNotBelongTogetherAreNotDecided(t *testing.T) {
	for name, spoil := range map[string]func(*decision){
		"no secret":                       func(c *decision) { c.facts.Secret = nil },
		"no account":                      func(c *decision) { c.facts.Account = nil },
		"no policy":                       func(c *decision) { c.facts.Policy = nil },
		"no user":                         func(c *decision) { c.facts.User = nil },
		"no role":                         func(c *decision) { c.facts.Role = nil },
		"neither user nor role":           func(c *decision) { c.facts.User, c.facts.Role = nil, nil },
		"a user for an account's token":   func(c *decision) { c.token.UserID = "" },
		"a user without a role for one":   func(c *decision) { c.token.UserID, c.facts.Role = "", nil },
		"a role for an account's token":   func(c *decision) { c.token.UserID, c.facts.User = "", nil },
		"another token's secret":          func(c *decision) { c.secret.TokenID = "tok_2" },
		"another account":                 func(c *decision) { c.account.ID = "acc_2" },
		"another user":                    func(c *decision) { c.user.ID = "usr_2" },
		"a user of another account":       func(c *decision) { c.user.AccountID = "acc_2" },
		"another role":                    func(c *decision) { c.user.Role = "owner" },
		"another policy":                  func(c *decision) { c.account.Policy = "strict" },
		"not the default for no policy":   func(c *decision) { c.account.Policy, c.policy.Name = "", "strict" },
		"a policy without a name":         func(c *decision) { c.policy.Name = "" },
		"no identifier of the token":      func(c *decision) { c.token.ID, c.secret.TokenID = "", "" },
		"no identifier of the account":    func(c *decision) { c.token.AccountID, c.account.ID, c.user.AccountID = "", "", "" },
		"no name of the scope":            func(c *decision) { c.facts.Required.Name = "" },
		"no nature of the scope":          func(c *decision) { c.facts.Required.Nature = 0 },
		"a ceiling that is none":          func(c *decision) { c.role.Ceiling.Access = 0 },
		"an environment that is none":     func(c *decision) { c.token.Environment, c.facts.Environment = 0, 0 },
		"a gate's environment is no such": func(c *decision) { c.facts.Environment = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCase()
			spoil(c)
			reason, err := token.Decide(&c.token, &c.facts, noon)
			require.ErrorIs(t, err, token.ErrUndecidable)
			require.Equal(t, token.Allowed, reason, "the error alone says it")
		})
	}
	c := newCase()
	for _, missing := range []func() (token.Reason, error){
		func() (token.Reason, error) { return token.Decide(nil, &c.facts, noon) },
		func() (token.Reason, error) { return token.Decide(&c.token, nil, noon) },
		func() (token.Reason, error) { return token.Decide(nil, nil, noon) },
		func() (token.Reason, error) { return token.Decide(&c.token, &token.Facts{}, noon) },
		// Nothing has expired in the year 1.
		func() (token.Reason, error) { return token.Decide(&c.token, &c.facts, time.Time{}) },
	} {
		_, err := missing()
		require.ErrorIs(t, err, token.ErrUndecidable)
	}
}

func TestAnAccountsOwnTokenNeedsNoUser(t *testing.T) {
	c := newCase()
	c.token.UserID = ""
	c.account.Policy = "" // which means the default one
	reason, err := c.decide(noon)
	require.NoError(t, err)
	require.Equal(t, token.Allowed, reason)
}

func TestTimesEndAtTheirInstantAndNotBefore(t *testing.T) {
	for name, tt := range map[string]struct {
		set  func(*decision)
		want token.Reason
	}{
		"expiry":         {func(c *decision) { c.token.ExpiresAt = noon }, token.ExpiredToken},
		"lifetime":       {func(c *decision) { c.policy.MaxLifetime = time.Hour }, token.ExpiredToken},
		"grace":          {func(c *decision) { c.secret.Status, c.secret.ExpiresAt = token.Previous, noon }, token.RetiredSecret},
		"the earlier":    {func(c *decision) { c.policy.MaxLifetime, c.token.ExpiresAt = 2*time.Hour, noon }, token.ExpiredToken},
		"the earlier, 2": {func(c *decision) { c.policy.MaxLifetime, c.token.ExpiresAt = time.Hour, noon.Add(1) }, token.ExpiredToken},
	} {
		t.Run(name, func(t *testing.T) {
			for offset, want := range map[time.Duration]token.Reason{-1: token.Allowed, 0: tt.want, 1: tt.want, 1000 * time.Hour: tt.want} {
				c := newCase()
				tt.set(c)
				reason, err := c.decide(noon.Add(offset))
				require.NoError(t, err)
				require.Equal(t, want, reason, offset)
			}
		})
	}
	// A previous secret without an end, and a current one with a left-over end, work on.
	c := newCase()
	c.secret.Status = token.Previous
	reason, err := c.decide(noon.Add(1e6 * time.Hour))
	require.NoError(t, err)
	require.Equal(t, token.Allowed, reason)
	c.secret.Status, c.secret.ExpiresAt = token.Current, noon.Add(-time.Hour)
	reason, err = c.decide(noon)
	require.NoError(t, err)
	require.Equal(t, token.Allowed, reason)
}

func TestTheStateThatPeopleSeeKnowsExpiry(t *testing.T) {
	for stored, want := range map[token.State]token.State{
		token.Active: token.Expired, token.Disabled: token.Expired, token.Expired: token.Expired,
		token.Revoked: token.Revoked, token.Deleted: token.Deleted,
	} {
		tok := token.Token{State: stored, ExpiresAt: noon}
		require.Equal(t, want, tok.StateAt(nil, noon))
		require.Equal(t, stored, tok.StateAt(nil, noon.Add(-1)))
	}
}

func drawCase(t *rapid.T) *decision {
	c := newCase()
	grant := func(label string) token.Grant {
		return rapid.SampledFrom([]token.Grant{
			{Access: token.ReadOnly},
			{Access: token.ReadWrite},
			{Access: token.Custom, Scopes: []string{"a"}},
			{Access: token.Custom, Scopes: []string{"a", "b"}},
			{Access: token.Custom},
			{},
		}).Draw(t, label)
	}
	moment := rapid.SampledFrom([]time.Time{{}, noon.Add(-time.Hour), noon, noon.Add(time.Hour)})
	c.token.State = token.State(rapid.IntRange(0, 6).Draw(t, "state"))
	c.token.Environment = token.Environment(rapid.IntRange(1, 2).Draw(t, "environment"))
	c.token.Grant = grant("grant")
	c.token.ExpiresAt = moment.Draw(t, "expires")
	if rapid.Bool().Draw(t, "no list") {
		c.token.AllowList = token.AllowList{}
	}
	if rapid.Bool().Draw(t, "account's own") {
		c.token.UserID = ""
	}
	c.secret.Status = token.SecretStatus(rapid.IntRange(0, 4).Draw(t, "status"))
	c.secret.ExpiresAt = moment.Draw(t, "grace")
	c.account.Disabled = rapid.Bool().Draw(t, "account disabled")
	c.user.Disabled = rapid.Bool().Draw(t, "user disabled")
	c.role.Ceiling = grant("ceiling")
	c.policy.MaxLifetime = rapid.SampledFrom([]time.Duration{0, time.Minute, 48 * time.Hour}).Draw(t, "lifetime")
	c.facts.Address = rapid.SampledFrom([]netip.Addr{{}, office, elsewhere}).Draw(t, "address")
	c.facts.Environment = token.Environment(rapid.IntRange(0, 2).Draw(t, "gate"))
	c.facts.Required = rapid.SampledFrom([]token.Scope{
		{Name: "a", Nature: token.Read}, {Name: "b", Nature: token.Write}, token.ReadScope, token.WriteScope, {},
	}).Draw(t, "required")
	return c.wire()
}

func TestNarrowingAnythingNeverTurnsARefusalIntoAllowed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCase(t)
		before, err := c.decide(noon)
		allowed := err == nil && before == token.Allowed
		narrowed := *c
		what := rapid.SampledFrom(narrowings).Draw(t, "narrowing")
		switch {
		case rapid.IntRange(0, 3).Draw(t, "drop a scope") == 0 && len(narrowed.token.Grant.Scopes) > 0:
			narrowed.token.Grant.Scopes = narrowed.token.Grant.Scopes[1:]
		case what.reason == token.DisabledToken && narrowed.token.State != token.Active,
			what.reason == token.ExpiredToken && narrowed.token.State > token.Expired,
			what.reason == token.RevokedToken && narrowed.token.State != token.Active,
			what.reason == token.RetiredSecret && narrowed.secret.Status != token.Current,
			what.reason == token.InsufficientScope && (narrowed.token.Grant.Access != token.ReadWrite || narrowed.role.Ceiling.Access != token.ReadWrite),
			what.reason == token.ReadOnlyToken && narrowed.token.Grant.Access != token.ReadWrite,
			what.reason == token.WrongEnvironment,
			what.reason == token.AddressNotAllowed && narrowed.facts.Address == elsewhere:
			t.Skip("this change would not narrow")
		default:
			what.apply(&narrowed)
		}
		after, err := narrowed.decide(noon)
		if err == nil && after == token.Allowed && !allowed {
			t.Fatalf("%s, and yet what was %v is allowed", what.name, before)
		}
	})
}

func TestTimePassingNeverTurnsARefusalIntoAllowed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCase(t)
		before, errBefore := c.decide(noon)
		after, errAfter := c.decide(noon.Add(time.Duration(rapid.Int64Range(0, int64(1e6*time.Hour)).Draw(t, "later"))))
		if errAfter == nil && after == token.Allowed {
			require.NoError(t, errBefore)
			require.Equal(t, token.Allowed, before)
		}
	})
}

func TestReasonsHaveStableCodesAndOneMeaningEach(t *testing.T) {
	for reason, want := range map[token.Reason]struct {
		code                           string
		unauthenticated, authenticated bool
	}{
		token.Allowed:           {"", false, true},
		token.RevokedToken:      {"revoked_token", true, false},
		token.RetiredSecret:     {"retired_secret", true, false},
		token.ExpiredToken:      {"expired_token", true, false},
		token.DisabledToken:     {"disabled_token", true, false},
		token.AccountDisabled:   {"account_disabled", false, false},
		token.UserDisabled:      {"user_disabled", false, false},
		token.WrongEnvironment:  {"wrong_environment", false, false},
		token.AddressNotAllowed: {"ip_not_allowed", false, false},
		token.ReadOnlyToken:     {"read_only_token", false, true},
		token.InsufficientScope: {"insufficient_scope", false, true},
		200:                     {"unknown_reason", false, false},
	} {
		require.Equal(t, want.code, reason.Code())
		require.Equal(t, want.unauthenticated, reason.Unauthenticated(), want.code)
		require.Equal(t, want.authenticated, reason.Authenticated(), want.code)
		if reason == token.Allowed {
			require.Equal(t, "allowed", reason.String())
		} else {
			require.Equal(t, want.code, reason.String())
		}
	}
}

func TestDecidingAllocatesNothing(t *testing.T) {
	cases := []*decision{newCase()}
	for _, n := range narrowings {
		c := newCase()
		n.apply(c)
		cases = append(cases, c.wire())
	}
	spoilt := newCase()
	spoilt.token.ID = ""
	cases = append(cases, spoilt)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for _, c := range cases {
			_, _ = token.Decide(&c.token, &c.facts, noon)
		}
	}))
}
