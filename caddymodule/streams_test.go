package caddymodule

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// lasting is a request that goes on until it is ended.
type lasting struct {
	*call
	done chan struct{}
}

// last opens a request that lasts, after begin has been called on it.
func last(t *testing.T, r *http.Request, begin func(http.ResponseWriter), g *Gate) *lasting {
	t.Helper()
	begun := make(chan struct{})
	l := &lasting{done: make(chan struct{})}
	go func() {
		defer close(l.done)
		l.call = serveTo(r, func(w http.ResponseWriter, r *http.Request) error {
			begin(w)
			close(begun)
			<-r.Context().Done()
			w.WriteHeader(499) // as reverse_proxy does
			return nil
		}, g)
	}()
	select {
	case <-begun:
	case <-l.done:
		t.Fatalf("the request was not forwarded: %d %s", l.Code, l.Body)
	}
	return l
}

func (l *lasting) wait(t *testing.T) *call {
	t.Helper()
	select {
	case <-l.done:
		return l.call
	case <-time.After(gateLimit):
		t.Fatal("the request goes on")
		return nil
	}
}

func (l *lasting) goesOn(t *testing.T) {
	t.Helper()
	select {
	case <-l.done:
		t.Fatalf("the request ended: %d %s", l.Code, l.Body)
	default:
	}
}

func TestAStreamEndsWhenItsTokenStopsBeingValid(t *testing.T) {
	h := newGatehouse(t)
	g := h.gate()
	for name, c := range map[string]struct {
		end  func(authority.Issued)
		code string
	}{
		"revoked": {func(i authority.Issued) {
			_, err := h.RevokeToken(t.Context(), keeper, i.Token.Token.ID, true)
			require.NoError(t, err)
		}, "revoked_token"},
		"disabled": {func(i authority.Issued) {
			_, err := h.DisableToken(t.Context(), keeper, i.Token.Token.ID, true)
			require.NoError(t, err)
		}, "disabled_token"},
		"rotated": {func(i authority.Issued) {
			_, err := h.RotateToken(t.Context(), keeper, i.Token.Token.ID, authority.Rotation{Mode: token.RotateNow, Confirm: true})
			require.NoError(t, err)
		}, "retired_secret"},
		"kept out of its address": {func(i authority.Issued) {
			list := []string{"198.51.100.0/24"}
			_, err := h.EditToken(t.Context(), keeper, i.Token.Token.ID, i.Token.Token.Version, authority.Edit{AllowList: &list})
			require.NoError(t, err)
		}, "ip_not_allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			ended, stays := h.issue(readWrite), h.issue(readWrite)
			l := last(t, newCall("GET", "/", "Authorization", bearer(ended.Secret)), func(http.ResponseWriter) {}, g)
			other := last(t, newCall("GET", "/", "Authorization", bearer(stays.Secret)), func(w http.ResponseWriter) { w.WriteHeader(200) }, g)
			c.end(ended)
			got := l.wait(t)
			require.Equal(t, c.code, got.code(t), "C12: a response that had not begun says why")
			require.NotEqual(t, 499, got.Code)

			other.goesOn(t)
			_, err := h.RevokeToken(t.Context(), keeper, stays.Token.Token.ID, true)
			require.NoError(t, err)
			require.Equal(t, 200, other.wait(t).Code, "one that had begun breaks off")
		})
	}
	require.Empty(t, h.app.runtime.streams.snapshot(nil))
}

func TestAStreamEndsWhenItsTokenExpires(t *testing.T) {
	h := newGatehouse(t)
	issued := h.issue(func(n *authority.NewToken) { n.ExpiresAt = h.clock.Now().Add(time.Hour) })
	l := last(t, newCall("GET", "/", "Authorization", bearer(issued.Secret)), func(http.ResponseWriter) {}, h.gate())
	h.clock.add(59 * time.Minute)
	l.goesOn(t)
	h.clock.add(time.Minute)
	require.Equal(t, "expired_token", l.wait(t).code(t))
}

func TestWhatAnEndedHandlerStillWritesIsDropped(t *testing.T) {
	h := newGatehouse(t)
	issued := h.issue()
	begun, ended := make(chan struct{}), make(chan *call)
	go func() {
		ended <- serveTo(newCall("GET", "/", "Authorization", bearer(issued.Secret)), func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Set-Cookie", "a=b")
			w.Header().Set("Content-Length", "7")
			close(begun)
			<-r.Context().Done()
			_, err := w.Write([]byte("private"))
			return err
		}, h.gate())
	}()
	<-begun
	_, err := h.RevokeToken(t.Context(), keeper, issued.Token.Token.ID, true)
	require.NoError(t, err)
	c := <-ended
	require.Equal(t, 401, c.Code)
	require.NotContains(t, c.Body.String(), "private")
	require.NotContains(t, c.Header(), "Set-Cookie")
}

func TestClosingEndsEveryStream(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := newStreams()
	s.interval = time.Hour
	var ends atomic.Int32
	for range 100 {
		st := &stream{source: recordFunc(nil), cancel: func() { ends.Add(1) }}
		require.True(t, s.enter(st))
	}
	s.Close()
	s.Close()
	require.EqualValues(t, 100, ends.Load())
	require.False(t, s.enter(&stream{cancel: func() {}}), "nothing starts any more")
}

func TestAClosedRegistryLetsNoRequestPass(t *testing.T) {
	h := newGatehouse(t)
	issued := h.issue()
	h.app.runtime.streams.Close()
	c := serve(newCall("GET", "/", "Authorization", bearer(issued.Secret)), h.gate())
	require.Equal(t, "store_unavailable", c.code(t))
	require.Nil(t, c.upstream)
}

func TestARegistryThatNobodyUsesRunsNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	newStreams()
}

type recordFunc func(context.Context) (*tokenstore.Record, error)

func (f recordFunc) Current(ctx context.Context, _ token.Digest, _ *tokenstore.Record) (*tokenstore.Record, error) {
	return f(ctx)
}

func (recordFunc) Peek(token.Digest) (*tokenstore.Record, bool) { return nil, false }

func (recordFunc) Age() time.Duration { return 0 }

func TestAStoreThatIsSlowEndsNoStreamAtOnce(t *testing.T) {
	s := newStreams()
	s.interval = time.Millisecond
	defer s.Close()
	var asked atomic.Int32
	st := &stream{facts: requestFacts{required: token.ReadScope}, cancel: func() { t.Error("the request was ended") }, source: recordFunc(func(ctx context.Context) (*tokenstore.Record, error) {
		if asked.Add(1) == 1 {
			<-ctx.Done() // as when many tokens have changed at once
			return nil, ctx.Err()
		}
		return validRecord(), nil
	})}
	require.True(t, s.enter(st))
	until(t, "it was asked about again", func() bool { return asked.Load() > 2 })
	require.Nil(t, st.ended.Load())
	s.leave(st)
}

// validRecord lets every request pass that only reads.
func validRecord() *tokenstore.Record {
	return &tokenstore.Record{
		Token:   token.Token{ID: "tok_1", AccountID: "acc_1", Grant: token.Grant{Access: token.ReadOnly}, Environment: token.Production, State: token.Active},
		Secret:  token.SecretRecord{TokenID: "tok_1", Status: token.Current},
		Account: &token.Account{ID: "acc_1"}, Policy: &token.Policy{},
	}
}

func TestWhatCannotBeDecidedEnds(t *testing.T) {
	for name, c := range map[string]struct {
		source recordFunc
		want   *problem
	}{
		"the store is out of reach": {func(context.Context) (*tokenstore.Record, error) { return nil, tokenstore.ErrUnavailable }, problemStoreUnavailable},
		"the secret is gone":        {func(context.Context) (*tokenstore.Record, error) { return nil, tokenstore.ErrNotFound }, problemUnknownToken},
		"an error nobody knows":     {func(context.Context) (*tokenstore.Record, error) { return nil, errors.New("what") }, problemStoreUnavailable},
		"a record without facts":    {func(context.Context) (*tokenstore.Record, error) { return &tokenstore.Record{}, nil }, problemStoreUnavailable},
		"a mistake of ours":         {func(context.Context) (*tokenstore.Record, error) { panic("x") }, problemStoreUnavailable},
		"an answer that never comes": {func(ctx context.Context) (*tokenstore.Record, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, problemStoreUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStreams()
			s.interval = time.Millisecond
			defer s.Close()
			ended := make(chan struct{})
			st := &stream{source: c.source, cancel: sync.OnceFunc(func() { close(ended) })}
			require.True(t, s.enter(st))
			<-ended
			require.Equal(t, c.want, st.ended.Load().problem)
			s.leave(st)
			require.Empty(t, s.snapshot(nil))
		})
	}
}

func TestStreamsComeAndGoFromManySides(t *testing.T) {
	s := newStreams()
	s.interval = time.Millisecond
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 2000 {
				st := &stream{source: recordFunc(func(context.Context) (*tokenstore.Record, error) {
					return nil, tokenstore.ErrUnavailable
				}), cancel: func() {}}
				if s.enter(st) {
					s.leave(st)
				}
			}
		})
	}
	all.Wait()
	require.Empty(t, s.snapshot(nil))
	s.Close()
}
