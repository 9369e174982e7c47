package caddymodule

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/token"
)

func accountCommands(parent *cobra.Command) {
	in := commonFlags(parent)
	in.nameFlags(parent)

	var n api.NewAccount
	create := in.client(parent, "create", "Creates an account", cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
		a, err := c.CreateAccount(ctx, n)
		return in.printAccount(&a, err)
	})
	create.Flags().StringVar(&n.Name, "name", "", "what people call it")
	create.Flags().StringVar(&n.Policy, "policy", "", "the policy that rules its tokens; by default, default")
	mustHave(create, "name")

	var cursor string
	var limit int
	list := in.client(parent, "list", "Lists accounts, newest first", cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
		page, err := c.AccountPage(ctx, cursor, limit)
		if err != nil {
			return err
		}
		return printPage(in, &page, func(a *api.Account) string { return string(a.ID) },
			[]string{"ID", "NAME", "POLICY", "STATE", "CREATED"},
			func(a *api.Account) []string {
				return []string{string(a.ID), a.Name, a.Policy, a.State, showTime(&a.CreatedAt, "-")}
			})
	})
	pageFlags(list, &cursor, &limit)

	in.client(parent, "show ID", "Shows an account", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		a, err := c.Account(ctx, token.ID(args[0]))
		return in.printAccount(&a, err)
	})

	var name, policy, tokens string
	var edit *cobra.Command
	edit = in.client(parent, "edit ID", "Changes an account", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		var e api.AccountEdit
		if edit.Flags().Changed("name") {
			e.Name = &name
		}
		if edit.Flags().Changed("policy") {
			e.Policy = &policy
		}
		var err error
		if e.TokensOff, err = tokenOption(edit, tokens); err != nil {
			return err
		}
		if e.Name == nil && e.Policy == nil && e.TokensOff == nil {
			return errors.New("nothing to change: give --name, --policy or --tokens")
		}
		before, err := c.Account(ctx, token.ID(args[0]))
		if err != nil {
			return err
		}
		a, err := c.EditAccount(ctx, before.ID, before.Version, e)
		return in.printAccount(&a, err)
	})
	edit.Flags().StringVar(&name, "name", "", "what people call it")
	edit.Flags().StringVar(&policy, "policy", "", "the policy that rules its tokens, from the next request on")
	tokenOptionFlag(edit, &tokens, "the account")

	in.client(parent, "enable ID", "Lets the tokens of a disabled account work again", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		a, err := c.EnableAccount(ctx, token.ID(args[0]))
		return in.printAccount(&a, err)
	})
	in.client(parent, "disable ID", "Stops all tokens of an account until it is enabled again", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		a, err := c.DisableAccount(ctx, token.ID(args[0]))
		return in.printAccount(&a, err)
	})
}

func (in *invocation) printAccount(a *api.Account, err error) error {
	if err != nil {
		return err
	}
	return in.printOne(a, string(a.ID), [][2]string{
		{"id", string(a.ID)},
		{"name", a.Name},
		{"policy", a.Policy},
		{"state", a.State},
		{"tokens", showOn(!a.TokensOff)},
		{"created", showTime(&a.CreatedAt, "-")},
		{"updated", showTime(&a.UpdatedAt, "-")},
	})
}

func userCommands(parent *cobra.Command) {
	in := commonFlags(parent)
	in.nameFlags(parent)

	var n api.NewUser
	var account string
	create := in.client(parent, "create", "Creates a user of an account", cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
		n.AccountID = token.ID(account)
		u, err := c.CreateUser(ctx, n)
		return in.printUser(&u, err)
	})
	create.Flags().StringVar(&account, "account", "", "the ID of the account")
	create.Flags().StringVar(&n.Name, "name", "", "what people call the user")
	create.Flags().StringVar(&n.Email, "email", "", "where notices go")
	create.Flags().StringVar(&n.Role, "role", "member", "the role, such as owner, admin, member or auditor")
	create.Flags().StringArrayVar(&n.BusinessUnits, "unit", nil, "a business unit that the user works for (repeatable)")
	mustHave(create, "account", "name")

	var cursor string
	var limit int
	var of string
	list := in.client(parent, "list", "Lists users, newest first", cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
		page, err := c.UserPage(ctx, token.ID(of), cursor, limit)
		if err != nil {
			return err
		}
		return printPage(in, &page, func(u *api.User) string { return string(u.ID) },
			[]string{"ID", "NAME", "ACCOUNT", "ROLE", "STATE", "EMAIL"},
			func(u *api.User) []string {
				return []string{string(u.ID), u.Name, string(u.AccountID), u.Role, u.State, u.Email}
			})
	})
	list.Flags().StringVar(&of, "account", "", "only those of the account with this ID")
	pageFlags(list, &cursor, &limit)

	in.client(parent, "show ID", "Shows a user", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		u, err := c.User(ctx, token.ID(args[0]))
		return in.printUser(&u, err)
	})
	userEdit(in, parent)
	otpCommands(in, parent)
	in.client(parent, "enable ID", "Lets the tokens of a disabled user work again", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		u, err := c.EnableUser(ctx, token.ID(args[0]))
		return in.printUser(&u, err)
	})
	in.client(parent, "disable ID", "Stops all tokens of a user until the user is enabled again", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		u, err := c.DisableUser(ctx, token.ID(args[0]))
		return in.printUser(&u, err)
	})
}

func userEdit(in *invocation, parent *cobra.Command) {
	var name, email, role, tokens string
	var units []string
	var cmd *cobra.Command
	cmd = in.client(parent, "edit ID", "Changes a user; a role binds from the next request on", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		var e api.UserEdit
		any := false
		for flag, set := range map[string]func(){
			"name":  func() { e.Name = &name },
			"email": func() { e.Email = &email },
			"role":  func() { e.Role = &role },
			"unit":  func() { units = withoutNone(units); e.BusinessUnits = &units },
		} {
			if cmd.Flags().Changed(flag) {
				set()
				any = true
			}
		}
		var err error
		if e.TokensOff, err = tokenOption(cmd, tokens); err != nil {
			return err
		}
		if !any && e.TokensOff == nil {
			return errors.New("nothing to change: give --name, --email, --role, --unit or --tokens")
		}
		before, err := c.User(ctx, token.ID(args[0]))
		if err != nil {
			return err
		}
		u, err := c.EditUser(ctx, before.ID, before.Version, e)
		return in.printUser(&u, err)
	})
	cmd.Flags().StringVar(&name, "name", "", "what people call the user")
	cmd.Flags().StringVar(&email, "email", "", "where notices go")
	cmd.Flags().StringVar(&role, "role", "", "the role, such as owner, admin, member or auditor")
	cmd.Flags().StringArrayVar(&units, "unit", nil, "all business units from now on (repeatable); none for an empty list")
	tokenOptionFlag(cmd, &tokens, "the user")
}

func (in *invocation) printUser(u *api.User, err error) error {
	if err != nil {
		return err
	}
	return in.printOne(u, string(u.ID), [][2]string{
		{"id", string(u.ID)},
		{"name", u.Name},
		{"account", string(u.AccountID)},
		{"email", u.Email},
		{"role", u.Role},
		{"business units", showList(u.BusinessUnits, "-")},
		{"state", u.State},
		{"tokens", showOn(!u.TokensOff)},
		{"created", showTime(&u.CreatedAt, "-")},
		{"updated", showTime(&u.UpdatedAt, "-")},
	})
}
