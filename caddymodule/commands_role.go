package caddymodule

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/token"
)

// roleChanges are the commands that change roles.
func roleChanges(in *invocation, parent *cobra.Command) {
	var n api.NewRole
	var access string
	create := in.client(parent, "create NAME", "Creates a role: the most that the tokens of its users can do", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		n.Name = args[0]
		if err := n.Access.UnmarshalText([]byte(access)); err != nil {
			return fmt.Errorf("--access: %w", err)
		}
		r, err := c.CreateRole(ctx, n)
		return in.printRole(&r, err)
	})
	create.Flags().StringVar(&access, "access", "read_only", "how much its users' tokens may do: read_only, read_write or custom")
	create.Flags().StringArrayVar(&n.Scopes, "scope", nil, "a scope of a custom role (repeatable)")

	in.client(parent, "show NAME", "Shows a role", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		r, err := c.Role(ctx, args[0])
		return in.printRole(&r, err)
	})

	var to, tokens string
	var scopes []string
	var edit *cobra.Command
	edit = in.client(parent, "edit NAME", "Changes a role; it binds from the next request on", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		var e api.RoleEdit
		changed := edit.Flags().Changed
		if changed("access") {
			e.Access = new(token.Access)
			if err := e.Access.UnmarshalText([]byte(to)); err != nil {
				return fmt.Errorf("--access: %w", err)
			}
		}
		if changed("scope") {
			scopes = withoutNone(scopes)
			e.Scopes = &scopes
		}
		var err error
		if e.TokensOff, err = tokenOption(edit, tokens); err != nil {
			return err
		}
		if e.Access == nil && e.Scopes == nil && e.TokensOff == nil {
			return errors.New("nothing to change: give --access, --scope or --tokens")
		}
		before, err := c.Role(ctx, args[0])
		if err != nil {
			return err
		}
		r, err := c.EditRole(ctx, before.Name, before.Version, e)
		return in.printRole(&r, err)
	})
	edit.Flags().StringVar(&to, "access", "", "how much its users' tokens may do: read_only, read_write or custom")
	edit.Flags().StringArrayVar(&scopes, "scope", nil, "all scopes of a custom role from now on (repeatable)")
	tokenOptionFlag(edit, &tokens, "everyone with the role")

	in.client(parent, "delete NAME", "Deletes a role that nobody has and no policy names", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		if err := c.DeleteRole(ctx, args[0]); err != nil {
			return err
		}
		return in.printOne(api.Gone{Deleted: true}, args[0], [][2]string{{"deleted", args[0]}})
	})
}

func (in *invocation) printRole(r *api.Role, err error) error {
	if err != nil {
		return err
	}
	return in.printOne(r, r.Name, [][2]string{
		{"name", r.Name},
		{"access", r.Access.String()},
		{"scopes", showList(r.Scopes, "-")},
		{"tokens", showOn(!r.TokensOff)},
		{"owned by", owner(r.ManagedByConfig)},
	})
}

// tokenOptionFlag adds the flag that switches the option to have tokens (O11, O12).
func tokenOptionFlag(cmd *cobra.Command, to *string, whom string) {
	cmd.Flags().StringVar(to, "tokens", "", "switch API tokens on or off for "+whom+": while they are off, none works and none is issued")
}

// tokenOption reads that flag; nil when it was not given.
func tokenOption(cmd *cobra.Command, value string) (*bool, error) {
	if !cmd.Flags().Changed("tokens") {
		return nil, nil
	}
	off := value == "off"
	if !off && value != "on" {
		return nil, errors.New("--tokens takes on or off")
	}
	return &off, nil
}
