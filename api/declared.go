package api

import (
	"slices"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Role is a ceiling over the tokens of the users who have it.
type Role struct {
	Name            string       `json:"name" doc:"Names the role." example:"member"`
	Access          token.Access `json:"access" enum:"read_only,read_write,custom" doc:"The most that a token of such a user can do."`
	Scopes          []string     `json:"scopes" nullable:"false" doc:"The scopes of a custom role, sorted; empty otherwise."`
	ManagedByConfig bool         `json:"managed_by_config" doc:"Whether the gateway's configuration owns it."`
	Version         int64        `json:"version" doc:"Grows with every change."`
}

// Policy is the rules of the accounts that name it.
type Policy struct {
	Name                string               `json:"name" doc:"Names the policy." example:"default"`
	MaxLifetimeSeconds  *int64               `json:"max_lifetime_seconds" doc:"How long a token can live, in seconds from its creation; null: without limit."`
	RotationModes       []token.RotationMode `json:"rotation_modes" nullable:"false" doc:"The modes that rotating can ask for; the first is the default."`
	GraceDefaultSeconds int64                `json:"grace_default_seconds" doc:"How long a previous secret works unless asked otherwise, in seconds."`
	GraceMinSeconds     int64                `json:"grace_min_seconds" doc:"The shortest grace period, in seconds."`
	GraceMaxSeconds     int64                `json:"grace_max_seconds" doc:"The longest grace period, in seconds."`
	Editable            []token.Field        `json:"editable" nullable:"false" doc:"The fields of a token that can be changed."`
	RequireIPAllowlist  token.AllowListRule  `json:"require_ip_allowlist" enum:"never,write,always" doc:"Which tokens must have an allow-list: none, those that may write, or all."`
	Confirm             []string             `json:"confirm" nullable:"false" doc:"The verbs that need confirm."`
	ManagedByConfig     bool                 `json:"managed_by_config" doc:"Whether the gateway's configuration owns it."`
	Version             int64                `json:"version" doc:"Grows with every change."`
}

// Scope is one permission.
type Scope struct {
	Name            string       `json:"name" doc:"Names the scope." example:"payments:read"`
	Nature          token.Nature `json:"nature" enum:"read,write" doc:"What it lets happen; read_only tokens hold every scope of read nature."`
	BuiltIn         bool         `json:"built_in" doc:"True for read and write, which stand for operations without a scope of their own."`
	ManagedByConfig bool         `json:"managed_by_config" doc:"Whether the gateway's configuration owns it."`
}

// Node is a gateway as it reports itself.
type Node struct {
	ID           string    `json:"id" doc:"Names the node."`
	StartedAt    time.Time `json:"started_at" doc:"When it started (RFC 3339, UTC)."`
	SeenAt       time.Time `json:"seen_at" doc:"When it last reported (RFC 3339, UTC)."`
	MasterKeyIDs []string  `json:"master_key_ids" nullable:"false" doc:"The IDs of the master keys that it holds."`
}

func roleOf(r *token.Role) Role {
	return Role{
		Name:            r.Name,
		Access:          r.Ceiling.Access,
		Scopes:          listOf(r.Ceiling.Scopes),
		ManagedByConfig: r.ManagedBy != "",
		Version:         r.Version,
	}
}

func policyOf(p *token.Policy) Policy {
	w := Policy{
		Name:                p.Name,
		RotationModes:       slices.Concat([]token.RotationMode{}, p.RotationModes),
		GraceDefaultSeconds: int64(p.GraceDefault / time.Second),
		GraceMinSeconds:     int64(p.GraceMin / time.Second),
		GraceMaxSeconds:     int64(p.GraceMax / time.Second),
		Editable:            slices.Concat([]token.Field{}, p.Editable),
		RequireIPAllowlist:  p.RequireAllowList,
		Confirm:             listOf(p.Confirm),
		ManagedByConfig:     p.ManagedBy != "",
		Version:             p.Version,
	}
	if p.MaxLifetime > 0 {
		s := int64(p.MaxLifetime / time.Second)
		w.MaxLifetimeSeconds = &s
	}
	return w
}

// scopesOf lists what a token can hold: the declared scopes, after the two that
// need no declaration.
func scopesOf(declared []tokenstore.DeclaredScope) []Scope {
	list := []Scope{}
	for _, s := range []token.Scope{token.ReadScope, token.WriteScope} {
		list = append(list, Scope{Name: s.Name, Nature: s.Nature, BuiltIn: true})
	}
	for _, s := range declared {
		list = append(list, Scope{Name: s.Name, Nature: s.Nature, ManagedByConfig: s.ManagedBy != ""})
	}
	return list
}

func nodeOf(n *tokenstore.Node) Node {
	w := Node{ID: n.ID, StartedAt: n.StartedAt.UTC(), SeenAt: n.SeenAt.UTC(), MasterKeyIDs: []string{}}
	for id := range n.Keys {
		w.MasterKeyIDs = append(w.MasterKeyIDs, id)
	}
	slices.Sort(w.MasterKeyIDs)
	return w
}
