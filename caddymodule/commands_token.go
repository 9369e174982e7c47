package caddymodule

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/token"
)

func tokenCommands(parent *cobra.Command) {
	in := commonFlags(parent)
	in.nameFlags(parent)
	tokenCreate(in, parent)
	tokenList(in, parent)
	in.client(parent, "show ID", "Shows a token", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		t, err := c.Token(ctx, token.ID(args[0]))
		return in.printToken(&t, err)
	})
	tokenEdit(in, parent)
	tokenRotation(in, parent)
	tokenEnable(in, parent)
	tokenDisable(in, parent)
	tokenRevoke(in, parent)
	tokenDelete(in, parent)
	tokenVerify(in, parent)
	tokenLife(in, parent)
}

func tokenCreate(in *invocation, parent *cobra.Command) {
	var n api.NewToken
	var account, user, access, environment, expiresAt, duration string
	cmd := in.client(parent, "create", "Creates a token and prints its secret, once", cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
		n.AccountID, n.UserID = token.ID(account), token.ID(user)
		if err := n.Access.UnmarshalText([]byte(access)); err != nil {
			return fmt.Errorf("--access: %w", err)
		}
		if err := n.Environment.UnmarshalText([]byte(environment)); err != nil {
			return fmt.Errorf("--env: %w", err)
		}
		expires, err := expiry(expiresAt, duration, time.Now())
		if err != nil {
			return err
		}
		if !expires.IsZero() {
			n.ExpiresAt = &expires
		}
		issued, err := retried(ctx, func(key string) (api.Issued, error) { return c.CreateToken(ctx, key, n) })
		return in.printIssued(&issued, err)
	})
	flags := cmd.Flags()
	flags.StringVar(&n.Name, "name", "", "what people call the token")
	flags.StringVar(&account, "account", "", "the ID of the account that it belongs to")
	flags.StringVar(&user, "user", "", "the ID of the user that it belongs to; by default, none: the account itself")
	flags.StringVar(&access, "access", "read_only", "how much it may do: read_only, read_write or custom")
	flags.StringArrayVar(&n.Scopes, "scope", nil, "a scope of a custom token (repeatable)")
	flags.StringArrayVar(&n.IPAllowlist, "ip", nil, "an address or CIDR range that it may be used from (repeatable)")
	flags.BoolVar(&n.AllowAnyAddress, "allow-any-address", false, "accept 0.0.0.0/0 and ::/0 as --ip")
	flags.StringVar(&environment, "env", "production", "production or sandbox")
	flags.BoolVar(&n.FreshOnly, "fresh-only", false, "have gateways answer for it only while they know all changes, and with 503 once the store has been out of reach for 5 seconds")
	flags.StringVar(&expiresAt, "expires-at", "", "when it ends: 2027-01-31 or 2027-01-31T12:00:00Z")
	flags.StringVar(&duration, "duration", "", "how long it lives: 90d or 12h")
	flags.StringVar(&n.RevokeLast4, "revoke-last4", "", "give up the secret of the account that ends in these 4 characters for the new one")
	flags.BoolVar(&n.Confirm, "confirm", false, "do it, where the policy asks for confirmation")
	mustHave(cmd, "name", "account")
}

// mustHave marks flags without which a command makes no sense.
func mustHave(cmd *cobra.Command, flags ...string) {
	for _, name := range flags {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // no such flag
		}
	}
}

// expiry is the time that --expires-at and --duration name; zero for neither.
func expiry(at, duration string, now time.Time) (time.Time, error) {
	switch {
	case at != "" && duration != "":
		return time.Time{}, errors.New("give --expires-at or --duration, not both")
	case at != "":
		return parseTime("--expires-at", at)
	case duration != "":
		d, err := parseDuration("--duration", duration)
		if err == nil && d <= 0 {
			err = errors.New("--duration must be longer than nothing")
		}
		return now.Add(d).UTC().Truncate(time.Second), err
	}
	return time.Time{}, nil
}

func parseTime(flag, text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%s takes a time such as 2027-01-31T12:00:00Z, or a day, which begins at midnight UTC", flag)
}

func parseDuration(flag, text string) (time.Duration, error) {
	d, err := caddy.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%s takes a duration such as 90s, 10m, 24h or 7d", flag)
	}
	return d, nil
}

// retried asks for a secret, and once more if the connection broke: the same
// Idempotency-Key keeps the second time from issuing a second secret.
func retried(ctx context.Context, ask func(key string) (api.Issued, error)) (api.Issued, error) {
	key := rand.Text()
	issued, err := ask(key)
	var refusal *api.Problem
	var unreachable *unreachableError
	if err == nil || errors.As(err, &refusal) || errors.As(err, &unreachable) || ctx.Err() != nil {
		return issued, err
	}
	return ask(key)
}

func tokenList(in *invocation, parent *cobra.Command) {
	var f api.TokenFilter
	var account, user, expiresBefore, lastUsedBefore string
	var states []string
	cmd := in.client(parent, "list", "Lists tokens, newest first", cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
		f.AccountID, f.UserID = token.ID(account), token.ID(user)
		for _, name := range states {
			var state token.State
			if err := state.UnmarshalText([]byte(name)); err != nil {
				return fmt.Errorf("--state: %w", err)
			}
			f.States = append(f.States, state)
		}
		if expiresBefore != "" {
			var err error
			if f.ExpiresBefore, err = parseTime("--expires-before", expiresBefore); err != nil {
				return err
			}
		}
		if lastUsedBefore != "" {
			var err error
			if f.LastUsedBefore, err = parseTime("--last-used-before", lastUsedBefore); err != nil {
				return err
			}
		}
		page, err := c.TokenPage(ctx, f)
		if err != nil {
			return err
		}
		return printPage(in, &page, func(t *api.Token) string { return string(t.ID) },
			[]string{"ID", "NAME", "ACCOUNT", "ACCESS", "STATE", "ENVIRONMENT", "LAST4", "EXPIRES", "LAST USED"},
			func(t *api.Token) []string {
				return []string{
					string(t.ID), t.Name, string(t.AccountID), t.Access.String(), t.State.String(),
					t.Environment.String(), showText(t.Last4, "-"), showTime(t.ExpiresAt, "never"),
					showTime(t.LastUsedAt, "never"),
				}
			})
	})
	flags := cmd.Flags()
	flags.StringVar(&account, "account", "", "only those of the account with this ID")
	flags.StringVar(&user, "user", "", "only those of the user with this ID")
	flags.StringArrayVar(&states, "state", nil, "only those that are active, disabled, expired, revoked or deleted (repeatable)")
	flags.StringVar(&f.Scope, "scope", "", "only those that list this scope")
	flags.StringVar(&f.Search, "search", "", "an ID, the last 4 characters of a secret, or the start of a name")
	flags.StringVar(&expiresBefore, "expires-before", "", "only those that end before this time")
	flags.StringVar(&lastUsedBefore, "last-used-before", "", "only those that were made before this time and not used since")
	pageFlags(cmd, &f.Cursor, &f.Limit)
}

func pageFlags(cmd *cobra.Command, cursor *string, limit *int) {
	cmd.Flags().StringVar(cursor, "cursor", "", "where the page before ended")
	cmd.Flags().IntVar(limit, "limit", api.DefaultLimit, fmt.Sprintf("how many, at most %d", api.MaxLimit))
}

func tokenEdit(in *invocation, parent *cobra.Command) {
	var name, access, expiresAt, duration string
	var scopes, addresses []string
	var anyAddress, freshOnly, confirm bool
	var cmd *cobra.Command
	cmd = in.client(parent, "edit ID", "Changes a token, as far as its policy lets it", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		var e api.TokenEdit
		changed := cmd.Flags().Changed
		if changed("name") {
			e.Name = &name
		}
		if changed("access") {
			e.Access = new(token.Access)
			if err := e.Access.UnmarshalText([]byte(access)); err != nil {
				return fmt.Errorf("--access: %w", err)
			}
		}
		if changed("scope") {
			scopes = withoutNone(scopes)
			e.Scopes = &scopes
		}
		if changed("ip") {
			addresses = withoutNone(addresses)
			e.IPAllowlist, e.AllowAnyAddress = &addresses, anyAddress
		}
		if changed("expires-at") || changed("duration") {
			e.ExpiresAt.Changed = true
			if expiresAt != "never" {
				at, err := expiry(expiresAt, duration, time.Now())
				if err != nil {
					return err
				}
				e.ExpiresAt.At = &at
			}
		}
		if changed("fresh-only") {
			e.FreshOnly = &freshOnly
		}
		if e == (api.TokenEdit{}) {
			return errors.New("nothing to change: give --name, --access, --scope, --ip, --expires-at, --duration or --fresh-only")
		}
		e.Confirm = confirm
		before, err := c.Token(ctx, token.ID(args[0]))
		if err != nil {
			return err
		}
		t, err := c.EditToken(ctx, before.ID, before.Version, e)
		return in.printToken(&t, err)
	})
	flags := cmd.Flags()
	flags.StringVar(&name, "name", "", "what people call it")
	flags.StringVar(&access, "access", "", "how much it may do: read_only, read_write or custom")
	flags.StringArrayVar(&scopes, "scope", nil, "all its scopes from now on (repeatable); none for an empty list")
	flags.StringArrayVar(&addresses, "ip", nil, "all its addresses and CIDR ranges from now on (repeatable); none for an empty list")
	flags.BoolVar(&anyAddress, "allow-any-address", false, "accept 0.0.0.0/0 and ::/0 as --ip")
	flags.StringVar(&expiresAt, "expires-at", "", "when it ends: 2027-01-31, 2027-01-31T12:00:00Z or never")
	flags.StringVar(&duration, "duration", "", "how long it lives from now on: 90d or 12h")
	flags.BoolVar(&freshOnly, "fresh-only", false, "have gateways answer for it only while they know all changes; --fresh-only=false for no longer")
	flags.BoolVar(&confirm, "confirm", false, "do it, where the policy asks for confirmation")
}

// withoutNone is the list, or an empty one when it says "none".
func withoutNone(list []string) []string {
	if slices.Equal(list, []string{"none"}) {
		return []string{}
	}
	return list
}

func tokenEnable(in *invocation, parent *cobra.Command) {
	tokenState(in, parent, "enable", "Lets a disabled token work again", (*api.Client).EnableToken, "")
}

func tokenDisable(in *invocation, parent *cobra.Command) {
	tokenState(in, parent, "disable", "Stops a token until it is enabled again", (*api.Client).DisableToken, "")
}

func tokenRevoke(in *invocation, parent *cobra.Command) {
	tokenState(in, parent, "revoke", "Ends a token for good; it stays listed", (*api.Client).RevokeToken,
		"From then on every request with it is refused, and it can not be undone.")
}

func tokenDelete(in *invocation, parent *cobra.Command) {
	tokenState(in, parent, "delete", "Ends a token for good and takes it off the list", (*api.Client).DeleteToken,
		"From then on every request with it is refused and it is no longer listed, and it can not be undone.")
}

type changeState func(c *api.Client, ctx context.Context, id token.ID, confirm bool) (api.Token, error)

// tokenState adds a command that changes a token's state. One that can not be
// undone says without --confirm what it would do, to which token.
func tokenState(in *invocation, parent *cobra.Command, verb, short string, change changeState, warning string) {
	var confirm bool
	cmd := in.client(parent, verb+" ID", short, cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		id := token.ID(args[0])
		if warning != "" && !confirm {
			t, err := c.Token(ctx, id)
			if err != nil {
				return err
			}
			return fmt.Errorf("this would %s the token %s (%q, %s, last 4 characters %s). %s\nAdd --confirm to do it",
				verb, t.ID, t.Name, t.State, showText(t.Last4, "none"), warning)
		}
		t, err := change(c, ctx, id, confirm)
		return in.printToken(&t, err)
	})
	cmd.Flags().BoolVar(&confirm, "confirm", false, "do it")
}

// printIssued writes the one answer that holds a secret.
func (in *invocation) printIssued(issued *api.Issued, err error) error {
	if err != nil {
		return err
	}
	switch {
	case in.output == outputJSON:
		return in.printJSON(issued)
	case in.quiet:
		fmt.Fprintln(in.OutOrStdout(), issued.Secret.Reveal())
		return nil
	}
	in.printRecord(append(tokenFields(&issued.Token), [2]string{"secret", issued.Secret.Reveal()}))
	in.say("This is the only time that the secret is shown. Store it like a password.")
	return nil
}

func (in *invocation) printToken(t *api.Token, err error) error {
	if err != nil {
		return err
	}
	return in.printOne(t, string(t.ID), tokenFields(t))
}

func tokenFields(t *api.Token) [][2]string {
	fields := [][2]string{
		{"id", string(t.ID)},
		{"name", t.Name},
		{"account", string(t.AccountID)},
		{"user", showText(t.UserID, "-")},
		{"access", t.Access.String()},
		{"scopes", showList(t.Scopes, "-")},
		{"ip allow-list", showList(t.IPAllowlist, "every address")},
		{"environment", t.Environment.String()},
		{"state", t.State.String()},
		{"fresh only", showYes(t.FreshOnly)},
		{"last 4", showText(t.Last4, "-")},
		{"created", showTime(&t.CreatedAt, "-")},
		{"updated", showTime(&t.UpdatedAt, "-")},
		{"expires", showTime(t.ExpiresAt, "never")},
		{"last used", showTime(t.LastUsedAt, "never")},
	}
	if t.Scheduled != nil {
		fields = append(fields, [2]string{"scheduled", t.Scheduled.Action + " at " + showTime(&t.Scheduled.At, "-")})
	}
	if t.ExemptUntil != nil {
		fields = append(fields, [2]string{"exempt until", showTime(t.ExemptUntil, "-")})
	}
	if t.DowngradedAt != nil {
		fields = append(fields, [2]string{"downgraded", showTime(t.DowngradedAt, "-")})
	}
	if t.UndoUntil != nil {
		fields = append(fields, [2]string{"can be undone until", showTime(t.UndoUntil, "-")})
	}
	if t.PreviousSecretExpiresAt != nil {
		fields = append(fields, [2]string{"previous secret until", showTime(t.PreviousSecretExpiresAt, "-")})
	}
	return fields
}
