package tokenstore

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// Plan is a notice, a warning or a reminder that was written for a token: what it
// announced, and what became of that.
type Plan struct {
	token.Notice
	TokenID token.ID
	EndedAt time.Time // zero: it still stands
	Outcome string    // why it ended: "done", or the cause
}

func loadPlan(row *db.Plan) (p Plan, err error) {
	p = Plan{
		TokenID: token.ID(row.TokenID), EndedAt: loadTime(row.EndedAt), Outcome: row.Outcome,
		Notice: token.Notice{
			ID: token.ID(row.ID), Due: loadTime(row.DueAt), Scopes: loadWords(row.Scopes),
			Created: loadTime(row.CreatedAt), Accepted: loadTime(row.AcceptedAt), Voided: row.EndedAt != 0 && row.Outcome != PlanDone,
		},
	}
	return p, p.Kind.UnmarshalText([]byte(row.Kind))
}

// PlanDone is the outcome of a plan that was carried out.
const PlanDone = "done"

func (tx *Tx) loadPlans(rows []db.Plan) ([]Plan, error) {
	plans := make([]Plan, len(rows))
	for i := range rows {
		var err error
		if plans[i], err = loadPlan(&rows[i]); err != nil {
			return nil, tx.damaged("read plan "+rows[i].ID, err)
		}
	}
	return plans, nil
}

// InsertPlan stores a plan that stands. It is no change in the sense of the feed.
func (tx *Tx) InsertPlan(p Plan) error {
	if err := tx.ready(); err != nil {
		return err
	}
	kind, err := storedEnum(p.Kind)
	if err != nil {
		return fmt.Errorf("store a plan: %w", err)
	}
	return tx.explain("store a plan", tx.q.InsertPlan(tx.ctx, db.InsertPlanParams{
		ID: string(p.ID), TokenID: string(p.TokenID), Kind: kind, DueAt: storedTime(p.Due), Scopes: storedWords(p.Scopes),
		CreatedAt: storedTime(p.Created), AcceptedAt: storedTime(p.Accepted),
	}))
}

// UpdatePlan stores due, scopes, acceptance, end and outcome of a plan that
// stands; ErrNotFound.
func (tx *Tx) UpdatePlan(p Plan) error {
	if err := tx.ready(); err != nil {
		return err
	}
	n, err := tx.q.UpdatePlan(tx.ctx, db.UpdatePlanParams{
		ID: string(p.ID), DueAt: storedTime(p.Due), Scopes: storedWords(p.Scopes), AcceptedAt: storedTime(p.Accepted),
		EndedAt: storedTime(p.EndedAt), Outcome: p.Outcome,
	})
	return tx.one("update a plan", n, err)
}

// Plan returns a plan; ErrNotFound.
func (tx *Tx) Plan(id token.ID) (Plan, error) {
	row, err := tx.q.GetPlan(tx.ctx, db.GetPlanParams{ID: string(id)})
	if err != nil {
		return Plan{}, tx.explain("read a plan", err)
	}
	plans, err := tx.loadPlans([]db.Plan{row})
	if err != nil {
		return Plan{}, err
	}
	return plans[0], nil
}

// maxPlans is how many plans of one token are read: the newest.
const maxPlans = 200

// Plans lists a token's plans, the newest first, those that ended included.
func (tx *Tx) Plans(id token.ID) ([]Plan, error) {
	rows, err := tx.q.PlansOfToken(tx.ctx, db.PlansOfTokenParams{TokenID: string(id), Lim: maxPlans})
	if err != nil {
		return nil, tx.explain("read a token's plans", err)
	}
	return tx.loadPlans(rows)
}

// Act is something that the lifecycle did to a token.
type Act struct {
	ID, TokenID token.ID
	Kind        token.ActionKind
	At          time.Time
	Evidence    token.Evidence
	Before      token.Grant // the permissions before it
	// Open: it can still be undone, by a late fact or by a person.
	Open    bool
	Version int64 // of the token, right after
}

func loadAct(row *db.Act) (a Act, err error) {
	a = Act{
		ID: token.ID(row.ID), TokenID: token.ID(row.TokenID), At: loadTime(row.At), Open: row.Open != 0, Version: row.Version,
	}
	if err := json.Unmarshal([]byte(row.Evidence), &a.Evidence); err != nil {
		return a, err
	}
	if a.Before, err = loadGrant(row.BeforeAccess, row.BeforeScopes); err != nil {
		return a, err
	}
	return a, a.Kind.UnmarshalText([]byte(row.Kind))
}

func (tx *Tx) loadActs(rows []db.Act) ([]Act, error) {
	acts := make([]Act, len(rows))
	for i := range rows {
		var err error
		if acts[i], err = loadAct(&rows[i]); err != nil {
			return nil, tx.damaged("read act "+rows[i].ID, err)
		}
	}
	return acts, nil
}

// InsertAct stores an act in the transaction of what it did; it is open.
func (tx *Tx) InsertAct(a Act) error {
	if err := tx.ready(); err != nil {
		return err
	}
	kind, err := storedEnum(a.Kind)
	if err != nil {
		return fmt.Errorf("store an act: %w", err)
	}
	access, err := storedEnum(a.Before.Access)
	if err != nil {
		return fmt.Errorf("store an act: %w", err)
	}
	evidence, err := json.Marshal(a.Evidence)
	if err != nil {
		return fmt.Errorf("store an act: %w", err)
	}
	return tx.explain("store an act", tx.q.InsertAct(tx.ctx, db.InsertActParams{
		ID: string(a.ID), TokenID: string(a.TokenID), Kind: kind, At: storedTime(a.At), Evidence: string(evidence),
		BeforeAccess: access, BeforeScopes: storedWords(a.Before.Scopes), Version: a.Version,
	}))
}

// CloseAct says that an act can not be undone any more, or was; ErrNotFound when
// there is no such open act.
func (tx *Tx) CloseAct(id token.ID) error {
	if err := tx.ready(); err != nil {
		return err
	}
	n, err := tx.q.CloseAct(tx.ctx, db.CloseActParams{ID: string(id)})
	return tx.one("close an act", n, err)
}

// OpenActs lists one page of the acts that can still be undone, by ID.
func (tx *Tx) OpenActs(after token.ID, limit int) ([]Act, error) {
	rows, err := tx.q.OpenActs(tx.ctx, db.OpenActsParams{After: string(after), Lim: int64(limit)})
	if err != nil {
		return nil, tx.explain("list acts", err)
	}
	return tx.loadActs(rows)
}

// OpenActsOf lists those of one token, the newest first.
func (tx *Tx) OpenActsOf(id token.ID) ([]Act, error) {
	rows, err := tx.q.OpenActsOfToken(tx.ctx, db.OpenActsOfTokenParams{TokenID: string(id)})
	if err != nil {
		return nil, tx.explain("list a token's acts", err)
	}
	return tx.loadActs(rows)
}

// CappedActs counts the acts after a time that the allowance is for.
func (tx *Tx) CappedActs(after time.Time) (int, error) {
	total := int64(0)
	for _, kind := range []token.ActionKind{token.Downgrade, token.DeleteUnused} {
		n, err := tx.q.CountActs(tx.ctx, db.CountActsParams{After: storedTime(after), Kind: kind.String()})
		if err != nil {
			return 0, tx.explain("count acts", err)
		}
		total += n
	}
	return int(total), nil
}

// LiveTokens counts the tokens that are active or disabled.
func (tx *Tx) LiveTokens() (int, error) {
	n, err := tx.q.CountLiveTokens(tx.ctx)
	return int(n), tx.explain("count tokens", err)
}

// MoveActs says that the open acts of a token that stood at one version stand at
// another: what changed it was the lifecycle itself.
func (tx *Tx) MoveActs(id token.ID, from, to int64) error {
	if err := tx.ready(); err != nil {
		return err
	}
	err := tx.q.MoveActs(tx.ctx, db.MoveActsParams{TokenID: string(id), Was: from, Version: to})
	return tx.explain("update a token's acts", err)
}

// UnacceptedPlans lists one page of the plans that wait for their notice to be
// accepted, by ID.
func (tx *Tx) UnacceptedPlans(after token.ID, limit int) ([]Plan, error) {
	rows, err := tx.q.UnacceptedPlans(tx.ctx, db.UnacceptedPlansParams{After: string(after), Lim: int64(limit)})
	if err != nil {
		return nil, tx.explain("list plans", err)
	}
	return tx.loadPlans(rows)
}
