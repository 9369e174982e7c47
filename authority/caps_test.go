package authority_test

import (
	"crypto/rand"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

func capped(account, user int) func(*token.Policy) {
	return func(p *token.Policy) { p.MaxSecretsPerAccount, p.MaxSecretsPerUser = account, user }
}

func (h *house) tryCreate(change ...func(*authority.NewToken)) error {
	_, err := h.CreateToken(ctx, kim, h.newToken(change...))
	return err
}

func (h *house) rotateError(id token.ID, mode token.RotationMode) error {
	_, err := h.RotateToken(ctx, kim, id, authority.Rotation{Mode: mode})
	return err
}

func TestAtTheCapOfAnAccountNoSecretIsAddedAndTheOnesToGiveUpAreListed(t *testing.T) {
	// T9, T10, T16, T18
	h := build(t, capped(3, 0))
	first, second, third := h.create(), h.create(), h.create()

	refusal := h.unchanged(authority.ErrTokenLimitReached, func() error { return h.tryCreate() })
	require.Contains(t, refusal.Detail, "at most 3")
	require.Contains(t, refusal.Detail, "max_secrets_per_account")
	var want []authority.Candidate
	for _, issued := range []authority.Issued{third, second, first} {
		want = append(want, authority.Candidate{
			TokenID: issued.Token.Token.ID, SecretID: issued.Token.Current.ID,
			Last4: issued.Secret.Last4(), Name: "nightly export",
		})
	}
	require.Equal(t, want, refusal.Candidates)

	_, err := h.RevokeToken(ctx, kim, first.Token.Token.ID, true)
	require.NoError(t, err)
	h.create()
	h.unchanged(authority.ErrTokenLimitReached, func() error { return h.tryCreate() })
}

func TestAPreviousSecretTakesAPlaceUntilItEnds(t *testing.T) {
	// T9, T17: at the cap there is no overlap.
	h := build(t, capped(2, 0))
	issued := h.create()
	id := issued.Token.Token.ID
	require.NoError(t, h.rotateError(id, token.RotateTimed))
	refusal := h.unchanged(authority.ErrTokenLimitReached, func() error { return h.tryCreate() })
	require.Len(t, refusal.Candidates, 2)
	require.Equal(t, issued.Secret.Last4(), refusal.Candidates[1].Last4, "the previous secret can be given up too")

	h.clock.add(time.Hour) // the grace period
	another := h.create().Token.Token.ID
	h.unchanged(authority.ErrTokenLimitReached, func() error { return h.rotateError(id, token.RotateTimed) })
	require.NoError(t, h.rotateError(id, token.RotateNow), "mode now never exceeds a cap")
	require.NoError(t, h.rotateError(another, token.RotateNow))
}

func TestAGracePeriodOfNothingNeedsNoPlace(t *testing.T) {
	h := build(t, capped(1, 0))
	id := h.create().Token.Token.ID
	_, err := h.RotateToken(ctx, kim, id, authority.Rotation{Mode: token.RotateTimed, Grace: ptr(time.Duration(0))})
	require.NoError(t, err)
}

func TestAUserHasOneTokenAtATime(t *testing.T) {
	// O7, O18, O19
	h := build(t, capped(0, 1))
	ada, ben := h.user("member"), h.user("member")
	of := func(u token.User) func(*authority.NewToken) {
		return func(n *authority.NewToken) { n.UserID = u.ID }
	}
	adas := h.create(of(ada))
	h.create(of(ben))
	for range 3 {
		h.create() // tokens of the account itself have no user
	}
	refusal := h.unchanged(authority.ErrTokenLimitReached, func() error { return h.tryCreate(of(ada)) })
	require.Contains(t, refusal.Detail, "max_secrets_per_user")
	require.Len(t, refusal.Candidates, 1, "only what the user holds can make room")
	require.Equal(t, adas.Token.Token.ID, refusal.Candidates[0].TokenID)

	_, err := h.RevokeToken(ctx, kim, adas.Token.Token.ID, true)
	require.NoError(t, err)
	h.create(of(ada))
}

func TestBothCapsBind(t *testing.T) {
	h := build(t, capped(2, 2))
	ada := h.user("member")
	h.create(func(n *authority.NewToken) { n.UserID = ada.ID })
	h.create()
	refusal := h.unchanged(authority.ErrTokenLimitReached, func() error {
		return h.tryCreate(func(n *authority.NewToken) { n.UserID = ada.ID })
	})
	require.Contains(t, refusal.Detail, "max_secrets_per_account")
	require.Len(t, refusal.Candidates, 2)
}

func TestDisablingMakesNoRoomAndEnablingTakesNone(t *testing.T) {
	h := build(t, capped(1, 0))
	id := h.create().Token.Token.ID
	_, err := h.DisableToken(ctx, kim, id, true)
	require.NoError(t, err)
	h.unchanged(authority.ErrTokenLimitReached, func() error { return h.tryCreate() })
	h.policy(capped(1, 1))
	_, err = h.EnableToken(ctx, kim, id, true)
	require.NoError(t, err)
}

func TestWhatHasExpiredMakesRoomAndComesBackOnlyWhereThereIsSome(t *testing.T) {
	h := build(t, capped(1, 0))
	id := h.create(func(n *authority.NewToken) { n.ExpiresAt = h.clock.Now().Add(time.Hour) }).Token.Token.ID
	h.clock.add(time.Hour)
	h.create()
	later := h.clock.Now().Add(time.Hour)
	h.unchanged(authority.ErrTokenLimitReached, func() error {
		_, err := h.EditToken(ctx, kim, id, h.show(id).Token.Version, authority.Edit{ExpiresAt: &later})
		return err
	})
	h.policy(capped(2, 0))
	_, err := h.EditToken(ctx, kim, id, h.show(id).Token.Version, authority.Edit{ExpiresAt: &later})
	require.NoError(t, err)
}

func TestALoweredCapEndsNothingAndStandsInNoWayOut(t *testing.T) {
	h := build(t)
	var ids []token.ID
	for range 5 {
		ids = append(ids, h.create().Token.Token.ID)
	}
	h.policy(capped(2, 0))
	for _, id := range ids {
		require.Equal(t, token.Active, h.show(id).State)
		require.NoError(t, h.rotateError(id, token.RotateNow))
	}
	require.Len(t, h.unchanged(authority.ErrTokenLimitReached, func() error { return h.tryCreate() }).Candidates, 5)
}

func TestARetryNeedsNoPlaceOfItsOwn(t *testing.T) {
	h := build(t, capped(1, 0))
	first, err := h.CreateToken(ctx, retrying("key", 1), h.newToken())
	require.NoError(t, err)
	again, err := h.CreateToken(ctx, retrying("key", 1), h.newToken())
	require.NoError(t, err)
	require.True(t, again.Replayed)
	require.Equal(t, first.Token.Token.ID, again.Token.Token.ID)
}

func TestTheSecretsOfOtherAccountsTakeNoPlace(t *testing.T) {
	h := build(t, capped(1, 0))
	other, err := h.CreateAccount(ctx, kim, authority.NewAccount{Name: "Other", Policy: "test"})
	require.NoError(t, err)
	h.create()
	h.create(func(n *authority.NewToken) { n.AccountID = other.ID })
}

func TestARefusalListsNoMoreThanAHundredCandidates(t *testing.T) {
	h := build(t, capped(120, 0))
	for range 120 {
		h.create()
	}
	refusal := h.unchanged(authority.ErrTokenLimitReached, func() error { return h.tryCreate() })
	require.Len(t, refusal.Candidates, 100)
}

func TestManyAtOnceDoNotExceedACap(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { raceForPlaces(build(t, capped(3, 0))) })
	t.Run("postgres", func(t *testing.T) {
		if testing.Short() {
			t.Skip("starts a server")
		}
		server := pgtest.Start(t)
		h := &house{t: t, clock: &clock{at: storetest.Now()}}
		ring := storetest.Ring(t)
		url := server.Database()
		require.NoError(t, postgres.Migrate(ctx, url))
		store, err := postgres.Open(ctx, url, postgres.Options{Ring: ring, Now: h.clock.Now})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, store.Close()) })
		h.Authority = &authority.Authority{
			Store: store, Ring: ring, Prefixes: []string{"sp"}, Now: h.clock.Now, Random: rand.Reader,
			NewID: func(prefix string) (token.ID, error) { return storetest.ID(prefix), nil },
		}
		require.NoError(t, h.EnsureKeys(ctx, system))
		h.policy(capped(3, 0))
		h.account, err = h.CreateAccount(ctx, kim, authority.NewAccount{Name: "Castle Supplies", Policy: "test"})
		require.NoError(t, err)
		raceForPlaces(h)
	})
}

// raceForPlaces has many want the last two places under a cap of three.
func raceForPlaces(h *house) {
	h.t.Helper()
	rotated := h.create().Token.Token.ID
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		refused int
	)
	for i := range 16 {
		wg.Go(func() {
			var err error
			if i%4 == 0 {
				err = h.rotateError(rotated, token.RotateTimed)
			} else {
				err = h.tryCreate()
			}
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, authority.ErrTokenLimitReached) || errors.Is(err, authority.ErrRotationInProgress) {
				refused++
			} else if err != nil {
				h.t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Equal(h.t, 14, refused)
	require.Equal(h.t, 3, h.validSecrets())
	h.chainHolds()
}

// validSecrets counts what the caps count.
func (h *house) validSecrets() (n int) {
	h.t.Helper()
	views, _, err := h.Tokens(ctx, kim, tokenQuery(func(q *query) {
		q.AccountID, q.Limit, q.States = h.account.ID, 200, []token.State{token.Active, token.Disabled}
	}))
	require.NoError(h.t, err)
	for _, v := range views {
		n++
		if v.Previous != nil {
			n++
		}
	}
	return n
}
