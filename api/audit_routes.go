package api

import (
	"context"
	"net/http"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

type (
	listAudit struct {
		Account string `query:"account_id" pattern:"^[a-z0-9_]{1,64}$" doc:"Only entries about this account's records."`
		Target  string `query:"target" maxLength:"128" doc:"Only entries about this record: an ID or a name."`
		Verb    string `query:"verb" maxLength:"128" doc:"Only entries of this verb, such as token.rotate."`
		After   string `query:"after" format:"date-time" doc:"Only entries later than this time (RFC 3339)."`
		Before  string `query:"before" format:"date-time" doc:"Only entries earlier than this time (RFC 3339)."`
		Cursor  string `query:"cursor" pattern:"^[!-~]{1,512}$" doc:"The next_cursor of the page before."`
		Limit   int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many records a page has."`
	}
	verifyAudit struct{ Body *AuditCheck }
)

func (h *handler) auditRoutes() {
	a := h.o.Authority
	register(h, route{
		method: http.MethodGet, path: "/audit", id: "listAudit", tag: "audit",
		summary: "List the audit log",
	}, func(ctx context.Context, by authority.By, in *listAudit) (*pageAnswer[AuditEntry], error) {
		q, p := in.query()
		if p != nil {
			return nil, p
		}
		list, next, err := a.AuditEntries(ctx, by, q)
		return pageOrError(list, auditEntryOf, next, err)
	})
	register(h, route{
		method: http.MethodPost, path: "/audit/verify", id: "verifyAudit", tag: "audit",
		summary: "Check the chain of the audit log",
		about:   "Walks the whole log. With the head of an earlier check, kept elsewhere, it also notices a log that was cut off. It changes nothing.",
	}, func(ctx context.Context, by authority.By, in *verifyAudit) (*struct{ Body AuditReport }, error) {
		var earlier *tokenstore.AuditHead
		if head := valueOf(in.Body).EarlierHead; head != nil {
			earlier = head.storeHead()
		}
		found, err := a.VerifyAudit(ctx, by, earlier)
		if err != nil {
			return nil, err
		}
		return &struct{ Body AuditReport }{AuditReport{
			Valid:    len(found.Problems) == 0,
			Entries:  found.Entries,
			Head:     auditHeadOf(&found.Head),
			Problems: listOf(found.Problems),
		}}, nil
	})
}

func (in *listAudit) query() (tokenstore.AuditQuery, *Problem) {
	q := tokenstore.AuditQuery{
		AccountID: token.ID(in.Account),
		Target:    in.Target,
		Verb:      in.Verb,
		Page:      tokenstore.Page{Cursor: in.Cursor, Limit: in.Limit},
	}
	var p *Problem
	if q.After, p = timeParameter("after", in.After); p == nil {
		q.Before, p = timeParameter("before", in.Before)
	}
	return q, p
}
