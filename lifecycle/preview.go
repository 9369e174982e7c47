package lifecycle

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Question asks what rules would do to the tokens that there are.
type Question struct {
	// Rules are what would rule them. Their name counts for nothing.
	Rules token.Policy
	// Policy selects the accounts that the policy of this name rules now; empty: all.
	Policy string
	// AccountID selects one account; empty: all.
	AccountID token.ID
	// Limit is about how many tokens a page holds; default 100.
	Limit  int
	Cursor string
}

// Fate is what is to come for a token if nothing else happens. Zero: nothing is.
type Fate struct {
	Ends       time.Time // its own expiry, or the end of its lifetime
	Downgraded time.Time
	Deleted    time.Time
}

// Effect is what other rules would change for a token.
type Effect struct {
	Token token.Token
	// Now is what is to come by the rules in force, and Then by the others.
	Now, Then Fate
	// NeedsAllowList: it breaks their rule for allow-lists, and not the one in
	// force. It works on; who edits or rotates it has to mend that.
	NeedsAllowList bool
}

// Crowd is an account, or a user of one, with more valid secrets than the other
// rules allow. All of them work on, and none is added.
type Crowd struct {
	AccountID, UserID token.ID // UserID is empty for the account as a whole
	Most              int
}

// Preview is one page of what rules would change.
type Preview struct {
	Now     time.Time
	Tokens  int // looked at for this page
	Effects []Effect
	Crowds  []Crowd
	Cursor  string // empty: this was the last page
}

// Preview tells what rules would change for the tokens that there are. It plans as
// a pass does, by both, and writes nothing.
func (k *Keeper) Preview(ctx context.Context, q Question) (Preview, error) {
	q.Limit = limitOf(q.Limit)
	var p Preview
	err := k.Store.Read(ctx, func(tx *tokenstore.Tx) (err error) {
		p = Preview{}
		if p.Now, err = tx.Time(); err != nil {
			return err
		}
		c, err := commonOf(tx, k.Teller, p.Now)
		if err != nil {
			return err
		}
		return p.scan(tx, &c, &q)
	})
	return p, err
}

func (p *Preview) scan(tx *tokenstore.Tx, c *common, q *Question) (err error) {
	counted := map[Crowd]bool{}
	p.Cursor, err = look(tx, q.Cursor, func(s *tokenstore.Subject) (bool, error) {
		if q.AccountID != "" && q.AccountID != s.Token.AccountID || q.Policy != "" && q.Policy != s.Policy.Name {
			return false, nil
		}
		p.Tokens++
		p.add(c, s, q)
		return len(p.Effects) >= q.Limit, p.count(tx, s, q, counted)
	})
	return err
}

func (p *Preview) add(c *common, s *tokenstore.Subject, q *Question) {
	if s.Token.State != token.Active && s.Token.State != token.Disabled {
		return
	}
	subject := c.complete(s)
	e := Effect{Token: *s.Token, Now: fateOf(subject, p.Now)}
	before := s.Policy
	rules := q.Rules
	rules.Name = before.Name // it rules the account for the time of a question
	s.Policy = &rules
	e.Then = fateOf(subject, p.Now)
	e.NeedsAllowList = !authority.MeetsAllowListRule(s.Token, &rules, c.nature) && authority.MeetsAllowListRule(s.Token, before, c.nature)
	s.Policy = before
	if e.NeedsAllowList || e.Now != e.Then {
		p.Effects = append(p.Effects, e)
	}
}

// fateOf is the gist of a plan.
func fateOf(s *token.Subject, now time.Time) Fate {
	f := Fate{Ends: s.Token.ExpiryUnder(s.Policy)}
	first := func(at *time.Time, due time.Time) {
		if at.IsZero() || due.Before(*at) {
			*at = due
		}
	}
	for _, a := range token.Plan(s, now) {
		switch a.Kind {
		case token.Downgrade:
			first(&f.Downgraded, a.Due)
		case token.DeleteUnused, token.DeleteExpired:
			first(&f.Deleted, a.Due)
		default:
		}
	}
	return f
}

// count finds who is over a cap that is lower than before, each once a page.
func (p *Preview) count(tx *tokenstore.Tx, s *tokenstore.Subject, q *Question, counted map[Crowd]bool) error {
	account := Crowd{AccountID: s.Token.AccountID, Most: q.Rules.MaxSecretsPerAccount}
	crowds := []Crowd{}
	if lower(account.Most, s.Policy.MaxSecretsPerAccount) {
		crowds = append(crowds, account)
	}
	user := Crowd{AccountID: s.Token.AccountID, UserID: s.Token.UserID, Most: q.Rules.MaxSecretsPerUser}
	if user.UserID != "" && lower(user.Most, s.Policy.MaxSecretsPerUser) {
		crowds = append(crowds, user)
	}
	for _, crowd := range crowds {
		if counted[crowd] {
			continue
		}
		counted[crowd] = true
		over, err := authority.OverCap(tx, crowd.AccountID, crowd.UserID, crowd.Most, p.Now)
		if err != nil {
			return err
		}
		if over {
			p.Crowds = append(p.Crowds, crowd)
		}
	}
	return nil
}

// lower says whether a cap allows less than another; 0 is none.
func lower(most, than int) bool { return most != 0 && (than == 0 || most < than) }
