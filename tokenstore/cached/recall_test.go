package cached_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/cached"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// putBack is a store that is found in another epoch once it is told to be.
type putBack struct {
	tokenstore.Store
	replaced chan struct{}
}

func (s *putBack) Changes(ctx context.Context, after tokenstore.Position) (tokenstore.Changes, error) {
	c, err := s.Store.Changes(ctx, after)
	select {
	case <-s.replaced:
		if after.Epoch != "second" {
			c.Complete, c.List = false, nil
		}
		c.At.Epoch = "second"
	default:
	}
	return c, err
}

// I3, F18: what ended before the node started is known to it too, as far as the
// feed tells, and so is what came back to life by right.
func TestTheFeedsPastTellsWhatEnded(t *testing.T) {
	ring := storetest.Ring(t)
	inner, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "sallyport.db"), sqlite.Options{Ring: ring})
	require.NoError(t, err)
	account := storetest.Account()
	storetest.MustWrite(t, inner, func(tx *tokenstore.Tx) error { return tx.InsertAccount(&account) })
	set := func(tok *token.Token, state token.State) {
		storetest.MustWrite(t, inner, func(tx *tokenstore.Tx) error {
			tok.State = state
			return tx.UpdateToken(tok)
		})
	}
	revoked, revived, deleted := storetest.Token(account.ID), storetest.Token(account.ID), storetest.Token(account.ID)
	for _, tok := range []*token.Token{&revoked, &revived, &deleted} {
		storetest.Issue(t, inner, ring, tok)
	}
	set(&revoked, token.Revoked)
	set(&revived, token.Deleted)
	for range 20 { // so that the past is read in several parts
		set(&deleted, token.Disabled)
		set(&deleted, token.Active)
	}
	set(&deleted, token.Deleted)
	set(&revived, token.Active)

	store := &putBack{Store: inner, replaced: make(chan struct{})}
	c := cached.New(store, ring, cached.Options{StaleFor: time.Minute, Poll: 10 * time.Millisecond})
	c.RecallIn(7, 1000)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	require.NoError(t, c.Start(t.Context()))
	require.Eventually(t, func() bool { return c.Stats().Tombstones == 3 }, ceiling, time.Millisecond)
	want := map[string]int64{string(revoked.ID): revoked.Version, string(deleted.ID): deleted.Version}
	var got map[string]int64
	require.Eventually(t, func() bool {
		got = map[string]int64{}
		for e := range c.Ended() {
			got[e.ID] = e.Version
		}
		return len(got) == len(want)
	}, ceiling, time.Millisecond, "%v", got)
	require.Equal(t, want, got)

	close(store.replaced)
	require.Eventually(t, func() bool { _, replaced := c.Replacement(); return replaced }, ceiling, time.Millisecond)
	r, _ := c.Replacement()
	require.Equal(t, "second", r.To.Epoch)
	require.EqualValues(t, 1, r.EndsFrom, "the whole feed was there")
	c.Reasserted(r.Number + 1)
	_, pending := c.Replacement()
	require.True(t, pending, "that was about another one")
	c.Reasserted(r.Number)
	_, pending = c.Replacement()
	require.False(t, pending)
}

// I9: a long past is read as far as the memory for it goes, the newest first.
func TestTheFeedsPastIsReadWithinBounds(t *testing.T) {
	ring := storetest.Ring(t)
	inner, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "sallyport.db"), sqlite.Options{Ring: ring})
	require.NoError(t, err)
	account := storetest.Account()
	storetest.MustWrite(t, inner, func(tx *tokenstore.Tx) error { return tx.InsertAccount(&account) })
	var last token.ID
	for range 30 {
		tok := storetest.Token(account.ID)
		storetest.Issue(t, inner, ring, &tok)
		storetest.MustWrite(t, inner, func(tx *tokenstore.Tx) error {
			tok.State = token.Revoked
			return tx.UpdateToken(&tok)
		})
		last = tok.ID
	}
	store := &putBack{Store: inner, replaced: make(chan struct{})}
	c := cached.New(store, ring, cached.Options{StaleFor: time.Minute, Poll: 10 * time.Millisecond})
	c.RecallIn(4, 5)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	require.NoError(t, c.Start(t.Context()))
	require.Eventually(t, func() bool { return c.Stats().Tombstones >= 2 }, ceiling, time.Millisecond)
	close(store.replaced)
	require.Eventually(t, func() bool { _, replaced := c.Replacement(); return replaced }, ceiling, time.Millisecond)
	r, _ := c.Replacement()
	require.Greater(t, r.EndsFrom, int64(30), "and it says how far that was")
	require.Less(t, c.Stats().Tombstones, 10)
	var ids []string
	for e := range c.Ended() {
		ids = append(ids, e.ID)
	}
	require.Contains(t, ids, string(last))
}
