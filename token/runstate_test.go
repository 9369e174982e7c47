package token_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
)

func TestHowARunIsDoing(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	run := func(quiet time.Duration, change ...func(*token.Run)) token.Run {
		contact := now.Add(-quiet)
		r := token.Run{ID: "run_a", StartedAt: now.Add(-24 * time.Hour), Covered: contact, Contact: contact, StaleFor: 10 * time.Minute}
		for _, f := range change {
			f(&r)
		}
		return r
	}
	stopped := func(r *token.Run) { r.StoppedAt = r.Contact }
	waived := func(r *token.Run) { r.WaivedAt = now }
	for name, c := range map[string]struct {
		run  token.Run
		want token.RunState
	}{
		"heard of just now":                     {run(0), token.RunServing},
		"just not yet quiet":                    {run(time.Minute - 1), token.RunServing},
		"quiet":                                 {run(time.Minute), token.RunSilent},
		"quiet for nearly as long as it serves": {run(11*time.Minute - 1), token.RunSilent},
		"quiet for longer than it serves":       {run(11 * time.Minute), token.RunLost},
		"stopped":                               {run(time.Hour, stopped), token.RunStopped},
		"stopped just now":                      {run(0, stopped), token.RunStopped},
		"waived":                                {run(time.Hour, waived), token.RunWaived},
		"waived, and it came back and stopped":  {run(time.Hour, waived, stopped), token.RunStopped},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, c.run.State(now)) })
	}
}
