package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

type (
	accountAnswer struct {
		ETag string `header:"ETag" doc:"The version, for If-Match."`
		Body Account
	}
	createAccount struct{ Body NewAccount }
	listAccounts  struct {
		Cursor string `query:"cursor" pattern:"^[!-~]{1,512}$" doc:"The next_cursor of the page before."`
		Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many records a page has."`
	}
	editAccount struct {
		ID      string `path:"id" doc:"The ID of the record."`
		IfMatch string `header:"If-Match" doc:"The ETag of the record as it was read. Required."`
		Body    AccountEdit
	}
	switchRecord struct {
		ID   string `path:"id" doc:"The ID of the record."`
		Body *Nothing
	}
)

func (h *handler) accountRoutes() {
	a := h.o.Authority
	register(h, route{
		method: http.MethodPost, path: "/accounts", id: "createAccount", tag: "accounts", status: http.StatusCreated,
		summary: "Create an account",
	}, func(ctx context.Context, by authority.By, in *createAccount) (*accountAnswer, error) {
		return accountOrError(a.CreateAccount(ctx, by, authority.NewAccount{Name: in.Body.Name, Policy: in.Body.Policy}))
	})
	register(h, route{
		method: http.MethodGet, path: "/accounts", id: "listAccounts", tag: "accounts",
		summary: "List accounts",
	}, func(ctx context.Context, by authority.By, in *listAccounts) (*pageAnswer[Account], error) {
		list, next, err := a.Accounts(ctx, by, tokenstore.Page{Cursor: in.Cursor, Limit: in.Limit})
		return pageOrError(list, accountOf, next, err)
	})
	register(h, route{
		method: http.MethodGet, path: "/accounts/{id}", id: "showAccount", tag: "accounts",
		summary: "Show an account",
	}, func(ctx context.Context, by authority.By, in *byID) (*accountAnswer, error) {
		id, p := recordID(in.ID)
		if p != nil {
			return nil, p
		}
		return accountOrError(a.Account(ctx, by, id))
	})
	register(h, route{
		method: http.MethodPatch, path: "/accounts/{id}", id: "editAccount", tag: "accounts",
		summary: "Edit an account",
		about:   "Changes the fields that are there.",
		codes:   []string{codeIfMatchRequired, codeVersionMismatch},
	}, func(ctx context.Context, by authority.By, in *editAccount) (*accountAnswer, error) {
		id, version, p := recordVersion(in.ID, in.IfMatch)
		if p != nil {
			return nil, p
		}
		return accountOrError(a.EditAccount(ctx, by, id, version, authority.EditAccount{
			Name: in.Body.Name, Policy: in.Body.Policy, TokensOff: in.Body.TokensOff,
		}))
	})
	for _, v := range []struct {
		name, id, summary, about string
		disabled                 bool
	}{
		{"enable", "enableAccount", "Enable an account", "Lets the account's tokens work again.", false},
		{"disable", "disableAccount", "Disable an account", "Stops all tokens of the account until it is enabled again.", true},
	} {
		register(h, route{
			method: http.MethodPost, path: "/accounts/{id}/" + v.name, id: v.id, tag: "accounts",
			summary: v.summary,
			about:   v.about + " Repeating it changes nothing and is no error.",
		}, func(ctx context.Context, by authority.By, in *switchRecord) (*accountAnswer, error) {
			id, p := recordID(in.ID)
			if p != nil {
				return nil, p
			}
			return accountOrError(switched(
				func() (token.Account, error) { return a.Account(ctx, by, id) },
				func(now token.Account) (token.Account, error) {
					return a.EditAccount(ctx, by, id, now.Version, authority.EditAccount{Disabled: &v.disabled})
				},
			))
		})
	}
}

func accountOrError(account token.Account, err error) (*accountAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &accountAnswer{ETag: etag(account.Version), Body: accountOf(&account)}, nil
}

// switchTries bounds how often a switch is tried against other people's edits.
const switchTries = 8

// switched turns a record on or off. Whoever asks for that means the record as
// it is now, whatever else was edited meanwhile, so that a version that has just
// become old is no reason to refuse. A record that is so already is edited all the
// same, which changes nothing: to see it is not yet to be allowed to switch it.
func switched[T any](read func() (T, error), edit func(T) (T, error)) (T, error) {
	var err error
	for range switchTries {
		var now T
		if now, err = read(); err != nil {
			return now, err
		}
		if now, err = edit(now); !errors.Is(err, authority.ErrVersionMismatch) {
			return now, err
		}
	}
	var zero T
	return zero, err
}
