package token_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/token"
)

// A secret is made once, handed out once, and from then on only its digest and
// its last four characters are known.
func ExampleNewSecret() {
	secret, err := token.NewSecret(rand.Reader, token.DefaultPrefix, token.Production)
	if err != nil {
		panic(err)
	}
	fmt.Println(secret)
	fmt.Println(len(secret.Reveal()), secret.Reveal()[:8])
	fmt.Println(secret.Environment(), len(secret.Last4()))
	// Output:
	// [redacted]
	// 57 sp_live_
	// production 4
}

// A text that is not canonical is refused without a look into any store.
func ExampleParseSecret() {
	prefixes := []string{"sp"} // the first issues, all are accepted
	secret, err := token.ParseSecret("sp_live_000000000000000000000000000000000000000000000000A", prefixes)
	fmt.Println(secret.IsZero(), errors.Is(err, token.ErrMalformed))
	// Output: true true
}

func ExampleParseAllowList() {
	list, err := token.ParseAllowList([]string{"2001:DB8::/32", "10.1.2.3", "10.0.0.0/8", "::ffff:192.0.2.7"}, false)
	fmt.Println(list.Strings(), err)
	fmt.Println(list.Allows(netip.MustParseAddr("::ffff:10.9.9.9")), list.Allows(netip.Addr{}))

	_, err = token.ParseAllowList([]string{"10.0.0.1", "10.0.0.5/8"}, false)
	fmt.Println(err)
	// Output:
	// [10.0.0.0/8 192.0.2.7 2001:db8::/32] <nil>
	// true false
	// ip_allowlist[1]: has host bits set; the range is 10.0.0.0/8
}

func ExampleNewRoutes() {
	declared := map[string]token.Scope{
		"payments:read":  {Name: "payments:read", Nature: token.Read},
		"payments:write": {Name: "payments:write", Nature: token.Write},
	}
	routes, err := token.NewRoutes([]token.Requirement{
		{Scope: "payments:write", Path: "/v1/payments*", Source: "Caddyfile:12"},
		{Scope: "payments:read", Methods: []string{"GET"}, Path: "/v1/payments*", Source: "Caddyfile:13"},
		{Scope: "payments:read", Methods: []string{"POST"}, Path: "/v1/payments/search", Source: "Caddyfile:14"},
	}, func(name string) (token.Scope, bool) {
		scope, ok := declared[name]
		return scope, ok
	})
	if err != nil {
		panic(err)
	}
	for _, request := range [][2]string{
		{"GET", "/v1/payments/7"},
		{"HEAD", "/v1/payments/7"},
		{"DELETE", "/v1/payments/7"},
		{"POST", "/v1/payments/search"},
		{"POST", "/v1/refunds"},
		{"OPTIONS", "/v1/refunds"},
	} {
		fmt.Println(request[0], request[1], routes.Required(request[0], request[1], false).Name)
	}
	// Output:
	// GET /v1/payments/7 payments:read
	// HEAD /v1/payments/7 payments:read
	// DELETE /v1/payments/7 payments:write
	// POST /v1/payments/search payments:read
	// POST /v1/refunds write
	// OPTIONS /v1/refunds read
}

// A refusal is a value; an error means that nothing could be decided, and then
// nobody is let in either.
func ExampleDecide() {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	policy := token.DefaultPolicy()
	t := &token.Token{
		ID: "tok_1", AccountID: "acc_1", State: token.Active, Environment: token.Production,
		Grant: token.Grant{Access: token.ReadOnly}, ExpiresAt: now.Add(time.Hour),
	}
	facts := &token.Facts{
		Secret:   &token.SecretRecord{TokenID: "tok_1", Status: token.Current},
		Account:  &token.Account{ID: "acc_1", Policy: "default"},
		Policy:   &policy,
		Required: token.ReadScope,
	}
	fmt.Println(token.Decide(t, facts, now))
	fmt.Println(token.Decide(t, facts, now.Add(time.Hour)))
	facts.Required = token.WriteScope
	fmt.Println(token.Decide(t, facts, now))
	facts.Account = nil
	_, err := token.Decide(t, facts, now)
	fmt.Println(errors.Is(err, token.ErrUndecidable))
	// Output:
	// allowed <nil>
	// expired_token <nil>
	// read_only_token <nil>
	// true
}
