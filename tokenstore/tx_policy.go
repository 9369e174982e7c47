package tokenstore

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// loadPolicy reads the rules. What has a column of its own counts as that says.
func loadPolicy(name, rules, managedBy string, version int64) (token.Policy, error) {
	var p token.Policy
	if err := json.Unmarshal([]byte(rules), &p); err != nil {
		return token.Policy{}, err
	}
	p.Name, p.ManagedBy, p.Version = name, managedBy, version
	return p, nil
}

// Policy returns a policy; ErrNotFound.
func (tx *Tx) Policy(name string) (token.Policy, error) {
	row, err := tx.q.GetPolicy(tx.ctx, db.GetPolicyParams{Name: name})
	if err != nil {
		return token.Policy{}, tx.explain("read a policy", err)
	}
	p, err := loadPolicy(row.Name, row.Rules, row.ManagedBy, row.Version)
	if err != nil {
		return token.Policy{}, tx.damaged("read a policy", err)
	}
	return p, nil
}

// Policies lists all policies by name.
func (tx *Tx) Policies() ([]token.Policy, error) {
	rows, err := tx.q.ListPolicies(tx.ctx)
	if err != nil {
		return nil, tx.explain("list policies", err)
	}
	policies := make([]token.Policy, len(rows))
	for i, row := range rows {
		if policies[i], err = loadPolicy(row.Name, row.Rules, row.ManagedBy, row.Version); err != nil {
			return nil, tx.damaged("list policies", err)
		}
	}
	return policies, nil
}

// PutPolicy inserts or replaces a policy, and steps its version, which it sets in p.
func (tx *Tx) PutPolicy(p *token.Policy) error {
	if err := tx.ready(); err != nil {
		return err
	}
	rules, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("store a policy: %w", err)
	}
	version, err := tx.q.PutPolicy(tx.ctx, db.PutPolicyParams{
		Name:        p.Name,
		Rules:       string(rules),
		MaxLifetime: p.MaxLifetime.Microseconds(),
		ManagedBy:   p.ManagedBy,
	})
	if err != nil {
		return tx.explain("store a policy", err)
	}
	p.Version = version
	tx.note(PolicyKind, p.Name, version, false)
	return nil
}

// DeletePolicy removes a policy: ErrConflict when it has another version, is gone,
// or rules an account. A policy that is put under the name later goes on from its
// version.
func (tx *Tx) DeletePolicy(p *token.Policy) error {
	if err := tx.ready(); err != nil {
		return err
	}
	switch n, err := tx.AccountsUnderPolicy(p.Name); {
	case err != nil:
		return err
	case n > 0:
		return fmt.Errorf("delete a policy: it rules accounts: %w", ErrConflict)
	}
	version, err := tx.q.DeletePolicy(tx.ctx, db.DeletePolicyParams{Name: p.Name, Version: p.Version})
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("delete a policy: it has another version: %w", ErrConflict)
	}
	if err != nil {
		return tx.explain("delete a policy", err)
	}
	p.Version = version
	tx.note(PolicyKind, p.Name, version, false)
	return nil
}

// AccountsUnderPolicy counts the accounts that a policy rules.
func (tx *Tx) AccountsUnderPolicy(name string) (int, error) {
	n, err := tx.q.AccountsUnderPolicy(tx.ctx, db.AccountsUnderPolicyParams{Policy: name})
	return int(n), tx.explain("count accounts", err)
}
