package caddymodule

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

func adapted(t *testing.T, caddyfile string) []byte {
	t.Helper()
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	require.NoError(t, err)
	return config
}

func open(audit *routesAudit) []string {
	list := []string{}
	for _, e := range audit.Unguarded {
		text := e.Handler + " | " + e.Requests
		if e.ErrorRoutes {
			text = "errors: " + text
		}
		list = append(list, text)
	}
	return list
}

// Design 3, point 12: each row is a Caddyfile and what answers there without a gate.
func TestRoutesThatNoGateCoversAreFound(t *testing.T) {
	for _, test := range []struct {
		name, caddyfile string
		open            []string
	}{
		{"a gate guards the site, wherever it stands in it", `:80 {
			reverse_proxy up:1
			sallyport
			redir /old /new
		}`, nil},
		{"a site without a gate", `:80 {
			reverse_proxy up:1
		}`, []string{"reverse_proxy up:1 | all"}},
		{"a second site", `one.example.com {
			sallyport
			reverse_proxy up:1
		}
		two.example.com {
			file_server
		}`, []string{"file_server | host two.example.com"}},
		{"a second listener", `:80 {
			sallyport
			reverse_proxy up:1
		}
		:81 {
			respond hello
		}`, []string{"respond | all"}},
		{"route keeps its order, so that a gate at its end never runs", `:80 {
			route {
				reverse_proxy up:1
				sallyport
			}
		}`, []string{"reverse_proxy up:1 | all"}},
		{"route with the gate in front", `:80 {
			route {
				sallyport
				reverse_proxy up:1
			}
		}`, nil},
		{"a gate inside handle guards that block only", `:80 {
			handle /v1/* {
				sallyport
				reverse_proxy up:1
			}
			handle {
				reverse_proxy up:2
			}
		}`, []string{"reverse_proxy up:2 | all"}},
		{"gates in each of the blocks guard what comes behind them", `:80 {
			route {
				handle /v1/* {
					sallyport
				}
				handle {
					sallyport
				}
				reverse_proxy up:1
			}
		}`, nil},
		{"a block without a gate lets requests go on", `:80 {
			route {
				handle /v1/* {
					sallyport
				}
				handle {
					header X-Frame-Options deny
				}
				reverse_proxy up:1
			}
		}`, []string{"reverse_proxy up:1 | all"}},
		{"a gate before the blocks guards all of them", `:80 {
			sallyport
			handle /v1/* {
				reverse_proxy up:1
			}
			handle_path /v2/* {
				file_server
			}
			handle {
				templates
				php_fastcgi up:9
			}
		}`, nil},
		{"a gate behind a matcher", `:80 {
			sallyport /v1/*
			reverse_proxy up:1
		}`, []string{"reverse_proxy up:1 | all"}},
		{"what is certainly among what the gate covers", `:80 {
			sallyport /v1/*
			reverse_proxy /v1/payments* up:1
			respond /v1/x hello
			redir /v1/y /z
		}`, nil},
		{"the same named matcher", `:80 {
			@api {
				method POST
				header X-Api *
				path /v1/*
			}
			sallyport @api
			reverse_proxy @api up:1
		}`, nil},
		{"another named matcher", `:80 {
			@api header X-Api 1
			@other header X-Api 2
			sallyport @api
			reverse_proxy @other up:1
		}`, []string{"reverse_proxy up:1 | header X-Api"}},
		{"one gate for each path", `:80 {
			@both path /a/* /b/*
			sallyport /a/* {
				environment sandbox
			}
			sallyport /b/*
			reverse_proxy @both up:1
		}`, nil},
		{"a matcher is asked again after a rewrite", `:80 {
			route {
				sallyport /v1/*
				rewrite /old/* /v1/x
				reverse_proxy /v1/* up:1
			}
		}`, []string{"reverse_proxy up:1 | path /v1/*"}},
		{"a gate with an exception", `:80 {
			@api not path /health /ready
			sallyport @api
			reverse_proxy up:1
		}`, []string{"reverse_proxy up:1 | path /health /ready"}},
		{"a block that has nothing of what the gate excepts", `:80 {
			@api not path /health
			sallyport @api
			handle /v1/* {
				reverse_proxy up:1
			}
			handle /heal* {
				reverse_proxy up:2
			}
		}`, []string{"reverse_proxy up:2 | path /heal*; path /health"}},
		{"error routes run for what a gate has refused", `:80 {
			sallyport
			reverse_proxy up:1
			handle_errors {
				reverse_proxy up:2
			}
		}`, []string{"errors: reverse_proxy up:2 | all"}},
		{"error routes that only say what the error is", `:80 {
			sallyport
			reverse_proxy up:1
			handle_errors {
				respond "{err.status_code} {err.status_text}"
			}
		}`, nil},
		{"error routes that say all is well", `:80 {
			sallyport
			reverse_proxy up:1
			handle_errors 4xx {
				respond fine 200
			}
		}`, []string{"errors: respond 200 | matcher expression"}},
		{"error routes with a gate of their own", `:80 {
			sallyport
			reverse_proxy up:1
			handle_errors {
				sallyport
				file_server
			}
		}`, nil},
		{"named routes count where they are invoked", `&(up) {
			reverse_proxy up:1
		}
		:80 {
			sallyport
			invoke up
		}
		:81 {
			invoke up
		}`, []string{"reverse_proxy up:1 | all"}},
		{"a gate in a named route", `&(gate) {
			sallyport
		}
		:80 {
			invoke gate
			reverse_proxy up:1
		}`, nil},
		{"a gate in a snippet", `(gate) {
			sallyport
		}
		:80 {
			import gate
			reverse_proxy up:1
		}
		:81 {
			reverse_proxy up:1
		}`, []string{"reverse_proxy up:1 | all"}},
		{"responses that are handled are answered behind the same gate", `:80 {
			sallyport
			reverse_proxy up:1 {
				@bad status 5xx
				handle_response @bad {
					file_server
				}
			}
		}`, nil},
		{"a gate among the routes for responses comes too late for the proxy", `:80 {
			reverse_proxy up:1 {
				handle_response {
					sallyport
					file_server
				}
			}
		}`, []string{"reverse_proxy up:1 | all"}},
		{"intercept in front of the gate answers the refusals", `:80 {
			route {
				intercept {
					handle_response {
						respond fine 200
					}
				}
				sallyport
				reverse_proxy up:1
			}
		}`, []string{"respond 200 | all"}},
		{"forward_auth lets requests go on to the gate", `:80 {
			route {
				forward_auth auth:1 {
					uri /auth
				}
				sallyport
				reverse_proxy up:1
			}
		}`, []string{"reverse_proxy auth:1 | all"}},
		{"a password is no gate", `:80 {
			basic_auth {
				bob $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG
			}
			metrics /metrics
		}`, []string{"metrics | path /metrics"}},
		{"fixed refusals give nothing out", `:80 {
			abort /a
			error /e 404
			respond /r nothing 404
			sallyport
			file_server
		}
		:81 {
			respond 403
		}`, nil},
		{"a redirect is listed, and may be allowed", `www.example.com {
			redir https://example.com{uri}
		}`, []string{"redir 302 | host www.example.com"}},
		{"php behind a matcher", `:80 {
			sallyport /v1/*
			php_fastcgi up:9
		}`, []string{"redir 308 | matcher file, not (path */)", "php_fastcgi up:9 | path *.php"}},
		{"hosts under a gate for all of them", `*.example.com {
			@api host a.example.com
			handle @api {
				sallyport
				reverse_proxy up:1
			}
			handle {
				abort
			}
		}`, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			audit, err := auditRoutes(adapted(t, test.caddyfile))
			require.NoError(t, err)
			if test.open == nil {
				test.open = []string{}
			}
			require.Empty(t, cmp.Diff(test.open, open(audit)))
			for _, e := range audit.Unguarded {
				require.NotEmpty(t, e.Why)
				require.NotEmpty(t, e.Listen)
				require.NotEmpty(t, e.ConfigPath)
			}
		})
	}
}

// serverOf wraps routes into a configuration.
func serverOf(rest string) []byte {
	return []byte(`{"apps":{"http":{"servers":{"s":{"listen":[":80"],` + rest + `}}}}}`)
}

const (
	gateJSON  = `{"handler":"sallyport"}`
	proxyJSON = `{"handler":"reverse_proxy","upstreams":[{"dial":"up:1"}]}`
)

// What no Caddyfile becomes, but JSON may say.
func TestRoutesOfPlainJSONAreWalkedAsCaddyWould(t *testing.T) {
	for _, test := range []struct {
		name, server string
		open         []string
	}{
		{"a terminal route ends the list", `"routes":[{"terminal":true,"handle":[` + gateJSON + `]},{"handle":[` + proxyJSON + `]}]`, nil},
		{"a gate in a terminal route guards nothing behind it", `"routes":[{"terminal":true,"match":[{"path":["/a"]}],"handle":[` + gateJSON + `]},{"handle":[` + proxyJSON + `]}]`, []string{"reverse_proxy up:1 | all"}},
		{
			"error routes of a subroute whose gate refused go on", `"routes":[{"handle":[{"handler":"subroute","routes":[{"handle":[` + gateJSON + `]}],"errors":{"routes":[{"handle":[{"handler":"headers"}]}]}},` + proxyJSON + `]}]`,
			[]string{"reverse_proxy up:1 | all"},
		},
		{
			"error routes of a subroute that answer", `"routes":[{"handle":[{"handler":"subroute","routes":[{"handle":[` + gateJSON + `]}],"errors":{"routes":[{"handle":[{"handler":"file_server"}]}]}},` + proxyJSON + `]}]`,
			[]string{"errors: file_server | all"},
		},
		{"error routes of a subroute behind a gate", `"routes":[{"handle":[` + gateJSON + `,{"handler":"subroute","routes":[],"errors":{"routes":[{"handle":[{"handler":"file_server"}]}]}},` + proxyJSON + `]}]`, nil},
		{
			"a group of which another route may have been chosen", `"routes":[{"group":"g","match":[{"path":["/a*"]}]},{"group":"g","match":[{"path":["/a/b*"]}],"handle":[` + gateJSON + `]},{"match":[{"path":["/a/b*"]}],"handle":[` + proxyJSON + `]}]`,
			[]string{"reverse_proxy up:1 | path /a/b*"},
		},
		{
			"a group that is chosen inside another route", `"routes":[{"group":"g","match":[{"path":["/a"]}],"handle":[` + gateJSON + `]},{"handle":[{"handler":"subroute","routes":[{"group":"g","match":[{"path":["/b"]}]}]}]},{"group":"g","handle":[` + gateJSON + `]},{"handle":[` + proxyJSON + `]}]`,
			[]string{"reverse_proxy up:1 | all"},
		},
		{"the first of a group is always chosen", `"routes":[{"group":"g","match":[{"path":["/a*"]}],"handle":[` + gateJSON + `]},{"match":[{"path":["/a/b*"]}],"handle":[` + proxyJSON + `]}]`, nil},
		{
			"handlers of others may answer", `"routes":[{"handle":[{"handler":"rate_limit","zones":{"z":{"key":"secret"}}},` + gateJSON + `,` + proxyJSON + `]}]`,
			[]string{"rate_limit (not Caddy's own: may answer) | all"},
		},
		{
			"and what they hold is walked, without trusting a gate in it", `"routes":[{"handle":[` + `{"handler":"wrap","inner":{"routes":[{"handle":[` + gateJSON + `,` + proxyJSON + `]},{"match":[{"path":["/x"]}],"handle":[{"handler":"file_server"}]}]}},` + `{"handler":"metrics"}]}]`,
			[]string{"wrap (not Caddy's own: may answer) | all", "metrics | all"},
		},
		{"a named route that invokes itself ends", `"named_routes":{"r":{"handle":[{"handler":"invoke","name":"r"}]}},"routes":[{"handle":[{"handler":"invoke","name":"r"},` + proxyJSON + `]}]`, nil},
		{
			"a gate for a header and one for its absence are not added up", `"routes":[{"match":[{"header":{"A":["1"]}}],"handle":[` + gateJSON + `]},{"match":[{"not":[{"header":{"A":["1"]}}]}],"handle":[` + gateJSON + `]},{"handle":[` + proxyJSON + `]}]`,
			[]string{"reverse_proxy up:1 | header A"},
		},
		{
			"a matcher whose value is the time", `"routes":[{"match":[{"vars":{"{time.now.unix}":["1"]}}],"handle":[` + gateJSON + `]},{"match":[{"vars":{"{time.now.unix}":["1"]}}],"handle":[` + proxyJSON + `]}]`,
			[]string{"reverse_proxy up:1 | matcher vars"},
		},
		{
			"a matcher of files answers anew each time", `"routes":[{"match":[{"file":{}}],"handle":[` + gateJSON + `]},{"match":[{"file":{}}],"handle":[` + proxyJSON + `]}]`,
			[]string{"reverse_proxy up:1 | matcher file"},
		},
		{"the same expression", `"routes":[{"match":[{"expression":"{method} == 'A'"}],"handle":[` + gateJSON + `]},{"match":[{"expression":"{method} == 'A'"}],"handle":[` + proxyJSON + `]}]`, nil},
		{
			"the same header, set in between", `"routes":[{"match":[{"header":{"A":["1"]}}],"handle":[` + gateJSON + `]},{"handle":[{"handler":"headers","request":{"set":{"A":["1"]}}}]},{"match":[{"header":{"A":["1"]}}],"handle":[` + proxyJSON + `]}]`,
			[]string{"reverse_proxy up:1 | header A"},
		},
		{"host from outside, path from inside", `"routes":[{"match":[{"host":["x"],"path":["/a*"]}],"handle":[` + gateJSON + `]},{"match":[{"host":["x"]}],"handle":[{"handler":"subroute","routes":[{"match":[{"path":["/a/b"]}],"handle":[` + proxyJSON + `]}]}]}]`, nil},
		{"any of several matchers", `"routes":[{"match":[{"path":["/a*"]},{"method":["POST"]}],"handle":[` + gateJSON + `]},{"match":[{"path":["/A/b"]},{"method":["POST"],"host":["x"]}],"handle":[` + proxyJSON + `]}]`, nil},
		{"early hints are no answer", `"routes":[{"handle":[{"handler":"static_response","status_code":103},` + gateJSON + `,` + proxyJSON + `]}]`, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			audit, err := auditRoutes(serverOf(test.server))
			require.NoError(t, err)
			if test.open == nil {
				test.open = []string{}
			}
			require.Empty(t, cmp.Diff(test.open, open(audit)))
		})
	}
}

func TestPathsAndHostsAreCoveredOnlyWhenThatIsCertain(t *testing.T) {
	for _, row := range []struct {
		path, wide string
		want       bool
	}{
		{"/a", "/a", true},
		{"/a/b", "/a*", true},
		{"/a/b*", "/a/*", true},
		{"/a", "/a/*", false},
		{"/ab", "/a*", true},
		{"/a*", "/a", false},
		{"/a/*/c", "/a/*", true},
		{"/a?/c", "/ab*", false},
		{"*/c", "/a*", false},
		{"*.png", "*g", false},
		{"/a%2Fb", "/a*", false},
		{"//a/b", "/*", false},
		{"/{x}", "/*", false},
		{"/a", "*", false},
	} {
		require.Equal(t, row.want, pathWithin(row.path, row.wide), "%s in %s", row.path, row.wide)
	}
	for _, row := range []struct {
		a, b  string
		apart bool
	}{
		{"/a", "/b", true},
		{"/a", "/a", false},
		{"/a/*", "/a", true},
		{"/a*", "/a", false},
		{"/a/*", "/b*", true},
		{"/a/*", "/a*", false},
		{"*.png", "/a", false},
		{"/a", "*", false},
		{"/a%2f", "/b", false},
		{"/a", "//b", false},
	} {
		require.Equal(t, row.apart, pathsApart(row.a, row.b), "%s and %s", row.a, row.b)
		require.Equal(t, row.apart, pathsApart(row.b, row.a), "%s and %s", row.b, row.a)
	}
	for _, row := range []struct {
		host, wide string
		want       bool
	}{
		{"A.example.com", "a.example.com", true},
		{"a.example.com", "*.example.com", true},
		{"a.b.example.com", "*.example.com", false},
		{"*.example.com", "a.example.com", false},
		{"{env.HOST}", "*", false},
		{"example.com", "*.example.com", false},
	} {
		require.Equal(t, row.want, hostWithin(row.host, row.wide), "%s in %s", row.host, row.wide)
	}
}

func TestRoutesAreAllowedWhenPatternsCoverAllOfThem(t *testing.T) {
	config := adapted(t, `a.example.com, b.example.com {
		@api not path /health /ready
		sallyport @api
		reverse_proxy up:1
		handle_errors {
			file_server
		}
	}`)
	for _, row := range []struct {
		patterns string
		open     int
		unused   []string
	}{
		{"", 2, nil},
		{"a.example.com/health a.example.com/ready", 2, []string{"a.example.com/health", "a.example.com/ready"}},
		{"*.example.com/health */ready", 1, nil},
		{"*.example.com/health */ready c.example.com/*", 1, []string{"c.example.com/*"}},
		{"/health /ready", 1, nil},
		{"*/*", 1, nil},
		{"*/* errors:*/*", 0, nil},
		{"errors:a.example.com/* errors:b.example.com/* *.example.com/*", 0, nil},
		{"handler:rate_limit", 2, []string{"handler:rate_limit"}},
	} {
		audit, err := auditRoutes(config)
		require.NoError(t, err)
		list, err := readAllowances(strings.Fields(row.patterns), nil)
		require.NoError(t, err)
		left, unused := audit.allow(list)
		require.Equal(t, row.open, left, row.patterns)
		require.Empty(t, cmp.Diff(row.unused, unused), row.patterns)
	}

	// What a path is after a rewrite says nothing of what the client may ask for.
	audit, err := auditRoutes(adapted(t, `:80 {
		route {
			rewrite /secret/* /health
			respond /health hello
		}
		handle_path /one/* {
			file_server
		}
		handle_path /two/* {
			file_server
		}
	}`))
	require.NoError(t, err)
	list, err := readAllowances([]string{"/health", "/one/*", "/two/*"}, nil)
	require.NoError(t, err)
	left, _ := audit.allow(list)
	require.Equal(t, 1, left)
	require.Nil(t, audit.Unguarded[2].AllowedBy)

	audit, err = auditRoutes(serverOf(`"routes":[{"handle":[{"handler":"rate_limit"},` + gateJSON + `,` + proxyJSON + `]}]`))
	require.NoError(t, err)
	list, err = readAllowances([]string{"handler:rate_limit"}, nil)
	require.NoError(t, err)
	left, unused := audit.allow(list)
	require.Zero(t, left)
	require.Empty(t, unused)
}

func TestPatternsThatMeanNothingAreRefusedWithWhatToWrite(t *testing.T) {
	for text, want := range map[string]string{
		"example.com":           "write HOST/PATH",
		"https://example.com/x": "leave the scheme and the port out",
		"example.com:8080/x":    "leave the scheme and the port out",
		"handler:reverse_proxy": "not Caddy's own",
		"handler:":              "not Caddy's own",
		"":                      "write HOST/PATH",
	} {
		_, err := parseAllowance(text)
		require.ErrorContains(t, err, want, text)
	}
	list, err := parseAllowances(strings.NewReader("# public\n\nallow a/x b/y # both\nallow [::1]/z\n"), "f")
	require.NoError(t, err)
	require.Len(t, list, 3)
	require.Equal(t, "::1", list[2].host)
	_, err = parseAllowances(strings.NewReader("allow a/x\na/y\n"), "f")
	require.ErrorContains(t, err, "f:2: a line is `allow HOST/PATH…`")
	_, err = parseAllowances(strings.NewReader("allow a\n"), "f")
	require.ErrorContains(t, err, "f:1: ")
}

// Requests are described without values that might be secrets.
func TestTheListOfRoutesShowsNoValuesOfHeaders(t *testing.T) {
	audit, err := auditRoutes(adapted(t, `:80 {
		@k {
			header X-Key hunter2
			query key=hunter2
			expression "{http.request.header.X} == 'hunter2'"
		}
		respond @k hunter2
	}`))
	require.NoError(t, err)
	raw, err := json.Marshal(audit)
	require.NoError(t, err)
	require.Contains(t, string(raw), "header X-Key")
	require.NotContains(t, string(raw), "hunter2")
}

func TestChangesBehindTheGateAreRemarkedAndGatesToldApart(t *testing.T) {
	audit, err := auditRoutes(adapted(t, `:80 {
		sallyport {
			environment sandbox
			require write /x
		}
		uri strip_prefix /v1
		reverse_proxy up:1
	}`))
	require.NoError(t, err)
	require.Empty(t, audit.Unguarded)
	require.Len(t, audit.Remarks, 1)
	require.Contains(t, audit.Remarks[0].Remark, "judged what the client sent")
	require.Equal(t, []string{"sandbox, 1 require line"}, audit.Guarded[0].Gates)

	audit, err = auditRoutes(adapted(t, `:80 {
		sallyport /v1/*
		reverse_proxy up:1
	}`))
	require.NoError(t, err)
	require.Equal(t, "the gate before it is only for path /v1/*", audit.Unguarded[0].Why)
	require.Equal(t, []string{":80"}, audit.Unguarded[0].Listen)
}

func TestRoutesThatCannotBeWalkedAreAnError(t *testing.T) {
	deep := `{"handler":"file_server"}`
	for range maxNesting + 1 {
		deep = `{"handler":"subroute","routes":[{"handle":[` + deep + `]}]}`
	}
	_, err := auditRoutes(serverOf(`"routes":[{"handle":[` + deep + `]}]`))
	require.ErrorIs(t, err, errTooDeep)

	var named []string
	for i := range 40 {
		call := fmt.Sprintf(`{"handler":"invoke","name":"r%d"}`, i+1)
		named = append(named, fmt.Sprintf(`"r%d":{"handle":[%s,%s]}`, i, call, call))
	}
	named = append(named, `"r40":{"handle":[{"handler":"headers"}]}`)
	_, err = auditRoutes(serverOf(`"named_routes":{` + strings.Join(named, ",") + `},"routes":[{"handle":[{"handler":"invoke","name":"r0"}]}]`))
	require.ErrorIs(t, err, errTooMany)

	for _, text := range []string{"", "[]", `{"apps":1}`, string(serverOf(`"routes":[{"handle":[1]}]`)), string(serverOf(`"routes":[{"match":[{"path":1}]}]`))} {
		_, err := auditRoutes([]byte(text))
		require.Error(t, err, text)
	}
	audit, err := auditRoutes([]byte(`{"apps":{"sallyport":{}}}`))
	require.NoError(t, err)
	require.Empty(t, audit.Unguarded)
}

// Caddy forgets the JSON of a configuration once it is set up. What is read back is
// judged like the JSON, and the redirects of automatic HTTPS are not listed.
func TestARunningConfigurationIsJudgedLikeItsFile(t *testing.T) {
	const text = `{
		admin off
		persist_config off
		storage file_system {
			root DIR
		}
	}
	localhost {
		@api not path /health
		header @api X-Frame-Options deny
		handle @api {
			basic_auth {
				bob $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG
			}
			respond hello
		}
		invoke there
		reverse_proxy 127.0.0.1:1 {
			handle_response {
				file_server /x
			}
		}
		handle_errors {
			file_server
		}
	}
	http://localhost:1 {
		redir https://example.com/
		abort /never
	}
	&(there) {
		respond /there 200
		respond /nowhere 404
	}`
	config := adapted(t, strings.Replace(text, "DIR", t.TempDir(), 1))
	want, err := auditRoutes(config)
	require.NoError(t, err)
	var parsed caddy.Config
	require.NoError(t, json.Unmarshal(config, &parsed))
	ctx, err := caddy.ProvisionContext(&parsed)
	require.NoError(t, err)
	app, err := ctx.App("http")
	require.NoError(t, err)
	got, err := auditRunning(httpApp(t, app))
	require.NoError(t, err)
	require.NotEmpty(t, open(want))
	require.Empty(t, cmp.Diff(withoutLabels(want), withoutLabels(got)))
}

func httpApp(t *testing.T, app any) *caddyhttp.App {
	t.Helper()
	typed, ok := app.(*caddyhttp.App)
	require.True(t, ok)
	return typed
}

// withoutLabels is what both forms know: addresses of upstreams are not read back.
func withoutLabels(audit *routesAudit) []string {
	var list []string
	for _, part := range [][]*routeEntry{audit.Unguarded, audit.Guarded, audit.Refusals} {
		for _, e := range part {
			list = append(list, fmt.Sprintf("%s %s %v %s %v", e.Server, e.module, e.ErrorRoutes, e.Requests, e.Listen))
		}
		list = append(list, "")
	}
	return list
}

// FuzzRoutesAudit: whatever the JSON, the walk ends, does not panic, and says the same twice.
func FuzzRoutesAudit(f *testing.F) {
	f.Add(serverOf(`"routes":[{"group":"g","match":[{"path":["/a*"]},{"not":[{"host":["x"]}]}],"handle":[` + gateJSON + `,` + proxyJSON + `]}]`))
	f.Add(serverOf(`"named_routes":{"r":{"handle":[{"handler":"invoke","name":"r"}]}},"routes":[{"handle":[{"handler":"invoke","name":"r"}]}],"errors":{"routes":[{"handle":[{"handler":"x","y":[{"handle":[{}]}]}]}]}`))
	f.Add([]byte(`{"apps":{"http":{"servers":{"s":null}}}}`))
	f.Add(serverOf(`"routes":[{"match":[{"path":[]},{}],"handle":[{"handler":"static_response","status_code":"{x}"},{"handler":"intercept","handle_response":[{"routes":[{"terminal":true}]}]}]}]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		audit, err := auditRoutes(raw)
		if err != nil {
			return
		}
		again, err := auditRoutes(raw)
		require.NoError(t, err)
		require.Equal(t, open(audit), open(again))
		// Without any gate, nothing is guarded.
		if audit.Gates == 0 {
			require.Empty(t, audit.Guarded)
		}
		everything, err := readAllowances([]string{"*/*", "errors:*/*"}, nil)
		require.NoError(t, err)
		left, _ := audit.allow(everything)
		require.Zero(t, left)
	})
}
