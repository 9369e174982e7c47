package caddymodule_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The commands, told as stories that drive the program as it is shipped.
func TestStories(t *testing.T) {
	program := filepath.Dir(sallyport(t))
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			for _, assignment := range homeless(e.WorkDir) {
				name, value, _ := strings.Cut(assignment, "=")
				e.Setenv(name, value)
			}
			e.Setenv("PATH", program+string(filepath.ListSeparator)+os.Getenv("PATH"))
			e.Setenv("ADMIN", freeAddress(t))
			e.Setenv("GATE", freeAddress(t))
			e.Setenv("UPSTREAM", freeAddress(t))
			e.Setenv("USER", "teller")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"keep":    keepOutput,
			"awaits":  awaitStatus,
			"lacks":   lacks,
			"expands": expandFile,
		},
	})
}

// scriptT has a script fail where a test would.
type scriptT struct{ *testscript.TestScript }

func (scriptT) Helper()                             {}
func (scriptT) Context() context.Context            { return context.Background() }
func (t scriptT) Errorf(format string, args ...any) { t.Logf(format, args...) }
func (t scriptT) FailNow()                          { t.Fatalf("see above") }

// keepOutput sets a variable to what the last command printed.
func keepOutput(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: keep NAME")
	}
	value := strings.TrimSpace(ts.ReadFile("stdout"))
	if value == "" || strings.ContainsAny(value, "\n ") {
		ts.Fatalf("keep: the output is not one word")
	}
	ts.Setenv(args[0], value)
}

// awaitStatus waits until a request with a token, if one is named, gets a status.
func awaitStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: awaits STATUS URL [SECRET]")
	}
	secret := ""
	if len(args) == 3 {
		secret = args[2]
	}
	t := scriptT{ts}
	eventually(t, strings.Join(args[:2], " "), func() bool {
		status, _ := fetch(t, "GET", args[1], secret, "")
		return strings.TrimSpace(args[0]) == statusText(status)
	})
}

// lacks fails when a text stands in any of the files.
func lacks(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: lacks TEXT FILE...")
	}
	for _, file := range args[1:] {
		if strings.Contains(ts.ReadFile(file), args[0]) {
			ts.Fatalf("%s holds the text", file)
		}
	}
}

// expandFile replaces variables in a file.
func expandFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: expands FILE")
	}
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}
