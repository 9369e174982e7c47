package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/authority"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "sallyport",
		Short: "Manages API tokens, accounts and users",
		Long: `Manages the API tokens of a gateway, and the accounts and users that they belong
to. The commands speak to the running gateway through its admin endpoint or, with
--offline, to its store.`,
		CobraFunc: func(parent *cobra.Command) {
			parent.Hidden = caddy.CustomBinaryName == programTitle // there they are at the top as well
			for _, c := range commands {
				child := &cobra.Command{Use: c.name, Short: c.short, Long: c.long}
				c.build(child)
				parent.AddCommand(child)
			}
		},
	})
}

// command is one command of the tree, which stands under `caddy sallyport` in any
// Caddy and at the top in our own program.
type command struct {
	name, short, long string
	build             func(*cobra.Command)
}

var commands = []command{
	{name: "demo", short: "Shows the gate at work in front of a sample API", long: demoHelp, build: demoCommand},
	{name: "account", short: "Manages accounts, the customers of the API", build: accountCommands},
	{name: "user", short: "Manages users, the people of an account", build: userCommands},
	{name: "role", short: "Manages roles, above which no token of their users can do anything", build: roleCommands},
	{name: "policy", short: "Manages the policies that rule accounts", build: policyCommands},
	{name: "scopes", short: "Lists the scopes that tokens can have", build: scopeCommands},
	{name: "token", short: "Creates, lists, edits, rotates and ends tokens", build: tokenCommands},
	{name: "leak", short: "Deals with secrets that were found where others can read them", build: leakCommands},
	{name: "lifecycle", short: "Shows what is to come for tokens and what is known of their use", build: lifecycleCommands},
	{name: "notice", short: "Lists the messages to people", build: noticeCommands},
	{name: "webhook", short: "Manages webhooks, where events are sent to, and their signing secrets", build: webhookCommands},
	{name: "audit", short: "Lists the audit log and checks its chain", build: auditCommands},
	{name: "node", short: "Lists the gateways that use the store, and gives up lost ones", build: nodeCommands},
	{name: "master-key", short: "Shows, rotates and removes master keys, on the store itself", build: masterKeyCommands},
	{name: "store", short: "Copies the store to another database, on the stores themselves", build: storeCommands},
	{name: "routes", short: "Lists what can be reached without passing a gate, for CI", long: routesHelp, build: routesCommand},
	{name: "migrate", short: "Makes the store, or brings its schema up to date", build: migrateCommand},
}

// invocation is one run of a command: its common flags and where it writes.
type invocation struct {
	*cobra.Command

	address, config, adapter string
	operator, output         string
	requestedBy, otp         string
	offline, quiet           bool
}

// The forms of output.
const (
	outputText = "text"
	outputJSON = "json"
)

// commonFlags gives a command and all below it the flags that every one takes.
func commonFlags(cmd *cobra.Command) *invocation {
	in := &invocation{}
	flags := cmd.PersistentFlags()
	flags.StringVar(&in.address, "address", "", "the admin endpoint of the gateway; by default, what the configuration says, or localhost:2019")
	flags.StringVarP(&in.config, "config", "c", "", "the configuration file; by default, the Caddyfile of this directory if there is one")
	flags.StringVarP(&in.adapter, "adapter", "a", "", "the config adapter for the configuration file")
	flags.BoolVar(&in.offline, "offline", false, "work on the store itself, without a gateway")
	flags.StringVar(&in.operator, "operator", "", "your name, for the audit log; by default, the name of the system's user")
	flags.StringVarP(&in.output, "output", "o", outputText, "the form of the result: text or json")
	flags.BoolVarP(&in.quiet, "quiet", "q", false, "print only the new secret, or only IDs")
	return in
}

// leaf adds a command that does something. args says how many arguments it takes.
func (in *invocation) leaf(parent *cobra.Command, use, short string, args cobra.PositionalArgs, run func(ctx context.Context, args []string) error) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: args}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in.Command = cmd
		if in.output != outputText && in.output != outputJSON {
			return errors.New("--output takes text or json")
		}
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		return inWords(run(ctx, args))
	}
	parent.AddCommand(cmd)
	return cmd
}

// untilSignal gives a context that Ctrl-C and a polite kill end.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// client adds a command that asks the gateway, or the store in its stead.
func (in *invocation) client(parent *cobra.Command, use, short string, args cobra.PositionalArgs, run func(ctx context.Context, c *api.Client, args []string) error) *cobra.Command {
	return in.leaf(parent, use, short, args, func(ctx context.Context, args []string) error {
		connection, err := in.connect(ctx)
		if err != nil {
			return err
		}
		return errors.Join(run(ctx, connection.client, args), connection.close())
	})
}

// say writes prose, which never mixes with results.
func (in *invocation) say(format string, args ...any) {
	fmt.Fprintf(in.ErrOrStderr(), format+"\n", args...)
}

// inWords makes a refusal readable: what is wrong, where, and what to do.
func inWords(err error) error {
	var unreachable *unreachableError
	if errors.As(err, &unreachable) {
		return unreachable // without the URL around it
	}
	if errors.Is(err, api.ErrUnexpectedAnswer) {
		return fmt.Errorf("%w: another program listens there, or a Caddy without Sallyport; give --address or --config with the gateway's admin endpoint", err)
	}
	var refusal *authority.Error
	if errors.As(err, &refusal) { // of a verb that was called on the store itself
		return fmt.Errorf("%s (%s)", refusal.Detail, refusal.Code)
	}
	var problem *api.Problem
	if !errors.As(err, &problem) {
		return err
	}
	text := problem.Title
	if problem.Detail != "" {
		text += ": " + problem.Detail
	}
	for i, field := range problem.Errors {
		if i == 0 && len(problem.Errors) == 1 {
			break // the detail has said it
		}
		text += fmt.Sprintf("\n  %s: %s", fieldName(field), field.Detail)
	}
	for _, c := range problem.Candidates {
		text += fmt.Sprintf("\n  …%s  %s  %s", c.Last4, c.TokenID, c.Name)
	}
	if mend := mends[problem.Code]; mend != "" {
		text += "\n" + mend
	}
	if problem.Status >= 500 && problem.RequestID != "" {
		text += "\nThe gateway's log has more under the request ID " + problem.RequestID + "."
	}
	return fmt.Errorf("%s (%s)", text, problem.Code)
}

// mends says what to do about a refusal, in the words of the command line.
var mends = map[string]string{
	"confirmation_required": "Add --confirm to do it.",
	"step_up_required":      "Add --otp with the present code of the user's authenticator app.",
	"version_mismatch":      "Somebody changed it at the same time. Look at it again, then repeat the command.",
	"ip_allowlist_required": "Add --ip with the addresses or ranges that may use the token.",
	"token_limit_reached":   "Add --revoke-last4 with the last 4 characters of one of these to give that up.",
	"rotation_in_progress":  "Look at it with `token rotation`, then `token confirm`, `token rollback` or `token extend` it.",
	"no_rotation":           "Look at it with `token rotation`.",
	"managed_by_config":     "Change the configuration file and reload it.",
	"lifecycle_unavailable": "Leave out --offline, and ask the gateway that runs.",
	"missing_token":         "A gate answers there: give --address or --config with the admin endpoint.",
}

func fieldName(f api.FieldProblem) string {
	switch {
	case f.Parameter != "":
		return f.Parameter
	case f.Header != "":
		return f.Header
	default:
		if len(f.Pointer) > 0 && f.Pointer[0] == '/' {
			return f.Pointer[1:]
		}
		return f.Pointer
	}
}
