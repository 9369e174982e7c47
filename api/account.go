package api

import (
	"time"

	"github.com/sallyport/sallyport/token"
)

// Account is a customer of the API behind the gate.
type Account struct {
	ID        token.ID  `json:"id" doc:"Names the account for ever." example:"acc_example"`
	Name      string    `json:"name" doc:"What people call it." example:"Example Ltd"`
	Policy    string    `json:"policy" doc:"The policy that rules its tokens." example:"default"`
	State     string    `json:"state" enum:"active,disabled" doc:"While it is disabled, none of its tokens works."`
	TokensOff bool      `json:"tokens_off" doc:"Whether the option to have tokens is switched off for the account: then none of its tokens works, and none is issued."`
	CreatedAt time.Time `json:"created_at" doc:"When it was created (RFC 3339, UTC)."`
	UpdatedAt time.Time `json:"updated_at" doc:"When it was last changed (RFC 3339, UTC)."`
	Version   int64     `json:"version" doc:"Grows with every change; If-Match takes it in quotes." example:"1"`
}

// NewAccount is what creating an account asks for.
type NewAccount struct {
	_ struct{} `additionalProperties:"false"`

	Name   string `json:"name" doc:"What people call it: 1 to 100 characters, no control or bidirectional ones." example:"Example Ltd"`
	Policy string `json:"policy,omitempty" maxLength:"128" doc:"The policy that rules its tokens; absent: default." example:"default"`
}

// AccountEdit is a change of an account. What is absent stays as it is.
type AccountEdit struct {
	_ struct{} `additionalProperties:"false"`

	Name      *string `json:"name,omitempty" nullable:"false" doc:"What people call it."`
	Policy    *string `json:"policy,omitempty" maxLength:"128" nullable:"false" doc:"The policy that rules its tokens, from the next request on."`
	TokensOff *bool   `json:"tokens_off,omitempty" nullable:"false" doc:"Switches the option to have tokens off, or on again. Only an operator may."`
}

// Nothing is the body of the routes that need none: absent, or {}.
type Nothing struct {
	_ struct{} `additionalProperties:"false"`
}

func accountOf(a *token.Account) Account {
	return Account{
		ID:        a.ID,
		Name:      a.Name,
		Policy:    a.Policy,
		State:     stateOf(a.Disabled),
		TokensOff: a.TokensOff,
		CreatedAt: a.CreatedAt.UTC(),
		UpdatedAt: a.UpdatedAt.UTC(),
		Version:   a.Version,
	}
}

func stateOf(disabled bool) string {
	if disabled {
		return "disabled"
	}
	return "active"
}
