package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// onStore adds a command that always works on the store itself: what it is about
// is not served by a gateway, or must work before one starts.
func (in *invocation) onStore(parent *cobra.Command, use, short string, args cobra.PositionalArgs, create bool, run func(ctx context.Context, s *store, args []string) error) *cobra.Command {
	return in.leaf(parent, use, short, args, func(ctx context.Context, args []string) error {
		s, err := in.openStore(ctx, create)
		if err != nil {
			return err
		}
		return errors.Join(run(ctx, s, args), s.Close())
	})
}

func masterKeyCommands(parent *cobra.Command) {
	in := commonFlags(parent)
	in.onStore(parent, "status", "Counts what is under each master key, and shows which gateways hold it", cobra.NoArgs, mustExist, func(ctx context.Context, s *store, _ []string) error {
		keys, nodes, err := s.authority.MasterKeys(ctx, s.by)
		if err != nil {
			return err
		}
		return in.printMasterKeys(keyStatuses(keys, nodes, time.Now()))
	})
	in.onStore(parent, "rotate ID", "Makes another key of the key file the primary, once every gateway holds it", cobra.ExactArgs(1), mustExist, func(ctx context.Context, s *store, args []string) error {
		// Without a gateway that has read the new line, this command is the first.
		if err := s.authority.EnsureKeys(ctx, s.by); err != nil {
			return err
		}
		if err := s.authority.RotateMasterKey(ctx, s.by, args[0]); err != nil {
			return err
		}
		in.say("The key is the primary now. Secrets move under it as they are used, and those of webhooks have; `master-key status` counts what is left under the others.")
		return nil
	})
	var force bool
	remove := in.onStore(parent, "remove ID", "Forgets a key that nothing is under any more", cobra.ExactArgs(1), mustExist, func(ctx context.Context, s *store, args []string) error {
		lost, err := s.authority.RemoveMasterKey(ctx, s.by, args[0], force)
		if printErr := in.printLost(lost, err == nil); printErr != nil {
			return errors.Join(err, printErr)
		}
		if err != nil {
			return err
		}
		in.say("The store has forgotten the key. Take its line out of the key files now.")
		return nil
	})
	remove.Flags().BoolVar(&force, "force", false, "also when secrets in use are under it: they end; webhooks whose signing secrets can not be moved are disabled")
}

// keyStatus is what is known of one master key.
type keyStatus struct {
	ID         string    `json:"id"`
	CheckValue string    `json:"check_value"`
	Primary    bool      `json:"primary"`
	AddedAt    time.Time `json:"added_at"`
	Live       int64     `json:"live_secrets"`
	Retired    int64     `json:"retired_secrets"`
	Webhooks   int64     `json:"webhooks"`
	Codes      int64     `json:"one_time_codes"`
	Nodes      []string  `json:"nodes"`
}

func keyStatuses(keys []tokenstore.MasterKey, nodes []tokenstore.Node, now time.Time) []keyStatus {
	statuses := make([]keyStatus, len(keys))
	for i, key := range keys {
		statuses[i] = keyStatus{
			ID: key.ID, CheckValue: key.CheckValue, Primary: key.Primary, AddedAt: key.AddedAt.UTC(),
			Live: key.Live, Retired: key.Retired, Webhooks: key.Webhooks, Codes: key.Codes, Nodes: []string{},
		}
		for _, node := range nodes {
			if now.Sub(node.SeenAt) <= authority.NodeLiveFor && node.Keys[key.ID] == key.CheckValue {
				statuses[i].Nodes = append(statuses[i].Nodes, node.ID)
			}
		}
	}
	return statuses
}

func (in *invocation) printMasterKeys(keys []keyStatus) error {
	return printList(in, keys, func(k *keyStatus) string { return k.ID },
		[]string{"ID", "PRIMARY", "SECRETS IN USE", "OTHER SECRETS", "WEBHOOKS", "CODES", "ADDED", "HELD BY"},
		func(k *keyStatus) []string {
			return []string{k.ID, showYes(k.Primary), strconv.FormatInt(k.Live, 10), strconv.FormatInt(k.Retired, 10), strconv.FormatInt(k.Webhooks, 10), strconv.FormatInt(k.Codes, 10), showTime(&k.AddedAt, "-"), showList(k.Nodes, "no running gateway")}
		})
}

// printLost lists the tokens and the webhooks that a removal ended, or would end.
func (in *invocation) printLost(lost authority.KeyLoss, done bool) error {
	if err := in.printEnded(lost.Tokens); err != nil {
		return err
	}
	for i := range lost.Webhooks {
		w := &lost.Webhooks[i]
		if done {
			in.say("The webhook %s lost its signing secret and is disabled: `webhook rotate %s` makes a new one, `webhook edit %s --enable` turns it on again.", w.ID, w.ID, w.ID)
		} else {
			in.say("The webhook %s has its signing secret under the key.", w.ID)
		}
	}
	return nil
}

// printEnded lists the tokens that a removal ended, or would end.
func (in *invocation) printEnded(tokens []token.Token) error {
	if len(tokens) == 0 {
		return nil
	}
	type ended struct {
		ID   token.ID `json:"id"`
		Name string   `json:"name"`
	}
	list := make([]ended, len(tokens))
	for i := range tokens {
		list[i] = ended{ID: tokens[i].ID, Name: tokens[i].Name}
	}
	return printList(in, list, func(t *ended) string { return string(t.ID) },
		[]string{"TOKEN", "NAME"}, func(t *ended) []string { return []string{string(t.ID), t.Name} })
}

func migrateCommand(cmd *cobra.Command) {
	in := commonFlags(cmd)
	cmd.Args = cobra.NoArgs
	leaf := in.onStore(&cobra.Command{}, "migrate", cmd.Short, cobra.NoArgs, mayCreate, func(_ context.Context, s *store, _ []string) error {
		// Opening the store has done it.
		fmt.Fprintf(in.OutOrStdout(), "The store %s is up to date.\n", s.place)
		return nil
	})
	cmd.Long = `Makes the store if there is none, with its master key file, and brings its schema
up to date. The gateway does the same when it starts; this is for doing it before.`
	run := leaf.RunE
	cmd.RunE = func(_ *cobra.Command, args []string) error { return run(cmd, args) }
}
