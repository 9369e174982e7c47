package api

import (
	"context"
	"net/http"

	"github.com/sallyport/sallyport/authority"
)

type (
	nodeAnswer struct{ Body Node }
	retireNode struct {
		ID   string `path:"id" doc:"The ID of the node."`
		Body *Retirement
	}
)

func (h *handler) nodeRoutes() {
	a := h.o.Authority
	register(h, route{
		method: http.MethodGet, path: "/nodes", id: "listNodes", tag: "gateway",
		summary: "List gateways",
		about:   "The gateways that share the store, as they report themselves and as their records of use show them; those that stopped included.",
	}, func(ctx context.Context, by authority.By, _ *nothingAsked) (*pageAnswer[Node], error) {
		list, err := a.Nodes(ctx, by)
		return pageOrError(list, nodeOf, "", err)
	})
	register(h, route{
		method: http.MethodPost, path: "/nodes/{id}/retire", id: "retireNode", tag: "gateway",
		summary: "Give up a gateway that will not come back",
		about:   "Accepts that what it saw and never handed over is lost, as if nothing had been used then, and takes it off the list. One that runs, or may still be letting requests pass, is refused. Repeating it changes nothing and is no error.",
		codes:   []string{codeConfirmationRequired, codeInvalidState},
	}, func(ctx context.Context, by authority.By, in *retireNode) (*nodeAnswer, error) {
		id, p := recordID(in.ID)
		if p != nil {
			return nil, p
		}
		r := valueOf(in.Body)
		node, err := a.RetireNode(ctx, by, string(id), r.AcceptGap, r.Confirm)
		if err != nil {
			return nil, err
		}
		return &nodeAnswer{nodeOf(&node)}, nil
	})
}
