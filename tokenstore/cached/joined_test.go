package cached_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// A reading that began before a change may end after it. Who comes after the
// change and joins such a reading must not get what it found.
func TestAReadingThatIsJoinedAfterAChangeDoesNotAnswerForIt(t *testing.T) {
	for name, c := range map[string]struct {
		before func(*fakeStore, int) // the change comes after this
		change func(*fakeStore, int)
		want   string
	}{
		"of a token that is revoked": {
			func(f *fakeStore, n int) { f.issue(n) },
			func(f *fakeStore, n int) { f.commit(digest(n), revoke) }, "revoked",
		},
		"of a token that is edited": {
			func(f *fakeStore, n int) { f.issue(n) },
			func(f *fakeStore, n int) {
				f.commit(digest(n), func(r *tokenstore.Record) { r.Token.State = token.Disabled; r.Token.Version++ })
			}, "disabled",
		},
		"of a token that is created": {
			func(*fakeStore, int) {},
			func(f *fakeStore, n int) { f.issue(n) }, "active",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				c.before(r.inner, 1)
				r.sync()
				// The reading looks at the clock once it has judged what it got, and
				// before anybody can see that. There it is held up.
				var armed atomic.Bool
				release := make(chan struct{})
				r.clock.onRead.Store(func() {
					if armed.CompareAndSwap(true, false) {
						<-release
					}
				})
				asked := 0
				last := 1
				if name == "of a token that is created" {
					last = 3
				}
				r.inner.onLookup = func(context.Context) {
					if asked++; asked == last {
						armed.Store(true)
					}
				}
				first, second := make(chan string, 1), make(chan string, 1)
				go func() { first <- r.state(digest(1)) }()
				synctest.Wait()
				require.False(t, armed.Load(), "it is held up")

				c.change(r.inner, 1)
				r.sync()
				go func() { second <- r.state(digest(1)) }()
				synctest.Wait() // it has joined
				close(release)
				require.Equal(t, c.want, <-second)
				<-first // it came before the change: both answers are right
			})
		})
	}
}
