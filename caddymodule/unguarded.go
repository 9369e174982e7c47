package caddymodule

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport/sallyport/usage"
)

// A gateway that runs without any gate lets requests pass that nobody records: what
// its tokens did meanwhile is not known, and a token that is taken for unused then
// may be somebody's only one. So that time is blind. A gateway that never had a gate
// has never been on the way of any request (it may only manage tokens), and sees
// nothing that could be missed.

// gatesFile keeps, beside the journal, that a gateway had a gate, and since when it
// has none: a process that is killed without a gate does not forget it.
const gatesFile = "gates"

const (
	gatesThere   = "guarded"
	gatesMissing = "unguarded since "
)

// noGate is the alarm of a gateway that had a gate and has none.
const noGate usage.AlarmKind = "no_gate"

// readGates tells what is kept of a gateway's gates: whether it ever had one, and
// since when it has none; zero: it has.
func readGates(dir string) (had bool, since time.Time, err error) {
	path := filepath.Join(dir, gatesFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, time.Time{}, nil
	}
	if err != nil {
		return false, time.Time{}, fmt.Errorf("read whether this gateway had a gate: %w", err)
	}
	text := strings.TrimSpace(string(raw))
	if text == gatesThere {
		return true, time.Time{}, nil
	}
	since, err = time.Parse(time.RFC3339Nano, strings.TrimPrefix(text, gatesMissing))
	if err != nil || !strings.HasPrefix(text, gatesMissing) {
		return false, time.Time{}, fmt.Errorf("the file %s does not say since when this gateway has no gate: write %q into it if it always had one", path, gatesThere)
	}
	return true, since, nil
}

// writeGates replaces what is kept, whole or not at all.
func writeGates(dir string, since time.Time) error {
	text := gatesThere
	if !since.IsZero() {
		text = gatesMissing + since.UTC().Format(time.RFC3339Nano)
	}
	path := filepath.Join(dir, gatesFile)
	err := writeSynced(path+".new", text+"\n")
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("keep whether this gateway has a gate: %w", err)
	}
	return nil
}

// writeSynced writes a file that is on the disk before it takes another's place: after
// a power loss an empty one would stop the start.
func writeSynced(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// guard notes that a configuration with or without gates starts. since is when it
// was made: before that none of its requests can have passed. While a reload goes on
// two of them may run, and it takes one without a gate for requests to pass unseen.
func (a *activity) guard(config any, gated bool, since time.Time) error {
	a.gates.Lock()
	defer a.gates.Unlock()
	had, open, err := readGates(a.dir)
	if err != nil {
		return err
	}
	if !gated {
		if !had {
			return nil
		}
		if open.IsZero() || since.Before(open) {
			open = since
		}
		if err := writeGates(a.dir, open); err != nil {
			return err
		}
		a.unguarded[config] = true
		a.recorder.Blind(open, "no gate")
		a.alarm(usage.Alarm{Kind: noGate, Since: open})
		return nil
	}
	if len(a.unguarded) > 0 {
		return nil // until it has ended
	}
	if had && open.IsZero() {
		return nil
	}
	if had { // another process ran without
		a.recorder.Blind(open, "no gate")
	}
	return a.guarded(since)
}

// guarded ends the time without a gate. It is called with gates held.
func (a *activity) guarded(at time.Time) error {
	a.recorder.Sighted(at)
	a.mu.Lock()
	delete(a.alarms, noGate)
	a.mu.Unlock()
	return writeGates(a.dir, time.Time{})
}

// unguard notes that a configuration has ended, and takes no new requests.
func (a *activity) unguard(config any, now time.Time) error {
	a.gates.Lock()
	defer a.gates.Unlock()
	if !a.unguarded[config] {
		return nil
	}
	delete(a.unguarded, config)
	if len(a.unguarded) > 0 {
		return nil
	}
	return a.guarded(now)
}
