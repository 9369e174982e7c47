package caddymodule

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// uses hands over what was recorded, and gives what the store then knows.
func (h *gatehouse) uses(id token.ID) map[string]tokenstore.SecretUse {
	h.t.Helper()
	require.NoError(h.t, h.app.runtime.open.Load().activity.recorder.Flush(h.t.Context()))
	byScope := map[string]tokenstore.SecretUse{}
	require.NoError(h.t, h.inner.Read(h.t.Context(), func(tx *tokenstore.Tx) error {
		list, err := tx.Uses(id)
		for _, use := range list {
			byScope[use.Scope.Name] = use
		}
		return err
	}))
	return byScope
}

// M7: any authenticated request from an allowed address keeps a token alive, even
// when its scope is refused; a scope was used only when the request was forwarded.
func TestWhatCountsAsUse(t *testing.T) {
	h := newGatehouse(t)
	g := h.gate(func(g *Gate) {
		g.Require = []Requirement{{Scope: "payments:write", Path: "/pay"}, {Scope: "payments:read", Path: "/payments"}}
	})
	call := func(path string, i string, header ...string) int {
		return serve(newCall("GET", path, append([]string{"Authorization", i}, header...)...), g).Code
	}
	t.Run("a forwarded request uses its scope", func(t *testing.T) {
		i := h.issue(custom("payments:read", "payments:write"))
		require.Equal(t, http.StatusOK, call("/payments", bearer(i.Secret)))
		uses := h.uses(i.Token.Token.ID)
		require.Len(t, uses, 1)
		use := uses["payments:read"]
		require.Equal(t, i.Token.Current.ID, use.SecretID)
		require.Equal(t, token.Read, use.Scope.Nature)
		require.False(t, use.Until.Before(h.clock.Now()))
	})
	t.Run("one whose scope is refused uses the token alone", func(t *testing.T) {
		i := h.issue(custom("payments:read"))
		require.Equal(t, http.StatusForbidden, call("/pay", bearer(i.Secret)))
		uses := h.uses(i.Token.Token.ID)
		require.Len(t, uses, 1)
		require.Contains(t, uses, "")
	})
	t.Run("one from elsewhere is no use", func(t *testing.T) {
		i := h.issue(func(n *authority.NewToken) { n.AllowList = []string{"198.51.100.0/24"} })
		require.Equal(t, http.StatusForbidden, call("/payments", bearer(i.Secret)))
		require.Empty(t, h.uses(i.Token.Token.ID))
	})
	t.Run("nor is one with a token that ended", func(t *testing.T) {
		i := h.issue()
		_, err := h.DisableToken(t.Context(), keeper, i.Token.Token.ID, true)
		require.NoError(t, err)
		require.Equal(t, http.StatusUnauthorized, call("/", bearer(i.Secret)))
		require.Empty(t, h.uses(i.Token.Token.ID))
	})
	t.Run("nor is being asked about", func(t *testing.T) {
		i := h.issue()
		_, err := h.Verify(t.Context(), keeper, authority.Question{Secret: i.Secret.Reveal()})
		require.NoError(t, err)
		require.Empty(t, h.uses(i.Token.Token.ID))
	})
}

// A stream that is open over the end of a bucket uses its token in both.
func TestARequestThatLastsIsNotedInEachBucket(t *testing.T) {
	h := newGatehouse(t)
	g := h.gate()
	i := h.issue()
	first := h.clock.Now()
	serveTo(newCall("GET", "/", "Authorization", bearer(i.Secret)), func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusOK)
		h.clock.add(24 * time.Hour)
		until(t, "the sweep notes it", func() bool {
			use := h.uses(i.Token.Token.ID)["read"]
			return use.Until.After(first.Add(24 * time.Hour))
		})
		return nil
	}, g)
	use := h.uses(i.Token.Token.ID)["read"]
	require.Equal(t, first.UTC().Truncate(time.Microsecond), use.First)
	require.False(t, use.Last.Before(first.Add(24*time.Hour).Truncate(24*time.Hour)))
}

// O6: consumers are told of what is to come, in headers and in refusals.
func TestConsumersAreToldWhatIsToCome(t *testing.T) {
	h := newGatehouse(t)
	g := h.gate()
	i := h.issue(readWrite)
	id := i.Token.Token.ID
	at := h.clock.Now().Add(24 * time.Hour).UTC()
	history := func(change func(t *token.Token, h *tokenstore.History)) {
		t.Helper()
		require.NoError(t, h.app.runtime.open.Load().store.Write(t.Context(), func(tx *tokenstore.Tx) error {
			tok, err := tx.Token(id)
			if err != nil {
				return err
			}
			was, err := tx.History(id)
			if err != nil {
				return err
			}
			change(&tok, &was)
			tx.Audit(tokenstore.AuditEntry{Actor: tokenstore.Actor{Kind: tokenstore.SystemActor, Name: "test"}, Verb: "token.schedule", Target: string(id)})
			if err := tx.UpdateToken(&tok); err != nil {
				return err
			}
			return tx.PutHistory(id, was)
		}))
	}
	get := func() *call { return serve(newCall("GET", "/", "Authorization", bearer(i.Secret)), g) }

	c := get()
	require.Equal(t, http.StatusOK, c.Code)
	require.Empty(t, identityOf(c.Header()))

	history(func(_ *token.Token, h *tokenstore.History) { h.Scheduled, h.ScheduledAt = token.DeleteUnused, at })
	require.Equal(t, "delete; at="+at.Format(time.RFC3339), get().Header().Get("Sallyport-Scheduled"))
	history(func(_ *token.Token, h *tokenstore.History) { h.Scheduled = token.Downgrade })
	require.Equal(t, "downgrade; at="+at.Format(time.RFC3339), get().Header().Get("Sallyport-Scheduled"))
	history(func(tok *token.Token, _ *tokenstore.History) { tok.ExpiresAt = h.clock.Now().Add(29 * 24 * time.Hour) })
	require.NotEmpty(t, get().Header().Get("Sallyport-Token-Expires"))
	history(func(tok *token.Token, _ *tokenstore.History) { tok.ExpiresAt = h.clock.Now().Add(31 * 24 * time.Hour) })
	require.Empty(t, get().Header().Get("Sallyport-Token-Expires"))

	history(func(tok *token.Token, h *tokenstore.History) {
		h.Scheduled, h.ScheduledAt = 0, time.Time{}
		h.DowngradedAt, h.UndoUntil, h.Before = at, at.Add(time.Hour), tok.Grant
		tok.Grant = token.Grant{Access: token.ReadOnly}
	})
	c = get()
	require.Equal(t, http.StatusOK, c.Code)
	require.Empty(t, identityOf(c.Header()))
	c = serve(newCall("POST", "/", "Authorization", bearer(i.Secret)), g)
	require.Equal(t, http.StatusForbidden, c.Code)
	require.Equal(t, "read_only_token", c.code(t))
	require.Contains(t, c.Body.String(), `"downgraded_at":"`+at.Format(time.RFC3339)+`","undo_until":"`+at.Add(time.Hour).Format(time.RFC3339)+`"`)
}

// F49: what a store had taken and has forgotten, because a backup was restored,
// is blind time: nothing will tell it again.
func TestWhatARestoredStoreForgotIsBlindTime(t *testing.T) {
	h := newGatehouse(t)
	g, i := h.gate(), h.issue()
	a := h.app.runtime.open.Load().activity
	call := func() {
		t.Helper()
		require.Equal(t, http.StatusOK, serve(newCall("GET", "/", "Authorization", bearer(i.Secret)), g).Code)
		require.NoError(t, a.recorder.Flush(t.Context()))
	}
	gaps := func() (list []token.Gap) {
		t.Helper()
		require.NoError(t, h.inner.Read(t.Context(), func(tx *tokenstore.Tx) (err error) {
			list, err = tx.Gaps()
			return err
		}))
		return list
	}
	call()
	require.Empty(t, gaps())
	run := a.recorder.Run()
	earlier := run.StartedAt.Add(-time.Minute)
	require.NoError(t, h.inner.Write(t.Context(), func(tx *tokenstore.Tx) error {
		return tx.PutActivity(token.Activity{Run: run.ID, Covered: earlier})
	}))
	h.clock.add(24 * time.Hour)
	call()
	require.Len(t, gaps(), 1)
	require.Equal(t, earlier.UTC().Truncate(time.Microsecond), gaps()[0].From)

	require.NoError(t, h.inner.Write(t.Context(), func(tx *tokenstore.Tx) error { return tx.DropRun(run.ID) }))
	h.clock.add(24 * time.Hour)
	call()
	require.Len(t, gaps(), 1)
	require.Equal(t, run.StartedAt.UTC().Truncate(time.Microsecond), gaps()[0].From)
	require.True(t, gaps()[0].Blind)
}

// The sweep and the end of a request may come to a bucket's end at once: it is
// noted once.
func TestARequestIsNotedOnceByWhoeverComesFirst(t *testing.T) {
	h := newGatehouse(t)
	i := h.issue()
	open := h.app.runtime.open.Load()
	record, err := open.store.Resolve(t.Context(), i.Secret.Digest(), parseAddress("192.0.2.7"))
	require.NoError(t, err)
	now := h.clock.Now()
	var rec recording
	rec.renew(now) // nothing was noted yet
	require.Empty(t, h.uses(i.Token.Token.ID))
	facts := requestFacts{address: parseAddress("192.0.2.7"), required: token.ReadScope}
	require.Nil(t, rec.note(open.activity, record, &facts, token.Allowed, now))
	later := now.Add(24 * time.Hour)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { rec.renew(later) })
	}
	all.Wait()
	require.Equal(t, later.UTC().Truncate(time.Microsecond), h.uses(i.Token.Token.ID)["read"].Last)
}
