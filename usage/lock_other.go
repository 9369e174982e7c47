//go:build !linux && !darwin && !freebsd && !netbsd && !openbsd && !dragonfly && !windows

package usage

import (
	"errors"
	"os"
)

// lockFile refuses: two processes that write one journal would destroy it.
func lockFile(*os.File) error { return errors.ErrUnsupported }
