package authority_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

const week = 7 * 24 * time.Hour

func (h *house) rotate(id token.ID, r authority.Rotation) authority.Issued {
	h.t.Helper()
	issued, err := h.RotateToken(ctx, kim, id, r)
	require.NoError(h.t, err)
	return issued
}

func (h *house) rotation(id token.ID) authority.RotationStatus {
	h.t.Helper()
	status, err := h.TokenRotation(ctx, kim, id)
	require.NoError(h.t, err)
	return status
}

// seen hands over that a secret was used, as gateways do.
func (h *house) seen(id, secret token.ID, at time.Time, counts ...token.Count) {
	h.t.Helper()
	day := at.UTC().Truncate(24 * time.Hour)
	require.NoError(h.t, h.Store.Write(ctx, func(tx *tokenstore.Tx) error {
		if _, err := tx.Run("run_1"); err != nil {
			if err := tx.BeginRun(token.Run{ID: "run_1", Node: "node_1", StartedAt: day}); err != nil {
				return err
			}
		}
		return tx.PutActivity(token.Activity{
			Run: "run_1", Seq: uint64(at.UnixMicro()), Covered: at,
			Facts: []token.Fact{{
				TokenID: id, SecretID: secret, Scope: token.Scope{Name: "read", Nature: token.Read}, First: at, Until: day.Add(24 * time.Hour),
			}},
			Counts: counts,
		})
	}))
}

func (h *house) startGraces() int {
	h.t.Helper()
	n, err := h.StartGraces(ctx, system)
	require.NoError(h.t, err)
	return n
}

// T11, T12, T15: both secrets work, with no timer, until a person confirms; then the
// old one ends.
func TestUntilConfirmedOnlyAPersonEndsThePreviousSecret(t *testing.T) {
	h := build(t)
	first := h.create()
	id := first.Token.Token.ID
	refusal := h.unchanged(authority.ErrInvalidField, func() error {
		_, err := h.RotateToken(ctx, kim, id, authority.Rotation{Mode: token.RotateUntilConfirmed, Grace: ptr(time.Hour)})
		return err
	})
	require.Equal(t, "grace_period_seconds", refusal.Field)

	second := h.rotate(id, authority.Rotation{Mode: token.RotateUntilConfirmed})
	require.NotNil(t, second.Token.Previous)
	require.True(t, second.Token.Previous.ExpiresAt.IsZero())
	h.clock.add(400 * 24 * time.Hour)
	require.Empty(t, h.says(first.Secret), "T12: no timer ends it")
	require.Empty(t, h.says(second.Secret))

	head := h.head()
	v, err := h.ConfirmRotation(ctx, kim, id, authority.RotationChange{})
	require.NoError(t, err)
	require.Nil(t, v.Previous)
	require.Equal(t, "retired_secret", h.says(first.Secret))
	require.Empty(t, h.says(second.Secret))
	h.told(head, entry{
		Verb: "token.confirm", Target: string(id),
		Before: map[string]any{"previous_secret_id": string(first.Token.Current.ID), "previous_secret_expires_at": nil},
		After:  map[string]any{"previous_secret_id": nil, "previous_secret_expires_at": nil},
	})
	h.unchanged(authority.ErrNoRotation, func() error {
		_, err := h.ConfirmRotation(ctx, kim, id, authority.RotationChange{})
		return err
	})
	h.chainHolds()
}

// The grace period begins when the new secret is first used, whichever gateway saw it
// and however late it tells.
func TestOnFirstUseTheGracePeriodBeginsWithTheFirstUse(t *testing.T) {
	h := build(t)
	first := h.create()
	id := first.Token.Token.ID
	second := h.rotate(id, authority.Rotation{Mode: token.RotateOnFirstUse, Grace: ptr(time.Hour)})
	began := h.clock.Now().Truncate(time.Microsecond)
	h.clock.add(30 * 24 * time.Hour)
	require.Zero(t, h.startGraces())
	require.Empty(t, h.says(first.Secret), "unlimited until then")
	status := h.rotation(id)
	require.Equal(t, token.Rotation{PreviousID: first.Token.Current.ID, Mode: token.RotateOnFirstUse, StartedAt: began, Grace: time.Hour}, status.Rotation)
	require.Zero(t, status.NewFirstUsed)

	used := h.clock.Now().Truncate(time.Microsecond)
	h.clock.add(time.Minute)
	h.seen(id, second.Token.Current.ID, used)
	head := h.head()
	require.Equal(t, 1, h.startGraces())
	require.Zero(t, h.startGraces(), "once")
	v := h.show(id)
	require.Equal(t, used.Add(time.Hour), v.Previous.ExpiresAt)
	require.Equal(t, second.Token.Token.Version+1, v.Token.Version, "gateways learn of it")
	require.Equal(t, used, h.rotation(id).NewFirstUsed)
	entries := h.entries(head)
	require.Len(t, entries, 1)
	require.Equal(t, "token.start_grace", entries[0].Verb)
	require.Equal(t, "system caddyfile", entries[0].Actor)

	// Another gateway was first, and tells of it later.
	h.seen(id, second.Token.Current.ID, used.Add(-20*time.Minute))
	require.Equal(t, 1, h.startGraces())
	require.Equal(t, used.Add(40*time.Minute), h.show(id).Previous.ExpiresAt)
	// A later use changes nothing.
	h.seen(id, second.Token.Current.ID, h.clock.Now())
	require.Zero(t, h.startGraces())

	h.clock.add(39*time.Minute - time.Second)
	require.Empty(t, h.says(first.Secret))
	h.clock.add(time.Second)
	require.Equal(t, "retired_secret", h.says(first.Secret))
	require.Empty(t, h.says(second.Secret))
	require.Nil(t, h.show(id).Previous)
	h.chainHolds()
}

// A use that becomes known when its grace period is over ends the previous secret then.
func TestAFirstUseThatIsToldLateEndsThePreviousSecretAtOnce(t *testing.T) {
	h := build(t)
	first := h.create()
	id := first.Token.Token.ID
	second := h.rotate(id, authority.Rotation{Mode: token.RotateOnFirstUse, Grace: ptr(time.Hour)})
	h.seen(id, second.Token.Current.ID, h.clock.Now().Add(time.Minute))
	h.clock.add(3 * time.Hour)
	require.Empty(t, h.says(first.Secret), "nobody has told yet")
	require.Equal(t, 1, h.startGraces())
	require.Equal(t, "retired_secret", h.says(first.Secret))
	require.Equal(t, []token.SecretStatus{token.Current, token.Retired}, statuses(h.secrets(id)))
	require.Zero(t, h.startGraces())
	h.chainHolds()
}

// Under an Idempotency-Key the gate notes the first use before it answers: that counts
// without the journal.
func TestAFirstUseThatTheGateNotedStartsTheGracePeriodToo(t *testing.T) {
	h := build(t)
	id := h.create().Token.Token.ID
	_, err := h.RotateToken(ctx, retrying("k", 1), id, authority.Rotation{Mode: token.RotateOnFirstUse})
	require.NoError(t, err)
	again, err := h.RotateToken(ctx, retrying("k", 1), id, authority.Rotation{Mode: token.RotateOnFirstUse})
	require.NoError(t, err, "the answer was lost")
	require.True(t, again.Replayed)
	require.Zero(t, h.startGraces())
	h.clock.add(time.Minute)
	h.use(id)
	require.Equal(t, 1, h.startGraces())
	require.Equal(t, h.clock.Now().Truncate(time.Microsecond).Add(time.Hour), h.show(id).Previous.ExpiresAt)
}

func TestNobodyStartsAGracePeriodByHand(t *testing.T) {
	h := build(t)
	id := h.create().Token.Token.ID
	second := h.rotate(id, authority.Rotation{Mode: token.RotateOnFirstUse})
	h.seen(id, second.Token.Current.ID, h.clock.Now())
	_, err := h.StartGraces(ctx, kim)
	require.Error(t, err)
	require.True(t, h.show(id).Previous.ExpiresAt.IsZero())
}

// The present secret of a token that is not live any more waits for nothing.
func TestOnlyLiveTokensWaitForAFirstUse(t *testing.T) {
	h := build(t)
	id := h.create().Token.Token.ID
	second := h.rotate(id, authority.Rotation{Mode: token.RotateOnFirstUse})
	h.seen(id, second.Token.Current.ID, h.clock.Now())
	_, err := h.RevokeToken(ctx, kim, id, true)
	require.NoError(t, err)
	require.Zero(t, h.startGraces())
}

// R14, R16, R18: rolling back retires the new secret at once; the old one stays, its
// timer removed, and there is nothing to roll back a second time.
func TestRollingBackBringsBackTheOldSecretAlone(t *testing.T) {
	for _, mode := range []token.RotationMode{token.RotateTimed, token.RotateUntilConfirmed, token.RotateOnFirstUse} {
		t.Run(string(mode), func(t *testing.T) {
			h := build(t)
			first := h.create()
			id := first.Token.Token.ID
			h.unchanged(authority.ErrNoRotation, func() error { // R16
				_, err := h.RollBackRotation(ctx, kim, id, authority.RotationChange{})
				return err
			})
			second := h.rotate(id, authority.Rotation{Mode: mode})
			h.clock.add(time.Minute)
			head := h.head()
			v, err := h.RollBackRotation(ctx, kim, id, authority.RotationChange{})
			require.NoError(t, err)
			require.Equal(t, first.Token.Current.ID, v.Current.ID)
			require.Nil(t, v.Previous)
			require.Equal(t, "retired_secret", h.says(second.Secret))
			h.clock.add(52 * week)
			require.Empty(t, h.says(first.Secret), "R14: its timer is gone")
			entries := h.entries(head)
			require.Len(t, entries, 1)
			require.Equal(t, "token.rollback", entries[0].Verb)
			require.Equal(t, string(second.Token.Current.ID), entries[0].Before["secret_id"])
			require.Equal(t, string(first.Token.Current.ID), entries[0].After["secret_id"])
			require.Zero(t, h.startGraces())

			third := h.rotate(id, authority.Rotation{Mode: token.RotateNow})
			require.Empty(t, h.says(third.Secret))
			require.Equal(t, "retired_secret", h.says(first.Secret))
			h.chainHolds()
		})
	}
}

func TestWithModeNowThereIsNothingToRollBackOrExtend(t *testing.T) {
	h := build(t)
	id := h.create().Token.Token.ID
	h.rotate(id, authority.Rotation{Mode: token.RotateNow})
	for name, change := range h.rotationChanges(id) {
		refusal := h.unchanged(authority.ErrNoRotation, func() error { return change(authority.RotationChange{}) })
		require.NotEmpty(t, refusal.Detail, name)
	}
}

// rotationChanges are the verbs about a rotation under way.
func (h *house) rotationChanges(id token.ID) map[string]func(authority.RotationChange) error {
	until := h.clock.Now().Add(24 * time.Hour)
	return map[string]func(authority.RotationChange) error{
		"confirm": func(c authority.RotationChange) error { _, err := h.ConfirmRotation(ctx, kim, id, c); return err },
		"rollback": func(c authority.RotationChange) error {
			_, err := h.RollBackRotation(ctx, kim, id, c)
			return err
		},
		"extend": func(c authority.RotationChange) error {
			_, err := h.ExtendRotation(ctx, kim, id, until, c)
			return err
		},
	}
}

// R7 to R9, R17: a verb that the policy wants confirmed says in words what breaks.
func TestVerbsAboutARotationAreConfirmedWithAWarning(t *testing.T) {
	h := build(t, func(p *token.Policy) { p.Confirm = []string{"confirm", "rollback", "extend", "rotate"} })
	first := h.create()
	id := first.Token.Token.ID
	for mode, say := range map[token.RotationMode]string{
		token.RotateNow: "at once", token.RotateTimed: "works until 2026-",
		token.RotateUntilConfirmed: "until the switch is confirmed", token.RotateOnFirstUse: "1h0m0s after the new one is first used",
	} {
		refusal := h.unchanged(authority.ErrConfirmationRequired, func() error {
			_, err := h.RotateToken(ctx, kim, id, authority.Rotation{Mode: mode})
			return err
		})
		require.Contains(t, refusal.Detail, say)
	}
	for name, say := range map[string]string{
		"confirm": "last seen in use on 2026-03-04", "rollback": "new secret stops working at once", "extend": "works until 2026-",
	} {
		_, err := h.RotateToken(ctx, kim, id, authority.Rotation{Confirm: true})
		require.NoError(t, err)
		h.seen(id, h.rotation(id).Rotation.PreviousID, h.clock.Now())
		change := h.rotationChanges(id)[name]
		refusal := h.unchanged(authority.ErrConfirmationRequired, func() error { return change(authority.RotationChange{}) })
		require.Contains(t, refusal.Detail, say, name)
		require.NoError(t, change(authority.RotationChange{Confirm: true}))
		if name == "extend" {
			_, err = h.ConfirmRotation(ctx, kim, id, authority.RotationChange{Confirm: true})
			require.NoError(t, err)
		}
	}
}

// Whoever names the previous secret can repeat a request whose answer was lost, and
// does not touch a rotation that began since.
func TestARequestThatNamesThePreviousSecretCanBeRepeated(t *testing.T) {
	h := build(t)
	first := h.create()
	id, a := first.Token.Token.ID, first.Token.Current.ID
	second := h.rotate(id, authority.Rotation{})
	b := second.Token.Current.ID
	_, err := h.ConfirmRotation(ctx, kim, id, authority.RotationChange{Previous: a})
	require.NoError(t, err)
	third := h.rotate(id, authority.Rotation{})
	head := h.head()
	_, err = h.ConfirmRotation(ctx, kim, id, authority.RotationChange{Previous: a})
	require.NoError(t, err, "it was done already")
	require.Equal(t, head, h.head(), "and changes nothing")
	require.Empty(t, h.says(second.Secret), "nor the rotation since")

	h.unchanged(authority.ErrNoRotation, func() error {
		_, err := h.RollBackRotation(ctx, kim, id, authority.RotationChange{Previous: a})
		return err
	})
	_, err = h.RollBackRotation(ctx, kim, id, authority.RotationChange{Previous: b})
	require.NoError(t, err)
	head = h.head()
	v, err := h.RollBackRotation(ctx, kim, id, authority.RotationChange{Previous: b})
	require.NoError(t, err)
	require.Equal(t, b, v.Current.ID)
	require.Equal(t, head, h.head())
	require.Equal(t, "retired_secret", h.says(third.Secret))

	for name, change := range h.rotationChanges(id) {
		refusal := h.unchanged(authority.ErrInvalidField, func() error { return change(authority.RotationChange{Previous: "not an ID"}) })
		require.Equal(t, "previous_secret_id", refusal.Field, name)
		h.unchanged(authority.ErrNoRotation, func() error { return change(authority.RotationChange{Previous: "sec_unknown"}) })
	}
}

// R20: an extension stays within the policy's longest grace period, counted from the
// rotation, unless an operator extends, in whoever's name.
func TestAnExtensionIsBoundUnlessAnOperatorAsks(t *testing.T) {
	h := build(t, func(p *token.Policy) { p.GraceMax = week })
	owner := h.user("owner")
	ada := authority.By{Actor: tokenstore.Actor{Kind: tokenstore.UserActor, Name: string(owner.ID)}}
	forAda := kim
	forAda.RequestedBy = owner.ID
	id := h.create().Token.Token.ID
	h.rotate(id, authority.Rotation{Mode: token.RotateTimed, Grace: ptr(24 * time.Hour)})
	began := h.clock.Now().Truncate(time.Microsecond)
	h.clock.add(time.Hour)

	extend := func(by authority.By, until time.Time) error {
		_, err := h.ExtendRotation(ctx, by, id, until, authority.RotationChange{})
		return err
	}
	for name, until := range map[string]time.Time{
		"now": h.clock.Now(), "past": began, "zero": {}, "beyond what can be written": time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		refusal := h.unchanged(authority.ErrInvalidField, func() error { return extend(kim, until) })
		require.Equal(t, "previous_secret_expires_at", refusal.Field, name)
	}
	refusal := h.unchanged(authority.ErrInvalidField, func() error { return extend(ada, began.Add(week+time.Second)) })
	require.Contains(t, refusal.Detail, "grace_max")
	head := h.head()
	require.NoError(t, extend(ada, began.Add(week)))
	require.Equal(t, began.Add(week), h.show(id).Previous.ExpiresAt)
	entries := h.entries(head)
	require.Equal(t, "token.extend", entries[0].Verb)
	require.Equal(t, began.Add(week).Format(time.RFC3339Nano), entries[0].After["previous_secret_expires_at"])
	head = h.head()
	require.NoError(t, extend(ada, began.Add(week)))
	require.Equal(t, head, h.head(), "the same again changes nothing")

	require.NoError(t, extend(kim, began.Add(4*week)), "R20")
	require.NoError(t, extend(forAda, began.Add(5*week)), "R20: because the customer asked support")
	require.NoError(t, extend(ada, began.Add(3*week)), "within what was granted")
	h.unchanged(authority.ErrInvalidField, func() error { return extend(ada, began.Add(4*week)) })
	h.chainHolds()
}

func TestAnExtensionNeverOutlivesTheToken(t *testing.T) {
	h := build(t)
	end := h.clock.Now().Add(48 * time.Hour).Truncate(time.Microsecond)
	id := h.create(func(n *authority.NewToken) { n.ExpiresAt = end }).Token.Token.ID
	h.rotate(id, authority.Rotation{})
	refusal := h.unchanged(authority.ErrInvalidField, func() error {
		_, err := h.ExtendRotation(ctx, kim, id, end.Add(time.Second), authority.RotationChange{})
		return err
	})
	require.Contains(t, refusal.Detail, "the token itself ends")
	_, err := h.ExtendRotation(ctx, kim, id, end, authority.RotationChange{})
	require.NoError(t, err)
}

// A rotation without an end gets one, counted from now however long ago it began, and
// is timed from then on: a first use does not move what a person has set.
func TestExtendingARotationWithoutAnEndSetsATimer(t *testing.T) {
	for _, mode := range []token.RotationMode{token.RotateUntilConfirmed, token.RotateOnFirstUse} {
		t.Run(string(mode), func(t *testing.T) {
			h := build(t)
			ada := authority.By{Actor: tokenstore.Actor{Kind: tokenstore.UserActor, Name: string(h.user("owner").ID)}}
			first := h.create()
			id := first.Token.Token.ID
			second := h.rotate(id, authority.Rotation{Mode: mode})
			h.clock.add(10 * week)
			until := h.clock.Now().Add(week).Truncate(time.Microsecond)
			h.unchanged(authority.ErrInvalidField, func() error {
				_, err := h.ExtendRotation(ctx, ada, id, until.Add(time.Second), authority.RotationChange{})
				return err
			})
			v, err := h.ExtendRotation(ctx, ada, id, until, authority.RotationChange{})
			require.NoError(t, err)
			require.Equal(t, until, v.Previous.ExpiresAt)
			require.Equal(t, token.RotateTimed, h.rotation(id).Rotation.Mode)
			h.seen(id, second.Token.Current.ID, h.clock.Now())
			require.Zero(t, h.startGraces())
			h.clock.add(week)
			require.Equal(t, "retired_secret", h.says(first.Secret))
			require.Empty(t, h.says(second.Secret))
		})
	}
}

// All ends with the token, and what was over stays over when the token is given a
// later end.
func TestARotationWithoutAnEndEndsWithItsToken(t *testing.T) {
	h := build(t)
	end := h.clock.Now().Add(time.Hour)
	first := h.create(func(n *authority.NewToken) { n.ExpiresAt = end })
	id := first.Token.Token.ID
	second := h.rotate(id, authority.Rotation{Mode: token.RotateUntilConfirmed})
	require.Equal(t, end.Truncate(time.Microsecond), second.Token.Previous.ExpiresAt, "as people see it")
	require.Empty(t, h.says(first.Secret))
	h.clock.add(time.Hour)
	require.Equal(t, "expired_token", h.says(second.Secret))
	require.NotEmpty(t, h.says(first.Secret))
	for name, change := range h.rotationChanges(id) {
		refusal := h.unchanged(authority.ErrInvalidState, func() error { return change(authority.RotationChange{}) })
		require.Contains(t, refusal.Detail, "expired", name)
	}
	_, err := h.EditToken(ctx, kim, id, second.Token.Token.Version, authority.Edit{ExpiresAt: ptr(h.clock.Now().Add(time.Hour))})
	require.NoError(t, err)
	require.Empty(t, h.says(second.Secret))
	require.Equal(t, "retired_secret", h.says(first.Secret))
}

// Disabling and revoking stop both secrets; a disabled token's rotation can be ended.
func TestDisablingAndRevokingStopBothSecrets(t *testing.T) {
	h := build(t)
	first := h.create()
	id := first.Token.Token.ID
	second := h.rotate(id, authority.Rotation{Mode: token.RotateUntilConfirmed})
	_, err := h.DisableToken(ctx, kim, id, true)
	require.NoError(t, err)
	require.Equal(t, "disabled_token", h.says(first.Secret))
	require.Equal(t, "disabled_token", h.says(second.Secret))
	_, err = h.ExtendRotation(ctx, kim, id, h.clock.Now().Add(time.Hour), authority.RotationChange{})
	require.NoError(t, err)
	_, err = h.RevokeToken(ctx, kim, id, true)
	require.NoError(t, err)
	require.Equal(t, "revoked_token", h.says(first.Secret))
	require.Equal(t, "revoked_token", h.says(second.Secret))
	for _, change := range h.rotationChanges(id) {
		h.unchanged(authority.ErrInvalidState, func() error { return change(authority.RotationChange{}) })
	}
}

// D22: a second rotation is refused with what can be done instead.
func TestASecondRotationSaysWhatCanBeDone(t *testing.T) {
	h := build(t)
	id := h.create().Token.Token.ID
	h.rotate(id, authority.Rotation{Mode: token.RotateUntilConfirmed})
	refusal := h.unchanged(authority.ErrRotationInProgress, func() error {
		_, err := h.RotateToken(ctx, kim, id, authority.Rotation{})
		return err
	})
	for _, word := range []string{"no end yet", "confirm", "roll it back", "extend"} {
		require.Contains(t, refusal.Detail, word)
	}
}

func TestTheRotationShowsWhoStillUsesThePreviousSecret(t *testing.T) {
	h := build(t)
	first := h.create()
	id, a := first.Token.Token.ID, first.Token.Current.ID
	none := h.rotation(id)
	require.Nil(t, none.View.Previous)
	require.Equal(t, token.Rotation{}, none.Rotation)

	longAgo := h.clock.Now()
	h.seen(id, a, longAgo, token.Count{TokenID: id, SecretID: a, Bucket: dayStart(longAgo), Outcome: "allowed", Address: "192.0.2.9", N: 7})
	h.clock.add(3 * 24 * time.Hour)
	second := h.rotate(id, authority.Rotation{Mode: token.RotateUntilConfirmed})
	require.Zero(t, h.rotation(id).PreviousLastUsed, "what was before does not count")
	require.Zero(t, h.rotation(id).Requests)

	h.clock.add(24 * time.Hour)
	now := h.clock.Now().Truncate(time.Microsecond)
	count := func(secret token.ID, outcome, address string, n int64) token.Count {
		return token.Count{TokenID: id, SecretID: secret, Bucket: dayStart(now), Outcome: outcome, Scope: "read", Address: address, N: n}
	}
	h.seen(id, a, now,
		count(a, "allowed", "192.0.2.1", 3), count(a, "insufficient_scope", "192.0.2.1", 2), count(a, "allowed", "192.0.2.2", 9),
		count(a, "ip_not_allowed", "203.0.113.1", 100), count(second.Token.Current.ID, "allowed", "192.0.2.3", 50))
	status := h.rotation(id)
	require.Equal(t, now, status.PreviousLastUsed)
	require.EqualValues(t, 14, status.Requests)
	require.Equal(t, []authority.AddressUse{
		{Address: "192.0.2.2", Requests: 9, LastSeen: dayStart(now)},
		{Address: "192.0.2.1", Requests: 5, LastSeen: dayStart(now)},
	}, status.Addresses, "those who may use it from there, most first")
	require.False(t, status.More)
	require.Zero(t, status.NewFirstUsed, "facts are asked, and not counts")
}

func dayStart(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }

// A fact about a rotation that an earlier version began names no mode.
func TestARotationOfAnEarlierVersionIsShownAsTimed(t *testing.T) {
	h := build(t)
	id := h.create().Token.Token.ID
	h.rotate(id, authority.Rotation{})
	require.NoError(t, h.Store.Write(ctx, func(tx *tokenstore.Tx) error {
		tx.Audit(tokenstore.AuditEntry{Verb: "test", Target: string(id)})
		tok, err := tx.Token(id)
		if err != nil {
			return err
		}
		if err := tx.UpdateToken(&tok); err != nil {
			return err
		}
		return tx.EndRotation(id)
	}))
	status := h.rotation(id)
	require.Equal(t, token.RotateTimed, status.Rotation.Mode)
	require.Equal(t, h.clock.Now().Truncate(time.Microsecond), status.Rotation.StartedAt)
	_, err := h.ConfirmRotation(ctx, kim, id, authority.RotationChange{})
	require.NoError(t, err)
}
