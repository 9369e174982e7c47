package cached

import (
	"time"

	"golang.org/x/sys/unix"
)

// kernelSuspended compares the two clocks of Linux that differ in nothing but
// suspension.
func kernelSuspended() (time.Duration, bool) {
	var boot, awake unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake) != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil {
		return 0, false
	}
	return time.Duration(boot.Nano() - awake.Nano()), true
}
