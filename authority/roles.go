package authority

import (
	"context"
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/token"
)

// NewRole is what creating a role asks for: the most that tokens of its users do.
type NewRole struct {
	Name   string
	Access token.Access
	Scopes []string
}

// EditRole is a change of a role; nil leaves a field as it is.
type EditRole struct {
	Access *token.Access
	Scopes *[]string
	// TokensOff switches the option to have tokens off for everyone with the role
	// (O12). It is no part of what a configuration declares, and can be switched
	// whoever owns the role.
	TokensOff *bool
}

// CreateRole makes a role (T7).
func (a *Authority) CreateRole(ctx context.Context, by By, n NewRole) (token.Role, error) {
	if checkRoleName(n.Name) != nil {
		return token.Role{}, invalid("name", nameRule)
	}
	var role token.Role
	err := a.change(ctx, by, VerbCreateRole, anything, func(s *step) error {
		stored, err := s.tx.Roles()
		if err != nil {
			return err
		}
		if slices.ContainsFunc(stored, func(r token.Role) bool { return r.Name == n.Name }) {
			return invalid("name", "there is a role of this name: choose another one, or edit that role")
		}
		role = token.Role{Name: n.Name}
		if err := s.ceilingIn(&role, n.Access, n.Scopes); err != nil {
			return err
		}
		if err := s.tx.PutRole(&role); err != nil {
			return err
		}
		s.target.id = role.Name
		return s.audit(nil, roleFields(&role))
	})
	if err != nil {
		return token.Role{}, err
	}
	return role, nil
}

// ceilingIn judges what a role is to allow. Management scopes are no part of a
// ceiling: what a user's token manages is bound by what the user may do.
func (s *step) ceilingIn(role *token.Role, access token.Access, scopes []string) error {
	known, err := s.declared()
	if err != nil {
		return err
	}
	ceiling, err := token.NewGrant(access, scopes, known)
	if err != nil {
		return asInvalid(err)
	}
	if len(ceiling.Management()) > 0 {
		return invalid("scopes", "management scopes are no part of a role: what a token of its users manages is bound by what they may do themselves")
	}
	role.Ceiling = ceiling
	return nil
}

func (s *step) findRole(name string, role *token.Role) (target, error) {
	t := target{id: name}
	if checkRoleName(name) != nil {
		t.id = "" // what can not be a name is not repeated
		return t, refuse(ErrNotFound, "there is no such role")
	}
	var err error
	*role, err = s.tx.Role(name)
	return t, found(err, "role")
}

// Role shows one role.
func (a *Authority) Role(ctx context.Context, by By, name string) (token.Role, error) {
	var role token.Role
	find := func(s *step) (target, error) { return s.findRole(name, &role) }
	if err := a.see(ctx, by, VerbShowRole, find, func(*step) error { return nil }); err != nil {
		return token.Role{}, err
	}
	return role, nil
}

// EditRole changes a role. version is the one that was read (If-Match). It binds
// the tokens of its users from the next request on.
func (a *Authority) EditRole(ctx context.Context, by By, name string, version int64, e EditRole) (token.Role, error) {
	var role token.Role
	find := func(s *step) (target, error) { return s.findRole(name, &role) }
	err := a.change(ctx, by, VerbEditRole, find, func(s *step) error {
		if err := checkVersion(version, role.Version); err != nil {
			return err
		}
		was := switchedFields(&role)
		before := role.Ceiling
		access, scopes := role.Ceiling.Access, role.Ceiling.Scopes
		if differs(access, e.Access) {
			access, scopes = *e.Access, nil
		}
		set(&scopes, e.Scopes)
		if access != before.Access || !sameScopes(scopes, before.Scopes) {
			if role.ManagedBy != "" {
				return managedRole()
			}
			if err := s.ceilingIn(&role, access, scopes); err != nil {
				return err
			}
			if err := s.tx.PutRole(&role); err != nil {
				return err
			}
		}
		if differs(role.TokensOff, e.TokensOff) {
			role.TokensOff = *e.TokensOff
			if !role.TokensOff {
				role.EnabledAt = s.now
			}
			if err := s.tx.SwitchRole(&role); err != nil {
				return err
			}
		}
		old, now, err := differing(was, switchedFields(&role))
		if err != nil || len(now) == 0 {
			return err
		}
		return s.audit(old, now)
	})
	if err != nil {
		return token.Role{}, err
	}
	return role, nil
}

// switchedFields are those of a role with its switch, which is no part of what is
// declared.
func switchedFields(r *token.Role) fields {
	f := roleFields(r)
	f["tokens_off"] = r.TokensOff
	return f
}

func managedRole() error {
	return refuse(ErrManagedByConfig, "the role is declared in the gateway's configuration: change it there")
}

// DeleteRole removes a role that nobody has and no policy speaks of.
func (a *Authority) DeleteRole(ctx context.Context, by By, name string) error {
	var role token.Role
	find := func(s *step) (target, error) { return s.findRole(name, &role) }
	return a.change(ctx, by, VerbDeleteRole, find, func(s *step) error {
		switch {
		case role.ManagedBy != "":
			return managedRole()
		case slices.ContainsFunc(BuiltInRoles(), func(r token.Role) bool { return r.Name == name }):
			return refuse(ErrInvalidState, "the role is built in, and can be edited but not deleted")
		}
		used, err := s.tx.RoleInUse(name)
		if err != nil {
			return err
		}
		if used {
			return refuse(ErrInvalidState, "users have the role: give them another one first")
		}
		policies, err := s.tx.Policies()
		if err != nil {
			return err
		}
		for i := range policies {
			if slices.Contains(policies[i].RolesNamed(), name) {
				return refuse(ErrInvalidState, fmt.Sprintf("the policy %s names the role in allow or view: take it out there first", policies[i].Name))
			}
		}
		if err := s.tx.DeleteRole(name); err != nil {
			return err
		}
		return s.audit(switchedFields(&role), nil)
	})
}
