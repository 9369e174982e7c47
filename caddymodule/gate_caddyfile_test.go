package caddymodule

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"
)

func parseBlock(t *testing.T, text string) (*Gate, error) {
	t.Helper()
	g := new(Gate)
	return g, g.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text))
}

func TestEveryLineOfTheDirectiveIsRead(t *testing.T) {
	g, err := parseBlock(t, `sallyport {
		require payments:write POST PUT /v1/payments*
		require payments:read /v1/payments/{id}
		environment any
		failure_limit 100
		opaque_errors
		fresh_only
		credential_header X-Api-Key
		credential_header x-token X-Other
		credential_query key
		forward_credential
		allow encoded_slash double_slash
		allow semicolon
		cors https://app.example.com
		cors http://localhost:3000
		realm "The API"
	}`)
	require.NoError(t, err)
	hundred := 100
	require.Empty(t, cmp.Diff(&Gate{
		Require: []Requirement{
			{Scope: "payments:write", Methods: []string{"POST", "PUT"}, Path: "/v1/payments*", Source: "Testfile:2"},
			{Scope: "payments:read", Methods: []string{}, Path: "/v1/payments/{id}", Source: "Testfile:3"},
		},
		Environment:       "any",
		FailureLimit:      &hundred,
		OpaqueErrors:      true,
		FreshOnly:         true,
		CredentialHeaders: []string{"X-Api-Key", "x-token", "X-Other"},
		CredentialQuery:   "key",
		ForwardCredential: true,
		Allow:             []string{"encoded_slash", "double_slash", "semicolon"},
		CORS:              []string{"https://app.example.com", "http://localhost:3000"},
		Realm:             "The API",
	}, g, cmpopts.IgnoreUnexported(Gate{})))

	g, err = parseBlock(t, "sallyport {\n failure_limit off\n}")
	require.NoError(t, err)
	require.Zero(t, *g.FailureLimit)
	_, err = parseBlock(t, "sallyport")
	require.NoError(t, err, "the directive alone will do")
}

func TestAWrongLineStopsTheStartAndSaysWhereAndHow(t *testing.T) {
	for block, want := range map[string]string{
		"openapi api.yaml":                          `unrecognized subdirective "openapi": sallyport knows require`,
		"requires read /":                           `unrecognized subdirective "requires"`,
		"require read":                              "require takes a scope, the methods if not all are meant, and a path",
		"require":                                   "require takes a scope",
		"require read get /":                        "must be HTTP methods in upper case",
		"require read CONNECT /":                    "must be HTTP methods in upper case",
		"require read GET":                          "a path begins with /",
		"require read /a//b%2f":                     "require: ",
		"require \"pay\\\\ments\" /":                "a scope's name",
		"environment test":                          "environment must be production, sandbox or any",
		"environment":                               "environment takes one argument",
		"environment any any":                       "environment takes one argument",
		"environment any\nenvironment any":          "environment is set twice",
		"failure_limit -1":                          "failure_limit takes a number",
		"failure_limit many":                        "failure_limit takes a number",
		"opaque_errors on":                          "opaque_errors takes no argument",
		"fresh_only 5s":                             "fresh_only takes no argument",
		"fresh_only\nfresh_only":                    "fresh_only is set twice",
		"forward_credential yes":                    "forward_credential takes no argument",
		"credential_header":                         "credential_header takes at least one argument",
		"credential_header api_key":                 "use letters, digits and hyphens",
		"credential_header Authorization":           "Authorization has a meaning of its own",
		"credential_header Sallyport-Key":           "Sallyport-Key has a meaning of its own",
		"credential_header Cookie":                  "Cookie has a meaning of its own",
		"credential_header Host":                    "Host has a meaning of its own",
		"credential_query a&b":                      "credential_query takes the name of a query parameter",
		"allow everything":                          "allow: must be of encoded_slash, double_slash and semicolon",
		"cors app.example.com":                      "cors: an origin is a scheme, a host",
		"cors https://app.example.com/":             "cors: an origin is",
		"cors https://App.example.com":              "cors: an origin is",
		"cors * https://app.example.com":            "cors: * allows every origin",
		"environment any {\n x\n}":                  "environment takes no block",
		"cors https://a.example\nrealm a\nrealm \"": "realm is set twice",
	} {
		_, err := parseBlock(t, "sallyport {\n"+block+"\n}")
		require.ErrorContains(t, err, want, block)
		require.ErrorContains(t, err, "Testfile:", block)
	}
	_, err := parseBlock(t, "sallyport read {\n}")
	require.ErrorContains(t, err, "takes a block and no arguments")
}

func TestAWrongConfigurationIsRefusedWhateverItsForm(t *testing.T) {
	app := &App{SecretPrefixes: []string{"sp"}, runtime: newRuntime()}
	negative := -1
	for want, g := range map[string]*Gate{
		"environment: must be":          {Environment: "prod"},
		"failure_limit is negative":     {FailureLimit: &negative},
		"allow: must be":                {Allow: []string{"all"}},
		"cors: an origin":               {CORS: []string{"null"}},
		"credential_header: use":        {CredentialHeaders: []string{"api key"}},
		"realm: use":                    {Realm: "a\"b"},
		"require: require line 1":       {Require: []Requirement{{Scope: "unheard-of", Path: "/"}}},
		"require: Caddyfile:7":          {Require: []Requirement{{Scope: "unheard-of", Path: "/", Source: "Caddyfile:7"}}},
		"Caddyfile:1 and Caddyfile:2":   {Require: []Requirement{{Scope: "read", Path: "/a/{x}", Source: "Caddyfile:1"}, {Scope: "write", Path: "/a/{y}", Source: "Caddyfile:2"}}},
		"an origin is a scheme, a host": {CORS: []string{"https://user@app.example.com"}},
	} {
		require.ErrorContains(t, g.settle(app), want)
	}
}

func TestTheDirectiveComesBeforeWhateverAnswers(t *testing.T) {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(`
example.com {
	reverse_proxy 127.0.0.1:9000
	respond /health ok
	basic_auth /admin {
		a $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG
	}
	rewrite /old /new
	redir /moved /here
	header X-A b
	sallyport
}`), map[string]any{"filename": "Caddyfile"})
	require.NoError(t, err)
	text := string(config)
	at := strings.Index(text, `"handler":"sallyport"`)
	require.Positive(t, at)
	for _, later := range []string{`"status_code":302`, `"handler":"rewrite"`, `"handler":"authentication"`, `"ok"`, `"handler":"reverse_proxy"`} {
		require.Less(t, at, strings.Index(text, later), later)
	}
}

// validate provisions a configuration as `caddy validate` does.
func validate(t *testing.T, servers, gate string) error {
	t.Helper()
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(`{
	admin off
	auto_https off
	log {
		output discard
	}
	servers {
		`+servers+`
	}
}
http://example.com {
	sallyport {
		`+gate+`
	}
}`), map[string]any{"filename": "Caddyfile"})
	require.NoError(t, err)
	config := new(caddy.Config)
	require.NoError(t, json.Unmarshal(adapted, config))
	return caddy.Validate(config)
}

func TestProxiesThatAnybodyCanPassForStopTheStart(t *testing.T) {
	for servers, want := range map[string]string{
		"": "",
		"trusted_proxies static 10.0.0.0/8 192.0.2.1\ntrusted_proxies_strict":         "",
		"trusted_proxies static private_ranges\ntrusted_proxies_strict":               "",
		"trusted_proxies static 203.0.113.0/24 2001:db8::/32\ntrusted_proxies_strict": "",
		"trusted_proxies static 10.0.0.0/8":                                           "server srv0 (:80): trusted_proxies is set without trusted_proxies_strict", // A3
		"trusted_proxies_unix":                                                        "trusted_proxies is set without trusted_proxies_strict",
		"trusted_proxies_unix\ntrusted_proxies_strict":                                "",
		"trusted_proxies static 0.0.0.0/0\ntrusted_proxies_strict":                    "trusted_proxies covers everybody", // A1
		"trusted_proxies static ::/0\ntrusted_proxies_strict":                         "trusted_proxies covers everybody",
		"trusted_proxies static 0.0.0.0/1 128.0.0.0/1\ntrusted_proxies_strict":        "trusted_proxies covers everybody",
		"trusted_proxies static 2000::/3\ntrusted_proxies_strict":                     "trusted_proxies covers everybody",
		"trusted_proxies static 0.0.0.0/0":                                            "trusted_proxies covers everybody",
	} {
		err := validate(t, servers, "")
		if want == "" {
			require.NoError(t, err, servers)
		} else {
			require.ErrorContains(t, err, want, servers)
		}
	}
}

func TestTheFieldThatCaddyKeepsItsProxiesInIsWhereItWas(t *testing.T) {
	// The check looks into Caddy. This says so when an update of it moves things.
	trusts, known := trustsProxies(new(caddyhttp.Server))
	require.True(t, known)
	require.False(t, trusts)
}

func TestRequireLinesAreCheckedWhenTheConfigurationIsLoaded(t *testing.T) {
	require.NoError(t, validate(t, "", "require write /v1/*"))
	require.ErrorContains(t, validate(t, "", "require unheard:of /v1/*"), "Caddyfile:13: the scope is not known")
	require.ErrorContains(t, validate(t, "", "require read /v1/{a}\nrequire write /v1/{b}"), "Caddyfile:13 and Caddyfile:14 are equally specific")
}
