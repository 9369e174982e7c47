package caddymodule

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/api"
)

func roleCommands(parent *cobra.Command) {
	in := commonFlags(parent)
	in.client(parent, "list", "Lists the roles", cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
		roles, err := c.Roles(ctx)
		if err != nil {
			return err
		}
		return printList(in, roles, func(r *api.Role) string { return r.Name },
			[]string{"NAME", "ACCESS", "SCOPES", "OWNED BY"},
			func(r *api.Role) []string {
				return []string{r.Name, r.Access.String(), showList(r.Scopes, "-"), owner(r.ManagedByConfig)}
			})
	})
}

func owner(managedByConfig bool) string {
	if managedByConfig {
		return "configuration"
	}
	return "store"
}

func policyCommands(parent *cobra.Command) {
	in := commonFlags(parent)
	in.client(parent, "list", "Lists the policies", cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
		policies, err := c.Policies(ctx)
		if err != nil {
			return err
		}
		return printList(in, policies, func(p *api.Policy) string { return p.Name },
			[]string{"NAME", "MAX LIFETIME", "ROTATION", "GRACE", "IP ALLOW-LIST", "OWNED BY"},
			func(p *api.Policy) []string {
				return []string{p.Name, lifetime(p), join(p.RotationModes), showSeconds(p.GraceDefaultSeconds), string(p.RequireIPAllowlist), owner(p.ManagedByConfig)}
			})
	})
	in.client(parent, "show NAME", "Shows a policy", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		policies, err := c.Policies(ctx)
		if err != nil {
			return err
		}
		for i := range policies {
			if policies[i].Name == args[0] {
				return in.printPolicy(&policies[i])
			}
		}
		return fmt.Errorf("there is no such policy; `policy list` lists them")
	})
}

func (in *invocation) printPolicy(p *api.Policy) error {
	return in.printOne(p, p.Name, [][2]string{
		{"name", p.Name},
		{"max lifetime", lifetime(p)},
		{"rotation modes", join(p.RotationModes)},
		{"grace default", showSeconds(p.GraceDefaultSeconds)},
		{"grace min", showSeconds(p.GraceMinSeconds)},
		{"grace max", showSeconds(p.GraceMaxSeconds)},
		{"editable", join(p.Editable)},
		{"ip allow-list", string(p.RequireIPAllowlist)},
		{"confirm", showList(p.Confirm, "-")},
		{"owned by", owner(p.ManagedByConfig)},
	})
}

func lifetime(p *api.Policy) string {
	if p.MaxLifetimeSeconds == nil {
		return "none"
	}
	return showSeconds(*p.MaxLifetimeSeconds)
}

func join[T ~string](list []T) string {
	texts := make([]string, len(list))
	for i, item := range list {
		texts[i] = string(item)
	}
	if len(texts) == 0 {
		return "-"
	}
	return strings.Join(texts, " ")
}

func scopeCommands(parent *cobra.Command) {
	in := commonFlags(parent)
	in.client(parent, "list", "Lists the scopes, the built-in ones included", cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
		scopes, err := c.Scopes(ctx)
		if err != nil {
			return err
		}
		return printList(in, scopes, func(s *api.Scope) string { return s.Name },
			[]string{"NAME", "NATURE", "OWNED BY"},
			func(s *api.Scope) []string {
				by := owner(s.ManagedByConfig)
				if s.BuiltIn {
					by = "built in"
				}
				return []string{s.Name, s.Nature.String(), by}
			})
	})
}

func nodeCommands(parent *cobra.Command) {
	in := commonFlags(parent)
	in.client(parent, "list", "Lists the gateways that use the store", cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
		nodes, err := c.Nodes(ctx)
		if err != nil {
			return err
		}
		return printList(in, nodes, func(n *api.Node) string { return n.ID },
			[]string{"ID", "STARTED", "LAST SEEN", "MASTER KEYS"},
			func(n *api.Node) []string {
				return []string{n.ID, showTime(&n.StartedAt, "-"), showTime(&n.SeenAt, "-"), showList(n.MasterKeyIDs, "-")}
			})
	})
}
