package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/token"
)

func lifecycleCommands(parent *cobra.Command) {
	in := commonFlags(parent)
	lifecyclePlan(in, parent)
	in.client(parent, "apply", "Does now what is due, instead of at the next regular pass", cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
		r, err := c.ApplyLifecycle(ctx)
		if err != nil {
			return err
		}
		return in.printPass(&r)
	})
	in.client(parent, "coverage", "Shows up to when all use is known, and which gateway holds that back", cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
		known, err := c.Coverage(ctx)
		if err != nil {
			return err
		}
		return in.printCoverage(&known)
	})
}

func lifecyclePlan(in *invocation, parent *cobra.Command) {
	var f api.PlanFilter
	var at, account string
	cmd := in.client(parent, "plan", "Shows what would be done to tokens now, what comes later, and why", cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
		f.AccountID = token.ID(account)
		if at != "" {
			var err error
			if f.At, err = parseTime("--at", at); err != nil {
				return err
			}
		}
		plan, err := c.LifecyclePlan(ctx, f)
		if err != nil {
			return err
		}
		return in.printPlan(&plan)
	})
	cmd.Long = `Shows, by token, what would be done now, what comes later if nothing else happens
until then, and why. It follows the rules by which it is done, and changes nothing.`
	flags := cmd.Flags()
	flags.StringVar(&at, "at", "", "only what is due by this time: 2027-01-31 or 2027-01-31T12:00:00Z")
	flags.StringVar(&f.Policy, "policy", "", "plan by the policy with this name instead of each account's own")
	flags.StringVar(&account, "account", "", "only tokens of the account with this ID")
	pageFlags(cmd, &f.Cursor, &f.Limit)
}

// planRow is one action as the table shows it.
type planRow struct {
	token  *api.Coming
	action *api.Action
}

func (in *invocation) printPlan(plan *api.Forecast) error {
	if in.output == outputJSON {
		return in.printJSON(plan)
	}
	var rows []planRow
	var broken []*api.Coming
	for i := range plan.Items {
		item := &plan.Items[i]
		if in.quiet {
			fmt.Fprintln(in.OutOrStdout(), item.TokenID)
			continue
		}
		if item.Broken != "" {
			broken = append(broken, item)
		}
		for j := range item.Actions {
			rows = append(rows, planRow{item, &item.Actions[j]})
		}
	}
	if !in.quiet {
		table := make([][]string, len(rows))
		for i, r := range rows {
			table[i] = []string{
				string(r.token.TokenID), showShort(r.token.Name), r.action.Kind, showTime(&r.action.Due, "-"),
				showWaits(r.action), showEvidence(r.action),
			}
		}
		in.printTable([]string{"TOKEN", "NAME", "ACTION", "DUE", "WAITS FOR", "EVIDENCE"}, table)
		for _, item := range broken {
			in.say("Nothing is planned for the token %s: %s.", item.TokenID, item.Broken)
		}
	}
	if plan.NextCursor != "" {
		in.say("There is more: --cursor %s", plan.NextCursor)
	}
	return nil
}

func showWaits(a *api.Action) string { return showList(a.WaitsFor, "nothing") }

// showEvidence is why an action follows, in a few words.
func showEvidence(a *api.Action) string {
	var parts []string
	e := &a.Evidence
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if a.Cause != "" {
		add("called off: %s", a.Cause)
	}
	if e.From != nil {
		add("unused since %s", showTime(e.From, "-"))
	}
	switch {
	case e.LastUse != nil:
		add("last use until %s", showTime(e.LastUse, "-"))
	case e.From != nil:
		add("never used")
	}
	if len(a.Takes) > 0 {
		add("takes %s", strings.Join(a.Takes, " "))
	}
	if a.Access != "" {
		add("leaves %s", strings.TrimSpace(a.Access+" "+strings.Join(a.Scopes, " ")))
	}
	if a.Announces != nil {
		add("announces %s", showTime(a.Announces, "-"))
	}
	if e.NoticeGiven != nil {
		add("notice given %s, accepted %s", showTime(e.NoticeGiven, "-"), showTime(e.NoticeAccepted, "not yet"))
	}
	if e.StretchedSeconds > 0 {
		add("longer by %s", showSpan(e.StretchedSeconds))
	}
	if e.BlindUntil != nil {
		add("blind until %s", showTime(e.BlindUntil, "-"))
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, "; ")
}

func (in *invocation) printPass(r *api.PassReport) error {
	var done []string
	for _, kind := range slices.Sorted(maps.Keys(r.Done)) {
		done = append(done, fmt.Sprintf("%s %d", kind, r.Done[kind]))
	}
	err := in.printOne(r, showYes(r.Ran), [][2]string{
		{"ran here", showYes(r.Ran)},
		{"looked after by", showText(&r.Holder, "-")},
		{"tokens", strconv.Itoa(r.Tokens)},
		{"done", showText(ptrTo(strings.Join(done, ", ")), "nothing")},
		{"kept back", strconv.Itoa(r.Held)},
		{"put back", strconv.Itoa(r.PutBack)},
		{"broken records", strconv.Itoa(r.Broken)},
	})
	switch {
	case err != nil:
	case !r.Ran:
		in.say("Another gateway looks after the tokens at this moment, and does what is due.")
	case r.Resting:
		in.say("Nothing is taken away for now: the clock leapt, or this was the first pass of all.")
	}
	if err == nil && r.Broken > 0 {
		err = errors.New("some tokens have records that contradict themselves, and nobody looks after them: see `lifecycle plan`")
	}
	return err
}

func ptrTo[T any](v T) *T { return &v }

func (in *invocation) printCoverage(c *api.Coverage) error {
	if in.output == outputJSON {
		return in.printJSON(c)
	}
	if in.quiet {
		fmt.Fprintln(in.OutOrStdout(), showTime(c.Through, "-"))
		return nil
	}
	in.printRecord([][2]string{{"observed since", showTime(c.Since, "never")}, {"all known through", showTime(c.Through, "-")}})
	fmt.Fprintln(in.OutOrStdout())
	rows := make([][]string, len(c.Runs))
	for i := range c.Runs {
		r := &c.Runs[i]
		rows[i] = []string{
			string(r.ID), r.Node, r.State, showTime(&r.StartedAt, "-"), showTime(r.CoveredThrough, "-"), showTime(r.LastContact, "-"), showYes(r.HoldsBack),
		}
	}
	in.printTable([]string{"RUN", "NODE", "STATE", "STARTED", "COVERED THROUGH", "LAST CONTACT", "HOLDS BACK"}, rows)
	if len(c.Gaps) == 0 {
		return nil
	}
	fmt.Fprintln(in.OutOrStdout())
	rows = make([][]string, len(c.Gaps))
	for i := range c.Gaps {
		g := &c.Gaps[i]
		kind := "not running"
		if g.Blind {
			kind = "blind"
		}
		rows[i] = []string{showTime(&g.From, "-"), showTime(g.To, "goes on"), kind, showText(&g.Node, "-"), g.Reason}
	}
	in.printTable([]string{"GAP FROM", "TO", "KIND", "NODE", "REASON"}, rows)
	return nil
}
