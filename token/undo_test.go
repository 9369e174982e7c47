package token_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
)

func TestADowngradeCanBeUndone(t *testing.T) {
	before := token.Grant{Access: token.Custom, Scopes: []string{"a", "b"}}
	for _, c := range []struct {
		name  string
		spoil func(*token.Token, *token.History, *token.Policy)
		on    float64
		want  token.NoUndo
	}{
		{"L6: within the window, with exactly what it had", nil, 50, 0},
		{"L6: a disabled token too", func(tok *token.Token, _ *token.History, _ *token.Policy) { tok.State = token.Disabled }, 50, 0},
		{"L6: to the last moment", nil, 74.999, 0},
		{"L6: and not after", nil, 75, token.UndoTooLate},
		{"L6: where the policy allows", func(_ *token.Token, _ *token.History, p *token.Policy) { p.DowngradeUndo = false }, 50, token.UndoOff},
		{"there was none", func(_ *token.Token, h *token.History, _ *token.Policy) { *h = token.History{} }, 50, token.NothingToUndo},
		{"the token is revoked", func(tok *token.Token, _ *token.History, _ *token.Policy) { tok.State = token.Revoked }, 50, token.EndedByPerson},
		{"somebody gave it other permissions since", func(_ *token.Token, h *token.History, _ *token.Policy) { h.LevelSince = day(46) }, 50, token.ChangedSince},
		{"nobody knows what it had", func(_ *token.Token, h *token.History, _ *token.Policy) { h.Before = token.Grant{} }, 50, token.NotEnoughKnown},
		{"what it had cannot be", func(_ *token.Token, h *token.History, _ *token.Policy) { h.Before.Scopes = nil }, 50, token.NotEnoughKnown},
	} {
		t.Run(c.name, func(t *testing.T) {
			tok := &token.Token{ID: "tok_1", State: token.Active, Grant: token.Grant{Access: token.Custom, Scopes: []string{"a"}}}
			h := &token.History{LevelSince: day(45), DowngradedAt: day(45), UndoUntil: day(75), Before: before}
			p := &token.Policy{DowngradeUndo: true}
			if c.spoil != nil {
				c.spoil(tok, h, p)
			}
			grant, no := token.UndoDowngrade(tok, h, p, day(c.on))
			require.Equal(t, c.want, no)
			if no == 0 {
				require.Equal(t, before, grant)
			} else {
				require.Zero(t, grant)
			}
		})
	}
}

func TestADeletedTokenCanBeRestored(t *testing.T) {
	for _, c := range []struct {
		name    string
		spoil   func(*token.Token, *token.Policy)
		expires time.Time
		on      float64
		want    token.NoUndo
	}{
		{"L5: deleted as unused", nil, time.Time{}, 50, 0},
		{"L5: within the restore window", nil, time.Time{}, 75, token.UndoTooLate},
		{"O21 S13: a person's deletion is for good", func(tok *token.Token, _ *token.Policy) { tok.EndReason = "deleted_by_person" }, time.Time{}, 50, token.EndedByPerson},
		{"O21: so is a revocation", func(tok *token.Token, _ *token.Policy) { tok.State = token.Revoked }, time.Time{}, 50, token.EndedByPerson},
		{"an active token", func(tok *token.Token, _ *token.Policy) { tok.State = token.Active }, time.Time{}, 50, token.NothingToUndo},
		{"nobody knows when", func(tok *token.Token, _ *token.Policy) { tok.EndedAt = time.Time{} }, time.Time{}, 50, token.NotEnoughKnown},
		{"L5: an expired one needs a new expiry", func(tok *token.Token, _ *token.Policy) { tok.EndReason = token.EndExpired }, time.Time{}, 50, token.ExpiryNeeded},
		{"L5: and has it", func(tok *token.Token, _ *token.Policy) { tok.EndReason = token.EndExpired }, day(90), 50, 0},
		{"one that has not come yet", nil, day(50), 50, token.ExpiryNeeded},
		{"an unused one that would have expired meanwhile", func(tok *token.Token, _ *token.Policy) { tok.ExpiresAt = day(49) }, time.Time{}, 50, token.ExpiryNeeded},
		{"an unused one keeps its expiry", func(tok *token.Token, _ *token.Policy) { tok.ExpiresAt = day(51) }, time.Time{}, 50, 0},
		{"O4: none beyond the maximum lifetime, which counts anew", func(_ *token.Token, p *token.Policy) { p.MaxLifetime = 10 * oneDay }, day(60).Add(1), 50, token.ExpiryTooLate},
		{"O4: one up to it", func(_ *token.Token, p *token.Policy) { p.MaxLifetime = 10 * oneDay }, day(60), 50, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			tok := &token.Token{ID: "tok_1", State: token.Deleted, EndedAt: day(45), EndReason: token.EndUnused}
			p := &token.Policy{RestoreWindow: 30 * oneDay}
			if c.spoil != nil {
				c.spoil(tok, p)
			}
			require.Equal(t, c.want, token.Restore(tok, p, c.expires, day(c.on)))
		})
	}
	require.Equal(t, "too_late", token.UndoTooLate.String())
	require.Equal(t, "not_enough_known", token.NotEnoughKnown.String())
}

// fact is a use of a scope on a day, in the bucket of that day.
func fact(n float64, scope token.Scope) token.Fact {
	bucket := day(n).Truncate(oneDay)
	return token.Fact{TokenID: "tok_1", SecretID: "sec_1", Scope: scope, Bucket: bucket, Until: bucket.Add(oneDay), First: day(n)}
}

func TestALateFactShowsThatAnActionWasWrong(t *testing.T) {
	deletion := token.Done{Kind: token.DeleteUnused, At: day(45), Evidence: token.Evidence{From: day(0), To: day(45)}}
	narrowed := token.Done{
		Kind: token.Downgrade, At: day(45), Evidence: token.Evidence{From: day(0), To: day(45)},
		Before: token.Grant{Access: token.Custom, Scopes: []string{"a", "b"}},
		After:  token.Grant{Access: token.Custom, Scopes: []string{"a"}},
	}
	lowered := narrowed
	lowered.Before, lowered.After = token.Grant{Access: token.ReadWrite}, token.Grant{Access: token.ReadOnly}
	expired := deletion
	expired.Kind = token.DeleteExpired

	for _, c := range []struct {
		name string
		done token.Done
		fact token.Fact
		want bool
	}{
		{"L10: a use in the window", deletion, fact(20, token.Scope{}), true},
		{"L10: in the bucket in which the window ends", deletion, fact(44.9, scopeA), true},
		{"in the bucket in which it starts", deletion, fact(0.1, scopeA), true},
		{"before the window", deletion, fact(-0.1, scopeA), false},
		{"after the act", deletion, fact(45.01, scopeA), false},
		{"within what a clock may be off", deletion, fact(45.0006, scopeA), true},
		{"of no known time", deletion, token.Fact{TokenID: "tok_1"}, false},
		{"of a known bucket", deletion, token.Fact{TokenID: "tok_1", Bucket: day(3), Until: day(4)}, true},
		{"of a bucket that nobody knows the end of", deletion, token.Fact{TokenID: "tok_1", First: day(3)}, true},
		{"L10: a use of what a downgrade took", narrowed, fact(20, scopeB), true},
		{"of what it left", narrowed, fact(20, scopeA), false},
		{"of what it never held", narrowed, fact(20, scopeC), false},
		{"of no permission", narrowed, fact(20, token.Scope{}), false},
		{"L10: a write", lowered, fact(20, scopeB), true},
		{"a use of unknown nature", lowered, fact(20, token.Scope{Name: "x"}), true},
		{"a read", lowered, fact(20, scopeA), false},
		{"L3: expiry does not follow from use", expired, fact(20, scopeA), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, c.done.DisprovedBy(&c.fact))
		})
	}
	// A window that starts within a day: the bucket of its start reaches into it.
	deletion.Evidence.From = day(0.5)
	early := fact(0.2, scopeA)
	require.True(t, deletion.DisprovedBy(&early), "section 5: a use counts until the end of its bucket")
}

func TestWhatLateFactsDisproveIsPutBackExactly(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*token.Done, *token.Token)
		fact  token.Fact
		on    float64
		want  token.Repair
	}{
		{"L10: it gets back what it had", nil, fact(20, scopeB), 50, token.PutBack},
		{"the action was right", nil, fact(20, scopeA), 50, token.LetStand},
		{"a fact of another token", nil, token.Fact{TokenID: "tok_2", Scope: scopeB, First: day(20), Until: day(21)}, 50, token.LetStand},
		{"L10: as long as the record is kept", nil, fact(20, scopeB), 75, token.TellPeople},
		{"L10: and no person changed the token", func(d *token.Done, _ *token.Token) { d.Changed = true }, fact(20, scopeB), 50, token.TellPeople},
		{"it is not as the action left it", func(_ *token.Done, tok *token.Token) { tok.Grant.Access = token.ReadOnly }, fact(20, scopeB), 50, token.TellPeople},
		{"nor are its scopes", func(_ *token.Done, tok *token.Token) { tok.Grant.Scopes = []string{"c"} }, fact(20, scopeB), 50, token.TellPeople},
		{"it is revoked", func(_ *token.Done, tok *token.Token) { tok.State = token.Revoked }, fact(20, scopeB), 50, token.TellPeople},
		{"it is disabled, and stays so", func(_ *token.Done, tok *token.Token) { tok.State = token.Disabled }, fact(20, scopeB), 50, token.PutBack},
		{"what it had cannot be", func(d *token.Done, _ *token.Token) { d.Before.Scopes = []string{"b", "a"} }, fact(20, scopeB), 50, token.LetStand},
		{"L10: a deleted token", deletedUnused, fact(20, token.Scope{}), 50, token.PutBack},
		{"one that a person deleted then", func(d *token.Done, tok *token.Token) {
			deletedUnused(d, tok)
			tok.EndReason = "deleted_by_person"
		}, fact(20, scopeA), 50, token.TellPeople},
		{"one that was restored", func(d *token.Done, tok *token.Token) {
			deletedUnused(d, tok)
			tok.State = token.Active
		}, fact(20, scopeA), 50, token.TellPeople},
		{"one of which nobody knows what it had", func(d *token.Done, tok *token.Token) {
			deletedUnused(d, tok)
			d.Before = token.Grant{}
		}, fact(20, scopeA), 50, token.TellPeople},
	} {
		t.Run(c.name, func(t *testing.T) {
			tok := &token.Token{ID: "tok_1", State: token.Active, Grant: token.Grant{Access: token.Custom, Scopes: []string{"a"}}}
			d := &token.Done{
				Kind: token.Downgrade, At: day(45), Until: day(75), Evidence: token.Evidence{From: day(0), To: day(45)},
				Before: token.Grant{Access: token.Custom, Scopes: []string{"a", "b"}}, After: tok.Grant,
			}
			if c.spoil != nil {
				c.spoil(d, tok)
			}
			repair, grant := d.Repair(tok, []token.Fact{fact(-5, scopeB), c.fact}, day(c.on))
			require.Equal(t, c.want, repair)
			if repair == token.PutBack {
				require.Equal(t, d.Before, grant)
			} else {
				require.Zero(t, grant)
			}
		})
	}
}

func deletedUnused(d *token.Done, tok *token.Token) {
	d.Kind, d.After = token.DeleteUnused, d.Before
	tok.State, tok.EndReason, tok.Grant = token.Deleted, token.EndUnused, d.Before
}
