package caddymodule

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport/sallyport/token"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("sallyport", parseGate)
	// Before redir, which is the first directive that can answer a request or
	// change its path: the gate judges what the client sent, and nothing answers
	// in front of it, a response cache least of all.
	httpcaddyfile.RegisterDirectiveOrder("sallyport", httpcaddyfile.Before, "redir")
}

func parseGate(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	gate := new(Gate)
	if err := gate.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return gate, nil
}

// UnmarshalCaddyfile reads the directive. Every line is optional:
//
//	sallyport [MATCHER] {
//	    require            SCOPE [METHOD...] PATH {
//	        business_unit  NAME...
//	    }
//	    environment        production|sandbox|any
//	    failure_limit      N|off
//	    opaque_errors
//	    fresh_only
//	    credential_header  NAME...
//	    credential_query   NAME
//	    forward_credential
//	    allow              encoded_slash|double_slash|semicolon...
//	    cors               ORIGIN...
//	    realm              TEXT
//	}
func (g *Gate) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // "sallyport"
	if d.NextArg() {
		return d.Err("sallyport takes a block and no arguments: what a path needs stands in the block, as `require SCOPE PATH`")
	}
	seen := map[string]bool{}
	for d.NextBlock(0) {
		name := d.Val()
		if seen[name] && !slices.Contains([]string{"require", "credential_header", "allow", "cors"}, name) {
			return d.Errf("%s is set twice: keep one of the lines", name)
		}
		seen[name] = true
		if err := g.unmarshalLine(name, d); err != nil {
			return err
		}
		for d.NextBlock(1) {
			if name != "require" {
				return d.Errf("%s takes no block", name)
			}
			if err := g.unmarshalRequirement(d); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *Gate) unmarshalLine(name string, d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch name {
	case "require":
		return g.unmarshalRequire(args, d)
	case "opaque_errors", "fresh_only", "forward_credential":
		if len(args) > 0 {
			return d.Errf("%s takes no argument: write it to switch it on, leave it out to switch it off", name)
		}
		switch name {
		case "opaque_errors":
			g.OpaqueErrors = true
		case "fresh_only":
			g.FreshOnly = true
		case "forward_credential":
			g.ForwardCredential = true
		}
		return nil
	case "environment", "failure_limit", "credential_query", "realm":
		if len(args) != 1 {
			return d.Errf("%s takes one argument", name)
		}
		return g.unmarshalSingle(name, args[0], d)
	case "credential_header", "allow", "cors":
		if len(args) == 0 {
			return d.Errf("%s takes at least one argument", name)
		}
		return g.unmarshalList(name, args, d)
	default:
		// A line that was misspelt would otherwise leave open what it was meant to close.
		return d.Errf("unrecognized subdirective %q: sallyport knows require, environment, failure_limit, opaque_errors, fresh_only, "+
			"credential_header, credential_query, forward_credential, allow, cors and realm", name)
	}
}

func (g *Gate) unmarshalRequire(args []string, d *caddyfile.Dispenser) error {
	if len(args) < 2 {
		return d.Err("require takes a scope, the methods if not all are meant, and a path: `require payments:write POST /v1/payments*`")
	}
	line := Requirement{
		Scope:   args[0],
		Methods: args[1 : len(args)-1],
		Path:    args[len(args)-1],
		Source:  fmt.Sprintf("%s:%d", filepath.Base(d.File()), d.Line()),
	}
	if err := token.CheckScopeName(line.Scope); err != nil {
		return d.Errf("require: %v", err)
	}
	for _, method := range line.Methods {
		if !token.RegisteredMethod(method) {
			return d.Err("require: what stands between the scope and the path must be HTTP methods in upper case, and not TRACE or CONNECT")
		}
	}
	if err := token.CheckPath(line.Path); err != nil {
		return d.Errf("require: %v", err)
	}
	g.Require = append(g.Require, line)
	return nil
}

// unmarshalRequirement reads a line of the block of the latest require.
func (g *Gate) unmarshalRequirement(d *caddyfile.Dispenser) error {
	if d.Val() != "business_unit" {
		return d.Errf("unrecognized subdirective %q: the block of require knows business_unit", d.Val())
	}
	line := &g.Require[len(g.Require)-1]
	names := d.RemainingArgs()
	if len(names) == 0 {
		return d.Err("business_unit takes at least one name")
	}
	line.Units = append(line.Units, names...)
	if _, err := token.CheckUnits(line.Units); err != nil {
		return d.Errf("require: %v", err)
	}
	return nil
}

func (g *Gate) unmarshalSingle(name, value string, d *caddyfile.Dispenser) error {
	switch name {
	case "environment":
		if _, err := gateEnvironment(value); err != nil || value == "" {
			return d.Err("environment must be production, sandbox or any")
		}
		g.Environment = value
	case "failure_limit":
		limit := 0
		if value != "off" {
			var err error
			if limit, err = strconv.Atoi(value); err != nil || limit < 0 {
				return d.Err("failure_limit takes a number of refused credentials a minute, or `off`")
			}
		}
		g.FailureLimit = &limit
	case "credential_query":
		if value == "" || strings.ContainsAny(value, "&=#") {
			return d.Err("credential_query takes the name of a query parameter")
		}
		g.CredentialQuery = value
	case "realm":
		g.Realm = value
	}
	return nil
}

func (g *Gate) unmarshalList(name string, values []string, d *caddyfile.Dispenser) error {
	var err error
	switch name {
	case "credential_header":
		if _, err = credentialNames(values); err == nil {
			g.CredentialHeaders = append(g.CredentialHeaders, values...)
		}
	case "allow":
		if _, err = newRelaxations(values); err == nil {
			g.Allow = append(g.Allow, values...)
		}
	case "cors":
		if _, err = newCORS(values); err == nil {
			g.CORS = append(g.CORS, values...)
		}
	}
	if err != nil {
		return d.WrapErr(err)
	}
	return nil
}

var _ caddyfile.Unmarshaler = (*Gate)(nil)
