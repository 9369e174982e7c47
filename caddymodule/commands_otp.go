package caddymodule

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
)

// nameFlags are for the commands that an operator can run in a user's name.
func (in *invocation) nameFlags(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringVar(&in.requestedBy, "requested-by", "", "act for the owner or admin of the account with this ID, by all rules that bind them; by default, in your own name")
	flags.StringVar(&in.otp, "otp", "", "the one-time code of that user, or a recovery code, where the policy wants one")
}

// inName has a client act in the name that was given.
func (in *invocation) inName(c *api.Client) {
	c.RequestedBy, c.OTP = token.ID(in.requestedBy), in.otp
}

func otpCommands(in *invocation, parent *cobra.Command) {
	in.client(parent, "enrol-otp ID", "Begins to enrol a user's authenticator app, and shows its QR code, once", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		e, err := c.EnrolOTP(ctx, token.ID(args[0]))
		if err != nil {
			return err
		}
		if in.output == outputText && !in.quiet {
			picture, err := authority.QRText(e.URI)
			if err != nil {
				return err
			}
			in.say("%s", picture)
			in.say("Have the user scan this with an authenticator app, then run: user confirm-otp %s CODE", args[0])
		}
		return in.printOne(e, e.URI, [][2]string{{"uri", e.URI}, {"secret", e.Secret}, {"confirm until", showTime(&e.Until, "-")}})
	})
	in.client(parent, "confirm-otp ID CODE", "Ends an enrolment with the first code, and prints the recovery codes, once", cobra.ExactArgs(2), func(ctx context.Context, c *api.Client, args []string) error {
		codes, err := c.ConfirmOTP(ctx, token.ID(args[0]), args[1])
		if err != nil {
			return err
		}
		if in.output == outputText && !in.quiet {
			in.say("Each of these stands for one one-time code, should the device be lost. Keep them like a password.")
		}
		if in.output == outputText {
			_, err := fmt.Fprintln(in.OutOrStdout(), strings.Join(codes.Codes, "\n"))
			return err
		}
		return in.printOne(codes, "", nil)
	})
	in.client(parent, "show-otp ID", "Shows how it stands with a user's one-time codes", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		o, err := c.UserOTP(ctx, token.ID(args[0]))
		if err != nil {
			return err
		}
		return in.printOne(o, o.State, [][2]string{
			{"state", o.State},
			{"enrolled", showTime(o.EnrolledAt, "-")},
			{"recovery codes", strconv.Itoa(o.RecoveryCodes)},
			{"locked until", showTime(o.LockedUntil, "-")},
			{"needs reset", strconv.FormatBool(o.NeedsReset)},
		})
	})
	in.client(parent, "reset-otp ID", "Forgets a user's one-time codes, so that they can enrol anew; make sure who asks", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		if err := c.ResetOTP(ctx, token.ID(args[0])); err != nil {
			return err
		}
		return in.printOne(api.Gone{Deleted: true}, args[0], [][2]string{{"reset", args[0]}})
	})
}
