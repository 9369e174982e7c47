package tokenstore

import (
	"errors"
	"fmt"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

func loadUser(row db.User) (token.User, error) {
	units, err := loadTexts(row.BusinessUnits)
	return token.User{
		ID:            token.ID(row.ID),
		AccountID:     token.ID(row.AccountID),
		Name:          row.Name,
		Email:         row.Email,
		Role:          row.Role,
		BusinessUnits: units,
		Disabled:      row.Disabled != 0,
		TokensOff:     row.TokensOff != 0,
		CreatedAt:     loadTime(row.CreatedAt),
		EnabledAt:     loadTime(row.EnabledAt),
		UpdatedAt:     loadTime(row.UpdatedAt),
		Version:       row.Version,
	}, err
}

// User returns a user; ErrNotFound.
func (tx *Tx) User(id token.ID) (token.User, error) {
	row, err := tx.q.GetUser(tx.ctx, db.GetUserParams{ID: string(id)})
	if err != nil {
		return token.User{}, tx.explain("read a user", err)
	}
	u, err := loadUser(row)
	if err != nil {
		return token.User{}, tx.damaged("read user "+row.ID, err)
	}
	return u, nil
}

// Users lists the users of an account, newest first, and gives the cursor of the
// next page; an empty account lists all.
func (tx *Tx) Users(account token.ID, p Page) ([]token.User, string, error) {
	list, err := openList("users", account, p)
	if err != nil {
		return nil, "", err
	}
	var rows []db.User
	if account == "" {
		rows, err = tx.q.ListUsers(tx.ctx, db.ListUsersParams{Before: list.before(), Lim: list.fetch()})
	} else {
		rows, err = tx.q.ListUsersOfAccount(tx.ctx, db.ListUsersOfAccountParams{
			AccountID: string(account), Before: list.before(), Lim: list.fetch(),
		})
	}
	if err != nil {
		return nil, "", tx.explain("list users", err)
	}
	var users []token.User
	for _, row := range rows {
		u, err := loadUser(row)
		if err != nil {
			return nil, "", tx.damaged("read user "+row.ID, err)
		}
		users = append(users, u)
	}
	users, next := cutPage(list, users, func(u *token.User) token.ID { return u.ID })
	return users, next, nil
}

// InsertUser stores a new user; ErrConflict when its ID is taken.
func (tx *Tx) InsertUser(u *token.User) error {
	if err := tx.ready(); err != nil {
		return err
	}
	units, err := storedTexts(u.BusinessUnits)
	if err != nil {
		return fmt.Errorf("store a user: %w", err)
	}
	n, err := tx.q.InsertUser(tx.ctx, db.InsertUserParams{
		ID:            string(u.ID),
		AccountID:     string(u.AccountID),
		Name:          u.Name,
		Email:         u.Email,
		Role:          u.Role,
		BusinessUnits: units,
		Disabled:      storedFlag(u.Disabled),
		TokensOff:     storedFlag(u.TokensOff),
		EnabledAt:     storedTime(u.EnabledAt),
		CreatedAt:     storedTime(u.CreatedAt),
		UpdatedAt:     storedTime(u.UpdatedAt),
	})
	if err != nil {
		return tx.explain("store a user", err)
	}
	if n == 0 {
		return fmt.Errorf("store a user: its ID is taken: %w", ErrConflict)
	}
	u.Version = 1
	tx.note(UserKind, string(u.ID), u.Version, false)
	return nil
}

// UpdateUser stores what can change of a user: all but the account and the
// creation. ErrNotFound, ErrConflict.
func (tx *Tx) UpdateUser(u *token.User) error {
	if err := tx.ready(); err != nil {
		return err
	}
	units, err := storedTexts(u.BusinessUnits)
	if err != nil {
		return fmt.Errorf("update a user: %w", err)
	}
	old, err := tx.q.GetUser(tx.ctx, db.GetUserParams{ID: string(u.ID)})
	if err != nil {
		return tx.explain("update a user", err)
	}
	if old.AccountID != string(u.AccountID) || old.CreatedAt != storedTime(u.CreatedAt) {
		return errors.New("update a user: the account and the creation can not change")
	}
	n, err := tx.q.UpdateUser(tx.ctx, db.UpdateUserParams{
		ID:            string(u.ID),
		Version:       u.Version,
		Name:          u.Name,
		Email:         u.Email,
		Role:          u.Role,
		BusinessUnits: units,
		Disabled:      storedFlag(u.Disabled),
		TokensOff:     storedFlag(u.TokensOff),
		EnabledAt:     storedTime(u.EnabledAt),
		UpdatedAt:     storedTime(u.UpdatedAt),
	})
	if err != nil {
		return tx.explain("update a user", err)
	}
	if n == 0 {
		return fmt.Errorf("update a user: it has another version: %w", ErrConflict)
	}
	u.Version++
	tx.note(UserKind, string(u.ID), u.Version, false)
	return nil
}
