package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/tokenstore"
)

type (
	restoreToken struct {
		ID   string `path:"id" doc:"The ID of the record."`
		Body *Restoring
	}
	exemptToken struct {
		ID   string `path:"id" doc:"The ID of the record."`
		Body Exemption
	}
	endExemption struct {
		ID      string `path:"id" doc:"The ID of the record."`
		Confirm bool   `query:"confirm" doc:"Confirms the change where the policy asks for it."`
	}
	tokenUsage struct {
		ID   string `path:"id" doc:"The ID of the record."`
		From string `query:"from" format:"date-time" doc:"Days from this time's day on (RFC 3339). Absent: 30 days before to."`
		To   string `query:"to" format:"date-time" doc:"Days that begin before this time (RFC 3339). Absent: now."`
	}
)

// tokenLifeRoutes are about what a token was used for and what follows from it.
func (h *handler) tokenLifeRoutes() {
	a := h.o.Authority
	register(h, route{
		method: http.MethodPost, path: "/tokens/{id}/restore", id: "restoreToken", tag: "tokens",
		summary: "Restore a deleted token",
		about:   "Brings back a token that was deleted for being unused or expired, with all that it had and its secrets, as long as the policy's restore_window lasts. What a person deleted or revoked stays so.",
		codes:   []string{codeTokenLimitReached, codeConfirmationRequired, codeIPAllowlistRequired, codeInvalidState},
	}, func(ctx context.Context, by authority.By, in *restoreToken) (*tokenAnswer, error) {
		id, p := recordID(in.ID)
		if p != nil {
			return nil, p
		}
		r := valueOf(in.Body)
		var expires time.Time
		if r.ExpiresAt != nil {
			expires = r.ExpiresAt.UTC()
		}
		return tokenOrError(a.RestoreToken(ctx, by, id, expires, r.Confirm))
	})
	register(h, route{
		method: http.MethodPost, path: "/tokens/{id}/undo-downgrade", id: "undoDowngrade", tag: "tokens",
		summary: "Undo a downgrade",
		about:   "Gives a token back the permissions that were taken for being unused, until its undo_until and where the policy lets it.",
		codes:   []string{codeConfirmationRequired, codeIPAllowlistRequired, codeInvalidState},
	}, func(ctx context.Context, by authority.By, in *changeToken) (*tokenAnswer, error) {
		id, p := recordID(in.ID)
		if p != nil {
			return nil, p
		}
		return tokenOrError(a.UndoDowngrade(ctx, by, id, valueOf(in.Body).Confirm))
	})
	register(h, route{
		method: http.MethodPut, path: "/tokens/{id}/exemption", id: "exemptToken", tag: "tokens",
		summary: "Exempt a token",
		about:   "Keeps a token from being narrowed or deleted for being unused, until a time. It replaces the exemption before it.",
		codes:   []string{codeConfirmationRequired, codeInvalidState},
	}, func(ctx context.Context, by authority.By, in *exemptToken) (*tokenAnswer, error) {
		id, p := recordID(in.ID)
		if p != nil {
			return nil, p
		}
		return tokenOrError(a.ExemptToken(ctx, by, id, in.Body.Reason, in.Body.Until.UTC(), in.Body.Confirm))
	})
	register(h, route{
		method: http.MethodDelete, path: "/tokens/{id}/exemption", id: "endExemption", tag: "tokens",
		summary: "End an exemption",
		about:   "The token is looked after again like any other. Ending one that there is not changes nothing and is no error.",
		codes:   []string{codeConfirmationRequired, codeInvalidState},
	}, func(ctx context.Context, by authority.By, in *endExemption) (*tokenAnswer, error) {
		id, p := recordID(in.ID)
		if p != nil {
			return nil, p
		}
		return tokenOrError(a.ExemptToken(ctx, by, id, "", time.Time{}, in.Confirm))
	})
	register(h, route{
		method: http.MethodGet, path: "/tokens/{id}/usage", id: "tokenUsage", tag: "tokens",
		summary: "See what a token was used for",
	}, func(ctx context.Context, by authority.By, in *tokenUsage) (*struct{ Body Usage }, error) {
		id, p := recordID(in.ID)
		if p != nil {
			return nil, p
		}
		from, p := timeParameter("from", in.From)
		if p != nil {
			return nil, p
		}
		to, p := timeParameter("to", in.To)
		if p != nil {
			return nil, p
		}
		found, err := a.TokenUsage(ctx, by, id, from, to)
		if err != nil {
			return nil, err
		}
		return &struct{ Body Usage }{usageOf(&found)}, nil
	})
	register(h, route{
		method: http.MethodGet, path: "/tokens/{id}/recommendation", id: "recommendToken", tag: "tokens",
		summary: "See how narrow a token could be",
		about:   "The narrowest access and addresses that the record of its use supports. A record is no promise: what is used once a year is not in it before a year is over.",
		codes:   []string{codeLifecycleUnavailable},
	}, func(ctx context.Context, by authority.By, in *byID) (*struct{ Body Recommendation }, error) {
		id, p := recordID(in.ID)
		if p != nil {
			return nil, p
		}
		if err := a.MayRecommend(ctx, by, id); err != nil {
			return nil, err
		}
		if p := h.unattended(); p != nil {
			return nil, p
		}
		found, err := h.o.Lifecycle.Recommend(ctx, id)
		if errors.Is(err, tokenstore.ErrNotFound) { // it was purged since, or before
			return nil, newProblem(codeNotFound, "There is no such token, or nothing is kept of it any more.")
		}
		if err != nil {
			return nil, err
		}
		return &struct{ Body Recommendation }{recommendationOf(&found)}, nil
	})
}
