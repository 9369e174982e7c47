package api

import (
	"context"
	"net/http"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
)

type (
	rotationChange struct {
		ID   string `path:"id" doc:"The ID of the record."`
		Body *RotationChange
	}
	rotationExtension struct {
		ID   string `path:"id" doc:"The ID of the record."`
		Body RotationExtension
	}
)

// rotationRoutes are about a rotation under way.
func (h *handler) rotationRoutes() {
	a := h.o.Authority
	register(h, route{
		method: http.MethodGet, path: "/tokens/{id}/rotation", id: "showRotation", tag: "tokens",
		summary: "See how a rotation stands",
		about:   "Shows both secrets, when the previous one ends or what ends it, whether the new one was used yet, and who still uses the previous one.",
	}, func(ctx context.Context, by authority.By, in *byID) (*struct{ Body RotationState }, error) {
		id, p := recordID(in.ID)
		if p != nil {
			return nil, p
		}
		status, err := a.TokenRotation(ctx, by, id)
		if err != nil {
			return nil, err
		}
		return &struct{ Body RotationState }{rotationOf(&status)}, nil
	})
	type change func(context.Context, authority.By, token.ID, authority.RotationChange) (authority.View, error)
	for _, v := range []struct {
		name, id, summary, about string
		do                       change
	}{
		{"confirm", "confirmRotation", "Confirm a rotation", "Ends the previous secret now: everything has been switched over.", a.ConfirmRotation},
		{"rollback", "rollBackRotation", "Roll a rotation back", "Ends the new secret now. The previous one is the token's only secret again, without an end of its own.", a.RollBackRotation},
	} {
		register(h, route{
			method: http.MethodPost, path: "/tokens/{id}/rotation/" + v.name, id: v.id, tag: "tokens",
			summary: v.summary,
			about:   v.about + " Without a rotation under way it is refused, unless previous_secret_id names the secret with which it was done before.",
			codes:   []string{codeNoRotation, codeConfirmationRequired, codeInvalidState},
		}, func(ctx context.Context, by authority.By, in *rotationChange) (*tokenAnswer, error) {
			id, p := recordID(in.ID)
			if p != nil {
				return nil, p
			}
			body := valueOf(in.Body)
			return tokenOrError(v.do(ctx, by, id, authority.RotationChange{Previous: body.PreviousSecretID, Confirm: body.Confirm}))
		})
	}
	register(h, route{
		method: http.MethodPost, path: "/tokens/{id}/rotation/extend", id: "extendRotation", tag: "tokens",
		summary: "Move the end of the previous secret",
		about:   "Sets when the previous secret ends. A rotation that waited for a confirmation, or for a first use, is timed from then on. Asking for the same end again changes nothing and is no error.",
		codes:   []string{codeNoRotation, codeConfirmationRequired, codeInvalidState},
	}, func(ctx context.Context, by authority.By, in *rotationExtension) (*tokenAnswer, error) {
		id, p := recordID(in.ID)
		if p != nil {
			return nil, p
		}
		c := authority.RotationChange{Previous: in.Body.PreviousSecretID, Confirm: in.Body.Confirm}
		return tokenOrError(a.ExtendRotation(ctx, by, id, in.Body.PreviousSecretExpiresAt.UTC(), c))
	})
}
