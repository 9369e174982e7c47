package cached_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore/cached"
)

// machine is a computer whose clocks a test sets.
type machine struct {
	wall, monotonic, suspended time.Duration
	silent                     bool // it does not say how long it was suspended
	asked                      int
}

func (m *machine) clocks() (wall, monotonic time.Duration) { return m.wall, m.monotonic }

func (m *machine) kernel() (time.Duration, bool) {
	m.asked++
	return m.suspended, !m.silent
}

func (m *machine) run(d time.Duration) { m.wall += d; m.monotonic += d }

func (m *machine) sleep(d time.Duration) { m.wall += d; m.suspended += d }

// F28.
func TestUptimeCountsSuspension(t *testing.T) {
	for name, silent := range map[string]bool{"which the kernel tells": false, "which only the wall clock shows": true} {
		t.Run(name, func(t *testing.T) {
			m := &machine{suspended: 7 * time.Hour, silent: silent} // before the process began
			read := cached.BootClock(m.clocks, m.kernel)
			var want time.Duration
			for range 10 {
				m.run(time.Minute)
				want += time.Minute
				require.Equal(t, want, read())
				m.sleep(10 * time.Minute)
				want += 10 * time.Minute
				require.Equal(t, want, read())
			}
		})
	}
}

func TestUptimeIsNotTheWallClock(t *testing.T) {
	m := &machine{}
	read := cached.BootClock(m.clocks, m.kernel)
	m.run(time.Minute)
	m.wall += time.Hour // set by hand
	require.Equal(t, time.Minute, read())
	m.wall -= 10 * time.Hour
	require.Equal(t, time.Minute, read())
	m.sleep(time.Hour)
	require.Equal(t, time.Minute+time.Hour, read())

	m = &machine{silent: true}
	read = cached.BootClock(m.clocks, m.kernel)
	m.run(time.Minute)
	m.wall -= time.Hour
	require.Equal(t, time.Minute, read(), "it never goes back")
	m.sleep(time.Hour)
	require.Equal(t, time.Minute+time.Hour, read())
}

func TestUptimeAsksTheKernelOnlyWhenClocksDrift(t *testing.T) {
	m := &machine{}
	read := cached.BootClock(m.clocks, m.kernel)
	for range 1000 {
		m.run(time.Second)
		m.wall += time.Millisecond / 10 // a clock that is being corrected
		read()
	}
	require.LessOrEqual(t, m.asked, 3)
}

func TestTheSystemsUptimeGoesOn(t *testing.T) {
	read := cached.SystemUptime()
	last := read()
	for range 1000 {
		now := read()
		require.GreaterOrEqual(t, now, last)
		last = now
	}
	_, ok := cached.KernelSuspended()
	require.Equal(t, runtime.GOOS == "linux", ok)
}
