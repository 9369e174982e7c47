package api

import (
	"context"
	"net/http"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

type (
	userAnswer struct {
		ETag string `header:"ETag" doc:"The version, for If-Match."`
		Body User
	}
	createUser struct{ Body NewUser }
	listUsers  struct {
		Account string `query:"account_id" pattern:"^[a-z0-9_]{1,64}$" doc:"Only users of this account."`
		Cursor  string `query:"cursor" pattern:"^[!-~]{1,512}$" doc:"The next_cursor of the page before."`
		Limit   int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many records a page has."`
	}
	editUser struct {
		ID      string `path:"id" doc:"The ID of the record."`
		IfMatch string `header:"If-Match" doc:"The ETag of the record as it was read. Required."`
		Body    UserEdit
	}
)

func (h *handler) userRoutes() {
	a := h.o.Authority
	register(h, route{
		method: http.MethodPost, path: "/users", id: "createUser", tag: "users", status: http.StatusCreated,
		summary: "Create a user",
	}, func(ctx context.Context, by authority.By, in *createUser) (*userAnswer, error) {
		return userOrError(a.CreateUser(ctx, by, authority.NewUser{
			AccountID:     in.Body.AccountID,
			Name:          in.Body.Name,
			Email:         in.Body.Email,
			Role:          in.Body.Role,
			BusinessUnits: in.Body.BusinessUnits,
		}))
	})
	register(h, route{
		method: http.MethodGet, path: "/users", id: "listUsers", tag: "users",
		summary: "List users",
	}, func(ctx context.Context, by authority.By, in *listUsers) (*pageAnswer[User], error) {
		list, next, err := a.Users(ctx, by, token.ID(in.Account), tokenstore.Page{Cursor: in.Cursor, Limit: in.Limit})
		return pageOrError(list, userOf, next, err)
	})
	register(h, route{
		method: http.MethodGet, path: "/users/{id}", id: "showUser", tag: "users",
		summary: "Show a user",
	}, func(ctx context.Context, by authority.By, in *byID) (*userAnswer, error) {
		id, p := recordID(in.ID)
		if p != nil {
			return nil, p
		}
		return userOrError(a.User(ctx, by, id))
	})
	register(h, route{
		method: http.MethodPatch, path: "/users/{id}", id: "editUser", tag: "users",
		summary: "Edit a user",
		about:   "Changes the fields that are there. A role that is narrower binds the user's tokens from the next request on.",
		codes:   []string{codeIfMatchRequired, codeVersionMismatch},
	}, func(ctx context.Context, by authority.By, in *editUser) (*userAnswer, error) {
		id, version, p := recordVersion(in.ID, in.IfMatch)
		if p != nil {
			return nil, p
		}
		return userOrError(a.EditUser(ctx, by, id, version, authority.EditUser{
			Name:          in.Body.Name,
			Email:         in.Body.Email,
			Role:          in.Body.Role,
			BusinessUnits: in.Body.BusinessUnits,
			TokensOff:     in.Body.TokensOff,
		}))
	})
	for _, v := range []struct {
		name, id, summary, about string
		disabled                 bool
	}{
		{"enable", "enableUser", "Enable a user", "Lets the user's tokens work again.", false},
		{"disable", "disableUser", "Disable a user", "Stops all tokens of the user until the user is enabled again.", true},
	} {
		register(h, route{
			method: http.MethodPost, path: "/users/{id}/" + v.name, id: v.id, tag: "users",
			summary: v.summary,
			about:   v.about + " Repeating it changes nothing and is no error.",
		}, func(ctx context.Context, by authority.By, in *switchRecord) (*userAnswer, error) {
			id, p := recordID(in.ID)
			if p != nil {
				return nil, p
			}
			return userOrError(switched(
				func() (token.User, error) { return a.User(ctx, by, id) },
				func(now token.User) (token.User, error) {
					return a.EditUser(ctx, by, id, now.Version, authority.EditUser{Disabled: &v.disabled})
				},
			))
		})
	}
}

func userOrError(user token.User, err error) (*userAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &userAnswer{ETag: etag(user.Version), Body: userOf(&user)}, nil
}
