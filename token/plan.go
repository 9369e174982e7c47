package token

import (
	"errors"
	"slices"
	"time"
)

// Subject is everything that the plan of one token follows from.
type Subject struct {
	Token   *Token
	Secrets []SecretRecord
	Account *Account
	User    *User // nil exactly when the token has no user
	Policy  *Policy
	Use     Use
	History History
	// Rotation is the one under way, if there is one. Secrets holds the current and
	// the previous secret while it is.
	Rotation Rotation
	// Notices are all that were written for the token, those of warnings and
	// reminders included. What was done and what was voided may be left out, but
	// for warnings and reminders: one that is left out is given again.
	Notices  []Notice
	Coverage *Coverage // nil: nothing was observed
	// Channel says whether there is mail or a webhook to give notice by.
	Channel bool
	// ScopeNature finds a scope as it is declared now; nil: as it was when used.
	ScopeNature func(name string) (Scope, bool)
}

// Why a subject has no plan. The text never repeats a value.
var (
	errSubjectMissing  = errors.New("token, account or policy is missing")
	errSubjectStranger = errors.New("account, user, policy or secret is not the token's")
	errSubjectToken    = errors.New("the token's state, access or scopes are not such as are stored")
	errSubjectPolicy   = errors.New("a duration of the policy is out of bounds")
	errSubjectTime     = errors.New("a time is missing, or is not of the years 1 to 9999")
)

// Check says what is missing or contradicts itself, if anything does. Such a
// subject has no plan: nothing follows from a record that cannot be right, least
// of all that something is taken away. An operator has to hear of it, since
// nobody looks after the token meanwhile.
func (s *Subject) Check() error {
	if s == nil || s.Token == nil || s.Account == nil || s.Policy == nil {
		return errSubjectMissing
	}
	t := s.Token
	if t.ID == "" || t.AccountID == "" || s.Account.ID != t.AccountID || !ruledBy(s.Account, s.Policy) || !s.ownUser() || !s.ownSecrets() {
		return errSubjectStranger
	}
	if !validAccess(t.Grant.Access) || t.State == Expired || t.State < Active || t.State > Deleted || !orderedScopes(&t.Grant) {
		return errSubjectToken
	}
	if !boundedPolicy(s.Policy) {
		return errSubjectPolicy
	}
	if !s.timely() {
		return errSubjectTime
	}
	return nil
}

func (s *Subject) ownUser() bool {
	if s.Token.UserID == "" {
		return s.User == nil
	}
	return s.User != nil && s.User.ID == s.Token.UserID && s.User.AccountID == s.Token.AccountID
}

func (s *Subject) ownSecrets() bool {
	for i := range s.Secrets {
		if s.Secrets[i].TokenID != s.Token.ID {
			return false
		}
	}
	return true
}

// orderedScopes says whether a grant's list is one that Holds can search.
func orderedScopes(g *Grant) bool {
	if g.Access != Custom {
		return len(g.Scopes) == 0
	}
	for i := range len(g.Scopes) - 1 {
		if g.Scopes[i] >= g.Scopes[i+1] {
			return false
		}
	}
	return len(g.Scopes) > 0 && len(g.Scopes) <= MaxScopes
}

func boundedPolicy(p *Policy) bool {
	for _, d := range [...]time.Duration{
		p.MaxLifetime, p.DeleteExpiredAfter, p.DeleteUnused, p.DowngradeUnused, p.Notice, p.RestoreWindow,
	} {
		if d < 0 || d > MaxPolicyDuration {
			return false
		}
	}
	for _, d := range p.ExpiryWarnings {
		if d < 0 || d > MaxPolicyDuration {
			return false
		}
	}
	return true
}

func (s *Subject) timely() bool {
	t, h := s.Token, &s.History
	if t.CreatedAt.IsZero() || s.Policy.MaxLifetime != 0 && t.LifetimeFrom.IsZero() || t.State == Deleted && t.EndedAt.IsZero() {
		return false
	}
	for _, at := range [...]time.Time{
		t.CreatedAt, t.ExpiresAt, t.LifetimeFrom, t.EndedAt,
		h.Observed, h.LevelSince, h.ExemptUntil, s.Use.Last, s.Use.Previous, s.Rotation.StartedAt,
	} {
		if !plausible(at) {
			return false
		}
	}
	for i := range s.Use.Scopes {
		if !plausible(s.Use.Scopes[i].Last) {
			return false
		}
	}
	for i := range s.Notices {
		if n := &s.Notices[i]; !plausible(n.Due) || !plausible(n.Created) || !plausible(n.Accepted) {
			return false
		}
	}
	for i := range s.Secrets {
		if r := &s.Secrets[i]; !plausible(r.CreatedAt) || !plausible(r.ExpiresAt) {
			return false
		}
	}
	return s.Coverage == nil || plausible(s.Coverage.Since) && plausible(s.Coverage.Through)
}

// Plan says what follows for a token from its past, by the rules of L1 to L5, in
// the order of time: what is to be done now, and what comes if nothing else
// happens until then. An action of a later date does not wait to be asked for
// again with that date as now: it is in the list already, with its date.
//
// It is total: every subject gives a list, and one that Check refuses an empty
// one. The lists in an action may be the subject's own, and are not to be changed.
func Plan(s *Subject, now time.Time) []Action { return AppendPlan(nil, s, now) }

// AppendPlan is Plan into a list that is used again, for runs over many tokens.
func AppendPlan(list []Action, s *Subject, now time.Time) []Action {
	if s.Check() != nil || now.IsZero() || !plausible(now) {
		return list
	}
	p := planner{Subject: s, now: now.Round(0).UTC(), list: list}
	switch s.Token.State {
	case Active, Disabled:
		p.expiry = s.Token.ExpiryUnder(s.Policy)
		p.planUnused()
		p.planExpiry()
		p.planGrace()
	case Deleted:
		p.cancelAll(CauseEnded)
		p.add(Action{Kind: Purge, Due: s.Token.EndedAt.Add(s.Policy.RestoreWindow)})
	default:
		p.cancelAll(CauseEnded)
	}
	inOrder(p.list[len(list):])
	return p.list
}

// inOrder sorts by time, and leaves what comes at one time in the order in which
// it was planned. Plans are short, so that nothing is gained by more.
func inOrder(list []Action) {
	for i := 1; i < len(list); i++ {
		for j := i; j > 0 && list[j].Due.Before(list[j-1].Due); j-- {
			list[j], list[j-1] = list[j-1], list[j]
		}
	}
}

type planner struct {
	*Subject
	now    time.Time
	expiry time.Time
	list   []Action
}

// add completes an action by what it waits for besides what it names already.
func (p *planner) add(a Action) {
	a.TokenID = p.Token.ID
	if p.now.Before(a.Due) {
		a.Waits |= WaitDate
	}
	p.list = append(p.list, a)
}

// unused is one of L1 and L2 on its way: what would be taken, and why.
type unused struct {
	kind, notice ActionKind
	window       time.Duration
	from         time.Time // the start of the window
	end          time.Time // and its end
	lastUse      time.Time
	grant        Grant
	taken        []string
	given        *Notice // nil: none that counts

	tell time.Time // when notice is to be given
	due  time.Time // when to act
}

// planUnused is L1, L2 and L4.
func (p *planner) planUnused() {
	// L1 and L2 act only on active tokens whose account and user are enabled and may
	// have tokens.
	if p.Token.StateAt(p.Policy, p.now) != Active || p.Account.Disabled || p.Account.TokensOff ||
		p.User != nil && (p.User.Disabled || p.User.TokensOff) {
		p.cancelAll(CauseNotActive)
		return
	}
	deletion := unused{kind: DeleteUnused, notice: NoticeDeletion, window: p.Policy.DeleteUnused}
	downgrade := unused{kind: Downgrade, notice: NoticeDowngrade, window: p.Policy.DowngradeUnused}
	deletes, downgrades := p.deletion(&deletion), p.downgrade(&downgrade)
	// Who loses everything need not be told of losing a part, and a deletion can
	// be restored with all that the token had. When the deletion comes later, or
	// is called off, the downgrade follows its own dates.
	if downgrades && (!deletes || downgrade.due.Before(deletion.due)) {
		p.addUnused(&downgrade)
	}
	if deletes {
		p.addUnused(&deletion)
	}
}

// deletion is L2. It says whether there is one to come.
func (p *planner) deletion(u *unused) bool {
	u.lastUse = p.Use.last()
	return p.whole(u, p.base(time.Time{}))
}

// downgrade is L1. It says whether there is one to come.
func (p *planner) downgrade(u *unused) bool {
	base := p.base(p.History.LevelSince)
	switch p.Token.Grant.Access {
	case ReadWrite:
		u.lastUse = p.Use.lastWrite(p.ScopeNature)
		u.grant = Grant{Access: ReadOnly}
		return p.whole(u, base)
	case Custom:
		return p.scopes(u, base)
	default:
		p.cancelEach(Downgrade, CauseRestarted)
		return false
	}
}

// whole plans what is taken as a whole: the token, or the permission to write.
func (p *planner) whole(u *unused, base base) bool {
	if u.window == 0 {
		p.cancelEach(u.kind, CausePolicy)
		return false
	}
	u.from = later(base.latest(), u.lastUse)
	for i := range p.Notices {
		n := &p.Notices[i]
		switch {
		case !n.open(u.kind):
		case p.History.ExemptUntil.After(n.Created):
			p.cancel(n, CauseExempted)
		case n.ahead(p.now):
			p.cancel(n, CauseMoved)
		case len(n.Scopes) > 0:
			p.cancel(n, CauseRestarted) // it was about a custom token
		case n.stale(u.from, u.window):
			p.cancel(n, base.cause(n, u.lastUse))
		default:
			u.given = better(u.given, n)
		}
	}
	u.end = p.Coverage.end(u.from, u.window, p.now)
	p.date(u)
	return true
}

// scopes plans the downgrade of a custom token to the scopes that it used.
func (p *planner) scopes(u *unused, base base) bool {
	if u.window == 0 {
		p.cancelEach(u.kind, CausePolicy)
		return false
	}
	held := p.Token.Grant.Scopes
	var uses [MaxScopes]time.Time
	for i := range p.Use.Scopes {
		if at, ok := slices.BinarySearch(held, p.Use.Scopes[i].Scope.Name); ok {
			uses[at] = later(uses[at], p.Use.Scopes[i].Last)
		}
	}
	from := func(i int) time.Time { return later(base.latest(), uses[i]) }
	for i := range p.Notices {
		n := &p.Notices[i]
		if !n.open(u.kind) {
			continue
		}
		if p.History.ExemptUntil.After(n.Created) {
			p.cancel(n, CauseExempted)
			continue
		}
		if n.ahead(p.now) {
			p.cancel(n, CauseMoved)
			continue
		}
		taken, lastUse := 0, time.Time{}
		for i, name := range held {
			if slices.Contains(n.Scopes, name) {
				lastUse = later(lastUse, uses[i])
				if !n.stale(from(i), u.window) {
					taken++
				}
			}
		}
		// A notice that named all that is left would come down to nothing.
		if taken == 0 || taken == len(held) {
			p.cancel(n, base.cause(n, lastUse))
			continue
		}
		u.given = better(u.given, n)
	}
	if u.given == nil {
		// The first scope whose window ends makes the date, and goes together with
		// those whose windows end until then.
		u.from = from(0)
		for i := range held {
			if at := from(i); at.Before(u.from) {
				u.from = at
			}
		}
		u.end = p.Coverage.end(u.from, u.window, p.now)
		p.date(u)
	}
	var kept []string
	for i, name := range held {
		end := p.Coverage.end(from(i), u.window, p.now)
		takes := !end.After(u.due)
		if u.given != nil {
			takes = slices.Contains(u.given.Scopes, name) && !u.given.stale(from(i), u.window)
		}
		if !takes {
			kept = append(kept, name)
			continue
		}
		u.taken = append(u.taken, name)
		u.from, u.end = later(u.from, from(i)), later(u.end, end)
		u.lastUse = later(u.lastUse, uses[i])
	}
	if len(kept) == 0 {
		return false // never to nothing: L2 deals with that
	}
	if u.given != nil {
		p.date(u)
	}
	u.grant = Grant{Access: Custom, Scopes: kept}
	return true
}

// date is L4: notice is given so long before the window ends, and nothing happens
// before that long has passed since it was accepted, nor before the date that it
// named. An exempt token gets none.
func (p *planner) date(u *unused) {
	lead := p.Policy.Notice
	u.tell = later(later(u.end.Add(-lead), u.from), p.History.ExemptUntil)
	switch n := u.given; {
	case n == nil:
		u.due = later(u.end, later(u.tell, p.now).Add(lead))
	case n.Accepted.IsZero():
		u.due = later(later(u.end, n.Due), p.now.Add(lead))
	default:
		u.due = later(later(u.end, n.Due), later(n.Accepted, n.Created).Add(lead))
	}
}

// addUnused adds the notice, if none was given, and the act.
func (p *planner) addUnused(u *unused) {
	// A token that expires before is L3's.
	if !p.expiry.IsZero() && !u.due.Before(p.expiry) {
		return
	}
	var waits Waits
	if !p.Channel {
		waits |= WaitChannel
	}
	if p.now.Before(p.History.ExemptUntil) {
		waits |= WaitExempt
	}
	evidence := Evidence{
		From: u.from, To: u.due, LastUse: u.lastUse, Unused: u.taken,
		Stretched: u.end.Sub(u.from.Add(u.window)),
	}
	if u.kind == Downgrade {
		evidence.Used = p.Use.since(u.from)
	}
	if _, blind := p.Coverage.base(p.now); blind.Equal(u.from) {
		evidence.BlindUntil = blind
	}
	if p.Coverage != nil {
		evidence.Through = p.Coverage.Through
		if p.Coverage.open {
			waits |= WaitBlind
		}
	}
	if u.given == nil {
		p.add(Action{
			Kind: u.notice, Due: u.tell, Waits: waits | p.known(u.tell), Announces: u.due,
			Grant: u.grant, Scopes: u.taken, Evidence: evidence,
		})
		waits |= WaitNotice
	} else {
		evidence.Notice = *u.given
		if u.given.Accepted.IsZero() {
			waits |= WaitNotice
		}
	}
	p.add(Action{
		// An act that was kept back (by the allowance, say) takes what was used since its
		// date, too, so that all must be known nearly up to now (L8).
		Kind: u.kind, Due: u.due, Waits: waits | p.known(later(u.due, p.now.Add(-untoldLimit))),
		Grant: u.grant, Scopes: u.taken, Evidence: evidence,
	})
}

// untoldLimit is how far back from the moment of an act gateways must have told of all
// uses. It is far longer than one takes to tell, so that none holds an act back which
// can tell at all.
const untoldLimit = time.Hour

// known says whether an action of a date has to wait until all that happened
// before is known. For dates to come that is not asked yet.
func (p *planner) known(date time.Time) Waits {
	if p.Coverage.complete(date) || p.Coverage.observed() && p.now.Before(date) {
		return 0
	}
	return WaitCoverage
}

// base is what windows count from besides use.
type base struct{ start, blind time.Time }

// base is the latest of creation, import, restoring, enabling, the beginning of
// observation and, for a downgrade, of the level; and the end of blind time.
func (p *planner) base(level time.Time) base {
	since, blind := p.Coverage.base(p.now)
	return base{start: later(later(p.Token.CreatedAt, p.History.Observed), later(since, level)), blind: blind}
}

func (b base) latest() time.Time { return later(b.start, b.blind) }

// cause is why a notice does not stand any more.
func (b base) cause(n *Notice, used time.Time) Cause {
	switch {
	case used.After(n.Created):
		return CauseUsed
	case b.blind.After(n.Created):
		return CauseBlind
	case b.start.After(n.Created):
		return CauseRestarted
	default:
		return CauseMoved
	}
}

// open says whether the notice announces a kind of action and still stands.
func (n *Notice) open(kind ActionKind) bool { return n.Kind == kind && !n.Voided }

// stale says whether the window that starts at a time is not the one that notice
// was given of: it starts after the notice, or would, without any stretch, not
// have ended by the date that the notice names. So a use takes out what it used
// for good, however long the act is put off, and so does blind time.
func (n *Notice) stale(from time.Time, window time.Duration) bool {
	return from.After(n.Created) || from.After(n.Due.Add(-window))
}

// aheadTolerance is how far a notice may lie in the future. A clock that is set
// back by a few days must not give all notices anew; one that was ahead by years
// must not put off what they announced for as long.
const aheadTolerance = 7 * 24 * time.Hour

// ahead says whether the notice was given by a clock that was wrong.
func (n *Notice) ahead(now time.Time) bool {
	return n.Created.After(now.Add(aheadTolerance)) || n.Accepted.After(now.Add(aheadTolerance))
}

// better is the notice that was accepted, and of two such the older.
func better(a, b *Notice) *Notice {
	switch {
	case a == nil:
		return b
	case a.Accepted.IsZero() != b.Accepted.IsZero():
		if a.Accepted.IsZero() {
			return b
		}
		return a
	case b.Created.Before(a.Created):
		return b
	default:
		return a
	}
}

func (p *planner) cancelAll(cause Cause) {
	p.cancelEach(Downgrade, cause)
	p.cancelEach(DeleteUnused, cause)
}

func (p *planner) cancelEach(kind ActionKind, cause Cause) {
	for i := range p.Notices {
		if n := &p.Notices[i]; n.open(kind) {
			p.cancel(n, cause)
		}
	}
}

func (p *planner) cancel(n *Notice, cause Cause) {
	p.add(Action{Kind: CancelNotice, Due: p.now, Cause: cause, Evidence: Evidence{LastUse: p.Use.last(), Notice: *n}})
}

// planExpiry is L3: used or not, and without waiting for any notice.
func (p *planner) planExpiry() {
	if p.expiry.IsZero() {
		return
	}
	p.planWarnings()
	if _, told := p.told(Expire); !told {
		p.add(Action{Kind: Expire, Due: p.expiry, Announces: p.expiry})
	}
	p.add(Action{Kind: DeleteExpired, Due: p.expiry.Add(p.Policy.DeleteExpiredAfter)})
}

// planWarnings gives each warning once. Of several that are late the last one is
// enough, and one that was due before the token was there says nothing new.
func (p *planner) planWarnings() {
	if !p.now.Before(p.expiry) {
		return
	}
	born := later(p.Token.CreatedAt, p.Token.LifetimeFrom)
	last, told := p.told(WarnExpiry)
	var late time.Time
	for _, lead := range p.Policy.ExpiryWarnings {
		due := p.expiry.Add(-lead)
		switch {
		case !due.After(born), told && !last.Before(due):
		case p.now.Before(due):
			p.add(Action{Kind: WarnExpiry, Due: due, Announces: p.expiry})
		default:
			late = later(late, due)
		}
	}
	if !late.IsZero() {
		p.add(Action{Kind: WarnExpiry, Due: late, Announces: p.expiry})
	}
}

// told is when people were last told of the token's expiry as it is now. That the
// expiry was another then does not count.
func (p *planner) told(kind ActionKind) (last time.Time, ok bool) {
	for i := range p.Notices {
		if n := &p.Notices[i]; n.Kind == kind && n.Due.Equal(p.expiry) {
			last, ok = later(last, n.Created), true
		}
	}
	return last, ok
}
