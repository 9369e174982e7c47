package authority

import (
	"context"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// The verbs that ask about the lifecycle as a whole, or have it done.
const (
	VerbPlanLifecycle  Verb = "lifecycle.plan"
	VerbApplyLifecycle Verb = "lifecycle.apply"
	VerbCoverage       Verb = "lifecycle.coverage"
	VerbRecommendToken Verb = "token.recommend"
)

// MayPlanLifecycle says whether somebody may see what is to come for the tokens of
// an account; an empty one, of all.
func (a *Authority) MayPlanLifecycle(ctx context.Context, by By, account token.ID) error {
	if err := checkFilter("account_id", string(account)); err != nil {
		return err
	}
	find := func(*step) (target, error) { return target{account: account}, nil }
	return a.see(ctx, by, VerbPlanLifecycle, find, func(*step) error { return nil })
}

// MaySeeCoverage says whether somebody may see what is known of use, and of which
// gateways.
func (a *Authority) MaySeeCoverage(ctx context.Context, by By) error {
	return a.see(ctx, by, VerbCoverage, anything, func(*step) error { return nil })
}

// MayRecommend says whether somebody may see what a token needs. It is refused for
// a token that there is not.
func (a *Authority) MayRecommend(ctx context.Context, by By, id token.ID) error {
	var h held
	find := func(s *step) (target, error) { return s.hold(id, &h) }
	return a.see(ctx, by, VerbRecommendToken, find, func(*step) error { return nil })
}

// AskForPass says whether somebody may have the lifecycle pass over all tokens
// now, and notes that they did. What the pass does has its own entries.
func (a *Authority) AskForPass(ctx context.Context, by By) error {
	return a.change(ctx, by, VerbApplyLifecycle, anything, func(s *step) error { return s.audit(nil, nil) })
}

// LifecycleHolder names the gateway that looks after the tokens; empty: none does
// at this moment.
func (a *Authority) LifecycleHolder(ctx context.Context, by By) (string, error) {
	var holder string
	err := a.see(ctx, by, VerbCoverage, anything, func(s *step) error {
		d, err := s.tx.Duty(tokenstore.LifecycleDuty)
		if err != nil {
			return err
		}
		now, err := s.tx.Time()
		if err == nil && now.Before(d.Until) {
			holder = d.Holder
		}
		return err
	})
	return holder, err
}
