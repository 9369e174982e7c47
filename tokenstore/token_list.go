package tokenstore

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// TokenQuery selects tokens. Zero fields select everything.
type TokenQuery struct {
	AccountID, UserID token.ID
	States            []token.State // empty: all but deleted. Expired is judged at Now
	Scope             string
	Search            string // a token ID, the last 4 characters of a valid secret, or the start of the name, in any case
	ExpiresBefore     time.Time
	// LastUsedBefore selects tokens that were not used at this time or after, as far
	// as is known (see Life.LastUsed), and that were there before it: one that was
	// made since and not used yet is not one that nobody needs any more.
	LastUsedBefore time.Time
	Now            time.Time
	Cursor         string // from the page before; ErrBadCursor when it is not ours
	Limit          int
}

// TokenPage is one page of a list. It may be short, even empty, while Next says
// that there is more: a filter that fits few of very many tokens is answered in
// steps of bounded work.
type TokenPage struct {
	Tokens []TokenRow
	Next   string // cursor of the next page; empty at the end
}

// TokenRow is a token as lists show it: with its valid secrets.
type TokenRow struct {
	Token   token.Token
	Secrets []token.SecretRecord // current first, then previous
}

// Tokens lists one page, newest first.
//
// A page costs the same at any depth and however much the store holds. There
// are several ways to reach the tokens that a query may want (by user, by
// account, by scope, by name, ...), each an index. A way is complete when it has
// no more candidates than the budget; then all of them are judged. If none is,
// the page takes the way that reaches furthest back within the budget, and ends
// there.
func (tx *Tx) Tokens(q TokenQuery) (TokenPage, error) {
	filters := q
	filters.Cursor, filters.Limit, filters.Now = "", 0, time.Time{}
	l, err := openList("tokens", filters, Page{Cursor: q.Cursor, Limit: q.Limit})
	if err != nil {
		return TokenPage{}, err
	}
	p, err := tx.planTokens(&q, l)
	if err != nil {
		return TokenPage{}, err
	}
	if len(p.branches) == 0 || !searchable(q.Search) {
		return TokenPage{}, nil // nothing can be like that
	}
	way, floor, err := tx.chooseWay(p)
	if err != nil {
		return TokenPage{}, err
	}
	tokens, err := tx.fetchTokens(p.fetch(way, floor))
	if err != nil {
		return TokenPage{}, err
	}
	tokens, next := cutPage(l, tokens, func(t *token.Token) token.ID { return t.ID })
	if next == "" && floor != "" {
		next = l.next(cursor{ID: floor})
	}
	rows, err := tx.withSecrets(tokens, q.Now)
	return TokenPage{Tokens: rows, Next: next}, err
}

// expiry is what a branch asks about expiry.
type expiry uint8

const (
	anyExpiry expiry = iota
	notExpired
	expired
)

// branch is a stored state that the query wants, and its expiry.
type branch struct {
	state  token.State
	expiry expiry
}

// wantedBranches translates states as people see them into stored ones.
func wantedBranches(states []token.State) []branch {
	if len(states) == 0 {
		states = []token.State{token.Active, token.Disabled, token.Expired, token.Revoked}
	}
	var out []branch
	wantExpired := slices.Contains(states, token.Expired)
	for _, s := range []token.State{token.Active, token.Disabled} {
		switch wanted := slices.Contains(states, s); {
		case wanted && wantExpired:
			out = append(out, branch{s, anyExpiry})
		case wanted:
			out = append(out, branch{s, notExpired})
		case wantExpired:
			out = append(out, branch{s, expired})
		}
	}
	for _, s := range []token.State{token.Revoked, token.Deleted} {
		if slices.Contains(states, s) {
			out = append(out, branch{s, anyExpiry})
		}
	}
	return out
}

// way is one index by which candidates are reached.
type way uint8

const (
	byState way = iota
	byAccount
	byUser
	byScope
	bySearch
	byEnd
)

// tokenPlan is a query with what is known before the first candidate is looked at.
type tokenPlan struct {
	q        *TokenQuery
	l        list
	budget   int
	branches []branch
	// lifetime is the shortest maximum lifetime of any policy; 0 when none has one.
	lifetime int64
	name     string // the search, folded
	nameEnd  string // above all names that start with it; empty: no bound
}

func (tx *Tx) planTokens(q *TokenQuery, l list) (*tokenPlan, error) {
	p := &tokenPlan{q: q, l: l, budget: tx.o.ScanBudget, branches: wantedBranches(q.States)}
	if q.Search != "" {
		p.name = foldName(q.Search)
		p.nameEnd = prefixEnd(p.name)
	}
	if !q.ExpiresBefore.IsZero() || slices.ContainsFunc(p.branches, func(b branch) bool { return b.expiry != anyExpiry }) {
		var err error
		if p.lifetime, err = tx.q.ShortestLifetime(tx.ctx); err != nil {
			return nil, tx.explain("read the policies' lifetimes", err)
		}
	}
	return p, nil
}

// lastBefore is the last microsecond before a time.
func lastBefore(t time.Time) int64 {
	n := t.UnixMicro()
	if t.Nanosecond()%1000 == 0 {
		n--
	}
	return n
}

// ended is the latest end that all wanted tokens have passed, when there is one.
func (p *tokenPlan) ended() (by int64, ok bool) {
	by = math.MaxInt64
	if !p.q.ExpiresBefore.IsZero() {
		by, ok = lastBefore(p.q.ExpiresBefore), true
	}
	for _, b := range p.branches {
		if b.expiry != expired {
			return by, ok
		}
	}
	return min(by, storedTime(p.q.Now)), true
}

// narrow says whether anything but the ordered way's own index decides.
func (p *tokenPlan) narrow() bool {
	q := p.q
	return q.Scope != "" || q.Search != "" || !q.ExpiresBefore.IsZero() || !q.LastUsedBefore.IsZero() || (q.UserID != "" && q.AccountID != "") ||
		slices.ContainsFunc(p.branches, func(b branch) bool { return b.expiry != anyExpiry })
}

// ordered is the way that needs no sorting and is most specific.
func (p *tokenPlan) ordered() way {
	switch {
	case p.q.UserID != "":
		return byUser
	case p.q.AccountID != "":
		return byAccount
	default:
		return byState
	}
}

// chooseWay gives the way to take and the ID at which it ends; "" for complete.
func (tx *Tx) chooseWay(p *tokenPlan) (way, string, error) {
	first := p.ordered()
	if !p.narrow() {
		return first, "", nil
	}
	if p.q.Search != "" {
		few, err := tx.few(p.searchProbes())
		if err != nil || few {
			return bySearch, "", err
		}
	}
	best, floor := first, aboveAllIDs
	ways := []way{first}
	if p.q.Scope != "" {
		ways = append(ways, byScope)
	}
	for _, w := range ways {
		reached, err := tx.reach(p, w)
		if err != nil {
			return 0, "", err
		}
		if reached < floor {
			best, floor = w, reached
		}
		if floor == "" {
			return best, "", nil
		}
	}
	if by, ok := p.ended(); ok {
		few, err := tx.few(p.endProbes(by))
		if err != nil || few {
			return byEnd, "", err
		}
	}
	return best, floor, nil
}

// few says whether all the probes together have no more rows than the budget.
func (tx *Tx) few(probes []func(*query)) (bool, error) {
	left := int64(tx.o.ScanBudget)
	for _, probe := range probes {
		b := new(query)
		b.add("SELECT count(*) FROM (")
		probe(b)
		b.add(" LIMIT ", b.arg(left+1), ") c")
		var n int64
		if err := tx.db.QueryRow(tx.ctx, b.text.String(), b.args...).Scan(&n); err != nil {
			return false, tx.explain("list tokens", err)
		}
		if left -= n; left < 0 {
			return false, nil
		}
	}
	return true, nil
}

// reach is the ID down to which a way gets within the budget; "" when it gets to the end.
func (tx *Tx) reach(p *tokenPlan, w way) (string, error) {
	floor := ""
	for _, b := range p.reachQueries(w) {
		var id string
		switch err := tx.db.QueryRow(tx.ctx, b.text.String(), b.args...).Scan(&id); {
		case errors.Is(err, pgx.ErrNoRows):
		case err != nil:
			return "", tx.explain("list tokens", err)
		default:
			floor = max(floor, id)
		}
	}
	return floor, nil
}

// reachQueries skips the budget in the way's own index.
func (p *tokenPlan) reachQueries(w way) []*query {
	if w == byScope {
		b := new(query)
		b.add("SELECT x.token_id FROM token_scopes x WHERE x.scope = ", b.arg(p.q.Scope), " AND x.token_id < ", b.arg(p.l.before()),
			" ORDER BY x.token_id DESC LIMIT 1 OFFSET ", b.arg(int64(p.budget-1)))
		return []*query{b}
	}
	var out []*query
	for _, wanted := range p.branches {
		b := new(query)
		b.add("SELECT t.id FROM tokens t WHERE ")
		p.addKey(b, w)
		b.add("t.state = ", b.arg(wanted.state.String()), " AND t.id < ", b.arg(p.l.before()),
			" ORDER BY t.id DESC LIMIT 1 OFFSET ", b.arg(int64(p.budget-1)))
		out = append(out, b)
	}
	return out
}

// addKey adds the equality that an ordered way's index begins with.
func (p *tokenPlan) addKey(b *query, w way) {
	switch w {
	case byAccount:
		b.add("t.account_id = ", b.arg(string(p.q.AccountID)), " AND ")
	case byUser:
		b.add("t.user_id = ", b.arg(string(p.q.UserID)), " AND ")
	default: // the state comes first
	}
}

// searchProbes find what a search may mean.
func (p *tokenPlan) searchProbes() []func(*query) {
	probes := []func(*query){
		func(b *query) { b.add("SELECT i.id FROM tokens i WHERE i.id = ", b.arg(p.q.Search)) },
		func(b *query) {
			b.add("SELECT n.id FROM tokens n WHERE n.name_folded >= ", b.arg(p.name))
			if p.nameEnd != "" {
				b.add(" AND n.name_folded < ", b.arg(p.nameEnd))
			}
		},
	}
	if isLast4(p.q.Search) {
		probes = append(probes, func(b *query) {
			b.add("SELECT s.token_id FROM secrets s WHERE ")
			p.addHint(b)
		})
	}
	return probes
}

// addHint finds valid secrets by their last 4 characters.
func (p *tokenPlan) addHint(b *query) {
	b.add("s.last4 = ", b.arg(p.q.Search), " AND s.status <> 'retired' AND (s.status = 'current' OR s.expires_at = 0 OR s.expires_at > ",
		b.arg(storedTime(p.q.Now)), ")")
}

// searchable says whether any name could match: none holds a NUL or bytes that
// are no text, which Postgres would refuse even to compare with.
func searchable(search string) bool {
	return utf8.ValidString(search) && !strings.ContainsRune(search, 0)
}

func isLast4(search string) bool { return len(search) == 4 }

// endProbes find all that may have ended by a time. By a policy's lifetime it is
// too many as a rule: all that the shortest lifetime of any policy would end.
func (p *tokenPlan) endProbes(by int64) []func(*query) {
	probes := []func(*query){func(b *query) {
		b.add("SELECT e.id FROM tokens e WHERE e.expires_at <> 0 AND e.expires_at <= ", b.arg(by))
	}}
	if p.lifetime != 0 {
		probes = append(probes, func(b *query) {
			b.add("SELECT f.id FROM tokens f WHERE f.lifetime_from <= ", b.arg(by-p.lifetime))
		})
	}
	return probes
}

const tokenColumns = `t.id, t.name, t.name_folded, t.account_id, t.user_id, t.access, t.scopes, t.allow_list, t.environment, t.state,
	t.created_at, t.updated_at, t.expires_at, t.lifetime_from, t.ended_at, t.end_reason, t.fresh_only, t.version`

// fetch is the query of the page: the candidates of one way, judged by all filters.
func (p *tokenPlan) fetch(w way, floor string) *query {
	b := new(query)
	b.add("SELECT ", tokenColumns, " FROM tokens t WHERE t.id IN (")
	switch w {
	case byScope:
		b.add("SELECT t.id FROM token_scopes x CROSS JOIN tokens t WHERE t.id = x.token_id AND x.scope = ", b.arg(p.q.Scope),
			" AND x.token_id < ", b.arg(p.l.before()), " AND x.token_id >= ", b.arg(floor))
		p.addStates(b)
		p.addFilters(b, w)
		b.add(" ORDER BY x.token_id DESC LIMIT ", b.arg(p.l.fetch()))
	case bySearch, byEnd:
		probes := p.searchProbes()
		if w == byEnd {
			by, _ := p.ended()
			probes = p.endProbes(by)
		}
		for i, probe := range probes {
			if i > 0 {
				b.add(" UNION ALL ") // IN drops what is double
			}
			probe(b)
		}
		b.add(") AND t.id < ", b.arg(p.l.before()))
		p.addStates(b)
		p.addFilters(b, w)
		b.add(" ORDER BY t.id DESC LIMIT ", b.arg(p.l.fetch()))
		return b
	default:
		for i, wanted := range p.branches {
			if i > 0 {
				b.add(" UNION ALL ")
			}
			b.add("SELECT id FROM (SELECT t.id FROM tokens t WHERE ")
			p.addKey(b, w)
			b.add("t.state = ", b.arg(wanted.state.String()), " AND t.id < ", b.arg(p.l.before()), " AND t.id >= ", b.arg(floor))
			p.addExpiry(b, wanted.expiry)
			p.addFilters(b, w)
			b.add(" ORDER BY t.id DESC LIMIT ", b.arg(p.l.fetch()), ") b", fmt.Sprint(i))
		}
	}
	b.add(") ORDER BY t.id DESC LIMIT ", b.arg(p.l.fetch()))
	return b
}

// addStates adds the wanted states where no index decides about them.
func (p *tokenPlan) addStates(b *query) {
	b.add(" AND (")
	for i, wanted := range p.branches {
		if i > 0 {
			b.add(" OR ")
		}
		b.add("(t.state || '' = ", b.arg(wanted.state.String()))
		p.addExpiry(b, wanted.expiry)
		b.add(")")
	}
	b.add(")")
}

func (p *tokenPlan) addExpiry(b *query, e expiry) {
	switch e {
	case anyExpiry:
	case notExpired:
		b.add(" AND NOT ")
		p.addEnded(b, storedTime(p.q.Now))
	case expired:
		b.add(" AND ")
		p.addEnded(b, storedTime(p.q.Now))
	}
}

// addEnded is Token.ExpiryUnder in SQL: the token's own expiry or the end of its
// policy's lifetime has come.
func (p *tokenPlan) addEnded(b *query, by int64) {
	at := b.arg(by)
	b.add("((t.expires_at <> 0 AND t.expires_at + 0 <= ", at, ")")
	if p.lifetime != 0 {
		b.add(" OR EXISTS (SELECT 1 FROM accounts a JOIN policies p ON p.name = a.policy",
			" WHERE a.id = t.account_id AND p.max_lifetime > 0 AND t.lifetime_from + p.max_lifetime <= ", at, ")")
	}
	b.add(")")
}

// addFilters adds what the way's own index does not decide. Columns are wrapped
// in expressions that change nothing, so that no database takes one of them for
// a better index and then has to sort.
func (p *tokenPlan) addFilters(b *query, w way) {
	q := p.q
	if q.AccountID != "" && w != byAccount {
		b.add(" AND t.account_id || '' = ", b.arg(string(q.AccountID)))
	}
	if q.UserID != "" && w != byUser {
		b.add(" AND t.user_id || '' = ", b.arg(string(q.UserID)))
	}
	if q.Scope != "" && w != byScope {
		b.add(" AND EXISTS (SELECT 1 FROM token_scopes y WHERE y.scope = ", b.arg(q.Scope), " AND y.token_id = t.id)")
	}
	if q.Search != "" && w != bySearch {
		b.add(" AND (t.id || '' = ", b.arg(q.Search), " OR (t.name_folded || '' >= ", b.arg(p.name))
		if p.nameEnd != "" {
			b.add(" AND t.name_folded || '' < ", b.arg(p.nameEnd))
		}
		b.add(")")
		if isLast4(q.Search) {
			b.add(" OR EXISTS (SELECT 1 FROM secrets s WHERE s.token_id = t.id AND ")
			p.addHint(b)
			b.add(")")
		}
		b.add(")")
	}
	if !q.ExpiresBefore.IsZero() {
		b.add(" AND ")
		p.addEnded(b, lastBefore(q.ExpiresBefore))
	}
	if !q.LastUsedBefore.IsZero() {
		// No index leads to what was not used: each candidate's own uses are looked
		// at, and the budget bounds how many candidates a page has.
		at := b.arg(lastBefore(q.LastUsedBefore))
		b.add(" AND t.created_at <= ", at, " AND NOT EXISTS (SELECT 1 FROM uses w WHERE w.token_id = t.id AND w.last_at > ", at, ")")
	}
}

// prefixEnd is the least text above all that start with the prefix, in the order
// of code points, which is that of UTF-8; empty when there is none.
func prefixEnd(prefix string) string {
	runes := []rune(prefix)
	for i := len(runes) - 1; i >= 0; i-- {
		switch runes[i] {
		case utf8.MaxRune:
			continue
		case 0xD7FF:
			runes[i] = 0xE000 // what lies between stands for no character
		default:
			runes[i]++
		}
		return string(runes[:i+1])
	}
	return ""
}

func (tx *Tx) fetchTokens(b *query) ([]token.Token, error) {
	rows, err := tx.db.Query(tx.ctx, b.text.String(), b.args...)
	if err != nil {
		return nil, tx.explain("list tokens", err)
	}
	defer rows.Close()
	var tokens []token.Token
	for rows.Next() {
		var r db.Token
		err := rows.Scan(&r.ID, &r.Name, &r.NameFolded, &r.AccountID, &r.UserID, &r.Access, &r.Scopes, &r.AllowList, &r.Environment,
			&r.State, &r.CreatedAt, &r.UpdatedAt, &r.ExpiresAt, &r.LifetimeFrom, &r.EndedAt, &r.EndReason, &r.FreshOnly, &r.Version)
		if err != nil {
			return nil, tx.explain("list tokens", err)
		}
		t, err := loadToken(&r)
		if err != nil {
			return nil, tx.damaged("read token "+r.ID, err)
		}
		tokens = append(tokens, t)
	}
	return tokens, tx.explain("list tokens", rows.Err())
}

// roundUp gives a power of two, so that pages of any size make few statements.
func roundUp(n int) int { return 1 << bits.Len(uint(n-1)) }

// withSecrets adds each token's valid secrets.
func (tx *Tx) withSecrets(tokens []token.Token, now time.Time) ([]TokenRow, error) {
	if len(tokens) == 0 {
		return nil, nil
	}
	out := make([]TokenRow, len(tokens))
	at := make(map[string]int, len(tokens))
	b := new(query)
	b.add("SELECT s.id, s.token_id, s.last4, s.status, s.created_at, s.expires_at, s.retry_until, s.first_used",
		" FROM secrets s WHERE s.token_id IN (")
	for i, t := range tokens {
		out[i].Token = t
		at[string(t.ID)] = i
	}
	for i := range roundUp(len(tokens)) {
		if i > 0 {
			b.add(", ")
		}
		b.add(b.arg(string(tokens[min(i, len(tokens)-1)].ID)))
	}
	b.add(") AND s.status || '' <> 'retired'")
	rows, err := tx.db.Query(tx.ctx, b.text.String(), b.args...)
	if err != nil {
		return nil, tx.explain("list the tokens' secrets", err)
	}
	defer rows.Close()
	for rows.Next() {
		var r db.ListSecretsRow
		err := rows.Scan(&r.ID, &r.TokenID, &r.Last4, &r.Status, &r.CreatedAt, &r.ExpiresAt, &r.RetryUntil, &r.FirstUsed)
		if err != nil {
			return nil, tx.explain("list the tokens' secrets", err)
		}
		s, err := loadSecret(r)
		if err != nil {
			return nil, tx.damaged("read secret "+r.ID, err)
		}
		if i := at[r.TokenID]; s.ValidAt(now) {
			out[i].Secrets = append(out[i].Secrets, s)
		}
	}
	for _, row := range out {
		slices.SortFunc(row.Secrets, func(a, b token.SecretRecord) int { return int(a.Status) - int(b.Status) })
	}
	return out, tx.explain("list the tokens' secrets", rows.Err())
}
