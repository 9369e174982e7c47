package usage_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
)

// I1: time in which requests may have passed unseen is blind, from its first moment
// to its last, whatever the store does meanwhile.
func TestTimeThatIsSaidToBeUnseenIsBlind(t *testing.T) {
	b := newBench(t)
	r := b.open()
	b.clock.pass(time.Minute)
	b.flush(r)
	require.Empty(t, b.sink.allGaps())
	since := b.clock.now().Add(-10 * time.Second)
	gap := func(to time.Time) token.Gap {
		return token.Gap{From: since, To: to, Blind: true, Node: "node-1", Reason: "no gate"}
	}
	told := func() (last token.Gap, n int) {
		gaps := b.sink.allGaps() // one of one beginning grows in a store
		return gaps[len(gaps)-1], len(gaps)
	}
	requireGap := func(to time.Time, why string) {
		t.Helper()
		last, _ := told()
		require.Equal(t, gap(to), last, why)
	}
	r.Blind(since.Add(time.Second), "no gate")
	r.Blind(since, "no gate")
	r.Blind(since.Add(time.Hour), "no gate")
	b.flush(r)
	requireGap(b.clock.now(), "as far as it has come")
	b.clock.pass(time.Hour)
	b.flush(r)
	requireGap(b.clock.now(), "it goes on")

	b.sink.fail(func(string, bool) error { return errors.New("away") })
	b.clock.pass(time.Minute)
	end := b.clock.now()
	r.Sighted(end)
	r.Sighted(end.Add(time.Hour))
	require.Error(t, r.Flush(ended()))
	b.sink.fail(nil)
	b.clock.pass(time.Hour)
	b.flush(r)
	requireGap(end, "it is over, and was not forgotten while the store was away")
	_, before := told()
	b.clock.pass(time.Hour)
	b.flush(r)
	_, after := told()
	require.Equal(t, before, after, "it is told once")
	require.NoError(t, r.Close(t.Context()))
}
