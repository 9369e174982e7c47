package api

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

type (
	byID struct {
		ID string `path:"id" doc:"The ID of the record."`
	}
	tokenAnswer struct {
		ETag string `header:"ETag" doc:"The version, for If-Match."`
		Body Token
	}
	issuedAnswer struct {
		Status int
		ETag   string `header:"ETag" doc:"The version of the token, for If-Match."`
		Body   Issued
	}
	createToken struct {
		Key  string `header:"Idempotency-Key" maxLength:"255" pattern:"^[!-~]+$" doc:"Makes the request safe to repeat for 24 hours: any text of visible ASCII characters that is new for each token."`
		Body NewToken
	}
	listTokens struct {
		Account       string   `query:"account_id" pattern:"^[a-z0-9_]{1,64}$" doc:"Only tokens of this account."`
		User          string   `query:"user_id" pattern:"^[a-z0-9_]{1,64}$" doc:"Only tokens of this user."`
		State         []string `query:"state,explode" maxItems:"10" nullable:"false" doc:"Only tokens in these states: active, disabled, expired, revoked, deleted. Repeat it, or separate them by commas. Absent: all but deleted."`
		Scope         string   `query:"scope" maxLength:"128" doc:"Only custom tokens that list this scope."`
		Search        string   `query:"search" maxLength:"200" doc:"A token's ID, the last 4 characters of a valid secret, or the beginning of a name; at most 200 bytes."`
		ExpiresBefore string   `query:"expires_before" format:"date-time" doc:"Only tokens that expire before this time (RFC 3339)."`
		UsedBefore    string   `query:"last_used_before" format:"date-time" doc:"Only tokens that were made before this time (RFC 3339) and, as far as is known, not used since: their last_used_at is before it or null."`
		Cursor        string   `query:"cursor" pattern:"^[!-~]{1,512}$" doc:"The next_cursor of the page before."`
		Limit         int      `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many records a page has."`
	}
	editToken struct {
		ID      string `path:"id" doc:"The ID of the record."`
		IfMatch string `header:"If-Match" doc:"The ETag of the record as it was read. Required."`
		Body    TokenEdit
	}
	rotateToken struct {
		ID   string `path:"id" doc:"The ID of the record."`
		Key  string `header:"Idempotency-Key" maxLength:"255" pattern:"^[!-~]+$" doc:"Makes the request safe to repeat for 24 hours: any text of visible ASCII characters that is new for each rotation."`
		Body *Rotation
	}
	changeToken struct {
		ID   string `path:"id" doc:"The ID of the record."`
		Body *Confirmation
	}
	deleteToken struct {
		ID      string `path:"id" doc:"The ID of the record."`
		Confirm bool   `query:"confirm" doc:"Confirms the deletion where the policy asks for it."`
	}
	verifyToken struct{ Body Question }
)

var tokenStates = []token.State{token.Active, token.Disabled, token.Expired, token.Revoked, token.Deleted}

func (h *handler) tokenRoutes() {
	a := h.o.Authority
	register(h, route{
		method: http.MethodPost, path: "/tokens", id: "createToken", tag: "tokens", status: http.StatusCreated,
		summary: "Create a token",
		about:   "Issues a token with its first secret, which is shown in this response and never again.\n\nWith an Idempotency-Key, a repeated request answers 200 with `replayed` and a new secret in place of the one issued before, as long as nobody has used that one.",
		codes:   []string{codeRetryInProgress, codeAlreadyConfirmed, codeTokenLimitReached, codeAmbiguousLast4, codeConfirmationRequired, codeIPAllowlistRequired, codeInvalidState},
		also:    map[int]string{http.StatusOK: "Issued"},
	}, func(ctx context.Context, by authority.By, in *createToken) (*issuedAnswer, error) {
		var err error
		if by.Retry, err = retryOf(in.Key, in.Body); err != nil {
			return nil, err
		}
		n := authority.NewToken{
			Name:        in.Body.Name,
			AccountID:   in.Body.AccountID,
			UserID:      in.Body.UserID,
			Access:      in.Body.Access,
			Scopes:      in.Body.Scopes,
			AllowList:   in.Body.IPAllowlist,
			AllowAny:    in.Body.AllowAnyAddress,
			Environment: in.Body.Environment,
			FreshOnly:   in.Body.FreshOnly,
			Confirm:     in.Body.Confirm,
			RevokeLast4: in.Body.RevokeLast4,
		}
		if in.Body.ExpiresAt != nil {
			n.ExpiresAt = in.Body.ExpiresAt.UTC()
		}
		issued, err := a.CreateToken(ctx, by, n)
		return issuedOrError(issued, http.StatusCreated, err)
	})
	register(h, route{
		method: http.MethodGet, path: "/tokens", id: "listTokens", tag: "tokens",
		summary: "List tokens",
	}, func(ctx context.Context, by authority.By, in *listTokens) (*pageAnswer[Token], error) {
		q, p := in.query()
		if p != nil {
			return nil, p
		}
		views, next, err := a.Tokens(ctx, by, q)
		return pageOrError(views, tokenOf, next, err)
	})
	register(h, route{
		method: http.MethodGet, path: "/tokens/{id}", id: "showToken", tag: "tokens",
		summary: "Show a token",
	}, func(ctx context.Context, by authority.By, in *byID) (*tokenAnswer, error) {
		id, p := recordID(in.ID)
		if p != nil {
			return nil, p
		}
		return tokenOrError(a.Token(ctx, by, id))
	})
	register(h, route{
		method: http.MethodPatch, path: "/tokens/{id}", id: "editToken", tag: "tokens",
		summary: "Edit a token",
		about:   "Changes the fields that are there. The policy says which can be changed.",
		codes:   []string{codeIfMatchRequired, codeVersionMismatch, codeTokenLimitReached, codeConfirmationRequired, codeIPAllowlistRequired, codeInvalidState},
	}, func(ctx context.Context, by authority.By, in *editToken) (*tokenAnswer, error) {
		id, version, p := recordVersion(in.ID, in.IfMatch)
		if p != nil {
			return nil, p
		}
		e := authority.Edit{
			Name:      in.Body.Name,
			Access:    in.Body.Access,
			Scopes:    in.Body.Scopes,
			AllowList: in.Body.IPAllowlist,
			AllowAny:  in.Body.AllowAnyAddress,
			FreshOnly: in.Body.FreshOnly,
			Confirm:   in.Body.Confirm,
		}
		if in.Body.ExpiresAt.Changed {
			e.ExpiresAt = &time.Time{}
			if at := in.Body.ExpiresAt.At; at != nil {
				*e.ExpiresAt = at.UTC()
			}
		}
		return tokenOrError(a.EditToken(ctx, by, id, version, e))
	})
	register(h, route{
		method: http.MethodDelete, path: "/tokens/{id}", id: "deleteToken", tag: "tokens",
		summary: "Delete a token",
		about:   "Ends the token for good and takes it out of lists. Its ID is not used again.",
		codes:   []string{codeConfirmationRequired},
	}, func(ctx context.Context, by authority.By, in *deleteToken) (*tokenAnswer, error) {
		id, p := recordID(in.ID)
		if p != nil {
			return nil, p
		}
		return tokenOrError(a.DeleteToken(ctx, by, id, in.Confirm))
	})
	register(h, route{
		method: http.MethodPost, path: "/tokens/{id}/rotate", id: "rotateToken", tag: "tokens",
		summary: "Rotate a token's secret",
		about:   "Issues a new secret under the same token, which is shown in this response and never again. What the token may do stays as it is.\n\nWith an Idempotency-Key, a repeated request answers with `replayed` and a new secret in place of the one issued before, as long as nobody has used that one; the previous secret is not touched again.",
		codes:   []string{codeRetryInProgress, codeAlreadyConfirmed, codeRotationInProgress, codeTokenLimitReached, codeAmbiguousLast4, codeConfirmationRequired, codeIPAllowlistRequired, codeInvalidState},
	}, func(ctx context.Context, by authority.By, in *rotateToken) (*issuedAnswer, error) {
		id, p := recordID(in.ID)
		if p != nil {
			return nil, p
		}
		body := valueOf(in.Body)
		var err error
		if by.Retry, err = retryOf(in.Key, body); err != nil {
			return nil, err
		}
		r := authority.Rotation{Mode: body.Mode, Confirm: body.Confirm, RevokeLast4: body.RevokeLast4}
		if body.GracePeriodSeconds != nil {
			grace := time.Duration(*body.GracePeriodSeconds) * time.Second
			r.Grace = &grace
		}
		issued, err := a.RotateToken(ctx, by, id, r)
		return issuedOrError(issued, http.StatusOK, err)
	})
	type change func(context.Context, authority.By, token.ID, bool) (authority.View, error)
	for _, v := range []struct {
		name, id, summary, about string
		do                       change
	}{
		{"enable", "enableToken", "Enable a token", "Lets a disabled token work again.", a.EnableToken},
		{"disable", "disableToken", "Disable a token", "Stops both secrets of a token until it is enabled again.", a.DisableToken},
		{"revoke", "revokeToken", "Revoke a token", "Ends the token for good; it stays listed.", a.RevokeToken},
	} {
		register(h, route{
			method: http.MethodPost, path: "/tokens/{id}/" + v.name, id: v.id, tag: "tokens",
			summary: v.summary,
			about:   v.about + " Repeating it changes nothing and is no error.",
			codes:   []string{codeConfirmationRequired, codeInvalidState},
		}, func(ctx context.Context, by authority.By, in *changeToken) (*tokenAnswer, error) {
			id, p := recordID(in.ID)
			if p != nil {
				return nil, p
			}
			return tokenOrError(v.do(ctx, by, id, valueOf(in.Body).Confirm))
		})
	}
	register(h, route{
		method: http.MethodPost, path: "/tokens/verify", id: "verifyToken", tag: "tokens",
		summary: "Ask what the gate would say",
		about:   "Judges a secret as a gate would judge a request, without counting as use. What a gate requires for a path is configured at that gate, which this API does not know: the answer is judged by `scope`, or by the method alone.",
	}, func(ctx context.Context, by authority.By, in *verifyToken) (*struct{ Body Verification }, error) {
		q, err := in.question(ctx, by, a)
		if err != nil {
			return nil, err
		}
		v, err := a.Verify(ctx, by, q)
		if err != nil {
			return nil, err
		}
		answer := Verification{Valid: v.Valid, Code: v.Code, RequiredScope: q.Scope.Name}
		if v.Token != nil {
			t := tokenOf(v.Token)
			answer.Token = &t
		}
		return &struct{ Body Verification }{answer}, nil
	})
}

func tokenOrError(v authority.View, err error) (*tokenAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &tokenAnswer{ETag: etag(v.Token.Version), Body: tokenOf(&v)}, nil
}

// issuedOrError reveals a secret: the one place of this package that does.
func issuedOrError(i authority.Issued, status int, err error) (*issuedAnswer, error) {
	if err != nil {
		return nil, err
	}
	if i.Replayed {
		status = http.StatusOK
	}
	return &issuedAnswer{
		Status: status,
		ETag:   etag(i.Token.Token.Version),
		Body:   Issued{Token: tokenOf(&i.Token), Secret: Secret(i.Secret.Reveal()), Replayed: i.Replayed},
	}, nil
}

func (in *listTokens) query() (tokenstore.TokenQuery, *Problem) {
	q := tokenstore.TokenQuery{
		AccountID: token.ID(in.Account),
		UserID:    token.ID(in.User),
		Scope:     in.Scope,
		Search:    in.Search,
		Cursor:    in.Cursor,
		Limit:     in.Limit,
	}
	if len(in.Search) > maxSearch {
		return q, fieldProblem(FieldProblem{Parameter: "search", Detail: "must have at most 200 bytes"})
	}
	for _, list := range in.State {
		for name := range strings.SplitSeq(list, ",") {
			var s token.State
			if s.UnmarshalText([]byte(name)) != nil {
				return q, fieldProblem(FieldProblem{Parameter: "state", Detail: "must be among active, disabled, expired, revoked, deleted"})
			}
			q.States = append(q.States, s)
		}
	}
	if len(q.States) > len(tokenStates) {
		return q, fieldProblem(FieldProblem{Parameter: "state", Detail: "must name each state once"})
	}
	var p *Problem
	if q.ExpiresBefore, p = timeParameter("expires_before", in.ExpiresBefore); p != nil {
		return q, p
	}
	q.LastUsedBefore, p = timeParameter("last_used_before", in.UsedBefore)
	return q, p
}

func (in *verifyToken) question(ctx context.Context, by authority.By, a *authority.Authority) (authority.Question, error) {
	q := authority.Question{Secret: in.Body.Secret.Reveal(), Method: in.Body.Method, Path: in.Body.Path}
	if q.Method == "" {
		q.Method = http.MethodGet
	}
	q.Scope = token.MethodScope(q.Method)
	if in.Body.IP != "" {
		addr, err := netip.ParseAddr(in.Body.IP)
		if err != nil {
			return q, fieldProblem(FieldProblem{Pointer: "/ip", Detail: "must be one IPv4 or IPv6 address"})
		}
		q.Address = addr
	}
	if in.Body.Scope != "" {
		declared, err := a.Scopes(ctx, by)
		if err != nil {
			return q, err
		}
		scope, ok := scopeNamed(in.Body.Scope, declared)
		if !ok {
			return q, fieldProblem(FieldProblem{Pointer: "/scope", Detail: "is not a declared scope"})
		}
		q.Scope = scope
	}
	return q, nil
}

func scopeNamed(name string, declared []tokenstore.DeclaredScope) (token.Scope, bool) {
	for _, s := range scopesOf(declared) {
		if s.Name == name {
			return token.Scope{Name: s.Name, Nature: s.Nature}, true
		}
	}
	return token.Scope{}, false
}
