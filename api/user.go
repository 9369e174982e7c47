package api

import (
	"time"

	"github.com/sallyport/sallyport/token"
)

// User is a person of an account.
type User struct {
	ID            token.ID  `json:"id" doc:"Names the user for ever." example:"usr_example"`
	AccountID     token.ID  `json:"account_id" doc:"The account that the user belongs to." example:"acc_example"`
	Name          string    `json:"name" doc:"What people call the user." example:"Ada Example"`
	Email         string    `json:"email" doc:"Where notices go." example:"ada@example.com"`
	Role          string    `json:"role" doc:"The role, above which none of the user's tokens can do anything." example:"member"`
	BusinessUnits []string  `json:"business_units" nullable:"false" doc:"The parts of the account that the user works for; told to the API behind the gate." example:"[\"billing\"]"`
	State         string    `json:"state" enum:"active,disabled" doc:"While the user is disabled, none of the user's tokens works."`
	TokensOff     bool      `json:"tokens_off" doc:"Whether the option to have tokens is switched off for the user: then none of the user's tokens works, and none is issued."`
	CreatedAt     time.Time `json:"created_at" doc:"When the user was created (RFC 3339, UTC)."`
	UpdatedAt     time.Time `json:"updated_at" doc:"When the user was last changed (RFC 3339, UTC)."`
	Version       int64     `json:"version" doc:"Grows with every change; If-Match takes it in quotes." example:"1"`
}

// NewUser is what creating a user asks for.
type NewUser struct {
	_ struct{} `additionalProperties:"false"`

	AccountID     token.ID `json:"account_id" pattern:"^[a-z0-9_]{1,64}$" doc:"The account that the user belongs to." example:"acc_example"`
	Name          string   `json:"name" doc:"What people call the user: 1 to 100 characters, no control or bidirectional ones." example:"Ada Example"`
	Email         string   `json:"email,omitempty" maxLength:"254" doc:"Where notices go." example:"ada@example.com"`
	Role          string   `json:"role" maxLength:"128" doc:"The name of a role." example:"member"`
	BusinessUnits []string `json:"business_units,omitempty" nullable:"false" maxItems:"100" doc:"The parts of the account that the user works for." example:"[\"billing\"]"`
}

// UserEdit is a change of a user. What is absent stays as it is.
type UserEdit struct {
	_ struct{} `additionalProperties:"false"`

	Name          *string   `json:"name,omitempty" nullable:"false" doc:"What people call the user."`
	Email         *string   `json:"email,omitempty" maxLength:"254" nullable:"false" doc:"Where notices go."`
	Role          *string   `json:"role,omitempty" maxLength:"128" nullable:"false" doc:"The name of a role; it binds from the next request on."`
	BusinessUnits *[]string `json:"business_units,omitempty" nullable:"false" maxItems:"100" doc:"The parts of the account that the user works for, all of them."`
	TokensOff     *bool     `json:"tokens_off,omitempty" nullable:"false" doc:"Switches the option to have tokens off, or on again."`
}

func userOf(u *token.User) User {
	return User{
		ID:            u.ID,
		AccountID:     u.AccountID,
		Name:          u.Name,
		Email:         u.Email,
		Role:          u.Role,
		BusinessUnits: listOf(u.BusinessUnits),
		State:         stateOf(u.Disabled),
		TokensOff:     u.TokensOff,
		CreatedAt:     u.CreatedAt.UTC(),
		UpdatedAt:     u.UpdatedAt.UTC(),
		Version:       u.Version,
	}
}
