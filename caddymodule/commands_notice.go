package caddymodule

import (
	"context"
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

func noticeCommands(parent *cobra.Command) {
	in := commonFlags(parent)
	var f api.NoticeFilter
	var account, about, state string
	cmd := in.client(parent, "list", "Lists messages to people and what became of each, newest first", cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
		f.AccountID, f.TokenID, f.State = token.ID(account), token.ID(about), tokenstore.NoticeState(state)
		switch f.State {
		case "", tokenstore.NoticeWaiting, tokenstore.NoticeAccepted, tokenstore.NoticeFailed, tokenstore.NoticeCancelled:
		default:
			return errors.New("--state takes waiting, accepted, failed or cancelled")
		}
		page, err := c.NoticePage(ctx, f)
		if err != nil {
			return err
		}
		return printPage(in, &page, func(n *api.Notice) string { return string(n.ID) },
			[]string{"ID", "EVENT", "TOKEN", "TO", "STATE", "TRIED", "WRITTEN", "NEXT TRY", "DONE", "PROBLEM"},
			func(n *api.Notice) []string {
				return []string{
					string(n.ID), string(n.Event), showText(n.TokenID, "-"), n.Channel + " " + n.Recipient, n.State, strconv.Itoa(n.Attempts),
					showTime(&n.CreatedAt, "-"), showTime(n.NextAttemptAt, "-"), showTime(n.DoneAt, "-"), showShort(showText(&n.Problem, "-")),
				}
			})
	})
	flags := cmd.Flags()
	flags.StringVar(&account, "account", "", "only those about the account with this ID")
	flags.StringVar(&about, "token", "", "only those about the token with this ID")
	flags.StringVar(&state, "state", "", "only those that are waiting, accepted, failed or cancelled")
	pageFlags(cmd, &f.Cursor, &f.Limit)
}
