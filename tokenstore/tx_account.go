package tokenstore

import (
	"errors"
	"fmt"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

func loadAccount(row db.Account) token.Account {
	return token.Account{
		ID:        token.ID(row.ID),
		Name:      row.Name,
		Policy:    row.Policy,
		Disabled:  row.Disabled != 0,
		TokensOff: row.TokensOff != 0,
		CreatedAt: loadTime(row.CreatedAt),
		EnabledAt: loadTime(row.EnabledAt),
		UpdatedAt: loadTime(row.UpdatedAt),
		Version:   row.Version,
	}
}

// Account returns an account; ErrNotFound.
func (tx *Tx) Account(id token.ID) (token.Account, error) {
	row, err := tx.q.GetAccount(tx.ctx, db.GetAccountParams{ID: string(id)})
	if err != nil {
		return token.Account{}, tx.explain("read an account", err)
	}
	return loadAccount(row), nil
}

// Accounts lists one page, newest first, and gives the cursor of the next.
func (tx *Tx) Accounts(p Page) ([]token.Account, string, error) {
	list, err := openList("accounts", nil, p)
	if err != nil {
		return nil, "", err
	}
	rows, err := tx.q.ListAccounts(tx.ctx, db.ListAccountsParams{Before: list.before(), Lim: list.fetch()})
	if err != nil {
		return nil, "", tx.explain("list accounts", err)
	}
	var accounts []token.Account
	for _, row := range rows {
		accounts = append(accounts, loadAccount(row))
	}
	accounts, next := cutPage(list, accounts, func(a *token.Account) token.ID { return a.ID })
	return accounts, next, nil
}

// InsertAccount stores a new account; ErrConflict when its ID is taken.
func (tx *Tx) InsertAccount(a *token.Account) error {
	if err := tx.ready(); err != nil {
		return err
	}
	n, err := tx.q.InsertAccount(tx.ctx, db.InsertAccountParams{
		ID:        string(a.ID),
		Name:      a.Name,
		Policy:    a.Policy,
		Disabled:  storedFlag(a.Disabled),
		TokensOff: storedFlag(a.TokensOff),
		EnabledAt: storedTime(a.EnabledAt),
		CreatedAt: storedTime(a.CreatedAt),
		UpdatedAt: storedTime(a.UpdatedAt),
	})
	if err != nil {
		return tx.explain("store an account", err)
	}
	if n == 0 {
		return fmt.Errorf("store an account: its ID is taken: %w", ErrConflict)
	}
	a.Version = 1
	tx.note(AccountKind, string(a.ID), a.Version, false)
	return nil
}

// UpdateAccount stores name, policy and what is switched off. ErrNotFound, ErrConflict.
func (tx *Tx) UpdateAccount(a *token.Account) error {
	if err := tx.ready(); err != nil {
		return err
	}
	old, err := tx.q.GetAccount(tx.ctx, db.GetAccountParams{ID: string(a.ID)})
	if err != nil {
		return tx.explain("update an account", err)
	}
	if old.CreatedAt != storedTime(a.CreatedAt) {
		return errors.New("update an account: its creation can not change")
	}
	n, err := tx.q.UpdateAccount(tx.ctx, db.UpdateAccountParams{
		ID:        string(a.ID),
		Version:   a.Version,
		Name:      a.Name,
		Policy:    a.Policy,
		Disabled:  storedFlag(a.Disabled),
		TokensOff: storedFlag(a.TokensOff),
		EnabledAt: storedTime(a.EnabledAt),
		UpdatedAt: storedTime(a.UpdatedAt),
	})
	if err != nil {
		return tx.explain("update an account", err)
	}
	if n == 0 {
		return fmt.Errorf("update an account: it has another version: %w", ErrConflict)
	}
	a.Version++
	tx.note(AccountKind, string(a.ID), a.Version, false)
	return nil
}
