package postgres_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/postgres"
)

// F11: a server that is starting up is not kept from it by those who wait for it.
func TestWhileConnectingFailsOneTriesNowAndThen(t *testing.T) {
	now := time.Now()
	p := postgres.NewPause(func() time.Time { return now })
	for range 10 {
		require.NoError(t, p.Try(), "before anything failed all may")
	}
	for range 10 {
		p.Failed() // they did together
	}
	tries, longest, last := 0, time.Duration(0), now
	for end := now.Add(time.Minute); now.Before(end); now = now.Add(time.Millisecond) {
		if err := p.Try(); err != nil {
			require.ErrorIs(t, err, tokenstore.ErrUnavailable)
			continue
		}
		tries++
		longest, last = max(longest, now.Sub(last)), now
		require.Error(t, p.Try(), "the others wait for the one that tries")
		now = now.Add(time.Millisecond)
		p.Failed()
	}
	require.Less(t, tries, 300)
	require.Greater(t, tries, 100)
	require.LessOrEqual(t, longest, 600*time.Millisecond, "it is found to be back in time")

	// Nobody hears what became of a try: the next may follow all the same.
	now = now.Add(time.Second)
	require.NoError(t, p.Try())
	now = now.Add(3 * time.Second)
	require.NoError(t, p.Try())
	require.NoError(t, p.Succeeded())
	for range 10 {
		require.NoError(t, p.Try())
	}
	p.Failed()
	now = now.Add(60 * time.Millisecond)
	require.NoError(t, p.Try(), "the first wait is short again")
}

// S22: what is told late of the time before the return is not held against it.
func TestAFailureThatBeganBeforeTheReturnIsNoFailureNow(t *testing.T) {
	now := time.Now()
	p := postgres.NewPause(func() time.Time { return now })
	began := now
	now = now.Add(time.Millisecond)
	p.Failed()
	require.Error(t, p.Try())
	now = now.Add(time.Millisecond)
	require.NoError(t, p.Succeeded())
	<-p.Returned()
	p.FailedSince(began)
	require.NoError(t, p.Try())
	now = now.Add(time.Millisecond)
	p.Failed()
	require.Error(t, p.Try(), "this one is of now")
}

// S22: connections that outlived an outage show that it is over. Of a server that
// has no room for more they show nothing.
func TestAnAnswerOpensTheWayForNewConnections(t *testing.T) {
	now := time.Now()
	p := postgres.NewPause(func() time.Time { return now })
	early := now
	now = now.Add(time.Millisecond)
	p.Failed()
	p.Answered(early)
	require.Error(t, p.Try(), "it was asked before")
	now = now.Add(time.Millisecond)
	p.Answered(now)
	require.NoError(t, p.Try())
	<-p.Returned()

	p.Refused()
	now = now.Add(time.Millisecond)
	p.Answered(now)
	require.Error(t, p.Try())
}

func TestNodesThatFailedTogetherComeBackOneByOne(t *testing.T) {
	start := time.Now()
	back := map[time.Duration]int{}
	for range 200 {
		now := start
		p := postgres.NewPause(func() time.Time { return now })
		for range 10 { // until the waits are long
			p.Failed()
			now = now.Add(2 * time.Second)
		}
		require.NoError(t, p.Try())
		p.Failed()
		from := now
		for p.Try() != nil {
			now = now.Add(10 * time.Millisecond)
		}
		back[now.Sub(from)]++
	}
	require.Greater(t, len(back), 20)
}
