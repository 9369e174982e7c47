package authority_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
)

// verbs are those that change a token's state, as methods.
var verbs = map[authority.Verb]func(*house, token.ID) (authority.View, error){
	authority.VerbEnableToken: func(h *house, id token.ID) (authority.View, error) { return h.EnableToken(ctx, kim, id, true) },
	authority.VerbDisableToken: func(h *house, id token.ID) (authority.View, error) {
		return h.DisableToken(ctx, kim, id, true)
	},
	authority.VerbRevokeToken: func(h *house, id token.ID) (authority.View, error) { return h.RevokeToken(ctx, kim, id, true) },
	authority.VerbDeleteToken: func(h *house, id token.ID) (authority.View, error) { return h.DeleteToken(ctx, kim, id, true) },
	authority.VerbEditToken: func(h *house, id token.ID) (authority.View, error) {
		return h.EditToken(ctx, kim, id, h.show(id).Token.Version, authority.Edit{Name: ptr("renamed")})
	},
	authority.VerbRotateToken: func(h *house, id token.ID) (authority.View, error) {
		issued, err := h.RotateToken(ctx, kim, id, authority.Rotation{})
		return issued.Token, err
	},
}

// bring leads a fresh token to a state.
func (h *house) bring(to token.State) authority.Issued {
	h.t.Helper()
	issued := h.create(func(n *authority.NewToken) {
		if to == token.Expired {
			n.ExpiresAt = h.clock.Now().Add(time.Second)
		}
	})
	id := issued.Token.Token.ID
	var err error
	switch to {
	case token.Active:
	case token.Disabled:
		_, err = h.DisableToken(ctx, kim, id, true)
	case token.Expired:
		h.clock.add(time.Second)
	case token.Revoked:
		_, err = h.RevokeToken(ctx, kim, id, true)
	case token.Deleted:
		_, err = h.DeleteToken(ctx, kim, id, true)
	}
	require.NoError(h.t, err)
	require.Equal(h.t, to, h.show(id).State)
	return issued
}

// S11 enable, S12 disable, S13 delete for good, S14 the verbs; O21 revoking cannot
// be undone. Every verb in every state: where it leads, or that it is refused.
func TestEveryVerbInEveryState(t *testing.T) {
	const refused = token.State(0)
	table := map[token.State]map[authority.Verb]token.State{
		token.Active: {
			authority.VerbEnableToken: token.Active, authority.VerbDisableToken: token.Disabled,
			authority.VerbRevokeToken: token.Revoked, authority.VerbDeleteToken: token.Deleted,
			authority.VerbEditToken: token.Active, authority.VerbRotateToken: token.Active,
		},
		token.Disabled: {
			authority.VerbEnableToken: token.Active, authority.VerbDisableToken: token.Disabled,
			authority.VerbRevokeToken: token.Revoked, authority.VerbDeleteToken: token.Deleted,
			authority.VerbEditToken: token.Disabled, authority.VerbRotateToken: token.Disabled,
		},
		token.Expired: {
			authority.VerbEnableToken: refused, authority.VerbDisableToken: token.Expired,
			authority.VerbRevokeToken: token.Revoked, authority.VerbDeleteToken: token.Deleted,
			authority.VerbEditToken: refused, authority.VerbRotateToken: refused,
		},
		token.Revoked: {
			authority.VerbEnableToken: refused, authority.VerbDisableToken: refused,
			authority.VerbRevokeToken: token.Revoked, authority.VerbDeleteToken: token.Deleted,
			authority.VerbEditToken: refused, authority.VerbRotateToken: refused,
		},
		token.Deleted: {
			authority.VerbEnableToken: refused, authority.VerbDisableToken: refused,
			authority.VerbRevokeToken: refused, authority.VerbDeleteToken: token.Deleted,
			authority.VerbEditToken: refused, authority.VerbRotateToken: refused,
		},
	}
	for from, row := range table {
		for verb, want := range row {
			t.Run(from.String()+" "+string(verb), func(t *testing.T) {
				h := build(t)
				id := h.bring(from).Token.Token.ID
				if want == refused {
					refusal := h.unchanged(authority.ErrInvalidState, func() error { _, err := verbs[verb](h, id); return err })
					require.NotEmpty(t, refusal.Detail)
					return
				}
				before, head := h.world(), h.head()
				v, err := verbs[verb](h, id)
				require.NoError(t, err)
				require.Equal(t, want, v.State)
				require.Empty(t, cmp.Diff(v, h.show(id)))
				if len(h.entries(head)) == 0 {
					require.Equal(t, from, want, "a change without an audit entry")
					require.Empty(t, cmp.Diff(before, h.world()))
					return
				}
				require.Len(t, h.entries(head), 1)
				require.Equal(t, int64(1), v.Token.Version-before.Tokens[0].Version)

				// Repeating it changes nothing and is no error.
				if verb == authority.VerbRotateToken {
					return
				}
				after := h.world()
				again, err := verbs[verb](h, id)
				require.NoError(t, err)
				require.Empty(t, cmp.Diff(v, again))
				require.Empty(t, cmp.Diff(after, h.world()))
			})
		}
	}
}

func TestAChangeOfStateSaysWhatItDid(t *testing.T) {
	h := build(t)
	issued := h.create()
	id := issued.Token.Token.ID
	for _, step := range []struct {
		verb          authority.Verb
		says          string
		before, after map[string]any
	}{
		{authority.VerbDisableToken, "disabled_token", map[string]any{"state": "active"}, map[string]any{"state": "disabled"}},
		{authority.VerbEnableToken, "", map[string]any{"state": "disabled"}, map[string]any{"state": "active"}},
		{
			authority.VerbRevokeToken, "revoked_token",
			map[string]any{"state": "active", "end_reason": nil},
			map[string]any{"state": "revoked", "end_reason": "revoked_by_person"},
		},
		{
			authority.VerbDeleteToken, "revoked_token",
			map[string]any{"state": "revoked", "end_reason": "revoked_by_person"},
			map[string]any{"state": "deleted", "end_reason": "deleted_by_person"},
		},
	} {
		h.clock.add(time.Second)
		head := h.head()
		v, err := verbs[step.verb](h, id)
		require.NoError(t, err)
		require.Equal(t, step.says, h.says(issued.Secret))
		h.told(head, entry{Verb: string(step.verb), Target: string(id), Before: step.before, After: step.after})
		ended := v.State == token.Revoked || v.State == token.Deleted
		require.Equal(t, ended, v.Token.EndedAt.Equal(h.clock.Now().Truncate(time.Microsecond)))
		require.Equal(t, issued.Secret.Last4(), v.Current.Last4, "people go on knowing it by its last characters (T18)")
	}
	views, _, err := h.Tokens(ctx, kim, query{})
	require.NoError(t, err)
	require.Empty(t, views, "a tombstone is listed only when asked for")
}

// Disabling and revoking stop both secrets of a rotation under way.
func TestAStateStopsBothSecrets(t *testing.T) {
	for verb, says := range map[authority.Verb]string{
		authority.VerbDisableToken: "disabled_token",
		authority.VerbRevokeToken:  "revoked_token",
		authority.VerbDeleteToken:  "revoked_token",
	} {
		h := build(t)
		first := h.create()
		id := first.Token.Token.ID
		second, err := h.RotateToken(ctx, kim, id, authority.Rotation{})
		require.NoError(t, err)
		require.Empty(t, h.says(first.Secret))
		v, err := verbs[verb](h, id)
		require.NoError(t, err)
		require.Equal(t, says, h.says(first.Secret))
		require.Equal(t, says, h.says(second.Secret))
		require.Equal(t, verb == authority.VerbDisableToken, v.Previous != nil)
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	h := build(t)
	for _, id := range []token.ID{"", "tok_00000000000000000000000000", "tok_\x00", "\xff", token.ID(make([]byte, 1<<16)), h.account.ID} {
		for verb, f := range verbs {
			if verb == authority.VerbEditToken {
				f = func(h *house, id token.ID) (authority.View, error) {
					return h.EditToken(ctx, kim, id, 1, authority.Edit{Name: ptr("x")})
				}
			}
			h.unchanged(authority.ErrNotFound, func() error { _, err := f(h, id); return err })
		}
		_, err := h.Token(ctx, kim, id)
		require.ErrorIs(t, err, authority.ErrNotFound)
	}
}
