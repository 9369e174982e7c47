package caddymodule

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/stretchr/testify/require"
)

// What the option's parser accepts, the app accepts too: there is no mistake
// that only shows when the gateway starts, without file and line.
func FuzzGlobalOption(f *testing.F) {
	for _, seed := range []string{
		"sallyport",
		"sallyport {\n}",
		"sallyport {\n store sqlite a.db\n master_key {env.K}\n secret_prefix acme sp\n cache_size 1MiB\n stale_if_unavailable 0\n}",
		"sallyport {\n scopes {\n  a:b read\n  c\n }\n role r {\n  access custom\n  scopes a:b c\n }\n}",
		"sallyport {\n policy p {\n  max_lifetime 1d\n  rotation_modes now\n  grace_min 1h\n  editable none\n  confirm none\n  require_ip_allowlist never\n }\n}",
		"sallyport {\n policy p {\n  preset own\n  max_secrets_per_user 2\n  expiry_warnings 2s 1s\n  delete_unused 9s\n  notice 2s\n  allow edit own:member\n  notify token_created none\n  downgrade_undo off\n }\n}",
		"sallyport {\n policy p {\n  grace_max 1s\n }\n policy p {\n }\n}",
		"sallyport {\n role r {\n  scopes read\n  access\n }\n}",
		"sallyport {\n master_key {\n}\n}\n}",
		"sallyport {\n webhook https://example.com/a {\n  events token_created\n }\n webhook http://[::1]:1/\n webhook_allow 10.0.0.0/8 ::1\n}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "import") || strings.Contains(text, "{$") {
			t.Skip("files and the environment are not what this is about")
		}
		tokens, err := caddyfile.Tokenize([]byte(text), "Caddyfile")
		if err != nil || len(tokens) == 0 {
			t.Skip()
		}
		value, err := parseGlobalOption(caddyfile.NewDispenser(tokens), nil)
		if err != nil {
			return
		}
		app := new(App)
		require.NoError(t, caddy.StrictUnmarshalJSON(value.(httpcaddyfile.App).Value, app))
		_, err = app.declare()
		require.NoError(t, err)
		require.NoError(t, app.settlePrefixes())
		_, err = app.webhookRanges()
		require.NoError(t, err)
		if !strings.Contains(text, "{env.") && !strings.Contains(text, "{file.") {
			for _, w := range app.Webhooks {
				if strings.Contains(w.URL, "{") {
					continue // other placeholders
				}
				_, err = w.declared()
				require.NoError(t, err)
			}
		}
		if app.MasterKey != "" {
			require.NoError(t, checkKeyReference(app.MasterKey))
		}
	})
}

func FuzzAdminClient(f *testing.F) {
	for _, seed := range []string{"localhost:2019", "unix//run/a.sock|0600", "unix/", "[::1]:1", "a b:1", "fd/3", ":2019", "tcp/127.0.0.1:80-90", "{env.X}:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, address string) {
		if strings.Contains(address, "{") {
			t.Skip("placeholders read files and the environment")
		}
		base, client, err := adminClient(address)
		if err == nil {
			require.NotNil(t, client)
			require.True(t, strings.HasPrefix(base, "http://"))
			require.True(t, strings.HasSuffix(base, adminBase))
		}
	})
}
