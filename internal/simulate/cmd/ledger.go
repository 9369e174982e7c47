package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/sallyport/sallyport/internal/simulate"
)

// fleet is what one fleet came to: a line of the ledger.
type fleet struct {
	Seed       uint64           `json:"seed"`
	Profile    string           `json:"profile"`
	Tokens     int              `json:"tokens"`
	Days       int              `json:"days"`
	Seconds    float64          `json:"seconds"`
	Figures    simulate.Figures `json:"figures"`
	Violations []string         `json:"violations,omitempty"`
}

// ledger holds the fleets that are done, one a line, so that a run goes on where
// another ended.
type ledger struct {
	file *os.File // nil: nothing is kept
	done map[uint64]fleet
}

// openLedger reads what there is. A last line that was torn is taken off; any other
// that cannot be read is an error, since it says something about the ones after it.
func openLedger(path string) (*ledger, error) {
	l := &ledger{done: map[uint64]fleet{}}
	if path == "" {
		return l, nil
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	l.file = file
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	whole := bytes.LastIndexByte(text, '\n') + 1
	if whole < len(text) {
		if err := file.Truncate(int64(whole)); err != nil {
			return nil, errors.Join(err, file.Close())
		}
	}
	number := 0
	for line := range bytes.Lines(text[:whole]) {
		number++
		var f fleet
		if err := json.Unmarshal(line, &f); err != nil {
			return nil, errors.Join(fmt.Errorf("%s, line %d: %w: remove the line, or name another file", path, number, err), file.Close())
		}
		l.done[f.Seed] = f
	}
	return l, nil
}

// add notes a fleet that is done.
func (l *ledger) add(f fleet) error {
	l.done[f.Seed] = f
	if l.file == nil {
		return nil
	}
	line, err := json.Marshal(f)
	if err != nil {
		return err
	}
	_, err = l.file.Write(append(line, '\n'))
	return err
}

func (l *ledger) close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

// sum is what many fleets came to.
type sum struct {
	fleets     int
	seconds    float64
	figures    simulate.Figures
	violations []string
}

// total adds up the fleets of one profile, or of all for the empty name.
func (l *ledger) total(profile string) (t sum) {
	for _, f := range l.done {
		if profile != "" && f.Profile != profile {
			continue
		}
		t.fleets++
		t.seconds += f.Seconds
		t.figures.Add(f.Figures)
		t.violations = append(t.violations, f.Violations...)
	}
	return t
}
