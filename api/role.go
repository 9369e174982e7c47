package api

import "github.com/sallyport/sallyport/token"

// NewRole is what creating a role asks for.
type NewRole struct {
	_ struct{} `additionalProperties:"false"`

	Name   string       `json:"name" maxLength:"64" doc:"Names the role for ever: 1 to 64 of a-z, 0-9, _ and -, a letter first." example:"billing"`
	Access token.Access `json:"access" enum:"read_only,read_write,custom" doc:"The most that a token of such a user can do."`
	Scopes []string     `json:"scopes,omitempty" nullable:"false" maxItems:"200" doc:"The scopes of a custom role; absent for the other levels." example:"[\"payments:read\"]"`
}

// RoleEdit is a change of a role. What is absent stays as it is.
type RoleEdit struct {
	_ struct{} `additionalProperties:"false"`

	Access    *token.Access `json:"access,omitempty" enum:"read_only,read_write,custom" nullable:"false" doc:"The most that a token of such a user can do, from the next request on."`
	Scopes    *[]string     `json:"scopes,omitempty" nullable:"false" maxItems:"200" doc:"The scopes, all of them, of a custom role."`
	TokensOff *bool         `json:"tokens_off,omitempty" nullable:"false" doc:"Switches the option to have tokens off for everyone with the role, or on again; also where the configuration owns the role."`
}

// Gone is the answer of the routes after which nothing is left.
type Gone struct {
	Deleted bool `json:"deleted" doc:"True."`
}
