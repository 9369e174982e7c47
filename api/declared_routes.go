package api

import (
	"context"
	"net/http"

	"github.com/sallyport/sallyport/authority"
)

type nothingAsked struct{}

func (h *handler) declaredRoutes() {
	a := h.o.Authority
	register(h, route{
		method: http.MethodGet, path: "/roles", id: "listRoles", tag: "rules",
		summary: "List roles",
	}, func(ctx context.Context, by authority.By, _ *nothingAsked) (*pageAnswer[Role], error) {
		list, err := a.Roles(ctx, by)
		return pageOrError(list, roleOf, "", err)
	})
	register(h, route{
		method: http.MethodGet, path: "/scopes", id: "listScopes", tag: "rules",
		summary: "List scopes",
		about:   "The built-in scopes, and those that the configuration declares.",
	}, func(ctx context.Context, by authority.By, _ *nothingAsked) (*pageAnswer[Scope], error) {
		list, err := a.Scopes(ctx, by)
		return pageOrError(scopesOf(list), func(s *Scope) Scope { return *s }, "", err)
	})
}
