package caddymodule

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	"golang.org/x/term"

	"github.com/sallyport/sallyport/tokenstore/storecopy"
)

// copyBar shows how far a copy is, on stderr: bars in a terminal, a line for each
// table otherwise. One goroutine calls it.
type copyBar struct {
	quiet bool
	out   io.Writer

	// Of a terminal only.
	writer   progress.Writer
	rendered chan struct{}
	tracker  *progress.Tracker

	at storecopy.Step // the last one
}

func (in *invocation) newCopyBar() *copyBar {
	b := &copyBar{quiet: in.quiet, out: in.ErrOrStderr()}
	file, ok := b.out.(*os.File)
	if b.quiet || !ok || !term.IsTerminal(int(file.Fd())) {
		return b
	}
	b.writer = progress.NewWriter()
	b.writer.SetOutputWriter(b.out)
	b.writer.SetUpdateFrequency(100 * time.Millisecond)
	b.writer.SetTrackerPosition(progress.PositionRight)
	b.writer.SetMessageLength(24)
	b.writer.Style().Visibility.ETA = true
	b.rendered = make(chan struct{})
	go func() {
		defer close(b.rendered)
		b.writer.Render()
	}()
	return b
}

// stepName says what is done with a table.
func stepName(s storecopy.Step) string {
	if s.Checking {
		return "compare " + s.Table
	}
	return "copy " + s.Table
}

func (b *copyBar) step(s storecopy.Step) {
	if b.quiet || s.Total == 0 {
		return
	}
	fresh := s.Table != b.at.Table || s.Checking != b.at.Checking
	finished := s.Done >= s.Total && (fresh || b.at.Done < b.at.Total)
	b.at = s
	if b.writer == nil {
		if finished {
			fmt.Fprintf(b.out, "%s: %d rows\n", stepName(s), s.Done)
		}
		return
	}
	if fresh {
		b.tracker = &progress.Tracker{Message: stepName(s), Total: s.Total, AutoStopDisabled: true}
		b.writer.AppendTracker(b.tracker)
	}
	b.tracker.SetValue(s.Done)
	if finished {
		b.tracker.MarkAsDone()
	}
}

func (b *copyBar) note(text string) {
	switch {
	case b.quiet:
	case b.writer != nil:
		b.writer.Log("%s", text)
	default:
		fmt.Fprintln(b.out, text)
	}
}

// close waits until the last state is drawn.
func (b *copyBar) close(done bool) {
	if b.writer == nil {
		return
	}
	if !done && b.tracker != nil && !b.tracker.IsDone() {
		b.tracker.MarkAsErrored()
	}
	// Stop does nothing before the drawing has begun.
	for {
		b.writer.Stop()
		select {
		case <-b.rendered:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}
