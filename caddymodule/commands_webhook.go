package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/token"
)

func webhookCommands(parent *cobra.Command) {
	in := commonFlags(parent)
	webhookCreate(in, parent)
	in.client(parent, "list", "Lists webhooks, newest first", cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
		hooks, err := c.Webhooks(ctx)
		if err != nil {
			return err
		}
		return printList(in, hooks, func(w *api.Webhook) string { return string(w.ID) },
			[]string{"ID", "URL", "EVENTS", "STATE", "CONFIGURED", "CREATED"},
			func(w *api.Webhook) []string {
				return []string{string(w.ID), showShort(w.URL), showEventCount(w.Events), w.State, showYes(w.ManagedByConfig), showTime(&w.CreatedAt, "-")}
			})
	})
	in.client(parent, "show ID", "Shows a webhook; its signing secret is shown only when it is issued", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		w, err := c.Webhook(ctx, token.ID(args[0]))
		return in.printWebhook(&w, err)
	})
	webhookEdit(in, parent)
	in.client(parent, "delete ID", "Removes a webhook and its signing secret; what waits for it is cancelled", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		w, err := c.DeleteWebhook(ctx, token.ID(args[0]))
		return in.printWebhook(&w, err)
	})
	webhookRotate(in, parent)
	in.client(parent, "rollback ID", "Ends the rotation under way: the new signing secret is gone, the previous one stays", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		w, err := c.RollBackWebhook(ctx, token.ID(args[0]))
		return in.printWebhook(&w, err)
	})
	in.client(parent, "confirm ID", "Ends the rotation under way: the previous signing secret signs no more", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		w, err := c.ConfirmWebhook(ctx, token.ID(args[0]))
		return in.printWebhook(&w, err)
	})
	in.client(parent, "test ID", "Sends a webhook an event that means nothing, and says what came back", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		t, err := c.TestWebhook(ctx, token.ID(args[0]))
		if err != nil {
			return err
		}
		return in.printWebhookTest(&t)
	})
}

func webhookCreate(in *invocation, parent *cobra.Command) {
	var n api.NewWebhook
	cmd := in.client(parent, "create URL", "Creates a webhook and prints its signing secret, once", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		n.URL = args[0]
		issued, err := c.CreateWebhook(ctx, n)
		return in.printIssuedWebhook(&issued, err)
	})
	cmd.Flags().StringArrayVar(&n.Events, "event", nil, "an event that it is told of (repeatable); by default, all")
	cmd.Flags().BoolVar(&n.Disabled, "disabled", false, "send nothing to it until it is enabled")
}

func webhookEdit(in *invocation, parent *cobra.Command) {
	var address string
	var events []string
	var enable, disable bool
	var cmd *cobra.Command
	cmd = in.client(parent, "edit ID", "Changes a webhook", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		var e api.WebhookEdit
		if cmd.Flags().Changed("url") {
			e.URL = &address
		}
		if cmd.Flags().Changed("event") {
			wanted := events
			if len(wanted) == 1 && wanted[0] == "all" {
				wanted = []string{}
			}
			e.Events = &wanted
		}
		if enable && disable {
			return errors.New("give --enable or --disable, not both")
		}
		if enable || disable {
			e.Disabled = &disable
		}
		if e.URL == nil && e.Events == nil && e.Disabled == nil {
			return errors.New("nothing to change: give --url, --event, --enable or --disable")
		}
		before, err := c.Webhook(ctx, token.ID(args[0]))
		if err != nil {
			return err
		}
		w, err := c.EditWebhook(ctx, before.ID, before.Version, e)
		return in.printWebhook(&w, err)
	})
	flags := cmd.Flags()
	flags.StringVar(&address, "url", "", "where requests go")
	flags.StringArrayVar(&events, "event", nil, "all events that it is told of from now on (repeatable); all for every one")
	flags.BoolVar(&enable, "enable", false, "send to it again")
	flags.BoolVar(&disable, "disable", false, "send nothing to it until it is enabled")
}

func webhookRotate(in *invocation, parent *cobra.Command) {
	var grace string
	cmd := in.client(parent, "rotate ID", "Gives a webhook a new signing secret and prints it, once", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		var r api.WebhookRotation
		if grace != "" {
			d, err := parseDuration("--grace", grace)
			if err != nil {
				return err
			}
			if d < 0 || d%time.Second != 0 {
				return errors.New("--grace takes whole seconds, such as 24h or 7d, or 0")
			}
			seconds := int64(d / time.Second)
			r.GracePeriodSeconds = &seconds
		}
		issued, err := c.RotateWebhook(ctx, token.ID(args[0]), r)
		if err := in.printIssuedWebhook(&issued, err); err != nil {
			return err
		}
		if until := issued.Webhook.PreviousSecretExpiresAt; until != nil {
			in.say("Requests are signed with the previous secret as well until %s.", showTime(until, ""))
		} else {
			in.say("The previous secret signs no more.")
		}
		return nil
	})
	cmd.Flags().StringVar(&grace, "grace", "", "how long requests are signed with the previous secret as well: up to 90d, 0 for not at all; by default, 24h")
}

func webhookFieldsOf(w *api.Webhook) [][2]string {
	secret := "made here; `webhook rotate` shows a new one"
	switch {
	case w.SecretManagedByConfig:
		secret = "from the configuration"
	case !w.HasSecret:
		secret = "lost with a master key; `webhook rotate` makes a new one"
	}
	return [][2]string{
		{"id", string(w.ID)},
		{"url", w.URL},
		{"events", showList(w.Events, "all")},
		{"state", w.State},
		{"signing secret", secret},
		{"previous secret signs until", showTime(w.PreviousSecretExpiresAt, "-")},
		{"configured", showYes(w.ManagedByConfig)},
		{"created", showTime(&w.CreatedAt, "-")},
		{"updated", showTime(&w.UpdatedAt, "-")},
	}
}

func (in *invocation) printWebhook(w *api.Webhook, err error) error {
	if err != nil {
		return err
	}
	return in.printOne(w, string(w.ID), webhookFieldsOf(w))
}

// printIssuedWebhook writes the one answer that holds a signing secret.
func (in *invocation) printIssuedWebhook(i *api.IssuedWebhook, err error) error {
	switch {
	case err != nil:
		return err
	case in.output == outputJSON:
		return in.printJSON(i)
	case in.quiet:
		fmt.Fprintln(in.OutOrStdout(), i.Secret.Reveal())
		return nil
	}
	in.printRecord(append(webhookFieldsOf(&i.Webhook), [2]string{"secret", i.Secret.Reveal()}))
	in.say("The signing secret is shown this once. Give it to the receiver now; `webhook rotate` makes another.")
	return nil
}

// errTestFailed ends the command with an error, for scripts; what is wrong was printed.
var errTestFailed = errors.New("the webhook did not accept the test")

func (in *invocation) printWebhookTest(t *api.WebhookTest) error {
	status := "-"
	if t.Status != 0 {
		status = strconv.Itoa(t.Status)
	}
	err := in.printOne(t, string(t.ID), [][2]string{
		{"webhook-id", string(t.ID)},
		{"accepted", showYes(t.Accepted)},
		{"status", status},
		{"problem", showText(&t.Problem, "-")},
	})
	if err == nil && !t.Accepted {
		return fmt.Errorf("%w: %s", errTestFailed, t.Problem)
	}
	return err
}

func showEventCount(events []string) string {
	switch len(events) {
	case 0:
		return "all"
	case 1:
		return events[0]
	default:
		return fmt.Sprintf("%d events", len(events))
	}
}
