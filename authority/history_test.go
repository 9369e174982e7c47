package authority_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// F39: people who do everything at once to the same few tokens get an outcome
// that some order of their acts has, and the log tells it.
func TestConcurrentHistoriesKeepTheRules(t *testing.T) {
	h := build(t, func(p *token.Policy) { p.GraceDefault, p.GraceMax = time.Minute, time.Hour })
	start := h.position()
	head := h.head()
	var tokens []token.ID
	for range 4 {
		tokens = append(tokens, h.create().Token.Token.ID)
	}
	verbs := []func(r *rand.Rand, id token.ID) error{
		func(_ *rand.Rand, id token.ID) error { _, err := h.EnableToken(ctx, kim, id, true); return err },
		func(_ *rand.Rand, id token.ID) error { _, err := h.DisableToken(ctx, kim, id, true); return err },
		func(r *rand.Rand, id token.ID) error {
			mode := []token.RotationMode{token.RotateNow, token.RotateTimed}[r.IntN(2)]
			_, err := h.RotateToken(ctx, kim, id, authority.Rotation{Mode: mode})
			return err
		},
		func(r *rand.Rand, id token.ID) error {
			by := retrying(string(rune('a'+r.IntN(3))), 1)
			_, err := h.RotateToken(ctx, by, id, authority.Rotation{})
			return err
		},
		func(r *rand.Rand, id token.ID) error {
			v, err := h.Token(ctx, kim, id)
			if err != nil {
				return err
			}
			_, err = h.EditToken(ctx, kim, id, v.Token.Version, authority.Edit{Name: ptr(string(rune('a' + r.IntN(26))))})
			return err
		},
		func(r *rand.Rand, _ token.ID) error {
			h.clock.add(time.Duration(r.IntN(40)) * time.Second)
			return nil
		},
		func(r *rand.Rand, id token.ID) error {
			if r.IntN(20) > 0 {
				return nil // an end is for ever, so it comes late
			}
			_, err := h.RevokeToken(ctx, kim, id, true)
			return err
		},
	}
	expected := []error{
		authority.ErrInvalidState, authority.ErrRotationInProgress, authority.ErrVersionMismatch,
		authority.ErrAlreadyConfirmed, authority.ErrRetryInProgress,
	}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(worker), 1))
			for range 60 {
				err := verbs[r.IntN(len(verbs))](r, tokens[r.IntN(len(tokens))])
				known := err == nil
				for _, e := range expected {
					known = known || errors.Is(err, e)
				}
				if !known {
					t.Errorf("an unexpected error: %v", err)
				}
			}
		})
	}
	wg.Wait()

	changes, err := h.Store.Changes(ctx, start)
	require.NoError(t, err)
	require.True(t, changes.Complete)
	versions, final := map[string]int64{}, map[string]bool{}
	steps := map[int64]bool{}
	for _, c := range changes.List {
		steps[c.Seq] = true
		if c.Kind != tokenstore.TokenKind {
			continue
		}
		require.Equal(t, versions[c.ID]+1, c.Version, "versions have no gap and no repetition")
		require.False(t, final[c.ID], "nothing happens to a token that has ended")
		versions[c.ID], final[c.ID] = c.Version, c.Final
	}
	entries := h.entries(head)
	require.Len(t, entries, len(steps), "an entry for each change")
	about := map[string]int64{}
	for _, e := range entries {
		about[e.Target]++
	}
	for _, id := range tokens {
		v := h.show(id)
		require.Equal(t, versions[string(id)], v.Token.Version)
		require.Equal(t, about[string(id)], v.Token.Version)
		current, valid := 0, 0
		for _, s := range h.secrets(id) {
			if s.Status == token.Current {
				current++
			}
			if s.ValidAt(h.clock.Now()) {
				valid++
			}
		}
		require.Equal(t, 1, current)
		require.LessOrEqual(t, valid, 2)
	}
	h.chainHolds()
}
