package api

import (
	"context"
	"net/http"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

type listNotices struct {
	Account string `query:"account_id" pattern:"^[a-z0-9_]{1,64}$" doc:"Only messages about this account."`
	Token   string `query:"token_id" pattern:"^[a-z0-9_]{1,64}$" doc:"Only messages about this token."`
	State   string `query:"state" enum:"waiting,accepted,failed,cancelled" doc:"Only messages in this state."`
	Cursor  string `query:"cursor" pattern:"^[!-~]{1,512}$" doc:"The next_cursor of the page before."`
	Limit   int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many records a page has."`
}

func (h *handler) noticeRoutes() {
	a := h.o.Authority
	register(h, route{
		method: http.MethodGet, path: "/notices", id: "listNotices", tag: "lifecycle",
		summary: "List messages to people",
		about:   "One for each recipient, and what became of it.",
	}, func(ctx context.Context, by authority.By, in *listNotices) (*pageAnswer[Notice], error) {
		list, next, err := a.Notices(ctx, by, tokenstore.NoticeQuery{
			AccountID: token.ID(in.Account), TokenID: token.ID(in.Token), State: tokenstore.NoticeState(in.State),
		}, tokenstore.Page{Cursor: in.Cursor, Limit: in.Limit})
		return pageOrError(list, noticeOf, next, err)
	})
}
