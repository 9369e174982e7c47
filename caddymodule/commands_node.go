package caddymodule

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/api"
)

func nodeCommands(parent *cobra.Command) {
	in := commonFlags(parent)
	in.client(parent, "list", "Lists the gateways that use the store, those that stopped included", cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
		nodes, err := c.Nodes(ctx)
		if err != nil {
			return err
		}
		return printList(in, nodes, func(n *api.Node) string { return n.ID },
			[]string{"ID", "STATE", "STARTED", "LAST SEEN", "COVERED THROUGH", "LAST CONTACT", "LOST RUNS", "MASTER KEYS"},
			func(n *api.Node) []string {
				return []string{
					n.ID, showNodeState(n), showTime(n.StartedAt, "-"), showTime(n.SeenAt, "-"), showTime(n.CoveredThrough, "-"),
					showTime(n.LastContact, "-"), strconv.Itoa(n.LostRuns), showList(n.MasterKeyIDs, "-"),
				}
			})
	})
	nodeRetire(in, parent)
}

func showNodeState(n *api.Node) string {
	if n.ServesUntil != nil {
		return n.State + " until " + showTime(n.ServesUntil, "-")
	}
	return n.State
}

func nodeRetire(in *invocation, parent *cobra.Command) {
	var r api.Retirement
	cmd := in.client(parent, "retire ID", "Gives up a gateway that will not come back, with all that only it knows", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		if !r.Confirm {
			return in.warnOfRetirement(ctx, c, args[0])
		}
		n, err := c.RetireNode(ctx, args[0], r)
		if err != nil {
			return err
		}
		return in.printOne(&n, n.ID, [][2]string{
			{"id", n.ID}, {"state", n.State}, {"covered through", showTime(n.CoveredThrough, "-")}, {"last contact", showTime(n.LastContact, "-")},
		})
	})
	cmd.Long = `Gives up a gateway that will not come back: its host or its disk is gone. What it
saw and never handed over counts as not used from then on, so that tokens that
were used only there, and only then, may be narrowed or deleted although they were
used. If the directory of its journal can be saved, start a gateway on that
instead: it hands everything over.`
	cmd.Flags().BoolVar(&r.AcceptGap, "accept-gap", false, "accept that what it never handed over counts as not used")
	cmd.Flags().BoolVar(&r.Confirm, "confirm", false, "do it")
}

// warnOfRetirement says what retiring would lose, and does nothing.
func (in *invocation) warnOfRetirement(ctx context.Context, c *api.Client, id string) error {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return err
	}
	for i := range nodes {
		n := &nodes[i]
		if n.ID != id {
			continue
		}
		if n.LostRuns == 0 {
			return fmt.Errorf("this would take the node %s (%s) off the list.\nAdd --confirm to do it", n.ID, showNodeState(n))
		}
		return fmt.Errorf("this would give up the node %s (%s): what it let pass after %s never reached the store, and would count as not used.\nAdd --accept-gap --confirm to do it",
			n.ID, showNodeState(n), showTime(n.CoveredThrough, "its start"))
	}
	return fmt.Errorf("there is no such node; `node list` shows those that there are")
}
