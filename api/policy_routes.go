package api

import (
	"context"
	"net/http"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/lifecycle"
	"github.com/sallyport/sallyport/token"
)

type (
	policyAnswer struct {
		ETag string `header:"ETag" doc:"The version, for If-Match."`
		Body Policy
	}
	policyByName struct {
		Name string `path:"name" maxLength:"128" doc:"The name of the policy."`
	}
	createPolicy struct{ Body NewPolicy }
	editPolicy   struct {
		Name    string `path:"name" maxLength:"128" doc:"The name of the policy."`
		IfMatch string `header:"If-Match" doc:"The ETag of the record as it was read. Required."`
		Body    PolicyEdit
	}
	previewPolicy struct {
		Name string `path:"name" maxLength:"128" doc:"The name of the policy."`
		Body PolicyQuestion
	}
)

func (h *handler) policyRoutes() {
	a := h.o.Authority
	register(h, route{
		method: http.MethodGet, path: "/policies", id: "listPolicies", tag: "rules",
		summary: "List policies",
	}, func(ctx context.Context, by authority.By, _ *nothingAsked) (*pageAnswer[Policy], error) {
		list, err := a.Policies(ctx, by)
		return pageOrError(list, policyOf, "", err)
	})
	register(h, route{
		method: http.MethodPost, path: "/policies", id: "createPolicy", tag: "rules", status: http.StatusCreated,
		summary: "Create a policy",
		about:   "The rules of a preset, with what is changed of them.",
	}, func(ctx context.Context, by authority.By, in *createPolicy) (*policyAnswer, error) {
		return policyOrError(a.CreatePolicy(ctx, by, in.Body.Name, in.Body.edit(false)))
	})
	register(h, route{
		method: http.MethodGet, path: "/policies/{name}", id: "showPolicy", tag: "rules",
		summary: "Show a policy",
	}, func(ctx context.Context, by authority.By, in *policyByName) (*policyAnswer, error) {
		return policyOrError(a.Policy(ctx, by, in.Name))
	})
	register(h, route{
		method: http.MethodPatch, path: "/policies/{name}", id: "editPolicy", tag: "rules",
		summary: "Edit a policy",
		about: "Changes the rules that are there. Accounts that the policy rules follow at once, so that a change of a policy that rules any needs " +
			"confirm_change; previewPolicy tells beforehand what it would do to their tokens.",
		codes: []string{codeIfMatchRequired, codeVersionMismatch, codeManagedByConfig, codeConfirmationRequired},
	}, func(ctx context.Context, by authority.By, in *editPolicy) (*policyAnswer, error) {
		version, p := parseIfMatch(in.IfMatch)
		if p != nil {
			return nil, p
		}
		return policyOrError(a.EditPolicy(ctx, by, in.Name, version, in.Body.edit(in.Body.ConfirmChange)))
	})
	register(h, route{
		method: http.MethodDelete, path: "/policies/{name}", id: "deletePolicy", tag: "rules",
		summary: "Delete a policy",
		about:   "Refused while it rules an account. Answers with the policy as it was.",
		codes:   []string{codeManagedByConfig, codeInvalidState},
	}, func(ctx context.Context, by authority.By, in *policyByName) (*policyAnswer, error) {
		return policyOrError(a.DeletePolicy(ctx, by, in.Name))
	})
	register(h, route{
		method: http.MethodPost, path: "/policies/{name}/preview", id: "previewPolicy", tag: "rules",
		summary: "See what rules would do to the tokens that there are",
		about: "What would change for the tokens of the accounts that the policy rules, if it had these rules; or for those of one account, if the policy, with these rules, " +
			"ruled it. It changes nothing.",
		codes: []string{codeLifecycleUnavailable},
	}, func(ctx context.Context, by authority.By, in *previewPolicy) (*struct{ Body PolicyPreview }, error) {
		if err := a.MayPlanLifecycle(ctx, by, in.Body.AccountID); err != nil {
			return nil, err
		}
		rules, err := a.PolicyAfter(ctx, by, in.Name, in.Body.edit(false))
		if err != nil {
			return nil, err
		}
		if p := h.unattended(); p != nil {
			return nil, p
		}
		q := lifecycle.Question{Rules: rules, Policy: in.Name, AccountID: in.Body.AccountID, Limit: in.Body.Limit, Cursor: in.Body.Cursor}
		if q.AccountID != "" {
			if _, err := a.Account(ctx, by, q.AccountID); err != nil {
				return nil, err
			}
			q.Policy = ""
		}
		if q.Cursor != "" {
			if _, p := recordID(q.Cursor); p != nil {
				return nil, fieldProblem(FieldProblem{Pointer: "/cursor", Detail: "is not one of this list's: leave it out to begin at the start"})
			}
		}
		found, err := h.o.Lifecycle.Preview(ctx, q)
		if err != nil {
			return nil, err
		}
		return &struct{ Body PolicyPreview }{previewOf(&found)}, nil
	})
}

func (w *PolicyRules) edit(confirm bool) authority.EditPolicy {
	return authority.EditPolicy{Preset: w.Preset, Change: w.change(), Confirm: confirm}
}

func policyOrError(p token.Policy, err error) (*policyAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &policyAnswer{ETag: etag(p.Version), Body: policyOf(&p)}, nil
}
