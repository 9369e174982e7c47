package authority_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
)

// S6: a new secret, the same token ID, the same permissions. S9: with mode now
// the old one stops at once.
func TestRotatingNowEndsTheOldSecretAtOnce(t *testing.T) {
	h := build(t)
	first := h.create(func(n *authority.NewToken) { n.AllowList = nil })
	h.clock.add(time.Minute)
	head := h.head()
	second, err := h.RotateToken(ctx, kim, first.Token.Token.ID, authority.Rotation{Mode: token.RotateNow})
	require.NoError(t, err)

	want := first.Token.Token
	want.Version, want.UpdatedAt = 2, h.clock.Now().Truncate(time.Microsecond)
	require.Empty(t, cmp.Diff(want, second.Token.Token))
	require.Nil(t, second.Token.Previous)
	require.Equal(t, "retired_secret", h.says(first.Secret))
	require.Empty(t, h.says(second.Secret))
	h.told(head, entry{
		Verb: "token.rotate", Target: string(want.ID),
		Before: map[string]any{"secret_id": string(first.Token.Current.ID), "last4": first.Secret.Last4()},
		After:  map[string]any{"secret_id": string(second.Token.Current.ID), "last4": second.Secret.Last4(), "mode": "now"},
	})
}

// R5: choose when the old secret ends, from now to seven days.
func TestTheGracePeriodIsChosenWithinThePolicysBounds(t *testing.T) {
	const day = 24 * time.Hour
	for name, test := range map[string]struct {
		grace   *time.Duration
		expires time.Duration // of the token; 0 for never
		life    time.Duration // the policy's; 0 for none
		works   time.Duration // what the old secret gets; -1 for refused
	}{
		"the default":                      {nil, 0, 0, time.Hour},
		"none at all":                      {ptr(time.Duration(0)), 0, 0, 0},
		"a second":                         {ptr(time.Second), 0, 0, time.Second},
		"the longest":                      {ptr(7 * day), 0, 0, 7 * day},
		"longer than the longest":          {ptr(7*day + time.Second), 0, 0, -1},
		"negative":                         {ptr(-time.Second), 0, 0, -1},
		"not past the token's own end":     {ptr(7 * day), 2 * day, 0, 2 * day},
		"not past the end of the policy's": {ptr(7 * day), 0, 3 * day, 3 * day},
		"the default, not past the end":    {nil, time.Minute, 0, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			h := build(t, func(p *token.Policy) { p.MaxLifetime = test.life })
			first := h.create(func(n *authority.NewToken) {
				if test.expires > 0 {
					n.ExpiresAt = h.clock.Now().Add(test.expires)
				}
			})
			id := first.Token.Token.ID
			rotation := authority.Rotation{Mode: token.RotateTimed, Grace: test.grace}
			if test.works < 0 {
				refusal := h.unchanged(authority.ErrInvalidField, func() error {
					_, err := h.RotateToken(ctx, kim, id, rotation)
					return err
				})
				require.Equal(t, "grace_period_seconds", refusal.Field)
				return
			}
			second, err := h.RotateToken(ctx, kim, id, rotation)
			require.NoError(t, err)
			require.Empty(t, h.says(second.Secret))
			if test.works == 0 {
				require.Nil(t, second.Token.Previous)
				require.Equal(t, "retired_secret", h.says(first.Secret))
				return
			}
			end := h.clock.Now().Truncate(time.Microsecond).Add(test.works)
			require.Equal(t, first.Token.Current.ID, second.Token.Previous.ID)
			require.Equal(t, end, second.Token.Previous.ExpiresAt)
			require.Empty(t, h.says(first.Secret))
			h.clock.add(test.works - time.Millisecond)
			require.Empty(t, h.says(first.Secret), "R5: it works until then")
			h.clock.add(time.Millisecond)
			if test.expires > 0 || test.life > 0 {
				require.Equal(t, "expired_token", h.says(second.Secret))
			} else {
				require.Empty(t, h.says(second.Secret))
			}
			require.Equal(t, "retired_secret", h.says(first.Secret))
			require.Nil(t, h.show(id).Previous)
		})
	}
}

func TestThePolicyNamesTheModes(t *testing.T) {
	h := build(t, func(p *token.Policy) { p.RotationModes = []token.RotationMode{token.RotateNow} })
	first := h.create()
	id := first.Token.Token.ID
	refusal := h.unchanged(authority.ErrInvalidField, func() error {
		_, err := h.RotateToken(ctx, kim, id, authority.Rotation{Mode: token.RotateTimed})
		return err
	})
	require.Equal(t, "mode", refusal.Field)
	require.Contains(t, refusal.Detail, `"now"`)

	refusal = h.unchanged(authority.ErrInvalidField, func() error {
		_, err := h.RotateToken(ctx, kim, id, authority.Rotation{Grace: ptr(time.Duration(0))})
		return err
	})
	require.Equal(t, "grace_period_seconds", refusal.Field, "now takes no grace, not even none")

	_, err := h.RotateToken(ctx, kim, id, authority.Rotation{})
	require.NoError(t, err, "the first mode is the default")
	require.Equal(t, "retired_secret", h.says(first.Secret))
}

// D22: a second rotation while one is under way would end a secret that somebody
// was promised.
func TestOneRotationAtATime(t *testing.T) {
	h := build(t)
	first := h.create()
	id := first.Token.Token.ID
	second, err := h.RotateToken(ctx, kim, id, authority.Rotation{})
	require.NoError(t, err)
	until := h.clock.Now().Add(time.Hour).Format(time.RFC3339)
	for _, mode := range []token.RotationMode{token.RotateTimed, token.RotateNow} {
		refusal := h.unchanged(authority.ErrRotationInProgress, func() error {
			_, err := h.RotateToken(ctx, kim, id, authority.Rotation{Mode: mode})
			return err
		})
		require.Contains(t, refusal.Detail, until, "it says when one can")
	}

	h.clock.add(time.Hour)
	third, err := h.RotateToken(ctx, kim, id, authority.Rotation{})
	require.NoError(t, err)
	require.Equal(t, "retired_secret", h.says(first.Secret))
	require.Empty(t, h.says(second.Secret))
	require.Empty(t, h.says(third.Secret))
	require.Equal(t, []token.SecretStatus{token.Current, token.Previous, token.Retired}, statuses(h.secrets(id)))
}

func statuses(secrets []token.SecretRecord) (list []token.SecretStatus) {
	for _, s := range secrets {
		list = append(list, s.Status)
	}
	return list
}

// A grace period ends by itself; the record says so from the next change on.
func TestASecretWhoseGraceEndedIsRetiredInPassing(t *testing.T) {
	h := build(t)
	id := h.create().Token.Token.ID
	_, err := h.RotateToken(ctx, kim, id, authority.Rotation{})
	require.NoError(t, err)
	h.clock.add(time.Hour)
	require.Equal(t, token.Previous, h.secrets(id)[1].Status)
	require.Nil(t, h.show(id).Previous)
	_, err = h.EditToken(ctx, kim, id, 2, authority.Edit{Name: ptr("x")})
	require.NoError(t, err)
	require.Equal(t, []token.SecretStatus{token.Current, token.Retired}, statuses(h.secrets(id)))
}

func TestAnEditThatEndsTheTokenSoonerEndsTheGraceSooner(t *testing.T) {
	h := build(t)
	id := h.create().Token.Token.ID
	_, err := h.RotateToken(ctx, kim, id, authority.Rotation{})
	require.NoError(t, err)
	grace := h.show(id).Previous.ExpiresAt
	v, err := h.EditToken(ctx, kim, id, 2, authority.Edit{ExpiresAt: ptr(h.clock.Now().Add(24 * time.Hour))})
	require.NoError(t, err)
	require.Equal(t, grace, v.Previous.ExpiresAt, "and never later")
	end := h.clock.Now().Add(time.Minute).Truncate(time.Microsecond)
	v, err = h.EditToken(ctx, kim, id, 3, authority.Edit{ExpiresAt: &end})
	require.NoError(t, err)
	require.Equal(t, end, v.Previous.ExpiresAt)
	refusal := h.unchanged(authority.ErrRotationInProgress, func() error {
		_, err := h.RotateToken(ctx, kim, id, authority.Rotation{})
		return err
	})
	require.Contains(t, refusal.Detail, end.Format(time.RFC3339))
}

// After a leak one switches off first: a disabled token can be given a new secret,
// and stays disabled.
func TestADisabledTokenCanBeRotated(t *testing.T) {
	h := build(t)
	first := h.create()
	id := first.Token.Token.ID
	_, err := h.DisableToken(ctx, kim, id, false)
	require.NoError(t, err)
	second, err := h.RotateToken(ctx, kim, id, authority.Rotation{Mode: token.RotateNow})
	require.NoError(t, err)
	require.Equal(t, token.Disabled, second.Token.State)
	require.Equal(t, "disabled_token", h.says(second.Secret))
	_, err = h.EnableToken(ctx, kim, id, false)
	require.NoError(t, err)
	require.Empty(t, h.says(second.Secret))
	require.Equal(t, "retired_secret", h.says(first.Secret))
}

func TestASecretIsIssuedUnderTheFirstPrefix(t *testing.T) {
	h := build(t)
	h.Prefixes = []string{"new", "sp"}
	first := h.create()
	require.Equal(t, "new_live_", first.Secret.Reveal()[:9])
	require.Empty(t, h.says(first.Secret))
	h.Prefixes = []string{"sp"}
	require.Equal(t, "malformed_token", h.says(first.Secret))
	h.Prefixes = nil
	_, err := h.CreateToken(ctx, kim, h.newToken())
	require.ErrorContains(t, err, "prefix")
}
