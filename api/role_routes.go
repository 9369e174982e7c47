package api

import (
	"context"
	"net/http"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
)

type (
	roleAnswer struct {
		ETag string `header:"ETag" doc:"The version, for If-Match."`
		Body Role
	}
	createRole struct{ Body NewRole }
	byName     struct {
		Name string `path:"name" doc:"The name of the record."`
	}
	editRole struct {
		Name    string `path:"name" doc:"The name of the record."`
		IfMatch string `header:"If-Match" doc:"The ETag of the record as it was read. Required."`
		Body    RoleEdit
	}
	goneAnswer struct{ Body Gone }
)

func (h *handler) roleRoutes() {
	a := h.o.Authority
	register(h, route{
		method: http.MethodPost, path: "/roles", id: "createRole", tag: "rules", status: http.StatusCreated,
		summary: "Create a role",
		about:   "Only an operator may. Which verbs its users may carry out is for the policies to say (allow and view); a role by itself is a ceiling over their tokens.",
	}, func(ctx context.Context, by authority.By, in *createRole) (*roleAnswer, error) {
		return roleOrError(a.CreateRole(ctx, by, authority.NewRole{Name: in.Body.Name, Access: in.Body.Access, Scopes: in.Body.Scopes}))
	})
	register(h, route{
		method: http.MethodGet, path: "/roles/{name}", id: "showRole", tag: "rules",
		summary: "Show a role",
	}, func(ctx context.Context, by authority.By, in *byName) (*roleAnswer, error) {
		return roleOrError(a.Role(ctx, by, in.Name))
	})
	register(h, route{
		method: http.MethodPatch, path: "/roles/{name}", id: "editRole", tag: "rules",
		summary: "Edit a role",
		about:   "Changes the fields that are there; they bind the tokens of its users from the next request on. Only an operator may.",
		codes:   []string{codeIfMatchRequired, codeVersionMismatch, codeManagedByConfig},
	}, func(ctx context.Context, by authority.By, in *editRole) (*roleAnswer, error) {
		version, p := parseIfMatch(in.IfMatch)
		if p != nil {
			return nil, p
		}
		return roleOrError(a.EditRole(ctx, by, in.Name, version, authority.EditRole{
			Access: in.Body.Access, Scopes: in.Body.Scopes, TokensOff: in.Body.TokensOff,
		}))
	})
	register(h, route{
		method: http.MethodDelete, path: "/roles/{name}", id: "deleteRole", tag: "rules",
		summary: "Delete a role",
		about:   "Refused while a user has the role, or a policy names it. Only an operator may.",
		codes:   []string{codeManagedByConfig, codeInvalidState},
	}, func(ctx context.Context, by authority.By, in *byName) (*goneAnswer, error) {
		if err := a.DeleteRole(ctx, by, in.Name); err != nil {
			return nil, err
		}
		return &goneAnswer{Body: Gone{Deleted: true}}, nil
	})
}

func roleOrError(role token.Role, err error) (*roleAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &roleAnswer{ETag: etag(role.Version), Body: roleOf(&role)}, nil
}
