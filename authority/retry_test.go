package authority_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

func TestARepeatedCreateReplacesTheSecretNobodySaw(t *testing.T) {
	h := build(t)
	by := retrying("k-1", 1)
	first, err := h.CreateToken(ctx, by, h.newToken())
	require.NoError(t, err)
	require.False(t, first.Replayed)
	until := h.clock.Now().Truncate(time.Microsecond).Add(authority.RetryWindow)
	require.Equal(t, until, first.Token.Current.RetryUntil, "so that the gate notes the first use before it forwards")

	h.clock.add(time.Hour)
	head := h.head()
	second, err := h.CreateToken(ctx, by, h.newToken())
	require.NoError(t, err)
	require.True(t, second.Replayed)
	require.Equal(t, first.Token.Token.ID, second.Token.Token.ID, "one effect (I5)")
	require.NotEqual(t, first.Secret.Reveal(), second.Secret.Reveal())
	require.Equal(t, until, second.Token.Current.RetryUntil, "retrying does not prolong the window")
	require.Equal(t, "retired_secret", h.says(first.Secret), "never more than one valid new secret")
	require.Empty(t, h.says(second.Secret))
	h.told(head, entry{
		Verb: "token.create", Target: string(first.Token.Token.ID),
		Before: map[string]any{"secret_id": string(first.Token.Current.ID), "last4": first.Secret.Last4()},
		After: map[string]any{
			"secret_id": string(second.Token.Current.ID), "last4": second.Secret.Last4(), "replayed": true,
		},
	})

	views, _, err := h.Tokens(ctx, kim, query{})
	require.NoError(t, err)
	require.Len(t, views, 1)
}

func TestARepeatedRotationLeavesThePreviousSecretAlone(t *testing.T) {
	h := build(t)
	first := h.create()
	id := first.Token.Token.ID
	by := retrying("k-1", 1)
	second, err := h.RotateToken(ctx, by, id, authority.Rotation{})
	require.NoError(t, err)
	h.clock.add(time.Minute)
	third, err := h.RotateToken(ctx, by, id, authority.Rotation{})
	require.NoError(t, err)
	require.True(t, third.Replayed)
	require.Equal(t, second.Token.Previous, third.Token.Previous)
	require.Empty(t, h.says(first.Secret))
	require.Equal(t, "retired_secret", h.says(second.Secret))
	require.Empty(t, h.says(third.Secret))
}

func TestARetryIsRefusedOnceItsAnswerWasSeen(t *testing.T) {
	for name, seen := range map[string]func(h *house, id token.ID){
		"the secret was used":   func(h *house, id token.ID) { h.use(id) },
		"the token was rotated": func(h *house, id token.ID) { must(h.RotateToken(ctx, kim, id, authority.Rotation{})) },
		"the token was rotated now": func(h *house, id token.ID) {
			must(h.RotateToken(ctx, kim, id, authority.Rotation{Mode: token.RotateNow}))
		},
		"the token was revoked": func(h *house, id token.ID) { must(h.RevokeToken(ctx, kim, id, true)) },
		"the token was deleted": func(h *house, id token.ID) { must(h.DeleteToken(ctx, kim, id, true)) },
		"the token has expired": func(h *house, _ token.ID) { h.clock.add(2 * time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			h := build(t)
			by := retrying("k-1", 1)
			ask := h.newToken(func(n *authority.NewToken) { n.ExpiresAt = h.clock.Now().Add(2 * time.Hour) })
			issued, err := h.CreateToken(ctx, by, ask)
			require.NoError(t, err)
			seen(h, issued.Token.Token.ID)
			// The expiry of the request may have passed; what counts is that it was
			// carried out.
			h.unchanged(authority.ErrAlreadyConfirmed, func() error { _, err := h.CreateToken(ctx, by, ask); return err })
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// What other people did with the token meanwhile does not make the retry another
// request.
func TestARetryGoesThroughAfterOtherChanges(t *testing.T) {
	h := build(t)
	by := retrying("k-1", 1)
	issued, err := h.CreateToken(ctx, by, h.newToken())
	require.NoError(t, err)
	id := issued.Token.Token.ID
	must(h.EditToken(ctx, kim, id, 1, authority.Edit{Name: ptr("renamed")}))
	must(h.DisableToken(ctx, kim, id, true))
	h.policy(func(p *token.Policy) { p.RequireAllowList = token.AllowListAlways; p.Confirm = []string{"create"} })
	again, err := h.CreateToken(ctx, by, h.newToken())
	require.NoError(t, err)
	require.True(t, again.Replayed)
	require.Equal(t, "renamed", again.Token.Token.Name)
	require.Equal(t, token.Disabled, again.Token.State)
}

func TestAKeyStandsForOneRequest(t *testing.T) {
	h := build(t)
	first, err := h.CreateToken(ctx, retrying("k-1", 1), h.newToken())
	require.NoError(t, err)
	refusal := h.unchanged(authority.ErrInvalidField, func() error {
		_, err := h.CreateToken(ctx, retrying("k-1", 2), h.newToken(func(n *authority.NewToken) { n.Name = "other" }))
		return err
	})
	require.Equal(t, "Idempotency-Key", refusal.Field)

	t.Run("of one actor", func(t *testing.T) {
		by := retrying("k-1", 1)
		by.Actor.Name = "lee"
		issued, err := h.CreateToken(ctx, by, h.newToken())
		require.NoError(t, err)
		require.False(t, issued.Replayed)
	})
	t.Run("on one route", func(t *testing.T) {
		by := retrying("k-1", 1)
		by.Retry.Route = "another"
		issued, err := h.CreateToken(ctx, by, h.newToken())
		require.NoError(t, err)
		require.False(t, issued.Replayed)
	})
	t.Run("about one record", func(t *testing.T) {
		other := h.create()
		one, err := h.RotateToken(ctx, retrying("k-1", 1), first.Token.Token.ID, authority.Rotation{})
		require.NoError(t, err)
		two, err := h.RotateToken(ctx, retrying("k-1", 1), other.Token.Token.ID, authority.Rotation{})
		require.NoError(t, err)
		require.False(t, one.Replayed || two.Replayed)
		require.NotEqual(t, one.Token.Token.ID, two.Token.Token.ID)
	})
	t.Run("for a day", func(t *testing.T) {
		h := build(t)
		_, err := h.CreateToken(ctx, retrying("k-2", 1), h.newToken())
		require.NoError(t, err)
		h.clock.add(authority.RetryWindow - time.Microsecond)
		again, err := h.CreateToken(ctx, retrying("k-2", 1), h.newToken())
		require.NoError(t, err)
		require.True(t, again.Replayed)
		h.clock.add(time.Microsecond)
		anew, err := h.CreateToken(ctx, retrying("k-2", 2), h.newToken())
		require.NoError(t, err)
		require.False(t, anew.Replayed)
	})
}

func TestAnIdempotencyKeyIsVisibleASCII(t *testing.T) {
	h := build(t)
	for _, key := range []string{" ", "a b", "a\n", "\x7f", "caf\u00e9", strings.Repeat("x", 256)} {
		refusal := h.unchanged(authority.ErrInvalidField, func() error {
			_, err := h.CreateToken(ctx, retrying(key, 1), h.newToken())
			return err
		})
		require.Equal(t, "Idempotency-Key", refusal.Field)
	}
	_, err := h.CreateToken(ctx, retrying(strings.Repeat("~", 255), 1), h.newToken())
	require.NoError(t, err)
}

func FuzzCheckRetryKey(f *testing.F) {
	for _, key := range []string{"", "k-1", "8e03978e-40d5-43e8-bc93-6894a57f9324", "a b", "\x00", strings.Repeat("x", 256), "caf\u00e9"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		err := authority.CheckRetryKey(key)
		ok := key != "" && len(key) <= 255 && strings.Trim(key, visible) == ""
		require.Equal(t, ok, err == nil)
		if err != nil && len(key) > 16 {
			require.NotContains(t, err.Error(), key)
		}
	})
}

const visible = "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~"

// Many at once under one key: one token, and at the end one valid secret, which
// is the one that was handed out last. Whether they meet in one gateway or each
// in one of their own makes no difference.
func TestConcurrentRetriesHaveOneEffect(t *testing.T) {
	for _, verb := range []authority.Verb{authority.VerbCreateToken, authority.VerbRotateToken} {
		for _, gateways := range []string{"one gateway", "many gateways"} {
			t.Run(string(verb)+" through "+gateways, func(t *testing.T) {
				concurrentRetries(t, verb, gateways == "many gateways")
			})
		}
	}
}

func concurrentRetries(t *testing.T, verb authority.Verb, apart bool) {
	h := build(t)
	by := retrying("k-1", 1)
	var before []authority.Issued
	if verb == authority.VerbRotateToken {
		before = append(before, h.create())
	}
	ask := func(a *authority.Authority) (authority.Issued, error) {
		if verb == authority.VerbRotateToken {
			return a.RotateToken(ctx, by, before[0].Token.Token.ID, authority.Rotation{})
		}
		return a.CreateToken(ctx, by, h.newToken())
	}
	var (
		mu     sync.Mutex
		issued []authority.Issued
		wg     sync.WaitGroup
	)
	for range 64 {
		wg.Go(func() {
			gateway := h.Authority
			if apart {
				gateway = &authority.Authority{
					Store: h.Store, Ring: h.Ring, Prefixes: h.Prefixes, Now: h.Now, Random: h.Random, NewID: h.NewID,
				}
			}
			i, err := ask(gateway)
			for end := time.Now().Add(30 * time.Second); errors.Is(err, authority.ErrRetryInProgress) && time.Now().Before(end); {
				time.Sleep(time.Millisecond) // what the caller is told to do, sooner
				i, err = ask(gateway)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("a retry failed: %v", err)
				return
			}
			issued = append(issued, i)
		})
	}
	wg.Wait()
	require.Len(t, issued, 64)

	original, last := 0, issued[0]
	valid := []authority.Issued{}
	for _, i := range issued {
		require.Equal(t, issued[0].Token.Token.ID, i.Token.Token.ID)
		if !i.Replayed {
			original++
		}
		if i.Token.Token.Version > last.Token.Token.Version {
			last = i
		}
		if h.says(i.Secret) == "" {
			valid = append(valid, i)
		}
	}
	require.Equal(t, 1, original)
	require.Len(t, valid, 1)
	require.Equal(t, last.Token.Current.ID, valid[0].Token.Current.ID, "the last answer holds the secret that works")
	for _, i := range before {
		require.Empty(t, h.says(i.Secret), "the previous secret is untouched")
	}
	h.chainHolds()
}

// A request that is still running has not been answered: its retry waits, so that
// the late one does not retire what the retry has handed out.
func TestARetryWaitsForTheRequestThatIsRunning(t *testing.T) {
	h := build(t)
	inside, proceed := make(chan struct{}), make(chan struct{})
	slow := &slowStore{Store: h.Store, inside: inside, proceed: proceed}
	h.Store = slow
	by := retrying("k-1", 1)
	done := make(chan error, 1)
	go func() {
		_, err := h.CreateToken(ctx, by, h.newToken())
		done <- err
	}()
	<-inside
	_, err := h.CreateToken(ctx, by, h.newToken())
	require.ErrorIs(t, err, authority.ErrRetryInProgress)
	close(proceed)
	require.NoError(t, <-done)
	again, err := h.CreateToken(ctx, by, h.newToken())
	require.NoError(t, err)
	require.True(t, again.Replayed)
}

// slowStore holds up the first write.
type slowStore struct {
	tokenstore.Store
	once            sync.Once
	inside, proceed chan struct{}
}

func (s *slowStore) Write(ctx context.Context, f func(*tokenstore.Tx) error) error {
	s.once.Do(func() {
		close(s.inside)
		<-s.proceed
	})
	return s.Store.Write(ctx, f)
}
