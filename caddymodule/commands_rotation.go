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

// tokenRotation adds the commands about new secrets.
func tokenRotation(in *invocation, parent *cobra.Command) {
	tokenRotate(in, parent)
	in.client(parent, "rotation ID", "Shows how a rotation stands, and who still uses the previous secret", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		r, err := c.Rotation(ctx, token.ID(args[0]))
		if err != nil {
			return err
		}
		return in.printRotation(&r)
	})
	rotationChange(in, parent, "confirm", "Ends the previous secret now: everything has been switched over", (*api.Client).ConfirmRotation)
	rotationChange(in, parent, "rollback", "Ends the new secret now, and goes on with the previous one alone", (*api.Client).RollBackRotation)
	tokenExtend(in, parent)
}

func tokenRotate(in *invocation, parent *cobra.Command) {
	var r api.Rotation
	var mode, grace string
	var cmd *cobra.Command
	cmd = in.client(parent, "rotate ID", "Gives a token a new secret and prints it, once", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		r.Mode = token.RotationMode(mode)
		if cmd.Flags().Changed("grace") {
			d, err := parseDuration("--grace", grace)
			if err != nil {
				return err
			}
			if d%time.Second != 0 {
				return errors.New("--grace takes whole seconds")
			}
			seconds := int64(d / time.Second)
			r.GracePeriodSeconds = &seconds
		}
		id := token.ID(args[0])
		issued, err := retried(ctx, func(key string) (api.Issued, error) {
			return c.RotateToken(ctx, id, key, r)
		})
		if err = in.printIssued(&issued, err); err != nil {
			return err
		}
		// The secret has been issued: that it cannot be told what becomes of the
		// previous one is no failure.
		state, err := c.Rotation(ctx, id)
		switch {
		case err != nil:
			in.say("How the previous secret ends, `token rotation` shows.")
		case !state.InProgress:
			in.say("The previous secret no longer works.")
		default:
			in.say("The previous secret %s.", howPreviousEnds(&state))
		}
		return nil
	})
	cmd.Aliases = []string{"reset"} // T1: people have two words for it
	flags := cmd.Flags()
	flags.StringVar(&mode, "mode", "", "timed: the previous secret works for a grace period. now: it ends at once. until_confirmed: it works until token confirm. on_first_use: the grace period starts when the new secret is first used. By default, as the policy says")
	flags.StringVar(&r.RevokeLast4, "revoke-last4", "", "give up the secret of the account that ends in these 4 characters for the new one")
	flags.StringVar(&grace, "grace", "", "how long the previous secret goes on working, with timed and on_first_use: 24h or 7d; by default, as the policy says")
	flags.BoolVar(&r.Confirm, "confirm", false, "do it, where the policy asks for confirmation")
}

// howPreviousEnds is what becomes of the previous secret, in a few words.
func howPreviousEnds(r *api.RotationState) string {
	end := ""
	if r.PreviousSecretExpiresAt != nil {
		end = ", until " + showTime(r.PreviousSecretExpiresAt, "") + " at most"
	}
	switch r.WaitsFor {
	case "confirmation":
		return "works until the rotation is confirmed" + end
	case "first_use":
		grace := ""
		if r.GracePeriodSeconds != nil {
			grace = showSpan(*r.GracePeriodSeconds) + " after "
		}
		return "works until " + grace + "the first use of the new one" + end
	default:
		return "works until " + showTime(r.PreviousSecretExpiresAt, "-")
	}
}

func (in *invocation) printRotation(r *api.RotationState) error {
	if in.output == outputJSON || in.quiet || !r.InProgress {
		return in.printOne(r, r.Mode, [][2]string{
			{"token", string(r.TokenID)},
			{"rotation", "none under way"},
			{"secret", showSecret(r.SecretID, r.Last4)},
		})
	}
	in.printRecord([][2]string{
		{"token", string(r.TokenID)},
		{"mode", r.Mode},
		{"began", showTime(r.StartedAt, "-")},
		{"new secret", showSecret(r.SecretID, r.Last4)},
		{"first used", showTime(r.FirstUsedAt, "not yet")},
		{"previous secret", showSecret(r.PreviousSecretID, r.PreviousLast4)},
		{"how long", howPreviousEnds(r)},
		{"last seen in use", showTime(r.PreviousLastUsedAt, "not since the rotation")},
		{"requests with it", strconv.FormatInt(r.PreviousRequests, 10)},
	})
	if len(r.PreviousAddresses) > 0 {
		rows := make([][]string, len(r.PreviousAddresses))
		for i := range r.PreviousAddresses {
			a := &r.PreviousAddresses[i]
			rows[i] = []string{showText(&a.Address, "-"), strconv.FormatInt(a.Requests, 10), a.LastSeen.Format(time.DateOnly)}
		}
		fmt.Fprintln(in.OutOrStdout())
		in.printTable([]string{"STILL USED FROM", "REQUESTS", "LAST ON"}, rows)
	}
	if r.AddressesTruncated {
		in.say("It is used from more addresses than are shown.")
	}
	return nil
}

// showSecret names a secret by what people know it by.
func showSecret(id *token.ID, last4 *string) string {
	if id == nil {
		return "-"
	}
	return showText(last4, "-") + " (" + string(*id) + ")"
}

func rotationChange(in *invocation, parent *cobra.Command, verb, short string,
	do func(*api.Client, context.Context, token.ID, api.RotationChange) (api.Token, error),
) {
	var r api.RotationChange
	var previous string
	cmd := in.client(parent, verb+" ID", short, cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		r.PreviousSecretID = token.ID(previous)
		t, err := do(c, ctx, token.ID(args[0]), r)
		return in.printToken(&t, err)
	})
	previousFlag(cmd, &previous)
	cmd.Flags().BoolVar(&r.Confirm, "confirm", false, "do it, where the policy asks for confirmation")
}

func previousFlag(cmd *cobra.Command, previous *string) {
	cmd.Flags().StringVar(previous, "previous", "", "the ID of the previous secret that is meant, as token rotation shows it, so that the command can be repeated; by default, whichever it is")
}

func tokenExtend(in *invocation, parent *cobra.Command) {
	var r api.RotationExtension
	var until, duration, previous string
	cmd := in.client(parent, "extend ID", "Moves the end of the previous secret", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		var err error
		if r.PreviousSecretExpiresAt, err = endOf(until, duration, "give the new end of the previous secret: --until or --duration"); err != nil {
			return err
		}
		r.PreviousSecretID = token.ID(previous)
		t, err := c.ExtendRotation(ctx, token.ID(args[0]), r)
		return in.printToken(&t, err)
	})
	flags := cmd.Flags()
	flags.StringVar(&until, "until", "", "when the previous secret ends: 2027-01-31 or 2027-01-31T12:00:00Z")
	flags.StringVar(&duration, "duration", "", "how long it works from now on: 7d or 12h")
	flags.BoolVar(&r.Confirm, "confirm", false, "do it, where the policy asks for confirmation")
	previousFlag(cmd, &previous)
}
