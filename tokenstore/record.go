package tokenstore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// Records reads for Store.Lookup. Records that it gives share their policies and
// roles, of which there are few: parsing one again for each lookup would take
// half of the time. The zero value is ready for use, by many at once.
type Records struct {
	policies, roles memo
}

// Read reads one record: one statement, which is a snapshot by itself. Errors of
// the database are returned for the adapter to explain.
func (r *Records) Read(ctx context.Context, conn db.DBTX, l Lookup) (*Record, error) {
	row, err := db.New(conn).Lookup(ctx, db.LookupParams{Lookup: l[:]})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	rec, err := r.load(&row)
	if err != nil {
		return nil, fmt.Errorf("the stored record of token %s is damaged: %w", row.TokenID, err)
	}
	rec.Lookup = l
	return rec, nil
}

// memo keeps what was parsed from stored texts. It is keyed by all that went
// into a value, so that it can not be out of date.
type memo struct {
	mu     sync.RWMutex
	values map[memoKey]any
}

type memoKey struct {
	name, text, more, managedBy string
	off                         bool
	version                     int64
}

// maxMemo is where a memo starts anew.
const maxMemo = 1000

func remember[T any](m *memo, key memoKey, parse func() (T, error)) (*T, error) {
	m.mu.RLock()
	known, ok := m.values[key]
	m.mu.RUnlock()
	if ok {
		return known.(*T), nil
	}
	v, err := parse()
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values == nil || len(m.values) >= maxMemo {
		m.values = map[memoKey]any{}
	}
	m.values[key] = &v
	return &v, nil
}

func (r *Records) load(row *db.LookupRow) (*Record, error) {
	var errs []error
	check := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	rec := &Record{KeyID: row.KeyID}
	var err error
	rec.Secret, err = loadSecret(db.ListSecretsRow{
		ID: row.ID, TokenID: row.TokenID, Last4: row.Last4, Status: row.Status,
		CreatedAt: row.CreatedAt, ExpiresAt: row.ExpiresAt, RetryUntil: row.RetryUntil, FirstUsed: row.FirstUsed,
	})
	check(err)
	rec.Token, err = loadToken(&db.Token{
		ID: row.TokenID, Name: row.TokenName, AccountID: row.AccountID, UserID: row.UserID,
		Access: row.Access, Scopes: row.Scopes, AllowList: row.AllowList, Environment: row.Environment, State: row.State,
		CreatedAt: row.TokenCreatedAt, UpdatedAt: row.TokenUpdatedAt, ExpiresAt: row.TokenExpiresAt,
		LifetimeFrom: row.LifetimeFrom, EndedAt: row.EndedAt, EndReason: row.EndReason,
		FreshOnly: row.FreshOnly, Version: row.TokenVersion,
	})
	check(err)
	account := loadAccount(db.Account{
		ID: row.AccountID, Name: row.AccountName, Policy: row.Policy, Disabled: row.AccountDisabled, TokensOff: row.AccountTokensOff,
		CreatedAt: row.AccountCreatedAt, UpdatedAt: row.AccountUpdatedAt, Version: row.AccountVersion,
	})
	rec.Account = &account
	rec.Policy, err = r.policy(row.Policy, row.Rules, row.PolicyManagedBy, row.PolicyVersion)
	check(err)
	if row.Scheduled != nil {
		rec.Outlook, err = loadOutlook(&db.BulkHistoriesRow{
			Scheduled: *row.Scheduled, ScheduledAt: *row.ScheduledAt, DowngradedAt: *row.DowngradedAt, UndoUntil: *row.UndoUntil,
			BeforeAccess: *row.BeforeAccess, BeforeScopes: *row.BeforeScopes,
		})
		check(err)
	}
	if row.UserID == nil {
		return rec, errors.Join(errs...)
	}
	if row.Role == nil || row.RoleAccess == nil {
		return nil, errors.New("its user or role is missing")
	}
	user, err := loadUser(db.User{
		ID: *row.UserID, AccountID: *row.UserAccountID, Name: *row.UserName, Email: *row.Email, Role: *row.Role,
		BusinessUnits: *row.BusinessUnits, Disabled: *row.UserDisabled, TokensOff: *row.UserTokensOff,
		CreatedAt: *row.UserCreatedAt, UpdatedAt: *row.UserUpdatedAt, Version: *row.UserVersion,
	})
	check(err)
	rec.User = &user
	rec.Role, err = r.role(db.Role{
		Name: *row.Role, Access: *row.RoleAccess, Scopes: *row.RoleScopes, TokensOff: *row.RoleTokensOff,
		ManagedBy: *row.RoleManagedBy, Version: *row.RoleVersion,
	})
	check(err)
	return rec, errors.Join(errs...)
}

func (r *Records) policy(name, rules, managedBy string, version int64) (*token.Policy, error) {
	return remember(&r.policies, memoKey{name: name, text: rules, managedBy: managedBy, version: version},
		func() (token.Policy, error) { return loadPolicy(name, rules, managedBy, version) })
}

func (r *Records) role(row db.Role) (*token.Role, error) {
	return remember(&r.roles,
		memoKey{name: row.Name, text: row.Access, more: row.Scopes, off: row.TokensOff != 0, managedBy: row.ManagedBy, version: row.Version},
		func() (token.Role, error) { return loadRole(row) })
}
