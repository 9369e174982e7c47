package token_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/token"
)

// life is a token among nodes that stop, go blind and report late, ruled by a
// scheduler that runs when it likes and mail that is accepted when it likes. It
// knows what really happened; the subject knows what reached the store.
type life struct {
	s      *token.Subject
	bucket time.Duration
	now    time.Time

	uses    []use // all of them, those that nobody saw included
	gaps    []token.Gap
	off     []token.Gap // when the token, or whose it is, was disabled
	through time.Time
	mails   []token.Notice // by what is written to people, with what became of it
	deleted bool
	acts    int
}

type use struct {
	scope string // empty: it only authenticated
	at    time.Time
	seen  bool
}

var lifeScopes = []token.Scope{scopeA, scopeB, scopeC, {Name: "d", Nature: token.Read}}

func natureOf(name string) token.Nature {
	for _, s := range lifeScopes {
		if s.Name == name {
			return s.Nature
		}
	}
	return token.Write
}

// drawLife begins a token's life anywhere in a hundred years (F27), under windows
// from seconds to months.
func drawLife(t *rapid.T) *life {
	bucket := rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour, oneDay}).Draw(t, "bucket")
	born := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, rapid.IntRange(0, 36_524).Draw(t, "born"))
	l := &life{bucket: bucket, now: born, through: born}
	l.s = subject()
	l.s.Token.CreatedAt, l.s.Token.LifetimeFrom, l.s.History = born, born, token.History{Observed: born, LevelSince: born}
	l.s.Policy = &token.Policy{
		Name:            token.DefaultPolicyName,
		DeleteUnused:    time.Duration(rapid.SampledFrom([]int{0, 12, 20}).Draw(t, "delete")) * bucket,
		DowngradeUnused: time.Duration(rapid.SampledFrom([]int{0, 12, 15}).Draw(t, "downgrade")) * bucket,
		Notice:          time.Duration(rapid.SampledFrom([]int{0, 1, 3, 14}).Draw(t, "notice")) * bucket,
	}
	if rapid.Bool().Draw(t, "custom") {
		custom("a", "b", "c", "d")(l.s)
	} else {
		readWrite(l.s)
	}
	return l
}

func (l *life) bucketEnd(at time.Time) time.Time {
	return at.Truncate(l.bucket).Add(l.bucket)
}

func (l *life) active() bool { return l.s.Token.State == token.Active }

// observe brings what has arrived into the subject.
func (l *life) observe() {
	use := token.Use{}
	for i := range l.uses {
		u := &l.uses[i]
		if !u.seen || u.at.After(l.through) {
			continue
		}
		end := l.bucketEnd(u.at)
		if end.After(use.Last) {
			use.Last = end
		}
		if u.scope == "" {
			continue
		}
		at := slices.IndexFunc(use.Scopes, func(s token.ScopeUse) bool { return s.Scope.Name == u.scope })
		if at < 0 {
			at = len(use.Scopes)
			use.Scopes = append(use.Scopes, token.ScopeUse{Scope: token.Scope{Name: u.scope, Nature: natureOf(u.scope)}})
		}
		if end.After(use.Scopes[at].Last) {
			use.Scopes[at].Last = end
		}
	}
	l.s.Use = use
	var known []token.Gap
	for _, g := range l.gaps {
		if !g.To.After(l.through) {
			known = append(known, g)
		}
	}
	l.s.Coverage = token.NewCoverage(l.s.Token.CreatedAt.Add(-l.bucket), l.through, known)
}

// step lives one bucket, with everything that can go wrong when faults is set.
func (l *life) step(t *rapid.T, faults bool) {
	start := l.now
	l.now = l.now.Add(l.bucket)
	if faults {
		switch rapid.IntRange(0, 19).Draw(t, "what") {
		case 0:
			l.gaps = append(l.gaps, token.Gap{From: start, To: l.now})
		case 1:
			from := start.Add(l.bucket / 4)
			l.gaps = append(l.gaps, token.Gap{From: from, To: l.now, Blind: true})
			l.use(t, from, false) // nobody will ever hear of it
		case 2:
			l.s.History.ExemptUntil = l.now.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "exempt")) * l.bucket)
		case 3:
			if l.active() {
				l.s.Token.State = token.Disabled
				l.off = append(l.off, token.Gap{From: l.now})
			}
		case 4, 5:
			l.enable()
		case 6:
			l.s.Channel = !l.s.Channel
		case 7, 8, 9:
			l.use(t, start.Add(l.bucket/2), true)
		}
		if rapid.IntRange(0, 2).Draw(t, "reports") == 0 {
			l.through = l.now.Add(-time.Duration(rapid.IntRange(0, 2).Draw(t, "lag")) * l.bucket)
		}
	} else {
		l.through = l.now
	}
	for i := range l.mails {
		if m := &l.mails[i]; m.Accepted.IsZero() && (!faults || rapid.IntRange(0, 2).Draw(t, "accepted") == 0) {
			m.Accepted = l.now
		}
	}
	l.observe()
	if !faults || rapid.IntRange(0, 3).Draw(t, "runs") > 0 {
		l.run(t)
	}
}

func (l *life) use(t *rapid.T, at time.Time, seen bool) {
	if !l.active() || l.deleted {
		return
	}
	scope := rapid.SampledFrom([]string{"", "a", "a", "b", "c", "d"}).Draw(t, "scope")
	if g := l.s.Token.Grant; scope != "" && !g.Holds(token.Scope{Name: scope, Nature: natureOf(scope)}) {
		scope = "" // refused, but it keeps the token alive
	}
	l.uses = append(l.uses, use{scope: scope, at: at, seen: seen})
}

func (l *life) enable() {
	if l.s.Token.State == token.Disabled {
		l.s.Token.State, l.s.History.Observed = token.Active, l.now
		l.off[len(l.off)-1].To = l.now
	}
}

// run is the scheduler: it does all that is ready, and nothing else.
func (l *life) run(t *rapid.T) {
	l.s.Notices = slices.Clone(l.mails)
	plan := token.Plan(l.s, l.now)
	l.checkDates(t, plan)
	for _, a := range plan {
		if !a.Ready() {
			continue
		}
		switch a.Kind {
		case token.NoticeDeletion, token.NoticeDowngrade:
			kind := token.DeleteUnused
			if a.Kind == token.NoticeDowngrade {
				kind = token.Downgrade
			}
			l.mails = append(l.mails, token.Notice{
				ID: token.ID(a.Announces.Format(time.RFC3339Nano)), Kind: kind, Due: a.Announces, Scopes: a.Scopes, Created: l.now,
			})
		case token.CancelNotice:
			l.mails = slices.DeleteFunc(l.mails, func(n token.Notice) bool {
				return n.Kind == a.Evidence.Notice.Kind && n.Created.Equal(a.Evidence.Notice.Created)
			})
		case token.Downgrade:
			l.checkAct(t, &a)
			l.s.Token.Grant, l.s.History.LevelSince = a.Grant, l.now
			l.mails = slices.DeleteFunc(l.mails, func(n token.Notice) bool { return n.Kind == token.Downgrade })
			l.acts++
			return // the plan is of the token as it was
		case token.DeleteUnused:
			l.checkAct(t, &a)
			l.deleted = true
			l.acts++
			return
		default:
			require.FailNow(t, "no such action follows here", a.Kind)
		}
	}
}

// checkAct holds what is about to be taken against what really happened.
func (l *life) checkAct(t *rapid.T, a *token.Action) {
	e := &a.Evidence
	taken := func(scope string) bool {
		if a.Kind == token.DeleteUnused {
			return true
		}
		if l.s.Token.Grant.Access == token.ReadWrite {
			return scope != "" && natureOf(scope) == token.Write
		}
		return slices.Contains(a.Scopes, scope)
	}
	// I1, L1, L2.
	for _, u := range l.uses {
		if taken(u.scope) && u.at.Before(e.To) {
			require.False(t, l.bucketEnd(u.at).After(e.From) && !l.blindAt(u.at), "used at %s in the window from %s to %s", u.at, e.From, e.To)
			require.True(t, u.at.Before(e.From), "used, seen or not, at %s in the window from %s to %s", u.at, e.From, e.To)
		}
	}
	window := l.s.Policy.DeleteUnused
	if a.Kind == token.Downgrade {
		window = l.s.Policy.DowngradeUnused
		require.False(t, l.s.History.LevelSince.After(e.From), "L1: the level was held for the whole window")
	}
	var stopped time.Duration
	for _, g := range l.gaps {
		if g.Blind {
			require.False(t, g.To.After(e.From) && g.From.Before(e.To), "blind from %s to %s in the window from %s to %s", g.From, g.To, e.From, e.To)
			continue
		}
		if from, to := latest(g.From, e.From), earliest(g.To, e.To); to.After(from) {
			stopped += to.Sub(from)
		}
	}
	require.GreaterOrEqual(t, e.To.Sub(e.From)-stopped, window, "the time that was observed")
	require.False(t, e.To.After(l.now))
	require.False(t, l.through.Before(e.To), "section 5: all that was used has arrived")
	require.True(t, l.active())
	for _, g := range l.off {
		require.False(t, g.To.After(e.From), "L1 L2: active for the whole window")
	}
	require.False(t, l.now.Before(l.s.History.ExemptUntil), "L7")
	require.True(t, l.s.Channel, "L4")
	// I4.
	require.True(t, slices.ContainsFunc(l.mails, func(n token.Notice) bool {
		for _, name := range a.Scopes {
			if !slices.Contains(n.Scopes, name) {
				return false
			}
		}
		return n.Kind == a.Kind && !n.Accepted.IsZero() && !n.Accepted.Add(l.s.Policy.Notice).After(l.now) &&
			!n.Due.After(l.now) && !n.Created.Before(e.From)
	}), "I4: somebody was told in time")
	if a.Kind == token.Downgrade && a.Grant.Access == token.Custom {
		require.NotEmpty(t, a.Grant.Scopes, "L1: never to nothing")
		all := append(slices.Clone(a.Grant.Scopes), a.Scopes...)
		slices.Sort(all)
		require.Equal(t, l.s.Token.Grant.Scopes, all)
	}
}

func (l *life) blindAt(at time.Time) bool {
	return slices.ContainsFunc(l.gaps, func(g token.Gap) bool {
		return g.Blind && !at.Before(g.From) && at.Before(g.To)
	})
}

// checkDates holds each date in a plan against the plan of that date: an action
// that waits for its date only is ready then, and not a moment before. That is
// what --at shows.
func (l *life) checkDates(t *rapid.T, plan []token.Action) {
	find := func(now time.Time, kind token.ActionKind) *token.Action {
		s := *l.s
		s.Coverage = token.NewCoverage(s.Coverage.Since, now, s.Coverage.Gaps())
		for _, a := range token.Plan(&s, now) {
			if a.Kind == kind {
				return &a
			}
		}
		return nil
	}
	for i := range plan {
		a := &plan[i]
		if a.Waits != token.WaitDate {
			continue
		}
		then := find(a.Due, a.Kind)
		require.NotNil(t, then, "%s of %s", a.Kind, a.Due)
		require.True(t, then.Ready(), "%s of %s waits for %s", a.Kind, a.Due, then.Waits)
		require.Equal(t, a.Due, then.Due)
		require.Equal(t, a.Announces, then.Announces)
		require.Equal(t, a.Grant, then.Grant)
		require.Equal(t, a.Scopes, then.Scopes)
		if before := find(a.Due.Add(-1), a.Kind); before != nil {
			require.False(t, before.Ready())
		}
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// I1, I4 and L1 to L7 hold in any life, and once faults and use end, what is due
// is done.
func TestInAnyLifeNothingThatWasUsedIsTakenAndWhatIsDueIsDone(t *testing.T) {
	acts := 0
	rapid.Check(t, func(t *rapid.T) {
		l := drawLife(t)
		for range rapid.IntRange(0, 120).Draw(t, "steps") {
			if l.step(t, true); l.deleted {
				acts += l.acts
				return
			}
		}
		l.enable()
		l.s.Channel = true
		quiet := 40 + 20
		for range quiet {
			if l.deleted {
				break
			}
			l.step(t, false)
		}
		require.Equal(t, l.s.Policy.DeleteUnused > 0, l.deleted, "L2: a token that nobody uses is deleted")
		if l.s.Policy.DeleteUnused == 0 && l.s.Policy.DowngradeUnused > 0 {
			require.NotEqual(t, token.ReadWrite, l.s.Token.Grant.Access, "L1: a token that nobody writes with comes down")
		}
		acts += l.acts
	})
	require.NotZero(t, acts, "lives in which nothing happens prove nothing")
}

// Without faults, every date is exact: the notice so long before the window ends,
// the act at its end, whatever stops lie in it.
func TestWithoutFaultsEveryDateIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLife(t)
		l.s.Policy.DeleteUnused, l.s.Policy.DowngradeUnused, l.s.Policy.Notice = 20*l.bucket, 0, 3*l.bucket
		last := l.s.Token.CreatedAt
		for range rapid.IntRange(0, 30).Draw(t, "busy") {
			l.now = l.now.Add(l.bucket)
			if rapid.Bool().Draw(t, "used") {
				l.uses = append(l.uses, use{at: l.now.Add(-1), seen: true})
				last = l.now
			}
		}
		// Time passes bucket by bucket from the last use on; stopped ones do not count.
		stops := map[int]bool{}
		for i := range 40 {
			stops[i] = rapid.IntRange(0, 3).Draw(t, "stops") == 0
		}
		served, end := 0, last
		for i := 0; served < 20; i++ {
			if stops[i] {
				l.gaps = append(l.gaps, token.Gap{From: end, To: end.Add(l.bucket)})
			} else {
				served++
			}
			end = end.Add(l.bucket)
		}
		// All stops are known from the start, so that dates do not move.
		l.through = end.Add(100 * l.bucket)
		l.observe()
		notice := end.Add(-3 * l.bucket)
		for _, at := range []time.Time{last, notice.Add(-1)} {
			l.now = at
			l.run(t)
			require.Empty(t, l.mails)
		}
		l.now = notice
		l.run(t)
		require.Len(t, l.mails, 1)
		require.True(t, l.mails[0].Due.Equal(end))
		l.mails[0].Accepted = notice
		l.now = end.Add(-1)
		l.run(t)
		require.False(t, l.deleted)
		l.now = end
		l.run(t)
		require.True(t, l.deleted)
	})
}

// drawSubject is a subject of which anything may have happened, its notices out
// of a real plan or not.
func drawSubject(t *rapid.T) *token.Subject {
	at := func(what string) time.Time {
		return birth.Add(time.Duration(rapid.IntRange(0, 90*4).Draw(t, what)) * (oneDay / 4))
	}
	s := subject(neverDeleted)
	if rapid.Bool().Draw(t, "deletes") {
		s.Policy.DeleteUnused = time.Duration(rapid.IntRange(1, 60).Draw(t, "delete")) * oneDay
	}
	s.Policy.DowngradeUnused = time.Duration(rapid.IntRange(0, 60).Draw(t, "downgrade")) * oneDay
	s.Policy.Notice = time.Duration(rapid.IntRange(0, 10).Draw(t, "notice")) * oneDay
	if rapid.Bool().Draw(t, "custom") {
		custom("a", "b", "c")(s)
	} else {
		readWrite(s)
	}
	s.Use.Last = at("last")
	for _, scope := range lifeScopes {
		if rapid.Bool().Draw(t, "used") {
			s.Use.Scopes = append(s.Use.Scopes, token.ScopeUse{Scope: scope, Last: at("use")})
		}
	}
	for range rapid.IntRange(0, 3).Draw(t, "notices") {
		n := token.Notice{Kind: token.DeleteUnused, Created: at("created"), Due: at("due")}
		if rapid.Bool().Draw(t, "of a downgrade") {
			n.Kind = token.Downgrade
			if s.Token.Grant.Access == token.Custom {
				n.Scopes = rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), rapid.ID[string]).Draw(t, "named")
			}
		}
		if rapid.IntRange(0, 4).Draw(t, "accepted?") > 0 {
			n.Accepted = at("accepted")
		}
		s.Notices = append(s.Notices, n)
	}
	s.Coverage = token.NewCoverage(birth, day(1000), drawGaps(t, at))
	return s
}

func drawGaps(t *rapid.T, at func(string) time.Time) []token.Gap {
	var list []token.Gap
	for range rapid.IntRange(0, 2).Draw(t, "gaps") {
		from := at("from")
		list = append(list, token.Gap{From: from, To: from.Add(time.Duration(rapid.IntRange(0, 8).Draw(t, "long")) * oneDay), Blind: rapid.Bool().Draw(t, "blind")})
	}
	return list
}

// lost is what a subject loses at a time: all, or scopes.
func lost(s *token.Subject, now time.Time) (all bool, scopes []string) {
	for _, a := range token.Plan(s, now) {
		switch {
		case !a.Ready():
		case a.Kind == token.DeleteUnused:
			all = true
		case a.Kind == token.Downgrade && a.Grant.Access == token.ReadOnly:
			scopes = append(scopes, "write")
		case a.Kind == token.Downgrade:
			scopes = append(scopes, a.Scopes...)
		}
	}
	return all, scopes
}

// I1: whatever else becomes known, a use, a gap, an exemption, or that less is
// known than was thought, nothing more is taken than would have been without.
func TestMoreKnowledgeNeverTakesMore(t *testing.T) {
	takes := 0
	property := func(t *rapid.T) {
		s := drawSubject(t)
		// Of two that stand at once, what becomes known may call off the one with the
		// later date. A notice is only given while none of its kind stands.
		kinds := map[token.ActionKind]bool{}
		s.Notices = slices.DeleteFunc(s.Notices, func(n token.Notice) bool {
			again := kinds[n.Kind]
			kinds[n.Kind] = true
			return again
		})
		now := day(float64(rapid.IntRange(40, 140).Draw(t, "now")))
		all, scopes := lost(s, now)
		if all || len(scopes) > 0 {
			takes++
		}
		more := *s
		more.Use.Scopes = slices.Clone(s.Use.Scopes)
		at := func(what string) time.Time { return day(float64(rapid.IntRange(0, 140).Draw(t, what))) }
		used := ""
		switch rapid.IntRange(0, 5).Draw(t, "what") {
		case 0:
			more.Use.Last = latest(more.Use.Last, at("used"))
		case 1:
			scope := rapid.SampledFrom(lifeScopes).Draw(t, "scope")
			used = scope.Name
			more.Use.Scopes = append(more.Use.Scopes, token.ScopeUse{Scope: scope, Last: latest(now, at("used"))})
		case 2:
			more.Coverage = token.NewCoverage(birth, day(1000), append(s.Coverage.Gaps(), drawGaps(t, at)...))
		case 3:
			more.Coverage = token.NewCoverage(birth, at("through"), s.Coverage.Gaps())
		case 4:
			more.History.ExemptUntil = at("exempt")
		case 5:
			more.History.Observed = at("observed")
		}
		moreAll, moreScopes := lost(&more, now)
		require.False(t, moreAll && !all, "L2")
		if all {
			return
		}
		for _, name := range moreScopes {
			require.NotEqual(t, used, name, "L4: what is used stays")
			require.False(t, name == "write" && used != "" && natureOf(used) == token.Write)
			// Use of one scope lets others go that were the last ones (never to
			// nothing), and only then is more taken with it than without.
			if used == "" {
				require.Contains(t, scopes, name, "L1")
			}
		}
	}
	// Something is taken of a few in a hundred.
	for try := 0; try == 0 || takes == 0 && try < 50; try++ {
		rapid.Check(t, property)
	}
	require.NotZero(t, takes, "subjects of which nothing is taken prove nothing")
}

// Whatever stands in a record, Plan ends, takes nothing without a notice, and
// gives its actions in the order of time.
func TestAnySubjectHasAPlanInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		times := rapid.Custom(func(t *rapid.T) time.Time {
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				return time.Time{}
			case 1:
				return time.Unix(rapid.Int64().Draw(t, "unix"), rapid.Int64Range(-1e18, 1e18).Draw(t, "nanos"))
			default:
				return day(float64(rapid.IntRange(-400_000, 2_000_000).Draw(t, "day")) / 10)
			}
		})
		spans := rapid.Custom(func(t *rapid.T) time.Duration {
			if rapid.Bool().Draw(t, "wild") {
				return time.Duration(rapid.Int64().Draw(t, "nanos"))
			}
			return time.Duration(rapid.IntRange(0, 400).Draw(t, "days")) * oneDay
		})
		kinds := rapid.Map(rapid.Uint8Range(0, 13), func(v uint8) token.ActionKind { return token.ActionKind(v) })
		names := rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "b", "read", "write", "zz"}), 0, 4)
		var list []token.Gap
		for range rapid.IntRange(0, 4).Draw(t, "gaps") {
			list = append(list, token.Gap{From: times.Draw(t, "from"), To: times.Draw(t, "to"), Blind: rapid.Bool().Draw(t, "blind")})
		}
		s := subject()
		s.Token.State = token.State(rapid.Uint8Range(0, 6).Draw(t, "state"))
		s.Token.Grant = token.Grant{Access: token.Access(rapid.Uint8Range(0, 4).Draw(t, "access")), Scopes: names.Draw(t, "scopes")}
		s.Token.CreatedAt, s.Token.LifetimeFrom = times.Draw(t, "created"), times.Draw(t, "lifetime")
		s.Token.ExpiresAt, s.Token.EndedAt = times.Draw(t, "expires"), times.Draw(t, "ended")
		s.History = token.History{Observed: times.Draw(t, "observed"), LevelSince: times.Draw(t, "level"), ExemptUntil: times.Draw(t, "exempt")}
		s.Policy.DeleteUnused, s.Policy.DowngradeUnused = spans.Draw(t, "delete"), spans.Draw(t, "downgrade")
		s.Policy.Notice, s.Policy.MaxLifetime = spans.Draw(t, "notice"), spans.Draw(t, "max")
		s.Use = token.Use{Last: times.Draw(t, "last"), Previous: times.Draw(t, "previous")}
		for _, name := range names.Draw(t, "used") {
			s.Use.Scopes = append(s.Use.Scopes, token.ScopeUse{
				Scope: token.Scope{Name: name, Nature: token.Nature(rapid.Uint8Range(0, 3).Draw(t, "nature"))}, Last: times.Draw(t, "use"),
			})
		}
		for range rapid.IntRange(0, 3).Draw(t, "notices") {
			s.Notices = append(s.Notices, token.Notice{
				Kind: kinds.Draw(t, "notice of"), Due: times.Draw(t, "due"), Created: times.Draw(t, "written"),
				Accepted: times.Draw(t, "accepted"), Scopes: names.Draw(t, "named"), Voided: rapid.Bool().Draw(t, "voided"),
			})
		}
		s.Secrets = []token.SecretRecord{{
			TokenID: "tok_1", Status: token.SecretStatus(rapid.Uint8Range(0, 4).Draw(t, "status")), ExpiresAt: times.Draw(t, "grace"),
		}}
		s.Coverage = token.NewCoverage(times.Draw(t, "since"), times.Draw(t, "through"), list)
		now := times.Draw(t, "now")
		plan := token.Plan(s, now)
		if s.Check() != nil {
			require.Empty(t, plan)
		}
		for i, a := range plan {
			require.Equal(t, a.Ready(), a.Waits == 0)
			if i > 0 {
				require.False(t, a.Due.Before(plan[i-1].Due))
			}
			if a.Ready() {
				require.False(t, a.Due.After(now))
			}
			if a.Kind.Capped() && a.Ready() {
				require.False(t, a.Evidence.Notice.Accepted.IsZero(), "I4")
				require.False(t, a.Evidence.Notice.Accepted.Add(s.Policy.Notice).After(now), "I4")
				require.False(t, s.Coverage.Through.Before(a.Due))
				require.False(t, s.Use.Last.After(a.Evidence.From) && a.Kind == token.DeleteUnused, "I1")
			}
		}
	})
}
