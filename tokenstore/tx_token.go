package tokenstore

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// storedToken is a token's columns that are not what they are in the value.
type storedToken struct {
	access, scopes, allowList, environment, state string
}

func encodeToken(t *token.Token) (s storedToken, err error) {
	if t.State == token.Expired {
		return s, errors.New("the state expired is judged and never stored")
	}
	var errs [3]error
	s.access, errs[0] = storedEnum(t.Grant.Access)
	s.environment, errs[1] = storedEnum(t.Environment)
	s.state, errs[2] = storedEnum(t.State)
	s.scopes = storedWords(t.Grant.Scopes)
	if !t.AllowList.Empty() {
		s.allowList = storedWords(t.AllowList.Strings())
	}
	return s, errors.Join(errs[:]...)
}

// plainToken is a token without what has to be parsed.
func plainToken(row *db.Token) token.Token {
	return token.Token{
		ID:           token.ID(row.ID),
		Name:         row.Name,
		AccountID:    token.ID(row.AccountID),
		UserID:       loadID(row.UserID),
		CreatedAt:    loadTime(row.CreatedAt),
		UpdatedAt:    loadTime(row.UpdatedAt),
		ExpiresAt:    loadTime(row.ExpiresAt),
		LifetimeFrom: loadTime(row.LifetimeFrom),
		EndedAt:      loadTime(row.EndedAt),
		EndReason:    row.EndReason,
		FreshOnly:    row.FreshOnly != 0,
		Version:      row.Version,
	}
}

func loadToken(row *db.Token) (token.Token, error) {
	t := plainToken(row)
	var errs [4]error
	t.Grant, errs[0] = loadGrant(row.Access, row.Scopes)
	t.AllowList, errs[1] = loadAllowList(row.AllowList)
	errs[2] = t.Environment.UnmarshalText([]byte(row.Environment))
	errs[3] = t.State.UnmarshalText([]byte(row.State))
	return t, errors.Join(errs[:]...)
}

// inUse says whether a state keeps the master key of a token's secrets in use.
func inUse(s token.State) bool { return s == token.Active || s == token.Disabled }

// Token returns a token, whatever its state; ErrNotFound.
func (tx *Tx) Token(id token.ID) (token.Token, error) {
	row, err := tx.q.GetToken(tx.ctx, db.GetTokenParams{ID: string(id)})
	if err != nil {
		return token.Token{}, tx.explain("read a token", err)
	}
	t, err := loadToken(&row)
	if err != nil {
		return token.Token{}, tx.damaged("read token "+row.ID, err)
	}
	return t, nil
}

// InsertToken stores a new token; ErrConflict when its ID is taken.
func (tx *Tx) InsertToken(t *token.Token) error {
	if err := tx.ready(); err != nil {
		return err
	}
	s, err := encodeToken(t)
	if err != nil {
		return fmt.Errorf("store a token: %w", err)
	}
	n, err := tx.q.InsertToken(tx.ctx, db.InsertTokenParams{
		ID:           string(t.ID),
		Name:         t.Name,
		NameFolded:   foldName(t.Name),
		AccountID:    string(t.AccountID),
		UserID:       storedID(t.UserID),
		Access:       s.access,
		Scopes:       s.scopes,
		AllowList:    s.allowList,
		Environment:  s.environment,
		State:        s.state,
		CreatedAt:    storedTime(t.CreatedAt),
		UpdatedAt:    storedTime(t.UpdatedAt),
		ExpiresAt:    storedTime(t.ExpiresAt),
		LifetimeFrom: storedTime(t.LifetimeFrom),
		EndedAt:      storedTime(t.EndedAt),
		EndReason:    t.EndReason,
		FreshOnly:    storedFlag(t.FreshOnly),
	})
	if err != nil {
		return tx.explain("store a token", err)
	}
	if n == 0 {
		return fmt.Errorf("store a token: its ID is taken: %w", ErrConflict)
	}
	for _, scope := range t.Grant.Scopes {
		if err := tx.q.InsertTokenScope(tx.ctx, db.InsertTokenScopeParams{Scope: scope, TokenID: string(t.ID)}); err != nil {
			return tx.explain("store a token's scopes", err)
		}
	}
	t.Version = 1
	tx.wrote(t)
	return nil
}

// UpdateToken stores what can change of a token: all but its account, user,
// environment and creation. ErrNotFound, ErrConflict.
func (tx *Tx) UpdateToken(t *token.Token) error {
	if err := tx.ready(); err != nil {
		return err
	}
	s, err := encodeToken(t)
	if err != nil {
		return fmt.Errorf("update a token: %w", err)
	}
	old, err := tx.q.GetToken(tx.ctx, db.GetTokenParams{ID: string(t.ID)})
	if err != nil {
		return tx.explain("update a token", err)
	}
	if old.Version != t.Version {
		return fmt.Errorf("update a token: it has another version: %w", ErrConflict)
	}
	if old.AccountID != string(t.AccountID) || loadID(old.UserID) != t.UserID ||
		old.Environment != s.environment || old.CreatedAt != storedTime(t.CreatedAt) {
		return errors.New("update a token: its account, user, environment and creation can not change")
	}
	n, err := tx.q.UpdateToken(tx.ctx, db.UpdateTokenParams{
		ID:           string(t.ID),
		Version:      t.Version,
		Name:         t.Name,
		NameFolded:   foldName(t.Name),
		Access:       s.access,
		Scopes:       s.scopes,
		AllowList:    s.allowList,
		State:        s.state,
		UpdatedAt:    storedTime(t.UpdatedAt),
		ExpiresAt:    storedTime(t.ExpiresAt),
		LifetimeFrom: storedTime(t.LifetimeFrom),
		EndedAt:      storedTime(t.EndedAt),
		EndReason:    t.EndReason,
		FreshOnly:    storedFlag(t.FreshOnly),
	})
	if err != nil {
		return tx.explain("update a token", err)
	}
	if n == 0 {
		return fmt.Errorf("update a token: it has another version: %w", ErrConflict)
	}
	if err := tx.moveScopes(t.ID, loadWords(old.Scopes), t.Grant.Scopes); err != nil {
		return tx.explain("update a token's scopes", err)
	}
	if old.State != s.state {
		err := tx.q.SetSecretsLive(tx.ctx, db.SetSecretsLiveParams{
			TokenID: string(t.ID),
			Live:    storedFlag(inUse(t.State)),
		})
		if err != nil {
			return tx.explain("update a token's secrets", err)
		}
	}
	t.Version++
	tx.wrote(t)
	return nil
}

func (tx *Tx) moveScopes(id token.ID, from, to []string) error {
	for _, scope := range from {
		if !slices.Contains(to, scope) {
			if err := tx.q.DeleteTokenScope(tx.ctx, db.DeleteTokenScopeParams{Scope: scope, TokenID: string(id)}); err != nil {
				return err
			}
		}
	}
	for _, scope := range to {
		if !slices.Contains(from, scope) {
			if err := tx.q.InsertTokenScope(tx.ctx, db.InsertTokenScopeParams{Scope: scope, TokenID: string(id)}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (tx *Tx) wrote(t *token.Token) {
	if tx.written == nil {
		tx.written = map[token.ID]writtenToken{}
	}
	tx.written[t.ID] = writtenToken{version: t.Version, state: t.State}
	tx.note(TokenKind, string(t.ID), t.Version, t.State == token.Revoked || t.State == token.Deleted)
}
