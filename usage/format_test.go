package usage_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/usage"
)

var (
	someFact = token.Fact{
		TokenID: "tok_1", SecretID: "sec_1", Scope: token.Scope{Name: "payments:write", Nature: token.Write},
		Bucket: noon, Until: noon.Add(time.Hour), First: noon.Add(time.Nanosecond),
	}
	someGap = token.Gap{From: noon, To: noon.Add(time.Hour), Blind: true, Reason: "power was lost"}
)

func TestASegmentIsReadAsItWasWritten(t *testing.T) {
	facts := []token.Fact{someFact, {TokenID: "tok_2", First: time.Unix(0, -5).UTC()}}
	gaps := []token.Gap{someGap, {}}
	b := usage.FullSegment(facts, gaps)
	length, gotFacts, gotGaps, err := usage.Measure(append(b, "what comes after the end"...))
	require.NoError(t, err)
	require.EqualValues(t, len(b), length)
	require.Empty(t, cmp.Diff(facts, gotFacts))
	require.Empty(t, cmp.Diff(gaps, gotGaps))
}

func FuzzSegment(f *testing.F) {
	whole := usage.FullSegment([]token.Fact{someFact}, []token.Gap{someGap})
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add(whole[:10])
	f.Add([]byte{})
	f.Add([]byte("sallyact\x00\x01\xff\xff\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		length, facts, gaps, err := usage.Measure(b)
		if err != nil {
			return
		}
		require.LessOrEqual(t, length, int64(len(b)))
		// What is good stays good when the rest is gone.
		again, facts2, gaps2, err := usage.Measure(b[:length])
		require.NoError(t, err)
		require.Equal(t, length, again)
		require.Empty(t, cmp.Diff(facts, facts2))
		require.Empty(t, cmp.Diff(gaps, gaps2))
	})
}

// Records behind checksums that fit, so that the fuzzer gets past them.
func FuzzRecord(f *testing.F) {
	f.Add("tok_1", "sec_1", "read", uint8(1), int64(1), int64(2), int64(3), "reason")
	f.Add("", "", "", uint8(255), int64(-1), int64(0), int64(1<<62), "")
	f.Fuzz(func(t *testing.T, id, secret, scope string, nature uint8, bucket, until, first int64, reason string) {
		if len(id)+len(secret)+len(scope)+len(reason) > 1000 {
			return
		}
		at := func(n int64) time.Time {
			if n == 0 {
				return time.Time{}
			}
			return time.Unix(0, n).UTC()
		}
		facts := []token.Fact{{
			TokenID: token.ID(id), SecretID: token.ID(secret), Scope: token.Scope{Name: scope, Nature: token.Nature(nature)},
			Bucket: at(bucket), Until: at(until), First: at(first),
		}}
		gaps := []token.Gap{{From: at(bucket), To: at(until), Reason: reason}}
		b := usage.FullSegment(facts, gaps)
		length, gotFacts, gotGaps, err := usage.Measure(b)
		require.NoError(t, err)
		require.EqualValues(t, len(b), length)
		require.Empty(t, cmp.Diff(facts, gotFacts))
		require.Empty(t, cmp.Diff(gaps, gotGaps))
	})
}

func FuzzMark(f *testing.F) {
	whole := usage.FullMark()
	f.Add(whole)
	f.Add(append(make([]byte, 512), whole...))
	f.Add(whole[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		if run, ok := usage.DecodeMark(b); !ok {
			require.Empty(t, run)
		}
	})
}
