package lifecycle

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Options select what a forecast is of. Zero fields select everything.
type Options struct {
	// At leaves out what is due later.
	At time.Time
	// Policy stands in for the policy of every account that is looked at, to see
	// what another one would do.
	Policy    *token.Policy
	AccountID token.ID
	TokenID   token.ID
	// Limit is about how many tokens with something to come a page holds; default 100.
	Limit int
	// Cursor is what the page before gave.
	Cursor string
}

// Coming is what is to come for one token.
type Coming struct {
	Token   token.Token
	Policy  string
	Actions []token.Action
	// Broken is why nothing is planned, when the token's records contradict
	// themselves; nil: they do not.
	Broken error
}

// Forecast is one page of what is to come.
type Forecast struct {
	Now  time.Time
	List []Coming
	// Cursor is where the next page goes on; empty: there is none.
	Cursor string
	// Left is how many more tokens the allowance lets a pass act on, as of now.
	Left int
}

const (
	defaultLimit = 100
	maxLimit     = 1000
	// scanBudget bounds how many tokens one page looks at, whatever it finds.
	scanBudget = 20_000
)

// limitOf is how many tokens a page holds.
func limitOf(asked int) int {
	if asked < 1 {
		return defaultLimit
	}
	return min(asked, maxLimit)
}

// Forecast tells what a pass would do, and what comes later if nothing else
// happens. It plans as a pass does and writes nothing.
func (k *Keeper) Forecast(ctx context.Context, o Options) (Forecast, error) {
	o.Limit = limitOf(o.Limit)
	var f Forecast
	err := k.Store.Read(ctx, func(tx *tokenstore.Tx) (err error) {
		f = Forecast{}
		if f.Now, err = tx.Time(); err != nil {
			return err
		}
		c, err := commonOf(tx, k.Teller, f.Now)
		if err != nil {
			return err
		}
		if f.Left, err = allowance(tx, k.Raised, f.Now); err != nil {
			return err
		}
		if o.TokenID != "" {
			s, err := tx.Subject(o.TokenID)
			if err == nil && (o.AccountID == "" || o.AccountID == s.Token.AccountID) {
				f.add(&c, &s, &o)
			}
			return err
		}
		return f.scan(tx, &c, &o)
	})
	return f, err
}

func allowance(tx *tokenstore.Tx, raised int, now time.Time) (int, error) {
	live, err := tx.LiveTokens()
	if err != nil {
		return 0, err
	}
	done, err := tx.CappedActs(now.Add(-token.AllowanceSpan))
	return token.Allowance(live, done, raised), err
}

func (f *Forecast) scan(tx *tokenstore.Tx, c *common, o *Options) (err error) {
	f.Cursor, err = look(tx, o.Cursor, func(s *tokenstore.Subject) (bool, error) {
		if o.AccountID == "" || o.AccountID == s.Token.AccountID {
			f.add(c, s, o)
		}
		return len(f.List) >= o.Limit, nil
	})
	return err
}

// look visits tokens in the order of their IDs, from where a cursor says, until visit
// has enough or as many were looked at as one page may. It gives the cursor of the
// next page; empty: there is none.
func look(tx *tokenstore.Tx, cursor string, visit func(*tokenstore.Subject) (enough bool, err error)) (string, error) {
	after := token.ID(cursor)
	for seen := 0; seen < scanBudget; {
		subjects, err := tx.Subjects(after, min(defaultPage, scanBudget-seen))
		if err != nil || len(subjects) == 0 {
			return "", err
		}
		seen += len(subjects)
		for i := range subjects {
			after = subjects[i].Token.ID
			enough, err := visit(&subjects[i])
			if err != nil {
				return "", err
			}
			if enough {
				return string(after), nil
			}
		}
	}
	return string(after), nil
}

func (f *Forecast) add(c *common, s *tokenstore.Subject, o *Options) {
	coming := Coming{Token: *s.Token, Policy: s.Policy.Name}
	if o.Policy != nil {
		p := *o.Policy
		coming.Policy = p.Name
		// It rules the account for the time of a question.
		p.Name = s.Policy.Name
		s.Policy = &p
	}
	subject := c.complete(s)
	coming.Broken = subject.Check()
	for _, a := range token.Plan(subject, f.Now) {
		if o.At.IsZero() || !a.Due.After(o.At) {
			coming.Actions = append(coming.Actions, a)
		}
	}
	if len(coming.Actions) > 0 || coming.Broken != nil {
		f.List = append(f.List, coming)
	}
}

// SeenRun is one run, and what it means for what is known.
type SeenRun struct {
	token.Run
	State token.RunState
	// HoldsBack: nothing after its Covered can be acted on before it has told more.
	HoldsBack bool
}

// Observation is what is known of use, and what is not.
type Observation struct {
	Now time.Time
	// Since is when observation began, and Through up to when all is known. Zero:
	// nothing was observed.
	Since, Through time.Time
	Gaps           []token.Gap
	Runs           []SeenRun
}

// Coverage tells what is known of use, and which run holds that back.
func (k *Keeper) Coverage(ctx context.Context) (Observation, error) {
	var o Observation
	err := k.Store.Read(ctx, func(tx *tokenstore.Tx) error {
		now, err := tx.Time()
		if err != nil {
			return err
		}
		runs, err := tx.Runs()
		if err != nil {
			return err
		}
		gaps, err := tx.Gaps()
		if err != nil {
			return err
		}
		c := token.Observe(runs, gaps, now)
		o = Observation{Now: now, Since: c.Since, Through: c.Through, Gaps: c.Gaps()}
		for _, r := range runs {
			o.Runs = append(o.Runs, seen(r, &o))
		}
		return nil
	})
	return o, err
}

func seen(r token.Run, o *Observation) SeenRun {
	s := SeenRun{Run: r, State: r.State(o.Now)}
	s.HoldsBack = (s.State == token.RunServing || s.State == token.RunSilent) && r.Covered.Equal(o.Through) && r.Covered.Before(o.Now)
	return s
}
