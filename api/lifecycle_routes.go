package api

import (
	"context"
	"net/http"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/lifecycle"
	"github.com/sallyport/sallyport/token"
)

type planLifecycle struct {
	At      string `query:"at" format:"date-time" doc:"Only what is due by this time (RFC 3339), if nothing happens until then. Absent: all that is to come."`
	Policy  string `query:"policy" maxLength:"64" doc:"Plan by this policy instead of each account's own, to see what it would do."`
	Account string `query:"account_id" pattern:"^[a-z0-9_]{1,64}$" doc:"Only tokens of this account."`
	Cursor  string `query:"cursor" pattern:"^[!-~]{1,512}$" doc:"The next_cursor of the page before."`
	Limit   int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many tokens a page has, about."`
}

// unattended refuses where there is nothing that looks after tokens.
func (h *handler) unattended() *Problem {
	if h.o.Lifecycle != nil {
		return nil
	}
	return newProblem(codeLifecycleUnavailable, "This is answered by a gateway that runs and observes; ask one.")
}

func (h *handler) lifecycleRoutes() {
	a := h.o.Authority
	unattended := []string{codeLifecycleUnavailable}
	register(h, route{
		method: http.MethodGet, path: "/lifecycle/plan", id: "planLifecycle", tag: "lifecycle",
		summary: "See what is to come",
		about:   "What would be done to each token now, what comes later if nothing else happens, and why. It is planned as it is done, and changes nothing.",
		codes:   unattended,
	}, func(ctx context.Context, by authority.By, in *planLifecycle) (*struct{ Body Forecast }, error) {
		if err := a.MayPlanLifecycle(ctx, by, token.ID(in.Account)); err != nil {
			return nil, err
		}
		if p := h.unattended(); p != nil {
			return nil, p
		}
		o, err := in.options(ctx, by, a)
		if err != nil {
			return nil, err
		}
		found, err := h.o.Lifecycle.Forecast(ctx, o)
		if err != nil {
			return nil, err
		}
		return &struct{ Body Forecast }{forecastOf(&found)}, nil
	})
	register(h, route{
		method: http.MethodPost, path: "/lifecycle/apply", id: "applyLifecycle", tag: "lifecycle",
		summary: "Do now what is due",
		about:   "Passes over all tokens at once instead of waiting for the next regular pass. When another gateway looks after the tokens nothing is done here, and the answer names it.",
		codes:   unattended,
	}, func(ctx context.Context, by authority.By, _ *struct{ Body *Nothing }) (*struct{ Body PassReport }, error) {
		if err := a.AskForPass(ctx, by); err != nil {
			return nil, err
		}
		if p := h.unattended(); p != nil {
			return nil, p
		}
		done, err := h.o.Lifecycle.Pass(ctx)
		if err != nil {
			return nil, err
		}
		holder, err := a.LifecycleHolder(ctx, by)
		if err != nil {
			return nil, err
		}
		return &struct{ Body PassReport }{reportOf(&done, holder)}, nil
	})
	register(h, route{
		method: http.MethodGet, path: "/lifecycle/coverage", id: "showCoverage", tag: "lifecycle",
		summary: "See what is known of use",
		about:   "Since when and up to when all use is known, what was not observed, and which gateway holds everything back.",
		codes:   unattended,
	}, func(ctx context.Context, by authority.By, _ *nothingAsked) (*struct{ Body Coverage }, error) {
		if err := a.MaySeeCoverage(ctx, by); err != nil {
			return nil, err
		}
		if p := h.unattended(); p != nil {
			return nil, p
		}
		found, err := h.o.Lifecycle.Coverage(ctx)
		if err != nil {
			return nil, err
		}
		return &struct{ Body Coverage }{coverageOf(&found)}, nil
	})
}

func (in *planLifecycle) options(ctx context.Context, by authority.By, a *authority.Authority) (lifecycle.Options, error) {
	o := lifecycle.Options{AccountID: token.ID(in.Account), Limit: in.Limit, Cursor: in.Cursor}
	if in.Cursor != "" {
		if _, p := recordID(in.Cursor); p != nil {
			return o, fieldProblem(FieldProblem{Parameter: "cursor", Detail: "is not one of this list's: leave it out to begin at the start"})
		}
	}
	at, p := timeParameter("at", in.At)
	if p != nil {
		return o, p
	}
	o.At = at
	if in.Policy == "" {
		return o, nil
	}
	policies, err := a.Policies(ctx, by)
	if err != nil {
		return o, err
	}
	for i := range policies {
		if policies[i].Name == in.Policy {
			o.Policy = &policies[i]
			return o, nil
		}
	}
	return o, fieldProblem(FieldProblem{Parameter: "policy", Detail: "there is no such policy"})
}
