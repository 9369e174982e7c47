package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/token"
)

const policyRulesHelp = `Each RULE is a line as it stands in the policy block of a Caddyfile, quoted as one
argument: 'preset mercury', 'delete_unused 90d', 'allow rotate owner admin'.`

func policyCommands(parent *cobra.Command) {
	in := commonFlags(parent)
	in.client(parent, "list", "Lists the policies", cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
		policies, err := c.Policies(ctx)
		if err != nil {
			return err
		}
		return printList(in, policies, func(p *api.Policy) string { return p.Name },
			[]string{"NAME", "MAX LIFETIME", "DELETE UNUSED", "DOWNGRADE UNUSED", "ROTATION", "GRACE", "IP ALLOW-LIST", "OWNED BY"},
			func(p *api.Policy) []string {
				return []string{
					p.Name, showSpanOr(p.MaxLifetimeSeconds, "none"), showSpanOr(p.DeleteUnusedSeconds, "never"), showSpanOr(p.DowngradeUnusedSeconds, "never"),
					join(p.RotationModes), showSpan(p.GraceDefaultSeconds), string(p.RequireIPAllowlist), owner(p.ManagedByConfig),
				}
			})
	})
	in.client(parent, "show NAME", "Shows a policy", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		p, err := c.Policy(ctx, args[0])
		return in.printPolicyOr(&p, err)
	})
	create := in.client(parent, "create NAME [RULE…]", "Creates a policy", cobra.MinimumNArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		rules, err := policyRules(args[1:])
		if err != nil {
			return err
		}
		p, err := c.CreatePolicy(ctx, api.NewPolicy{Name: args[0], PolicyRules: rules})
		return in.printPolicyOr(&p, err)
	})
	create.Long = "Creates a policy with the rules of the preset default, or of the one named.\n\n" + policyRulesHelp
	policyEdit(in, parent)
	policyPreview(in, parent)
	policyAssign(in, parent)
	in.client(parent, "delete NAME", "Deletes a policy that rules no account", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		p, err := c.DeletePolicy(ctx, args[0])
		return in.printPolicyOr(&p, err)
	})
}

func policyEdit(in *invocation, parent *cobra.Command) {
	var confirm bool
	edit := in.client(parent, "edit NAME RULE…", "Changes a policy", cobra.MinimumNArgs(2), func(ctx context.Context, c *api.Client, args []string) error {
		rules, err := policyRules(args[1:])
		if err != nil {
			return err
		}
		before, err := c.Policy(ctx, args[0])
		if err != nil {
			return err
		}
		p, err := c.EditPolicy(ctx, before.Name, before.Version, api.PolicyEdit{PolicyRules: rules, ConfirmChange: confirm})
		if isProblem(err, "confirmation_required") {
			in.say("What it would do to the tokens that there are:")
			if shown := in.showPreview(ctx, c, before.Name, api.PolicyQuestion{PolicyRules: rules}); shown != nil {
				return errors.Join(err, shown)
			}
		}
		return in.printPolicyOr(&p, err)
	})
	edit.Long = "Changes the rules that are given. The accounts that the policy rules follow at once:\nwithout --confirm it shows what that would do to their tokens.\n\n" + policyRulesHelp
	edit.Flags().BoolVar(&confirm, "confirm", false, "change a policy that rules accounts")
}

func policyPreview(in *invocation, parent *cobra.Command) {
	var account string
	preview := in.client(parent, "preview NAME [RULE…]", "Shows what rules would do to the tokens that there are", cobra.MinimumNArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		rules, err := policyRules(args[1:])
		if err != nil {
			return err
		}
		return in.showPreview(ctx, c, args[0], api.PolicyQuestion{PolicyRules: rules, AccountID: token.ID(account)})
	})
	preview.Long = "Shows what would change for tokens if the policy had these rules, or with --account,\nif it ruled that account. It changes nothing.\n\n" + policyRulesHelp
	preview.Flags().StringVar(&account, "account", "", "what it would do to the tokens of the account with this ID")
}

func policyAssign(in *invocation, parent *cobra.Command) {
	var confirm bool
	assign := in.client(parent, "assign NAME ACCOUNT", "Has a policy rule an account", cobra.ExactArgs(2), func(ctx context.Context, c *api.Client, args []string) error {
		account, err := c.Account(ctx, token.ID(args[1]))
		if err != nil {
			return err
		}
		if !confirm && account.Policy != args[0] {
			in.say("What it would do to the tokens that there are:")
			if err := in.showPreview(ctx, c, args[0], api.PolicyQuestion{AccountID: account.ID}); err != nil {
				return err
			}
			return errors.New("nothing was changed: ask again with --confirm to go on")
		}
		account, err = c.EditAccount(ctx, account.ID, account.Version, api.AccountEdit{Policy: &args[0]})
		return in.printAccount(&account, err)
	})
	assign.Long = "Has a policy rule an account, from the next request on. Without --confirm it shows what\nthat would do to the account's tokens, and changes nothing."
	assign.Flags().BoolVar(&confirm, "confirm", false, "go on")
}

func isProblem(err error, code string) bool {
	var p *api.Problem
	return errors.As(err, &p) && p.Code == code
}

// policyRules reads lines of a policy block.
func policyRules(lines []string) (api.PolicyRules, error) {
	if len(lines) == 0 {
		return api.PolicyRules{}, nil
	}
	tokens, err := caddyfile.Tokenize([]byte(strings.Join(lines, "\n")), "the command line")
	if err != nil {
		return api.PolicyRules{}, err
	}
	var policy Policy
	p := &optionParser{Dispenser: caddyfile.NewDispenser(tokens), app: new(App)}
	if err := p.policyRules(p.Next, "rules", &policy); err != nil {
		return api.PolicyRules{}, err
	}
	change := policy.change()
	return api.PolicyRulesOf(policy.Preset, &change), nil
}

func (in *invocation) printPolicyOr(p *api.Policy, err error) error {
	if err != nil {
		return err
	}
	return in.printPolicy(p)
}

// showPreview gathers all pages, and prints what changes.
func (in *invocation) showPreview(ctx context.Context, c *api.Client, name string, q api.PolicyQuestion) error {
	told := map[string]bool{} // pages can name one twice
	all := api.PolicyPreview{Items: []api.TokenEffect{}, OverCap: []api.OverCap{}}
	q.Limit = api.MaxLimit
	for {
		page, err := c.PreviewPolicy(ctx, name, q)
		if err != nil {
			return err
		}
		all.Now = page.Now
		all.Tokens += page.Tokens
		all.Items = append(all.Items, page.Items...)
		for _, o := range page.OverCap {
			if who := crowdOf(o); !told[who] {
				told[who] = true
				all.OverCap = append(all.OverCap, o)
			}
		}
		if page.NextCursor == "" || page.NextCursor == q.Cursor {
			break
		}
		q.Cursor = page.NextCursor
	}
	if in.output == outputJSON {
		return in.printJSON(&all)
	}
	rows := [][]string{}
	for i := range all.Items {
		e := &all.Items[i]
		needs := "-"
		if e.NeedsAllowList {
			needs = "needs one"
		}
		rows = append(rows, []string{
			string(e.TokenID), showShort(e.Name), showMove(e.Now.EndsAt, e.Then.EndsAt),
			showMove(e.Now.DowngradesAt, e.Then.DowngradesAt), showMove(e.Now.DeletesAt, e.Then.DeletesAt), needs,
		})
	}
	in.printTable([]string{"TOKEN", "NAME", "ENDS", "IS NARROWED", "IS DELETED", "IP ALLOW-LIST"}, rows)
	for _, o := range all.OverCap {
		in.say("The %s has more than %d valid secrets: they work on, and none can be added.", crowdOf(o), o.Most)
	}
	in.say("%d of %d tokens are affected.", len(all.Items), all.Tokens)
	return nil
}

// crowdOf names who has too many secrets.
func crowdOf(o api.OverCap) string {
	if o.UserID != nil {
		return "user " + string(*o.UserID)
	}
	return "account " + string(o.AccountID)
}

// showMove shows a date that moves.
func showMove(now, then *time.Time) string {
	was, will := showTime(now, "never"), showTime(then, "never")
	if was == will {
		return "-"
	}
	return fmt.Sprintf("%s, not %s", will, was)
}
