package token_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/token"
)

func TestAGracePeriodCountsFromTheFirstUseWithinWhatCanBeTrue(t *testing.T) {
	r := token.Rotation{PreviousID: "sec_0", Mode: token.RotateOnFirstUse, StartedAt: noon, Grace: time.Hour}
	now := noon.Add(10 * time.Minute)
	for name, c := range map[string]struct{ first, end time.Duration }{
		"as it was seen":                 {5 * time.Minute, 65 * time.Minute},
		"by a clock that is far behind":  {-24 * time.Hour, 60 * time.Minute},
		"by a clock that is far ahead":   {24 * time.Hour, 70 * time.Minute},
		"at the moment of the rotation":  {0, 60 * time.Minute},
		"at the moment at which we look": {10 * time.Minute, 70 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, noon.Add(c.end), r.EndAfter(noon.Add(c.first), now))
		})
	}
}

// What is learnt late only brings the end forward, in whichever order it is learnt.
func TestLateFactsOnlyBringTheEndForward(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := token.Rotation{
			PreviousID: "sec_0", Mode: token.RotateOnFirstUse, StartedAt: noon,
			Grace: time.Duration(rapid.IntRange(0, 1000).Draw(t, "grace")) * time.Second,
		}
		previous := token.SecretRecord{ID: "sec_0", Status: token.Previous}
		earliest := time.Duration(1 << 62)
		for _, step := range rapid.SliceOfN(rapid.IntRange(0, 5000), 1, 20).Draw(t, "uses") {
			first := time.Duration(step) * time.Second
			now := noon.Add(5000 * time.Second)
			if end := r.EndAfter(noon.Add(first), now); r.StartsGrace(&previous, end) {
				previous.ExpiresAt = end
			}
			earliest = min(earliest, first)
			if want := noon.Add(earliest + r.Grace); !previous.ExpiresAt.Equal(want) {
				t.Fatalf("ends at %s, want %s", previous.ExpiresAt, want)
			}
		}
	})
}

func TestOnlyAFirstUseRotationOfTheSecretWaitsForAUse(t *testing.T) {
	previous := token.SecretRecord{ID: "sec_0", Status: token.Previous}
	for _, mode := range append(token.RotationModes(), "") {
		r := token.Rotation{PreviousID: "sec_0", Mode: mode, StartedAt: noon}
		require.Equal(t, mode == token.RotateOnFirstUse, r.StartsGrace(&previous, noon), mode)
	}
	r := token.Rotation{PreviousID: "sec_1", Mode: token.RotateOnFirstUse, StartedAt: noon}
	require.False(t, r.StartsGrace(&previous, noon), "what is stored is of another rotation")
	r.PreviousID = "sec_0"
	previous.Status = token.Current
	require.False(t, r.StartsGrace(&previous, noon), "it was rolled back")
}

func TestARotationThatAnEarlierVersionBeganIsKnownByItsSecrets(t *testing.T) {
	previous := token.SecretRecord{ID: "sec_0", Status: token.Previous, CreatedAt: noon.Add(-time.Hour), ExpiresAt: noon.Add(time.Hour)}
	secrets := []token.SecretRecord{{ID: "sec_1", Status: token.Current, CreatedAt: noon}, previous}
	require.Equal(t, token.Rotation{PreviousID: "sec_0", Mode: token.RotateTimed, StartedAt: noon},
		token.RotationOf(token.Rotation{}, &previous, secrets))
	stored := token.Rotation{PreviousID: "sec_0", Mode: token.RotateOnFirstUse, StartedAt: noon.Add(time.Minute), Grace: time.Hour}
	require.Equal(t, stored, token.RotationOf(stored, &previous, secrets))
	stored.PreviousID = "sec_9"
	require.Equal(t, token.RotateTimed, token.RotationOf(stored, &previous, secrets).Mode)
}
