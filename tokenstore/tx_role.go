package tokenstore

import (
	"fmt"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

func loadRole(row db.Role) (token.Role, error) {
	ceiling, err := loadGrant(row.Access, row.Scopes)
	return token.Role{Name: row.Name, Ceiling: ceiling, ManagedBy: row.ManagedBy, Version: row.Version}, err
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

// PutRole inserts or replaces a role, and steps its version, which it sets in r.
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
