package caddymodule_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

var updateAdapted = flag.Bool("update-adapted", false, "write what the Caddyfiles in testdata/adapt become")

const separator = "----------\n"

// Each file holds a Caddyfile and what becomes of the global option: the app's
// JSON, or a part of the error.
func TestGlobalOptionsBecomeTheAppsConfiguration(t *testing.T) {
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			content, err := os.ReadFile(file)
			require.NoError(t, err)
			caddyfile, want, found := strings.Cut(string(content), separator)
			require.True(t, found, "a line of dashes parts the Caddyfile from what it becomes")
			got := adaptApp(t, caddyfile)
			if *updateAdapted {
				require.NoError(t, os.WriteFile(file, []byte(caddyfile+separator+got), 0o644))
				return
			}
			require.Empty(t, cmp.Diff(want, got))
		})
	}
}

func adaptApp(t *testing.T, caddyfile string) string {
	t.Helper()
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err.Error() + "\n"
	}
	var config struct {
		Apps map[string]json.RawMessage `json:"apps"`
	}
	require.NoError(t, json.Unmarshal(adapted, &config))
	var indented bytes.Buffer
	if app := config.Apps["sallyport"]; app != nil {
		require.NoError(t, json.Indent(&indented, app, "", "\t"))
	}
	return indented.String() + "\n"
}

func TestAMasterKeyInTheCaddyfileIsRefusedAndNotRepeated(t *testing.T) {
	const key = "mykey:cGFzc3dvcmRwYXNzd29yZHBhc3N3b3JkcGFzc3c="
	for _, line := range []string{
		"master_key " + key,
		"master_key " + key + " more",
		"master_key more " + key,
		"master_key {env.KEY}" + key,
		`master_key "` + key + `"`,
		"master_key {\n" + key + "\n}",
	} {
		message := adaptApp(t, "{\nsallyport {\n"+line+"\n}\n}\n")
		require.Contains(t, message, "master_key", line)
		require.Contains(t, message, "{file./path/to/keys} or {env.NAME}", line)
		require.Contains(t, message, "Caddyfile:3", line)
		require.NotContains(t, message, "cGFzc3dvcmR", line)
	}
}

// The list of drivers depends on the build, so that no golden file holds it.
func TestAnUnknownStoreDriverIsAnsweredWithThoseThatThereAre(t *testing.T) {
	message := adaptApp(t, "{\nsallyport {\nstore oracle somewhere\n}\n}\n")
	require.Contains(t, message, `unknown store driver "oracle": this build has [`)
	require.Contains(t, message, `"sqlite"`)
	require.Contains(t, message, "Caddyfile:3")
}
