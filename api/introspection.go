package api

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
)

// IntrospectionQuestion is the form of RFC 7662.
type IntrospectionQuestion struct {
	_ struct{} `additionalProperties:"false"`

	Token Secret `json:"token" doc:"The secret that was presented."`
	Hint  string `json:"token_type_hint,omitempty" doc:"Changes nothing: there is one kind of token."`
	IP    string `json:"ip,omitempty" maxLength:"64" doc:"The address that it was presented from; absent: not known, and a token with an allow-list is not active then. Not of RFC 7662." example:"192.0.2.7"`
}

// Introspection is the answer of RFC 7662. Of what is not active it tells nothing but
// that.
type Introspection struct {
	Active      bool               `json:"active" doc:"Whether a gate would accept it, from that address; what it may do says scope."`
	Scope       string             `json:"scope,omitempty" doc:"What it may do, separated by spaces, as far as its user's role allows." example:"payments:read"`
	ClientID    token.ID           `json:"client_id,omitempty" doc:"The account." example:"acc_example"`
	Username    string             `json:"username,omitempty" doc:"The name of the token's user, if it has one."`
	Subject     token.ID           `json:"sub,omitempty" doc:"The user, or the account when the token belongs to no user." example:"usr_example"`
	TokenType   string             `json:"token_type,omitempty" enum:"Bearer" doc:"How it is presented."`
	Expires     int64              `json:"exp,omitempty" doc:"When it ends, in seconds since 1970; absent: never." example:"1893456000"`
	Issued      int64              `json:"iat,omitempty" doc:"When the secret was issued, in seconds since 1970." example:"1767225600"`
	TokenID     token.ID           `json:"token_id,omitempty" doc:"The token." example:"tok_example"`
	SecretID    token.ID           `json:"secret_id,omitempty" doc:"Which of the token's secrets it is." example:"sec_example"`
	AccountID   token.ID           `json:"account_id,omitempty" doc:"The account." example:"acc_example"`
	UserID      token.ID           `json:"user_id,omitempty" doc:"The user; absent when the token belongs to the account itself." example:"usr_example"`
	Environment *token.Environment `json:"environment,omitempty" enum:"production,sandbox" doc:"What it is for: a service that serves one environment refuses tokens of the other."`
}

type introspect struct {
	Body IntrospectionQuestion `contentType:"application/x-www-form-urlencoded"`
}

func (h *handler) introspectionRoutes() {
	register(h, route{
		method: http.MethodPost, path: "/introspect", id: "introspect", tag: "tokens",
		summary: "Ask what a secret is good for (RFC 7662)",
		about:   "Takes a form, as the RFC has it, and no JSON. Parameters that are not known are ignored. Being asked about is not use. A secret that does not work, for whatever reason, is answered `{\"active\": false}` and no more; `POST /tokens/verify` says why.",
	}, func(ctx context.Context, by authority.By, in *introspect) (*struct{ Body Introspection }, error) {
		var address netip.Addr
		if in.Body.IP != "" {
			var err error
			if address, err = netip.ParseAddr(in.Body.IP); err != nil {
				return nil, fieldProblem(FieldProblem{Pointer: "/ip", Detail: "must be one IPv4 or IPv6 address"})
			}
		}
		found, err := h.o.Authority.Introspect(ctx, by, in.Body.Token.Reveal(), address)
		if err != nil {
			return nil, err
		}
		return &struct{ Body Introspection }{introspectionOf(&found)}, nil
	})
}

func introspectionOf(i *authority.Introspection) Introspection {
	if !i.Active {
		return Introspection{}
	}
	t := &i.Token
	out := Introspection{
		Active: true, Scope: strings.Join(i.Scopes, " "), ClientID: t.AccountID, Username: i.Username, Subject: t.AccountID,
		TokenType: "Bearer", Issued: i.Secret.CreatedAt.Unix(),
		TokenID: t.ID, SecretID: i.Secret.ID, AccountID: t.AccountID, UserID: t.UserID, Environment: &t.Environment,
	}
	if t.UserID != "" {
		out.Subject = t.UserID
	}
	if !i.Expires.IsZero() {
		out.Expires = i.Expires.Unix()
	}
	return out
}

// Introspect asks what a secret is good for. ip is where it was presented from; empty:
// not known.
func (c *Client) Introspect(ctx context.Context, secret Secret, ip string) (Introspection, error) {
	form := url.Values{}
	form.Set("token", secret.Reveal())
	set(form, "ip", ip)
	return ask[Introspection](ctx, c, call{method: http.MethodPost, path: "/introspect", form: form})
}
