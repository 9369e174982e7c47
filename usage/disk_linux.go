package usage

import (
	"errors"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// syncData leaves out what a reader of the file does not need, such as its times.
// The file may be closed meanwhile: its descriptor is held for the call.
func syncData(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var syncErr error
	err = conn.Control(func(fd uintptr) {
		for {
			if syncErr = unix.Fdatasync(int(fd)); !errors.Is(syncErr, unix.EINTR) {
				return
			}
		}
	})
	return errors.Join(err, syncErr)
}

func syncDir(f *os.File) error { return f.Sync() }

// systemBoot reads the kernel's name for this start of the machine.
func systemBoot(now time.Time) Boot {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Boot{}
	}
	b := Boot{ID: strings.TrimSpace(string(id))}
	var up unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) == nil {
		b.At = now.Add(-time.Duration(up.Nano()))
	}
	return b
}

// systemUptime counts suspension, so that a machine that slept does not look like
// one whose clock was set.
func systemUptime(func() time.Time) func() time.Duration {
	return func() time.Duration {
		var up unix.Timespec
		if unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) != nil {
			return 0
		}
		return time.Duration(up.Nano())
	}
}

// systemMemory is a file system in memory. The type is checked: on a disk it would
// be of no use.
func systemMemory() string {
	const dir = "/dev/shm"
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) != nil || fs.Type != unix.TMPFS_MAGIC {
		return ""
	}
	return dir
}
