package api

import (
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Role is a ceiling over the tokens of the users who have it.
type Role struct {
	Name            string       `json:"name" doc:"Names the role." example:"member"`
	Access          token.Access `json:"access" enum:"read_only,read_write,custom" doc:"The most that a token of such a user can do."`
	Scopes          []string     `json:"scopes" nullable:"false" doc:"The scopes of a custom role, sorted; empty otherwise."`
	TokensOff       bool         `json:"tokens_off" doc:"Whether the option to have tokens is switched off for everyone with the role."`
	ManagedByConfig bool         `json:"managed_by_config" doc:"Whether the gateway's configuration owns it."`
	Version         int64        `json:"version" doc:"Grows with every change; If-Match takes it in quotes."`
}

// Scope is one permission.
type Scope struct {
	Name            string       `json:"name" doc:"Names the scope." example:"payments:read"`
	Nature          token.Nature `json:"nature" enum:"read,write" doc:"What it lets happen; read_only tokens hold every scope of read nature."`
	BuiltIn         bool         `json:"built_in" doc:"True for read and write, which stand for operations without a scope of their own, and for the scopes that let a token manage others."`
	ManagedByConfig bool         `json:"managed_by_config" doc:"Whether the gateway's configuration owns it."`
}

func roleOf(r *token.Role) Role {
	return Role{
		Name:            r.Name,
		Access:          r.Ceiling.Access,
		Scopes:          listOf(r.Ceiling.Scopes),
		TokensOff:       r.TokensOff,
		ManagedByConfig: r.ManagedBy != "",
		Version:         r.Version,
	}
}

// scopesOf lists what a token can hold: the declared scopes, after those that need
// no declaration.
func scopesOf(declared []tokenstore.DeclaredScope) []Scope {
	list := []Scope{}
	for _, s := range append([]token.Scope{token.ReadScope, token.WriteScope}, token.ManagementScopes()...) {
		list = append(list, Scope{Name: s.Name, Nature: s.Nature, BuiltIn: true})
	}
	for _, s := range declared {
		list = append(list, Scope{Name: s.Name, Nature: s.Nature, ManagedByConfig: s.ManagedBy != ""})
	}
	return list
}
