package token_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
)

const oneDay = 24 * time.Hour

// birth is day 0 of the lives that are told here.
var birth = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)

func day(n float64) time.Time { return birth.Add(time.Duration(n * float64(oneDay))) }

// dayOf tells a time as a day of the life.
func dayOf(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%.4g", float64(t.Sub(birth))/float64(oneDay))
}

// told says in a line each what is planned.
func told(list []token.Action) []string {
	lines := []string{}
	for i := range list {
		a := &list[i]
		var b strings.Builder
		fmt.Fprintf(&b, "%s %s", dayOf(a.Due), a.Kind)
		if a.Cause != 0 {
			fmt.Fprintf(&b, " of %s: %s", a.Evidence.Notice.Kind, a.Cause)
		}
		if a.SecretID != "" {
			fmt.Fprintf(&b, " %s", a.SecretID)
		}
		if a.Grant.Access != 0 {
			fmt.Fprintf(&b, " to %s%v", a.Grant.Access, a.Grant.Scopes)
		}
		if len(a.Scopes) > 0 {
			fmt.Fprintf(&b, " without %v", a.Scopes)
		}
		if !a.Announces.IsZero() {
			fmt.Fprintf(&b, " announcing %s", dayOf(a.Announces))
		}
		if a.Waits != 0 {
			fmt.Fprintf(&b, ", waits: %s", a.Waits)
		}
		lines = append(lines, b.String())
	}
	return lines
}

type change func(*token.Subject)

// subject is a read-only token of birth that was never used, under the policy of
// section 7 of the rules, fully observed until day 1000.
func subject(changes ...change) *token.Subject {
	s := &token.Subject{
		Token: &token.Token{
			ID: "tok_1", AccountID: "acc_1", Grant: token.Grant{Access: token.ReadOnly}, Environment: token.Production,
			State: token.Active, CreatedAt: birth, LifetimeFrom: birth, Version: 1,
		},
		Account: &token.Account{ID: "acc_1"},
		Policy: &token.Policy{
			Name: token.DefaultPolicyName, DeleteUnused: 45 * oneDay, DowngradeUnused: 45 * oneDay, Notice: 7 * oneDay,
			RestoreWindow: 30 * oneDay, DowngradeUndo: true, DeleteExpiredAfter: 30 * oneDay,
			ExpiryWarnings: []time.Duration{30 * oneDay, 7 * oneDay, oneDay},
		},
		History:  token.History{Observed: birth, LevelSince: birth},
		Coverage: token.NewCoverage(birth.AddDate(-1, 0, 0), day(1000), nil),
		Channel:  true,
	}
	for _, c := range changes {
		c(s)
	}
	return s
}

func readWrite(s *token.Subject) { s.Token.Grant = token.Grant{Access: token.ReadWrite} }

func custom(scopes ...string) change {
	return func(s *token.Subject) { s.Token.Grant = token.Grant{Access: token.Custom, Scopes: scopes} }
}

// usedOn is a use whose bucket ends on a day.
func usedOn(n float64, scopes ...token.Scope) change {
	return func(s *token.Subject) {
		if s.Use.Last.Before(day(n)) {
			s.Use.Last = day(n)
		}
		for _, scope := range scopes {
			s.Use.Scopes = append(s.Use.Scopes, token.ScopeUse{Scope: scope, Last: day(n)})
		}
	}
}

// gaps covers until a day, with gaps.
func gaps(through float64, list ...token.Gap) change {
	return func(s *token.Subject) {
		s.Coverage = token.NewCoverage(birth.AddDate(-1, 0, 0), day(through), list)
	}
}

func stop(from, to float64) token.Gap  { return token.Gap{From: day(from), To: day(to)} }
func blind(from, to float64) token.Gap { return token.Gap{From: day(from), To: day(to), Blind: true} }

// notice was written on a day, names a date, and was accepted on another, or not
// if that is negative.
func notice(kind token.ActionKind, created, due, accepted float64, scopes ...string) change {
	return func(s *token.Subject) {
		n := token.Notice{
			ID: token.ID(fmt.Sprintf("pln_%d", len(s.Notices)+1)), Kind: kind,
			Created: day(created), Due: day(due), Scopes: scopes,
		}
		if accepted >= 0 {
			n.Accepted = day(accepted)
		}
		s.Notices = append(s.Notices, n)
	}
}

func exemptUntil(n float64) change {
	return func(s *token.Subject) { s.History.ExemptUntil = day(n) }
}

func expiring(n float64) change { return func(s *token.Subject) { s.Token.ExpiresAt = day(n) } }

func neverDeleted(s *token.Subject) { s.Policy.DeleteUnused = 0 }

func neverDowngraded(s *token.Subject) { s.Policy.DowngradeUnused = 0 }

var (
	scopeA = token.Scope{Name: "a", Nature: token.Read}
	scopeB = token.Scope{Name: "b", Nature: token.Write}
	scopeC = token.Scope{Name: "c", Nature: token.Write}
)

func TestPlanFollowsTheRules(t *testing.T) {
	del, down := token.DeleteUnused, token.Downgrade
	for _, c := range []struct {
		name string
		of   *token.Subject
		on   float64
		want []string
	}{
		// L2, L4: M6, M8.
		{"L2 M6 M8: an unused token is told of on day 38 and deleted on day 45", subject(), 10, []string{
			"38 notice_deletion announcing 45, waits: date",
			"45 delete_unused, waits: date notice",
		}},
		{"L4: the notice is due on day 38", subject(), 38, []string{
			"38 notice_deletion announcing 45",
			"45 delete_unused, waits: date notice",
		}},
		{"L4: a notice that was given late puts the act off", subject(), 41, []string{
			"38 notice_deletion announcing 48",
			"48 delete_unused, waits: date notice",
		}},
		{"L4: given and accepted, the act waits for its date", subject(notice(del, 38, 45, 38)), 44.999, []string{
			"45 delete_unused, waits: date",
		}},
		{"L4: and then it is ready", subject(notice(del, 38, 45, 38)), 45, []string{"45 delete_unused"}},
		{"L4 I4: accepted three days late, the act is three days late", subject(notice(del, 38, 45, 41)), 45, []string{
			"48 delete_unused, waits: date",
		}},
		{"L4 I4: not accepted, the act waits", subject(notice(del, 38, 45, -1)), 60, []string{
			"67 delete_unused, waits: date notice",
		}},
		{"L4: of several notices the accepted one counts, and the older of such", subject(
			notice(del, 38, 45, -1), notice(del, 40, 45, 43), notice(del, 39, 45, 39), notice(del, 41, 45, -1), notice(del, 40, 45, 44)), 46, []string{
			"46 delete_unused",
		}},
		{"I4: a notice cannot be accepted before it was written", subject(notice(del, 38, 45, 1)), 45, []string{"45 delete_unused"}},
		{"L4: without a channel there is neither notice nor act", subject(func(s *token.Subject) { s.Channel = false }, notice(del, 38, 45, 38)), 45, []string{
			"45 delete_unused, waits: channel",
		}},
		{"L4: and no notice of one", subject(func(s *token.Subject) { s.Channel = false }), 40, []string{
			"38 notice_deletion announcing 47, waits: channel",
			"47 delete_unused, waits: date notice channel",
		}},
		{"M7: use moves both dates, from the end of its bucket", subject(usedOn(11)), 40, []string{
			"49 notice_deletion announcing 56, waits: date",
			"56 delete_unused, waits: date notice",
		}},
		{"L4 M7: use after the notice calls it off", subject(notice(del, 38, 45, 38), usedOn(40)), 45, []string{
			"45 cancel_notice of delete_unused: used",
			"78 notice_deletion announcing 85, waits: date",
			"85 delete_unused, waits: date notice",
		}},
		{"L4: a late record of use before the notice calls it off too", subject(notice(del, 38, 45, 38), usedOn(30)), 45, []string{
			"45 cancel_notice of delete_unused: moved",
			"68 notice_deletion announcing 75, waits: date",
			"75 delete_unused, waits: date notice",
		}},
		{"M7: a use of a scope counts, even if the token's own last use says less", subject(func(s *token.Subject) {
			s.Use.Scopes = []token.ScopeUse{{Scope: scopeA, Last: day(20)}}
		}), 40, []string{
			"58 notice_deletion announcing 65, waits: date",
			"65 delete_unused, waits: date notice",
		}},
		{"L2: enabling, restoring and import count as creation does", subject(func(s *token.Subject) { s.History.Observed = day(20) }), 40, []string{
			"58 notice_deletion announcing 65, waits: date",
			"65 delete_unused, waits: date notice",
		}},
		{"section 5: a token older than observation starts with it", subject(func(s *token.Subject) {
			s.Coverage = token.NewCoverage(day(20), day(1000), nil)
		}), 40, []string{
			"58 notice_deletion announcing 65, waits: date",
			"65 delete_unused, waits: date notice",
		}},
		{"L4: what was announced before the token was enabled again is void", subject(notice(del, 38, 45, 38), func(s *token.Subject) { s.History.Observed = day(40) }), 45, []string{
			"45 cancel_notice of delete_unused: restarted",
			"78 notice_deletion announcing 85, waits: date",
			"85 delete_unused, waits: date notice",
		}},
		{"L2: a disabled token is left alone, and its notice is void", subject(notice(del, 38, 45, 38), notice(down, 38, 45, 38), func(s *token.Subject) { s.Token.State = token.Disabled }), 50, []string{
			"50 cancel_notice of downgrade: not_active",
			"50 cancel_notice of delete_unused: not_active",
		}},
		{"L2: so is one whose account is disabled", subject(func(s *token.Subject) { s.Account.Disabled = true }), 50, []string{}},
		{"L2: and one whose user is disabled", subject(func(s *token.Subject) {
			s.Token.UserID, s.User = "usr_1", &token.User{ID: "usr_1", AccountID: "acc_1", Disabled: true}
		}), 50, []string{}},
		{"L2: an enabled user's token is not", subject(func(s *token.Subject) {
			s.Token.UserID, s.User = "usr_1", &token.User{ID: "usr_1", AccountID: "acc_1"}
		}, notice(del, 38, 45, 38)), 50, []string{"45 delete_unused"}},
		{"policy: never", subject(neverDeleted, notice(del, 38, 45, 38)), 45, []string{
			"45 cancel_notice of delete_unused: policy",
		}},
		{"policy: a longer window voids what was announced under the shorter", subject(notice(del, 38, 45, 38), func(s *token.Subject) { s.Policy.DeleteUnused = 90 * oneDay }), 45, []string{
			"45 cancel_notice of delete_unused: moved",
			"83 notice_deletion announcing 90, waits: date",
			"90 delete_unused, waits: date notice",
		}},
		{"L4: a shorter window does not act before the date that people were told", subject(notice(del, 38, 45, 38), func(s *token.Subject) { s.Policy.DeleteUnused = 40 * oneDay }), 42, []string{
			"45 delete_unused, waits: date",
		}},
		{"L4: a longer notice holds for those that were given", subject(notice(del, 38, 45, 38), func(s *token.Subject) { s.Policy.Notice = 14 * oneDay }), 45, []string{
			"52 delete_unused, waits: date",
		}},
		{"L4: a notice that is longer than the window starts with it", subject(usedOn(3), func(s *token.Subject) { s.Policy.Notice = 60 * oneDay }), 2, []string{
			"3 notice_deletion announcing 63, waits: date",
			"63 delete_unused, waits: date notice",
		}},
		{"L4: a notice that was voided does not count", subject(notice(del, 38, 45, 38), func(s *token.Subject) { s.Notices[0].Voided = true }), 45, []string{
			"38 notice_deletion announcing 52",
			"52 delete_unused, waits: date notice",
		}},

		// Coverage.
		{"section 5: nothing is done before all that was used has arrived", subject(notice(del, 38, 45, 38), gaps(44.99)), 45, []string{
			"45 delete_unused, waits: coverage",
		}},
		{"section 5: and nobody is told before", subject(gaps(37.99)), 38, []string{
			"38 notice_deletion announcing 45, waits: coverage",
			"45 delete_unused, waits: date notice",
		}},
		{"L8: an act that was kept back waits until all uses since its date are told", subject(gaps(46.9), notice(del, 38, 45, 38)), 47, []string{
			"45 delete_unused, waits: coverage",
		}},
		{"L8: but not for those of the last moments", subject(gaps(46.97), notice(del, 38, 45, 38)), 47, []string{
			"45 delete_unused",
		}},
		{"F30: without coverage nothing is done, and nothing called off", subject(notice(del, 38, 45, 38), func(s *token.Subject) { s.Coverage = nil }), 45, []string{
			"45 delete_unused, waits: coverage",
		}},
		{"F30: coverage that never began", subject(func(s *token.Subject) { s.Coverage = token.NewCoverage(time.Time{}, day(90), nil) }), 10, []string{
			"38 notice_deletion announcing 45, waits: date coverage",
			"45 delete_unused, waits: date notice coverage",
		}},
		{"section 5: a clean stop stretches the window by its length", subject(gaps(1000, stop(10, 13))), 20, []string{
			"41 notice_deletion announcing 48, waits: date",
			"48 delete_unused, waits: date notice",
		}},
		{"section 5: a stop after the notice moves the act and keeps the notice", subject(notice(del, 38, 45, 38), gaps(1000, stop(40, 50))), 54.9, []string{
			"55 delete_unused, waits: date",
		}},
		{"section 5: a stop counts as far as it lies in the window", subject(usedOn(5), gaps(1000, stop(2, 6), stop(49, 52), stop(53.5, 54), stop(70, 90))), 51, []string{
			"47.5 notice_deletion announcing 58",
			"58 delete_unused, waits: date notice",
		}},
		{"section 5: a stop that goes on", subject(gaps(40, token.Gap{From: day(40)})), 60, []string{
			"58 notice_deletion announcing 67, waits: coverage",
			"67 delete_unused, waits: date notice",
		}},
		{"section 5: blind time restarts the window at its end", subject(gaps(1000, blind(10, 13))), 20, []string{
			"51 notice_deletion announcing 58, waits: date",
			"58 delete_unused, waits: date notice",
		}},
		{"L4: blind time voids the notice", subject(notice(del, 38, 45, 38), gaps(1000, blind(40, 41))), 45, []string{
			"45 cancel_notice of delete_unused: blind",
			"79 notice_deletion announcing 86, waits: date",
			"86 delete_unused, waits: date notice",
		}},
		{"L4: blind time voids it also when the window had ended before", subject(notice(del, 38, 45, 42), gaps(1000, blind(46, 46.5))), 49, []string{
			"49 cancel_notice of delete_unused: blind",
			"84.5 notice_deletion announcing 91.5, waits: date",
			"91.5 delete_unused, waits: date notice",
		}},
		{"section 5: while blind time goes on nothing happens", subject(notice(del, 38, 45, 38), gaps(1000, token.Gap{From: day(44), Blind: true})), 46, []string{
			"46 cancel_notice of delete_unused: blind",
			"84 notice_deletion announcing 91, waits: date blind",
			"91 delete_unused, waits: date notice blind",
		}},

		// L7.
		{"L7: an exemption calls off what was announced, and notice follows it", subject(exemptUntil(100), notice(del, 38, 45, 38)), 40, []string{
			"40 cancel_notice of delete_unused: exempted",
			"100 notice_deletion announcing 107, waits: date exemption",
			"107 delete_unused, waits: date notice exemption",
		}},
		{"L7: at its end notice is given", subject(exemptUntil(100)), 100, []string{
			"100 notice_deletion announcing 107",
			"107 delete_unused, waits: date notice",
		}},
		{"L7: an exemption that ends before the notice changes nothing", subject(exemptUntil(20)), 30, []string{
			"38 notice_deletion announcing 45, waits: date",
			"45 delete_unused, waits: date notice",
		}},
		{"L7: a custom token's notice too", subject(custom("a", "b"), neverDeleted, usedOn(37, scopeA), exemptUntil(60), notice(down, 38, 45, 38, "b")), 45, []string{
			"45 cancel_notice of downgrade: exempted",
			"60 notice_downgrade to custom[a] without [b] announcing 67, waits: date exemption",
			"67 downgrade to custom[a] without [b], waits: date notice exemption",
		}},

		// L1: M2, M3, M4.
		{"L1 M2: read_write used only for reads comes down", subject(readWrite, neverDeleted, usedOn(37, token.ReadScope, scopeA)), 37, []string{
			"38 notice_downgrade to read_only[] announcing 45, waits: date",
			"45 downgrade to read_only[], waits: date notice",
		}},
		{"L1 M3: and does, once notice was given", subject(readWrite, neverDeleted, usedOn(44, scopeA), notice(down, 38, 45, 38)), 45, []string{
			"45 downgrade to read_only[]",
		}},
		{"L1 L4: a write calls it off", subject(readWrite, neverDeleted, notice(down, 38, 45, 38), usedOn(44, scopeA), usedOn(41, scopeB)), 45, []string{
			"45 cancel_notice of downgrade: used",
			"79 notice_downgrade to read_only[] announcing 86, waits: date",
			"86 downgrade to read_only[], waits: date notice",
		}},
		{"L1: a read_only token has nothing to lose", subject(neverDeleted, notice(down, 38, 45, 38)), 45, []string{
			"45 cancel_notice of downgrade: restarted",
		}},
		{"L1: the level counts from when it was held", subject(readWrite, neverDeleted, func(s *token.Subject) { s.History.LevelSince = day(30) }), 40, []string{
			"68 notice_downgrade to read_only[] announcing 75, waits: date",
			"75 downgrade to read_only[], waits: date notice",
		}},
		{"L1: held, and active, as in L2", subject(readWrite, neverDeleted, func(s *token.Subject) { s.History.Observed = day(30) }), 40, []string{
			"68 notice_downgrade to read_only[] announcing 75, waits: date",
			"75 downgrade to read_only[], waits: date notice",
		}},
		{"L1: policy never", subject(readWrite, neverDowngraded, neverDeleted, notice(down, 38, 45, 38)), 45, []string{
			"45 cancel_notice of downgrade: policy",
		}},
		{"L1: policy never, of a custom token", subject(custom("a", "b"), neverDowngraded, neverDeleted, notice(down, 38, 45, 38, "b")), 45, []string{
			"45 cancel_notice of downgrade: policy",
		}},
		{"L1 M2: custom comes down to the scopes used", subject(custom("a", "b", "c"), neverDeleted, usedOn(20, scopeB)), 20, []string{
			"38 notice_downgrade to custom[b] without [a c] announcing 45, waits: date",
			"45 downgrade to custom[b] without [a c], waits: date notice",
		}},
		{"L1: what was used in the window stays, however early", subject(custom("a", "b", "c"), neverDeleted, usedOn(1, scopeA), usedOn(20, scopeB)), 38, []string{
			"38 notice_downgrade to custom[a b] without [c] announcing 45",
			"45 downgrade to custom[a b] without [c], waits: date notice",
		}},
		{"L1: never to nothing", subject(custom("a", "b"), neverDeleted), 45, []string{}},
		{"L1: a used scope that it does not hold leaves it nothing either", subject(custom("a", "b"), neverDeleted, usedOn(44, scopeC)), 45, []string{}},
		{"L4: it takes what the notice named", subject(custom("a", "b", "c"), neverDeleted, usedOn(44, scopeB), notice(down, 38, 45, 38, "a")), 45, []string{
			"45 downgrade to custom[b c] without [a]",
		}},
		{"L4: use of one named scope takes that one out and keeps the date", subject(custom("a", "b", "c"), neverDeleted, usedOn(30, scopeB), usedOn(41, scopeC), notice(down, 38, 45, 38, "a", "c")), 45, []string{
			"45 downgrade to custom[b c] without [a]",
		}},
		{"L4: for good, however long the rest is put off", subject(custom("a", "b", "c"), neverDeleted, usedOn(149, scopeB), usedOn(41, scopeC), notice(down, 38, 45, 143, "a", "c")), 150, []string{
			"150 downgrade to custom[b c] without [a]",
		}},
		{"L4: use of all named scopes calls it off", subject(custom("a", "b"), neverDeleted, usedOn(41, scopeA), usedOn(42, scopeB), notice(down, 38, 45, 38, "a")), 45, []string{
			"45 cancel_notice of downgrade: used",
			"79 notice_downgrade to custom[b] without [a] announcing 86, waits: date",
			"86 downgrade to custom[b] without [a], waits: date notice",
		}},
		{"L1: a notice for a custom token says nothing of a read_write one", subject(readWrite, neverDeleted, notice(down, 38, 45, 38, "a")), 38, []string{
			"38 cancel_notice of downgrade: restarted",
			"38 notice_downgrade to read_only[] announcing 45",
			"45 downgrade to read_only[], waits: date notice",
		}},
		{"L1: a notice that names nothing says nothing of a custom token", subject(custom("a", "b"), neverDeleted, usedOn(38, scopeA), notice(down, 38, 45, 38)), 38, []string{
			"38 cancel_notice of downgrade: moved",
			"38 notice_downgrade to custom[a] without [b] announcing 45",
			"45 downgrade to custom[a] without [b], waits: date notice",
		}},
		{"L1: a notice that named all that is left now", subject(custom("a"), neverDeleted, notice(down, 38, 45, 38, "a")), 45, []string{
			"45 cancel_notice of downgrade: moved",
		}},
		{"L4: what the date moves to, late notice included, decides what is named", subject(custom("a", "b", "c"), neverDeleted, usedOn(1, scopeA), usedOn(44, scopeB)), 44, []string{
			"38 notice_downgrade to custom[b] without [a c] announcing 51",
			"51 downgrade to custom[b] without [a c], waits: date notice",
		}},

		// L1 and L2 together.
		{"L1 L2: who loses everything is not told of losing a part", subject(readWrite), 20, []string{
			"38 notice_deletion announcing 45, waits: date",
			"45 delete_unused, waits: date notice",
		}},
		{"L1 L2: the downgrade comes first when its window is shorter", subject(readWrite, func(s *token.Subject) { s.Policy.DeleteUnused = 90 * oneDay }), 20, []string{
			"38 notice_downgrade to read_only[] announcing 45, waits: date",
			"45 downgrade to read_only[], waits: date notice",
			"83 notice_deletion announcing 90, waits: date",
			"90 delete_unused, waits: date notice",
		}},
		{"L1 L2: a used token that never wrote", subject(readWrite, usedOn(20, scopeA)), 20, []string{
			"38 notice_downgrade to read_only[] announcing 45, waits: date",
			"45 downgrade to read_only[], waits: date notice",
			"58 notice_deletion announcing 65, waits: date",
			"65 delete_unused, waits: date notice",
		}},

		// L3: O4, O5, O6.
		{"L3 O4 O6: warnings, expiry and deletion, used or not", subject(neverDeleted, usedOn(99), expiring(100)), 50, []string{
			"70 warn_expiry announcing 100, waits: date",
			"93 warn_expiry announcing 100, waits: date",
			"99 warn_expiry announcing 100, waits: date",
			"100 expire announcing 100, waits: date",
			"130 delete_expired, waits: date",
		}},
		{"O6: each warning is given once", subject(neverDeleted, expiring(100), notice(token.WarnExpiry, 70, 100, -1)), 93, []string{
			"93 warn_expiry announcing 100",
			"99 warn_expiry announcing 100, waits: date",
			"100 expire announcing 100, waits: date",
			"130 delete_expired, waits: date",
		}},
		{"O6: of warnings that are late the last one is enough", subject(neverDeleted, expiring(100)), 96, []string{
			"93 warn_expiry announcing 100",
			"99 warn_expiry announcing 100, waits: date",
			"100 expire announcing 100, waits: date",
			"130 delete_expired, waits: date",
		}},
		{"O6: another expiry is warned of anew", subject(neverDeleted, expiring(100), notice(token.WarnExpiry, 70, 99, 70)), 71, []string{
			"70 warn_expiry announcing 100",
			"93 warn_expiry announcing 100, waits: date",
			"99 warn_expiry announcing 100, waits: date",
			"100 expire announcing 100, waits: date",
			"130 delete_expired, waits: date",
		}},
		{"O6: who creates a token for a week is not warned of it at once", subject(expiring(7)), 0, []string{
			"6 warn_expiry announcing 7, waits: date",
			"7 expire announcing 7, waits: date",
			"37 delete_expired, waits: date",
		}},
		{"L3: a token that expires first is not deleted as unused", subject(expiring(45)), 46, []string{
			"45 expire announcing 45",
			"75 delete_expired, waits: date",
		}},
		{"L3: people are told of the expiry once", subject(expiring(45), notice(token.Expire, 45, 45, -1)), 46, []string{
			"75 delete_expired, waits: date",
		}},
		{"O4 section 7: the maximum lifetime ends it, a disabled one too, whatever is known of use", subject(func(s *token.Subject) {
			s.Policy.MaxLifetime, s.Policy.DeleteExpiredAfter, s.Policy.ExpiryWarnings = 180*oneDay, 0, nil
			s.Token.State, s.Coverage, s.Channel = token.Disabled, nil, false
		}), 180, []string{
			"180 expire announcing 180",
			"180 delete_expired",
		}},

		// Secrets.
		{"the end of a grace period", subject(neverDeleted, previous(1, 8)), 8, []string{"8 retire_secret sec_0"}},
		{"every grace period ends with the token", subject(previous(1, 8), expiring(5)), 5.5, []string{
			"5 expire announcing 5", "5 retire_secret sec_0", "35 delete_expired, waits: date",
		}},
		{"one without an end too", subject(previous(1, 0), expiring(5)), 5.5, []string{
			"5 expire announcing 5", "5 retire_secret sec_0", "35 delete_expired, waits: date",
		}},
		{"one without an end ends by a person, who is reminded", subject(neverDeleted, previous(1, 0)), 50, []string{"8 remind_rotation sec_0"}},
		{"T12: of a rotation that waits for a person every week, used or not", subject(neverDeleted, rotation(token.RotateUntilConfirmed, 3, 0)), 5, []string{
			"10 remind_rotation sec_0, waits: date",
		}},
		{"of one that waits for a first use too", subject(neverDeleted, rotation(token.RotateOnFirstUse, 3, 0)), 11, []string{"10 remind_rotation sec_0"}},
		{"not while the token is disabled", subject(neverDeleted, rotation(token.RotateOnFirstUse, 3, 0), func(s *token.Subject) { s.Token.State = token.Disabled }), 11, []string{}},
		{"nor past the token's own end", subject(func(s *token.Subject) { s.Policy.ExpiryWarnings = nil }, rotation(token.RotateUntilConfirmed, 3, 0), expiring(9)), 5, []string{
			"9 expire announcing 9, waits: date", "9 retire_secret sec_0, waits: date", "39 delete_expired, waits: date",
		}},
		{"a secret that was replaced unseen does not begin the rotation anew", subject(neverDeleted, previous(7, 9), rotation(token.RotateTimed, 1, 9), previousUsed(6)), 6, []string{
			"8 remind_rotation sec_0 announcing 9, waits: date", "9 retire_secret sec_0, waits: date",
		}},
		{"what is stored of an earlier rotation says nothing of this one", subject(neverDeleted, previous(4, 8), previousUsed(5), func(s *token.Subject) {
			s.Rotation = token.Rotation{PreviousID: "sec_2", Mode: token.RotateOnFirstUse, StartedAt: day(0)}
		}), 6, []string{
			"7 remind_rotation sec_0 announcing 8, waits: date", "8 retire_secret sec_0, waits: date",
		}},
		{"people are reminded before the end while the secret is used", subject(neverDeleted, previous(1, 8), previousUsed(5)), 6, []string{
			"7 remind_rotation sec_0 announcing 8, waits: date", "8 retire_secret sec_0, waits: date",
		}},
		{"of a short period at its last quarter", subject(neverDeleted, previous(1, 2), previousUsed(2)), 1.8, []string{
			"1.75 remind_rotation sec_0 announcing 2", "2 retire_secret sec_0, waits: date",
		}},
		{"once", subject(neverDeleted, previous(1, 8), previousUsed(8), notice(token.RemindRotation, 7, 8, -1)), 7.5, []string{
			"8 retire_secret sec_0, waits: date",
		}},
		{"and not when it is not used", subject(neverDeleted, previous(1, 8), previousUsed(1)), 7.5, []string{
			"8 retire_secret sec_0, waits: date",
		}},
		{"nor after the end", subject(neverDeleted, previous(1, 8), previousUsed(8)), 8, []string{"8 retire_secret sec_0"}},
		{"weekly without an end", subject(neverDeleted, previous(1, 0), previousUsed(2)), 5, []string{"8 remind_rotation sec_0, waits: date"}},
		{"from the last reminder on", subject(neverDeleted, previous(1, 0), previousUsed(10), notice(token.RemindRotation, 8, 0, -1)), 15, []string{"15 remind_rotation sec_0"}},
		{"of an end that was moved again", subject(neverDeleted, rotation(token.RotateTimed, 1, 20), previousUsed(9), notice(token.RemindRotation, 7, 8, -1)), 9, []string{
			"19 remind_rotation sec_0 announcing 20, waits: date", "20 retire_secret sec_0, waits: date",
		}},

		// Ends.
		{"L5: a deleted token is purged after the restore window", subject(notice(del, 38, 45, 38), ended(token.Deleted, 45)), 50, []string{
			"50 cancel_notice of delete_unused: ended",
			"75 purge, waits: date",
		}},
		{"L5: and not before", subject(ended(token.Deleted, 45)), 75, []string{"75 purge"}},
		{"a revoked token stays, and what was announced of it is void", subject(notice(down, 38, 45, 38), expiring(60), ended(token.Revoked, 40)), 90, []string{
			"90 cancel_notice of downgrade: ended",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.NoError(t, c.of.Check())
			if diff := cmp.Diff(c.want, told(token.Plan(c.of, day(c.on)))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func previous(rotated, end float64) change {
	return func(s *token.Subject) {
		old := token.SecretRecord{ID: "sec_0", TokenID: "tok_1", Status: token.Previous, CreatedAt: birth}
		if end > 0 {
			old.ExpiresAt = day(end)
		}
		s.Secrets = []token.SecretRecord{
			{ID: "sec_1", TokenID: "tok_1", Status: token.Current, CreatedAt: day(rotated)},
			old,
			{ID: "sec_2", TokenID: "tok_1", Status: token.Retired, CreatedAt: birth, ExpiresAt: birth},
		}
	}
}

// rotation is previous with what is stored of it.
func rotation(mode token.RotationMode, began, end float64) change {
	return func(s *token.Subject) {
		previous(began, end)(s)
		s.Rotation = token.Rotation{PreviousID: "sec_0", Mode: mode, StartedAt: day(began)}
	}
}

func previousUsed(n float64) change { return func(s *token.Subject) { s.Use.Previous = day(n) } }

func ended(state token.State, n float64) change {
	return func(s *token.Subject) {
		s.Token.State, s.Token.EndedAt, s.Token.EndReason = state, day(n), token.EndUnused
	}
}

func TestEvidenceTellsWhyAnActionFollows(t *testing.T) {
	s := subject(readWrite, neverDeleted, usedOn(3, scopeB), usedOn(40, scopeA), gaps(60, stop(10, 12)), notice(token.Downgrade, 43, 50, 43))
	want := []token.Action{{
		Kind: token.Downgrade, TokenID: "tok_1", Due: day(50), Grant: token.Grant{Access: token.ReadOnly},
		Evidence: token.Evidence{
			From: day(3), To: day(50), LastUse: day(3), Used: []string{"a"}, Stretched: 2 * oneDay,
			Through: day(60), Notice: s.Notices[0],
		},
	}}
	require.Empty(t, cmp.Diff(want, token.Plan(s, day(50))))
	require.True(t, token.Plan(s, day(50))[0].Ready())

	s = subject(custom("a", "b", "c"), neverDeleted, usedOn(40, scopeA), usedOn(4, scopeC), gaps(60, blind(5, 6)), notice(token.Downgrade, 44, 51, 44, "b", "c"))
	want = []token.Action{{
		Kind: token.Downgrade, TokenID: "tok_1", Due: day(51),
		Grant: token.Grant{Access: token.Custom, Scopes: []string{"a"}}, Scopes: []string{"b", "c"},
		Evidence: token.Evidence{
			From: day(6), To: day(51), LastUse: day(4), Used: []string{"a"}, Unused: []string{"b", "c"},
			BlindUntil: day(6), Through: day(60), Notice: s.Notices[0],
		},
	}}
	require.Empty(t, cmp.Diff(want, token.Plan(s, day(55))))

	text, err := json.Marshal(want[0].Evidence)
	require.NoError(t, err)
	var read token.Evidence
	require.NoError(t, json.Unmarshal(text, &read))
	require.Empty(t, cmp.Diff(want[0].Evidence, read), "L10 judges an action by its stored evidence")
}

// What counts as a write decides what a read_write token loses. Every doubt is
// read as a write.
func TestAScopeOfDoubtfulNatureCountsAsAWrite(t *testing.T) {
	declared := func(name string) (token.Scope, bool) {
		switch name {
		case "now-read", "read", "write":
			return token.Scope{Name: name, Nature: token.Read}, true
		case "now-write":
			return token.Scope{Name: name, Nature: token.Write}, true
		default:
			return token.Scope{}, false
		}
	}
	for _, c := range []struct {
		name   string
		scope  token.Scope
		nature func(string) (token.Scope, bool)
		writes bool
	}{
		{"built-in read", token.ReadScope, declared, false},
		{"built-in write, whatever is declared", token.Scope{Name: "write", Nature: token.Read}, declared, true},
		{"read then and now", token.Scope{Name: "now-read", Nature: token.Read}, declared, false},
		{"read then, write now", token.Scope{Name: "now-write", Nature: token.Read}, declared, true},
		{"write then, read now", token.Scope{Name: "now-read", Nature: token.Write}, declared, true},
		{"unknown then, read now", token.Scope{Name: "now-read"}, declared, false},
		{"not declared any more", token.Scope{Name: "gone", Nature: token.Read}, declared, true},
		{"read then, nobody to ask", token.Scope{Name: "gone", Nature: token.Read}, nil, false},
		{"unknown then, nobody to ask", token.Scope{Name: "gone"}, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := subject(readWrite, neverDeleted, notice(token.Downgrade, 38, 45, 38), usedOn(44, c.scope))
			s.ScopeNature = c.nature
			ready := false
			for _, a := range token.Plan(s, day(45)) {
				ready = ready || a.Kind == token.Downgrade && a.Ready()
			}
			require.Equal(t, !c.writes, ready)
		})
	}
}

// I1: nothing follows from a record that cannot be right.
func TestASubjectThatCannotBeRightHasNoPlan(t *testing.T) {
	far := time.Date(10001, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, spoil := range map[string]change{
		"no token":                   func(s *token.Subject) { s.Token = nil },
		"no account":                 func(s *token.Subject) { s.Account = nil },
		"no policy":                  func(s *token.Subject) { s.Policy = nil },
		"no ID":                      func(s *token.Subject) { s.Token.ID = "" },
		"no account's ID":            func(s *token.Subject) { s.Token.AccountID = "" },
		"another account":            func(s *token.Subject) { s.Account.ID = "acc_2" },
		"another's policy":           func(s *token.Subject) { s.Account.Policy = "strict" },
		"a user too few":             func(s *token.Subject) { s.Token.UserID = "usr_1" },
		"a user too many":            func(s *token.Subject) { s.User = &token.User{ID: "usr_1", AccountID: "acc_1"} },
		"another user":               func(s *token.Subject) { s.Token.UserID, s.User = "usr_1", &token.User{ID: "usr_2", AccountID: "acc_1"} },
		"a user of elsewhere":        func(s *token.Subject) { s.Token.UserID, s.User = "usr_1", &token.User{ID: "usr_1", AccountID: "acc_2"} },
		"another's secret":           func(s *token.Subject) { s.Secrets = []token.SecretRecord{{TokenID: "tok_2"}} },
		"no access":                  func(s *token.Subject) { s.Token.Grant.Access = 0 },
		"scopes without custom":      func(s *token.Subject) { s.Token.Grant.Scopes = []string{"a"} },
		"custom without scopes":      func(s *token.Subject) { s.Token.Grant = token.Grant{Access: token.Custom} },
		"scopes out of order":        custom("b", "a"),
		"a scope twice":              custom("a", "a"),
		"too many scopes":            custom(strings.Fields(scopeList(token.MaxScopes + 1))...),
		"no state":                   func(s *token.Subject) { s.Token.State = 0 },
		"expired, as stored":         func(s *token.Subject) { s.Token.State = token.Expired },
		"an unknown state":           func(s *token.Subject) { s.Token.State = token.Deleted + 1 },
		"a negative window":          func(s *token.Subject) { s.Policy.DeleteUnused = -1 },
		"a negative lifetime":        func(s *token.Subject) { s.Policy.MaxLifetime = -1 },
		"an endless notice":          func(s *token.Subject) { s.Policy.Notice = token.MaxPolicyDuration + 1 },
		"a negative warning":         func(s *token.Subject) { s.Policy.ExpiryWarnings = []time.Duration{-1} },
		"no creation":                func(s *token.Subject) { s.Token.CreatedAt = time.Time{} },
		"a lifetime from never":      func(s *token.Subject) { s.Policy.MaxLifetime, s.Token.LifetimeFrom = oneDay, time.Time{} },
		"deleted, nobody knows when": func(s *token.Subject) { s.Token.State = token.Deleted },
		"an expiry out of years":     func(s *token.Subject) { s.Token.ExpiresAt = far },
		"a use out of years":         func(s *token.Subject) { s.Use.Last = far },
		"a scope's use out of years": func(s *token.Subject) { s.Use.Scopes = []token.ScopeUse{{Last: far}} },
		"a notice out of years":      func(s *token.Subject) { s.Notices = []token.Notice{{Due: far}} },
		"a secret out of years":      func(s *token.Subject) { s.Secrets = []token.SecretRecord{{TokenID: "tok_1", ExpiresAt: far}} },
		"coverage out of years":      func(s *token.Subject) { s.Coverage = token.NewCoverage(birth, far, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			s := subject(notice(token.DeleteUnused, 38, 45, 38))
			require.NotEmpty(t, token.Plan(s, day(500)))
			spoil(s)
			require.Error(t, s.Check())
			require.Empty(t, token.Plan(s, day(500)))
		})
	}
	var none *token.Subject
	require.Error(t, none.Check())
	require.Empty(t, token.Plan(none, day(1)))
	require.Empty(t, token.Plan(subject(), time.Time{}))
	require.Empty(t, token.Plan(subject(), far))
}

func scopeList(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "s%04d ", i)
	}
	return b.String()
}

func TestPlansAreAppendedAndLeaveTheSubjectAsItIs(t *testing.T) {
	first := []token.Action{{Kind: token.Purge, Due: day(9999)}}
	s := subject(custom("a", "b"), usedOn(20, scopeA), expiring(300), notice(token.DeleteUnused, 10, 17, 10))
	before := subject(custom("a", "b"), usedOn(20, scopeA), expiring(300), notice(token.DeleteUnused, 10, 17, 10))
	list := token.AppendPlan(first, s, day(30))
	require.Equal(t, token.Purge, list[0].Kind, "what was there stays first")
	require.Equal(t, told(token.Plan(s, day(30))), told(list[1:]))
	require.Empty(t, cmp.Diff(before, s, cmp.Comparer(func(a, b *token.Coverage) bool { return cmp.Equal(a.Gaps(), b.Gaps()) })))
}

func TestPlanTellsTimesInUTCWhateverZoneTheClockHas(t *testing.T) {
	zone := time.FixedZone("east", 5*3600+1800)
	s := subject(notice(token.DeleteUnused, 38, 45, 38))
	for _, now := range []float64{10, 45, 60} {
		require.Equal(t, told(token.Plan(s, day(now))), told(token.Plan(s, day(now).In(zone))))
	}
	s = subject(exemptUntil(100), notice(token.DeleteUnused, 38, 45, 38))
	require.Equal(t, day(40), token.Plan(s, day(40).In(zone))[0].Due)
}

func TestKindsWaitsAndCausesHaveOneSpelling(t *testing.T) {
	for k := token.NoticeDowngrade; k <= token.Purge; k++ {
		text, err := k.MarshalText()
		require.NoError(t, err)
		require.Equal(t, k.String(), string(text))
		var read token.ActionKind
		require.NoError(t, read.UnmarshalText(text))
		require.Equal(t, k, read)
	}
	for c := token.CauseUsed; c <= token.CauseMoved; c++ {
		text, err := c.MarshalText()
		require.NoError(t, err)
		require.Equal(t, c.String(), string(text))
		var read token.Cause
		require.NoError(t, read.UnmarshalText(text))
		require.Equal(t, c, read)
	}
	_, err := token.ActionKind(0).MarshalText()
	require.Error(t, err)
	_, err = (token.CauseMoved + 1).MarshalText()
	require.Error(t, err)
	all := token.WaitDate | token.WaitNotice | token.WaitCoverage | token.WaitBlind | token.WaitExempt | token.WaitChannel
	require.Equal(t, "date notice coverage blind exemption channel", all.String())
	require.Equal(t, []string{}, token.Waits(0).Names())
	require.Equal(t, []string{"notice", "invalid(64)"}, (token.WaitNotice | 64).Names())
	require.True(t, all.Has(token.WaitDate|token.WaitBlind))
	require.False(t, token.WaitDate.Has(token.WaitDate|token.WaitBlind))
}

func TestOnlyWhatTakesSomethingWaitsAfterALeapAndOnlyL1AndL2AreCapped(t *testing.T) {
	var takes, capped []token.ActionKind
	for k := token.NoticeDowngrade; k <= token.Purge; k++ {
		if k.Takes() {
			takes = append(takes, k)
		}
		if k.Capped() {
			capped = append(capped, k)
		}
	}
	require.Equal(t, []token.ActionKind{token.Downgrade, token.DeleteUnused, token.DeleteExpired, token.RetireSecret, token.Purge}, takes)
	require.Equal(t, []token.ActionKind{token.Downgrade, token.DeleteUnused}, capped)
}
