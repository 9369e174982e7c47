package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var few = []string{"-profile", "calm", "-tokens", "5", "-days", "3", "-procs", "1"}

func simulated(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	err := run(t.Context(), append(append(few[:len(few):len(few)], "-dir", t.TempDir()), args...), &out, func() time.Time {
		at = at.Add(time.Second)
		return at
	})
	return out.String(), err
}

func TestARunGoesOnWhereAnotherEndedAndATornLineIsRunAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	_, err := simulated(t, "-ledger", path, "-from", "7", "-seeds", "2")
	require.NoError(t, err)
	first, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Len(t, bytes.Split(bytes.TrimSpace(first), []byte("\n")), 2)

	// Killed in the middle of a line.
	require.NoError(t, os.WriteFile(path, first[:len(first)-5], 0o600))
	out, err := simulated(t, "-ledger", path, "-from", "7", "-seeds", "3")
	require.NoError(t, err)
	require.NotContains(t, out, "seed 7,")
	require.Contains(t, out, "seed 8,")
	require.Contains(t, out, "seed 9,")
	require.Contains(t, out, "all: 3 fleets")

	out, err = simulated(t, "-ledger", path, "-from", "7", "-seeds", "3")
	require.NoError(t, err)
	require.NotContains(t, out, "seed ")
}

func TestALedgerOfOtherFleetsIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	_, err := simulated(t, "-ledger", path, "-seeds", "1")
	require.NoError(t, err)
	_, err = simulated(t, "-ledger", path, "-seeds", "2", "-tokens", "6")
	require.ErrorContains(t, err, "name another file")

	require.NoError(t, os.WriteFile(path, []byte("{\n{}\n"), 0o600))
	_, err = simulated(t, "-ledger", path, "-seeds", "1")
	require.ErrorContains(t, err, "line 1")
}

func TestASeedReproducesARun(t *testing.T) {
	one := filepath.Join(t.TempDir(), "one")
	_, err := simulated(t, "-ledger", one, "-seeds", "1", "-drill", "-days", "30")
	require.NoError(t, err)
	two := filepath.Join(t.TempDir(), "two")
	_, err = simulated(t, "-ledger", two, "-seeds", "1", "-drill", "-days", "30")
	require.NoError(t, err)
	a, err := os.ReadFile(one)
	require.NoError(t, err)
	b, err := os.ReadFile(two)
	require.NoError(t, err)
	require.Equal(t, string(a), string(b))
}

func TestBrokenRulesEndTheProgramWithAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	require.NoError(t, os.WriteFile(path, []byte(`{"seed":1,"profile":"calm","tokens":5,"days":3,"violations":["seed 1, day 2: I1: x"]}`+"\n"), 0o600))
	out, err := simulated(t, "-ledger", path, "-seeds", "1")
	require.ErrorIs(t, err, errBroken)
	require.Contains(t, out, "I1: x")
}
