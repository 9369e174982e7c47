package tokenstore

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

func loadRole(row db.Role) (token.Role, error) {
	ceiling, err := loadGrant(row.Access, row.Scopes)
	return token.Role{
		Name: row.Name, Ceiling: ceiling, TokensOff: row.TokensOff != 0, EnabledAt: loadTime(row.EnabledAt),
		ManagedBy: row.ManagedBy, Version: row.Version,
	}, err
}

// Role returns a role; ErrNotFound.
func (tx *Tx) Role(name string) (token.Role, error) {
	row, err := tx.q.GetRole(tx.ctx, db.GetRoleParams{Name: name})
	if err != nil {
		return token.Role{}, tx.explain("read a role", err)
	}
	r, err := loadRole(row)
	if err != nil {
		return token.Role{}, tx.damaged("read a role", err)
	}
	return r, nil
}

// Roles lists all roles by name.
func (tx *Tx) Roles() ([]token.Role, error) {
	rows, err := tx.q.ListRoles(tx.ctx)
	if err != nil {
		return nil, tx.explain("list roles", err)
	}
	roles := make([]token.Role, len(rows))
	for i, row := range rows {
		if roles[i], err = loadRole(row); err != nil {
			return nil, tx.damaged("list roles", err)
		}
	}
	return roles, nil
}

// PutRole inserts or replaces what a role allows, and steps its version, which it
// sets in r. Whether its users may have tokens is left as it is: see SwitchRole.
func (tx *Tx) PutRole(r *token.Role) error {
	if err := tx.ready(); err != nil {
		return err
	}
	access, err := storedEnum(r.Ceiling.Access)
	if err != nil {
		return fmt.Errorf("store a role: %w", err)
	}
	version, err := tx.q.PutRole(tx.ctx, db.PutRoleParams{
		Name:      r.Name,
		Access:    access,
		Scopes:    storedWords(r.Ceiling.Scopes),
		ManagedBy: r.ManagedBy,
	})
	if err != nil {
		return tx.explain("store a role", err)
	}
	r.Version = version
	tx.note(RoleKind, r.Name, version, false)
	return nil
}

// SwitchRole stores whether the users of a role may have tokens. ErrConflict when
// it has another version, or is gone.
func (tx *Tx) SwitchRole(r *token.Role) error {
	if err := tx.ready(); err != nil {
		return err
	}
	n, err := tx.q.SwitchRole(tx.ctx, db.SwitchRoleParams{
		Name: r.Name, Version: r.Version, TokensOff: storedFlag(r.TokensOff), EnabledAt: storedTime(r.EnabledAt),
	})
	if err != nil {
		return tx.explain("switch a role", err)
	}
	if n == 0 {
		return fmt.Errorf("switch a role: it has another version: %w", ErrConflict)
	}
	r.Version++
	tx.note(RoleKind, r.Name, r.Version, false)
	return nil
}

// DeleteRole removes a role: ErrNotFound; ErrConflict while a user has it. A role
// that is put under the name later goes on from its version.
func (tx *Tx) DeleteRole(name string) error {
	if err := tx.ready(); err != nil {
		return err
	}
	switch used, err := tx.RoleInUse(name); {
	case err != nil:
		return err
	case used:
		return fmt.Errorf("delete a role: users have it: %w", ErrConflict)
	}
	version, err := tx.q.DeleteRole(tx.ctx, db.DeleteRoleParams{Name: name})
	if err != nil {
		return tx.explain("delete a role", err)
	}
	tx.note(RoleKind, name, version, false)
	return nil
}

// RoleInUse says whether a user has a role.
func (tx *Tx) RoleInUse(name string) (bool, error) {
	_, err := tx.q.AnyUserWithRole(tx.ctx, db.AnyUserWithRoleParams{Role: name})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return err == nil, tx.explain("look for users with a role", err)
}
