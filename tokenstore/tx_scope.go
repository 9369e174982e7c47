package tokenstore

import (
	"fmt"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// DeclaredScope is a scope with who owns its declaration.
type DeclaredScope struct {
	token.Scope
	ManagedBy string
}

// Scopes lists the declared scopes by name; the built-in ones are not stored.
func (tx *Tx) Scopes() ([]DeclaredScope, error) {
	rows, err := tx.q.ListScopes(tx.ctx)
	if err != nil {
		return nil, tx.explain("list scopes", err)
	}
	scopes := make([]DeclaredScope, len(rows))
	for i, row := range rows {
		scopes[i] = DeclaredScope{Scope: token.Scope{Name: row.Name}, ManagedBy: row.ManagedBy}
		if err := scopes[i].Nature.UnmarshalText([]byte(row.Nature)); err != nil {
			return nil, tx.damaged("list scopes", err)
		}
	}
	return scopes, nil
}

// PutScope inserts or replaces a declaration.
func (tx *Tx) PutScope(s DeclaredScope) error {
	if err := tx.ready(); err != nil {
		return err
	}
	nature, err := storedEnum(s.Nature)
	if err != nil {
		return fmt.Errorf("store a scope: %w", err)
	}
	err = tx.q.PutScope(tx.ctx, db.PutScopeParams{Name: s.Name, Nature: nature, ManagedBy: s.ManagedBy})
	if err != nil {
		return tx.explain("store a scope", err)
	}
	tx.note(ScopeKind, s.Name, 0, false)
	return nil
}

// DeleteScope removes a declaration; ErrNotFound. Tokens that list the scope keep it.
func (tx *Tx) DeleteScope(name string) error {
	if err := tx.ready(); err != nil {
		return err
	}
	n, err := tx.q.DeleteScope(tx.ctx, db.DeleteScopeParams{Name: name})
	if err != nil {
		return tx.explain("delete a scope", err)
	}
	if n == 0 {
		return fmt.Errorf("delete a scope: %w", ErrNotFound)
	}
	tx.note(ScopeKind, name, 0, false)
	return nil
}
