package api

import (
	"time"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/lifecycle"
	"github.com/sallyport/sallyport/token"
)

// Usage is what is known of a token's use.
type Usage struct {
	TokenID     token.ID   `json:"token_id" doc:"The token."`
	LastUsedAt  *time.Time `json:"last_used_at" doc:"The latest moment of which it is known that the token was used (RFC 3339, UTC); null: never. Of each scope and secret the first use of a day is written down, so that it may have been used later that day."`
	Scopes      []ScopeUse `json:"scopes" nullable:"false" doc:"What it was used for, by scope and secret. This is kept for as long as the token is."`
	From        time.Time  `json:"from" doc:"The first day of days (RFC 3339, UTC)."`
	To          time.Time  `json:"to" doc:"Days that begin before this time are shown (RFC 3339, UTC)."`
	Days        []DayUse   `json:"days" nullable:"false" doc:"How many requests there were, by day. Approximate: what a killed gateway had not handed over is missing here, though never in scopes."`
	Truncated   bool       `json:"truncated" doc:"True when there was more than one answer holds: it reaches to to. Ask for the rest with that as from."`
	CountsSince *time.Time `json:"counts_since" doc:"From when such numbers are kept (RFC 3339, UTC); null: none are yet."`
}

// ScopeUse is the use of one scope with one secret.
type ScopeUse struct {
	Scope        string       `json:"scope" doc:"The scope; empty for requests that used none: those that were refused for their scope." example:"payments:read"`
	Nature       token.Nature `json:"nature,omitempty" doc:"What it was when it was used: read or write."`
	SecretID     token.ID     `json:"secret_id" doc:"The secret."`
	FirstUsedAt  time.Time    `json:"first_used_at" doc:"When it was first used (RFC 3339, UTC)."`
	LastUsedAt   time.Time    `json:"last_used_at" doc:"The first use on the last day of use (RFC 3339, UTC)."`
	CountsAsUsed time.Time    `json:"counts_as_used_until" doc:"The end of that day, from which windows count (RFC 3339, UTC)."`
}

// DayUse is how many requests of one kind there were on a day.
type DayUse struct {
	Day      string   `json:"day" doc:"The day, in UTC." example:"2026-11-22"`
	Scope    string   `json:"scope" doc:"The scope; empty: none was looked at."`
	Outcome  string   `json:"outcome" doc:"allowed, or the code of the refusal." example:"allowed"`
	Address  string   `json:"address" doc:"Where they came from: an address, of IPv6 the /64, or other." example:"192.0.2.7"`
	SecretID token.ID `json:"secret_id" doc:"The secret."`
	Requests int64    `json:"requests" doc:"How many there were."`
}

func usageOf(u *authority.Usage) Usage {
	w := Usage{
		TokenID: u.View.Token.ID, LastUsedAt: timeOrNull(u.View.Life.LastUsed), Scopes: []ScopeUse{},
		From: u.From.UTC(), To: u.To.UTC(), Days: []DayUse{}, Truncated: u.More, CountsSince: timeOrNull(u.CountsSince),
	}
	for _, s := range u.Uses {
		w.Scopes = append(w.Scopes, ScopeUse{
			Scope: s.Scope.Name, Nature: s.Scope.Nature, SecretID: s.SecretID,
			FirstUsedAt: s.First.UTC(), LastUsedAt: s.Last.UTC(), CountsAsUsed: s.Until.UTC(),
		})
	}
	for _, c := range u.Days {
		w.Days = append(w.Days, DayUse{
			Day: c.Bucket.UTC().Format(time.DateOnly), Scope: c.Scope, Outcome: c.Outcome, Address: c.Address, SecretID: c.SecretID, Requests: c.N,
		})
	}
	return w
}

// Recommendation is the narrowest that a token could be, going by what is known of
// its use.
type Recommendation struct {
	TokenID         token.ID   `json:"token_id" doc:"The token."`
	ObservedFrom    *time.Time `json:"observed_from" doc:"When observation of it began (RFC 3339, UTC); null: it was not observed."`
	ObservedThrough *time.Time `json:"observed_through" doc:"Up to when all its use is known (RFC 3339, UTC)."`
	UsedScopes      []string   `json:"used_scopes" nullable:"false" doc:"The scopes that it used."`
	ReadOnly        bool       `json:"read_only" doc:"Whether read_only would be enough for what it used."`
	Access          string     `json:"access,omitempty" doc:"The narrowest access that is enough; absent when it used nothing that it still may do." example:"custom"`
	Scopes          []string   `json:"scopes" nullable:"false" doc:"The scopes that are enough, with access custom."`
	Addresses       []string   `json:"addresses" nullable:"false" doc:"The narrowest entries of an allow-list that hold everything that requests came from and were let through; of IPv6 the /64."`
	AddressesSince  *time.Time `json:"addresses_since" doc:"From when addresses are kept (RFC 3339, UTC); null: none are yet."`
	AddressesPart   bool       `json:"addresses_partial" doc:"True when there were more than are kept apart, or than an allow-list holds: one of these would shut some callers out."`
}

func recommendationOf(r *lifecycle.Recommendation) Recommendation {
	w := Recommendation{
		TokenID: r.Token.ID, ObservedFrom: timeOrNull(r.Since), ObservedThrough: timeOrNull(r.Through), UsedScopes: []string{},
		ReadOnly: r.ReadOnly, Scopes: listOf(r.Narrowest.Scopes), Addresses: listOf(r.Addresses),
		AddressesSince: timeOrNull(r.AddressesSince), AddressesPart: r.Partial,
	}
	for _, s := range r.Scopes {
		w.UsedScopes = append(w.UsedScopes, s.Scope.Name)
	}
	if r.Narrowest.Access != 0 {
		w.Access = r.Narrowest.Access.String()
	}
	return w
}
