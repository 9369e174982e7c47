package test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whoever copies an example of docs/presets.md has a configuration that starts, with
// the preset that the heading names.
func TestTheExamplesOfThePresetsAreValid(t *testing.T) {
	page, err := os.ReadFile("../docs/presets.md")
	require.NoError(t, err)
	examples := regexp.MustCompile("(?s)\n## `([a-z]+)`[^\n]*\n.*?```caddyfile\n(.*?)```\n").FindAllStringSubmatch(string(page), -1)
	var presets []string
	for _, example := range examples {
		presets = append(presets, example[1])
		t.Run(example[1], func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			file := filepath.Join(home, "Caddyfile")
			require.NoError(t, os.WriteFile(file, []byte(example[2]), 0o600))
			sallyport := func(command string) []byte {
				cmd := exec.Command(binary, command, "--config", file, "--adapter", "caddyfile")
				cmd.Dir = home
				cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home, "SMTP_PASSWORD=example")
				var said bytes.Buffer
				cmd.Stderr = &said
				out, err := cmd.Output()
				require.NoError(t, err, said.String())
				return out
			}
			var adapted struct {
				Apps struct {
					Sallyport struct {
						Policies map[string]struct{ Preset string }
					}
				}
			}
			require.NoError(t, json.Unmarshal(sallyport("adapt"), &adapted))
			require.Equal(t, example[1], adapted.Apps.Sallyport.Policies["default"].Preset)
			sallyport("validate")
		})
	}
	require.Equal(t, []string{"taxjar", "own", "staffbase", "mercury", "rapyd"}, presets)
}
