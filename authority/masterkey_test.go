package authority_test

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// rings makes a ring for each list of names out of one set of keys.
func rings(t testing.TB, lists ...[]string) []*tokenstore.Ring {
	t.Helper()
	lines := map[string]string{}
	var out []*tokenstore.Ring
	for _, names := range lists {
		var file bytes.Buffer
		for _, name := range names {
			if lines[name] == "" {
				var one bytes.Buffer
				_, err := storetest.Ring(t).WriteTo(&one)
				require.NoError(t, err)
				_, key, ok := bytes.Cut(bytes.TrimSpace(one.Bytes()[bytes.LastIndexByte(one.Bytes()[:one.Len()-1], '\n')+1:]), []byte(":"))
				require.True(t, ok)
				lines[name] = name + ":" + string(key) + "\n"
			}
			file.WriteString(lines[name])
		}
		ring, err := tokenstore.ParseRing(&file)
		require.NoError(t, err)
		out = append(out, ring)
	}
	return out
}

// twoKeys is a house whose ring holds the primary and another key.
func twoKeys(t testing.TB) (h *house, first, second string) {
	t.Helper()
	c := &clock{at: storetest.Now()}
	path := filepath.Join(storetest.Memory(t), "sallyport.db")
	ring := rings(t, []string{"first", "second"})[0]
	h = &house{Authority: open(t, path, ring, c), t: t, clock: c, path: path}
	require.NoError(t, h.EnsureKeys(ctx, system))
	h.policy()
	var err error
	h.account, err = h.CreateAccount(ctx, kim, authority.NewAccount{Name: "Castle Supplies", Policy: "test"})
	require.NoError(t, err)
	return h, "first", "second"
}

func (h *house) keys() map[string]tokenstore.MasterKey {
	h.t.Helper()
	keys, _, err := h.MasterKeys(ctx, kim)
	require.NoError(h.t, err)
	byID := map[string]tokenstore.MasterKey{}
	for _, k := range keys {
		byID[k.ID] = k
	}
	return byID
}

func TestTheFirstStartRegistersTheKeys(t *testing.T) {
	h, first, second := twoKeys(t)
	keys := h.keys()
	require.Len(t, keys, 2)
	require.True(t, keys[first].Primary)
	require.False(t, keys[second].Primary)
	check, _ := h.Ring.CheckValue(second)
	require.Equal(t, check, keys[second].CheckValue)
	entries := h.entries(0)
	require.Equal(t, "master_key.add first", entries[0].Verb+" "+entries[0].Target)
	require.Equal(t, "master_key.add second", entries[1].Verb+" "+entries[1].Target)
	require.Equal(t, map[string]any{"check_value": check}, entries[1].After)

	before := h.world()
	require.NoError(t, h.EnsureKeys(ctx, system), "a later start has nothing to say")
	require.Empty(t, cmp.Diff(before, h.world()))
}

func TestAStartWithTheWrongKeysStops(t *testing.T) {
	all := rings(t, []string{"a", "b"}, []string{"b"}, []string{"a", "b", "c"})
	impostor := rings(t, []string{"a", "b"})[0]
	c := &clock{at: storetest.Now()}
	path := filepath.Join(storetest.Memory(t), "sallyport.db")
	h := &house{Authority: open(t, path, all[0], c), t: t, clock: c}
	require.NoError(t, h.EnsureKeys(ctx, system))

	for name, ring := range map[string]*tokenstore.Ring{"the primary is missing": all[1], "other bytes under the ID": impostor} {
		h.Ring = ring
		require.ErrorContains(t, h.EnsureKeys(ctx, system), `"a"`, name)
	}
	h.Ring = all[2]
	require.NoError(t, h.EnsureKeys(ctx, system), "a new key is fine")
	require.Len(t, h.keys(), 3)
	require.False(t, h.keys()["c"].Primary)
	h.Ring = all[0]
	require.NoError(t, h.EnsureKeys(ctx, system), "and so is one that nothing is under")
}

func TestTheMasterKeyRotatesWhenEveryNodeHoldsIt(t *testing.T) {
	h, first, second := twoKeys(t)
	check, _ := h.Ring.CheckValue(second)
	node := func(id string, ago time.Duration, keys map[string]string) {
		require.NoError(t, h.Store.Write(ctx, func(tx *tokenstore.Tx) error {
			return tx.PutNode(tokenstore.Node{ID: id, StartedAt: h.clock.Now(), SeenAt: h.clock.Now().Add(-ago), Keys: keys})
		}))
	}
	node("ready", 0, map[string]string{second: check})
	node("gone", authority.NodeLiveFor+time.Second, nil)
	node("lacking", authority.NodeLiveFor, map[string]string{first: "x"})
	node("ahead", -time.Hour, map[string]string{second: "other bytes"})

	refusal := h.unchanged(authority.ErrInvalidState, func() error { return h.RotateMasterKey(ctx, kim, second) })
	require.Contains(t, refusal.Detail, "lacking")
	require.Contains(t, refusal.Detail, "ahead")
	require.NotContains(t, refusal.Detail, "gone")
	require.NotContains(t, refusal.Detail, "ready")
	h.unchanged(authority.ErrNotFound, func() error { return h.RotateMasterKey(ctx, kim, "third") })
	// Nor by a node whose own key file is behind.
	whole := h.Ring
	for _, ring := range rings(t, []string{first, second}, []string{first}) {
		h.Ring = ring
		refusal := h.unchanged(authority.ErrInvalidState, func() error { return h.RotateMasterKey(ctx, kim, second) })
		require.Contains(t, refusal.Detail, "this node")
	}
	h.Ring = whole

	node("lacking", 0, map[string]string{second: check})
	node("ahead", 0, map[string]string{second: check})
	old := h.create()
	head := h.head()
	require.NoError(t, h.RotateMasterKey(ctx, kim, second))
	require.True(t, h.keys()[second].Primary)
	require.False(t, h.keys()[first].Primary)
	entries := h.entries(head)
	require.Len(t, entries, 1)
	require.Equal(t, map[string]any{"primary": first}, entries[0].Before)
	require.Equal(t, map[string]any{"primary": second}, entries[0].After)

	// The entry of the change itself is sealed under the new key, so that it
	// vouches for the log when the old one is gone.
	storetest.MustRead(t, h.Store, func(tx *tokenstore.Tx) error {
		head, err := tx.AuditHead()
		require.Equal(t, second, head.KeyID)
		return err
	})
	h.chainHolds()

	young := h.create()
	require.Equal(t, int64(1), h.keys()[first].Live)
	require.Equal(t, int64(1), h.keys()[second].Live)
	require.Empty(t, h.says(old.Secret))
	require.Empty(t, h.says(young.Secret))
	before := h.world()
	require.NoError(t, h.RotateMasterKey(ctx, kim, second))
	require.Empty(t, cmp.Diff(before, h.world()), "what is the primary already is left alone")
}

func TestAKeyThatNothingIsUnderIsRemoved(t *testing.T) {
	h, first, second := twoKeys(t)
	refusal := h.unchanged(authority.ErrInvalidState, func() error { _, err := h.RemoveMasterKey(ctx, kim, first, true); return err })
	require.Contains(t, refusal.Detail, "primary")
	h.unchanged(authority.ErrNotFound, func() error { _, err := h.RemoveMasterKey(ctx, kim, "third", true); return err })

	must(h.RevokeToken(ctx, kim, h.create().Token.Token.ID, true))
	require.NoError(t, h.RotateMasterKey(ctx, kim, second))
	head := h.head()
	ended, err := h.RemoveMasterKey(ctx, kim, first, false)
	require.NoError(t, err)
	require.Empty(t, ended.Tokens)
	require.Empty(t, ended.Webhooks)
	require.NotContains(t, h.keys(), first)
	entries := h.entries(head)
	require.Len(t, entries, 1)
	require.Equal(t, "master_key.remove first", entries[0].Verb+" "+entries[0].Target)
	require.Equal(t, 1., entries[0].Before["lost_alerts"])
	h.chainHolds()
}

// A removal with force ends what works only by the key, and nothing else.
func TestRemovingAKeyInUseTakesForceAndSaysWhatEnds(t *testing.T) {
	h, first, second := twoKeys(t)
	plain := h.create()
	disabled := h.create()
	must(h.DisableToken(ctx, kim, disabled.Token.Token.ID, true))
	expired := h.create(func(n *authority.NewToken) { n.ExpiresAt = h.clock.Now().Add(time.Second) })
	h.clock.add(time.Minute)
	rotatedOld := h.create()
	leaked := h.create()
	require.NoError(t, h.RotateMasterKey(ctx, kim, second))
	// The previous secret is under the old key, the current one under the new.
	rotated := must(h.RotateToken(ctx, kim, rotatedOld.Token.Token.ID, authority.Rotation{}))
	// The current secret is under the old key; the previous one was used, and so
	// moved to the new.
	require.NoError(t, h.RotateMasterKey(ctx, kim, first))
	swapped := must(h.RotateToken(ctx, kim, leaked.Token.Token.ID, authority.Rotation{}))
	require.NoError(t, h.RotateMasterKey(ctx, kim, second))
	h.rekey(leaked, first, second)
	safe := h.create()
	// The other secret of this one is under the new key, and is over.
	require.NoError(t, h.RotateMasterKey(ctx, kim, first))
	over := h.create()
	must(h.RotateToken(ctx, kim, over.Token.Token.ID, authority.Rotation{Grace: ptr(time.Second)}))
	h.rekey(over, first, second)
	h.clock.add(time.Second)
	require.NoError(t, h.RotateMasterKey(ctx, kim, second))

	var preview authority.KeyLoss
	refusal := h.unchanged(authority.ErrConfirmationRequired, func() (err error) {
		preview, err = h.RemoveMasterKey(ctx, kim, first, false)
		return err
	})
	require.Contains(t, refusal.Detail, "6 secrets")
	require.Len(t, preview.Tokens, 6, "what would be touched can be looked at beforehand")

	head := h.head()
	ended, err := h.RemoveMasterKey(ctx, kim, first, true)
	require.NoError(t, err)
	require.Equal(t, []token.ID{over.Token.Token.ID, expired.Token.Token.ID, disabled.Token.Token.ID, plain.Token.Token.ID}, ids(ended.Tokens))
	for _, tok := range ended.Tokens {
		v := h.show(tok.ID)
		require.Equal(t, token.Revoked, v.State)
		require.Equal(t, authority.EndMasterKeyRemoved, v.Token.EndReason)
	}
	require.NotContains(t, h.keys(), first)
	var verbs []string
	for _, e := range h.entries(head) {
		require.Equal(t, "operator kim", e.Actor)
		verbs = append(verbs, e.Verb+" "+e.Target)
	}
	require.ElementsMatch(t, []string{
		"token.revoke " + string(plain.Token.Token.ID), "token.revoke " + string(disabled.Token.Token.ID), "token.revoke " + string(expired.Token.Token.ID),
		"token.revoke " + string(over.Token.Token.ID),
		"master_key.remove " + string(rotated.Token.Token.ID), "master_key.remove " + string(swapped.Token.Token.ID),
		"master_key.remove first",
	}, verbs)

	require.Empty(t, h.says(safe.Secret))
	require.Empty(t, h.says(rotated.Secret))
	require.Empty(t, h.says(leaked.Secret), "the previous secret goes on until its time")
	require.Nil(t, h.show(rotated.Token.Token.ID).Previous)

	// What lost its current secret takes a new one without waiting.
	again := must(h.RotateToken(ctx, kim, swapped.Token.Token.ID, authority.Rotation{}))
	require.Empty(t, h.says(again.Secret))
	require.Empty(t, h.says(leaked.Secret))
	require.Equal(t, swapped.Token.Previous.ExpiresAt, again.Token.Previous.ExpiresAt)
	h.chainHolds()
}

// rekey moves the secret to another key, as a gateway does when it is used.
func (h *house) rekey(issued authority.Issued, from, to string) {
	h.t.Helper()
	old, ok := h.Ring.Lookup(from, issued.Secret.Digest())
	require.True(h.t, ok)
	lookup, ok := h.Ring.Lookup(to, issued.Secret.Digest())
	require.True(h.t, ok)
	require.NoError(h.t, h.Store.Write(ctx, func(tx *tokenstore.Tx) error {
		return tx.Rekey(issued.Token.Current.ID, old, lookup, to)
	}))
}

func ids(tokens []token.Token) (list []token.ID) {
	for _, t := range tokens {
		list = append(list, t.ID)
	}
	return list
}

func TestMoreTokensThanOneStepEndWithTheirKey(t *testing.T) {
	h, first, second := twoKeys(t)
	for range 230 {
		h.create()
	}
	require.NoError(t, h.RotateMasterKey(ctx, kim, second))
	ended, err := h.RemoveMasterKey(ctx, kim, first, true)
	require.NoError(t, err)
	require.Len(t, ended.Tokens, 230)
	require.NotContains(t, h.keys(), first)
	h.chainHolds()
}

// Without the primary key a node can issue nothing that could be found again.
func TestNothingIsIssuedWithoutThePrimaryKey(t *testing.T) {
	h, _, _ := twoKeys(t)
	h.Ring = storetest.Ring(t)
	before := h.world()
	_, err := h.CreateToken(ctx, kim, h.newToken())
	require.ErrorIs(t, err, tokenstore.ErrUnavailable)
	require.Empty(t, cmp.Diff(before, h.world()))
}
