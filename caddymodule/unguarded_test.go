package caddymodule_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
)

// gateless is the configuration without the gate.
func (g *inProcess) gateless() string {
	g.t.Helper()
	text := g.caddyfile("")
	gate := "\tsallyport {\n\t\t" + g.gateLines + "\n\t}\n\t" + g.behind + "\n}"
	require.Contains(g.t, text, gate)
	return strings.Replace(text, gate, "\t"+g.behind+"\n}", 1)
}

func (g *inProcess) activity() api.Check {
	g.t.Helper()
	h, err := g.client.Health(g.t.Context())
	require.NoError(g.t, err)
	for _, c := range h.Checks {
		if c.Name == "activity" {
			return c
		}
	}
	require.Fail(g.t, "there is no check of that name")
	return api.Check{}
}

func (g *inProcess) unseen() (list []api.Gap) {
	g.t.Helper()
	c, err := g.client.Coverage(g.t.Context())
	require.NoError(g.t, err)
	for _, gap := range c.Gaps {
		if gap.Reason == "no gate" {
			require.True(g.t, gap.Blind)
			list = append(list, gap)
		}
	}
	return list
}

// I1: a gate that is taken out of the configuration leaves blind time, and not idle
// time: what was used meanwhile is not known.
func TestTimeWithoutAGateIsBlind(t *testing.T) {
	g := newInProcess(t)
	file := filepath.Join(g.dir, "sallyport.db.journal", "gates")
	load := func(text string) {
		t.Helper()
		require.NoError(t, caddy.Load(g.adapt(text), true))
	}
	kept := func() string {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		return strings.TrimSpace(string(raw))
	}
	load(g.gateless())
	require.Equal(t, api.Ready, g.activity().Status, "nothing ever passed here")
	require.NoFileExists(t, file)

	load(g.caddyfile(""))
	require.Equal(t, api.Ready, g.activity().Status)
	require.Equal(t, "guarded", kept())

	before := time.Now()
	load(g.gateless())
	require.Equal(t, api.Degraded, g.activity().Status)
	require.Contains(t, g.activity().Detail, "configuration has none")
	eventually(t, "it is told of", func() bool { return len(g.unseen()) == 1 })
	from := g.unseen()[0].From
	require.False(t, from.Before(before.Truncate(time.Microsecond)))
	require.Equal(t, "unguarded since", kept()[:15])
	load(g.gateless() + "\n# again\n")
	require.Equal(t, api.Degraded, g.activity().Status, "another one without a gate")

	back := time.Now()
	load(g.caddyfile(""))
	eventually(t, "the configuration without a gate has ended", func() bool { return g.activity().Status == api.Ready })
	require.Equal(t, "guarded", kept())
	eventually(t, "all of it is told of", func() bool {
		list := g.unseen()
		require.Len(t, list, 1)
		return !list[0].To.Before(back.Truncate(time.Microsecond))
	})
	require.Equal(t, from, g.unseen()[0].From)

	// A process that was killed without a gate: the next one has one.
	require.NoError(t, caddy.Stop())
	killed := time.Now().Add(-time.Hour).UTC().Truncate(time.Microsecond)
	require.NoError(t, os.WriteFile(file, []byte("unguarded since "+killed.Format(time.RFC3339Nano)+"\n"), 0o600))
	load(g.caddyfile(""))
	require.Equal(t, "guarded", kept())
	eventually(t, "what the one before let pass is blind", func() bool {
		for _, gap := range g.unseen() {
			if gap.From.Equal(killed) {
				return true
			}
		}
		return false
	})

	// What cannot be read stops the start, and says what to do.
	require.NoError(t, caddy.Stop())
	require.NoError(t, os.WriteFile(file, []byte("perhaps\n"), 0o600))
	err := caddy.Load(g.adapt(g.caddyfile("")), true)
	require.ErrorContains(t, err, file)
	require.ErrorContains(t, err, `write "guarded" into it`)
}

// A start can fail after it has written what it declares: the rules stay those of the
// configuration that runs.
func TestAStartThatFailsAfterItDeclaredLeavesTheRulesAsTheyWere(t *testing.T) {
	g := newInProcess(t)
	require.NoError(t, g.load("policy default {\n max_lifetime 30d\n}"))
	lifetime := *g.policy("default").MaxLifetimeSeconds
	file := filepath.Join(g.dir, "sallyport.db.journal", "gates")
	require.NoError(t, os.WriteFile(file, []byte("perhaps\n"), 0o600))
	require.ErrorContains(t, g.load("policy default {\n max_lifetime 1s\n}"), file)
	require.Equal(t, lifetime, *g.policy("default").MaxLifetimeSeconds)
}
