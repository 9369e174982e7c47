package caddymodule

import (
	"fmt"
	"net"
	"strings"
)

// caddyfile is the demo's configuration, written into its folder to be read.
func (d *demonstration) caddyfile() string {
	host, port, err := net.SplitHostPort(d.gate)
	if err != nil {
		host, port = "127.0.0.1", "8080" // demoAddress has checked it
	}
	sites := fmt.Sprintf("http://%s", d.gate)
	if host != "localhost" {
		sites += ", http://localhost:" + port
	}
	return fmt.Sprintf(`# The demo's configuration. It is an ordinary Caddyfile: sallyport run --config THIS FILE
# starts the gate again, though not the sample API behind it.
{
	# Whoever reaches the admin endpoint may issue tokens: keep it on this machine.
	admin %[1]s
	persist_config off

	# The demo speaks plain HTTP. Leave this out to get certificates by themselves.
	auto_https off

	storage file_system %[2]s
	log {
		output file %[3]s
	}

	servers {
		# Proxies on this machine may say in X-Forwarded-For who the client is.
		trusted_proxies static 127.0.0.1/32 ::1/128
		trusted_proxies_strict
	}

	sallyport {
		# The master key is made beside the database, as sallyport.db.key.
		store sqlite %[4]s
		scopes {
			payments:read read
			payments:write
		}
%[10]s	}
}

%[5]s {
	bind %[6]s
	sallyport {
		# Everything else needs the built-in scopes: read for GET, HEAD and OPTIONS, else write.
		require payments:read GET HEAD /v1/payments*
		require payments:write POST DELETE /v1/payments*
	}
	reverse_proxy %[7]s
}

# Caddy answers a host that no site names with an empty 200.
http://:%[8]s {
	bind %[6]s
	header Content-Type application/problem+json
	respond %[9]s 404
}
`, d.admin, caddyfileQuote(d.file("caddy")), caddyfileQuote(d.file("sallyport.log")), caddyfileQuote(d.file("sallyport.db")),
		sites, host, d.upstream, port,
		caddyfileQuote(`{"type":"urn:sallyport:problem:unknown_host","title":"No API has this host name","status":404,"code":"unknown_host"}`), d.lifePolicy())
}

// caddyfileQuote makes one Caddyfile token of a text.
func caddyfileQuote(text string) string {
	if !strings.Contains(text, "`") {
		return "`" + text + "`"
	}
	return `"` + strings.ReplaceAll(strings.ReplaceAll(text, `\`, `\\`), `"`, `\"`) + `"`
}

// scene is one command to paste, and what to expect of it.
type scene struct {
	title, command, answer string
}

// story is what the demo prints: where everything is, the secrets, and the scenes.
func (d *demonstration) story() string {
	var text strings.Builder
	end := "removed with everything in it when Ctrl-C ends the demo"
	if d.options.keep {
		end = "left behind when Ctrl-C ends the demo"
	}
	fmt.Fprintf(&text, `Sallyport is running, in front of a sample API.

  Gate       http://%s
  Admin API  http://%s%s
  Folder     %s
             %s
             Caddyfile         the configuration, to read and to copy from
             sallyport.db      the tokens, without any secret
             sallyport.db.key  the master key, without which they are worth nothing
             sallyport.log     the log

  Account    %s  %s
  Owner      %s  %s

Three tokens. Their secrets are shown this once:

`, d.gate, d.admin, adminBase, d.dir, end, d.account.ID, d.account.Name, d.owner.ID, d.owner.Name)
	for _, t := range []struct {
		what   string
		id     string
		secret string
	}{
		{"read only", string(d.readOnly.Token.ID), d.readOnly.Secret.Reveal()},
		{"read and write, from this machine only", string(d.readWrite.Token.ID), d.readWrite.Secret.Reveal()},
		{"custom: payments:read and nothing else", string(d.custom.Token.ID), d.custom.Secret.Reveal()},
	} {
		fmt.Fprintf(&text, "  %s  %s\n    %s\n", t.id, t.what, t.secret)
	}
	text.WriteString("\nPaste these into another terminal, in this order. Each says what it answers.\n")
	for _, s := range d.scenes() {
		fmt.Fprintf(&text, "\n  %s:\n    %s\n    -> %s\n", s.title, s.command, s.answer)
	}
	fmt.Fprintf(&text, `
The commands speak to the admin endpoint, or with --offline to the database itself:

    %[1]s token list --address %[2]s
    %[1]s token create --account %[3]s --name batch --access read_only --address %[2]s
    %[1]s audit list --address %[2]s
    %[1]s audit verify --offline --config %[4]s

Ctrl-C ends the demo.
`, d.options.program, d.admin, d.account.ID, shellQuote(d.file("Caddyfile")))
	return text.String()
}

func (d *demonstration) scenes() []scene {
	url := func(path string) string { return "http://" + d.gate + path }
	admin := "http://" + d.admin + adminBase + "/tokens/" + string(d.readOnly.Token.ID)
	bearer := func(secret string) string { return " -H 'Authorization: Bearer " + secret + "'" }
	readOnly, readWrite, custom := bearer(d.readOnly.Secret.Reveal()), bearer(d.readWrite.Secret.Reveal()), bearer(d.custom.Secret.Reveal())
	json := " -H 'Content-Type: application/json' -d "
	newBearer := ` -H "Authorization: Bearer $NEW"`
	return []scene{
		{"Without a token", "curl -si " + url("/v1/accounts"), "401 missing_token"},
		{"With a secret that was never issued", "curl -si " + url("/v1/accounts") + bearer(d.wrong.Reveal()), "401 unknown_token"},
		{"The read-only token reads", "curl -si " + url("/v1/accounts") + readOnly, "200"},
		{"What the API is told about the caller, and not told: the secret", "curl -si " + url("/v1/whoami") + readOnly, "200"},
		{"The read-only token may not write", "curl -si -X POST " + url("/v1/accounts") + readOnly + json + `'{"name":"Mallory"}'`, "403 read_only_token"},
		{"The custom token reads payments", "curl -si " + url("/v1/payments") + custom, "200"},
		{"and nothing else", "curl -si " + url("/v1/accounts") + custom, "403 insufficient_scope"},
		{"The read-and-write token writes, from this machine", "curl -si -X POST " + url("/v1/payments") + readWrite + json + `'{"amount_cents":4200,"currency":"EUR"}'`, "201"},
		{"but not from elsewhere (a trusted proxy says where from)", "curl -si " + url("/v1/payments") + readWrite + " -H 'X-Forwarded-For: 203.0.113.9'", "403 ip_not_allowed"},
		{"A path that two programs could read in two ways", "curl -si --path-as-is " + url("/v1/payments/../accounts") + readWrite, "400 ambiguous_path"},
		{"A host that no site names", "curl -si " + url("/v1/accounts") + readOnly + " -H 'Host: other.example'", "404 unknown_host"},
		{"A stream of events, for three seconds", "curl -siN --max-time 3 " + url("/v1/events") + readOnly, "200"},
		{"A WebSocket, for two seconds", "curl -siN --max-time 2 --http1.1 " + url("/v1/echo") + readWrite +
			" -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: c2FsbHlwb3J0LWRlbW8tMQ=='", "101"},
		{"Rotate the read-only token; the old secret goes on working for an hour", "NEW=$(curl -si -X POST " + admin + "/rotate" + json +
			`'{"mode":"timed","grace_period_seconds":3600}' | tee /dev/stderr | sed -n 's/.*"secret":"\([^"]*\)".*/\1/p')`, "200"},
		{"The old secret works", "curl -si " + url("/v1/accounts") + readOnly, "200"},
		{"and so does the new one", "curl -si " + url("/v1/accounts") + newBearer, "200"},
		{"Revoke the token", "curl -si -X POST " + admin + "/revoke" + json + `'{"confirm":true}'`, "200"},
		{"From the next request on, neither secret works", "curl -si " + url("/v1/accounts") + newBearer, "401 revoked_token"},
		{"as the other one shows", "curl -si " + url("/v1/accounts") + readOnly, "401 revoked_token"},
	}
}
