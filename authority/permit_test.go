package authority_test

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ncruces/go-sqlite3/driver"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// everyVerb is every method of the authority, on records that exist and with
// what makes it succeed. Those that change something come with the verb of their
// audit entry.
type everyVerb struct {
	changes map[authority.Verb]func(authority.By) error
	reads   map[authority.Verb]func(authority.By) error
}

func (h *house) everyVerb() everyVerb {
	h.t.Helper()
	active, disabled := h.create().Token.Token, h.bring(token.Disabled).Token.Token
	user := h.user("member")
	second := "second"
	h.write(func(tx *tokenstore.Tx) error {
		return tx.PutNode(tokenstore.Node{ID: "node_gone", StartedAt: h.clock.Now(), SeenAt: h.clock.Now().Add(-time.Hour)})
	})
	fail := func(_ any, err error) error { return err }
	return everyVerb{
		changes: map[authority.Verb]func(authority.By) error{
			authority.VerbCreateToken: func(by authority.By) error { return fail(h.CreateToken(ctx, by, h.newToken())) },
			authority.VerbEditToken: func(by authority.By) error {
				return fail(h.EditToken(ctx, by, active.ID, active.Version, authority.Edit{Name: ptr("x")}))
			},
			authority.VerbRotateToken:   func(by authority.By) error { return fail(h.RotateToken(ctx, by, active.ID, authority.Rotation{})) },
			authority.VerbEnableToken:   func(by authority.By) error { return fail(h.EnableToken(ctx, by, disabled.ID, true)) },
			authority.VerbDisableToken:  func(by authority.By) error { return fail(h.DisableToken(ctx, by, active.ID, true)) },
			authority.VerbRevokeToken:   func(by authority.By) error { return fail(h.RevokeToken(ctx, by, active.ID, true)) },
			authority.VerbDeleteToken:   func(by authority.By) error { return fail(h.DeleteToken(ctx, by, active.ID, true)) },
			authority.VerbCreateAccount: func(by authority.By) error { return fail(h.CreateAccount(ctx, by, authority.NewAccount{Name: "x"})) },
			authority.VerbEditAccount: func(by authority.By) error {
				return fail(h.EditAccount(ctx, by, h.account.ID, h.account.Version, authority.EditAccount{Disabled: ptr(true)}))
			},
			authority.VerbCreateUser: func(by authority.By) error {
				return fail(h.CreateUser(ctx, by, authority.NewUser{AccountID: h.account.ID, Name: "x", Role: "owner"}))
			},
			authority.VerbEditUser: func(by authority.By) error {
				return fail(h.EditUser(ctx, by, user.ID, user.Version, authority.EditUser{Role: ptr("owner")}))
			},
			authority.VerbDeclareScope: func(by authority.By) error {
				return h.Declare(ctx, by, authority.Declarations{
					Policies: []token.Policy{liberal()}, Scopes: append([]token.Scope{{Name: "new", Nature: token.Read}}, testScopes...),
				})
			},
			authority.VerbRotateMasterKey: func(by authority.By) error { return h.RotateMasterKey(ctx, by, second) },
			authority.VerbRemoveMasterKey: func(by authority.By) error { return fail(h.RemoveMasterKey(ctx, by, second, false)) },
			authority.VerbExemptToken: func(by authority.By) error {
				return fail(h.ExemptToken(ctx, by, active.ID, "yearly closing", h.clock.Now().Add(time.Hour), true))
			},
			authority.VerbRetireNode:     func(by authority.By) error { return fail(h.RetireNode(ctx, by, "node_gone", true, true)) },
			authority.VerbApplyLifecycle: func(by authority.By) error { return h.AskForPass(ctx, by) },
		},
		reads: map[authority.Verb]func(authority.By) error{
			authority.VerbShowToken:   func(by authority.By) error { return fail(h.Token(ctx, by, active.ID)) },
			authority.VerbVerifyToken: func(by authority.By) error { return fail(h.Verify(ctx, by, authority.Question{})) },
			authority.VerbListTokens:  func(by authority.By) error { _, _, err := h.Tokens(ctx, by, query{}); return err },
			authority.VerbShowAccount: func(by authority.By) error { return fail(h.Account(ctx, by, h.account.ID)) },
			authority.VerbListAccounts: func(by authority.By) error {
				_, _, err := h.Accounts(ctx, by, tokenstore.Page{})
				return err
			},
			authority.VerbShowUser:     func(by authority.By) error { return fail(h.User(ctx, by, user.ID)) },
			authority.VerbListUsers:    func(by authority.By) error { _, _, err := h.Users(ctx, by, "", tokenstore.Page{}); return err },
			authority.VerbListRoles:    func(by authority.By) error { return fail(h.Roles(ctx, by)) },
			authority.VerbListPolicies: func(by authority.By) error { return fail(h.Policies(ctx, by)) },
			authority.VerbListScopes:   func(by authority.By) error { return fail(h.Scopes(ctx, by)) },
			authority.VerbListAudit: func(by authority.By) error {
				_, _, err := h.AuditEntries(ctx, by, tokenstore.AuditQuery{})
				return err
			},
			authority.VerbVerifyAudit:    func(by authority.By) error { return fail(h.VerifyAudit(ctx, by, nil)) },
			authority.VerbShowMasterKeys: func(by authority.By) error { _, _, err := h.MasterKeys(ctx, by); return err },
			authority.VerbAddMasterKey:   func(by authority.By) error { return h.EnsureKeys(ctx, by) },
			authority.VerbTokenUsage: func(by authority.By) error {
				return fail(h.TokenUsage(ctx, by, active.ID, time.Time{}, time.Time{}))
			},
			authority.VerbListNodes: func(by authority.By) error { return fail(h.Nodes(ctx, by)) },
			authority.VerbListNotices: func(by authority.By) error {
				_, _, err := h.Notices(ctx, by, tokenstore.NoticeQuery{}, tokenstore.Page{})
				return err
			},
			authority.VerbPlanLifecycle:  func(by authority.By) error { return h.MayPlanLifecycle(ctx, by, "") },
			authority.VerbCoverage:       func(by authority.By) error { return h.MaySeeCoverage(ctx, by) },
			authority.VerbRecommendToken: func(by authority.By) error { return h.MayRecommend(ctx, by, active.ID) },
		},
	}
}

// Whoever is neither an operator nor the system may do nothing, and is not told
// what exists.
func TestAnUnknownKindOfActorMayDoNothing(t *testing.T) {
	h, _, _ := twoKeys(t)
	all := h.everyVerb()
	for _, kind := range []tokenstore.ActorKind{"", "user", "token", "Operator"} {
		by := authority.By{Actor: tokenstore.Actor{Kind: kind, Name: "eve"}}
		for _, verbs := range []map[authority.Verb]func(authority.By) error{all.changes, all.reads} {
			for verb, f := range verbs {
				t.Run(string(verb)+" by "+string(kind), func(t *testing.T) {
					h.t = t
					h.unchanged(authority.ErrForbidden, func() error { return f(by) })
				})
			}
		}
		h.t = t
		h.unchanged(authority.ErrForbidden, func() error {
			_, err := h.Token(ctx, by, "tok_00000000000000000000000000")
			return err
		})
	}
}

// Exactly one audit entry for each change, in its transaction, with who asked.
func TestEveryChangeHasOneAuditEntry(t *testing.T) {
	for verb := range (&house{}).verbNames(t) {
		t.Run(string(verb), func(t *testing.T) {
			h, _, _ := twoKeys(t)
			f := h.everyVerb().changes[verb]
			head, before := h.head(), h.position()
			h.clock.add(time.Second)
			require.NoError(t, f(kim))
			entries := h.entries(head)
			require.Len(t, entries, 1)
			require.Equal(t, string(verb), entries[0].Verb)
			require.Equal(t, "operator kim", entries[0].Actor)
			require.Equal(t, "req-1", entries[0].Request)
			step := before.Seq + 1
			if verb == authority.VerbRetireNode || verb == authority.VerbApplyLifecycle {
				step = before.Seq // no gate decides by it, so that none is told
			}
			require.Equal(t, step, h.position().Seq, "the entry and the change are one step")
			h.chainHolds()
		})
	}
}

func (*house) verbNames(t testing.TB) map[authority.Verb]bool {
	h, _, _ := twoKeys(t)
	names := map[authority.Verb]bool{}
	for verb := range h.everyVerb().changes {
		names[verb] = true
	}
	return names
}

func (h *house) position() tokenstore.Position {
	h.t.Helper()
	changes, err := h.Store.Changes(ctx, tokenstore.Position{})
	require.NoError(h.t, err)
	return changes.At
}

// I7: without its audit entry no change happens, whatever the verb.
func TestNoAuditNoChange(t *testing.T) {
	h, _, _ := twoKeys(t)
	all := h.everyVerb()
	db, err := driver.Open((&url.URL{Scheme: "file", Opaque: h.path}).String())
	require.NoError(t, err)
	defer db.Close()
	mustExec(t, db, `CREATE TRIGGER no_audit BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no space left for the audit log'); END`)
	before := h.world()
	for verb, f := range all.changes {
		t.Run(string(verb), func(t *testing.T) {
			h.t = t
			err := f(kim)
			require.Error(t, err)
			var refusal *authority.Error
			require.False(t, errors.As(err, &refusal), "the store's failure is not the caller's mistake")
			require.Empty(t, cmp.Diff(before, h.world()))
		})
	}
	h.t = t
	mustExec(t, db, `DROP TRIGGER no_audit`)
	require.NoError(t, all.changes[authority.VerbCreateToken](kim))
	h.chainHolds()
}

func mustExec(t testing.TB, db *sql.DB, statement string) {
	t.Helper()
	_, err := db.Exec(statement)
	require.NoError(t, err)
}

// racedStore answers writes with a conflict, as a store does when a record was
// changed in between.
type racedStore struct {
	tokenstore.Store
	races int
	calls int
}

func (s *racedStore) Write(ctx context.Context, f func(*tokenstore.Tx) error) error {
	s.calls++
	if s.calls > s.races {
		return s.Store.Write(ctx, f)
	}
	return s.Store.Write(ctx, func(tx *tokenstore.Tx) error {
		if err := f(tx); err != nil {
			return err
		}
		return tokenstore.ErrConflict
	})
}

// D22, F22: a race is tried again with fresh reads, and in the end is the store's
// unavailability, which can be asked again, and no internal error.
func TestARaceIsTriedAgain(t *testing.T) {
	h := build(t)
	inner := h.Store
	h.Store = &racedStore{Store: inner, races: 3}
	issued, err := h.CreateToken(ctx, kim, h.newToken())
	require.NoError(t, err)
	require.Empty(t, h.says(issued.Secret), "the secret that is handed out is the one that was stored")
	require.Equal(t, int64(1), issued.Token.Token.Version)

	head := h.head()
	for range 2 {
		h.Store = &racedStore{Store: inner, races: 1 << 30}
		failed, err := h.RotateToken(ctx, kim, issued.Token.Token.ID, authority.Rotation{})
		require.ErrorIs(t, err, tokenstore.ErrUnavailable)
		require.True(t, failed.Secret.IsZero(), "no secret leaves that was not stored")
		require.Empty(t, h.entries(head))
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = h.RotateToken(canceled, kim, issued.Token.Token.ID, authority.Rotation{})
	require.ErrorIs(t, err, context.Canceled)

	h.Store = inner
	require.NoError(t, inner.Close())
	_, err = h.Token(ctx, kim, issued.Token.Token.ID)
	require.ErrorIs(t, err, tokenstore.ErrUnavailable)
}

// D19: who asks is written to the audit log as it is.
func TestAnOperatorsNameIsPlain(t *testing.T) {
	h := build(t)
	for _, name := range []string{"kim\nroot", "\u202emik", "\xff", string(make([]rune, 101))} {
		by := kim
		by.Actor.Name = name
		refusal := h.unchanged(authority.ErrInvalidField, func() error { _, err := h.CreateToken(ctx, by, h.newToken()); return err })
		require.Equal(t, "operator", refusal.Field)
	}
	by := kim
	by.Actor.Name, by.RequestID, by.Actor.Address = "", "a\nb", "\x1b[31m"
	head := h.head()
	_, err := h.CreateToken(ctx, by, h.newToken())
	require.NoError(t, err)
	require.Equal(t, "operator ", h.entries(head)[0].Actor)
	require.Empty(t, h.entries(head)[0].Request)
}

func TestTheAuditLogIsListed(t *testing.T) {
	h := build(t)
	issued := h.create()
	must(h.RevokeToken(ctx, kim, issued.Token.Token.ID, true))
	entries, next, err := h.AuditEntries(ctx, kim, tokenstore.AuditQuery{Target: string(issued.Token.Token.ID)})
	require.NoError(t, err)
	require.Empty(t, next)
	require.Len(t, entries, 2)
	require.Equal(t, "token.revoke", entries[0].Verb)
	require.Equal(t, kim.Actor, entries[0].Actor)
	for _, q := range []tokenstore.AuditQuery{{Target: "\x00"}, {Verb: "\u202e"}, {AccountID: "\xff"}, {Page: tokenstore.Page{Cursor: "x"}}} {
		_, _, err := h.AuditEntries(ctx, kim, q)
		require.ErrorIs(t, err, authority.ErrInvalidField)
	}
}
