package caddymodule

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// PrincipalVar is the variable under which a gate leaves the *Principal of a
// request: caddyhttp.GetVar(r.Context(), PrincipalVar).
const PrincipalVar = "sallyport.principal"

// maxIdentityBytes is the most that one identity header may have. Longer lists
// are left out, with their length in a header of its own, since a cut list would
// read like a whole one.
const maxIdentityBytes = 4 << 10

// Principal is who a gate let a request through for. Only a gate makes one, so
// that other handlers can rely on it; placeholders can be set by anybody.
type Principal struct {
	record *tokenstore.Record
	digest token.Digest
	// access and scopes are those that the token has under its user's role.
	access token.Access
	scopes string
	count  int // of scopes
}

// TokenID is the token's.
func (p *Principal) TokenID() token.ID { return p.record.Token.ID }

// AccountID is that of the account that the token belongs to.
func (p *Principal) AccountID() token.ID { return p.record.Token.AccountID }

// UserID is that of the user that the token belongs to; empty when it belongs to
// the account itself.
func (p *Principal) UserID() token.ID { return p.record.Token.UserID }

// Role is the user's; empty without a user.
func (p *Principal) Role() string {
	if p.record.Role == nil {
		return ""
	}
	return p.record.Role.Name
}

// Access is how much the token may do, as far as the user's role allows.
func (p *Principal) Access() token.Access { return p.access }

// Scopes are what the token may do, as far as the user's role allows.
func (p *Principal) Scopes() []string { return strings.Fields(p.scopes) }

// Environment is the token's.
func (p *Principal) Environment() token.Environment { return p.record.Token.Environment }

// String gives the token's ID.
func (p *Principal) String() string { return string(p.TokenID()) }

// businessUnits are the user's, separated by commas.
func (p *Principal) businessUnits() (text string, count int) {
	user := p.record.User
	if user == nil || len(user.BusinessUnits) == 0 {
		return "", 0
	}
	if len(user.BusinessUnits) == 1 {
		return headerText(user.BusinessUnits[0]), 1
	}
	var b strings.Builder
	for i, unit := range user.BusinessUnits {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(headerText(unit))
	}
	return b.String(), len(user.BusinessUnits)
}

// headerText writes a name so that it can stand in a comma-separated header.
// Names that are made today can, as they are; of others, whatever would break
// the header or the list is percent-encoded.
func headerText(s string) string {
	plain := func(c byte) bool { return c > ' ' && c < 0x7f && c != ',' }
	i := 0
	for i < len(s) && plain(s[i]) {
		i++
	}
	if i == len(s) {
		return s
	}
	b := append(make([]byte, 0, len(s)+16), s[:i]...)
	for ; i < len(s); i++ {
		if c := s[i]; plain(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return string(b)
}

// identityHeaders is the room for the values that identify sets: one piece of
// memory for all of them. They are not shared between requests, because later
// handlers may change header values where they stand.
type identityHeaders [8]string

// identify tells the upstream who the request is from. What clients sent under
// these names has been removed.
func (p *Principal) identify(h http.Header, room *identityHeaders) {
	n := 0
	set := func(key, value string) {
		room[n] = value
		h[key] = room[n : n+1 : n+1]
		n++
	}
	set("Sallyport-Token-Id", string(p.TokenID()))
	set("Sallyport-Account-Id", string(p.AccountID()))
	set("Sallyport-Access", p.access.String())
	set("Sallyport-Environment", p.Environment().String())
	if len(p.scopes) <= maxIdentityBytes {
		set("Sallyport-Scopes", p.scopes)
	} else {
		set("Sallyport-Scopes-Count", strconv.Itoa(p.count))
	}
	if p.record.User == nil {
		return
	}
	set("Sallyport-User-Id", string(p.UserID()))
	set("Sallyport-Role", headerText(p.Role()))
	if units, count := p.businessUnits(); len(units) > maxIdentityBytes {
		set("Sallyport-Business-Units-Count", strconv.Itoa(count))
	} else if count > 0 {
		set("Sallyport-Business-Units", units)
	}
}

const placeholderPrefix = "http.auth.user."

// placeholder answers Caddy's replacer. The values are made when they are asked
// for, which most requests never do.
func (p *Principal) placeholder(key string) (any, bool) {
	name, ok := strings.CutPrefix(key, placeholderPrefix)
	if !ok {
		return nil, false
	}
	switch name {
	case "id", "token_id":
		return string(p.TokenID()), true
	case "account_id":
		return string(p.AccountID()), true
	case "user_id":
		return string(p.UserID()), true
	case "role":
		return p.Role(), true
	case "business_units":
		units, _ := p.businessUnits()
		return units, true
	case "access":
		return p.access.String(), true
	case "scopes":
		return p.scopes, true
	case "environment":
		return p.Environment().String(), true
	default:
		return nil, false
	}
}

// scopeLists are the scopes that an access level stands for, as text.
type scopeLists struct {
	known            func(string) (token.Scope, bool)
	read, all        string
	readCount, count int
}

// newScopeLists takes the declared scopes in the order in which they are to be listed.
func newScopeLists(declared []token.Scope, known func(string) (token.Scope, bool)) *scopeLists {
	l := &scopeLists{known: known}
	for _, scope := range append([]token.Scope{token.ReadScope, token.WriteScope}, declared...) {
		l.all = joinScope(l.all, scope.Name)
		l.count++
		if scope.Nature == token.Read {
			l.read = joinScope(l.read, scope.Name)
			l.readCount++
		}
	}
	return l
}

func joinScope(list, name string) string {
	if list == "" {
		return name
	}
	return list + " " + name
}

// effective gives what is left of a token's grant under a role, which may be
// nil: the access level, the scopes separated by spaces, and how many they are.
func (l *scopeLists) effective(grant, ceiling *token.Grant) (access token.Access, scopes string, count int) {
	if ceiling == nil {
		ceiling = &token.Grant{Access: token.ReadWrite}
	}
	switch {
	case grant.Access == token.Custom && ceiling.Access == token.ReadWrite:
		return token.Custom, strings.Join(grant.Scopes, " "), len(grant.Scopes)
	case grant.Access == token.Custom:
		return l.filter(grant.Scopes, ceiling)
	case ceiling.Access == token.Custom:
		return l.filter(ceiling.Scopes, grant)
	case grant.Access == token.ReadWrite && ceiling.Access == token.ReadWrite:
		return token.ReadWrite, l.all, l.count
	default:
		return token.ReadOnly, l.read, l.readCount
	}
}

func (l *scopeLists) filter(names []string, other *token.Grant) (token.Access, string, int) {
	var b strings.Builder
	count := 0
	for _, name := range names {
		scope, ok := l.known(name)
		if !ok {
			// No longer declared: only what holds this very name holds it, or
			// what holds everything.
			scope = token.Scope{Name: name, Nature: token.Write}
		}
		if !other.Holds(scope) {
			continue
		}
		if count > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(name)
		count++
	}
	return token.Custom, b.String(), count
}

// undecided stands for no reason at all: nothing is known about the caller.
const undecided token.Reason = 255

// decide is token.Decide for a record as the store knows it. No refusal:
// allowed.
func decide(record *tokenstore.Record, f *requestFacts, now time.Time) (*refusal, token.Reason) {
	facts := token.Facts{
		Secret:      &record.Secret,
		Account:     record.Account,
		User:        record.User,
		Role:        record.Role,
		Policy:      record.Policy,
		Address:     f.address,
		Required:    f.required,
		Units:       f.units,
		Environment: f.environment,
	}
	reason, err := token.Decide(&record.Token, &facts, now)
	if err != nil {
		return refuse(problemStoreUnavailable), undecided
	}
	if reason != token.Allowed {
		refused := refuseReason(reason, f.required)
		if refused.scope != "" { // it is this request's own, and not one that all share
			afterDowngrade(refused, record, f.required)
		}
		return refused, reason
	}
	return nil, token.Allowed
}

// parseAddress reads an address as Caddy gives it. The zero Addr stands for one
// that is not known, which no allow-list holds.
func parseAddress(text string) netip.Addr {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	// A mapped or zoned address would match no range at all (A7, A9).
	return addr.Unmap().WithZone("")
}
