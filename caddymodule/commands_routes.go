package caddymodule

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

const routesHelp = `Lists every route of a configuration that answers requests which have passed no
gate, and fails when there is one that no --allow covers. It reads the file, asks no
gateway, and starts nothing: run it in CI.

A pattern is HOST/PATH, both as in Caddy's matchers: example.com/health,
*.example.com/public/*, */metrics for any host. errors:HOST/PATH allows the routes of
handle_errors, and handler:NAME a handler of another plugin that stands in front of
the gates and gives nothing out, such as handler:rate_limit. A route is allowed when
the patterns cover all hosts and all paths that reach it. A file has lines
"allow PATTERN...", and comments after #.

Fixed answers with 4xx or 5xx, error and abort give nothing out and are allowed. So
are the redirects to HTTPS that Caddy adds by itself.`

func routesCommand(cmd *cobra.Command) {
	in := &invocation{Command: cmd}
	var patterns, files []string
	var all bool
	flags := cmd.Flags()
	flags.StringVarP(&in.config, "config", "c", "", "the configuration file; by default, the Caddyfile of this directory")
	flags.StringVarP(&in.adapter, "adapter", "a", "", "the config adapter for the configuration file")
	flags.StringVarP(&in.output, "output", "o", outputText, "the form of the result: text or json")
	flags.StringArrayVar(&patterns, "allow", nil, "a route that is meant to be public, HOST/PATH; may be repeated")
	flags.StringArrayVar(&files, "allow-file", nil, "a `file` with lines allow HOST/PATH; may be repeated")
	flags.BoolVar(&all, "all", false, "also list what is allowed, what is guarded and by which gates, and what only refuses")
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		in.Command = cmd
		if in.output != outputText && in.output != outputJSON {
			return errors.New("--output takes text or json")
		}
		return in.routes(patterns, files, all)
	}
}

func (in *invocation) routes(patterns, files []string, all bool) error {
	allowances, err := readAllowances(patterns, files)
	if err != nil {
		return err
	}
	config, err := in.loadConfig()
	if err != nil {
		return err
	}
	if config == nil {
		return errors.New("there is no Caddyfile in this directory: name the configuration with --config")
	}
	audit, err := auditRoutes(config)
	if err != nil {
		return err
	}
	open, unused := audit.allow(allowances)
	if in.output == outputJSON {
		if err := in.printJSON(audit); err != nil {
			return err
		}
	} else {
		in.printRoutes(audit, all)
	}
	for _, text := range unused {
		in.say("The pattern %s allows nothing: remove it, or see whether it is misspelt.", text)
	}
	switch {
	case open > 0:
		return fmt.Errorf("%s without passing a gate: put the gate in front, or name what is meant to be public with --allow HOST/PATH", showRoutes(open))
	case audit.Gates == 0:
		in.say("There is no gate in this configuration, and nothing that needs one.")
	default:
		in.say("Nothing can be reached without passing a gate, except for %d allowed routes.", len(audit.Unguarded))
	}
	return nil
}

func showRoutes(n int) string {
	if n == 1 {
		return "1 route can be reached"
	}
	return fmt.Sprintf("%d routes can be reached", n)
}

func readAllowances(patterns, files []string) ([]allowance, error) {
	var list []allowance
	for _, text := range patterns {
		a, err := parseAllowance(text)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		more, err := parseAllowances(file, name)
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	return list, nil
}

// allow marks what patterns cover. open counts what is left, and unused are the
// patterns that cover nothing.
func (r *routesAudit) allow(list []allowance) (open int, unused []string) {
	used := map[int]bool{}
	for _, e := range r.Unguarded {
		covering := e.allowed(list)
		if covering == nil {
			open++
			continue
		}
		e.AllowedBy = []string{}
		for _, i := range covering {
			used[i] = true
			e.AllowedBy = append(e.AllowedBy, list[i].text)
		}
	}
	for i := range list {
		if !used[i] {
			unused = append(unused, list[i].text)
		}
	}
	return open, unused
}

func (in *invocation) printRoutes(audit *routesAudit, all bool) {
	heading := []string{"STATE", "SERVER", "LISTEN", "REQUESTS", "HANDLER", "WHY"}
	var rows [][]string
	add := func(state string, e *routeEntry, why string) {
		if e.ErrorRoutes {
			state += ", on errors"
		}
		rows = append(rows, []string{state, e.Server, showList(e.Listen, "-"), e.Requests, e.Handler, why})
	}
	for _, e := range audit.Unguarded {
		if e.AllowedBy == nil {
			add("UNGUARDED", e, e.Why)
		}
	}
	if all {
		for _, e := range audit.Unguarded {
			if e.AllowedBy != nil {
				add("allowed", e, "by "+strings.Join(e.AllowedBy, " "))
			}
		}
		for _, e := range audit.Guarded {
			add("guarded", e, "gate: "+strings.Join(e.Gates, "; gate: "))
		}
		for _, e := range audit.Refusals {
			add("refuses", e, "gives nothing out")
		}
	}
	if len(rows) > 0 {
		in.printTable(heading, rows)
	}
	for _, r := range audit.Remarks {
		in.say("Remark: %s (%s)", r.Remark, r.ConfigPath)
	}
}
