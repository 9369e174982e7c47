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

// tokenLife adds the commands about what a token was used for and what follows.
func tokenLife(in *invocation, parent *cobra.Command) {
	tokenRestore(in, parent)
	tokenState(in, parent, "undo-downgrade", "Gives a token back the permissions that were taken for being unused", (*api.Client).UndoDowngrade, "")
	tokenExempt(in, parent)
	tokenUsage(in, parent)
	in.client(parent, "recommend ID", "Shows the narrowest that a token could be, by the record of its use", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		r, err := c.Recommendation(ctx, token.ID(args[0]))
		if err != nil {
			return err
		}
		return in.printRecommendation(&r)
	})
}

func tokenRestore(in *invocation, parent *cobra.Command) {
	var r api.Restoring
	var expiresAt, duration string
	cmd := in.client(parent, "restore ID", "Brings back a token that was deleted for being unused or expired", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		at, err := expiry(expiresAt, duration, time.Now())
		if err != nil {
			return err
		}
		if !at.IsZero() {
			r.ExpiresAt = &at
		}
		t, err := c.RestoreToken(ctx, token.ID(args[0]), r)
		return in.printToken(&t, err)
	})
	flags := cmd.Flags()
	flags.StringVar(&expiresAt, "expires-at", "", "when it ends from now on: 2027-01-31 or 2027-01-31T12:00:00Z; one that has expired needs it")
	flags.StringVar(&duration, "duration", "", "how long it lives from now on: 90d or 12h")
	flags.BoolVar(&r.Confirm, "confirm", false, "do it, where the policy asks for confirmation")
}

func tokenExempt(in *invocation, parent *cobra.Command) {
	var e api.Exemption
	var until, duration string
	var end bool
	cmd := in.client(parent, "exempt ID", "Keeps a token from being narrowed or deleted for being unused, for a time", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		id := token.ID(args[0])
		if end {
			if e.Reason != "" || until != "" || duration != "" {
				return errors.New("--end takes neither --reason nor --until nor --duration")
			}
			t, err := c.EndExemption(ctx, id, e.Confirm)
			return in.printToken(&t, err)
		}
		var err error
		if e.Until, err = endOf(until, duration, "an exemption has an end: give --until or --duration; or --end to end the one that there is"); err != nil {
			return err
		}
		if e.Reason == "" {
			return errors.New("--reason says why, for those who read the audit log")
		}
		t, err := c.ExemptToken(ctx, id, e)
		return in.printToken(&t, err)
	})
	flags := cmd.Flags()
	flags.StringVar(&e.Reason, "reason", "", "why, for those who read the audit log")
	flags.StringVar(&until, "until", "", "when it ends: 2027-01-31 or 2027-01-31T12:00:00Z")
	flags.StringVar(&duration, "duration", "", "how long it lasts: 90d or 12h")
	flags.BoolVar(&end, "end", false, "end the exemption")
	flags.BoolVar(&e.Confirm, "confirm", false, "do it, where the policy asks for confirmation")
}

func tokenUsage(in *invocation, parent *cobra.Command) {
	var from, to string
	cmd := in.client(parent, "usage ID", "Shows what a token was used for, and how often on each day", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		var times [2]time.Time
		for i, flag := range []struct{ name, text string }{{"--from", from}, {"--to", to}} {
			if flag.text == "" {
				continue
			}
			var err error
			if times[i], err = parseTime(flag.name, flag.text); err != nil {
				return err
			}
		}
		u, err := c.TokenUsage(ctx, token.ID(args[0]), times[0], times[1])
		if err != nil {
			return err
		}
		return in.printUsage(&u)
	})
	cmd.Flags().StringVar(&from, "from", "", "days from this one on; by default, the last 30")
	cmd.Flags().StringVar(&to, "to", "", "days before this time; by default, until now")
}

func (in *invocation) printUsage(u *api.Usage) error {
	switch {
	case in.output == outputJSON:
		return in.printJSON(u)
	case in.quiet:
		fmt.Fprintln(in.OutOrStdout(), showTime(u.LastUsedAt, "-"))
		return nil
	}
	in.printRecord([][2]string{
		{"last used", showTime(u.LastUsedAt, "never")},
		{"numbers kept since", showTime(u.CountsSince, "-")},
	})
	if len(u.Scopes) > 0 {
		rows := make([][]string, len(u.Scopes))
		for i := range u.Scopes {
			s := &u.Scopes[i]
			rows[i] = []string{showText(&s.Scope, "(none)"), string(s.SecretID), showTime(&s.FirstUsedAt, "-"), showTime(&s.LastUsedAt, "-")}
		}
		fmt.Fprintln(in.OutOrStdout())
		in.printTable([]string{"SCOPE", "SECRET", "FIRST USED", "LAST USED"}, rows)
	}
	if len(u.Days) > 0 {
		rows := make([][]string, len(u.Days))
		for i := range u.Days {
			d := &u.Days[i]
			rows[i] = []string{d.Day, showText(&d.Scope, "(none)"), d.Outcome, showText(&d.Address, "-"), string(d.SecretID), strconv.FormatInt(d.Requests, 10)}
		}
		fmt.Fprintln(in.OutOrStdout())
		in.printTable([]string{"DAY", "SCOPE", "OUTCOME", "ADDRESS", "SECRET", "REQUESTS"}, rows)
	}
	if u.Truncated {
		in.say("There is more: --from %s", showTime(&u.To, "-"))
	}
	return nil
}

func (in *invocation) printRecommendation(r *api.Recommendation) error {
	err := in.printOne(r, showText(&r.Access, "-"), [][2]string{
		{"observed from", showTime(r.ObservedFrom, "-")},
		{"observed through", showTime(r.ObservedThrough, "-")},
		{"used scopes", showList(r.UsedScopes, "-")},
		{"read only is enough", showYes(r.ReadOnly)},
		{"narrowest access", showText(&r.Access, "-")},
		{"narrowest scopes", showList(r.Scopes, "-")},
		{"came from", showList(r.Addresses, "-")},
		{"addresses since", showTime(r.AddressesSince, "-")},
	})
	switch {
	case err != nil:
	case r.Access == "":
		in.say("There is nothing to go by yet: the token used no permission in the time that was observed.")
	case r.AddressesPart:
		in.say("It came from more addresses than are kept apart: an allow-list of these would shut some callers out.")
	}
	return err
}

// endOf is the time that --until or --duration names. absent is what to say when
// neither is there.
func endOf(until, duration, absent string) (time.Time, error) {
	switch {
	case until != "" && duration != "":
		return time.Time{}, errors.New("give --until or --duration, not both")
	case until != "":
		return parseTime("--until", until)
	case duration != "":
		return expiry("", duration, time.Now())
	default:
		return time.Time{}, errors.New(absent)
	}
}
