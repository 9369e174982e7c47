package token_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
)

// deletedOn is when an unused token of birth is to be deleted, given gaps.
func deletedOn(t *testing.T, now float64, list ...token.Gap) string {
	t.Helper()
	plan := token.Plan(subject(notice(token.DeleteUnused, 0, 45, 0), gaps(1000, list...)), day(now))
	require.NotEmpty(t, plan)
	last := plan[len(plan)-1]
	require.Equal(t, token.DeleteUnused, last.Kind)
	return dayOf(last.Due)
}

func TestGapsOfManyNodesAreCountedOnce(t *testing.T) {
	for _, c := range []struct {
		name string
		gaps []token.Gap
		want string
	}{
		{"none", nil, "45"},
		{"in any order", []token.Gap{stop(20, 22), stop(10, 11)}, "48"},
		{"the same twice", []token.Gap{stop(10, 12), stop(10, 12)}, "47"},
		{"overlapping", []token.Gap{stop(10, 13), stop(12, 15), stop(15, 16)}, "51"},
		{"one within another", []token.Gap{stop(10, 20), stop(12, 15)}, "55"},
		{"before the token", []token.Gap{stop(-20, -10)}, "45"},
		{"reaching into its life", []token.Gap{stop(-20, 1)}, "46"},
		{"from its very end on", []token.Gap{stop(45, 60)}, "45"},
		{"one that brings the next into the window", []token.Gap{stop(44, 50), stop(50.5, 52)}, "52.5"},
		{"the wrong way round", []token.Gap{{From: day(12), To: day(10)}}, "47"},
		{"that goes on, and another after it", []token.Gap{{From: day(10)}, stop(12, 13)}, "65"},
		{"that goes on, after another", []token.Gap{stop(5, 11), {From: day(10)}}, "70"},
		{"that will come", []token.Gap{{From: day(40)}}, "45"},
		{"of all time", []token.Gap{{To: day(10)}}, "55"},
	} {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.want, deletedOn(t, 30, c.gaps...)) })
	}
}

func TestTheLatestBlindTimeCountsHoweverItIsWritten(t *testing.T) {
	for _, c := range []struct {
		name string
		gaps []token.Gap
		want string
	}{
		{"in any order", []token.Gap{blind(20, 22), blind(10, 11)}, "67"},
		{"a longer one before", []token.Gap{blind(9, 25), blind(10, 11)}, "70"},
		{"the wrong way round", []token.Gap{{From: day(12), To: day(10), Blind: true}}, "57"},
		{"before the token", []token.Gap{blind(-20, -10)}, "45"},
		{"with a stop in it", []token.Gap{blind(10, 20), stop(12, 15)}, "65"},
		{"with a stop at its end", []token.Gap{blind(10, 20), stop(15, 25)}, "70"},
		{"no time at all", []token.Gap{blind(10, 10)}, "55"},
	} {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.want, deletedOn(t, 30, c.gaps...)) })
	}
	far := time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)
	s := subject(gaps(1000, token.Gap{From: day(1), To: far, Blind: true}, token.Gap{From: day(1), To: far}))
	for _, a := range token.Plan(s, day(500)) {
		require.False(t, a.Ready(), "what ends in no year that can be written ends late, and not early")
	}
}

func TestCoverageKeepsItsGapsToItself(t *testing.T) {
	list := []token.Gap{stop(20, 22), blind(10, 11)}
	c := token.NewCoverage(birth, day(9), list)
	list[0] = blind(500, 600)
	want := []token.Gap{blind(10, 11), stop(20, 22)}
	got := c.Gaps()
	require.Empty(t, cmp.Diff(want, got))
	got[0] = blind(500, 600)
	require.Empty(t, cmp.Diff(want, c.Gaps()))
	var none *token.Coverage
	require.Empty(t, none.Gaps())
}
