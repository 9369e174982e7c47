package tokenstore

import (
	"errors"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// Subjects lists what the plans of up to limit tokens follow from, by ID, after
// one: for passes over all tokens, in bounded pieces. Tombstones that were purged
// are left out. Coverage, Channel and ScopeNature are the caller's to fill in.
func (tx *Tx) Subjects(after token.ID, limit int) ([]Subject, error) {
	return tx.subjects(db.ListSubjectsParams{After: string(after), Last: aboveAllIDs, Lim: int64(limit)})
}

// Subject is what the plan of one token follows from; ErrNotFound.
func (tx *Tx) Subject(id token.ID) (Subject, error) {
	t, err := tx.Token(id)
	if err != nil {
		return Subject{}, err
	}
	// IDs are ASCII: nothing lies between one without its last byte's step and it.
	list, err := tx.subjects(db.ListSubjectsParams{After: justBelow(string(t.ID)), Last: string(t.ID), Lim: 1})
	if err != nil {
		return Subject{}, err
	}
	if len(list) == 0 {
		return Subject{}, ErrNotFound
	}
	return list[0], nil
}

// justBelow is a text that sorts before an ID and after every other ID that does.
func justBelow(id string) string {
	last := len(id) - 1
	return id[:last] + string(id[last]-1) + "\x7f"
}

// Subject is a token.Subject with what the store keeps beside it.
type Subject struct {
	token.Subject
	History History
	Plans   []Plan // that stand
}

func (tx *Tx) subjects(p db.ListSubjectsParams) ([]Subject, error) {
	rows, err := tx.q.ListSubjects(tx.ctx, p)
	if err != nil || len(rows) == 0 {
		return nil, tx.explain("read the tokens", err)
	}
	byName, err := tx.policiesOf(rows)
	if err != nil {
		return nil, err
	}
	list := make([]Subject, len(rows))
	at := make(map[string]*Subject, len(rows))
	for i := range rows {
		if err := loadSubject(&rows[i], byName, &list[i]); err != nil {
			return nil, tx.damaged("read token "+rows[i].ID, err)
		}
		at[rows[i].ID] = &list[i]
	}
	return list, tx.completeSubjects(at, rows[0].ID, rows[len(rows)-1].ID)
}

// policiesOf reads the policies of tokens, and only those: to read one costs as much
// as to read many tokens.
func (tx *Tx) policiesOf(tokens []db.ListSubjectsRow) (map[string]*token.Policy, error) {
	byName := map[string]*token.Policy{}
	for i := range tokens {
		byName[tokens[i].Policy] = nil
	}
	rows, err := tx.q.ListPolicies(tx.ctx)
	if err != nil {
		return nil, tx.explain("list policies", err)
	}
	for _, row := range rows {
		if _, wanted := byName[row.Name]; !wanted {
			continue
		}
		p, err := loadPolicy(row.Name, row.Rules, row.ManagedBy, row.Version)
		if err != nil {
			return nil, tx.damaged("list policies", err)
		}
		byName[row.Name] = &p
	}
	return byName, nil
}

func loadSubject(row *db.ListSubjectsRow, policies map[string]*token.Policy, s *Subject) error {
	t, err := loadToken(&db.Token{
		ID: row.ID, Name: row.Name, AccountID: row.AccountID, UserID: row.UserID,
		Access: row.Access, Scopes: row.Scopes, AllowList: row.AllowList, Environment: row.Environment, State: row.State,
		CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt, ExpiresAt: row.ExpiresAt, LifetimeFrom: row.LifetimeFrom,
		EndedAt: row.EndedAt, EndReason: row.EndReason, FreshOnly: row.FreshOnly, Version: row.Version,
	})
	if err != nil {
		return err
	}
	s.Token = &t
	s.Account = &token.Account{ID: t.AccountID, Policy: row.Policy, Disabled: row.AccountDisabled != 0, TokensOff: row.AccountTokensOff != 0}
	enabled := loadTime(row.AccountEnabledAt)
	if s.Policy = policies[row.Policy]; s.Policy == nil {
		return errors.New("its policy is missing")
	}
	if row.UserID != nil {
		if row.UserDisabled == nil || row.UserTokensOff == nil || row.UserEnabledAt == nil || row.RoleTokensOff == nil || row.RoleEnabledAt == nil {
			return errors.New("its user is missing")
		}
		s.User = &token.User{ID: t.UserID, AccountID: t.AccountID, Disabled: *row.UserDisabled != 0, TokensOff: *row.UserTokensOff != 0}
		// What is switched off for the role is switched off for the user.
		s.User.TokensOff = s.User.TokensOff || *row.RoleTokensOff != 0
		enabled = latest(enabled, latest(loadTime(*row.UserEnabledAt), loadTime(*row.RoleEnabledAt)))
	}
	if row.ObservedFrom != nil {
		s.History, err = loadHistory(&db.History{
			ObservedFrom: *row.ObservedFrom, LevelFrom: *row.LevelFrom, ExemptUntil: *row.ExemptUntil, ExemptReason: *row.ExemptReason,
			Scheduled: *row.Scheduled, ScheduledAt: *row.ScheduledAt, DowngradedAt: *row.DowngradedAt, UndoUntil: *row.UndoUntil,
			BeforeAccess: *row.BeforeAccess, BeforeScopes: *row.BeforeScopes,
		})
		if err != nil {
			return err
		}
	}
	s.Subject.History = s.History.History
	// What could not be used was not unused.
	s.Subject.History.Observed = latest(latest(s.Subject.History.Observed, enabled), t.CreatedAt)
	return nil
}

// completeSubjects adds what lies in other tables, each read once for them all.
func (tx *Tx) completeSubjects(at map[string]*Subject, first, last string) error {
	uses, err := tx.q.UsesBetween(tx.ctx, db.UsesBetweenParams{First: first, Last: last})
	if err != nil {
		return tx.explain("read the tokens' use", err)
	}
	for _, row := range uses {
		s := at[row.TokenID]
		if s == nil {
			continue
		}
		scope, err := loadUsedScope(row.Scope, row.Nature)
		if err != nil {
			return tx.damaged("read the use of token "+row.TokenID, err)
		}
		addUse(&s.Use, scope, loadTime(row.Until))
	}
	secrets, err := tx.q.PreviousSecretsBetween(tx.ctx, db.PreviousSecretsBetweenParams{First: first, Last: last})
	if err != nil {
		return tx.explain("read the tokens' previous secrets", err)
	}
	for _, row := range secrets {
		if err := tx.addSecret(at, db.ListSecretsRow(row)); err != nil {
			return err
		}
	}
	if len(secrets) > 0 {
		if err := tx.addRotations(at, first, last); err != nil {
			return err
		}
		previous, err := tx.q.PreviousUsesBetween(tx.ctx, db.PreviousUsesBetweenParams{First: first, Last: last})
		if err != nil {
			return tx.explain("read the use of previous secrets", err)
		}
		for _, row := range previous {
			if s := at[row.TokenID]; s != nil {
				s.Use.Previous = loadTime(row.Until)
			}
		}
	}
	rows, err := tx.q.PlansToCome(tx.ctx, db.PlansToComeParams{First: first, Last: last})
	if err != nil {
		return tx.explain("read the tokens' plans", err)
	}
	plans, err := tx.loadPlans(rows)
	if err != nil {
		return err
	}
	for _, p := range plans {
		if s := at[string(p.TokenID)]; s != nil {
			s.Plans = append(s.Plans, p)
			s.Notices = append(s.Notices, p.Notice)
		}
	}
	return nil
}

// addSecret adds a secret to its token, if that is among them.
func (tx *Tx) addSecret(at map[string]*Subject, row db.ListSecretsRow) error {
	s := at[row.TokenID]
	if s == nil {
		return nil
	}
	secret, err := loadSecret(row)
	if err != nil {
		return tx.damaged("read secret "+row.ID, err)
	}
	s.Secrets = append(s.Secrets, secret)
	return nil
}

// addRotations adds what the previous secrets are to be judged with: the secrets that
// took their place, and how the rotations end.
func (tx *Tx) addRotations(at map[string]*Subject, first, last string) error {
	newest, err := tx.q.NewestSecretsBesidePrevious(tx.ctx, db.NewestSecretsBesidePreviousParams{First: first, Last: last})
	if err != nil {
		return tx.explain("read the tokens' newest secrets", err)
	}
	for _, row := range newest {
		if err := tx.addSecret(at, db.ListSecretsRow(row)); err != nil {
			return err
		}
	}
	rotations, err := tx.q.RotationsBetween(tx.ctx, db.RotationsBetweenParams{First: first, Last: last})
	if err != nil {
		return tx.explain("read the tokens' rotations", err)
	}
	for i := range rotations {
		s := at[rotations[i].TokenID]
		if s == nil {
			continue
		}
		if s.Rotation, err = loadRotation(&rotations[i]); err != nil {
			return tx.damaged("read the rotation of token "+rotations[i].TokenID, err)
		}
	}
	return nil
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
