//go:build !linux

package usage

import (
	"os"
	"runtime"
	"time"
)

func syncData(f *os.File) error { return f.Sync() }

// syncDir does nothing where a directory cannot be synced.
func syncDir(f *os.File) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	return f.Sync()
}

// systemBoot does not know one start of the machine from the next: after a process
// was killed, what it may have lost counts as lost.
func systemBoot(time.Time) Boot { return Boot{} }

// systemUptime is the monotonic clock. Where that stops while the machine sleeps, a
// sleep looks like a clock that was set, and leaves a gap.
func systemUptime(now func() time.Time) func() time.Duration {
	start := now()
	return func() time.Duration { return now().Sub(start) }
}

func systemMemory() string { return "" }
